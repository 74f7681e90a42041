//! Operators that move entries.

use super::{Call, Tensor};
use crate::onnx::file::OnnxError;

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Tensor>, OnnxError> {
    let node = call.node;
    let wrap = |axis: i64, rank: usize| (if axis < 0 { axis + rank as i64 } else { axis }) as usize;
    Ok(Some(match node.op_type.as_str() {
        "Constant" => match node.attribute("value").and_then(|a| a.t.as_ref()) {
            Some(tensor) => super::constant(tensor)?,
            None => return Err(call.fail("only the attribute `value` is read")),
        },
        "Shape" => list(call.input(0)?.shape.iter().map(|d| *d as f64)),
        "Size" => Tensor { shape: vec![], data: vec![call.input(0)?.data.len() as f64] },
        "Flatten" => {
            let x = call.input(0)?;
            let axis = match node.int("axis", 1) {
                axis if axis == x.shape.len() as i64 => x.shape.len(),
                axis => wrap(axis, x.shape.len()),
            };
            let rows: usize = x.shape[..axis].iter().product();
            Tensor { shape: vec![rows, x.data.len() / rows.max(1)], data: x.data.clone() }
        }
        "Reshape" => reshape(call)?,
        "Squeeze" | "Unsqueeze" => {
            let (x, axes) = (call.input(0)?, call.input(1)?.integers());
            let grows = node.op_type == "Unsqueeze";
            let rank = if grows { x.shape.len() + axes.len() } else { x.shape.len() };
            let axes: Vec<usize> = axes.iter().map(|a| wrap(*a, rank)).collect();
            let mut own = x.shape.iter().copied();
            let shape = if grows {
                (0..rank).map(|a| if axes.contains(&a) { 1 } else { own.next().unwrap_or(1) }).collect()
            } else {
                own.enumerate().filter(|(a, _)| !axes.contains(a)).map(|(_, d)| d).collect()
            };
            Tensor { shape, data: x.data.clone() }
        }
        "Transpose" => {
            let x = call.input(0)?;
            let reversed: Vec<i64> = (0..x.shape.len() as i64).rev().collect();
            let order: Vec<usize> = node.ints("perm").unwrap_or(&reversed).iter().map(|a| *a as usize).collect();
            let (strides, shape) = (x.strides(), order.iter().map(|a| x.shape[*a]).collect::<Vec<_>>());
            x.gather(&shape, 0, &order.iter().map(|a| strides[*a] as isize).collect::<Vec<_>>())
        }
        "Concat" => concat(call)?,
        "Slice" => {
            let x = call.input(0)?;
            let (starts, ends) = (call.input(1)?.integers(), call.input(2)?.integers());
            let axes = call.optional(3).map_or_else(|| (0..starts.len() as i64).collect(), Tensor::integers);
            if call.optional(4).is_some_and(|s| s.data.iter().any(|v| *v != 1.0)) {
                return Err(call.fail("only step 1 is implemented"));
            }
            let (mut shape, mut start) = (x.shape.clone(), 0);
            for ((from, to), axis) in starts.iter().zip(&ends).zip(&axes) {
                let axis = wrap(*axis, x.shape.len());
                let size = x.shape[axis] as i64;
                let place = |v: i64| (if v < 0 { v + size } else { v }).clamp(0, size) as usize;
                shape[axis] = place(*to).saturating_sub(place(*from));
                start += place(*from) * x.strides()[axis];
            }
            x.gather(&shape, start, &x.strides().iter().map(|s| *s as isize).collect::<Vec<_>>())
        }
        "Gather" => {
            let (x, indices) = (call.input(0)?, call.input(1)?);
            let axis = wrap(node.int("axis", 0), x.shape.len());
            let inner: usize = x.shape[axis + 1..].iter().product();
            let outer: usize = x.shape[..axis].iter().product();
            let mut data = vec![];
            for o in 0..outer {
                for i in indices.integers() {
                    let from = (o * x.shape[axis] + wrap(i, x.shape[axis])) * inner;
                    data.extend_from_slice(&x.data[from..from + inner]);
                }
            }
            let shape = [&x.shape[..axis], &indices.shape, &x.shape[axis + 1..]].concat();
            Tensor { shape, data }
        }
        "Expand" => {
            let (x, wanted) = (call.input(0)?, call.input(1)?.integers());
            let wanted: Vec<usize> = wanted.iter().map(|d| *d as usize).collect();
            let shape = super::tensor::broadcast(&x.shape, &wanted);
            shape.and_then(|s| x.expand(&s)).ok_or_else(|| call.fail("shapes do not broadcast"))?
        }
        "ConstantOfShape" => {
            let shape: Vec<usize> = call.input(0)?.integers().iter().map(|d| *d as usize).collect();
            let value = node.attribute("value").and_then(|a| a.t.as_ref()).map(super::constant).transpose()?;
            Tensor::zeros(&shape).map(|_| value.as_ref().map_or(0.0, |v| v.data[0]))
        }
        "ScatterElements" => {
            let (x, indices, updates) = (call.input(0)?, call.input(1)?, call.input(2)?);
            if x.shape.len() != 1 || node.string("reduction", "none") != "add" {
                return Err(call.fail("only reduction = add on one axis is implemented"));
            }
            let mut y = x.clone();
            for (i, v) in indices.integers().into_iter().zip(&updates.data) {
                y.data[wrap(i, x.shape[0])] += v;
            }
            y
        }
        _ => return Ok(None),
    }))
}

fn list(values: impl Iterator<Item = f64>) -> Tensor {
    let data: Vec<f64> = values.collect();
    Tensor { shape: vec![data.len()], data }
}

fn reshape(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (x, wanted) = (call.input(0)?, call.input(1)?.integers());
    let kept = |(axis, d): (usize, &i64)| match d {
        0 if call.node.int("allowzero", 0) == 0 => x.shape.get(axis).copied().unwrap_or(0),
        d => usize::try_from(*d).unwrap_or(1),
    };
    let mut shape: Vec<usize> = wanted.iter().enumerate().map(kept).collect();
    if let Some(hole) = wanted.iter().position(|d| *d == -1) {
        shape[hole] = x.data.len() / shape.iter().product::<usize>().max(1);
    }
    if shape.iter().product::<usize>() != x.data.len() {
        return Err(call.fail(format!("{:?} does not reshape to {wanted:?}", x.shape)));
    }
    Ok(Tensor { shape, data: x.data.clone() })
}

fn concat(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let parts = (0..call.inputs.len()).map(|i| call.input(i)).collect::<Result<Vec<_>, _>>()?;
    let first = call.input(0)?;
    let axis = call.node.int("axis", 0);
    let axis = (if axis < 0 { axis + first.shape.len() as i64 } else { axis }) as usize;
    let outer: usize = first.shape[..axis].iter().product();
    let mut data = vec![];
    for o in 0..outer {
        for part in &parts {
            let chunk: usize = part.shape[axis..].iter().product();
            data.extend_from_slice(&part.data[o * chunk..(o + 1) * chunk]);
        }
    }
    let mut shape = first.shape.clone();
    shape[axis] = parts.iter().map(|p| p.shape[axis]).sum();
    Ok(Tensor { shape, data })
}
