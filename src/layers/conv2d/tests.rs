//! Derivatives of convolution, and its bits against im2col and the product by definition.

use super::*;
use crate::layers::gradient_check::check;
use crate::layers::im2col::{col2im, im2col};
use crate::numerics::Native;
use crate::numerics::gemm::{BLOCK, product_by_definition};
use crate::numerics::rng::normal;

/// Every geometry that a U-Net has, and some that none has; h, w, c_in, c_out and n pairwise different.
const WINDOWS: [((usize, usize), usize, [usize; 4]); 8] = [
    ((3, 3), 1, [1, 1, 1, 1]),
    ((1, 1), 1, [0, 0, 0, 0]),
    ((3, 3), 2, [1, 1, 1, 1]),
    ((3, 3), 2, [0, 1, 0, 1]),
    ((5, 2), 3, [0, 2, 4, 1]),
    ((2, 4), 1, [3, 0, 0, 2]),
    ((1, 1), 2, [0, 0, 0, 0]),
    ((2, 1), 3, [2, 2, 3, 0]),
];

fn windows() -> impl Iterator<Item = Window> {
    WINDOWS.into_iter().map(|(kernel, stride, padding)| Window::new(kernel, stride, padding).expect("a window"))
}

fn conv(window: Window, c_in: usize, c_out: usize) -> (Conv2d, ParameterVector<f64>) {
    let mut layout = Layout::default();
    let conv = Conv2d::new(&mut layout, "conv", c_in, c_out, window);
    (conv, layout.initial(1))
}

#[test]
fn conv2d_gradients_equal_central_differences() {
    for window in windows() {
        let (conv, w) = conv(window, 3, 4);
        let x = normal((2, 6, 7, 3), 2);
        check(&w, &x, 3, |w, x| conv.forward(w, x.clone()), |w, cache, dy, grads| conv.backward(w, cache, dy, grads))
            .unwrap_or_else(|error| panic!("{window:?}: {error}"));
    }
}

#[test]
fn conv2d_with_a_flipped_sign_in_its_backward_pass_is_caught() {
    let (conv, w) = conv(Window::square(3, 2, 1), 3, 4);
    let wrong = |w: &ParameterVector<f64>, cache: Cache<f64>, dy: &Array4<f64>, grads: &mut ParameterVector<f64>| {
        let dx = conv.backward(w, cache, dy, grads);
        grads[conv.bias].iter_mut().for_each(|g| *g = -*g);
        dx
    };
    let error = check(&w, &normal((2, 6, 7, 3), 2), 3, |w, x| conv.forward(w, x.clone()), wrong).unwrap_err();
    assert!(error.contains(&format!("parameter[{}]", conv.bias.start)), "{error}");
}

#[test]
fn conv2d_has_the_bits_of_im2col_and_the_product_by_definition() {
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    // K above one block of 256, and the pixels at stride 1; a last panel of 3 columns, and two so narrow that they are none.
    let c_in = 35;
    for (window, c_out) in windows().flat_map(|window| [(window, 19), (window, 3), (window, 1)]) {
        let (conv, w) = conv(window, c_in, c_out);
        let (w, x) = (w.cast::<f32>(), normal((2, 12, 13, c_in), 2).mapv(|x| x as f32));
        let (y, cache) = conv.forward(&w, x.clone());
        let matrix = im2col(&x, window);
        let (k, pixels) = (window.kernel().0 * window.kernel().1 * c_in, y.len() / c_out);
        let (rows, steps): (Vec<usize>, Vec<usize>) = ((0..pixels).map(|p| p * k).collect(), (0..k).collect());

        let mut expected = vec![f32::NAN; y.len()];
        let columns = Gather { data: &matrix, rows: &rows, steps: &steps };
        product_by_definition(columns, &w[conv.weight], &mut expected, Epilogue::OverwriteWithBias(&w[conv.bias]));
        assert_eq!(bits(flat(&y)), bits(&expected), "y of {window:?}");

        let dy = normal(y.dim(), 3).mapv(|x| x as f32);
        let mut grads = ParameterVector::zeros(w.0.len());
        let dx = conv.backward(&w, cache, &dy, &mut grads);
        let mut expected = vec![0.0; k * c_out];
        let transposed = Gather { data: &matrix, rows: &steps, steps: &rows };
        product_by_definition(transposed, flat(&dy), &mut expected, Epilogue::Accumulate);
        assert_eq!(bits(&grads[conv.weight]), bits(&expected), "dW of {window:?}");
        assert_eq!(bits(flat(&dx)), bits(&input_gradient_by_definition(&conv, &w, &dy, x.dim())), "dx of {window:?}");
    }
}

/// The last formula of the derivation, taps descending, outputs ascending, in blocks of 256.
fn input_gradient_by_definition(
    conv: &Conv2d,
    w: &ParameterVector<f32>,
    dy: &Array4<f32>,
    (n, h, width, c_in): (usize, usize, usize, usize),
) -> Vec<f32> {
    let (kernel, s, [left, _, top, _]) = (conv.window.kernel(), conv.window.stride(), conv.window.padding());
    let (_, oh, ow, c_out) = dy.dim();
    let mut dx = Vec::new();
    for (image, y, x, i) in
        (0..n * h * width * c_in).map(|p| (p / (h * width * c_in), p / (width * c_in) % h, p / c_in % width, p % c_in))
    {
        let mut terms = Vec::new();
        for (kh, kw) in (0..kernel.0 * kernel.1).rev().map(|k| (k / kernel.1, k % kernel.1)) {
            let (row, column) = ((y + top) as isize - kh as isize, (x + left) as isize - kw as isize);
            if row.rem_euclid(s as isize) != 0 || column.rem_euclid(s as isize) != 0 {
                continue;
            }
            let (row, column) = (row.div_euclid(s as isize) as usize, column.div_euclid(s as isize) as usize);
            for o in 0..c_out {
                let dy = if row < oh && column < ow { dy[[image, row, column, o]] } else { 0.0 };
                terms.push((dy, w[conv.weight][((kh * kernel.1 + kw) * c_in + i) * c_out + o]));
            }
        }
        let blocks =
            terms.chunks(BLOCK).map(|block| block.iter().fold(0.0f32, |acc, &(dy, w)| dy.fma::<Native>(w, acc)));
        dx.push(blocks.reduce(|sum, block| sum + block).unwrap_or(0.0));
    }
    dx
}

#[test]
fn conv2d_input_gradient_equals_col2im() {
    for window in windows() {
        let (conv, w) = conv(window, 3, 4);
        let x = normal((2, 6, 7, 3), 2);
        let (y, cache) = conv.forward(&w, x.clone());
        let dy = normal(y.dim(), 3);
        let dx = conv.backward(&w, cache, &dy, &mut ParameterVector::zeros(w.0.len()));
        let k = window.kernel().0 * window.kernel().1 * 3;
        let weight = &w[conv.weight];
        let matrix: Vec<f64> = flat(&dy)
            .chunks(4)
            .flat_map(|dy| (0..k).map(move |k| (0..4).map(|o| dy[o] * weight[k * 4 + o]).sum()))
            .collect();
        let expected = col2im(&matrix, x.dim(), window);
        let difference = (&dx - &expected).iter().fold(0.0, |m: f64, d| m.max(d.abs()));
        assert!(difference < 1e-13, "{window:?}: {difference:e}"); // sums of at most 60 terms of order 1
    }
}
