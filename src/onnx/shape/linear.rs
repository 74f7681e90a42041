//! Matrix products and sums of products.

use std::collections::HashMap;

use super::{Inputs, broadcast, show};
use crate::onnx::access::Dim;
use crate::onnx::equation::Equation;
use crate::onnx::file::OnnxError;

pub(super) fn shape(inputs: &Inputs<'_>) -> Result<Option<Vec<Dim>>, OnnxError> {
    match (inputs.node.op_type.as_str(), inputs.node.is_onnx()) {
        ("Gemm", true) | ("FusedGemm", false) => gemm(inputs),
        ("MatMul", true) => matmul(inputs),
        ("Einsum", true) => einsum(inputs),
        ("FusedMatMul", false) => fused_matmul(inputs),
        _ => Ok(None),
    }
}

fn gemm(inputs: &Inputs<'_>) -> Result<Option<Vec<Dim>>, OnnxError> {
    let (Some(first), Some(second)) = (inputs.shape(0), inputs.shape(1)) else { return Ok(None) };
    let pick = |s: &[Dim], transposed: bool, axis: usize| match s {
        [a, b] => Ok(if transposed == (axis == 0) { b.clone() } else { a.clone() }),
        other => Err(inputs.fail(format!("got an operand of shape {}, wanted matrices", show(other)))),
    };
    let (ta, tb) = (inputs.node.int("transA", 0) != 0, inputs.node.int("transB", 0) != 0);
    equal_inner(inputs, &pick(first, ta, 1)?, &pick(second, tb, 0)?)?;
    Ok(Some(vec![pick(first, ta, 0)?, pick(second, tb, 1)?]))
}

fn equal_inner(inputs: &Inputs<'_>, a: &Dim, b: &Dim) -> Result<(), OnnxError> {
    match (a, b) {
        (Dim::Fixed(a), Dim::Fixed(b)) if a != b => Err(inputs.fail(format!("inner sizes {a} and {b} differ"))),
        _ => Ok(()),
    }
}

/// A vector in front counts as one row, behind as one column, and loses that axis again in the result.
fn matmul(inputs: &Inputs<'_>) -> Result<Option<Vec<Dim>>, OnnxError> {
    let (Some(first), Some(second)) = (inputs.shape(0), inputs.shape(1)) else { return Ok(None) };
    product(inputs, first, second).map(Some)
}

/// Each operand's last two axes may be exchanged first.
fn fused_matmul(inputs: &Inputs<'_>) -> Result<Option<Vec<Dim>>, OnnxError> {
    let operand = |i: usize, flag: &str| {
        let mut shape = inputs.shape(i)?.to_vec();
        let rank = shape.len();
        if inputs.node.int(flag, 0) != 0 && rank >= 2 {
            shape.swap(rank - 2, rank - 1);
        }
        Some(shape)
    };
    let batches = inputs.node.int("transBatchA", 0) != 0 || inputs.node.int("transBatchB", 0) != 0;
    let (Some(first), Some(second)) = (operand(0, "transA"), operand(1, "transB")) else { return Ok(None) };
    if batches { Ok(None) } else { product(inputs, &first, &second).map(Some) }
}

fn product(inputs: &Inputs<'_>, first: &[Dim], second: &[Dim]) -> Result<Vec<Dim>, OnnxError> {
    let one = Dim::Fixed(1);
    let (batch_a, rows, inner_a) = match first {
        [] => return Err(inputs.fail("the first operand is a scalar")),
        [inner] => (&[][..], &one, inner),
        [batch @ .., rows, inner] => (batch, rows, inner),
    };
    let (batch_b, inner_b, columns) = match second {
        [] => return Err(inputs.fail("the second operand is a scalar")),
        [inner] => (&[][..], inner, &one),
        [batch @ .., inner, columns] => (batch, inner, columns),
    };
    equal_inner(inputs, inner_a, inner_b)?;
    let fail = || inputs.fail(format!("the batches of {} and {} do not broadcast", show(first), show(second)));
    let mut result = broadcast(batch_a, batch_b).ok_or_else(fail)?;
    result.extend((first.len() > 1).then(|| rows.clone()));
    result.extend((second.len() > 1).then(|| columns.clone()));
    Ok(result)
}

fn einsum(inputs: &Inputs<'_>) -> Result<Option<Vec<Dim>>, OnnxError> {
    let shapes: Option<Vec<&[Dim]>> = (0..inputs.node.input.len()).map(|i| inputs.shape(i)).collect();
    let Some(shapes) = shapes else { return Ok(None) };
    let ranks: Vec<usize> = shapes.iter().map(|s| s.len()).collect();
    let equation = Equation::of(inputs.node, &ranks)?;
    let mut sizes: HashMap<char, Dim> = HashMap::new();
    for (term, shape) in equation.inputs.iter().zip(&shapes) {
        for (label, dim) in term.iter().zip(*shape) {
            let known = sizes.entry(*label).or_insert_with(|| dim.clone());
            match broadcast(std::slice::from_ref(known), std::slice::from_ref(dim)) {
                Some(common) => known.clone_from(&common[0]),
                None => return Err(inputs.fail(format!("an index has sizes {known} and {dim}"))),
            }
        }
    }
    Ok(equation.output.iter().map(|label| sizes.get(label).cloned()).collect())
}
