//! What time and class say to every token: a shift, a scale and a gate for each channel (Peebles & Xie 2023, section 3.2,
//! adaLN-Zero).
//!
//! u has a row for each image, in parts of c numbers; a part is a shift, a scale or a gate.
//!
//! # Derivation
//!
//! Image n, token t, channel c:
//!
//! ```text
//! modulate:   y_ntc = x_ntc (1 + scale_nc) + shift_nc
//! gate:       y_ntc = x_ntc + gate_nc a_ntc
//! ```
//!
//! Given dy, with every number of u meeting all tokens of its image:
//!
//! 1. modulate: dx = dy (1 + scale), dscale_nc = Σ_t dy_ntc x_ntc, dshift_nc = Σ_t dy_ntc.
//! 2. gate: dx = dy, da = dy gate, dgate_nc = Σ_t dy_ntc a_ntc.
//!
//! Both lines of the forward pass are one fused multiply-add. The sums over tokens are
//! [`column_sums`](crate::numerics::sum::column_sums), with a fused multiply-add where they have a product, rounded
//! once. No cache: what multiplies u is kept by who made it. Hazard: with scale instead of 1 + scale the first pass of a new
//! network, all zeros, would say nothing. Derived here; proven by central differences and PyTorch's numbers.
//!
//! Next in the [course](super#the-course): [`gradient_check`](super::gradient_check).

use ndarray::{Array2, Ix2};

use super::stopwatch::timed;
use super::{Kept, flat, flat_mut};
use crate::numerics::instruction_set::every_instruction_set;
use crate::numerics::sum::map_columns;
use crate::numerics::{Real, buffer_pool, parallel};

/// y = x (1 + scale) + shift, where these are the parts of u with the numbers `[shift, scale]`.
///
/// # Shapes
/// x (n · tokens, c), u (n, parts · c), to y of x's shape.
///
/// # Panics
/// If u has no such part, or the tokens are not as many in every image.
pub fn modulate<F: Real>(
    x: impl Into<Kept<F, Ix2>>,
    u: impl Into<Kept<F, Ix2>>,
    [shift, scale]: [usize; 2],
) -> Array2<F> {
    let (x, u) = (x.into(), u.into());
    let mut y = buffer_pool::take(x.len()).into_array(x.dim());
    let (size, c) = (x.len() / u.nrows(), x.ncols());
    timed(None, "modulation", 0, || {
        parallel::in_parts(flat_mut(&mut y), size, c, |at, y| {
            let of = |part| part_of(&u, at / size, part, c);
            scale_and_shift(&flat(&x)[at..][..y.len()], y, [of(scale), of(shift)]);
        });
    });
    y
}

/// dx of [`modulate`]; dshift and dscale are written into their parts of `du`.
///
/// # Shapes
/// x and dy (n · tokens, c), u and du (n, parts · c), to dx of x's shape.
///
/// # Panics
/// If dy has another shape than x.
pub fn modulate_backward<F: Real>(
    x: impl Into<Kept<F, Ix2>>,
    u: impl Into<Kept<F, Ix2>>,
    [shift, scale]: [usize; 2],
    dy: impl Into<Kept<F, Ix2>>,
    du: &mut Array2<F>,
) -> Array2<F> {
    let (x, u, mut dy) = (x.into(), u.into(), dy.into().into_owned());
    assert_eq!(x.dim(), dy.dim(), "modulate: dy has the shape of x");
    let c = x.ncols();
    timed(None, "modulation, gradient", 0, || {
        for_each_image(&x, &mut dy, du, |image, x, dy, du| {
            let [dshift, dscale] = modulation_gradients(x, dy, part_of(&u, image, scale, c));
            round_into(&mut du[shift * c..][..c], &dshift);
            round_into(&mut du[scale * c..][..c], &dscale);
        });
    });
    dy
}

/// x + gate a, where `gate` is the part of u with that number.
///
/// # Shapes
/// x and a (n · tokens, c), u (n, parts · c), to y of x's shape.
///
/// # Panics
/// If a has another shape than x.
pub fn add_gated<F: Real>(
    x: impl Into<Kept<F, Ix2>>,
    a: impl Into<Kept<F, Ix2>>,
    u: impl Into<Kept<F, Ix2>>,
    gate: usize,
) -> Array2<F> {
    let (mut x, a, u) = (x.into().into_owned(), a.into(), u.into());
    assert_eq!(x.dim(), a.dim(), "gate: a has the shape of x");
    let (size, c) = (x.len() / u.nrows(), x.ncols());
    timed(None, "gate", 0, || {
        parallel::in_parts(flat_mut(&mut x), size, c, |at, x| {
            add_product(&flat(&a)[at..][..x.len()], x, part_of(&u, at / size, gate, c));
        });
    });
    x
}

/// da of [`add_gated`]; dgate is written into its part of `du`. dx is dy.
///
/// # Shapes
/// a and dy (n · tokens, c), u and du (n, parts · c), to da of a's shape.
///
/// # Panics
/// If dy has another shape than a.
pub fn add_gated_backward<F: Real>(
    a: impl Into<Kept<F, Ix2>>,
    u: impl Into<Kept<F, Ix2>>,
    gate: usize,
    dy: impl Into<Kept<F, Ix2>>,
    du: &mut Array2<F>,
) -> Array2<F> {
    let (a, u, mut dy) = (a.into(), u.into(), dy.into().into_owned());
    assert_eq!(a.dim(), dy.dim(), "gate: dy has the shape of a");
    let c = a.ncols();
    timed(None, "gate, gradient", 0, || {
        for_each_image(&a, &mut dy, du, |image, a, dy, du| {
            let dgate = gate_gradients(a, dy, part_of(&u, image, gate, c));
            round_into(&mut du[gate * c..][..c], &dgate);
        });
    });
    dy
}

/// The numbers of one part of u for one image.
fn part_of<F>(u: &Array2<F>, image: usize, part: usize, c: usize) -> &[F] {
    &flat(u)[image * u.ncols()..][..u.ncols()][part * c..][..c]
}

/// Calls `work` with the number of each image, its tokens in both matrices, and its row of du.
fn for_each_image<F: Real>(
    x: &Array2<F>,
    y: &mut Array2<F>,
    du: &mut Array2<F>,
    work: impl Fn(usize, &[F], &mut [F], &mut [F]) + Sync,
) {
    let (size, parts) = (x.len() / du.nrows(), du.ncols());
    let images = flat(x).chunks(size).zip(flat_mut(y).chunks_mut(size)).zip(flat_mut(du).chunks_mut(parts));
    parallel::deal(images.enumerate().collect(), |(image, ((x, y), du))| work(image, x, y, du));
}

/// Each total rounded once.
fn round_into<F: Real>(to: &mut [F], totals: &[f64]) {
    to.iter_mut().zip(totals).for_each(|(to, &total)| *to = F::from_f64(total));
}

every_instruction_set! {
    /// y = x (1 + scale) + shift.
    fn scale_and_shift<F>(x: &[F], y: &mut [F], scale_and_shift: [&[F]; 2]) {
        map_columns(x, y, scale_and_shift, [], |x, _, [scale, shift], []| x.fma::<P>(F::one() + scale, shift));
    }
}

every_instruction_set! {
    /// [dshift, dscale], and dy becomes dx.
    fn modulation_gradients<F>(x: &[F], dy: &mut [F], scale: &[F]) -> [Vec<f64>; 2] {
        let [mut dshift, mut dscale] = [(); 2].map(|()| vec![0.0; scale.len()]);
        map_columns(x, dy, [scale], [&mut dshift, &mut dscale], |x, dy, [scale], [dshift, dscale]| {
            *dshift += dy;
            *dscale = dy.fma::<P>(x, *dscale);
            dy * (F::one() + scale)
        });
        [dshift, dscale]
    }
}

every_instruction_set! {
    /// x + gate a.
    fn add_product<F>(a: &[F], x: &mut [F], gate: &[F]) {
        map_columns(a, x, [gate], [], |a, x, [gate], []| a.fma::<P>(gate, x));
    }
}

every_instruction_set! {
    /// dgate, and dy becomes da.
    fn gate_gradients<F>(a: &[F], dy: &mut [F], gate: &[F]) -> Vec<f64> {
        let mut dgate = vec![0.0; gate.len()];
        map_columns(a, dy, [gate], [&mut dgate], |a, dy, [gate], [dgate]| {
            *dgate = dy.fma::<P>(a, *dgate);
            dy * gate
        });
        dgate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::ParameterVector;
    use crate::layers::gradient_check::check;
    use crate::numerics::rng::normal;

    const PARTS: [usize; 2] = [2, 0]; // shift and scale in a u of three parts of 5
    const GATE: usize = 1;

    /// Two images of three tokens of five channels.
    fn rows(key: u64) -> Array2<f64> {
        normal((6, 5), key)
    }

    fn u() -> Array2<f64> {
        normal((2, 15), 9)
    }

    #[test]
    fn modulation_of_a_token_is_by_the_numbers_of_its_image_and_channel() {
        let (x, u) = (rows(1), u());
        let (y, gated) = (modulate(&x, &u, PARTS), add_gated(rows(2), &x, &u, GATE));
        for ((row, c), &x) in x.indexed_iter() {
            let of = |part: usize| u[[row / 3, 5 * part + c]];
            assert!((y[[row, c]] - (x * (1.0 + of(0)) + of(2))).abs() < 1e-14, "row {row}, channel {c}");
            assert!((gated[[row, c]] - (rows(2)[[row, c]] + of(1) * x)).abs() < 1e-14, "row {row}, channel {c}");
        }
    }

    #[test]
    fn modulation_gradients_equal_central_differences() {
        let none = ParameterVector(vec![]);
        let backward = |x: &Array2<f64>, u: &Array2<f64>, dy: &Array2<f64>| {
            let mut du = Array2::zeros(u.dim());
            (modulate_backward(x, u, PARTS, dy.clone(), &mut du), du)
        };
        check(&none, &rows(1), 2, |_, x| (modulate(x, u(), PARTS), x.clone()), |_, x, dy, _| backward(&x, &u(), dy).0)
            .expect("dx is right");
        check(
            &none,
            &u(),
            2,
            |_, u| (modulate(rows(1), u, PARTS), u.clone()),
            |_, u, dy, _| backward(&rows(1), &u, dy).1,
        )
        .expect("du is right");
    }

    #[test]
    fn gate_gradients_equal_central_differences() {
        let none = ParameterVector(vec![]);
        let backward = |a: &Array2<f64>, u: &Array2<f64>, dy: &Array2<f64>| {
            let mut du = Array2::zeros(u.dim());
            (add_gated_backward(a, u, GATE, dy, &mut du), du)
        };
        let y = |a: &Array2<f64>, u: &Array2<f64>| add_gated(rows(4), a, u, GATE);
        check(&none, &rows(1), 2, |_, a| (y(a, &u()), a.clone()), |_, a, dy, _| backward(&a, &u(), dy).0)
            .expect("da is right");
        check(&none, &u(), 2, |_, u| (y(&rows(1), u), u.clone()), |_, u, dy, _| backward(&rows(1), &u, dy).1)
            .expect("du is right");
    }
}
