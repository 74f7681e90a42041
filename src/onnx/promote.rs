//! A float32 copy of a model that computes in half or double floats, to take gradients of.
//!
//! Half floats lose small gradients and the runtime's CPU kernels have no float64 convolution, so an attack is crafted
//! on the copy; the original file answers. Weights, declared types and the targets of casts are converted; nothing else
//! changes.

use std::collections::HashSet;

use super::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, data_type,
};
use super::visit;

/// Whether what depends on an input is computed in another float type than float32, at least in part.
pub fn is_needed(model: &ModelProto) -> bool {
    let Some(graph) = &model.graph else { return false };
    let other = |element: i32| data_type::is_float(element) && element != data_type::FLOAT;
    let mut narrow: HashSet<&str> = HashSet::new();
    let mut active: HashSet<&str> = HashSet::new();
    for tensor in graph.initializer.iter().filter(|t| other(t.data_type)) {
        narrow.insert(&tensor.name);
    }
    for input in graph.true_inputs() {
        active.insert(&input.name);
        if input.elem_type().is_some_and(other) {
            narrow.insert(&input.name);
        }
    }
    for node in &graph.node {
        let reads = || node.input.iter().map(String::as_str).filter(|i| !i.is_empty());
        // A shape carries no gradient.
        let is_active = !matches!(node.op_type.as_str(), "Shape" | "Size")
            && (reads().any(|i| active.contains(i)) || visit::sub_graphs(node).next().is_some());
        let makes_narrow = match node.op_type.as_str() {
            "Cast" => node.attribute("to").and_then(|a| a.i).is_some_and(|to| other(to as i32)),
            "Constant" => node.attribute("value").and_then(|a| a.t.as_ref()).is_some_and(|t| other(t.data_type)),
            // Results that are never floats of the inputs' type.
            "Shape" | "Size" | "Equal" | "Greater" | "Less" | "And" | "Or" | "Not" | "ArgMax" | "ArgMin" => false,
            _ => reads().any(|i| narrow.contains(i)),
        };
        // A cast of a narrow constant to float32 is storage, not arithmetic.
        if is_active && (makes_narrow || reads().any(|i| narrow.contains(i))) {
            return true;
        }
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if is_active {
                active.insert(output);
            }
            if makes_narrow {
                narrow.insert(output);
            }
        }
    }
    false
}

/// The float32 copy. Tensors that cannot be read (their numbers are elsewhere) stay as they are.
pub fn to_float32(mut model: ModelProto) -> ModelProto {
    let done: Result<(), std::convert::Infallible> = visit::tensors_mut(&mut model, &mut |tensor| {
        promote_tensor(tensor);
        Ok(())
    });
    match done {
        Ok(()) => {}
        Err(never) => match never {},
    }
    visit::graphs_mut(&mut model, &mut promote_graph);
    model.functions.iter_mut().for_each(promote_function);
    model
}

fn promoted(element: i32) -> i32 {
    if data_type::is_float(element) { data_type::FLOAT } else { element }
}

fn promote_tensor(tensor: &mut TensorProto) {
    if promoted(tensor.data_type) == tensor.data_type {
        return;
    }
    if let Some(values) = tensor.to_f32() {
        *tensor = TensorProto::from_f32(&tensor.name, &tensor.shape(), &values);
    }
}

fn promote_graph(graph: &mut GraphProto) {
    graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info).for_each(promote_value);
    graph.node.iter_mut().for_each(promote_node);
}

fn promote_function(function: &mut FunctionProto) {
    function.value_info.iter_mut().for_each(promote_value);
    function.node.iter_mut().for_each(promote_node);
    // The default of an attribute that a cast in the body refers to.
    let types: HashSet<String> = function
        .node
        .iter()
        .flat_map(|node| node.attribute.iter().filter(|a| names_type(node, a)))
        .map(|a| a.ref_attr_name.clone())
        .collect();
    function.attribute_proto.iter_mut().filter(|a| types.contains(&a.name)).for_each(promote_number);
}

fn promote_value(value: &mut ValueInfoProto) {
    if let Some(tensor) = value.r#type.as_mut().and_then(|t| t.tensor_type.as_mut()) {
        tensor.elem_type = promoted(tensor.elem_type);
    }
}

/// Attributes that hold the number of an element type.
const TYPE_ATTRIBUTES: &[&str] =
    &["to", "dtype", "output_dtype", "output_datatype", "stash_type", "softmax_precision", "precision"];

fn names_type(node: &NodeProto, attribute: &AttributeProto) -> bool {
    TYPE_ATTRIBUTES.contains(&attribute.name.as_str()) && (attribute.name != "to" || node.op_type == "Cast")
}

fn promote_node(node: &mut NodeProto) {
    let mut attributes = std::mem::take(&mut node.attribute);
    attributes.iter_mut().filter(|a| names_type(node, a)).for_each(promote_number);
    node.attribute = attributes;
}

fn promote_number(attribute: &mut AttributeProto) {
    if let Some(number) = attribute.i.and_then(|i| i32::try_from(i).ok()) {
        attribute.i = Some(i64::from(promoted(number)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::GraphBuilder;
    use crate::onnx::fixtures::little_resnet;
    use crate::onnx::interpret::{self, Tensor};

    fn half(model: ModelProto, element: i32) -> ModelProto {
        crate::onnx::fixtures::narrowed(model, element)
    }

    #[test]
    fn float32_needs_no_copy() {
        assert!(!is_needed(&little_resnet(12, 12)));
    }

    #[test]
    fn stored_halves_behind_casts_need_no_copy() {
        // Weights in float16, arithmetic in float32.
        let mut model = little_resnet(12, 12);
        let graph = model.graph.as_mut().unwrap();
        let mut casts = vec![];
        for tensor in graph.initializer.iter_mut().filter(|t| t.data_type == data_type::FLOAT) {
            let stored = format!("{}_half", tensor.name);
            let name = std::mem::replace(&mut tensor.name, stored);
            let values = tensor.to_f32().unwrap();
            let raw: Vec<u8> = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
            tensor.data_type = data_type::FLOAT16;
            tensor.raw_data = Some(raw.into());
            casts.push(NodeProto {
                op_type: "Cast".into(),
                input: vec![tensor.name.clone()],
                output: vec![name],
                attribute: vec![AttributeProto::int("to", i64::from(data_type::FLOAT))],
                ..NodeProto::default()
            });
        }
        graph.node.splice(0..0, casts);
        assert!(!is_needed(&model));
    }

    #[test]
    fn a_promoted_copy_computes_what_the_original_says() {
        for element in [data_type::FLOAT16, data_type::BFLOAT16, data_type::DOUBLE] {
            let model = half(little_resnet(12, 12), element);
            assert!(is_needed(&model), "{element}");
            let copy = to_float32(model.clone());
            assert!(!is_needed(&copy), "{element}");
            let x = || [("image", Tensor::from_f32(&[1, 3, 12, 12], &[0.25; 432]))];
            // The float64 interpreter ignores types, so it must see the same numbers in both.
            let output =
                |m: &ModelProto| interpret::run(m, &x()).unwrap()[&m.graph.as_ref().unwrap().output[0].name].clone();
            assert_eq!(output(&model), output(&copy), "{element}");
            let graph = copy.graph.as_ref().unwrap();
            assert_eq!(graph.output[0].elem_type(), Some(data_type::FLOAT));
            assert!(graph.initializer.iter().all(|t| t.data_type == promoted(t.data_type)));
        }
    }

    #[test]
    fn targets_of_casts_follow() {
        let mut b = GraphBuilder::new("t");
        b.input("x", data_type::FLOAT, &["n".into()]);
        for to in [data_type::FLOAT16, data_type::INT64] {
            b.named_node("Cast", "y", &["x"], vec![AttributeProto::int("to", i64::from(to))]);
        }
        let copy = to_float32(b.finish());
        let to: Vec<i64> = copy.graph.as_ref().unwrap().node.iter().map(|n| n.int("to", 0)).collect();
        assert_eq!(to, [i64::from(data_type::FLOAT), i64::from(data_type::INT64)]);
    }
}
