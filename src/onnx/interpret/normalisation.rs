//! Normalisations and softmax, by their definitions.

use super::reduction::{axis, over};
use super::{Call, Tensor};
use crate::onnx::file::OnnxError;

/// Those that have channels, which are axis 1.
const WITH_CHANNELS: &[&str] = &["BatchNormalization", "GroupNormalization", "InstanceNormalization", "LRN"];

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Vec<Tensor>>, OnnxError> {
    if WITH_CHANNELS.contains(&call.node.op_type.as_str()) {
        check_channels(call)?;
    }
    let one = |result: Result<Tensor, OnnxError>| result.map(|t| Some(vec![t]));
    match call.node.op_type.as_str() {
        "BatchNormalization" => one(batch(call)),
        "GroupNormalization" => one(group(call)),
        "InstanceNormalization" => one(instance(call)),
        "LayerNormalization" => layer(call, call.input(0)?, 1).map(Some),
        "LRN" => one(local_response(call)),
        "LpNormalization" => one(lp(call)),
        "MeanVarianceNormalization" => one(mean_variance(call)),
        "RMSNormalization" | "SimplifiedLayerNormalization" => root_mean_square(call, call.input(0)?, 1).map(Some),
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => skip(call).map(Some),
        "Softmax" | "LogSoftmax" | "Hardmax" => one(softmax(call)),
        _ => Ok(None),
    }
}

/// That the lists of parameters have an entry per channel (or group), and that there are channels.
fn check_channels(call: &Call<'_>) -> Result<(), OnnxError> {
    let x = call.input(0)?;
    let channels = x.shape.get(1).copied().ok_or_else(|| call.fail("wanted [n, c, ...]"))?;
    let groups = usize::try_from(call.node.int("num_groups", 1)).unwrap_or(0);
    let size = usize::try_from(call.node.int("size", 1)).unwrap_or(0);
    if groups == 0 || size == 0 || !channels.is_multiple_of(groups) || x.data.is_empty() {
        return Err(call.fail(format!("shape {:?} with {groups} groups and size {size}", x.shape)));
    }
    let per_group = call.node.op_type == "GroupNormalization" && call.opset < 21;
    let wanted = if per_group { groups } else { channels };
    let lists = (1..call.inputs.len()).filter_map(|i| call.optional(i));
    match lists.map(|t| t.data.len()).find(|n| *n != wanted) {
        Some(n) => Err(call.fail(format!("a parameter has {n} entries, wanted {wanted}"))),
        None => Ok(()),
    }
}

/// `a ∘ b`, or an error about the node.
fn with(call: &Call<'_>, a: &Tensor, b: &Tensor, f: impl Fn(f64, f64) -> f64) -> Result<Tensor, OnnxError> {
    a.zip(b, f).ok_or_else(|| call.fail(format!("shapes {:?} and {:?} do not broadcast", a.shape, b.shape)))
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A list over the channels as something that broadcasts against `[n, c, ...]`.
fn per_channel(list: &Tensor, rank: usize) -> Tensor {
    let mut shape = vec![1; rank];
    shape[1] = list.data.len();
    Tensor { shape, data: list.data.clone() }
}

/// `(x − mean) / sqrt(variance + epsilon)` over `axes`, with the mean and the factor.
fn standardise(
    call: &Call<'_>,
    x: &Tensor,
    axes: &[usize],
    epsilon: f64,
) -> Result<(Tensor, Tensor, Tensor), OnnxError> {
    let mean = over(x, axes, average);
    let centred = with(call, x, &mean, |a, m| a - m)?;
    let factor = over(&centred.map(|v| v * v), axes, average).map(|v| 1.0 / (v + epsilon).sqrt());
    Ok((with(call, &centred, &factor, |a, f| a * f)?, mean, factor))
}

fn batch(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let x = call.input(0)?;
    let [scale, bias, mean, variance] = [call.input(1)?, call.input(2)?, call.input(3)?, call.input(4)?];
    let epsilon = f64::from(call.node.float("epsilon", 1e-5));
    let plane: usize = x.shape[2..].iter().product();
    let mut y = x.clone();
    for (i, v) in y.data.iter_mut().enumerate() {
        let c = i / plane % x.shape[1];
        *v = (*v - mean.data[c]) / (variance.data[c] + epsilon).sqrt() * scale.data[c] + bias.data[c];
    }
    Ok(y)
}

fn instance(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let x = call.input(0)?;
    let axes: Vec<usize> = (2..x.shape.len()).collect();
    let (y, ..) = standardise(call, x, &axes, f64::from(call.node.float("epsilon", 1e-5)))?;
    let scaled = with(call, &y, &per_channel(call.input(1)?, x.shape.len()), |a, s| a * s)?;
    with(call, &scaled, &per_channel(call.input(2)?, x.shape.len()), |a, b| a + b)
}

/// Scale and bias have one entry per group in set 18 and one per channel from set 21 on.
fn group(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (x, scale, bias) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let groups = call.node.int("num_groups", 1) as usize;
    let grouped =
        Tensor { shape: vec![x.shape[0], groups, x.data.len() / (x.shape[0] * groups)], data: x.data.clone() };
    let (mut y, ..) = standardise(call, &grouped, &[2], f64::from(call.node.float("epsilon", 1e-5)))?;
    y.shape.clone_from(&x.shape);
    let (channels, plane) = (x.shape[1], x.shape[2..].iter().product::<usize>());
    let per_entry = if call.opset < 21 { channels / groups } else { 1 };
    for (i, v) in y.data.iter_mut().enumerate() {
        let at = i / plane % channels / per_entry;
        *v = *v * scale.data[at] + bias.data[at];
    }
    Ok(y)
}

/// Over all axes from `axis` on; scale and bias are inputs `at` and `at + 1`.
fn layer(call: &Call<'_>, x: &Tensor, at: usize) -> Result<Vec<Tensor>, OnnxError> {
    let axes: Vec<usize> = (axis(call.node.int("axis", -1), x.shape.len())..x.shape.len()).collect();
    let (y, mean, factor) = standardise(call, x, &axes, f64::from(call.node.float("epsilon", 1e-5)))?;
    let mut y = with(call, &y, call.input(at)?, |a, s| a * s)?;
    if let Some(bias) = call.optional(at + 1) {
        y = with(call, &y, bias, |a, b| a + b)?;
    }
    Ok(vec![y, mean, factor])
}

fn root_mean_square(call: &Call<'_>, x: &Tensor, at: usize) -> Result<Vec<Tensor>, OnnxError> {
    let axes: Vec<usize> = (axis(call.node.int("axis", -1), x.shape.len())..x.shape.len()).collect();
    let epsilon = f64::from(call.node.float("epsilon", 1e-5));
    let factor = over(&x.map(|v| v * v), &axes, average).map(|v| 1.0 / (v + epsilon).sqrt());
    let y = with(call, x, &factor, |a, f| a * f)?;
    Ok(vec![with(call, &y, call.input(at)?, |a, s| a * s)?, factor])
}

/// ONNX Runtime's fused residual: the sum of two values (and a bias) is normalised, and is the fourth output.
fn skip(call: &Call<'_>) -> Result<Vec<Tensor>, OnnxError> {
    let simplified = call.node.op_type == "SkipSimplifiedLayerNormalization";
    let mut sum = with(call, call.input(0)?, call.input(1)?, |a, b| a + b)?;
    if let Some(bias) = call.optional(if simplified { 3 } else { 4 }) {
        sum = with(call, &sum, bias, |a, b| a + b)?;
    }
    let mut results = if simplified { root_mean_square(call, &sum, 2)? } else { layer(call, &sum, 2)? };
    results.resize(3, Tensor::zeros(&[0]));
    results.push(sum);
    Ok(results)
}

/// `x / (bias + alpha / size · Σ x²)^beta`, the sum over `size` neighbouring channels.
fn local_response(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let x = call.input(0)?;
    let float = |name: &str, default: f32| f64::from(call.node.float(name, default));
    let (alpha, beta, bias) = (float("alpha", 1e-4), float("beta", 0.75), float("bias", 1.0));
    let size = call.node.int("size", 1) as usize;
    let (before, after) = ((size - 1) / 2, size / 2);
    let (channels, plane) = (x.shape[1], x.shape[2..].iter().product::<usize>());
    let mut y = x.clone();
    for (i, v) in y.data.iter_mut().enumerate() {
        let (image, c, at) = (i / plane / channels, i / plane % channels, i % plane);
        let near = c.saturating_sub(before)..(c + after + 1).min(channels);
        let sum: f64 = near.map(|c| x.data[(image * channels + c) * plane + at].powi(2)).sum();
        *v /= (bias + alpha / size as f64 * sum).powf(beta);
    }
    Ok(y)
}

fn lp(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let x = call.input(0)?;
    let axes = [axis(call.node.int("axis", -1), x.shape.len())];
    let norm = match call.node.int("p", 2) {
        1 => over(x, &axes, |v| v.iter().map(|x| x.abs()).sum()),
        _ => over(x, &axes, |v| v.iter().map(|x| x * x).sum::<f64>().sqrt()),
    };
    with(call, x, &norm, |a, n| if n == 0.0 { 0.0 } else { a / n })
}

fn mean_variance(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let x = call.input(0)?;
    let axes = call.node.ints("axes").unwrap_or(&[0, 2, 3]);
    let axes: Vec<usize> = axes.iter().map(|a| axis(*a, x.shape.len())).collect();
    let centred = with(call, x, &over(x, &axes, average), |a, m| a - m)?;
    let deviation = over(&centred.map(|v| v * v), &axes, average).map(f64::sqrt);
    with(call, &centred, &deviation, |a, d| a / (d + 1e-9))
}

/// Before set 13 the value counted as a matrix: all axes from `axis` on are one.
fn softmax(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let x = call.input(0)?;
    let rank = x.shape.len();
    let axes: Vec<usize> = match call.opset {
        ..13 => (axis(call.node.int("axis", 1), rank)..rank).collect(),
        _ => vec![axis(call.node.int("axis", -1), rank)],
    };
    let largest = over(x, &axes, |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    if call.node.op_type == "Hardmax" {
        return with(call, x, &largest, |a, m| f64::from(a == m));
    }
    // The largest is taken off, so that no power overflows.
    let x = with(call, x, &largest, |a, m| a - m)?;
    let sum = over(&x.map(f64::exp), &axes, |v| v.iter().sum());
    match call.node.op_type.as_str() {
        "Softmax" => with(call, &x, &sum, |a, s| a.exp() / s),
        _ => with(call, &x, &sum, |a, s| a - s.ln()),
    }
}
