//! Operators that change the shape of a value or take a part of it.

use super::tensor::element_count;
use super::{Call, Tensor};
use crate::onnx::file::OnnxError;

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Tensor>, OnnxError> {
    let node = call.node;
    Ok(Some(match node.op_type.as_str() {
        "Constant" => constant(call)?,
        "Shape" => {
            let shape = &call.input(0)?.shape;
            let rank = shape.len() as i64;
            let clamp = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
            let (start, end) = (clamp(node.int("start", 0)), clamp(node.int("end", i64::MAX)));
            list(shape[start..end.max(start)].iter().map(|d| *d as f64))
        }
        "Size" => Tensor { shape: vec![], data: vec![call.input(0)?.data.len() as f64] },
        "Flatten" => {
            let x = call.input(0)?;
            let axis = match node.int("axis", 1) {
                axis if axis == x.shape.len() as i64 => x.shape.len(),
                axis => call.axis(axis, x.shape.len())?,
            };
            let shape = vec![x.shape[..axis].iter().product(), x.shape[axis..].iter().product()];
            Tensor { shape, data: x.data.clone() }
        }
        "Reshape" => reshape(call)?,
        "Squeeze" => {
            let x = call.input(0)?;
            let axes = match call.optional(1) {
                Some(axes) => call.axes(&axes.integers(), x.shape.len())?,
                None => (0..x.shape.len()).filter(|a| x.shape[*a] == 1).collect(),
            };
            if axes.iter().any(|a| x.shape[*a] != 1) {
                return Err(call.fail(format!("axes {axes:?} of {:?} are not all 1", x.shape)));
            }
            let left = x.shape.iter().enumerate().filter(|(a, _)| !axes.contains(a)).map(|(_, d)| *d);
            Tensor { shape: left.collect(), data: x.data.clone() }
        }
        "Unsqueeze" => {
            let (x, axes) = (call.input(0)?, call.input(1)?.integers());
            let rank = x.shape.len() + axes.len();
            let axes = call.axes(&axes, rank)?;
            let mut own = x.shape.iter().copied();
            let shape = (0..rank).map(|a| if axes.contains(&a) { 1 } else { own.next().unwrap_or(1) }).collect();
            Tensor { shape, data: x.data.clone() }
        }
        "Transpose" => {
            let x = call.input(0)?;
            let reversed: Vec<i64> = (0..x.shape.len() as i64).rev().collect();
            let order = call.axes(node.ints("perm").unwrap_or(&reversed), x.shape.len())?;
            if order.len() != x.shape.len() {
                return Err(call.fail(format!("perm {order:?} for {:?}", x.shape)));
            }
            let (strides, shape) = (x.strides(), order.iter().map(|a| x.shape[*a]).collect::<Vec<_>>());
            x.gather(&shape, 0, &order.iter().map(|a| strides[*a] as isize).collect::<Vec<_>>())
        }
        "Concat" => concat(call)?,
        "Slice" => slice(call)?,
        "Expand" => {
            let (x, wanted) = (call.input(0)?, call.sizes(1)?);
            let shape = super::tensor::broadcast(&x.shape, &wanted);
            shape.and_then(|s| x.expand(&s)).ok_or_else(|| call.fail("shapes do not broadcast"))?
        }
        "Tile" => {
            let (x, repeats) = (call.input(0)?, call.sizes(1)?);
            if repeats.len() != x.shape.len() {
                return Err(call.fail(format!("{} repeats of {:?}", repeats.len(), x.shape)));
            }
            let line = |(size, times): (&usize, &usize)| (0..size * times).map(|i| Some(i % size)).collect();
            x.take(&x.shape.iter().zip(&repeats).map(line).collect::<Vec<_>>(), 0.0)
        }
        "Pad" => pad(call)?,
        "ConstantOfShape" => {
            let shape = call.sizes(0)?;
            let value = node.attribute("value").and_then(|a| a.t.as_ref()).map(super::constant).transpose()?;
            Tensor::zeros(&shape).map(|_| value.as_ref().and_then(|v| v.data.first()).copied().unwrap_or(0.0))
        }
        "Range" => {
            let one = |i: usize| call.input(i)?.data.first().copied().ok_or_else(|| call.fail("an input is empty"));
            let (start, limit, step) = (one(0)?, one(1)?, one(2)?);
            let count = ((limit - start) / step).ceil();
            if !count.is_finite() || count > (1u64 << 31) as f64 {
                return Err(call.fail(format!("from {start} to {limit} by {step}")));
            }
            list((0..count.max(0.0) as usize).map(|i| start + i as f64 * step))
        }
        "DepthToSpace" | "SpaceToDepth" => blocks(call)?,
        _ => return Ok(None),
    }))
}

fn list(values: impl Iterator<Item = f64>) -> Tensor {
    let data: Vec<f64> = values.collect();
    Tensor { shape: vec![data.len()], data }
}

fn constant(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let wrong = || call.fail("the constant cannot be read");
    let a = call.node.attribute.first().ok_or_else(wrong)?;
    Ok(match a.name.as_str() {
        "value" => super::constant(a.t.as_ref().ok_or_else(wrong)?)?,
        "value_float" => Tensor { shape: vec![], data: vec![f64::from(a.f.unwrap_or(0.0))] },
        "value_int" => Tensor { shape: vec![], data: vec![a.i.unwrap_or(0) as f64] },
        "value_floats" => list(a.floats.iter().map(|v| f64::from(*v))),
        "value_ints" => list(a.ints.iter().map(|v| *v as f64)),
        _ => return Err(wrong()),
    })
}

fn reshape(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (x, wanted) = (call.input(0)?, call.input(1)?.integers());
    let kept = |(axis, d): (usize, &i64)| match d {
        0 if call.node.int("allowzero", 0) == 0 => x.shape.get(axis).copied().unwrap_or(0),
        d => usize::try_from(*d).unwrap_or(1),
    };
    let mut shape: Vec<usize> = wanted.iter().enumerate().map(kept).collect();
    if let Some(hole) = wanted.iter().position(|d| *d == -1) {
        shape[hole] = x.data.len() / element_count(&shape).unwrap_or(usize::MAX).max(1);
    }
    if element_count(&shape) != Some(x.data.len()) {
        return Err(call.fail(format!("{:?} does not reshape to {wanted:?}", x.shape)));
    }
    Ok(Tensor { shape, data: x.data.clone() })
}

fn concat(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let parts = (0..call.inputs.len()).map(|i| call.input(i)).collect::<Result<Vec<_>, _>>()?;
    let first = call.input(0)?;
    let axis = call.axis(call.node.int("axis", 0), first.shape.len())?;
    let mut shape = first.shape.clone();
    shape[axis] = 0;
    for part in &parts {
        let fits = part.shape.len() == shape.len() && (0..shape.len()).all(|a| a == axis || part.shape[a] == shape[a]);
        if !fits {
            return Err(call.fail(format!("{:?} and {:?} do not join on axis {axis}", first.shape, part.shape)));
        }
        shape[axis] += part.shape[axis];
    }
    let outer: usize = shape[..axis].iter().product();
    let mut data = vec![];
    for o in 0..outer {
        for part in &parts {
            let chunk: usize = part.shape[axis..].iter().product();
            data.extend_from_slice(&part.data[o * chunk..(o + 1) * chunk]);
        }
    }
    Ok(Tensor { shape, data })
}

/// Negative steps count down; bounds beyond the ends are moved to them.
fn slice(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let x = call.input(0)?;
    let (starts, ends) = (call.input(1)?.integers(), call.input(2)?.integers());
    let axes = call.optional(3).map_or_else(|| (0..starts.len() as i64).collect(), Tensor::integers);
    let steps = call.optional(4).map_or_else(|| vec![1; starts.len()], Tensor::integers);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(call.fail("starts, ends, axes and steps have different lengths"));
    }
    let mut lines: Vec<Vec<Option<usize>>> = x.shape.iter().map(|d| (0..*d).map(Some).collect()).collect();
    for (i, axis) in call.axes(&axes, x.shape.len())?.into_iter().enumerate() {
        let size = x.shape[axis] as i64;
        let wrap = |v: i64| if v < 0 { v.saturating_add(size) } else { v };
        let (mut at, end, step) = (wrap(starts[i]), wrap(ends[i]), steps[i]);
        let mut line = vec![];
        if step > 0 {
            at = at.max(0);
            while at < end.min(size) {
                line.push(Some(at as usize));
                at = at.saturating_add(step);
            }
        } else if step < 0 {
            at = at.min(size - 1);
            while at > end.max(-1) {
                line.push(usize::try_from(at).ok());
                at = at.saturating_add(step);
            }
        } else {
            return Err(call.fail("a step is 0"));
        }
        lines[axis] = line;
    }
    Ok(x.take(&lines, 0.0))
}

/// Pads may be negative and then cut off. Every added entry is a copy of another one, or the constant.
fn pad(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let x = call.input(0)?;
    let pads = call.input(1)?.integers();
    let axes = match call.optional(3) {
        Some(axes) => call.axes(&axes.integers(), x.shape.len())?,
        None => (0..x.shape.len()).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(call.fail(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let mode = call.node.string("mode", "constant");
    let mut lines: Vec<Vec<Option<usize>>> = x.shape.iter().map(|d| (0..*d).map(Some).collect()).collect();
    for (i, axis) in axes.iter().enumerate() {
        let size = x.shape[*axis] as i64;
        let (begin, end) = (pads[i], pads[i + axes.len()]);
        let source = |at: i64| match mode.as_str() {
            _ if (0..size).contains(&at) => Some(at),
            "constant" => None,
            "edge" => Some(at.clamp(0, size - 1)),
            "wrap" => Some(at.rem_euclid(size)),
            // Forwards and backwards again, with the ends said once.
            _ => {
                let period = (2 * (size - 1)).max(1);
                let at = at.rem_euclid(period);
                Some(if at < size { at } else { period - at })
            }
        };
        if size == 0 && mode != "constant" {
            return Err(call.fail("an axis is empty"));
        }
        lines[*axis] = (-begin..size.saturating_add(end)).map(|at| source(at).map(|v| v as usize)).collect();
    }
    let fill = call.optional(2).and_then(|v| v.data.first()).copied().unwrap_or(0.0);
    Ok(x.take(&lines, fill))
}

/// `[n, b·b·c, h, w]` to `[n, c, h·b, w·b]` and back, by the formulas of the standard.
fn blocks(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let x = call.input(0)?;
    let b = usize::try_from(call.node.int("blocksize", 0)).unwrap_or(0);
    let deep = call.node.op_type == "DepthToSpace";
    let [n, c, h, w] = x.shape[..] else { return Err(call.fail("wanted [n, c, h, w]")) };
    let fits = b > 0 && if deep { c.is_multiple_of(b * b) } else { h.is_multiple_of(b) && w.is_multiple_of(b) };
    if !fits {
        return Err(call.fail(format!("blocks of {b} do not fit {:?}", x.shape)));
    }
    let columns_first = call.node.string("mode", "DCR") == "CRD";
    // The large image has one entry for every entry of the deep one.
    let (channels, deep_shape) = if deep { (c / (b * b), [n, c, h, w]) } else { (c, [n, c * b * b, h / b, w / b]) };
    let [_, deep_c, low_h, low_w] = deep_shape;
    let large_shape = [n, channels, low_h * b, low_w * b];
    let mut y = Tensor::zeros(if deep { &large_shape } else { &deep_shape });
    for at in 0..x.data.len() {
        let [_, _, height, width] = large_shape;
        let (image, channel) = (at / (channels * height * width), at / (height * width) % channels);
        let (row, column) = (at / width % height, at % width);
        let block = row % b * b + column % b;
        let depth = if columns_first { channel * b * b + block } else { block * channels + channel };
        let other = ((image * deep_c + depth) * low_h + row / b) * low_w + column / b;
        if deep {
            y.data[at] = x.data[other];
        } else {
            y.data[other] = x.data[at];
        }
    }
    Ok(y)
}
