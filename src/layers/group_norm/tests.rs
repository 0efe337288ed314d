//! Derivatives, laws and bits of group norm.

use super::*;
use crate::layers::activation::{silu, silu_backward};
use crate::layers::gradient_check::check;
use crate::layers::im2col::Window;
use crate::numerics::rng::normal;

fn norm(channels: usize, groups: usize) -> (GroupNorm, ParameterVector<f64>) {
    let mut layout = Layout::default();
    let norm = GroupNorm::new(&mut layout, "norm", channels, groups, 1e-5);
    let moved = normal(layout.count(), 9);
    (norm, ParameterVector(moved.to_vec()))
}

#[test]
fn group_norm_gradients_equal_central_differences() {
    for groups in [1, 3, 6] {
        let (norm, w) = norm(6, groups);
        let x = normal((2, 3, 5, 6), 1) * 2.0 + 0.7;
        check(&w, &x, 2, |w, x| norm.forward(w, x.clone()), |w, cache, dy, grads| norm.backward(w, cache, dy, grads))
            .unwrap_or_else(|error| panic!("{groups} groups: {error}"));
    }
}

#[test]
fn group_norm_with_silu_has_the_bits_of_one_after_the_other() {
    let (norm, w) = norm(6, 3);
    let (w, x) = (w.cast::<f32>(), normal((2, 3, 5, 6), 1).mapv(|x| 3.0 * x as f32));
    let dy = normal((2, 3, 5, 6), 2).mapv(|x| x as f32);
    let bits = |x: &Array4<f32>| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();

    let (between, cache) = norm.forward(&w, x.clone());
    let (y, fused_cache) = norm.forward_silu(&w, x);
    assert_eq!(bits(&y), bits(&silu(&between)));
    let [mut grads, mut fused_grads] = [ParameterVector::zeros(w.0.len()), ParameterVector::zeros(w.0.len())];
    let dx = norm.backward(&w, cache, silu_backward(between, &dy), &mut grads);
    assert_eq!(bits(&norm.backward_silu(&w, fused_cache, dy, &mut fused_grads)), bits(&dx));
    assert_eq!(fused_grads, grads);
}

#[test]
fn group_norm_that_writes_padding_has_the_bits_of_padding_afterwards() {
    let (norm, w) = norm(20, 4); // channels: a strip of 16 and four of one
    let (w, x) = (w.cast::<f32>(), normal((3, 4, 5, 20), 1).mapv(|x| x as f32));
    let window = Window::new((2, 3), 1, [1, 2, 3, 0]).expect("a window");
    let plain = norm.forward_silu(&w, x.clone()).0;
    let padded = norm.forward_silu_padded(&w, x, window.padding()).0;
    assert_eq!(padded, *window.pad(plain));
}

#[test]
fn group_norm_of_a_constant_image_is_its_bias() {
    let (norm, w) = norm(6, 3);
    let y = norm.forward(&w, Array4::from_elem((1, 2, 3, 6), 7.5)).0;
    assert!(flat(&y).chunks(6).all(|pixel| pixel == &w[norm.bias]));
}

#[test]
fn group_norm_in_f32_with_a_mean_of_100_keeps_its_digits() {
    let (norm, w) = norm(6, 3);
    let x = (normal((1, 28, 28, 6), 1) + 100.0).mapv(|x| x as f32);
    let exact = norm.forward(&w, x.mapv(f64::from)).0;
    let found = norm.forward(&w.cast::<f32>(), x).0;
    // The mean, rounded to f32, is off by at most 2⁻¹⁸ = 3.8e-6, and γ is at most about 3.
    let worst = exact.iter().zip(&found).fold(0.0, |m: f64, (e, f)| m.max((e - *f as f64).abs()));
    assert!(worst < 3.0 * 4e-6 + 1e-6, "{worst:e}");
}

#[test]
fn group_norm_of_an_image_is_the_same_alone_and_in_a_batch() {
    let (norm, w) = norm(6, 2);
    let x = normal((3, 4, 5, 6), 1);
    let all = norm.forward(&w, x.clone()).0;
    let second = x.slice_axis(ndarray::Axis(0), ndarray::Slice::from(1..2)).to_owned();
    assert_eq!(norm.forward(&w, second).0.index_axis(ndarray::Axis(0), 0), all.index_axis(ndarray::Axis(0), 1));
}
