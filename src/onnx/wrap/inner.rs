//! Values that a file computes on the way to its outputs: the features before a classifier are an embedding, too.

use std::collections::HashSet;

use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{GraphProto, ModelProto, ValueInfoProto};
use crate::onnx::shape::{Facts, show};

/// Names listed at most, the last ones of the file.
const LISTED: usize = 5;

/// Makes a value of the main graph an output beside the others, if it is none; the nodes stay as they are. Whether it did:
/// not for an output, and not for a name that no node makes.
///
/// # Errors
/// [`OnnxError::Graph`] if its type cannot be told.
pub fn expose(model: &mut ModelProto, value: &str) -> Result<bool, OnnxError> {
    let Some(graph) = &mut model.graph else { return Ok(false) };
    let is_output = graph.output.iter().any(|output| output.name == value);
    if is_output || value.is_empty() || !graph.node.iter().any(|node| node.output.iter().any(|made| made == value)) {
        return Ok(false);
    }
    let declared = graph.value_info.iter().find(|v| v.name == value).and_then(ValueInfoProto::elem_type);
    let elem_type = match declared {
        Some(elem_type) => Some(elem_type),
        None => Facts::infer(graph)?.elem_type(value),
    };
    let elem_type = elem_type.ok_or_else(|| {
        OnnxError::Graph(format!("output = \"{value}\" is a value inside the file whose element type cannot be told"))
    })?;
    graph.output.push(ValueInfoProto::unshaped(value, elem_type));
    Ok(true)
}

/// The last values of the main graph that depend on the image and have one vector for each image, as `` `name` shape ``;
/// `but` is not among them. Several in a row with the same numbers, such as a reshape, are all named.
pub(super) fn vectors(graph: &GraphProto, facts: &Facts, image: &str, but: &str) -> Vec<String> {
    let mut reached = HashSet::from([image]);
    let mut found = Vec::new();
    for node in &graph.node {
        if matches!(node.op_type.as_str(), "Shape" | "Size") || !node.input.iter().any(|i| reached.contains(i.as_str()))
        {
            continue;
        }
        for made in node.output.iter().filter(|made| !made.is_empty()) {
            reached.insert(made);
            let Some([_, rest @ ..]) = facts.shape(made) else { continue };
            let long = rest.iter().filter(|d| **d != Dim::Fixed(1)).collect::<Vec<_>>();
            let float = facts.elem_type(made).is_some_and(crate::onnx::proto::data_type::is_float);
            if made != but && float && matches!(long[..], [Dim::Fixed(2..)]) {
                found.push(format!("`{made}` {}", facts.shape(made).map_or_else(String::new, show)));
            }
        }
    }
    found.split_off(found.len().saturating_sub(LISTED))
}
