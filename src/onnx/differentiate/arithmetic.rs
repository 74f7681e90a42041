//! Arithmetic and choices between values, with broadcasting.

use super::activation::swish_slope;
use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::NodeProto;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Add", sum),
    ("Div", div),
    ("Max", extreme),
    ("Mean", mean),
    ("Min", extreme),
    ("Mul", mul),
    ("Pow", pow),
    ("Sub", sub),
    ("Sum", sum),
    ("Where", choice),
];

fn sum(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    (0..node.input.len()).try_for_each(|i| tape.give(node, i, dy))
}

fn mean(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let share = tape.scale(dy, 1.0 / node.input.len() as f32);
    sum(tape, node, &share)
}

fn sub(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    tape.give(node, 0, dy)?;
    if tape.wants(tape.input(node, 1)?) {
        let negative = tape.op("Neg", &[dy]);
        tape.give(node, 1, &negative)?;
    }
    Ok(())
}

fn mul(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (left, right) = (tape.input(node, 0)?, tape.input(node, 1)?);
    if left == right {
        let twice = tape.scale(left, 2.0);
        let gradient = tape.op("Mul", &[dy, &twice]);
        return tape.give(node, 0, &gradient);
    }
    for (value, gate) in [(left, right), (right, left)] {
        // SiLU, as exporters write it: one slope instead of two products and a sum.
        if tape.sole_maker(gate, "Sigmoid").is_some_and(|sigmoid| sigmoid.input_name(0) == Some(value)) {
            let slope = swish_slope(tape, gate, &node.output[0], 1.0);
            let gradient = tape.op("Mul", &[dy, &slope]);
            tape.add(value, gradient);
            return Ok(());
        }
    }
    for (i, other) in [(0, right), (1, left)] {
        if tape.wants(tape.input(node, i)?) {
            let gradient = tape.op("Mul", &[dy, other]);
            tape.give(node, i, &gradient)?;
        }
    }
    Ok(())
}

fn div(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let below = tape.input(node, 1)?;
    let quotient = tape.op("Div", &[dy, below]);
    tape.give(node, 0, &quotient)?;
    if tape.wants(below) {
        // d(a/b)/db = −(a/b)/b, and a/b is the node's own output.
        let product = tape.op("Mul", &[&quotient, &node.output[0]]);
        let negative = tape.op("Neg", &[&product]);
        tape.give(node, 1, &negative)?;
    }
    Ok(())
}

/// `p · x^(p−1)` for the base and `y · ln x` for the exponent, which is 0 at `x = 0`, as in PyTorch. The base's
/// gradient is infinite at 0 for `p < 1`; the attack reports it as a gradient that is not finite.
fn pow(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (base, exponent) = (tape.input(node, 0)?, tape.input(node, 1)?);
    if tape.wants(base) {
        let slope = power_slope(tape, base, exponent);
        let gradient = tape.op("Mul", &[dy, &slope]);
        tape.give(node, 0, &gradient)?;
    }
    if tape.wants(exponent) {
        let (zero, one) = (tape.builder().scalar(0.0), tape.builder().scalar(1.0));
        let none = tape.op("Equal", &[base, &zero]);
        let safe = tape.op("Where", &[&none, &one, base]);
        let log = tape.op("Log", &[&safe]);
        let slope = tape.op("Mul", &[&node.output[0], &log]);
        let gradient = tape.op("Mul", &[dy, &slope]);
        tape.give(node, 1, &gradient)?;
    }
    Ok(())
}

fn power_slope(tape: &mut Tape<'_>, base: &str, exponent: &str) -> String {
    if let Some(tensor) = tape.facts().constant(exponent)
        && let Some(powers) = tensor.to_f32().or_else(|| Some(tensor.to_i64()?.iter().map(|p| *p as f32).collect()))
    {
        return constant_power_slope(tape, base, &tensor.shape(), &powers);
    }
    let exponent = tape.op("CastLike", &[exponent, base]);
    let (zero, one) = (tape.builder().scalar(0.0), tape.builder().scalar(1.0));
    let less = tape.op("Sub", &[&exponent, &one]);
    let power = tape.op("Pow", &[base, &less]);
    let slope = tape.op("Mul", &[&power, &exponent]);
    // x⁰ is constant, also at 0, where the product is 0 · ∞.
    let flat = tape.op("Equal", &[&exponent, &zero]);
    tape.op("Where", &[&flat, &zero, &slope])
}

/// The exponent may be an integer tensor; the slope is written with floats.
fn constant_power_slope(tape: &mut Tape<'_>, base: &str, dims: &[usize], powers: &[f32]) -> String {
    if powers == [2.0] {
        return tape.scale(base, 2.0);
    }
    // x⁰ is constant; an exponent of 1 in place of −1 keeps 0 · ∞ away.
    let less: Vec<f32> = powers.iter().map(|p| if *p == 0.0 { 1.0 } else { p - 1.0 }).collect();
    let (less, factor) = match (&less[..], powers) {
        ([less], [p]) => (tape.builder().scalar(*less), tape.builder().scalar(*p)),
        _ => {
            let less = tape.builder().constant("grad_pow_exponent", dims, &less);
            (less, tape.builder().constant("grad_pow_factor", dims, powers))
        }
    };
    let power = tape.op("Pow", &[base, &less]);
    tape.op("Mul", &[&power, &factor])
}

/// Of `Max` and `Min`: to the input that was chosen, in equal parts if there are several, as in PyTorch.
fn extreme(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let mut masks = vec![];
    for value in &node.input {
        let chosen = tape.op("Equal", &[value, &node.output[0]]);
        masks.push(tape.as_float(&chosen));
    }
    let count = masks[1..].iter().fold(masks[0].clone(), |sum, mask| tape.op("Add", &[&sum, mask]));
    let share = tape.op("Div", &[dy, &count]);
    for (i, mask) in masks.iter().enumerate() {
        if tape.wants(tape.input(node, i)?) {
            let gradient = tape.op("Mul", &[&share, mask]);
            tape.give(node, i, &gradient)?;
        }
    }
    Ok(())
}

/// To the value that was chosen. The condition carries no gradient.
fn choice(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let condition = tape.input(node, 0)?;
    for i in [1, 2] {
        if tape.wants(tape.input(node, i)?) {
            let zero = tape.builder().scalar(0.0);
            let inputs = if i == 1 { [condition, dy, &zero] } else { [condition, &zero, dy] };
            let gradient = tape.op("Where", &inputs);
            tape.give(node, i, &gradient)?;
        }
    }
    Ok(())
}
