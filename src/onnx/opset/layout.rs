//! Operators that move values around, in the forms of older sets.

use std::collections::HashMap;

use super::super::file::OnnxError;
use super::super::graph::GraphBuilder;
use super::super::proto::{AttributeProto, NodeProto, TensorProto};

/// Constants of the file by name: initialisers and `Constant` nodes.
pub(super) type Constants = HashMap<String, TensorProto>;

/// What is constant in a graph.
pub(super) fn constants(graph: &super::super::proto::GraphProto) -> Constants {
    let given = graph.initializer.iter().map(|t| (t.name.clone(), t.clone()));
    let made = graph.node.iter().filter(|n| n.op_type == "Constant" && n.is_onnx()).filter_map(|n| {
        let tensor = n.attribute("value").and_then(|a| a.t.clone())?;
        Some((n.output.first()?.clone(), tensor))
    });
    given.chain(made).collect()
}

/// The node in the form of today's set; absent if the operator is none of these.
pub(super) fn lift(
    builder: &mut GraphBuilder,
    node: &NodeProto,
    from: i64,
    constants: &Constants,
) -> Result<Option<NodeProto>, OnnxError> {
    let mut node = node.clone();
    match node.op_type.as_str() {
        "Slice" if from < 10 => slice(builder, &mut node),
        "Slice" => {}
        "Pad" if from < 11 => pad(builder, &mut node)?,
        "Pad" => {}
        "Split" => split(builder, &mut node, from),
        // Renamed in 11; the old name is gone from newer sets.
        "Scatter" => node.op_type = "ScatterElements".into(),
        "Upsample" => upsample(builder, &mut node, constants)?,
        "Resize" if from < 11 => upsample(builder, &mut node, constants)?,
        "Resize" => resize(&mut node)?,
        _ => return Ok(None),
    }
    Ok(Some(node))
}

fn fail(node: &NodeProto, reason: impl Into<String>) -> OnnxError {
    OnnxError::Node { node: node.label().into(), op: node.op_type.clone(), reason: reason.into() }
}

/// Removes an attribute and returns its integers.
fn take(node: &mut NodeProto, name: &str) -> Option<Vec<i64>> {
    let at = node.attribute.iter().position(|a| a.name == name)?;
    Some(node.attribute.remove(at).ints)
}

/// Starts, ends and axes became inputs in 10.
fn slice(builder: &mut GraphBuilder, node: &mut NodeProto) {
    let starts = take(node, "starts").unwrap_or_default();
    let ends = take(node, "ends").unwrap_or_default();
    let axes = take(node, "axes").unwrap_or_else(|| (0..starts.len() as i64).collect());
    node.input.truncate(1);
    node.input.extend([starts, ends, axes].map(|list| builder.list(&list)));
}

/// Pads and the value became inputs in 11.
fn pad(builder: &mut GraphBuilder, node: &mut NodeProto) -> Result<(), OnnxError> {
    let pads = take(node, "pads").ok_or_else(|| fail(node, "the attribute pads is missing"))?;
    let value = node.float("value", 0.0);
    node.attribute.retain(|a| a.name != "value");
    node.input.truncate(1);
    node.input.push(builder.list(&pads));
    node.input.push(builder.scalar(value));
    Ok(())
}

/// Sizes became an input in 13; since 18 equal pieces have to be asked for by their number.
fn split(builder: &mut GraphBuilder, node: &mut NodeProto, from: i64) {
    if let Some(sizes) = take(node, "split").filter(|s| !s.is_empty()) {
        node.input.truncate(1);
        node.input.push(builder.list(&sizes));
    }
    if node.input_name(1).is_none() && from < 18 {
        node.input.truncate(1);
        node.attribute.push(AttributeProto::int("num_outputs", node.output.len() as i64));
    }
}

/// `Upsample` and the first `Resize`: coordinates are divided by the scale, and the nearest entry is the one before, or
/// (as ONNX Runtime reads it) the one behind where the image becomes smaller.
fn upsample(builder: &mut GraphBuilder, node: &mut NodeProto, constants: &Constants) -> Result<(), OnnxError> {
    let scales = match node.attribute.iter().position(|a| a.name == "scales") {
        Some(at) => {
            let scales = node.attribute.remove(at).floats;
            node.input.truncate(1);
            node.input.push(builder.constant("scales", &[scales.len()], &scales));
            Some(scales)
        }
        None => node.input_name(1).and_then(|name| constants.get(name)).and_then(TensorProto::to_f32),
    };
    if node.input_name(1).is_none() {
        return Err(fail(node, "the scales are missing"));
    }
    let mode = match node.string("mode", "nearest").as_str() {
        "bilinear" | "linear" => "linear",
        "nearest" => "nearest",
        other => return Err(fail(node, format!("mode = {other}"))),
    };
    let nearest = match &scales {
        _ if mode == "linear" || node.op_type == "Upsample" => "floor",
        Some(scales) if scales.iter().all(|s| *s >= 1.0) => "floor",
        Some(scales) if scales.iter().all(|s| *s <= 1.0) => "ceil",
        _ => {
            let reason = "which neighbour is the nearest cannot be told for scales on both sides of 1; \
                          export the model again with opset 11 or newer";
            return Err(fail(node, reason));
        }
    };
    node.op_type = "Resize".into();
    node.attribute.clear();
    for (name, value) in [("mode", mode), ("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", nearest)] {
        node.attribute.push(AttributeProto::string(name, value));
    }
    node.input.insert(1, String::new());
    Ok(())
}

/// Until 13 the scales had to be given, as an empty tensor where sizes were meant; so did the region of interest.
fn resize(node: &mut NodeProto) -> Result<(), OnnxError> {
    let coordinates = node.string("coordinate_transformation_mode", "half_pixel");
    if coordinates == "tf_half_pixel_for_nn" {
        let reason = "coordinate_transformation_mode = tf_half_pixel_for_nn is gone since operator set 13; \
                      export the model again with a newer one";
        return Err(fail(node, reason));
    }
    if node.input_name(3).is_some() {
        node.input[2].clear();
    }
    if coordinates != "tf_crop_and_resize" && node.input.len() > 1 {
        node.input[1].clear();
    }
    Ok(())
}
