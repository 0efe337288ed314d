//! The order of names that people expect: 2 before 10.

use std::cmp::Ordering;
use std::path::Path;

/// Compares two paths by the bytes of their last names, except that a run of digits counts as the number it writes.
///
/// Numbers of any length are compared. Names that only differ in leading zeros (`7`, `07`) are put in the order of
/// their bytes, so that the order of different names is never left open.
pub(super) fn by_name(a: &Path, b: &Path) -> Ordering {
    let name = |path: &Path| path.file_name().unwrap_or_default().as_encoded_bytes().to_vec();
    let (a, b) = (name(a), name(b));
    compare(&a, &b).then_with(|| a.cmp(&b))
}

fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        let (number_a, number_b) = (number(a), number(b));
        let order = if number_a.is_empty() || number_b.is_empty() {
            let order = a.first().cmp(&b.first());
            if a.is_empty() || b.is_empty() {
                return order;
            }
            (a, b) = (&a[1..], &b[1..]);
            order
        } else {
            (a, b) = (&a[number_a.len()..], &b[number_b.len()..]);
            let (digits_a, digits_b) = (without_zeros(number_a), without_zeros(number_b));
            digits_a.len().cmp(&digits_b.len()).then_with(|| digits_a.cmp(digits_b))
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// The digits that `name` begins with.
fn number(name: &[u8]) -> &[u8] {
    &name[..name.iter().take_while(|byte| byte.is_ascii_digit()).count()]
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    &digits[digits.iter().take_while(|&&digit| digit == b'0').count()..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_in_names_are_compared_as_numbers_and_the_rest_as_bytes() {
        let sorted = [
            "",
            "0.png",
            "1.png",
            "2.png",
            "09.png",
            "9.png",
            "10.png",
            "18446744073709551616.png",
            "B",
            "a",
            "a1b2",
            "a1b10",
            "a01c",
            "a2",
            "b",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(by_name(Path::new(a), Path::new(b)), i.cmp(&j), "{a:?} and {b:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn order_is_total(a in "[0-2a]{0,5}", b in "[0-2a]{0,5}", c in "[0-2a]{0,5}") {
            let by_name = |a: &String, b: &String| by_name(Path::new(a), Path::new(b));
            prop_assert_eq!(by_name(&a, &b), by_name(&b, &a).reverse());
            prop_assert_eq!(by_name(&a, &b).is_eq(), a == b);
            if by_name(&a, &b).is_le() && by_name(&b, &c).is_le() {
                prop_assert!(by_name(&a, &c).is_le());
            }
        }
    }
}
