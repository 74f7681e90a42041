//! Reductions over axes: every group of entries is gathered and reduced by the operator's definition.

use super::{Call, Tensor};
use crate::onnx::file::OnnxError;

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Tensor>, OnnxError> {
    let reduction: fn(&[f64]) -> f64 = match call.node.op_type.as_str() {
        "ReduceL1" => |v| v.iter().map(|x| x.abs()).sum(),
        "ReduceL2" => |v| v.iter().map(|x| x * x).sum::<f64>().sqrt(),
        "ReduceLogSum" => |v| v.iter().sum::<f64>().ln(),
        "ReduceLogSumExp" => |v| {
            let largest = v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            largest + v.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
        },
        "ReduceMax" => |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "ReduceMean" => |v| v.iter().sum::<f64>() / v.len() as f64,
        "ReduceMin" => |v| v.iter().copied().fold(f64::INFINITY, f64::min),
        "ReduceProd" => |v| v.iter().product(),
        "ReduceSum" => |v| v.iter().sum(),
        "ReduceSumSquare" => |v| v.iter().map(|x| x * x).sum(),
        _ => return Ok(None),
    };
    let x = call.input(0)?;
    let given = call.optional(1).map(Tensor::integers).or_else(|| call.node.ints("axes").map(<[i64]>::to_vec));
    let axes: Vec<usize> = match given {
        Some(axes) if !axes.is_empty() => axes.iter().map(|a| axis(*a, x.shape.len())).collect(),
        _ if call.node.int("noop_with_empty_axes", 0) != 0 => vec![],
        _ => (0..x.shape.len()).collect(),
    };
    let mut y = over(x, &axes, reduction);
    if call.node.int("keepdims", 1) == 0 {
        y.shape = x.shape.iter().enumerate().filter(|(a, _)| !axes.contains(a)).map(|(_, d)| *d).collect();
    }
    Ok(Some(y))
}

/// An axis counted from the front.
pub(super) fn axis(axis: i64, rank: usize) -> usize {
    axis.rem_euclid(rank.max(1) as i64) as usize
}

/// Reduces over `axes`, which stay as axes of 1.
pub(super) fn over(x: &Tensor, axes: &[usize], reduction: impl Fn(&[f64]) -> f64) -> Tensor {
    let shape: Vec<usize> = x.shape.iter().enumerate().map(|(a, d)| if axes.contains(&a) { 1 } else { *d }).collect();
    let mut y = Tensor::zeros(&shape);
    let (from, mut to) = (x.strides(), y.strides());
    axes.iter().for_each(|a| to[*a] = 0);
    let mut groups = vec![vec![]; y.data.len()];
    for (i, v) in x.data.iter().enumerate() {
        let at: usize = (0..x.shape.len()).map(|a| i / from[a] % x.shape[a] * to[a]).sum();
        groups[at].push(*v);
    }
    for (value, group) in y.data.iter_mut().zip(&groups) {
        *value = reduction(group);
    }
    y
}
