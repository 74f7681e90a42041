//! Two-operand arithmetic with broadcasting.

use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::NodeProto;

pub(super) const RULES: &[(&str, Rule)] = &[("Add", add), ("Div", div), ("Mul", mul), ("Pow", pow), ("Sub", sub)];

fn add(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    for i in 0..2 {
        give(tape, node, i, dy)?;
    }
    Ok(())
}

fn sub(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    give(tape, node, 0, dy)?;
    if tape.wants(tape.input(node, 1)?) {
        let negative = tape.node("Neg", &[dy], vec![]);
        give(tape, node, 1, &negative)?;
    }
    Ok(())
}

fn mul(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    for (i, other) in [(0, 1), (1, 0)] {
        if tape.wants(tape.input(node, i)?) {
            let other = tape.input(node, other)?;
            let gradient = tape.node("Mul", &[dy, other], vec![]);
            give(tape, node, i, &gradient)?;
        }
    }
    Ok(())
}

fn div(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (above, below) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let quotient = tape.node("Div", &[dy, below], vec![]);
    if tape.wants(above) {
        give(tape, node, 0, &quotient)?;
    }
    if tape.wants(below) {
        // d(a/b)/db = −(a/b)/b, and a/b is the node's own output.
        let product = tape.node("Mul", &[&quotient, &node.output[0]], vec![]);
        let negative = tape.node("Neg", &[&product], vec![]);
        give(tape, node, 1, &negative)?;
    }
    Ok(())
}

/// `x^p` with a constant exponent.
fn pow(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (base, exponent) = (tape.input(node, 0)?, tape.input(node, 1)?);
    if tape.wants(exponent) {
        return Err(tape.unsupported(node, "the exponent depends on the image; only constant exponents have a rule"));
    }
    let one = tape.builder().scalar(1.0);
    let less = tape.node("Sub", &[exponent, &one], vec![]);
    let power = tape.node("Pow", &[base, &less], vec![]);
    let slope = tape.node("Mul", &[&power, exponent], vec![]);
    let gradient = tape.node("Mul", &[dy, &slope], vec![]);
    give(tape, node, 0, &gradient)
}

/// Adds `gradient`, of the output's shape, to input `i`.
fn give(tape: &mut Tape<'_>, node: &NodeProto, i: usize, gradient: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, i)?;
    if tape.wants(value) {
        let gradient = tape.unbroadcast(node, gradient, value)?;
        tape.add(value, gradient);
    }
    Ok(())
}
