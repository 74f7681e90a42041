//! Matrix products and sums of products, by their definitions.

use std::collections::HashMap;

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
    for (at, value) in product.data.iter_mut().enumerate() {
        let (m, r, c) = (at / (rows * columns), at / columns % rows, at % columns);
        *value = (0..*inner).map(|k| x.data[(m * rows + r) * inner + k] * y.data[(m * inner + k) * columns + c]).sum();
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
    let mut sizes: HashMap<char, usize> = HashMap::new();
    for (term, operand) in equation.inputs.iter().zip(&operands) {
        for (label, size) in term.iter().zip(&operand.shape) {
            let known = sizes.entry(*label).or_insert(1);
            *known = (*known).max(*size);
        }
    }
    let labels: Vec<char> = sizes.keys().copied().collect();
    let shape: Vec<usize> = equation.output.iter().map(|l| sizes[l]).collect();
    let mut y = Tensor::zeros(&shape);
    let place = |t_shape: &[usize], strides: &[usize], term: &[char], index: &HashMap<char, usize>| -> usize {
        // An axis of 1 repeats.
        (0..term.len()).map(|a| if t_shape[a] == 1 { 0 } else { index[&term[a]] * strides[a] }).sum()
    };
    for mut at in 0..labels.iter().map(|l| sizes[l]).product::<usize>() {
        let mut index = HashMap::new();
        for label in &labels {
            index.insert(*label, at % sizes[label]);
            at /= sizes[label];
        }
        let term = |(t, term): (&&Tensor, &Vec<char>)| t.data[place(&t.shape, &t.strides(), term, &index)];
        let product: f64 = operands.iter().zip(&equation.inputs).map(term).product();
        let to = place(&shape, &y.strides(), &equation.output, &index);
        y.data[to] += product;
    }
    Ok(y)
}
