//! Sums, means and norms over axes.

use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::NodeProto;

pub(super) const RULES: &[(&str, Rule)] = &[("ReduceL2", l2), ("ReduceMean", mean), ("ReduceSum", sum)];

fn sum(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let kept = keep_axes(tape, node, dy)?;
    let gradient = tape.expand_like(&kept, value);
    tape.add(value, gradient);
    Ok(())
}

fn mean(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let shape = tape.shape(node, value)?;
    let axes = axes_of(tape, node)?;
    let count = axes.iter().map(|a| shape.get(*a).and_then(|d| d.fixed())).product::<Option<usize>>();
    let count = count.ok_or_else(|| tape.unsupported(node, "a reduced axis has no fixed size"))?;
    let kept = keep_axes(tape, node, dy)?;
    let share = tape.scale(&kept, 1.0 / count as f32);
    let gradient = tape.expand_like(&share, value);
    tape.add(value, gradient);
    Ok(())
}

/// `d‖x‖/dx = x / ‖x‖`, and 0 at 0. The floor is the smallest normal number.
fn l2(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let norm = keep_axes(tape, node, &node.output[0])?;
    let kept = keep_axes(tape, node, dy)?;
    let floor = tape.builder().scalar(f32::MIN_POSITIVE);
    let norm = tape.node("Max", &[&norm, &floor], vec![]);
    let direction = tape.node("Div", &[value, &norm], vec![]);
    let gradient = tape.node("Mul", &[&direction, &kept], vec![]);
    tape.add(value, gradient);
    Ok(())
}

fn axes_of(tape: &Tape<'_>, node: &NodeProto) -> Result<Vec<usize>, OnnxError> {
    let rank = tape.shape(node, tape.input(node, 0)?)?.len();
    tape.facts().axes(node, rank).ok_or_else(|| tape.unsupported(node, "the axes are not constant"))
}

/// `reduced` with its reduced axes as ones.
fn keep_axes(tape: &mut Tape<'_>, node: &NodeProto, reduced: &str) -> Result<String, OnnxError> {
    if node.int("keepdims", 1) != 0 {
        return Ok(reduced.to_string());
    }
    let axes: Vec<i64> = axes_of(tape, node)?.into_iter().map(|a| a as i64).collect();
    let axes = tape.builder().list(&axes);
    Ok(tape.node("Unsqueeze", &[reduced, &axes], vec![]))
}
