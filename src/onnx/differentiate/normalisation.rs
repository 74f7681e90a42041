//! Normalisations and softmax.
//!
//! For `x̂ = (x − mean) · r` with `r = 1 / sqrt(variance + epsilon)` over some axes, the gradient of a loss whose
//! gradient by `x̂` is `g` is `r · (g − mean(g) − x̂ · mean(g · x̂))` (Ioffe and Szegedy 2015, arXiv:1502.03167,
//! section 3, put together). Without the mean (RMS), `mean(g)` falls away.

use super::reduction::over_axes;
use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::NodeProto;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("BatchNormalization", batch),
    ("GroupNormalization", group),
    ("InstanceNormalization", instance),
    ("LRN", local_response),
    ("LayerNormalization", layer),
    ("LogSoftmax", log_softmax),
    ("LpNormalization", lp),
    ("MeanVarianceNormalization", mean_variance),
    ("RMSNormalization", root_mean_square),
    ("SimplifiedLayerNormalization", root_mean_square),
    ("Softmax", softmax),
];

fn mul(tape: &mut Tape<'_>, a: &str, b: &str) -> String {
    tape.op("Mul", &[a, b])
}

/// `x̂` and `r` of the module's formula, recomputed.
pub(super) fn standardised(tape: &mut Tape<'_>, x: &str, axes: &[i64], epsilon: f32) -> (String, String) {
    let mean = over_axes(tape, "ReduceMean", x, axes);
    let centred = tape.op("Sub", &[x, &mean]);
    scaled(tape, &centred, axes, epsilon)
}

/// `x · r` and `r = 1 / sqrt(mean(x²) + epsilon)`.
pub(super) fn scaled(tape: &mut Tape<'_>, x: &str, axes: &[i64], epsilon: f32) -> (String, String) {
    let square = mul(tape, x, x);
    let power = over_axes(tape, "ReduceMean", &square, axes);
    let floored = tape.shift(&power, epsilon);
    let deviation = tape.op("Sqrt", &[&floored]);
    let r = tape.op("Reciprocal", &[&deviation]);
    (mul(tape, x, &r), r)
}

/// The module's formula.
fn through(tape: &mut Tape<'_>, g: &str, (x_hat, r): (&str, &str), axes: &[i64], centred: bool) -> String {
    let product = mul(tape, g, x_hat);
    let share = over_axes(tape, "ReduceMean", &product, axes);
    let along = mul(tape, x_hat, &share);
    let mut rest = tape.op("Sub", &[g, &along]);
    if centred {
        let mean = over_axes(tape, "ReduceMean", g, axes);
        rest = tape.op("Sub", &[&rest, &mean]);
    }
    mul(tape, &rest, r)
}

/// A constant parameter, input `i`.
fn parameter<'n>(tape: &Tape<'_>, node: &'n NodeProto, i: usize) -> Result<&'n str, OnnxError> {
    let name = tape.input(node, i)?;
    if tape.wants(name) {
        return Err(tape.unsupported(node, format!("`{name}` depends on the image; parameters must be constant")));
    }
    Ok(name)
}

/// A list over channels as something that broadcasts against `[n, c, ...]` with `rank` axes.
fn per_channel(tape: &mut Tape<'_>, list: &str, rank: usize) -> String {
    let shape: Vec<i64> = (1..rank).map(|a| if a == 1 { -1 } else { 1 }).collect();
    let shape = tape.builder().list(&shape);
    tape.op("Reshape", &[list, &shape])
}

/// At inference a factor per channel: `scale / sqrt(variance + epsilon)`. Behind a convolution that nobody else reads,
/// the factor moves into the weights of the convolution's own backward pass and costs nothing.
fn batch(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    if node.int("training_mode", 0) != 0 {
        return Err(tape.unsupported(node, "training_mode = 1; export the model for inference"));
    }
    let (scale, variance) = (parameter(tape, node, 1)?, parameter(tape, node, 4)?);
    let rank = tape.shape(node, value)?.len();
    let numbers = |name: &str| tape.facts().constant(name).and_then(|t| t.to_f32());
    let factor = match (numbers(scale), numbers(variance)) {
        (Some(scale), Some(variance)) => {
            let epsilon = f64::from(node.float("epsilon", 1e-5));
            let one = |(s, v): (&f32, &f32)| (f64::from(*s) / (f64::from(*v) + epsilon).sqrt()) as f32;
            let factor: Vec<f32> = scale.iter().zip(&variance).map(one).collect();
            if let Some(conv) = tape.sole_maker(value, "Conv")
                && conv.input_name(1).is_some_and(|w| tape.facts().constant(w).is_some())
            {
                tape.postpone_factor(value, factor);
                tape.add(value, dy.to_string());
                return Ok(());
            }
            let mut dims = vec![1; rank];
            if let Some(channels) = dims.get_mut(1) {
                *channels = factor.len();
            }
            tape.builder().constant("grad_batch_norm_factor", &dims, &factor)
        }
        _ => {
            let floored = tape.shift(variance, node.float("epsilon", 1e-5));
            let deviation = tape.op("Sqrt", &[&floored]);
            let factor = tape.op("Div", &[scale, &deviation]);
            per_channel(tape, &factor, rank)
        }
    };
    let gradient = mul(tape, dy, &factor);
    tape.add(value, gradient);
    Ok(())
}

fn instance(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (value, scale) = (tape.input(node, 0)?, parameter(tape, node, 1)?);
    parameter(tape, node, 2)?;
    let rank = tape.shape(node, value)?.len();
    let axes: Vec<i64> = (2..rank as i64).collect();
    let scale = per_channel(tape, scale, rank);
    let g = mul(tape, dy, &scale);
    let (x_hat, r) = standardised(tape, value, &axes, node.float("epsilon", 1e-5));
    let gradient = through(tape, &g, (&x_hat, &r), &axes, true);
    tape.add(value, gradient);
    Ok(())
}

/// As `[n, groups, rest]`. Set 18 has one scale per group, set 21 one per channel.
fn group(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (value, scale) = (tape.input(node, 0)?, parameter(tape, node, 1)?);
    parameter(tape, node, 2)?;
    let groups = node.int("num_groups", 1);
    let rank = tape.shape(node, value)?.len();
    let count = tape.shape(node, scale)?.first().and_then(|d| d.fixed());
    let channels = tape.shape(node, value)?.get(1).and_then(|d| d.fixed());
    let (Some(count), Some(channels)) = (count, channels) else {
        return Err(tape.unsupported(node, "the number of channels is not fixed"));
    };
    let grouped = tape.builder().list(&[0, groups, -1]);
    let g = if count == channels {
        let scale = per_channel(tape, scale, rank);
        let g = mul(tape, dy, &scale);
        tape.op("Reshape", &[&g, &grouped])
    } else {
        let scale = per_channel(tape, scale, 3);
        let g = tape.op("Reshape", &[dy, &grouped]);
        mul(tape, &g, &scale)
    };
    let x = tape.op("Reshape", &[value, &grouped]);
    let (x_hat, r) = standardised(tape, &x, &[2], node.float("epsilon", 1e-5));
    let gradient = through(tape, &g, (&x_hat, &r), &[2], true);
    let gradient = tape.reshape_like(&gradient, value);
    tape.add(value, gradient);
    Ok(())
}

/// The axes from the node's `axis` on.
fn trailing_axes(tape: &Tape<'_>, node: &NodeProto, value: &str) -> Result<Vec<i64>, OnnxError> {
    let rank = tape.shape(node, value)?.len() as i64;
    let axis = node.int("axis", -1);
    let axis = if axis < 0 { axis + rank } else { axis };
    if !(0..rank).contains(&axis) {
        return Err(tape.unsupported(node, format!("axis {axis} of a value with {rank} axes")));
    }
    Ok((axis..rank).collect())
}

/// The forward node tells its mean and factor in two more outputs.
fn layer(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let axes = trailing_axes(tape, node, value)?;
    let mean = tape.extra_output(node, 1, "layer_norm_mean");
    let r = tape.extra_output(node, 2, "layer_norm_factor");
    let centred = tape.op("Sub", &[value, &mean]);
    let x_hat = mul(tape, &centred, &r);
    let gradient = layer_core(tape, node, dy, (&x_hat, &r), &axes, (1, true))?;
    tape.add(value, gradient);
    Ok(())
}

fn root_mean_square(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let axes = trailing_axes(tape, node, value)?;
    let (x_hat, r) = scaled(tape, value, &axes, node.float("epsilon", 1e-5));
    let gradient = layer_core(tape, node, dy, (&x_hat, &r), &axes, (1, false))?;
    tape.add(value, gradient);
    Ok(())
}

/// The gradient of what was normalised; the scale is input `at`, and a bias may follow it.
pub(super) fn layer_core(
    tape: &mut Tape<'_>,
    node: &NodeProto,
    dy: &str,
    standard: (&str, &str),
    axes: &[i64],
    (at, centred): (usize, bool),
) -> Result<String, OnnxError> {
    let scale = parameter(tape, node, at)?;
    if centred && node.input_name(at + 1).is_some() {
        parameter(tape, node, at + 1)?;
    }
    let g = mul(tape, dy, scale);
    Ok(through(tape, &g, standard, axes, centred))
}

/// `y = x / s^beta` with `s = bias + alpha / size · (sum of x² over neighbouring channels)`. The sums are convolutions
/// of one pixel with a band of ones from channel to channel.
fn local_response(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let shape = tape.shape(node, value)?;
    let Some(channels) = shape.get(1).and_then(|d| d.fixed()) else {
        return Err(tape.unsupported(node, "the number of channels is not fixed"));
    };
    if channels > 1 << 12 {
        return Err(tape.unsupported(node, format!("{channels} channels; no rule for more than 4096")));
    }
    let size = usize::try_from(node.int("size", 0)).ok().filter(|s| *s > 0);
    let size = size.ok_or_else(|| tape.unsupported(node, "size must be at least 1"))?;
    let (alpha, beta, bias) = (node.float("alpha", 1e-4), node.float("beta", 0.75), node.float("bias", 1.0));
    let (before, after) = ((size - 1) / 2, size / 2);
    // band[i][j]: channel j is one of channel i's neighbours.
    let near = |i: usize, j: usize| j + before >= i && j <= i + after;
    let dims: Vec<usize> = [channels, channels].into_iter().chain(vec![1; shape.len() - 2]).collect();
    let band = |height: f32, turned: bool| -> Vec<f32> {
        let entry = |k: usize| if turned { near(k % channels, k / channels) } else { near(k / channels, k % channels) };
        (0..channels * channels).map(|k| if entry(k) { height } else { 0.0 }).collect()
    };
    let gather = tape.builder().constant("grad_lrn_gather", &dims, &band(alpha / size as f32, false));
    let height = 2.0 * alpha * beta / size as f32;
    let scatter = tape.builder().constant("grad_lrn_scatter", &dims, &band(height, true));
    let bias = tape.builder().constant("grad_lrn_bias", &[channels], &vec![bias; channels]);

    let square = mul(tape, value, value);
    let s = tape.op("Conv", &[&square, &gather, &bias]);
    let exponent = tape.builder().scalar(-beta);
    let factor = tape.op("Pow", &[&s, &exponent]);
    let direct = mul(tape, dy, &factor);
    let product = mul(tape, dy, &node.output[0]);
    let quotient = tape.op("Div", &[&product, &s]);
    let spread = tape.op("Conv", &[&quotient, &scatter]);
    let indirect = mul(tape, value, &spread);
    let gradient = tape.op("Sub", &[&direct, &indirect]);
    tape.add(value, gradient);
    Ok(())
}

/// `(dy − y · Σ dy·y) / ‖x‖` for the Euclidean norm, with the sign of `x` in place of the first `y` for the sum of
/// absolute values. At 0 the norm counts as 1e-12.
fn lp(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (value, y) = (tape.input(node, 0)?, &node.output[0]);
    let axes = [node.int("axis", -1)];
    let (op, direction) = match node.int("p", 2) {
        1 => ("ReduceL1", tape.op("Sign", &[value])),
        2 => ("ReduceL2", y.clone()),
        p => return Err(tape.unsupported(node, format!("p = {p}, wanted 1 or 2"))),
    };
    let norm = over_axes(tape, op, value, &axes);
    let norm = tape.clamp(&norm, Some(1e-12), None);
    let product = mul(tape, dy, y);
    let along = over_axes(tape, "ReduceSum", &product, &axes);
    let along = mul(tape, &direction, &along);
    let across = tape.op("Sub", &[dy, &along]);
    let gradient = tape.op("Div", &[&across, &norm]);
    tape.add(value, gradient);
    Ok(())
}

/// The module's formula with the standard deviation plus 1e-9 for `1/r`. Over the batch axis it is refused: one image's
/// embedding would depend on its neighbours.
fn mean_variance(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (value, y) = (tape.input(node, 0)?, &node.output[0]);
    let shape = tape.shape(node, value)?;
    let rank = shape.len() as i64;
    let axes: Vec<i64> = node.ints("axes").unwrap_or(&[0, 2, 3]).iter().map(|a| a.rem_euclid(rank.max(1))).collect();
    if axes.contains(&0) && shape.first().and_then(|d| d.fixed()) != Some(1) {
        let reason = "it normalises over the batch axis, so that an embedding depends on the other images in its batch";
        return Err(tape.unsupported(node, reason));
    }
    let mean = over_axes(tape, "ReduceMean", value, &axes);
    let centred = tape.op("Sub", &[value, &mean]);
    let square = mul(tape, &centred, &centred);
    let variance = over_axes(tape, "ReduceMean", &square, &axes);
    let deviation = tape.op("Sqrt", &[&variance]);
    let deviation = tape.shift(&deviation, 1e-9);
    let r = tape.op("Reciprocal", &[&deviation]);
    let gradient = through(tape, dy, (y, &r), &axes, true);
    tape.add(value, gradient);
    Ok(())
}

/// `y · (dy − Σ dy·y)`.
fn softmax(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (value, y) = (tape.input(node, 0)?, &node.output[0]);
    let product = mul(tape, dy, y);
    let sum = over_axes(tape, "ReduceSum", &product, &[node.int("axis", -1)]);
    let rest = tape.op("Sub", &[dy, &sum]);
    let gradient = mul(tape, y, &rest);
    tape.add(value, gradient);
    Ok(())
}

/// `dy − exp(y) · Σ dy`.
fn log_softmax(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let sum = over_axes(tape, "ReduceSum", dy, &[node.int("axis", -1)]);
    let shares = tape.op("Exp", &[&node.output[0]]);
    let along = mul(tape, &shares, &sum);
    let gradient = tape.op("Sub", &[dy, &along]);
    tape.add(value, gradient);
    Ok(())
}
