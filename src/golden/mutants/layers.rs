//! Mistakes in products, convolutions, activations and losses.

use ndarray::Axis;
use serde_json::json;

use super::{Case, Mutant, Result, Results, evaluate, mutant, scaled, with_attribute, with_attributes, with_input};

/// The mistakes, in words.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant("weight_gradient_zero", "the gradient of the weight is never written", |case| {
        scaled(case, "grad.weight", 0.0)
    }),
    mutant("weight_gradient_x1_001", "the gradient of the weight is a thousandth too large", |case| {
        scaled(case, "grad.weight", 1.001)
    }),
    mutant("bias_gradient_mean", "the gradient of the bias is a mean over rows instead of a sum", |case| {
        let rows = case.tensors["grad_output"].shape()[0] as f64;
        scaled(case, "grad.bias", 1.0 / rows)
    }),
    mutant(
        "bias_gradient_of_the_last_image",
        "the gradient of the bias is written image after image, not added",
        |case| {
            let mut results = evaluate::<f64>(case)?;
            let dy = case.numbers("grad_output");
            let last = dy.index_axis(ndarray::Axis(0), dy.shape()[0] - 1);
            let sums = last.outer_iter().map(|channel| channel.sum()).collect::<ndarray::Array1<f64>>().into_dyn();
            results.iter_mut().filter(|(name, _)| name == "grad.bias").for_each(|(_, values)| values.assign(&sums));
            Ok(results)
        },
    ),
    mutant("upsampling_gradient_mean", "the mean over the four copies of a pixel for their sum", |case| {
        scaled(case, "grad.x", 0.25)
    }),
    mutant("padding_on_the_wrong_side", "an uneven padding at the top and left", |case| {
        let sides: [usize; 4] = serde_json::from_value(case.attributes["padding"].clone()).expect("four sides");
        let [left, right, top, bottom] = sides;
        with_attribute(case, "padding", json!([right, left, bottom, top]))
    }),
    mutant("flipped_kernel", "a convolution in the sense of mathematics: the kernel mirrored", flipped_kernel),
    mutant("dilation_ignored", "a dilated kernel without its gaps, and as much less padding", |case| {
        with_attributes(case, &[("dilation", json!(1)), ("padding", json!(1))])
    }),
    mutant("output_padding_on_the_wrong_side", "the output padding at the top and left", |case| {
        with_attribute(case, "padding", json!([0, 2, 0, 2]))
    }),
    mutant("tanh_gelu", "the GELU's tanh form for that of the normal distribution", |case| {
        evaluate(&Case { op: "gelu_tanh".into(), ..case.clone() })
    }),
    mutant("gradient_of_half_the_mse", "the gradient of the loss without its factor 2", |case| {
        scaled(case, "grad.prediction", 0.5)
    }),
    mutant("mean_over_classes", "the loss is divided by the classes, not by the images", |case| {
        let shape = case.tensors["input.logits"].shape();
        scaled(case, "", shape[0] as f64 / shape[1] as f64)
    }),
    mutant("cross_entropy_gradient_of_the_sum", "the gradient of the sum over images, not of their mean", |case| {
        scaled(case, "grad.logits", case.tensors["input.logits"].shape()[0] as f64)
    }),
];

/// The kernel mirrored, and its gradient mirrored back.
fn flipped_kernel(case: &Case) -> Result<Results<f64>> {
    let mut results = with_input(case, "weight", |w| {
        w.invert_axis(Axis(2));
        w.invert_axis(Axis(3));
    })?;
    for (_, values) in results.iter_mut().filter(|(name, _)| name == "grad.weight") {
        values.invert_axis(Axis(2));
        values.invert_axis(Axis(3));
        *values = values.as_standard_layout().into_owned();
    }
    Ok(results)
}

/// Φ, of the normal distribution.
pub(super) fn cdf(x: f64) -> f64 {
    0.5 * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

/// y = x Φ(x), dx = dy (Φ(x) + x φ(x)).
pub(super) fn exact_gelu(case: &Case) -> Result<Results<f64>> {
    let x = case.numbers("input.x");
    let density = |x: f64| libm::exp(-0.5 * x * x) / (2.0 * std::f64::consts::PI).sqrt();
    let mut results = vec![("output".to_string(), x.mapv(|x| x * cdf(x)))];
    if case.tensors.contains_key("grad_output") {
        let slope = x.mapv(|x| cdf(x) + x * density(x));
        results.push(("grad.x".to_string(), slope * case.numbers("grad_output")));
    }
    Ok(results)
}
