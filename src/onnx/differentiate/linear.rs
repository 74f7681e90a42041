//! Matrix products and Einstein sums; either operand, or both, may depend on the image.

use std::collections::HashMap;

use super::{Rule, Tape};
use crate::onnx::access::Dim;
use crate::onnx::equation::Equation;
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto};

pub(super) const RULES: &[(&str, Rule)] = &[("Einsum", einsum), ("Gemm", gemm), ("MatMul", matmul)];

/// `y = alpha · A' B' + beta · C`, where `'` may turn a matrix.
fn gemm(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (a, b) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let [trans_a, trans_b] = ["transA", "transB"].map(|name| i64::from(node.int(name, 0) != 0));
    let alpha = AttributeProto::float("alpha", node.float("alpha", 1.0));
    let flags =
        |a: i64, b: i64| vec![alpha.clone(), AttributeProto::int("transA", a), AttributeProto::int("transB", b)];
    if tape.wants(a) {
        let gradient = match trans_a {
            0 => tape.node("Gemm", &[dy, b], flags(0, 1 - trans_b)),
            _ => tape.node("Gemm", &[b, dy], flags(trans_b, 1)),
        };
        tape.add(a, gradient);
    }
    if tape.wants(b) {
        let gradient = match trans_b {
            0 => tape.node("Gemm", &[a, dy], flags(1 - trans_a, 0)),
            _ => tape.node("Gemm", &[dy, a], flags(1, trans_a)),
        };
        tape.add(b, gradient);
    }
    if let Some(c) = node.input_name(2).filter(|c| tape.wants(c)) {
        let scaled = tape.scale(dy, node.float("beta", 1.0));
        let gradient = tape.unbroadcast(node, &scaled, c)?;
        tape.add(c, gradient);
    }
    Ok(())
}

/// `dA = dY Bᵀ` and `dB = Aᵀ dY`, batch by batch. A vector counts as one row (in front) or one column (behind).
fn matmul(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (a, b) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let (row, column) = (tape.shape(node, a)?.len() == 1, tape.shape(node, b)?.len() == 1);
    let with_axis = |tape: &mut Tape<'_>, value: &str, missing: bool, axis: i64| {
        if !missing {
            return value.to_string();
        }
        let axis = tape.builder().list(&[axis]);
        tape.op("Unsqueeze", &[value, &axis])
    };
    // The column first: the row's axis is the last but one only once the column is there.
    let dy = with_axis(tape, dy, column, -1);
    let dy = with_axis(tape, &dy, row, -2);
    if tape.wants(a) {
        let other = with_axis(tape, b, column, 1);
        let turned = turn(tape, tape.shape(node, b)?.len().max(2), &other);
        let gradient = tape.op("MatMul", &[&dy, &turned]);
        let gradient = sum_batches(tape, node, &gradient, a)?;
        tape.add(a, gradient);
    }
    if tape.wants(b) {
        let other = with_axis(tape, a, row, 0);
        let turned = turn(tape, tape.shape(node, a)?.len().max(2), &other);
        let gradient = tape.op("MatMul", &[&turned, &dy]);
        let gradient = sum_batches(tape, node, &gradient, b)?;
        tape.add(b, gradient);
    }
    Ok(())
}

/// The last two axes exchanged.
fn turn(tape: &mut Tape<'_>, rank: usize, value: &str) -> String {
    let rank = rank as i64;
    let order: Vec<i64> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
    tape.node("Transpose", &[value], vec![AttributeProto::ints("perm", &order)])
}

/// Sums a gradient `[batch..., rows, columns]` over the batch axes that the operand lacks or repeats.
pub(super) fn sum_batches(
    tape: &mut Tape<'_>,
    node: &NodeProto,
    gradient: &str,
    value: &str,
) -> Result<String, OnnxError> {
    let batch_of = |name: &str| -> Result<&[Dim], OnnxError> {
        let shape = tape.shape(node, name)?;
        Ok(&shape[..shape.len().saturating_sub(2)])
    };
    let (a, b) = (batch_of(tape.input(node, 0)?)?, batch_of(tape.input(node, 1)?)?);
    let own = batch_of(value)?;
    let rank = a.len().max(b.len());
    // The size that the product has on a batch axis is not 1 if either operand's is not.
    let at =
        |batch: &[Dim], axis: usize| (axis + batch.len()).checked_sub(rank).and_then(|i| batch[i].fixed().or(Some(0)));
    let wide = |axis: usize| [a, b].iter().any(|batch| at(batch, axis).is_some_and(|d| d != 1));
    let spread = |axis: &usize| match at(own, *axis) {
        None => true,
        Some(size) => size == 1 && wide(*axis),
    };
    let axes: Vec<i64> = (0..rank).filter(spread).map(|a| a as i64).collect();
    let vector = tape.shape(node, value)?.len() == 1;
    let mut gradient = gradient.to_string();
    if !axes.is_empty() {
        let axes = tape.builder().list(&axes);
        gradient = tape.node("ReduceSum", &[&gradient, &axes], vec![AttributeProto::int("keepdims", 1)]);
    }
    Ok(if vector || !axes.is_empty() { tape.reshape_like(&gradient, value) } else { gradient })
}

/// The gradient of one operand is the sum of products of the output's gradient and the other operands, over all indices
/// that the operand does not have. An index that only this operand has was summed over: its gradient is repeated.
fn einsum(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let shapes = node.input.iter().map(|i| tape.shape(node, i)).collect::<Result<Vec<_>, _>>()?;
    let ranks: Vec<usize> = shapes.iter().map(|s| s.len()).collect();
    let equation = Equation::of(node, &ranks)?;
    // Whether an index is wider than one in any operand.
    let mut wide: HashMap<char, bool> = HashMap::new();
    for (label, dim) in equation.inputs.iter().zip(&shapes).flat_map(|(term, shape)| term.iter().zip(*shape)) {
        *wide.entry(*label).or_default() |= *dim != Dim::Fixed(1);
    }
    for (i, value) in node.input.iter().enumerate() {
        if !tape.wants(value) {
            continue;
        }
        let mut terms = vec![equation.output.as_slice()];
        let mut inputs = vec![dy];
        for (j, other) in node.input.iter().enumerate().filter(|(j, _)| *j != i) {
            terms.push(&equation.inputs[j]);
            inputs.push(other);
        }
        let own = &equation.inputs[i];
        let (kept, lost): (Vec<usize>, Vec<usize>) =
            (0..own.len()).partition(|a| terms.iter().any(|t| t.contains(&own[*a])));
        let found: Vec<char> = kept.iter().map(|a| own[*a]).collect();
        let text = AttributeProto::string("equation", &equation.text(&terms, &found));
        let mut gradient = tape.node("Einsum", &inputs, vec![text]);
        if !lost.is_empty() {
            let axes: Vec<i64> = lost.iter().map(|a| *a as i64).collect();
            let axes = tape.builder().list(&axes);
            gradient = tape.op("Unsqueeze", &[&gradient, &axes]);
        }
        let repeated = |a: &usize| shapes[i][*a] == Dim::Fixed(1) && wide[&own[*a]];
        let axes: Vec<i64> = kept.iter().copied().filter(repeated).map(|a| a as i64).collect();
        if !axes.is_empty() {
            let axes = tape.builder().list(&axes);
            gradient = tape.node("ReduceSum", &[&gradient, &axes], vec![AttributeProto::int("keepdims", 1)]);
        }
        if !lost.is_empty() {
            gradient = tape.expand_like(&gradient, value);
        }
        tape.add(value, gradient);
    }
    Ok(())
}
