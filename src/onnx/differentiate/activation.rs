//! Functions of one value, entry by entry.

use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto, data_type};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Abs", abs),
    ("Clip", clip),
    ("Exp", exp),
    ("LeakyRelu", leaky_relu),
    ("Log", log),
    ("Neg", neg),
    ("Relu", relu),
    ("Sigmoid", sigmoid),
    ("Sqrt", sqrt),
    ("Tanh", tanh),
];

/// `gradient` times `slope`, to the node's first input.
fn times(tape: &mut Tape<'_>, node: &NodeProto, dy: &str, slope: &str) -> Result<(), OnnxError> {
    let gradient = tape.node("Mul", &[dy, slope], vec![]);
    let value = tape.input(node, 0)?;
    tape.add(value, gradient);
    Ok(())
}

/// Gradient 0 at 0, as in PyTorch.
fn relu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let mask = tape.positive_mask(&node.output[0]);
    times(tape, node, dy, &mask)
}

fn leaky_relu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let alpha = node.float("alpha", 0.01);
    let mask = tape.positive_mask(tape.input(node, 0)?);
    let rise = tape.scale(&mask, 1.0 - alpha);
    let floor = tape.builder().scalar(alpha);
    let slope = tape.node("Add", &[&rise, &floor], vec![]);
    times(tape, node, dy, &slope)
}

/// Gradient 1 inside the bounds and on them, as in PyTorch.
fn clip(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let mut gradient = dy.to_string();
    for (i, comparison) in [(1, "GreaterOrEqual"), (2, "LessOrEqual")] {
        let Some(bound) = node.input_name(i) else { continue };
        if tape.wants(bound) {
            return Err(tape.unsupported(node, "a bound depends on the image"));
        }
        let inside = tape.node(comparison, &[value, bound], vec![]);
        let mask = tape.node("Cast", &[&inside], vec![AttributeProto::int("to", data_type::FLOAT.into())]);
        gradient = tape.node("Mul", &[&gradient, &mask], vec![]);
    }
    tape.add(value, gradient);
    Ok(())
}

fn sigmoid(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let y = &node.output[0];
    let one = tape.builder().scalar(1.0);
    let rest = tape.node("Sub", &[&one, y], vec![]);
    let slope = tape.node("Mul", &[y, &rest], vec![]);
    times(tape, node, dy, &slope)
}

fn tanh(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let y = &node.output[0];
    let one = tape.builder().scalar(1.0);
    let square = tape.node("Mul", &[y, y], vec![]);
    let slope = tape.node("Sub", &[&one, &square], vec![]);
    times(tape, node, dy, &slope)
}

fn exp(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    times(tape, node, dy, &node.output[0])
}

fn log(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let gradient = tape.node("Div", &[dy, value], vec![]);
    tape.add(value, gradient);
    Ok(())
}

/// Infinite at 0, as in PyTorch; the attack reports it as a gradient that is not finite.
fn sqrt(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let half = tape.scale(dy, 0.5);
    let gradient = tape.node("Div", &[&half, &node.output[0]], vec![]);
    let value = tape.input(node, 0)?;
    tape.add(value, gradient);
    Ok(())
}

fn neg(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let gradient = tape.node("Neg", &[dy], vec![]);
    let value = tape.input(node, 0)?;
    tape.add(value, gradient);
    Ok(())
}

fn abs(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let sign = tape.node("Sign", &[value], vec![]);
    times(tape, node, dy, &sign)
}
