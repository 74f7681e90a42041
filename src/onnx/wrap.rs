//! Put a model's normalisation inside its graph, so that budgets are in pixels whoever exported it.

use super::file::OnnxError;
use super::graph::{GraphBuilder, normalize_pixels};
use super::proto::ModelProto;

/// A copy of `model` whose image input takes pixels in `[0, 1]` and subtracts `mean`, divides by `std` itself.
///
/// All other nodes stay as they are; only the readers of the image read the normalised one instead. Metadata tells the
/// normalisation, so that budgets in normalised units can be scaled.
///
/// # Errors
/// [`OnnxError`] if the graph does not have exactly one input that is no constant.
pub fn normalized_input(model: ModelProto, mean: &[f32], std: &[f32]) -> Result<ModelProto, OnnxError> {
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
    for node in &mut graph.node[..before] {
        for input in node.input.iter_mut().filter(|input| *input == image) {
            input.clone_from(&normalized);
        }
    }
    // The builder appended the two new nodes; evaluation order wants them first.
    let added = graph.node.len() - before;
    graph.node.rotate_right(added);
    for input in graph.input.iter_mut().filter(|input| input.name == *image) {
        input.name.clone_from(&pixels);
    }
    Ok(builder.finish())
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
}
