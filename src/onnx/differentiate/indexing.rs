//! Looking entries up by index and putting them there: each is the other's gradient. Indices carry none.

use super::resizing::{AxisMatrix, along_axes};
use super::{Rule, Tape};
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto};
use crate::onnx::shape::fixed;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Gather", gather),
    ("GatherElements", gather_elements),
    ("GatherND", gather_nd),
    ("ScatterElements", scatter_elements),
    ("ScatterND", scatter_nd),
];

fn wrap(tape: &Tape<'_>, node: &NodeProto, axis: i64, rank: usize) -> Result<usize, OnnxError> {
    let wrapped = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok().filter(|a| *a < rank);
    wrapped.ok_or_else(|| tape.unsupported(node, format!("axis {axis} of a value with {rank} axes")))
}

fn adding(axis: i64) -> Vec<AttributeProto> {
    vec![AttributeProto::int("axis", axis), AttributeProto::string("reduction", "add")]
}

/// Constant indices are looked at: a run of neighbours is padded with zeros, a permutation is undone, and a few others
/// are a small matrix. The rest is a scatter.
fn gather(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (value, indices) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let shape = tape.shape(node, value)?;
    let axis = wrap(tape, node, node.int("axis", 0), shape.len())?;
    let index_shape = fixed(tape.shape(node, indices)?);
    let index_shape = index_shape.ok_or_else(|| tape.unsupported(node, "the number of indices is not fixed"))?;
    let count: usize = index_shape.iter().product();
    // One axis for all indices.
    let flat = [&shape[..axis], &[Dim::Fixed(count)], &shape[axis + 1..]].concat();
    let dy = match index_shape.len() {
        1 => dy.to_string(),
        0 => {
            let axes = tape.builder().list(&[axis as i64]);
            tape.node("Unsqueeze", &[dy, &axes], vec![])
        }
        _ => tape.reshape_to(node, dy, &flat)?,
    };
    let known = tape.facts().integers(indices).zip(shape[axis].fixed());
    let gradient = match known {
        Some((indices, size)) => {
            let wrapped = indices.iter().map(|i| wrap(tape, node, *i, size)).collect::<Result<Vec<_>, _>>()?;
            constant_gather(tape, node, &dy, &flat, axis, (&wrapped, size))?
        }
        None => None,
    };
    let gradient = match gradient {
        Some(gradient) => gradient,
        None => {
            let column: Vec<i64> = (0..shape.len()).map(|a| if a == axis { count as i64 } else { 1 }).collect();
            let column = tape.builder().list(&column);
            let column = tape.node("Reshape", &[indices, &column], vec![]);
            let positions = tape.expand_like(&column, &dy);
            let zeros = tape.zeros_like(value);
            tape.node("ScatterElements", &[&zeros, &positions, &dy], adding(axis as i64))
        }
    };
    tape.add(value, gradient);
    Ok(())
}

fn constant_gather(
    tape: &mut Tape<'_>,
    node: &NodeProto,
    dy: &str,
    flat: &[Dim],
    axis: usize,
    (indices, size): (&[usize], usize),
) -> Result<Option<String>, OnnxError> {
    if let Some(first) = indices.first()
        && indices.iter().enumerate().all(|(k, i)| *i == first + k)
    {
        if indices.len() == size {
            return Ok(Some(dy.to_string()));
        }
        let mut pads = vec![0; 2 * flat.len()];
        (pads[axis], pads[axis + flat.len()]) = (*first as i64, (size - first - indices.len()) as i64);
        let pads = tape.builder().list(&pads);
        return Ok(Some(tape.node("Pad", &[dy, &pads], vec![])));
    }
    let mut inverse = vec![None; size];
    indices.iter().enumerate().for_each(|(k, i)| inverse[*i] = Some(k as i64));
    if let Some(inverse) = inverse.into_iter().collect::<Option<Vec<i64>>>().filter(|_| indices.len() == size) {
        let inverse = tape.builder().constant_i64("grad_order", &[size], &inverse);
        return Ok(Some(tape.node("Gather", &[dy, &inverse], vec![AttributeProto::int("axis", axis as i64)])));
    }
    // Beyond this a product costs more than the scatter.
    if indices.len().saturating_mul(size) > 1 << 16 {
        return Ok(None);
    }
    let taps: Vec<Vec<(usize, f64)>> = indices.iter().map(|i| vec![(*i, 1.0)]).collect();
    if flat[axis + 1..].iter().any(|d| d.fixed().is_none()) {
        return Ok(None);
    }
    let matrix = AxisMatrix::new(tape, node, axis, size, &taps)?;
    along_axes(tape, node, dy, flat, &[matrix]).map(Some)
}

fn gather_elements(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (value, indices) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let zeros = tape.zeros_like(value);
    let gradient = tape.node("ScatterElements", &[&zeros, indices, dy], adding(node.int("axis", 0)));
    tape.add(value, gradient);
    Ok(())
}

fn gather_nd(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (value, indices) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let batch = usize::try_from(node.int("batch_dims", 0)).unwrap_or(0);
    let indices = if batch == 0 { indices.to_string() } else { with_batch(tape, node, indices, batch)? };
    let zeros = tape.zeros_like(value);
    let add = vec![AttributeProto::string("reduction", "add")];
    let gradient = tape.node("ScatterND", &[&zeros, &indices, dy], add);
    tape.add(value, gradient);
    Ok(())
}

/// Indices that name the batch axes too, which `ScatterND` does not imply.
fn with_batch(tape: &mut Tape<'_>, node: &NodeProto, indices: &str, batch: usize) -> Result<String, OnnxError> {
    let shape = fixed(tape.shape(node, indices)?);
    let shape = shape.ok_or_else(|| tape.unsupported(node, "batch_dims with a batch that is not fixed has no rule"))?;
    let lead = &shape[..shape.len().saturating_sub(1)];
    let rows: usize = lead.iter().product();
    let strides: Vec<usize> = (0..batch).map(|a| lead[a + 1..].iter().product()).collect();
    let row = |r: usize| (0..batch).map(move |a| (r, a));
    let numbers: Vec<i64> = (0..rows).flat_map(row).map(|(r, a)| (r / strides[a] % lead[a]) as i64).collect();
    let front = tape.builder().constant_i64("grad_batch_index", &[lead, &[batch]].concat(), &numbers);
    Ok(tape.node("Concat", &[&front, indices], vec![AttributeProto::int("axis", -1)]))
}

/// Whether updates are added to what was there (`true`) or replace it.
fn adds(tape: &Tape<'_>, node: &NodeProto) -> Result<bool, OnnxError> {
    match node.string("reduction", "none").as_str() {
        "none" => Ok(false),
        "add" => Ok(true),
        other => Err(tape.unsupported(node, format!("reduction = {other} has no rule, only none and add"))),
    }
}

fn scatter_elements(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    scatter(tape, node, dy, "GatherElements", vec![AttributeProto::int("axis", node.int("axis", 0))])
}

fn scatter_nd(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    scatter(tape, node, dy, "GatherND", vec![])
}

/// What was overwritten has gradient 0; the updates have the gradient of the place they went to.
fn scatter(
    tape: &mut Tape<'_>,
    node: &NodeProto,
    dy: &str,
    lookup: &str,
    attributes: Vec<AttributeProto>,
) -> Result<(), OnnxError> {
    let [value, indices, updates] = [tape.input(node, 0)?, tape.input(node, 1)?, tape.input(node, 2)?];
    let adds = adds(tape, node)?;
    if tape.wants(value) {
        let gradient = if adds {
            dy.to_string()
        } else {
            let zeros = tape.zeros_like(updates);
            tape.node(&node.op_type, &[dy, indices, &zeros], attributes.clone())
        };
        tape.add(value, gradient);
    }
    if tape.wants(updates) {
        let gradient = tape.node(lookup, &[dy, indices], attributes);
        tape.add(updates, gradient);
    }
    Ok(())
}
