//! Cutting off and padding: each is the other's gradient where nothing is copied.

use super::resizing::{AxisMatrix, along_axes};
use super::{Rule, Tape};
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;
use crate::onnx::proto::NodeProto;
use crate::onnx::shape::layout::{pads, slice_range, slices};

pub(super) const RULES: &[(&str, Rule)] = &[("Pad", pad), ("Slice", slice)];

/// Zeros where nothing was taken: between the entries for a step, around them for the bounds.
fn slice(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let shape = tape.shape(node, value)?;
    let inputs = tape.facts().inputs(node);
    let slices = slices(&inputs, shape.len())?;
    let slices = slices.ok_or_else(|| tape.unsupported(node, "starts, ends, axes and steps are not constant"))?;
    let output = tape.shape(node, &node.output[0])?;

    let mut stretched = output.to_vec();
    let (mut turned, mut strided) = (vec![], vec![]);
    let mut around = vec![[0, 0]; shape.len()];
    for (axis, [start, end, step]) in slices {
        if shape[axis] == output[axis] && step == 1 {
            continue;
        }
        let unknown = || tape.unsupported(node, format!("axis {axis} is cut and its size is not fixed"));
        let size = shape[axis].fixed().ok_or_else(unknown)?;
        let taken: Vec<usize> = slice_range(size, start, end, step).into_iter().flatten().collect();
        let (Some(first), count) = (taken.iter().min(), taken.len()) else {
            let zeros = tape.zeros_like(value);
            tape.add(value, zeros);
            return Ok(());
        };
        let stride = if count > 1 { taken[0].abs_diff(taken[1]) } else { 1 };
        if step < 0 && count > 1 {
            turned.push(axis as i64);
        }
        if stride > 1 {
            strided.push((axis, stride));
        }
        let length = count * stride;
        stretched[axis] = Dim::Fixed(length);
        around[axis] = [*first as i64, size as i64 - *first as i64 - length as i64];
    }
    let mut gradient = dy.to_string();
    if !turned.is_empty() {
        gradient = reverse(tape, &gradient, &turned);
    }
    if !strided.is_empty() {
        gradient = stretch(tape, node, &gradient, output.len(), &strided, &stretched)?;
    }
    if around.iter().any(|pads| *pads != [0, 0]) {
        gradient = zeros_around(tape, &gradient, &around);
    }
    tape.add(value, gradient);
    Ok(())
}

fn reverse(tape: &mut Tape<'_>, gradient: &str, axes: &[i64]) -> String {
    let lists = [vec![-1; axes.len()], vec![-i64::from(i32::MAX); axes.len()], axes.to_vec(), vec![-1; axes.len()]];
    let [starts, ends, axes, steps] = lists.map(|list| tape.builder().list(&list));
    tape.node("Slice", &[gradient, &starts, &ends, &axes, &steps], vec![])
}

/// Puts `stride - 1` zeros behind every entry of some axes: an axis of its own, padded, and merged.
fn stretch(
    tape: &mut Tape<'_>,
    node: &NodeProto,
    gradient: &str,
    rank: usize,
    strided: &[(usize, usize)],
    result: &[Dim],
) -> Result<String, OnnxError> {
    // Each new axis follows its own; those in front have moved it.
    let axes: Vec<i64> = strided.iter().map(|(axis, _)| *axis).fold(vec![], |mut axes: Vec<i64>, axis| {
        let before = strided.iter().filter(|(other, _)| *other < axis).count();
        axes.push((axis + 1 + before) as i64);
        axes
    });
    let list = tape.builder().list(&axes);
    let apart = tape.node("Unsqueeze", &[gradient, &list], vec![]);
    let mut around = vec![[0, 0]; rank + strided.len()];
    for (axis, (_, stride)) in axes.iter().zip(strided) {
        around[*axis as usize][1] = *stride as i64 - 1;
    }
    let padded = zeros_around(tape, &apart, &around);
    tape.reshape_to(node, &padded, result)
}

/// Zeros in front of and behind each axis; negative numbers cut off.
fn zeros_around(tape: &mut Tape<'_>, gradient: &str, around: &[[i64; 2]]) -> String {
    let list: Vec<i64> = [0, 1].into_iter().flat_map(|side| around.iter().map(move |pads| pads[side])).collect();
    let list = tape.builder().list(&list);
    tape.node("Pad", &[gradient, &list], vec![])
}

fn pad(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    if node.input_name(2).is_some_and(|fill| tape.wants(fill)) {
        return Err(tape.unsupported(node, "the padding depends on the image"));
    }
    let shape = tape.shape(node, value)?;
    let pads = pads(&tape.facts().inputs(node), shape.len())?;
    let pads = pads.ok_or_else(|| tape.unsupported(node, "the pads are not constant"))?;
    let mode = node.string("mode", "constant");
    let gradient = match mode.as_str() {
        "constant" if pads.iter().flatten().all(|p| *p >= 0) => cut(tape, node, dy, shape, &pads)?,
        "constant" => {
            let negative: Vec<[i64; 2]> = pads.iter().map(|[begin, end]| [-begin, -end]).collect();
            zeros_around(tape, dy, &negative)
        }
        "reflect" | "edge" | "wrap" => {
            let output = tape.shape(node, &node.output[0])?;
            let mut matrices = vec![];
            for (axis, [begin, end]) in pads.iter().enumerate().filter(|(_, pads)| **pads != [0, 0]) {
                let size = shape[axis].fixed().filter(|n| *n > 0);
                let size =
                    size.ok_or_else(|| tape.unsupported(node, format!("the size of axis {axis} is not fixed")))?;
                let sources = (-begin..size as i64 + end).map(|at| vec![(source(&mode, at, size as i64), 1.0)]);
                matrices.push(AxisMatrix::new(tape, node, axis, size, &sources.collect::<Vec<_>>())?);
            }
            along_axes(tape, node, dy, output, &matrices)?
        }
        other => return Err(tape.unsupported(node, format!("mode = {other}"))),
    };
    tape.add(value, gradient);
    Ok(())
}

/// The part without the padding.
fn cut(tape: &mut Tape<'_>, node: &NodeProto, dy: &str, shape: &[Dim], pads: &[[i64; 2]]) -> Result<String, OnnxError> {
    let (mut starts, mut ends, mut axes) = (vec![], vec![], vec![]);
    for (axis, [begin, _]) in pads.iter().enumerate().filter(|(_, pads)| **pads != [0, 0]) {
        let size = shape[axis].fixed();
        let size = size.ok_or_else(|| tape.unsupported(node, format!("the size of axis {axis} is not fixed")))?;
        starts.push(*begin);
        ends.push(begin + size as i64);
        axes.push(axis as i64);
    }
    if axes.is_empty() {
        return Ok(dy.to_string());
    }
    let [starts, ends, axes] = [starts, ends, axes].map(|list| tape.builder().list(&list));
    Ok(tape.node("Slice", &[dy, &starts, &ends, &axes], vec![]))
}

/// The entry that a padded position, counted from the first entry of the axis, is a copy of.
fn source(mode: &str, mut at: i64, size: i64) -> usize {
    let last = size - 1;
    match mode {
        "edge" => at = at.clamp(0, last),
        "wrap" => at = at.rem_euclid(size),
        _ if last == 0 => at = 0,
        _ => {
            while !(0..size).contains(&at) {
                at = if at < 0 { -at } else { 2 * last - at };
            }
        }
    }
    at as usize
}
