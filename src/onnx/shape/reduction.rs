//! Reductions over axes.

use super::Inputs;
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;

pub(super) fn shape(inputs: &Inputs<'_>) -> Result<Option<Vec<Dim>>, OnnxError> {
    let node = inputs.node;
    let Some(first) = inputs.shape(0).filter(|_| node.is_onnx()) else { return Ok(None) };
    let axes = match node.op_type.as_str() {
        "ArgMax" | "ArgMin" => vec![inputs.axis(node.int("axis", 0), first.len())?],
        op if op.starts_with("Reduce") => {
            let Some(axes) = inputs.facts.axes(node, first.len()) else { return Ok(None) };
            if let Some(beyond) = axes.iter().find(|a| **a >= first.len()) {
                return Err(inputs.fail(format!("axis {beyond} of a value with {} axes", first.len())));
            }
            axes
        }
        _ => return Ok(None),
    };
    let keep = node.int("keepdims", 1) != 0;
    let reduced = first.iter().enumerate().filter_map(|(axis, d)| match axes.contains(&axis) {
        true => keep.then_some(Dim::Fixed(1)),
        false => Some(d.clone()),
    });
    Ok(Some(reduced.collect()))
}
