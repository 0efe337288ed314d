//! The U-Net's two kinds of blocks, forward and backward.

use super::attention::heads;
use super::layers::eps;
use super::request::{channels_first, channels_last};
use super::{Request, Results, named};
use crate::Result;
use crate::golden::precision::Precision;
use crate::layers::activation::{silu, silu_backward};
use crate::layers::{Layout, ParameterVector};
use crate::models::Trace;
use crate::models::unet::attention_block::AttentionBlock;
use crate::models::unet::res_block::{ResBlock, ResBlockSettings};

/// diffusers' `ResnetBlock2D`.
pub fn res_block<F: Precision>(request: &Request) -> Result<Results<F>> {
    let x = request.images::<F>("x")?;
    let temb = request.shaped::<F, ndarray::Ix2>("temb", "(n, time channels)")?;
    let (n, _, _, c_in) = x.dim();
    request.check_shape("input.temb", &[n, temb.ncols()], temb.shape())?;
    let c_out = request.shaped::<F, ndarray::Ix4>("conv1.weight", "(c_out, c_in, 3, 3)")?.dim().0;
    let groups: usize = request.required("groups")?;
    if groups == 0 || !c_in.is_multiple_of(groups) || !c_out.is_multiple_of(groups) {
        return Err(request.refuse("attribute groups", format!("a divisor of {c_in} and {c_out} channels"), groups));
    }
    let shortcut = "conv_shortcut.weight";
    if request.has(shortcut) != (c_in != c_out) {
        let expected =
            if c_in == c_out { "none, as the channels stay the same" } else { "one, as the channels change" };
        return Err(request.refuse(&format!("input.{shortcut}"), expected, if c_in == c_out { "one" } else { "none" }));
    }
    let norm: String = request.attribute("time_embedding_norm", "default".into())?;
    if !["default", "scale_shift"].contains(&norm.as_str()) {
        return Err(request.refuse("attribute time_embedding_norm", "\"default\" or \"scale_shift\"", norm));
    }
    let settings = ResBlockSettings {
        time_channels: temb.ncols(),
        groups,
        norm_eps: eps(request)?,
        dropout: 0.0,
        scale_shift: norm == "scale_shift",
        scale_factor: factor(request, "output_scale_factor")?,
    };
    let mut layout = Layout::default();
    let block = ResBlock::new(&mut layout, "layer", c_in, c_out, 0, &settings);
    let w = request.parameters(&layout)?;
    let (y, cache) = block.forward(&w, x, silu(&temb), None, &mut Trace::off());
    let y = channels_first(y);
    let dy = request.grad_output::<F>(y.shape())?;
    let mut results = vec![named("output", y)];
    if let Some(dy) = dy {
        let mut grads = ParameterVector::zeros(layout.count());
        let mut d_silu = ndarray::Array2::zeros(temb.dim());
        let dy = channels_last(dy.into_dimensionality().expect("the output's four axes"));
        results.push(named("grad.x", channels_first(block.backward(&w, cache, dy, &mut d_silu, &mut grads))));
        results.push(named("grad.temb", silu_backward(temb, d_silu).into_dyn()));
        results.extend(request.gradients(&layout, &grads));
    }
    Ok(results)
}

/// diffusers' `Attention` over pixels, with a residual connection.
pub fn attention_block<F: Precision>(request: &Request) -> Result<Results<F>> {
    let x = request.images::<F>("x")?;
    let c = x.dim().3;
    let heads = heads(request, c)?;
    request.check_size("the scores", &[x.dim().0, heads, x.dim().1 * x.dim().2, x.dim().1 * x.dim().2])?;
    let normed = request.has("group_norm.weight") || request.has("group_norm.bias");
    let groups = if normed { Some(request.required::<usize>("groups")?) } else { None };
    if groups.is_some_and(|groups| groups == 0 || !c.is_multiple_of(groups)) {
        return Err(request.refuse("attribute groups", format!("a divisor of the {c} channels"), groups.unwrap_or(0)));
    }
    let scale_factor = factor(request, "rescale_output_factor")?;
    let mut layout = Layout::default();
    let block = AttentionBlock::new(&mut layout, "layer", c, c / heads, groups, eps(request)?, scale_factor);
    let w = request.parameters(&layout)?;
    let (y, cache) = block.forward(&w, x, true, &mut Trace::off());
    let y = channels_first(y);
    let dy = request.grad_output::<F>(y.shape())?;
    let mut results = vec![named("output", y)];
    if let Some(dy) = dy {
        let mut grads = ParameterVector::zeros(layout.count());
        let dy = channels_last(dy.into_dimensionality().expect("the output's four axes"));
        results.push(named("grad.x", channels_first(block.backward(&w, cache, dy, &mut grads))));
        results.extend(request.gradients(&layout, &grads));
    }
    Ok(results)
}

/// What a block's sum is divided by.
fn factor(request: &Request, name: &str) -> Result<f64> {
    let factor: f64 = request.attribute(name, 1.0)?;
    if factor.is_finite() && factor > 0.0 {
        return Ok(factor);
    }
    Err(request.refuse(&format!("attribute {name}"), "a positive number", factor))
}
