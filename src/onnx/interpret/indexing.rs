//! Operators that look entries up by index, put them there, or run along an axis.

use super::{Call, Tensor};
use crate::onnx::file::OnnxError;
use crate::onnx::resize::{self, Request};

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Vec<Tensor>>, OnnxError> {
    Ok(Some(vec![match call.node.op_type.as_str() {
        "Gather" => gather(call)?,
        "GatherElements" => gather_elements(call)?,
        "GatherND" => gather_nd(call)?,
        "ScatterElements" | "Scatter" => scatter_elements(call)?,
        "ScatterND" => scatter_nd(call)?,
        "Split" => return split(call).map(Some),
        "TopK" => return top_k(call).map(Some),
        "NonZero" => {
            let x = call.input(0)?;
            let found: Vec<usize> = (0..x.data.len()).filter(|i| x.data[*i] != 0.0).collect();
            let strides = x.strides();
            let row = |a: usize| found.iter().map(move |i| (*i, a));
            let index = |(i, a): (usize, usize)| (i / strides[a] % x.shape[a]) as f64;
            let data = (0..x.shape.len()).flat_map(row).map(index).collect();
            Tensor { shape: vec![x.shape.len(), found.len()], data }
        }
        "OneHot" => one_hot(call)?,
        "Trilu" => trilu(call)?,
        "CumSum" => cumulative_sum(call)?,
        "ArgMax" | "ArgMin" => arg_extreme(call)?,
        "Resize" => resize(call)?,
        _ => return Ok(None),
    }]))
}

/// `index`, counted from the front of an axis.
fn wrap(call: &Call<'_>, index: i64, size: usize) -> Result<usize, OnnxError> {
    let wrapped = if index < 0 { index.saturating_add(size as i64) } else { index };
    let inside = usize::try_from(wrapped).ok().filter(|i| *i < size);
    inside.ok_or_else(|| call.fail(format!("index {index} on an axis of {size}")))
}

fn gather(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let axis = call.axis(call.node.int("axis", 0), x.shape.len())?;
    let inner: usize = x.shape[axis + 1..].iter().product();
    let outer: usize = x.shape[..axis].iter().product();
    let picks = indices.integers().into_iter().map(|i| wrap(call, i, x.shape[axis])).collect::<Result<Vec<_>, _>>()?;
    let mut data = vec![];
    for o in 0..outer {
        for i in &picks {
            let from = (o * x.shape[axis] + i) * inner;
            data.extend_from_slice(&x.data[from..from + inner]);
        }
    }
    Ok(Tensor { shape: [&x.shape[..axis], &indices.shape, &x.shape[axis + 1..]].concat(), data })
}

/// For every entry of `indices`: the position in a tensor of shape `shape` that has the same index on all axes but one.
fn element_positions(call: &Call<'_>, indices: &Tensor, shape: &[usize]) -> Result<Vec<usize>, OnnxError> {
    let axis = call.axis(call.node.int("axis", 0), shape.len())?;
    let fits =
        indices.shape.len() == shape.len() && (0..shape.len()).all(|a| a == axis || indices.shape[a] <= shape[a]);
    if !fits {
        return Err(call.fail(format!("indices of shape {:?} into {shape:?}", indices.shape)));
    }
    let (own, strides) = (indices.strides(), super::tensor::strides(shape));
    let position = |(flat, index): (usize, i64)| {
        let index = wrap(call, index, shape[axis])?;
        let part = |a: usize| if a == axis { index } else { flat / own[a] % indices.shape[a] };
        Ok((0..shape.len()).map(|a| part(a) * strides[a]).sum())
    };
    indices.integers().into_iter().enumerate().map(position).collect()
}

fn gather_elements(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let positions = element_positions(call, indices, &x.shape)?;
    Ok(Tensor { shape: indices.shape.clone(), data: positions.into_iter().map(|p| x.data[p]).collect() })
}

fn scatter_elements(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (x, indices, updates) = (call.input(0)?, call.input(1)?, call.input(2)?);
    if updates.shape != indices.shape {
        return Err(call.fail(format!("updates of shape {:?} for {:?}", updates.shape, indices.shape)));
    }
    let positions = element_positions(call, indices, &x.shape)?;
    put(call, x, positions.into_iter().zip(&updates.data).map(|(p, v)| (p, std::slice::from_ref(v))))
}

/// Puts runs of values at positions, by the node's `reduction`.
fn put<'v>(
    call: &Call<'_>,
    x: &Tensor,
    updates: impl Iterator<Item = (usize, &'v [f64])>,
) -> Result<Tensor, OnnxError> {
    let reduction = call.node.string("reduction", "none");
    let combine: fn(f64, f64) -> f64 = match reduction.as_str() {
        "none" => |_, new| new,
        "add" => |old, new| old + new,
        "mul" => |old, new| old * new,
        "max" => f64::max,
        "min" => f64::min,
        other => return Err(call.fail(format!("reduction = {other}"))),
    };
    let mut y = x.clone();
    for (position, values) in updates {
        for (slot, value) in y.data[position..].iter_mut().zip(values) {
            *slot = combine(*slot, *value);
        }
    }
    Ok(y)
}

/// The runs that the last axis of `indices` points at in a tensor of shape `shape`: positions and common length.
fn run_positions(
    call: &Call<'_>,
    indices: &Tensor,
    shape: &[usize],
    batch: usize,
) -> Result<(Vec<usize>, usize), OnnxError> {
    let wrong = || call.fail(format!("indices of shape {:?} into {shape:?}", indices.shape));
    let (depth, lead) = indices.shape.split_last().ok_or_else(wrong)?;
    if batch > lead.len() || batch + depth > shape.len() || lead[..batch] != shape[..batch] {
        return Err(wrong());
    }
    let strides = super::tensor::strides(shape);
    let run: usize = shape[batch + depth..].iter().product();
    let rows: usize = lead.iter().product();
    // Rows of one batch entry.
    let per_batch: usize = lead[batch..].iter().product();
    let integers = indices.integers();
    let position = |row: usize| {
        let block: usize = shape[batch..].iter().product();
        let mut at = row / per_batch * block;
        for k in 0..*depth {
            at += wrap(call, integers[row * depth + k], shape[batch + k])? * strides[batch + k];
        }
        Ok::<usize, OnnxError>(at)
    };
    Ok(((0..rows).map(position).collect::<Result<_, _>>()?, run))
}

fn gather_nd(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let batch = usize::try_from(call.node.int("batch_dims", 0)).unwrap_or(0);
    let (positions, run) = run_positions(call, indices, &x.shape, batch)?;
    let (depth, lead) = indices.shape.split_last().ok_or_else(|| call.fail("the indices have no axes"))?;
    let data = positions.into_iter().flat_map(|p| x.data[p..p + run].iter().copied()).collect();
    Ok(Tensor { shape: [lead, &x.shape[batch + depth..]].concat(), data })
}

fn scatter_nd(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (x, indices, updates) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let (positions, run) = run_positions(call, indices, &x.shape, 0)?;
    if updates.data.len() != positions.len() * run {
        return Err(call.fail(format!("updates of shape {:?} for {:?}", updates.shape, indices.shape)));
    }
    put(call, x, positions.into_iter().enumerate().map(|(i, p)| (p, &updates.data[i * run..(i + 1) * run])))
}

fn split(call: &Call<'_>) -> Result<Vec<Tensor>, OnnxError> {
    let x = call.input(0)?;
    let axis = call.axis(call.node.int("axis", 0), x.shape.len())?;
    let size = x.shape[axis];
    let given = call.optional(1).map(Tensor::integers).or_else(|| call.node.ints("split").map(<[i64]>::to_vec));
    let sizes: Vec<usize> = match given {
        Some(sizes) => sizes.iter().map(|s| usize::try_from(*s).unwrap_or(0)).collect(),
        None => {
            let count = (call.node.int("num_outputs", call.node.output.len() as i64)).max(1) as usize;
            let chunk = size.div_ceil(count);
            (0..count).map(|i| chunk.min(size.saturating_sub(i * chunk))).collect()
        }
    };
    if sizes.iter().try_fold(0usize, |sum, s| sum.checked_add(*s)) != Some(size) {
        return Err(call.fail(format!("pieces of {sizes:?} on an axis of {size}")));
    }
    let mut start = 0;
    let piece = |length: usize| {
        let mut lines: Vec<Vec<Option<usize>>> = x.shape.iter().map(|d| (0..*d).map(Some).collect()).collect();
        lines[axis] = (start..start + length).map(Some).collect();
        start += length;
        x.take(&lines, 0.0)
    };
    Ok(sizes.into_iter().map(piece).collect())
}

fn one_hot(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (indices, depth, values) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let (Some(depth), [off, on]) = (depth.data.first(), &values.data[..]) else {
        return Err(call.fail("wanted a depth and two values"));
    };
    let depth = *depth as usize;
    let axis = call.axis(call.node.int("axis", -1), indices.shape.len() + 1)?;
    let inner: usize = indices.shape[axis..].iter().product();
    let mut shape = indices.shape.clone();
    shape.insert(axis, depth);
    let mut y = Tensor::zeros(&shape).map(|_| *off);
    for (at, index) in indices.integers().into_iter().enumerate() {
        // An index outside the range has no hot entry.
        if let Ok(index) = wrap(call, index, depth) {
            y.data[(at / inner * depth + index) * inner + at % inner] = *on;
        }
    }
    Ok(y)
}

fn trilu(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let x = call.input(0)?;
    let [.., rows, columns] = x.shape[..] else { return Err(call.fail("wanted matrices")) };
    let k = call.optional(1).and_then(|k| k.integers().first().copied()).unwrap_or(0);
    let upper = call.node.int("upper", 1) != 0;
    let mut y = x.clone();
    for (at, v) in y.data.iter_mut().enumerate() {
        let diagonal = (at % columns) as i64 - (at / columns % rows) as i64;
        if if upper { diagonal < k } else { diagonal > k } {
            *v = 0.0;
        }
    }
    Ok(y)
}

fn cumulative_sum(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let x = call.input(0)?;
    let axis = call.input(1)?.integers().first().copied().ok_or_else(|| call.fail("the axis is empty"))?;
    let axis = call.axis(axis, x.shape.len())?;
    let (stride, size) = (x.strides()[axis], x.shape[axis]);
    let (exclusive, reverse) = (call.node.int("exclusive", 0) != 0, call.node.int("reverse", 0) != 0);
    let mut y = x.clone();
    for (at, v) in y.data.iter_mut().enumerate() {
        let own = at / stride % size;
        let counts = |i: &usize| if reverse { *i >= own } else { *i <= own };
        let others = (0..size).filter(counts).filter(|i| !exclusive || *i != own);
        *v = others.map(|i| x.data[at - own * stride + i * stride]).sum();
    }
    Ok(y)
}

fn arg_extreme(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let x = call.input(0)?;
    let axis = call.axis(call.node.int("axis", 0), x.shape.len())?;
    let (stride, size) = (x.strides()[axis], x.shape[axis]);
    if size == 0 {
        return Err(call.fail("the axis is empty"));
    }
    let last = call.node.int("select_last_index", 0) != 0;
    let sign = if call.node.op_type == "ArgMax" { 1.0 } else { -1.0 };
    let mut shape = x.shape.clone();
    shape[axis] = 1;
    let mut y = Tensor::zeros(&shape);
    for (at, v) in y.data.iter_mut().enumerate() {
        let start = at / stride * stride * size + at % stride;
        let mut best = 0;
        for i in 1..size {
            let (new, old) = (sign * x.data[start + i * stride], sign * x.data[start + best * stride]);
            if new > old || (last && new == old) {
                best = i;
            }
        }
        *v = best as f64;
    }
    if call.node.int("keepdims", 1) == 0 {
        y.shape.remove(axis);
    }
    Ok(y)
}

/// Values and places of the largest (smallest) entries along an axis, the earlier of equals first.
fn top_k(call: &Call<'_>) -> Result<Vec<Tensor>, OnnxError> {
    let x = call.input(0)?;
    let axis = call.axis(call.node.int("axis", -1), x.shape.len())?;
    let (stride, size) = (x.strides()[axis], x.shape[axis]);
    let count = call.sizes(1)?.first().copied().filter(|k| *k <= size);
    let count = count.ok_or_else(|| call.fail(format!("input 1 asks for more than the {size} entries of the axis")))?;
    let sign = if call.node.int("largest", 1) == 0 { 1.0 } else { -1.0 };
    let mut shape = x.shape.clone();
    shape[axis] = count;
    let (mut values, mut places) = (Tensor::zeros(&shape), Tensor::zeros(&shape));
    for line in 0..x.data.len() / size.max(1) {
        let (outer, inner) = (line / stride, line % stride);
        let entry = |i: usize| x.data[outer * stride * size + inner + i * stride];
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&a, &b| (sign * entry(a)).total_cmp(&(sign * entry(b))));
        for (rank, &i) in order.iter().take(count).enumerate() {
            let at = outer * stride * count + inner + rank * stride;
            (values.data[at], places.data[at]) = (entry(i), i as f64);
        }
    }
    Ok(vec![values, places])
}

fn resize(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let floats = |i: usize| call.optional(i).map(|t| t.data.iter().map(|v| *v as f32).collect());
    let sizes = call.optional(3).map(|t| t.data.iter().map(|v| (*v as usize).into()).collect());
    let request = Request { roi: floats(1), scales: floats(2), sizes };
    let mut y = call.input(0)?.clone();
    let shape: Vec<_> = y.shape.iter().map(|d| (*d).into()).collect();
    let axes = resize::resized_axes(call.node, &shape, &request)?;
    let axes = axes.ok_or_else(|| call.fail("neither scales nor sizes are given"))?;
    let fill = f64::from(call.node.float("extrapolation_value", 0.0));
    let mut outside = vec![];
    for line in axes {
        let (stride, size) = (y.strides()[line.axis], line.taps.len());
        let mut shape = y.shape.clone();
        shape[line.axis] = size;
        let mut next = Tensor::zeros(&shape);
        for (at, v) in next.data.iter_mut().enumerate() {
            let start = at / (stride * size) * stride * line.input + at % stride;
            *v = line.taps[at / stride % size].iter().map(|(i, w)| w * y.data[start + i * stride]).sum();
        }
        y = next;
        outside.push((line.axis, line.outside));
    }
    let strides = y.strides();
    for (at, v) in y.data.iter_mut().enumerate() {
        if outside.iter().any(|(axis, line)| line[at / strides[*axis] % line.len()]) {
            *v = fill;
        }
    }
    Ok(y)
}
