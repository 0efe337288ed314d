//! Convolutions and transposed convolutions of any strides, dilations and groups, made of the layer that networks have.
//!
//! That layer has one stride for both axes, no dilation and no groups. The others follow from it:
//!
//! - A dilated kernel is a larger one, with zeros between its taps.
//! - Strides that differ are stride 1, and of its output every so manyth row and column.
//! - Groups are convolutions side by side, each of its own run of channels.
//! - A transposed convolution is the adjoint of a convolution C with the same weight, which PyTorch stores as (inputs, outputs, kh,
//!   kw): y = Cᵀx + b. So dx = C dy, and the weight's gradient is that of C with x and dy exchanged.

use ndarray::{Array4, ArrayD, ArrayView4, Axis, Ix4, concatenate, s};
use serde::Deserialize;

use super::request::{channels_first, channels_last};
use super::{Request, Results, named};
use crate::Result;
use crate::golden::precision::Precision;
use crate::layers::conv2d::{Cache, Conv2d};
use crate::layers::im2col::Window;
use crate::layers::{Layout, ParameterVector, flat, shaped};
use crate::numerics::sum::plain_column_sums;

/// The largest stride, dilation or padding that is taken: pictures are smaller.
const MOST: usize = 1 << 12;

/// How a window lies on an image.
struct Geometry {
    kernel: (usize, usize),
    stride: [usize; 2],
    padding: [usize; 4],
    dilation: [usize; 2],
    groups: usize,
}

impl Geometry {
    /// That of a case, whose weight has this shape; `c` is the axis of the weight that groups divide, by its name.
    fn new(request: &Request, weight: &[usize], c: usize, name: &str) -> Result<Self> {
        let groups: usize = request.attribute("groups", 1)?;
        if groups == 0 || !c.is_multiple_of(groups) {
            return Err(request.refuse("attribute groups", format!("a divisor of the {c} {name}"), groups));
        }
        Ok(Geometry {
            kernel: (weight[2], weight[3]),
            stride: numbers(request, "stride", 1, 1)?,
            padding: numbers(request, "padding", 0, 0)?,
            dilation: numbers(request, "dilation", 1, 1)?,
            groups,
        })
    }

    /// The kernel with the zeros between its taps.
    fn spread(&self) -> (usize, usize) {
        let of = |kernel: usize, dilation: usize| (kernel.saturating_sub(1)) * dilation + kernel.min(1);
        (of(self.kernel.0, self.dilation[0]), of(self.kernel.1, self.dilation[1]))
    }

    /// The window of the layer, and the output's rows and columns that are kept: every so manyth.
    fn window(&self) -> Result<(Window, [usize; 2])> {
        let [vertical, horizontal] = self.stride;
        let (stride, every) = if vertical == horizontal { (vertical, [1, 1]) } else { (1, self.stride) };
        Ok((Window::new(self.spread(), stride, self.padding)?, every))
    }
}

/// One number for all, or N of them.
fn numbers<const N: usize>(request: &Request, name: &str, default: usize, least: usize) -> Result<[usize; N]> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Numbers {
        Same(usize),
        Each(Vec<usize>),
    }
    let place = format!("attribute {name}");
    let numbers = match request.attribute(name, Numbers::Same(default))? {
        Numbers::Same(number) => [number; N],
        Numbers::Each(list) => <[usize; N]>::try_from(list)
            .map_err(|list| request.refuse(&place, format!("a number, or {N} of them"), format!("{list:?}")))?,
    };
    match numbers.iter().find(|number| !(least..=MOST).contains(number)) {
        Some(number) => Err(request.refuse(&place, format!("{least} to {MOST}"), number)),
        None => Ok(numbers),
    }
}

/// The convolution of one group.
struct Group<F> {
    layer: Conv2d,
    layout: Layout,
    w: ParameterVector<F>,
    window: Window,
    every: [usize; 2],
    dilation: [usize; 2],
}

/// What its backward pass needs: the layer's cache, and the output's rows and columns before some were left out.
struct Seen<F: Precision>(Cache<F>, (usize, usize));

impl<F: Precision> Group<F> {
    /// With a weight (outputs, inputs, kh, kw), and a bias.
    fn new(geometry: &Geometry, weight: ArrayView4<F>, bias: Option<&[F]>) -> Result<Self> {
        let ((outputs, inputs, ..), (height, width), dilation) = (weight.dim(), geometry.spread(), geometry.dilation);
        let (window, every) = geometry.window()?;
        let mut spread = Array4::zeros((outputs, inputs, height, width));
        spread.slice_mut(s![.., .., ..;dilation[0], ..;dilation[1]]).assign(&weight);
        let mut layout = Layout::default();
        let layer = Conv2d::new(&mut layout, "layer", inputs, outputs, window);
        let mut w = ParameterVector::zeros(layout.count());
        let [of_weight, of_bias] = &layout.entries[..] else { unreachable!("a convolution has a weight and a bias") };
        w[of_weight.span].copy_from_slice(&of_weight.axes.from_file(flat(&spread)));
        if let Some(bias) = bias {
            w[of_bias.span].copy_from_slice(bias);
        }
        Ok(Group { layer, layout, w, window, every, dilation })
    }

    fn forward(&self, x: Array4<F>) -> (Array4<F>, Seen<F>) {
        let whole = self.window.output((x.dim().1, x.dim().2));
        let (y, cache) = self.layer.forward(&self.w, x);
        let kept = y.slice(s![.., ..;self.every[0], ..;self.every[1], ..]).as_standard_layout().into_owned();
        (kept, Seen(cache, whole))
    }

    /// dx, and the gradient of the weight (outputs, inputs, kh, kw).
    fn backward(&self, Seen(cache, (height, width)): Seen<F>, dy: Array4<F>) -> (Array4<F>, Array4<F>) {
        let (n, .., outputs) = dy.dim();
        let mut whole = Array4::zeros((n, height, width, outputs));
        whole.slice_mut(s![.., ..;self.every[0], ..;self.every[1], ..]).assign(&dy);
        let mut grads = ParameterVector::zeros(self.layout.count());
        let dx = self.layer.backward(&self.w, cache, whole, &mut grads);
        let of_weight = &self.layout.entries[0];
        let spread = shaped(ndarray::IxDyn(&of_weight.axes.shape()), of_weight.axes.to_file(&grads[of_weight.span]));
        let spread = spread.into_dimensionality::<Ix4>().expect("a weight's four axes");
        let [vertical, horizontal] = self.dilation;
        let dw = spread.slice(s![.., .., ..;vertical, ..;horizontal]).as_standard_layout().into_owned();
        (dx, dw)
    }
}

/// The channels of a group, of images with channels last.
fn channels<F: Precision>(x: &Array4<F>, group: usize, groups: usize) -> Array4<F> {
    let of_group = x.dim().3 / groups;
    x.slice(s![.., .., .., group * of_group..(group + 1) * of_group]).as_standard_layout().into_owned()
}

/// The parts of groups joined along an axis.
fn joined<F: Precision>(parts: &[Array4<F>], axis: usize) -> Array4<F> {
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    concatenate(Axis(axis), &views).expect("parts of one shape but for this axis").as_standard_layout().into_owned()
}

/// The bias, where there is one: a number for each of the output's channels.
fn bias<F: Precision>(request: &Request, channels: usize) -> Result<Option<ArrayD<F>>> {
    let bias = if request.has("bias") { Some(request.array::<F>("bias")?) } else { None };
    if let Some(bias) = &bias {
        request.check_shape("input.bias", &[channels], bias.shape())?;
    }
    Ok(bias)
}

fn bias_gradient<F: Precision>(dy: &Array4<F>) -> ArrayD<F> {
    let mut totals = vec![0.0; dy.dim().3];
    plain_column_sums(flat(dy), &mut totals);
    ArrayD::from_shape_vec(vec![totals.len()], totals.into_iter().map(F::from_f64).collect()).expect("a row")
}

/// The results of a backward pass. Of a group's layer, its channels of dy and its place, `backward` makes the gradients of its
/// channels of x and of its weights.
fn gradients<F: Precision, L>(
    dy: ArrayD<F>,
    layers: Vec<L>,
    has_bias: bool,
    backward: impl Fn(L, Array4<F>, usize) -> (Array4<F>, Array4<F>),
) -> Results<F> {
    let (dy, groups) = (channels_last(dy.into_dimensionality().expect("the output's four axes")), layers.len());
    let of_groups = layers.into_iter().enumerate();
    let of_groups = of_groups.map(|(group, layer)| backward(layer, channels(&dy, group, groups), group));
    let (dx, dw): (Vec<_>, Vec<_>) = of_groups.unzip();
    let mut results =
        vec![named("grad.x", channels_first(joined(&dx, 3))), named("grad.weight", joined(&dw, 0).into_dyn())];
    results.extend(has_bias.then(|| named("grad.bias", bias_gradient(&dy))));
    results
}

pub fn conv2d<F: Precision>(request: &Request) -> Result<Results<F>> {
    let x = request.images::<F>("x")?;
    let weight = request.shaped::<F, Ix4>("weight", "(c_out, c_in / groups, kh, kw)")?;
    let ((n, h, w, c_in), (c_out, _, kh, kw)) = (x.dim(), weight.dim());
    let geometry = Geometry::new(request, weight.shape(), c_out, "output channels")?;
    let groups = geometry.groups;
    if !c_in.is_multiple_of(groups) {
        return Err(request.refuse("attribute groups", format!("a divisor of the {c_in} input channels"), groups));
    }
    request.check_shape("input.weight", &[c_out, c_in / groups, kh, kw], weight.shape())?;
    let bias = bias::<F>(request, c_out)?;
    let ((window, every), [left, right, top, bottom]) = (geometry.window()?, geometry.padding);
    let (padded, (high, wide)) = ((h + top + bottom, w + left + right), window.kernel());
    if padded.0 < high || padded.1 < wide {
        let expected = format!("a padded image of at least the kernel's {high} x {wide} pixels");
        return Err(request.refuse("input.x", expected, format!("{} x {}", padded.0, padded.1)));
    }
    let (oh, ow) = window.output((h, w));
    request.check_size("the padded image", &[n, padded.0, padded.1, c_in.max(c_out)])?;
    request.check_size("the kernel", &[c_out, c_in / groups, high, wide])?;
    request.check_work("the convolution", &[n, oh, ow, high, wide, c_in / groups, c_out])?;
    let part = weight.view().into_dimensionality::<Ix4>().expect("four axes");
    let (mut y, mut seen) = (Vec::new(), Vec::new());
    for (group, weight) in part.axis_chunks_iter(Axis(0), c_out / groups).enumerate() {
        let bias = bias.as_ref().map(|bias| &flat(bias)[group * (c_out / groups)..][..c_out / groups]);
        let layer = Group::new(&geometry, weight, bias)?;
        let (of_group, cache) = layer.forward(channels(&x, group, groups));
        y.push(of_group);
        seen.push((layer, cache));
    }
    let y = channels_first(joined(&y, 3));
    debug_assert_eq!(y.shape(), [n, c_out, oh.div_ceil(every[0]), ow.div_ceil(every[1])]);
    let dy = request.grad_output::<F>(y.shape())?;
    let mut results = vec![named("output", y)];
    if let Some(dy) = dy {
        results.extend(gradients(dy, seen, bias.is_some(), |(layer, cache), dy, _| layer.backward(cache, dy)));
    }
    Ok(results)
}

pub fn conv_transpose2d<F: Precision>(request: &Request) -> Result<Results<F>> {
    let x = request.images::<F>("x")?;
    let weight = request.shaped::<F, Ix4>("weight", "(c_in, c_out / groups, kh, kw)")?;
    let ((n, h, w, c_in), (_, of_group, kh, kw)) = (x.dim(), weight.dim());
    let geometry = Geometry::new(request, weight.shape(), c_in, "input channels")?;
    let (groups, [left, right, top, bottom]) = (geometry.groups, geometry.padding);
    let c_out = of_group.saturating_mul(groups);
    request.check_shape("input.weight", &[c_in, of_group, kh, kw], weight.shape())?;
    let bias = bias::<F>(request, c_out)?;
    let rest: [usize; 2] = numbers(request, "output_padding", 0, 0)?;
    if rest.iter().zip(geometry.stride).any(|(rest, stride)| *rest >= stride) {
        return Err(request.refuse("attribute output_padding", "less than the stride", format!("{rest:?}")));
    }
    let ((window, _), [vertical, horizontal]) = (geometry.window()?, geometry.stride);
    let (high, wide) = window.kernel();
    let size = |pixels: usize, stride: usize, kernel: usize, rest: usize, padding: usize| {
        ((pixels - 1) * stride + kernel + rest).checked_sub(padding).filter(|size| *size > 0)
    };
    let (Some(oh), Some(ow)) =
        (size(h, vertical, high, rest[0], top + bottom), size(w, horizontal, wide, rest[1], left + right))
    else {
        let found = format!("{:?} of {h} x {w} pixels and a kernel of {high} x {wide}", geometry.padding);
        return Err(request.refuse("attribute padding", "less than the size of the output without it", found));
    };
    request.check_size("output", &[n, oh + top + bottom, ow + left + right, c_out.max(c_in)])?;
    request.check_size("the kernel", &[c_in, of_group, high, wide])?;
    request.check_work("the convolution", &[n, oh, ow, high, wide, c_in, of_group])?;
    let mut layers = Vec::new();
    for weight in weight.axis_chunks_iter(Axis(0), c_in / groups) {
        layers.push(Group::new(&geometry, weight, None)?);
    }
    // The gradient of a convolution does not ask which image was seen.
    let adjoint = |(group, layer): (usize, &Group<F>)| {
        let (_, seen) = layer.forward(Array4::zeros((n, oh, ow, of_group)));
        layer.backward(seen, channels(&x, group, groups)).0
    };
    let mut y = joined(&layers.iter().enumerate().map(adjoint).collect::<Vec<_>>(), 3);
    if let Some(bias) = &bias {
        y.lanes_mut(Axis(3)).into_iter().for_each(|mut pixel| pixel.iter_mut().zip(bias).for_each(|(y, &b)| *y += b));
    }
    let y = channels_first(y);
    let dy = request.grad_output::<F>(y.shape())?;
    let mut results = vec![named("output", y)];
    if let Some(dy) = dy {
        results.extend(gradients(dy, layers, bias.is_some(), |layer, dy, group| {
            let (dx, seen) = layer.forward(dy);
            (dx, layer.backward(seen, channels(&x, group, groups)).1)
        }));
    }
    Ok(results)
}
