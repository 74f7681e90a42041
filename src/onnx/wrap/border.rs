//! Casts at the border of a model that takes or gives another float type than float32.

use std::collections::HashSet;

use crate::onnx::graph::GraphBuilder;
use crate::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, data_type};

/// A copy of `model` that takes and gives float32 where it took or gave another float type: casts at its border, under
/// the same names. A model without such inputs or outputs stays as it is.
pub fn float32_border(mut model: ModelProto) -> ModelProto {
    let other =
        |value: &ValueInfoProto| value.elem_type().filter(|e| data_type::is_float(*e) && *e != data_type::FLOAT);
    let Some(graph) = &model.graph else { return model };
    let inputs: Vec<(String, i32)> = graph.true_inputs().filter_map(|v| Some((v.name.clone(), other(v)?))).collect();
    let outputs: Vec<(String, i32)> = graph.output.iter().filter_map(|v| Some((v.name.clone(), other(v)?))).collect();
    // An input that is handed through needs no cast of its own, and a result that is handed out twice only one.
    let mut seen: HashSet<String> = graph.input.iter().map(|value| value.name.clone()).collect();
    let outputs: Vec<(String, i32)> = outputs.into_iter().filter(|(name, _)| seen.insert(name.clone())).collect();
    if inputs.is_empty() && outputs.is_empty() {
        return model;
    }
    // Declared inner types may name the values that are renamed here.
    if let Some(graph) = &mut model.graph {
        graph.value_info.clear();
    }
    let mut builder = GraphBuilder::extend(model);
    let cast = |to: i32| vec![AttributeProto::int("to", i64::from(to))];
    for (name, element) in &inputs {
        let before = builder.graph().node.len();
        let narrow =
            builder.named_node("Cast", &format!("{name}_{}", data_type::name(*element)), &[name], cast(*element));
        let graph = builder.graph_mut();
        graph.node[..before].iter_mut().for_each(|node| rename_reads(node, name, &narrow));
        graph.node.rotate_right(1);
    }
    for (name, element) in &outputs {
        let narrow = builder.unique(&format!("{name}_{}", data_type::name(*element)));
        let graph = builder.graph_mut();
        for node in &mut graph.node {
            rename_reads(node, name, &narrow);
            node.output.iter_mut().filter(|o| *o == name).for_each(|o| o.clone_from(&narrow));
        }
        builder.push("Cast", &[&narrow], &[name], cast(data_type::FLOAT));
    }
    let graph = builder.graph_mut();
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        let changed = inputs.iter().chain(&outputs).any(|(name, _)| *name == value.name);
        if let (true, Some(tensor)) = (changed, value.r#type.as_mut().and_then(|t| t.tensor_type.as_mut())) {
            tensor.elem_type = data_type::FLOAT;
        }
    }
    builder.finish()
}

/// Makes a node, and the sub-graphs in it that do not make a value of that name themselves, read another value.
fn rename_reads(node: &mut NodeProto, from: &str, to: &str) {
    node.input.iter_mut().filter(|input| *input == from).for_each(|input| *input = to.into());
    for attribute in &mut node.attribute {
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            if makes(graph, from) {
                continue;
            }
            graph.node.iter_mut().for_each(|node| rename_reads(node, from, to));
            graph.output.iter_mut().filter(|o| o.name == from).for_each(|o| o.name = to.into());
        }
    }
}

fn makes(graph: &GraphProto, value: &str) -> bool {
    graph.input.iter().any(|i| i.name == value)
        || graph.initializer.iter().any(|t| t.name == value)
        || graph.node.iter().any(|n| n.output.iter().any(|o| o == value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::graph::FLOAT;

    #[test]
    fn other_float_types_are_cast_at_the_border() {
        let model = crate::onnx::fixtures::narrowed(crate::onnx::fixtures::little_resnet(12, 12), data_type::FLOAT16);
        let output = model.graph.as_ref().unwrap().output[0].name.clone();
        let wrapped = float32_border(model.clone());
        let graph = wrapped.graph.as_ref().unwrap();
        assert_eq!((graph.input[0].name.as_str(), graph.input[0].elem_type()), ("image", Some(FLOAT)));
        assert_eq!((graph.output[0].name.as_str(), graph.output[0].elem_type()), (output.as_str(), Some(FLOAT)));
        assert_eq!(graph.node.len(), model.graph.as_ref().unwrap().node.len() + 2);
        let ends = [&graph.node[0], &graph.node[graph.node.len() - 1]];
        assert_eq!(ends.map(|n| n.int("to", 0)), [data_type::FLOAT16, FLOAT].map(i64::from));
        assert_eq!(graph.node[1].input[0], "image_float16");
        // Whoever reads the embedding inside the graph still reads the original one.
        crate::onnx::validate::validate(&mut wrapped.clone()).unwrap();
        assert_eq!(float32_border(wrapped.clone()), wrapped);
    }
}
