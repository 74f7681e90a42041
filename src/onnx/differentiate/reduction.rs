//! Sums, means, extremes and norms over axes.

use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("ReduceL1", l1),
    ("ReduceL2", l2),
    ("ReduceLogSum", log_sum),
    ("ReduceLogSumExp", log_sum_exp),
    ("ReduceMax", extreme),
    ("ReduceMean", mean),
    ("ReduceMin", extreme),
    ("ReduceProd", product),
    ("ReduceSum", sum),
    ("ReduceSumSquare", sum_square),
];

/// A reduction seen from behind: its input, and the gradient of its output with the reduced axes as ones.
struct Reduced<'n> {
    value: &'n str,
    axes: Vec<i64>,
    dy: String,
}

impl<'n> Reduced<'n> {
    fn of(tape: &mut Tape<'_>, node: &'n NodeProto, dy: &str) -> Result<Self, OnnxError> {
        let value = tape.input(node, 0)?;
        let rank = tape.shape(node, value)?.len();
        let axes = tape.facts().axes(node, rank).ok_or_else(|| tape.unsupported(node, "the axes are not constant"))?;
        let axes: Vec<i64> = axes.into_iter().map(|a| a as i64).collect();
        let dy = keep_axes(tape, node, &axes, dy);
        Ok(Self { value, axes, dy })
    }

    /// The node's output with the reduced axes as ones.
    fn output(&self, tape: &mut Tape<'_>, node: &NodeProto) -> String {
        keep_axes(tape, node, &self.axes, &node.output[0])
    }

    /// A reduction over the same axes, which stay as ones.
    fn again(&self, tape: &mut Tape<'_>, op: &str, value: &str) -> String {
        over_axes(tape, op, value, &self.axes)
    }

    /// `slope` times the output's gradient, to the input.
    fn times(&self, tape: &mut Tape<'_>, slope: &str) {
        let gradient = tape.op("Mul", &[slope, &self.dy]);
        tape.add(self.value, gradient);
    }

    /// The output's gradient, repeated, to the input.
    fn spread(&self, tape: &mut Tape<'_>, dy: &str) {
        let gradient = tape.expand_like(dy, self.value);
        tape.add(self.value, gradient);
    }
}

/// A reduction that keeps its axes as ones.
pub(super) fn over_axes(tape: &mut Tape<'_>, op: &str, value: &str, axes: &[i64]) -> String {
    if axes.is_empty() {
        // An empty list would mean all axes.
        return value.to_string();
    }
    let axes = tape.builder().list(axes);
    tape.node(op, &[value, &axes], vec![AttributeProto::int("keepdims", 1)])
}

/// `reduced` with its reduced axes as ones.
fn keep_axes(tape: &mut Tape<'_>, node: &NodeProto, axes: &[i64], reduced: &str) -> String {
    if node.int("keepdims", 1) != 0 || axes.is_empty() {
        return reduced.to_string();
    }
    let axes = tape.builder().list(axes);
    tape.op("Unsqueeze", &[reduced, &axes])
}

fn sum(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let reduced = Reduced::of(tape, node, dy)?;
    reduced.spread(tape, &reduced.dy);
    Ok(())
}

fn mean(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let reduced = Reduced::of(tape, node, dy)?;
    let shape = tape.shape(node, reduced.value)?;
    let count = reduced.axes.iter().map(|a| shape.get(*a as usize).and_then(|d| d.fixed())).product::<Option<usize>>();
    let count = count.ok_or_else(|| tape.unsupported(node, "a reduced axis has no fixed size"))?;
    let share = tape.scale(&reduced.dy, 1.0 / count as f32);
    reduced.spread(tape, &share);
    Ok(())
}

/// Gradient 0 at 0, as in PyTorch.
fn l1(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let reduced = Reduced::of(tape, node, dy)?;
    let sign = tape.op("Sign", &[reduced.value]);
    reduced.times(tape, &sign);
    Ok(())
}

/// `d‖x‖/dx = x / ‖x‖`, and 0 at 0. The floor is the smallest normal number.
fn l2(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let reduced = Reduced::of(tape, node, dy)?;
    let norm = reduced.output(tape, node);
    let norm = tape.clamp(&norm, Some(f32::MIN_POSITIVE), None);
    let direction = tape.op("Div", &[reduced.value, &norm]);
    reduced.times(tape, &direction);
    Ok(())
}

fn sum_square(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let reduced = Reduced::of(tape, node, dy)?;
    let slope = tape.scale(reduced.value, 2.0);
    reduced.times(tape, &slope);
    Ok(())
}

/// The sum is the exponential of the output.
fn log_sum(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let reduced = Reduced::of(tape, node, dy)?;
    let y = reduced.output(tape, node);
    let total = tape.op("Exp", &[&y]);
    let share = tape.op("Div", &[&reduced.dy, &total]);
    reduced.spread(tape, &share);
    Ok(())
}

/// The softmax, `exp(x − y)`.
fn log_sum_exp(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let reduced = Reduced::of(tape, node, dy)?;
    let y = reduced.output(tape, node);
    let difference = tape.op("Sub", &[reduced.value, &y]);
    let softmax = tape.op("Exp", &[&difference]);
    reduced.times(tape, &softmax);
    Ok(())
}

/// To the largest (smallest) entry, in equal parts if there are several, as PyTorch's `amax`.
fn extreme(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let mut reduced = Reduced::of(tape, node, dy)?;
    let y = reduced.output(tape, node);
    let chosen = tape.op("Equal", &[reduced.value, &y]);
    let mask = tape.as_float(&chosen);
    let count = reduced.again(tape, "ReduceSum", &mask);
    reduced.dy = tape.op("Div", &[&reduced.dy, &count]);
    reduced.times(tape, &mask);
    Ok(())
}

/// The product of the others: `y / x`, and where `x` is the only 0 the product of all that are not 0.
fn product(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let reduced = Reduced::of(tape, node, dy)?;
    let (zero, one) = (tape.builder().scalar(0.0), tape.builder().scalar(1.0));
    let is_zero = tape.op("Equal", &[reduced.value, &zero]);
    let filled = tape.op("Where", &[&is_zero, &one, reduced.value]);
    let rest = reduced.again(tape, "ReduceProd", &filled);
    let mask = tape.as_float(&is_zero);
    let zeros = reduced.again(tape, "ReduceSum", &mask);
    // Zeros among the others: all of them, less the entry itself. With none, the product of the others is
    // `rest / filled`, and `filled` is 1 at a zero.
    let others = tape.op("Sub", &[&zeros, &mask]);
    let alone = tape.op("Equal", &[&others, &zero]);
    let quotient = tape.op("Div", &[&rest, &filled]);
    let slope = tape.op("Where", &[&alone, &quotient, &zero]);
    reduced.times(tape, &slope);
    Ok(())
}
