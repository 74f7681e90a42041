//! Shapes of operators that move values without changing them.

use super::lists::{self, Entry};
use super::{Inputs, Shapes, show, symbol};
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;

pub(super) fn shapes(inputs: &Inputs<'_>) -> Result<Shapes, OnnxError> {
    let node = inputs.node;
    let Some(first) = inputs.shape(0) else { return without_shape(inputs) };
    let one = |shape: Vec<Dim>| Ok(Some(vec![shape]));
    match node.op_type.as_str() {
        "Shape" => one(vec![lists::shape_range(inputs, first.len()).len().into()]),
        "Size" => one(vec![]),
        "NonZero" => one(vec![first.len().into(), Dim::Symbol(format!("{} entries", node.label()))]),
        "ConstantOfShape" | "Range" => without_shape(inputs),
        "Identity" | "Cast" | "CastLike" | "Trilu" | "CumSum" | "ScatterElements" | "ScatterND" | "Scatter" => {
            one(first.to_vec())
        }
        "Flatten" => {
            let axis = node.int("axis", 1);
            let axis = if axis == first.len() as i64 { first.len() } else { inputs.axis(axis, first.len())? };
            let sides = symbol::product(&first[..axis]).zip(symbol::product(&first[axis..]));
            Ok(sides.map(|(rows, columns)| vec![vec![rows, columns]]))
        }
        "Reshape" => reshape(inputs, first),
        "Transpose" => {
            let reversed: Vec<i64> = (0..first.len() as i64).rev().collect();
            let order = inputs.axes(node.ints("perm").unwrap_or(&reversed), first.len())?;
            if order.len() != first.len() {
                return Err(inputs.fail(format!("perm = {order:?} of a value with {} axes", first.len())));
            }
            one(order.iter().map(|a| first[*a].clone()).collect())
        }
        "Unsqueeze" => {
            let Some(axes) = inputs.integers(1) else { return Ok(None) };
            let rank = first.len() + axes.len();
            let axes = inputs.axes(&axes, rank)?;
            let mut rest = first.iter().cloned();
            let grown: Option<_> =
                (0..rank).map(|a| if axes.contains(&a) { Some(Dim::Fixed(1)) } else { rest.next() }).collect();
            Ok(grown.map(|shape| vec![shape]))
        }
        "Squeeze" => squeeze(inputs, first),
        "Concat" => concat(inputs, first),
        "Split" => split(inputs, first),
        "Slice" => slice(inputs, first),
        "Gather" => {
            let Some(indices) = inputs.shape(1) else { return Ok(None) };
            let axis = inputs.axis(node.int("axis", 0), first.len())?;
            one([&first[..axis], indices, &first[axis + 1..]].concat())
        }
        "GatherElements" => Ok(inputs.shape(1).map(|indices| vec![indices.to_vec()])),
        "GatherND" => gather_nd(inputs, first),
        "Expand" => {
            let Some(wanted) = inputs.sizes(1) else { return Ok(None) };
            let shape = super::broadcast(first, &wanted);
            let fail = || inputs.fail(format!("shape {} does not expand to {}", show(first), show(&wanted)));
            one(shape.ok_or_else(fail)?)
        }
        "Tile" => tile(inputs, first),
        "Pad" => pad(inputs, first),
        "OneHot" => one_hot(inputs, first),
        _ => Ok(None),
    }
}

/// Operators whose output's shape follows from numbers.
fn without_shape(inputs: &Inputs<'_>) -> Result<Shapes, OnnxError> {
    match inputs.node.op_type.as_str() {
        "ConstantOfShape" => Ok(inputs.sizes(0).map(|shape| vec![shape])),
        "Range" => {
            let number = |i: usize| {
                let tensor = inputs.constant(i)?;
                let whole = tensor.to_i64().map(|v| v.into_iter().map(|n| n as f64).collect::<Vec<_>>());
                whole.or_else(|| Some(tensor.to_f32()?.into_iter().map(f64::from).collect()))?.first().copied()
            };
            let (Some(start), Some(limit), Some(step)) = (number(0), number(1), number(2)) else {
                // Up to a size that is known by name, from 0 and by ones.
                let symbol = inputs.sizes(1).filter(|_| number(0) == Some(0.0) && number(2) == Some(1.0));
                return Ok(symbol.map(|shape| vec![shape]));
            };
            let count = ((limit - start) / step).ceil();
            if !count.is_finite() {
                return Err(inputs.fail(format!("from {start} to {limit} by {step}")));
            }
            Ok(Some(vec![vec![Dim::Fixed(count.max(0.0) as usize)]]))
        }
        _ => Ok(None),
    }
}

fn reshape(inputs: &Inputs<'_>, first: &[Dim]) -> Result<Shapes, OnnxError> {
    let Some(list) = inputs.list(1) else { return Ok(None) };
    let allow_zero = inputs.node.int("allowzero", 0) != 0;
    let text = || {
        let entry = |e: &Entry| e.dim().map_or_else(|| format!("{}", e.known().unwrap_or(0)), |d| d.to_string());
        format!("[{}]", list.iter().map(entry).collect::<Vec<_>>().join(", "))
    };
    if list.iter().filter(|e| e.known().is_some_and(|n| n < 0)).count() > 1 {
        return Err(inputs.fail(format!("shape {} does not become {}: two sizes are left open", show(first), text())));
    }
    let shape = reshaped(first, &list, allow_zero);
    let known = |dims: &[Dim]| dims.iter().all(|d| d.fixed().is_some());
    match &shape {
        None if known(first) && list.iter().all(|e| e.known().is_some()) => {
            Err(inputs.fail(format!("shape {} does not become {}", show(first), text())))
        }
        Some(shape) if known(first) && known(shape) && symbol::product(first) != symbol::product(shape) => {
            Err(inputs.fail(format!("shape {} does not become {}", show(first), text())))
        }
        _ => Ok(shape.map(|shape| vec![shape])),
    }
}

/// What `Reshape` makes of `from`; absent if an open size cannot be told or does not divide.
pub(super) fn reshaped(from: &[Dim], list: &[Entry], allow_zero: bool) -> Option<Vec<Dim>> {
    let mut result = Vec::with_capacity(list.len());
    let mut hole = None;
    for (axis, entry) in list.iter().enumerate() {
        result.push(match entry {
            Entry::Known(0) if !allow_zero => from.get(axis)?.clone(),
            Entry::Known(-1) => {
                hole = Some(axis);
                Dim::Fixed(1)
            }
            entry => entry.dim()?,
        });
    }
    if let Some(hole) = hole {
        result[hole] = symbol::quotient(&symbol::product(from)?, &symbol::product(&result)?)?;
    }
    Some(result)
}

fn squeeze(inputs: &Inputs<'_>, first: &[Dim]) -> Result<Shapes, OnnxError> {
    let axes = match inputs.node.input_name(1) {
        Some(_) => inputs.integers(1),
        None => Some((0..first.len() as i64).filter(|a| first[*a as usize] == Dim::Fixed(1)).collect()),
    };
    let Some(axes) = axes else { return Ok(None) };
    let axes = inputs.axes(&axes, first.len())?;
    if let Some(axis) = axes.iter().find(|a| first[**a].fixed().is_some_and(|n| n != 1)) {
        return Err(inputs.fail(format!("axis {axis} of {} has not the size 1", show(first))));
    }
    let left = first.iter().enumerate().filter(|(a, _)| !axes.contains(a)).map(|(_, d)| d.clone());
    Ok(Some(vec![left.collect()]))
}

fn concat(inputs: &Inputs<'_>, first: &[Dim]) -> Result<Shapes, OnnxError> {
    let axis = inputs.axis(inputs.node.int("axis", 0), first.len())?;
    let mut result = first.to_vec();
    for i in 1..inputs.node.input.len() {
        let Some(other) = inputs.shape(i) else { return Ok(None) };
        if other.len() != first.len() {
            return Err(inputs.fail(format!("shapes {} and {} do not join", show(first), show(other))));
        }
        for (a, (have, new)) in result.iter_mut().zip(other).enumerate().filter(|(a, _)| *a != axis) {
            match (&*have, new) {
                (Dim::Fixed(x), Dim::Fixed(y)) if x != y => {
                    let shapes = (show(first), show(other));
                    return Err(inputs.fail(format!("shapes {} and {} differ on axis {a}", shapes.0, shapes.1)));
                }
                (Dim::Symbol(_), Dim::Fixed(_)) => have.clone_from(new),
                _ => {}
            }
        }
        result[axis] = match (&result[axis], &other[axis]) {
            (Dim::Fixed(a), Dim::Fixed(b)) => {
                Dim::Fixed(a.checked_add(*b).ok_or_else(|| inputs.fail("the sizes add up to too much"))?)
            }
            (Dim::Fixed(0), d) | (d, Dim::Fixed(0)) => d.clone(),
            (a, b) => Dim::Symbol(format!("{a} + {b}")),
        };
    }
    Ok(Some(vec![result]))
}

/// Sizes of the pieces that a `Split` node makes of an axis with `size` entries; absent if they are not constant.
pub(crate) fn split_sizes(
    node: &crate::onnx::proto::NodeProto,
    given: Option<Vec<i64>>,
    size: usize,
) -> Option<Vec<usize>> {
    if node.input_name(1).is_some() || node.ints("split").is_some() {
        let sizes = given.or_else(|| node.ints("split").map(<[i64]>::to_vec))?;
        return sizes.iter().map(|s| usize::try_from(*s).ok()).collect();
    }
    let count = usize::try_from(node.int("num_outputs", node.output.len() as i64)).ok().filter(|n| *n > 0)?;
    let chunk = size.div_ceil(count);
    // The last piece is the smaller one.
    (0..count).map(|i| Some(size.saturating_sub(i * chunk).min(chunk))).collect()
}

fn split(inputs: &Inputs<'_>, first: &[Dim]) -> Result<Shapes, OnnxError> {
    let axis = inputs.axis(inputs.node.int("axis", 0), first.len())?;
    if inputs.node.int("num_outputs", 0) > inputs.node.output.len() as i64 {
        return Err(inputs.fail("num_outputs is larger than the number of outputs"));
    }
    let size = first[axis].fixed();
    let equal = inputs.node.input_name(1).is_none() && inputs.node.ints("split").is_none();
    if size.is_none() && equal {
        return Ok(None);
    }
    let Some(sizes) = split_sizes(inputs.node, inputs.integers(1), size.unwrap_or(0)) else { return Ok(None) };
    let sum = sizes.iter().try_fold(0usize, |sum, s| sum.checked_add(*s));
    if size.is_some() && sum != size {
        return Err(inputs.fail(format!("pieces of {sizes:?} do not make up axis {axis} of {}", show(first))));
    }
    let piece = |size: &usize| {
        let mut shape = first.to_vec();
        shape[axis] = Dim::Fixed(*size);
        shape
    };
    Ok(Some(sizes.iter().map(piece).collect()))
}

/// Positions that a slice takes of an axis with `size` entries, by ONNX's rules of clamping; absent for step 0.
pub(crate) fn slice_range(
    size: usize,
    start: i64,
    end: i64,
    step: i64,
) -> Option<impl ExactSizeIterator<Item = usize>> {
    let size = i64::try_from(size).ok()?;
    let wrap = |v: i64| if v < 0 { v.saturating_add(size) } else { v };
    let (first, last) = match step {
        0 => return None,
        1.. => (wrap(start).clamp(0, size), wrap(end).clamp(0, size)),
        _ => (wrap(start).clamp(0, (size - 1).max(0)), wrap(end).clamp(-1, size - 1)),
    };
    let distance = if step > 0 { last - first } else { first - last };
    let stride = step.unsigned_abs();
    let count = if distance <= 0 || size == 0 { 0 } else { (distance as u64).div_ceil(stride) as usize };
    Some((0..count).map(move |i| (first + i as i64 * step) as usize))
}

/// A sliced axis: its position, then start, end and step.
pub(crate) type Slice = (usize, [i64; 3]);

/// The sliced axes of a `Slice` node; absent if they are not constant.
pub(crate) fn slices(inputs: &Inputs<'_>, rank: usize) -> Result<Option<Vec<Slice>>, OnnxError> {
    let (Some(starts), Some(ends)) = (inputs.integers(1), inputs.integers(2)) else { return Ok(None) };
    let axes = match inputs.node.input_name(3) {
        None => (0..starts.len() as i64).collect(),
        Some(_) => match inputs.integers(3) {
            Some(axes) => axes,
            None => return Ok(None),
        },
    };
    let steps = match inputs.node.input_name(4) {
        None => vec![1; starts.len()],
        Some(_) => match inputs.integers(4) {
            Some(steps) => steps,
            None => return Ok(None),
        },
    };
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(inputs.fail("starts, ends, axes and steps have different lengths"));
    }
    if steps.contains(&0) {
        return Err(inputs.fail("a step is 0"));
    }
    let axes = inputs.axes(&axes, rank)?;
    Ok(Some(axes.into_iter().enumerate().map(|(i, axis)| (axis, [starts[i], ends[i], steps[i]])).collect()))
}

fn slice(inputs: &Inputs<'_>, first: &[Dim]) -> Result<Shapes, OnnxError> {
    let Some(slices) = slices(inputs, first.len())? else { return Ok(None) };
    let mut shape = first.to_vec();
    for (axis, [start, end, step]) in slices {
        shape[axis] = match &first[axis] {
            Dim::Fixed(size) => Dim::Fixed(slice_range(*size, start, end, step).map_or(0, |r| r.len())),
            // All of it, as far as the file's numbers say.
            symbol if start == 0 && step == 1 && end >= i64::from(i32::MAX) => symbol.clone(),
            symbol => Dim::Symbol(format!("{symbol}[{start}:{end}:{step}]")),
        };
    }
    Ok(Some(vec![shape]))
}

fn gather_nd(inputs: &Inputs<'_>, first: &[Dim]) -> Result<Shapes, OnnxError> {
    let Some(indices) = inputs.shape(1) else { return Ok(None) };
    let batch = usize::try_from(inputs.node.int("batch_dims", 0)).unwrap_or(usize::MAX);
    let Some((last, lead)) = indices.split_last() else { return Err(inputs.fail("the indices have no axes")) };
    let Some(depth) = last.fixed() else { return Ok(None) };
    let tail = batch.checked_add(depth).and_then(|from| first.get(from..)).filter(|_| batch <= lead.len());
    let tail = tail.ok_or_else(|| inputs.fail(format!("indices of {depth} axes into {}", show(first))))?;
    Ok(Some(vec![[lead, tail].concat()]))
}

fn tile(inputs: &Inputs<'_>, first: &[Dim]) -> Result<Shapes, OnnxError> {
    let Some(repeats) = inputs.sizes(1) else { return Ok(None) };
    if repeats.len() != first.len() {
        return Err(inputs.fail(format!("{} repeats of a value with {} axes", repeats.len(), first.len())));
    }
    let shape: Option<Vec<Dim>> = first.iter().zip(&repeats).map(|(d, r)| symbol::product([d, r])).collect();
    shape.map(|s| Some(vec![s])).ok_or_else(|| inputs.fail("the result is too large"))
}

/// Entries added in front of and behind each axis, possibly negative; absent if they are not constant.
pub(crate) fn pads(inputs: &Inputs<'_>, rank: usize) -> Result<Option<Vec<[i64; 2]>>, OnnxError> {
    let Some(pads) = inputs.integers(1) else { return Ok(None) };
    let axes = match inputs.node.input_name(3) {
        None => (0..rank).collect(),
        Some(_) => match inputs.integers(3) {
            Some(axes) => inputs.axes(&axes, rank)?,
            None => return Ok(None),
        },
    };
    if pads.len() != 2 * axes.len() {
        return Err(inputs.fail(format!("{} pads for {} axes, wanted two each", pads.len(), axes.len())));
    }
    if let Some(pad) = pads.iter().find(|p| p.unsigned_abs() > super::LARGEST as u64) {
        return Err(inputs.fail(format!("a pad of {pad}")));
    }
    let mut result = vec![[0, 0]; rank];
    for (i, axis) in axes.iter().enumerate() {
        result[*axis] = [pads[i], pads[i + axes.len()]];
    }
    Ok(Some(result))
}

fn pad(inputs: &Inputs<'_>, first: &[Dim]) -> Result<Shapes, OnnxError> {
    let Some(pads) = pads(inputs, first.len())? else { return Ok(None) };
    let grown = |(d, [begin, end]): (&Dim, &[i64; 2])| match d {
        Dim::Fixed(n) => i64::try_from(*n)
            .ok()
            .and_then(|n| n.checked_add(*begin)?.checked_add(*end))
            .and_then(|n| usize::try_from(n).ok())
            .map(Dim::Fixed)
            .ok_or_else(|| inputs.fail(format!("pads {begin} and {end} on an axis of {n}"))),
        symbol if (*begin, *end) == (0, 0) => Ok(symbol.clone()),
        symbol => Ok(Dim::Symbol(format!("{symbol} + {begin} + {end}"))),
    };
    Ok(Some(vec![first.iter().zip(&pads).map(grown).collect::<Result<_, _>>()?]))
}

fn one_hot(inputs: &Inputs<'_>, first: &[Dim]) -> Result<Shapes, OnnxError> {
    let Some(depth) = inputs.integers(1).and_then(|d| usize::try_from(*d.first()?).ok()) else { return Ok(None) };
    let axis = inputs.axis(inputs.node.int("axis", -1), first.len() + 1)?;
    let mut shape = first.to_vec();
    shape.insert(axis, Dim::Fixed(depth));
    Ok(Some(vec![shape]))
}
