//! + − × ÷ √ and fused multiply-add, where a wrong one shows.
//!
//! # Hard cases of fused multiply-add
//!
//! a·b + c, rounded once. Where the processor has no instruction for it, a function has to serve, and these are the ways to
//! be wrong that such functions are known for:
//!
//! - In f32, by way of f64: a·b + c is rounded to 53 bits and then to 24. A product of 2⁴⁶ + 1 units, put half an ulp
//!   under c, is just above a tie; in f64 the 1 is lost, and the tie goes to even. With 2⁴⁶ − 1 it is just below.
//! - In f64, by splitting numbers in halves (Dekker 1971): the split of a large number overflows, the low half of a small
//!   product underflows, and there too are products of 2¹⁰² + 1 and 2¹⁰⁵ − 1 units.
//! - A product beyond the largest number that c brings back.
//! - c = −a·b, where the result is the product's rounding error alone.

use super::Chain;
use crate::Result;
use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::{Native, Real};

pub(super) fn links(chain: &mut Chain) -> Result<()> {
    fused_links::<f32>(chain, F32);
    fused_links::<f64>(chain, F64);
    let patterns: Vec<u64> = words(3).take(4096).collect();
    operator_links(chain, &patterns.iter().map(|&bits| f32::from_bits(bits as u32)).collect::<Vec<_>>());
    operator_links(chain, &patterns.iter().map(|&bits| f64::from_bits(bits)).collect::<Vec<_>>());
    let subnormal = |bits: u64| f32::from_bits(bits as u32 & 0x80ff_ffff);
    operator_links_named(chain, "subnormals", &patterns.iter().map(|&bits| subnormal(bits)).collect::<Vec<_>>());
    let wide: Vec<f64> =
        patterns.iter().map(|bits| f64::from_bits(bits & 0xc7ff_ffff_ffff_ffff | 0x3000 << 48)).collect();
    chain.numbers("arithmetic.f64_to_f32", &wide.iter().map(|&x| x as f32).collect::<Vec<_>>());
    let integers: Vec<f64> = patterns.iter().map(|&bits| (bits >> (bits & 63)) as f64).collect();
    let ties: Vec<f64> = patterns.iter().map(|bits| ((bits >> 40) as f64 / 2.0).round_ties_even()).collect();
    chain.numbers("arithmetic.integers", &[integers, ties].concat());
    Ok(())
}

/// What tells the hard cases of one precision from those of the other.
#[derive(Clone, Copy)]
struct Format {
    /// Bits of a significand.
    precision: u32,
    /// The exponent of the smallest number, and of the first power of two that is too large.
    exponents: (i32, i32),
    /// (m, n, k) with m·n = 2ᵏ + 1, then with 2ᵏ − 1.
    just_above: (u64, u64, i32),
    just_below: (u64, u64, i32),
}

const F32: Format = Format {
    precision: 24,
    exponents: (-149, 128),
    just_above: (8_384_513, 8_392_705, 46),
    just_below: (8_388_607, 8_388_609, 46),
};
const F64: Format = Format {
    precision: 53,
    exponents: (-1074, 1024),
    just_above: (2_251_799_746_576_385, 2_251_799_880_794_113, 102),
    just_below: (6_093_374_271_049_919, 6_657_201_314_554_049, 105),
};

fn fused_links<F: Real>(chain: &mut Chain, format: Format) {
    let cases: Vec<[F; 3]> = cases(format).into_iter().map(|case| case.map(F::from_f64)).collect();
    let mut results = vec![F::zero(); 2 * cases.len()];
    let (by_path, elsewhere) = results.split_at_mut(cases.len());
    fused(&cases, by_path);
    elsewhere.iter_mut().zip(&cases).for_each(|(y, &[a, b, c])| *y = a.fma::<Native>(b, c));
    chain.numbers(format!("arithmetic.fma_{}", F::NAME), &results);
}

every_instruction_set! {
    fn fused<F>(cases: &[[F; 3]], results: &mut [F]) {
        for (y, &[a, b, c]) in results.iter_mut().zip(cases) {
            *y = a.fma::<P>(b, c);
        }
    }
}

/// a, b, c, each a number of the format.
fn cases(format: Format) -> Vec<[f64; 3]> {
    let mut cases = edges(format);
    for tie in [format.just_above, format.just_below] {
        cases.extend(words(1).take(256).map(|word| near_tie(format, tie, word)));
    }
    let draws: Vec<u64> = words(2).take(4 * 2048).collect();
    cases.extend(draws.chunks_exact(4).map(|draw| anywhere(format, draw)));
    cases
}

/// m·n = 2ᵏ ± 1 units, half an ulp of a c drawn from `word`: even or odd, of the same or of the other sign.
fn near_tie(format: Format, (m, n, k): (u64, u64, i32), word: u64) -> [f64; 3] {
    let ulp = 1 - format.precision as i32;
    let unit = ulp - 1 - k;
    let c = signed(significand(format, word), ulp, word & 1 == 1);
    [signed(m, unit / 2, word & 2 == 2), scaled(n, unit - unit / 2), c]
}

/// Any three numbers of magnitudes that meet; every fourth time, c = −a·b.
fn anywhere(format: Format, draw: &[u64]) -> [f64; 3] {
    let p = format.precision as i32;
    let apart = (draw[3] >> 8) as i32 & 127;
    let [x, y, d] = [(draw[3] & 15) as i32 - 8, (draw[3] >> 4 & 15) as i32 - 8, apart - 64 - p / 2];
    let [a, b, c] = [0, 1, 2].map(|i| significand(format, draw[i]));
    let [a, b] = [signed(a, x - p, draw[0] & 1 == 1), signed(b, y - p, draw[1] & 1 == 1)];
    if apart % 4 == 0 {
        let product = if p == 24 { (a as f32 * b as f32) as f64 } else { a * b };
        return [a, b, -product];
    }
    [a, b, signed(c, x + y + d, draw[2] & 1 == 1)]
}

/// Where the range of the format ends, and the signs of zeros.
fn edges(format: Format) -> Vec<[f64; 3]> {
    let (least, most) = format.exponents;
    let (m, n, k) = format.just_above;
    let half_of_least = least - 1 - k;
    let product = [scaled(m, half_of_least / 2), scaled(n, half_of_least - half_of_least / 2)];
    let two_to = |exponent: i32| scaled(1, exponent);
    vec![
        [two_to(most - 28), two_to(28), -two_to(most - 1)],
        [two_to(most - 1), -2.0, two_to(most - 1)],
        [two_to(most - 1), 2.0, 0.0],
        [product[0], product[1], 0.0],
        [product[0], product[1], scaled(4_194_304, least)],
        [product[0], product[1], scaled(4_194_305, least)],
        [product[0], -product[1], scaled(4_194_305, least)],
        [two_to(least / 2), two_to(least - 1 - least / 2), 0.0],
        [two_to(least / 2), two_to(least - 1 - least / 2), two_to(least)],
        [two_to(least), 0.5, two_to(least)],
        [two_to(least / 2 - 9), -two_to(least / 2 - 9), 0.0],
        [0.0, -1.0, 0.0],
        [0.0, -1.0, -0.0],
        [1.0, 1.0, -1.0],
        [f64::INFINITY, 1.0, -1.0],
        [f64::INFINITY, 0.0, 1.0],
        [f64::INFINITY, 1.0, f64::NEG_INFINITY],
        [f64::NAN, 1.0, 1.0],
    ]
}

fn operator_links<F: Real>(chain: &mut Chain, numbers: &[F]) {
    operator_links_named(chain, &format!("operators_{}", F::NAME), numbers);
}

/// x + y, x − y, x·y, x/y and √|x| of numbers and their neighbours.
fn operator_links_named<F: Real>(chain: &mut Chain, name: &str, numbers: &[F]) {
    let mut results = vec![F::zero(); 5 * numbers.len()];
    let neighbours: Vec<F> = numbers.iter().cycle().skip(1).take(numbers.len()).copied().collect();
    operators(numbers, &neighbours, &mut results);
    chain.numbers(format!("arithmetic.{name}"), &results);
}

every_instruction_set! {
    fn operators<F>(x: &[F], y: &[F], results: &mut [F]) {
        for ((&x, &y), results) in x.iter().zip(y).zip(results.chunks_exact_mut(5)) {
            let magnitude = if x < F::zero() { -x } else { x };
            results.copy_from_slice(&[x + y, x - y, x * y, x / y, magnitude.sqrt()]);
        }
    }
}

/// SplitMix64 (Steele, Lea & Flood 2014): this area stands on integers alone.
fn words(seed: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |i: u64| {
        let z = (seed << 32).wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A significand of all the format's bits, from the top of a word.
fn significand(format: Format, word: u64) -> u64 {
    word >> (64 - format.precision) | 1 << (format.precision - 1)
}

fn signed(integer: u64, exponent: i32, negative: bool) -> f64 {
    if negative { -scaled(integer, exponent) } else { scaled(integer, exponent) }
}

/// integer · 2^exponent, exactly where f64 has that number.
fn scaled(integer: u64, exponent: i32) -> f64 {
    let power = |n: i32| f64::from_bits(((n + 1023) as u64) << 52);
    let outer = exponent.clamp(-900, 900);
    integer as f64 * power(outer) * power(exponent - outer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::fused::Software;

    /// An odd integer and an exponent.
    fn parts(x: f64) -> (i128, i32) {
        let (exponent, fraction) = ((x.to_bits() >> 52 & 2047) as i32, (x.to_bits() & ((1 << 52) - 1)) as i128);
        let significand = if exponent == 0 { fraction } else { fraction | 1 << 52 };
        let zeros = significand.trailing_zeros() as i32;
        let odd = if significand == 0 { 0 } else { significand >> zeros };
        (if x < 0.0 { -odd } else { odd }, exponent.max(1) - 1075 + if odd == 0 { 0 } else { zeros })
    }

    /// a·b + c in integers, rounded once; `None` where 127 bits are too few, or the result is not a normal number.
    fn by_integers(format: Format, [a, b, c]: [f64; 3]) -> Option<f64> {
        if ![a, b, c].iter().all(|x| x.is_finite()) {
            return None;
        }
        let ((a, ea), (b, eb), (c, ec)) = (parts(a), parts(b), parts(c));
        let (product, unit) = (a * b, (ea + eb).min(ec));
        let shifted = |x: i128, by: i32| {
            (x == 0 || by + 128 - (x.unsigned_abs().leading_zeros() as i32) < 126)
                .then(|| if x == 0 { 0 } else { x << by })
        };
        let sum = shifted(product, ea + eb - unit)? + shifted(c, ec - unit)?;
        let magnitude = sum.unsigned_abs();
        let excess = (128 - magnitude.leading_zeros() as i32 - format.precision as i32).max(0);
        let (kept, rest) = (magnitude >> excess, magnitude & ((1 << excess) - 1));
        let half = if excess == 0 { 1 } else { 1 << (excess - 1) };
        let up = rest > half || rest == half && excess > 0 && kept & 1 == 1;
        let rounded = signed((kept + up as u128) as u64, unit + excess, sum < 0);
        let normal = rounded.abs() >= scaled(1, format.exponents.0 + format.precision as i32) && rounded.is_finite();
        (normal && sum != 0).then_some(rounded)
    }

    fn fma_rounds_the_exact_sum_once<F: Real>(format: Format) {
        let (mut checked, mut double_rounding_differs) = (0, 0);
        for case in cases(format) {
            let [a, b, c] = case.map(F::from_f64);
            assert!(case.iter().zip([a, b, c]).all(|(&x, y)| x.is_nan() || x == y.to_f64()), "{case:?} is not exact");
            if let Some(expected) = by_integers(format, case).filter(|x| x.abs() < scaled(1, format.exponents.1 - 1)) {
                let mut by_path = [F::zero()];
                fused(&[[a, b, c]], &mut by_path);
                assert_eq!([a.fma::<Software>(b, c).to_f64(), by_path[0].to_f64()], [expected; 2], "{case:?}");
                checked += 1;
                double_rounding_differs += usize::from(F::from_f64(case[0] * case[1] + case[2]).to_f64() != expected);
            }
        }
        assert!(checked > 1000 && double_rounding_differs > 100, "{checked} {double_rounding_differs}");
    }

    #[test]
    fn fma_in_f32_rounds_the_exact_sum_once() {
        fma_rounds_the_exact_sum_once::<f32>(F32);
    }

    #[test]
    fn fma_in_f64_rounds_the_exact_sum_once() {
        fma_rounds_the_exact_sum_once::<f64>(F64);
    }

    #[test]
    fn fma_at_the_edges_of_the_range_rounds_once() {
        for (format, least, fma) in [
            (
                F32,
                f32::from_bits(1) as f64,
                (|[a, b, c]| (a as f32).fma::<Software>(b as f32, c as f32) as f64) as fn([f64; 3]) -> f64,
            ),
            (F64, f64::from_bits(1), |[a, b, c]| a.fma::<Software>(b, c)),
        ] {
            let top = scaled(1, format.exponents.1 - 1);
            let expected = [
                top,
                -top,
                f64::INFINITY,
                least,
                4_194_305.0 * least,
                4_194_306.0 * least,
                4_194_304.0 * least,
                0.0,
                2.0 * least,
                2.0 * least,
                -0.0,
                0.0,
                -0.0,
                0.0,
                f64::INFINITY,
            ];
            for (case, expected) in edges(format).into_iter().zip(expected) {
                assert_eq!(
                    fma(case).to_bits(),
                    expected.to_bits(),
                    "{case:?}: expected {expected:e}, found {:e}",
                    fma(case)
                );
            }
            assert!(edges(format)[expected.len()..].iter().all(|&case| fma(case).is_nan()));
        }
    }

    #[test]
    fn fma_of_products_just_off_a_tie_goes_their_way_in_f64() {
        for (tie, above) in [(F64.just_above, true), (F64.just_below, false)] {
            for word in words(1).take(256) {
                let [a, b, c] = near_tie(F64, tie, word);
                let outwards = (a > 0.0) == (c > 0.0);
                let magnitude = c.abs().to_bits();
                let expected = match (above, outwards) {
                    (true, true) => magnitude + 1,
                    (true, false) => magnitude - 1,
                    (false, _) => magnitude,
                };
                assert_eq!(a.fma::<Software>(b, c).abs().to_bits(), expected, "{a:e} {b:e} {c:e}");
            }
        }
    }
}
