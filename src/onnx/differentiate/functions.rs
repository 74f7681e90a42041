//! Functions of one value, entry by entry, from the textbook.

use super::activation::times;
use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::NodeProto;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Abs", abs),
    ("Acos", acos),
    ("Acosh", acosh),
    ("Asin", asin),
    ("Asinh", asinh),
    ("Atan", atan),
    ("Atanh", atanh),
    ("Cos", cos),
    ("Cosh", cosh),
    ("Erf", erf),
    ("Exp", exp),
    ("Log", log),
    ("Neg", neg),
    ("Reciprocal", reciprocal),
    ("Sin", sin),
    ("Sinh", sinh),
    ("Sqrt", sqrt),
    ("Tan", tan),
];

/// `dy / below`, to the node's input.
fn over(tape: &mut Tape<'_>, node: &NodeProto, dy: &str, below: &str) -> Result<(), OnnxError> {
    let gradient = tape.op("Div", &[dy, below]);
    let value = tape.input(node, 0)?;
    tape.add(value, gradient);
    Ok(())
}

/// Gradient 0 at 0, as in PyTorch.
fn abs(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let sign = tape.op("Sign", &[tape.input(node, 0)?]);
    times(tape, node, dy, &sign)
}

fn neg(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let gradient = tape.op("Neg", &[dy]);
    let value = tape.input(node, 0)?;
    tape.add(value, gradient);
    Ok(())
}

fn exp(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    times(tape, node, dy, &node.output[0])
}

/// Infinite at 0, as in PyTorch; the attack reports it as a gradient that is not finite.
fn log(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    over(tape, node, dy, value)
}

/// `1 / 2y`. At 0 it is infinite; there `y` counts as the root of the smallest normal number, so that a norm made of
/// squares, a sum and a root has gradient 0 at 0 and not NaN.
fn sqrt(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let floored = tape.clamp(&node.output[0], Some(f32::MIN_POSITIVE.sqrt()), None);
    let half = tape.scale(dy, 0.5);
    over(tape, node, &half, &floored)
}

/// `−y²`.
fn reciprocal(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let y = &node.output[0];
    let once = tape.op("Mul", &[dy, y]);
    let twice = tape.op("Mul", &[&once, y]);
    neg(tape, node, &twice)
}

/// `2/√π · exp(−x²)`.
fn erf(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let square = tape.op("Mul", &[value, value]);
    let negative = tape.op("Neg", &[&square]);
    let bell = tape.op("Exp", &[&negative]);
    let slope = tape.scale(&bell, std::f32::consts::FRAC_2_SQRT_PI);
    times(tape, node, dy, &slope)
}

fn sin(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let slope = tape.op("Cos", &[tape.input(node, 0)?]);
    times(tape, node, dy, &slope)
}

fn cos(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let slope = tape.op("Sin", &[tape.input(node, 0)?]);
    let slope = tape.op("Neg", &[&slope]);
    times(tape, node, dy, &slope)
}

/// `1 + y²`.
fn tan(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let square = tape.op("Mul", &[&node.output[0], &node.output[0]]);
    let slope = tape.shift(&square, 1.0);
    times(tape, node, dy, &slope)
}

fn sinh(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let slope = tape.op("Cosh", &[tape.input(node, 0)?]);
    times(tape, node, dy, &slope)
}

fn cosh(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let slope = tape.op("Sinh", &[tape.input(node, 0)?]);
    times(tape, node, dy, &slope)
}

/// `x² + number`.
fn square_plus(tape: &mut Tape<'_>, node: &NodeProto, number: f32) -> Result<String, OnnxError> {
    let value = tape.input(node, 0)?;
    let square = tape.op("Mul", &[value, value]);
    Ok(tape.shift(&square, number))
}

/// `1 − x²`.
fn one_minus_square(tape: &mut Tape<'_>, node: &NodeProto) -> Result<String, OnnxError> {
    let value = tape.input(node, 0)?;
    let square = tape.op("Mul", &[value, value]);
    let one = tape.builder().scalar(1.0);
    Ok(tape.op("Sub", &[&one, &square]))
}

fn asin(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let square = one_minus_square(tape, node)?;
    let root = tape.op("Sqrt", &[&square]);
    over(tape, node, dy, &root)
}

fn acos(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let negative = tape.op("Neg", &[dy]);
    asin(tape, node, &negative)
}

fn atan(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let below = square_plus(tape, node, 1.0)?;
    over(tape, node, dy, &below)
}

fn asinh(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let square = square_plus(tape, node, 1.0)?;
    let root = tape.op("Sqrt", &[&square]);
    over(tape, node, dy, &root)
}

fn acosh(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let square = square_plus(tape, node, -1.0)?;
    let root = tape.op("Sqrt", &[&square]);
    over(tape, node, dy, &root)
}

fn atanh(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let below = one_minus_square(tape, node)?;
    over(tape, node, dy, &below)
}
