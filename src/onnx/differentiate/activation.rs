//! Activations: functions of one value, entry by entry, that networks put between their layers.
//!
//! Written from the node's output where that suffices: then ONNX Runtime may still fuse the forward node into the
//! convolution before it. Masks are made by `Clip`, see [`Tape::positive_mask`].

use super::tape::LARGE;
use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Celu", celu),
    ("Clip", clip),
    ("Elu", elu),
    ("Gelu", gelu),
    ("HardSigmoid", hard_sigmoid),
    ("HardSwish", hard_swish),
    ("LeakyRelu", leaky_relu),
    ("Mish", mish),
    ("PRelu", prelu),
    ("Relu", relu),
    ("Selu", selu),
    ("Shrink", shrink),
    ("Sigmoid", sigmoid),
    ("Softplus", softplus),
    ("Softsign", softsign),
    ("Swish", swish),
    ("Tanh", tanh),
    ("ThresholdedRelu", thresholded_relu),
];

/// `gradient` times `slope`, to the node's first input.
pub(super) fn times(tape: &mut Tape<'_>, node: &NodeProto, dy: &str, slope: &str) -> Result<(), OnnxError> {
    let gradient = tape.op("Mul", &[dy, slope]);
    let value = tape.input(node, 0)?;
    tape.add(value, gradient);
    Ok(())
}

/// Gradient 0 at 0, as in PyTorch.
fn relu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let mask = tape.positive_mask(&node.output[0]);
    times(tape, node, dy, &mask)
}

/// Gradient `alpha` at 0, as in PyTorch.
fn leaky_relu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let alpha = node.float("alpha", 0.01);
    let slope = if (0.0..=1.0).contains(&alpha) {
        // The output has the sign of the input (or is 0, and so is alpha).
        let large = tape.scale(&node.output[0], LARGE);
        tape.clamp(&large, Some(alpha), Some(1.0))
    } else {
        let mask = tape.positive_mask(tape.input(node, 0)?);
        let rise = tape.scale(&mask, 1.0 - alpha);
        tape.shift(&rise, alpha)
    };
    times(tape, node, dy, &slope)
}

/// As [`leaky_relu`] with one slope per entry, which may depend on the image too.
fn prelu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (value, slope) = (tape.input(node, 0)?, tape.input(node, 1)?);
    if tape.wants(value) {
        let mask = tape.positive_mask(value);
        let one = tape.builder().scalar(1.0);
        let rest = tape.op("Sub", &[&one, slope]);
        let rise = tape.op("Mul", &[&mask, &rest]);
        let slopes = tape.op("Add", &[&rise, slope]);
        times(tape, node, dy, &slopes)?;
    }
    if tape.wants(slope) {
        let negative = tape.clamp(value, None, Some(0.0));
        let gradient = tape.op("Mul", &[dy, &negative]);
        tape.give(node, 1, &gradient)?;
    }
    Ok(())
}

/// Gradient 1 inside the bounds and on them, as PyTorch's `clamp`; between 0 and 6 (ReLU6) 0 on them, as its `relu6`.
fn clip(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let y = &node.output[0];
    let bounds = [node.input_name(1), node.input_name(2)];
    if bounds.iter().flatten().any(|b| tape.wants(b)) {
        return Err(tape.unsupported(node, "a bound depends on the image; write it with Min and Max"));
    }
    let number = |b: Option<&str>| tape.facts().constant(b?)?.to_f32()?.first().copied();
    let mask = if bounds.map(number) == [Some(0.0), Some(6.0)] {
        inside(tape, y, 6.0, 1.0)
    } else {
        let unchanged = tape.op("Equal", &[tape.input(node, 0)?, y]);
        tape.as_float(&unchanged)
    };
    times(tape, node, dy, &mask)
}

/// `height` where `0 < value < top`, 0 on and beyond the bounds, for a value that never leaves them.
fn inside(tape: &mut Tape<'_>, value: &str, top: f32, height: f32) -> String {
    let top = tape.builder().scalar(top);
    let below = tape.op("Sub", &[&top, value]);
    let product = tape.op("Mul", &[value, &below]);
    let large = tape.scale(&product, LARGE);
    tape.clamp(&large, Some(0.0), Some(height))
}

/// Below 0 the slope is `y + alpha`.
fn elu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let alpha = node.float("alpha", 1.0);
    if alpha < 0.0 {
        return Err(tape.unsupported(node, "alpha is negative; only alpha ≥ 0 has a rule"));
    }
    let slope = exponential_slope(tape, &node.output[0], alpha, 1.0);
    times(tape, node, dy, &slope)
}

/// Below 0 the slope is `y + gamma · alpha`, above it `gamma`.
fn selu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (alpha, gamma) = (node.float("alpha", 1.673_263_2), node.float("gamma", 1.050_701));
    if alpha < 0.0 || gamma <= 0.0 {
        return Err(tape.unsupported(node, "only alpha ≥ 0 and gamma > 0 have a rule"));
    }
    let slope = exponential_slope(tape, &node.output[0], alpha * gamma, gamma);
    times(tape, node, dy, &slope)
}

/// `y + low` where `y ≤ 0` and `high` above, for an output `y` with the sign of its input.
fn exponential_slope(tape: &mut Tape<'_>, y: &str, low: f32, high: f32) -> String {
    let negative = tape.clamp(y, None, Some(0.0));
    let slope = tape.shift(&negative, low);
    if low.to_bits() == high.to_bits() {
        return slope;
    }
    let mask = tape.positive_mask(y);
    let rise = tape.scale(&mask, high - low);
    tape.op("Add", &[&slope, &rise])
}

/// Below 0 the slope is `y / alpha + 1`.
fn celu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let alpha = node.float("alpha", 1.0);
    let negative = tape.clamp(&node.output[0], None, Some(0.0));
    let scaled = tape.scale(&negative, 1.0 / alpha);
    let slope = tape.shift(&scaled, 1.0);
    times(tape, node, dy, &slope)
}

/// Gradient 0 at the threshold, as in PyTorch.
fn thresholded_relu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let alpha = node.float("alpha", 1.0);
    let mask = if alpha >= 0.0 {
        tape.positive_mask(&node.output[0])
    } else {
        let above = tape.shift(tape.input(node, 0)?, -alpha);
        tape.positive_mask(&above)
    };
    times(tape, node, dy, &mask)
}

/// Gradient 0 at the thresholds, as in PyTorch.
fn shrink(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let size = tape.op("Abs", &[tape.input(node, 0)?]);
    let above = tape.shift(&size, -node.float("lambd", 0.5));
    let mask = tape.positive_mask(&above);
    times(tape, node, dy, &mask)
}

fn sigmoid(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let y = &node.output[0];
    let one = tape.builder().scalar(1.0);
    let rest = tape.op("Sub", &[&one, y]);
    let slope = tape.op("Mul", &[y, &rest]);
    times(tape, node, dy, &slope)
}

fn tanh(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let slope = one_minus_square(tape, &node.output[0]);
    times(tape, node, dy, &slope)
}

fn one_minus_square(tape: &mut Tape<'_>, t: &str) -> String {
    let one = tape.builder().scalar(1.0);
    let square = tape.op("Mul", &[t, t]);
    tape.op("Sub", &[&one, &square])
}

/// `alpha` inside, 0 on the bounds, as in PyTorch.
fn hard_sigmoid(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let alpha = node.float("alpha", 0.2);
    let slope = inside(tape, &node.output[0], 1.0, alpha.abs());
    let slope = if alpha < 0.0 { tape.op("Neg", &[&slope]) } else { slope };
    times(tape, node, dy, &slope)
}

/// `y = x · h` with `h = clip(x/6 + 1/2, 0, 1)`: the slope is `h`, and `x/6` more where `h` is inside.
fn hard_swish(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let flags = vec![AttributeProto::float("alpha", 1.0 / 6.0), AttributeProto::float("beta", 0.5)];
    let gate = tape.node("HardSigmoid", &[value], flags);
    let rise = inside(tape, &gate, 1.0, 1.0 / 6.0);
    let more = tape.op("Mul", &[value, &rise]);
    let slope = tape.op("Add", &[&gate, &more]);
    times(tape, node, dy, &slope)
}

/// The slope of `softplus` is the sigmoid.
fn softplus(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let slope = tape.op("Sigmoid", &[tape.input(node, 0)?]);
    times(tape, node, dy, &slope)
}

/// `1 / (1 + |x|)²`.
fn softsign(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let size = tape.op("Abs", &[value]);
    let below = tape.shift(&size, 1.0);
    let square = tape.op("Mul", &[&below, &below]);
    let gradient = tape.op("Div", &[dy, &square]);
    tape.add(value, gradient);
    Ok(())
}

fn swish(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (value, alpha) = (tape.input(node, 0)?, node.float("alpha", 1.0));
    let slope = gated_slope(tape, value, &node.output[0], alpha);
    times(tape, node, dy, &slope)
}

/// The slope of `y = x · sigmoid(alpha · x)`.
pub(super) fn gated_slope(tape: &mut Tape<'_>, x: &str, y: &str, alpha: f32) -> String {
    let argument = if alpha == 1.0 { x.to_string() } else { tape.scale(x, alpha) };
    let gate = tape.op("Sigmoid", &[&argument]);
    swish_slope(tape, &gate, y, alpha)
}

/// `y = x · s` with `s = sigmoid(alpha · x)`: the slope is `s + alpha · y · (1 − s)`.
pub(super) fn swish_slope(tape: &mut Tape<'_>, gate: &str, y: &str, alpha: f32) -> String {
    let one = tape.builder().scalar(1.0);
    let rest = tape.op("Sub", &[&one, gate]);
    let mut more = tape.op("Mul", &[y, &rest]);
    if alpha != 1.0 {
        more = tape.scale(&more, alpha);
    }
    tape.op("Add", &[gate, &more])
}

/// `y = x · t` with `t = tanh(softplus(x))`: the slope is `t + x · sigmoid(x) · (1 − t²)`.
fn mish(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let plus = tape.op("Softplus", &[value]);
    let t = tape.op("Tanh", &[&plus]);
    let rest = one_minus_square(tape, &t);
    let gate = tape.op("Sigmoid", &[value]);
    let product = tape.op("Mul", &[value, &gate]);
    let more = tape.op("Mul", &[&product, &rest]);
    let slope = tape.op("Add", &[&t, &more]);
    times(tape, node, dy, &slope)
}

fn gelu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let slope = match node.string("approximate", "none").as_str() {
        "none" => gelu_slope(tape, value),
        "tanh" => gelu_tanh_slope(tape, value),
        other => return Err(tape.unsupported(node, format!("approximate = `{other}`, wanted `none` or `tanh`"))),
    };
    times(tape, node, dy, &slope)
}

/// `Φ(x) + x · φ(x)`.
pub(super) fn gelu_slope(tape: &mut Tape<'_>, x: &str) -> String {
    let scaled = tape.scale(x, std::f32::consts::FRAC_1_SQRT_2);
    let erf = tape.op("Erf", &[&scaled]);
    let half = tape.scale(&erf, 0.5);
    let below = tape.shift(&half, 0.5);
    // scaled² is x²/2.
    let square = tape.op("Mul", &[&scaled, &scaled]);
    let negative = tape.op("Neg", &[&square]);
    let bell = tape.op("Exp", &[&negative]);
    let density = tape.scale(&bell, 0.398_942_3); // 1 / sqrt(2π)
    let more = tape.op("Mul", &[x, &density]);
    tape.op("Add", &[&below, &more])
}

/// With `t = tanh(c · (x + 0.044715 x³))` and `c = sqrt(2/π)`: `(1 + t)/2 + x/2 · (1 − t²) · c · (1 + 3 · 0.044715 x²)`.
pub(super) fn gelu_tanh_slope(tape: &mut Tape<'_>, x: &str) -> String {
    const C: f32 = 0.797_884_6;
    const CUBE: f32 = 0.044_715;
    let square = tape.op("Mul", &[x, x]);
    let scaled = tape.scale(&square, C * CUBE);
    let factor = tape.shift(&scaled, C);
    let argument = tape.op("Mul", &[x, &factor]);
    let t = tape.op("Tanh", &[&argument]);
    let rest = one_minus_square(tape, &t);
    let steep = tape.scale(&square, 1.5 * C * CUBE);
    let steep = tape.shift(&steep, 0.5 * C);
    let steep = tape.op("Mul", &[x, &steep]);
    let more = tape.op("Mul", &[&rest, &steep]);
    let half = tape.scale(&t, 0.5);
    let below = tape.shift(&half, 0.5);
    tape.op("Add", &[&below, &more])
}
