//! Taking ONNX Runtime's fused nodes apart: `FusedConv` and `FusedGemm`, which it writes when it saves an optimised
//! model, are a convolution or a product, a sum and an activation. The runtime fuses them again when it loads the
//! attack graph.

use crate::onnx::file::OnnxError;
use crate::onnx::graph::GraphBuilder;
use crate::onnx::proto::{AttributeProto, ModelProto, NodeProto};

/// The attributes of an activation in the order of `activation_params`.
const ACTIVATIONS: &[(&str, &[&str])] = &[
    ("Elu", &["alpha"]),
    ("HardSigmoid", &["alpha", "beta"]),
    ("LeakyRelu", &["alpha"]),
    ("Relu", &[]),
    ("Selu", &["alpha", "gamma"]),
    ("Sigmoid", &[]),
    ("Softplus", &[]),
    ("Softsign", &[]),
    ("Tanh", &[]),
    ("ThresholdedRelu", &["alpha"]),
];

/// The operators that are taken apart, without their domain.
pub(in crate::onnx) const FUSED: &[(&str, &str)] = &[("FusedConv", "Conv"), ("FusedGemm", "Gemm")];

fn part_of(node: &NodeProto) -> Option<&'static str> {
    let found = FUSED.iter().find(|(fused, _)| node.domain == "com.microsoft" && *fused == node.op_type);
    found.map(|(_, part)| *part)
}

/// Replaces every fused node by its parts. The model's operator set must be one in which `Clip` takes its bounds as
/// inputs (11 or later).
///
/// # Errors
/// [`OnnxError::Node`] for an activation that is not known.
pub(super) fn take_apart(mut model: ModelProto) -> Result<ModelProto, OnnxError> {
    if !model.graph.iter().flat_map(|g| &g.node).any(|n| part_of(n).is_some()) {
        return Ok(model);
    }
    let nodes = model.graph.as_mut().map(|g| std::mem::take(&mut g.node)).unwrap_or_default();
    let mut builder = GraphBuilder::extend(model);
    // Names that the nodes use, which the builder has not seen.
    nodes.iter().flat_map(|n| n.output.iter().chain([&n.name])).for_each(|name| builder.reserve(name));
    let mut parts = Vec::with_capacity(nodes.len());
    for node in nodes {
        match part_of(&node) {
            Some(part) => parts.extend(apart(&mut builder, node, part)?),
            None => parts.push(node),
        }
    }
    let mut model = builder.finish();
    if let Some(graph) = &mut model.graph {
        graph.node = parts;
    }
    Ok(model)
}

fn apart(builder: &mut GraphBuilder, node: NodeProto, part: &str) -> Result<Vec<NodeProto>, OnnxError> {
    let name = node.string("activation", "");
    let activation = match name.as_str() {
        "" => None,
        name => Some(activation(builder, &node, name)?),
    };
    let result = node.output.first().cloned().unwrap_or_default();
    let mut first = NodeProto { op_type: part.into(), domain: String::new(), ..node };
    first.attribute.retain(|a| !a.name.starts_with("activation"));
    // The fourth input of a convolution is added to its result.
    let sum = if part == "Conv" && first.input.len() > 3 { first.input.pop().filter(|s| !s.is_empty()) } else { None };
    let mut parts = vec![first];
    if let Some(other) = sum {
        append(builder, &mut parts, "Add", vec![other], vec![]);
    }
    if let Some((op, inputs, attributes)) = activation {
        append(builder, &mut parts, op, inputs, attributes);
    }
    if let Some(last) = parts.last_mut() {
        last.output = vec![result];
    }
    Ok(parts)
}

/// Adds a node that reads the last one's result.
fn append(
    builder: &mut GraphBuilder,
    parts: &mut Vec<NodeProto>,
    op: &str,
    more: Vec<String>,
    attribute: Vec<AttributeProto>,
) {
    let Some(last) = parts.last_mut() else { return };
    let between = builder.unique(&format!("{}_part", last.label()));
    last.output = vec![between.clone()];
    let name = format!("{}/{op}", last.name);
    let input = [between].into_iter().chain(more).collect();
    parts.push(NodeProto { name, op_type: op.into(), input, attribute, ..NodeProto::default() });
}

/// Operator, further inputs and attributes of an activation.
type Activation = (&'static str, Vec<String>, Vec<AttributeProto>);

fn activation(builder: &mut GraphBuilder, node: &NodeProto, name: &str) -> Result<Activation, OnnxError> {
    let listed = node.attribute("activation_params").map(|a| a.floats.as_slice()).unwrap_or_default();
    if let ("Clip", [low, high]) = (name, listed) {
        return Ok(("Clip", vec![builder.scalar(*low), builder.scalar(*high)], vec![]));
    }
    let Some((op, parameters)) = ACTIVATIONS.iter().find(|(op, _)| *op == name) else {
        let reason = format!("the activation `{name}` is not known");
        return Err(OnnxError::Node { node: node.label().into(), op: node.op_type.clone(), reason });
    };
    let value = |(i, parameter): (usize, &&str)| {
        let named = node.attribute(&format!("activation_{parameter}")).and_then(|a| a.f);
        Some(AttributeProto::float(parameter, listed.get(i).copied().or(named)?))
    };
    Ok((op, vec![], parameters.iter().enumerate().filter_map(value).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::GraphProto;

    fn taken_apart(activation: &str) -> Result<Vec<NodeProto>, String> {
        let node = NodeProto {
            name: "c".into(),
            op_type: "FusedConv".into(),
            domain: "com.microsoft".into(),
            input: ["x", "w", "", "z"].map(String::from).into(),
            output: vec!["y".into()],
            attribute: vec![AttributeProto::string("activation", activation), AttributeProto::int("group", 1)],
            ..NodeProto::default()
        };
        let graph = GraphProto { node: vec![node], ..GraphProto::default() };
        let model = take_apart(ModelProto { graph: Some(graph), ..ModelProto::default() });
        Ok(model.map_err(|e| e.to_string())?.graph.unwrap().node)
    }

    #[test]
    fn a_convolution_becomes_three_nodes_with_the_result_under_its_old_name() {
        let nodes = taken_apart("Relu").unwrap();
        let ops: Vec<&str> = nodes.iter().map(|n| n.op_type.as_str()).collect();
        assert_eq!(ops, ["Conv", "Add", "Relu"]);
        assert!(nodes.iter().all(NodeProto::is_onnx));
        assert_eq!(nodes[0].attribute.len(), 1);
        assert_eq!(nodes[1].input, [nodes[0].output[0].as_str(), "z"]);
        assert_eq!(nodes[2].input, nodes[1].output);
        assert_eq!(nodes[2].output, ["y"]);
    }

    #[test]
    fn an_unknown_activation_is_named() {
        assert_eq!(taken_apart("Magic").unwrap_err(), "node `c` (FusedConv): the activation `Magic` is not known");
    }
}
