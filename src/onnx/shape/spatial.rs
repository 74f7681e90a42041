//! Shapes of convolutions, poolings and resizing.

use super::{Inputs, Shapes, fixed, symbol};
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;
use crate::onnx::resize::{self, Request};
use crate::onnx::window::Window;

pub(super) fn shapes(inputs: &Inputs<'_>) -> Result<Shapes, OnnxError> {
    let node = inputs.node;
    let Some(first) = inputs.shape(0) else { return Ok(None) };
    match node.op_type.as_str() {
        "Conv" | "FusedConv" => convolution(inputs, first),
        "ConvTranspose" => transposed(inputs, first),
        "MaxPool" | "AveragePool" | "LpPool" => {
            let Some(kernel) = node.ints("kernel_shape") else { return Err(inputs.fail("kernel_shape is missing")) };
            let Some(([_, channels], spatial)) = split(first) else { return Err(inputs.fail("wanted [n, c, ...]")) };
            let kernel = positive(inputs, "kernel_shape", kernel)?;
            let Some(spatial) = spatial else { return Ok(None) };
            let window = Window::of(node, &spatial, &kernel)?;
            let shape = batched(&first[0], channels.clone(), &window.output);
            Ok(Some(vec![shape; node.output.len().max(1)]))
        }
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => {
            let pooled = |(axis, d): (usize, &Dim)| if axis < 2 { d.clone() } else { Dim::Fixed(1) };
            Ok(Some(vec![first.iter().enumerate().map(pooled).collect()]))
        }
        "DepthToSpace" | "SpaceToDepth" => blocks(inputs, first),
        "Resize" => {
            let request = request(inputs);
            Ok(resize::output_shape(node, first, &request)?.map(|shape| vec![shape]))
        }
        _ => Ok(None),
    }
}

/// The constant inputs of a `Resize` node.
pub(crate) fn request(inputs: &Inputs<'_>) -> Request {
    let floats = |i: usize| inputs.constant(i).and_then(|t| t.to_f32());
    Request { roi: floats(1), scales: floats(2), sizes: inputs.sizes(3) }
}

/// `[n, c]` and the spatial sizes, if those are fixed.
fn split(shape: &[Dim]) -> Option<([&Dim; 2], Option<Vec<usize>>)> {
    let [batch, channels, spatial @ ..] = shape else { return None };
    Some(([batch, channels], fixed(spatial)))
}

fn batched(batch: &Dim, channels: Dim, spatial: &[usize]) -> Vec<Dim> {
    [batch.clone(), channels].into_iter().chain(spatial.iter().map(|d| Dim::Fixed(*d))).collect()
}

fn positive(inputs: &Inputs<'_>, name: &str, values: &[i64]) -> Result<Vec<usize>, OnnxError> {
    let sizes = values.iter().map(|v| usize::try_from(*v).ok().filter(|v| *v > 0)).collect::<Option<_>>();
    sizes.ok_or_else(|| inputs.fail(format!("{name} = {values:?}")))
}

fn group(inputs: &Inputs<'_>) -> Result<usize, OnnxError> {
    let group = inputs.node.int("group", 1);
    usize::try_from(group).ok().filter(|g| *g > 0).ok_or_else(|| inputs.fail(format!("group = {group}")))
}

fn convolution(inputs: &Inputs<'_>, first: &[Dim]) -> Result<Shapes, OnnxError> {
    let Some(weight) = inputs.shape(1) else { return Ok(None) };
    let (Some(([batch, channels], spatial)), [out, per_group, kernel @ ..]) = (split(first), weight) else {
        return Err(inputs.fail("wanted an image [n, c, ...] and weights [m, c/group, ...]"));
    };
    let group = group(inputs)?;
    if let (Dim::Fixed(c), Dim::Fixed(i)) = (channels, per_group)
        && Some(*c) != i.checked_mul(group)
    {
        return Err(inputs.fail(format!("weights for {i} times {group} channels, the image has {c}")));
    }
    if out.fixed().is_some_and(|m| !m.is_multiple_of(group)) {
        return Err(inputs.fail(format!("{out} output channels in {group} groups")));
    }
    let (Some(spatial), Some(kernel)) = (spatial, fixed(kernel)) else { return Ok(None) };
    let window = Window::of(inputs.node, &spatial, &kernel)?;
    Ok(Some(vec![batched(batch, out.clone(), &window.output)]))
}

fn transposed(inputs: &Inputs<'_>, first: &[Dim]) -> Result<Shapes, OnnxError> {
    let Some(weight) = inputs.shape(1) else { return Ok(None) };
    let (Some(([batch, channels], spatial)), [inner, per_group, kernel @ ..]) = (split(first), weight) else {
        return Err(inputs.fail("wanted an image [n, c, ...] and weights [c, m/group, ...]"));
    };
    let group = group(inputs)?;
    if let (Dim::Fixed(c), Dim::Fixed(w)) = (channels, inner)
        && (c != w || !c.is_multiple_of(group))
    {
        return Err(inputs.fail(format!("weights for {w} channels in {group} groups, the image has {c}")));
    }
    let (Some(spatial), Some(kernel)) = (spatial, fixed(kernel)) else { return Ok(None) };
    let window = Window::transposed(inputs.node, &spatial, &kernel)?;
    let out = symbol::product([per_group, &Dim::Fixed(group)]);
    Ok(out.map(|out| vec![batched(batch, out, &window.input)]))
}

fn blocks(inputs: &Inputs<'_>, first: &[Dim]) -> Result<Shapes, OnnxError> {
    let size = inputs.node.int("blocksize", 0);
    let block = usize::try_from(size).ok().filter(|b| (1..=1 << 16).contains(b));
    let block = Dim::Fixed(block.ok_or_else(|| inputs.fail(format!("blocksize = {size}")))?);
    let [n, c, h, w] = first else { return Err(inputs.fail("wanted [n, c, h, w]")) };
    let shape = if inputs.node.op_type == "DepthToSpace" {
        let c = symbol::quotient(c, &block).and_then(|c| symbol::quotient(&c, &block));
        c.zip(symbol::product([h, &block])).zip(symbol::product([w, &block]))
    } else {
        let c = symbol::product([c, &block, &block]);
        c.zip(symbol::quotient(h, &block)).zip(symbol::quotient(w, &block))
    };
    let fail = || inputs.fail(format!("blocks of {block} do not fit {}", super::show(first)));
    match shape {
        Some(((c, h), w)) => Ok(Some(vec![vec![n.clone(), c, h, w]])),
        None if fixed(&first[1..]).is_some() => Err(fail()),
        None => Ok(None),
    }
}
