//! Softmax as it was before set 13: over all axes from `axis` on, as if they were one.

use crate::onnx::graph::GraphBuilder;
use crate::onnx::proto::{AttributeProto, NodeProto};

/// The operators that changed so.
pub(super) const OPS: &[&str] = &["Hardmax", "LogSoftmax", "Softmax"];

/// The same as nodes of today: a matrix is made, its rows are normalised, the shape is put back.
pub(super) fn lift(builder: &mut GraphBuilder, mut node: NodeProto) -> Vec<NodeProto> {
    let axis = node.int("axis", 1);
    node.attribute = vec![AttributeProto::int("axis", -1)];
    if axis == -1 {
        return vec![node];
    }
    let (Some(value), Some(result)) = (node.input.first().cloned(), node.output.first().cloned()) else {
        return vec![node];
    };
    let add = |op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>| NodeProto {
        name: format!("{output}/{op}"),
        op_type: op.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: vec![output.to_string()],
        attribute,
        ..NodeProto::default()
    };
    let [rows, shape, normalised] =
        ["rows", "shape", "normalised"].map(|what| builder.unique(&format!("{result}_{what}")));
    let flatten = add("Flatten", &[&value], &rows, vec![AttributeProto::int("axis", axis)]);
    let shape_of = add("Shape", &[&value], &shape, vec![]);
    let reshape = add("Reshape", &[&normalised, &shape], &result, vec![]);
    (node.input, node.output) = (vec![rows], vec![normalised]);
    vec![flatten, node, shape_of, reshape]
}
