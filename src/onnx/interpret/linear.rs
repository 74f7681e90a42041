//! Matrix products and sums of products, by their definitions.

use std::collections::BTreeMap;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

use super::{Call, Tensor};
use crate::onnx::equation::Equation;
use crate::onnx::file::OnnxError;

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Tensor>, OnnxError> {
    match (call.node.op_type.as_str(), call.node.is_onnx()) {
        ("Einsum", true) => einsum(call).map(Some),
        ("Gemm", true) => gemm(call).map(Some),
        ("MatMul", true) => matmul(call, call.input(0)?, call.input(1)?).map(Some),
        ("FusedMatMul", false) => fused(call).map(Some),
        _ => Ok(None),
    }
}

/// The last two axes exchanged.
fn turn(t: &Tensor) -> Tensor {
    let mut steps: Vec<isize> = t.strides().iter().map(|s| *s as isize).collect();
    let mut shape = t.shape.clone();
    let rank = shape.len();
    if rank >= 2 {
        shape.swap(rank - 2, rank - 1);
        steps.swap(rank - 2, rank - 1);
    }
    t.gather(&shape, 0, &steps)
}

/// Input `i`, turned if the attribute says so.
fn operand(call: &Call<'_>, i: usize, flag: &str) -> Result<Tensor, OnnxError> {
    let t = call.input(i)?;
    Ok(if call.node.int(flag, 0) == 0 { t.clone() } else { turn(t) })
}

pub(super) fn gemm(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (a, b) = (operand(call, 0, "transA")?, operand(call, 1, "transB")?);
    let alpha = f64::from(call.node.float("alpha", 1.0));
    let y = matmul(call, &a, &b)?.map(|v| v * alpha);
    match call.optional(2) {
        None => Ok(y),
        Some(c) => {
            let beta = f64::from(call.node.float("beta", 1.0));
            y.zip(c, |v, c| v + beta * c).ok_or_else(|| call.fail("C does not broadcast"))
        }
    }
}

fn fused(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (a, b) = (operand(call, 0, "transA")?, operand(call, 1, "transB")?);
    let alpha = f64::from(call.node.float("alpha", 1.0));
    Ok(matmul(call, &a, &b)?.map(|v| v * alpha))
}

fn matmul(call: &Call<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor, OnnxError> {
    let fail = || call.fail(format!("shapes {:?} and {:?} do not fit", a.shape, b.shape));
    let (row, column) = (a.shape.len() == 1, b.shape.len() == 1);
    let lift = |t: &Tensor, shape: Vec<usize>| Tensor { shape, data: t.data.clone() };
    let left = if row { lift(a, vec![1, a.data.len()]) } else { a.clone() };
    let right = if column { lift(b, vec![b.data.len(), 1]) } else { b.clone() };
    let ([batch_a @ .., rows, inner], [batch_b @ .., inner_b, columns]) = (&left.shape[..], &right.shape[..]) else {
        return Err(fail());
    };
    let batch = super::tensor::broadcast(batch_a, batch_b).filter(|_| inner == inner_b).ok_or_else(fail)?;
    let whole = |t: &Tensor, r: usize, c: usize| t.expand(&[&batch[..], &[r, c]].concat()).ok_or_else(fail);
    let (x, y) = (whole(&left, *rows, *inner)?, whole(&right, *inner, *columns)?);
    let mut product = Tensor::zeros(&[&batch[..], &[*rows, *columns]].concat());
    let misfit = |e: ndarray::ShapeError| call.fail(format!("product: {e}"));
    for m in 0..batch.iter().product() {
        let x = ArrayView2::from_shape((*rows, *inner), &x.data[m * rows * inner..][..rows * inner]).map_err(misfit)?;
        let y = &y.data[m * inner * columns..][..inner * columns];
        let y = ArrayView2::from_shape((*inner, *columns), y).map_err(misfit)?;
        let own = &mut product.data[m * rows * columns..][..rows * columns];
        let mut own = ArrayViewMut2::from_shape((*rows, *columns), own).map_err(misfit)?;
        general_mat_mul(1.0, &x, &y, 0.0, &mut own);
    }
    product.shape = batch;
    product.shape.extend((!row).then_some(*rows));
    product.shape.extend((!column).then_some(*columns));
    Ok(product)
}

/// Every combination of all indices adds the product of the entries it names.
fn einsum(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let operands = (0..call.inputs.len()).map(|i| call.input(i)).collect::<Result<Vec<_>, _>>()?;
    let ranks: Vec<usize> = operands.iter().map(|t| t.shape.len()).collect();
    let equation = Equation::of(call.node, &ranks)?;
    let mut sizes: BTreeMap<char, usize> = BTreeMap::new();
    for (term, operand) in equation.inputs.iter().zip(&operands) {
        for (label, size) in term.iter().zip(&operand.shape) {
            let known = sizes.entry(*label).or_insert(1);
            *known = (*known).max(*size);
        }
    }
    let mut axes = operands.iter().zip(&equation.inputs).flat_map(|(t, term)| t.shape.iter().zip(term));
    if let Some((size, label)) = axes.find(|(size, label)| **size != 1 && **size != sizes[*label]) {
        return Err(call.fail(format!("index `{label}` has {size} and {} entries", sizes[label])));
    }
    let labels: Vec<char> = sizes.keys().copied().collect();
    let shape: Vec<usize> = equation.output.iter().map(|l| sizes[l]).collect();
    let mut y = Tensor::zeros(&shape);
    // How far a step of each index moves in each operand, and in the result; an axis of 1 repeats.
    let steps = |shape: &[usize], strides: &[usize], term: &[char]| -> Vec<usize> {
        let step =
            |label: &char| term.iter().position(|l| l == label).filter(|a| shape[*a] != 1).map_or(0, |a| strides[a]);
        labels.iter().map(step).collect()
    };
    let mut moves: Vec<Vec<usize>> =
        operands.iter().zip(&equation.inputs).map(|(t, term)| steps(&t.shape, &t.strides(), term)).collect();
    moves.push(steps(&shape, &y.strides(), &equation.output));
    let mut places = vec![0; moves.len()];
    let mut index = vec![0; labels.len()];
    for _ in 0..labels.iter().map(|l| sizes[l]).product::<usize>() {
        y.data[places[operands.len()]] += operands.iter().zip(&places).map(|(t, at)| t.data[*at]).product::<f64>();
        for (k, label) in labels.iter().enumerate() {
            index[k] += 1;
            places.iter_mut().zip(&moves).for_each(|(at, moves)| *at += moves[k]);
            if index[k] < sizes[label] {
                break;
            }
            places.iter_mut().zip(&moves).for_each(|(at, moves)| *at -= moves[k] * sizes[label]);
            index[k] = 0;
        }
    }
    Ok(y)
}
