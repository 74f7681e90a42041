//! Put a model's normalisation and the conversion of its float types inside its graph, so that budgets are in pixels
//! and images are float32 whoever exported it.

use std::collections::HashSet;

use super::file::OnnxError;
use super::graph::{GraphBuilder, normalize_pixels};
use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, data_type};

/// A copy of `model` whose image input takes pixels in `[0, 1]` and subtracts `mean`, divides by `std` itself.
///
/// All other nodes stay as they are; only the readers of the image read the normalised one instead. Metadata tells the
/// normalisation, so that budgets in normalised units can be scaled.
///
/// # Errors
/// [`OnnxError`] if the graph does not have exactly one input that is no constant.
pub fn normalized_input(model: ModelProto, mean: &[f32], std: &[f32]) -> Result<ModelProto, OnnxError> {
    let model = float32_border(model);
    let graph = model.graph.clone().unwrap_or_default();
    let inputs: Vec<String> = graph.true_inputs().map(|input| input.name.clone()).collect();
    let [image] = inputs.as_slice() else {
        return Err(OnnxError::Graph(format!(
            "has {} inputs ({}), wanted one image input",
            inputs.len(),
            inputs.join(", ")
        )));
    };
    let mut builder = GraphBuilder::extend(model);
    let pixels = builder.unique("pixels");
    let before = builder.graph().node.len();
    let normalized = normalize_pixels(&mut builder, &pixels, mean, std);
    let text = |values: &[f32]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    builder.metadata("mdprop.mean", &text(mean));
    builder.metadata("mdprop.std", &text(std));
    builder.metadata("mdprop.input_range", "0-1");
    let graph = builder.graph_mut();
    graph.node[..before].iter_mut().for_each(|node| rename_reads(node, image, &normalized));
    // A graph may hand its input through.
    graph
        .output
        .iter_mut()
        .filter(|output| output.name == *image)
        .for_each(|output| output.name.clone_from(&normalized));
    // The builder appended the two new nodes; evaluation order wants them first.
    let added = graph.node.len() - before;
    graph.node.rotate_right(added);
    for input in graph.input.iter_mut().filter(|input| input.name == *image) {
        input.name.clone_from(&pixels);
    }
    Ok(builder.finish())
}

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
    use crate::onnx::Dim;
    use crate::onnx::graph::FLOAT;

    #[test]
    fn readers_of_the_image_read_the_normalised_one() {
        let mut builder = GraphBuilder::new("test");
        let dims = [Dim::Symbol("n".into()), Dim::Fixed(3), Dim::Fixed(4), Dim::Fixed(4)];
        let x = builder.input("x", FLOAT, &dims);
        let y = builder.node("Relu", &[&x], vec![]);
        let z = builder.node("Add", &[&y, &x], vec![]);
        builder.output(&z, FLOAT, &dims);
        let wrapped = normalized_input(builder.finish(), &[0.5; 3], &[0.25; 3]).unwrap();
        let graph = wrapped.graph.as_ref().unwrap();
        let ops: Vec<&str> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
        assert_eq!(ops, ["Sub", "Div", "Relu", "Add"]);
        assert_eq!(graph.node[2].input, ["normalized"]);
        assert_eq!(graph.node[3].input[1], "normalized");
        assert_eq!(graph.input[0].name, "pixels");
        assert_eq!(wrapped.metadata("mdprop.std"), Some("0.25,0.25,0.25"));
    }

    #[test]
    fn two_inputs_are_refused() {
        let mut builder = GraphBuilder::new("test");
        let a = builder.input("a", FLOAT, &[Dim::Fixed(1)]);
        let b = builder.input("b", FLOAT, &[Dim::Fixed(1)]);
        let sum = builder.node("Add", &[&a, &b], vec![]);
        builder.output(&sum, FLOAT, &[Dim::Fixed(1)]);
        let error = normalized_input(builder.finish(), &[0.0], &[1.0]).unwrap_err().to_string();
        assert!(error.contains("a, b"), "{error}");
    }

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

    #[test]
    fn a_sub_graph_that_reads_the_image_reads_the_normalised_one_too() {
        let mut builder = GraphBuilder::new("test");
        let dims = [Dim::Symbol("n".into()), Dim::Fixed(3), Dim::Fixed(4), Dim::Fixed(4)];
        let x = builder.input("x", FLOAT, &dims);
        let inner = NodeProto {
            op_type: "Relu".into(),
            input: vec![x.clone()],
            output: vec!["y".into()],
            ..Default::default()
        };
        let branch = GraphProto {
            node: vec![inner],
            output: vec![ValueInfoProto::tensor("y", FLOAT, &dims)],
            ..GraphProto::default()
        };
        let attribute = AttributeProto { name: "then_branch".into(), g: Some(branch), ..AttributeProto::default() };
        builder.push("If", &[], &["z"], vec![attribute]);
        builder.output("z", FLOAT, &dims);
        let wrapped = normalized_input(builder.finish(), &[0.5; 3], &[0.25; 3]).unwrap();
        let graph = wrapped.graph.unwrap();
        assert_eq!(graph.node[2].attribute[0].g.as_ref().unwrap().node[0].input, ["normalized"]);
    }
}
