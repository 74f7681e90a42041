//! Lifting older files to the operator set that the backward pass is written in.
//!
//! Most operators of an encoder have not changed their meaning for years; a file is lifted by changing its version
//! number and moving the few attributes that became inputs. What cannot be lifted so is a clear error. Fused nodes of
//! ONNX Runtime are taken apart.

mod fused;
mod layout;
mod softmax;

pub(super) use self::fused::FUSED;
use self::layout::Constants;
use super::file::OnnxError;
use super::graph::{GraphBuilder, OPSET};
use super::proto::{ModelProto, NodeProto, attribute_type};

/// Operators whose meaning is the same in every set from the given one up to today's, for what we do with them.
const STABLE: &[(&str, i64)] = &[
    ("Abs", 6),
    ("Acos", 7),
    ("Acosh", 9),
    ("Add", 7),
    ("And", 7),
    ("ArgMax", 1),
    ("ArgMin", 1),
    ("Asin", 7),
    ("Asinh", 9),
    ("Atan", 7),
    ("Atanh", 9),
    ("AveragePool", 7),
    ("BatchNormalization", 9),
    ("Cast", 6),
    ("CastLike", 15),
    ("Ceil", 6),
    ("Celu", 12),
    ("Concat", 4),
    ("Constant", 1),
    ("ConstantOfShape", 9),
    ("Conv", 1),
    ("ConvTranspose", 1),
    ("Cos", 7),
    ("Cosh", 9),
    ("CumSum", 11),
    ("DepthToSpace", 1),
    ("DequantizeLinear", 10),
    ("Div", 7),
    // Its ratio became an input in 12; before that see below.
    ("Dropout", 12),
    ("Einsum", 12),
    ("Elu", 6),
    ("Equal", 7),
    ("Erf", 9),
    ("Exp", 6),
    ("Expand", 8),
    ("EyeLike", 9),
    ("Flatten", 1),
    ("Floor", 6),
    ("Gather", 1),
    ("GatherElements", 11),
    ("GatherND", 11),
    ("Gemm", 7),
    ("GlobalAveragePool", 1),
    ("GlobalLpPool", 2),
    ("GlobalMaxPool", 1),
    ("Greater", 7),
    ("GreaterOrEqual", 12),
    ("HardSigmoid", 6),
    ("HardSwish", 14),
    ("Hardmax", 13),
    ("Identity", 1),
    ("If", 1),
    ("InstanceNormalization", 6),
    ("IsInf", 10),
    ("IsNaN", 9),
    ("LRN", 1),
    // ONNX Runtime has it in every set, with the meaning that ONNX gave it in 17.
    ("LayerNormalization", 1),
    ("LeakyRelu", 6),
    ("Less", 7),
    ("LessOrEqual", 12),
    ("Log", 6),
    ("LogSoftmax", 13),
    ("Loop", 1),
    ("LpNormalization", 1),
    ("LpPool", 2),
    ("MatMul", 1),
    ("Max", 8),
    ("MaxPool", 1),
    ("Mean", 8),
    ("MeanVarianceNormalization", 9),
    ("Min", 8),
    ("Mod", 10),
    ("Mul", 7),
    ("Neg", 6),
    ("NonZero", 9),
    ("Not", 1),
    ("OneHot", 9),
    ("Or", 7),
    ("PRelu", 7),
    ("Pow", 7),
    ("QuantizeLinear", 10),
    ("Range", 11),
    ("Reciprocal", 6),
    ("Relu", 6),
    ("Reshape", 5),
    ("Round", 11),
    ("ScatterElements", 11),
    ("ScatterND", 11),
    ("Selu", 6),
    ("Shape", 1),
    ("Shrink", 9),
    ("Sigmoid", 6),
    ("Sign", 9),
    ("SimplifiedLayerNormalization", 1),
    ("Sin", 7),
    ("Sinh", 9),
    ("Size", 1),
    ("Softmax", 13),
    ("Softplus", 1),
    ("Softsign", 1),
    ("SpaceToDepth", 1),
    ("Sqrt", 6),
    ("Sub", 7),
    ("Sum", 8),
    ("Tan", 7),
    ("Tanh", 6),
    ("Tile", 6),
    ("TopK", 11),
    ("ThresholdedRelu", 10),
    ("Transpose", 1),
    ("Trilu", 14),
    ("Where", 9),
    ("Xor", 7),
];

/// Attributes that became an input: operator, attribute, the set in which they did.
const MOVED: &[(&str, &str, i64)] = &[
    ("ReduceSum", "axes", 13),
    ("Squeeze", "axes", 13),
    ("Unsqueeze", "axes", 13),
    ("ReduceL1", "axes", 18),
    ("ReduceL2", "axes", 18),
    ("ReduceLogSum", "axes", 18),
    ("ReduceLogSumExp", "axes", 18),
    ("ReduceMax", "axes", 18),
    ("ReduceMean", "axes", 18),
    ("ReduceMin", "axes", 18),
    ("ReduceProd", "axes", 18),
    ("ReduceSumSquare", "axes", 18),
];

/// Lifts a model to [`OPSET`]; newer files stay as they are. ONNX Runtime's fused nodes are taken apart in either.
///
/// # Errors
/// [`OnnxError::Node`] for a node whose operator changed its meaning since the file's version, and for a fused one whose
/// activation is not known.
pub fn lift(model: ModelProto) -> Result<ModelProto, OnnxError> {
    let from = model.opset();
    fused::take_apart(if from >= OPSET { model } else { lift_from(model, from)? })
}

fn lift_from(mut model: ModelProto, from: i64) -> Result<ModelProto, OnnxError> {
    let constants = model.graph.as_ref().map(layout::constants).unwrap_or_default();
    let nodes = model.graph.as_mut().map(|g| std::mem::take(&mut g.node)).unwrap_or_default();
    let mut builder = GraphBuilder::extend(model);
    // Names that the nodes use, which the builder has not seen.
    nodes.iter().flat_map(|n| n.output.iter().chain([&n.name])).for_each(|name| builder.reserve(name));
    let lifted = lift_nodes(&mut builder, nodes, from, &constants)?;
    let mut model = builder.finish();
    if let Some(graph) = &mut model.graph {
        graph.node = lifted;
    }
    model.ir_version = model.ir_version.max(super::graph::IR_VERSION);
    for set in model.opset_import.iter_mut().filter(|o| o.domain.is_empty() || o.domain == "ai.onnx") {
        set.version = OPSET;
    }
    Ok(model)
}

/// Nodes of the graph, or of a graph inside one of its nodes. New constants go to the outermost graph, where all see them.
fn lift_nodes(
    builder: &mut GraphBuilder,
    nodes: Vec<NodeProto>,
    from: i64,
    constants: &Constants,
) -> Result<Vec<NodeProto>, OnnxError> {
    let mut lifted = Vec::with_capacity(nodes.len());
    for mut node in nodes {
        for graph in node.attribute.iter_mut().flat_map(|a| a.g.iter_mut().chain(&mut a.graphs)) {
            let mut constants = constants.clone();
            constants.extend(layout::constants(graph));
            graph.node = lift_nodes(builder, std::mem::take(&mut graph.node), from, &constants)?;
        }
        if from < 13 && node.is_onnx() && softmax::OPS.contains(&node.op_type.as_str()) {
            lifted.extend(softmax::lift(builder, node));
        } else {
            lifted.push(lift_node(builder, node, from, constants)?);
        }
    }
    Ok(lifted)
}

fn lift_node(
    builder: &mut GraphBuilder,
    mut node: NodeProto,
    from: i64,
    constants: &Constants,
) -> Result<NodeProto, OnnxError> {
    if !node.is_onnx() || STABLE.iter().any(|(op, since)| *op == node.op_type && from >= *since) {
        return Ok(node);
    }
    if let Some((_, name, since)) = MOVED.iter().find(|(op, ..)| *op == node.op_type) {
        if from < *since
            && let Some(at) = node.attribute.iter().position(|a| a.name == *name)
        {
            let axes = node.attribute.remove(at).ints;
            node.input.push(builder.list(&axes));
        }
        return Ok(node);
    }
    if let Some(node) = layout::lift(builder, &node, from, constants)? {
        return Ok(node);
    }
    match node.op_type.as_str() {
        // Before set 9 a channel could have one mean for each of its entries.
        "BatchNormalization" if node.int("spatial", 1) != 0 => {
            node.attribute.retain(|a| a.name != "spatial");
            Ok(node)
        }
        // Bounds became inputs in 11.
        "Clip" => {
            if from < 11 {
                for name in ["min", "max"] {
                    let bound = node.attribute(name).and_then(|a| a.f);
                    node.input.push(bound.map_or_else(String::new, |b| builder.scalar(b)));
                }
                node.attribute.clear();
            }
            Ok(node)
        }
        // The ratio became an input in 12; at inference it means nothing.
        "Dropout" => {
            node.attribute.retain(|a| a.r#type != attribute_type::FLOAT);
            node.input.truncate(1);
            Ok(node)
        }
        _ => Err(OnnxError::Node {
            node: node.label().into(),
            op: node.op_type.clone(),
            reason: format!(
                "the file uses operator set {from} and this operator changed since; export it again with opset {OPSET}"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::fixtures::{Net, uniform};
    use crate::onnx::interpret::{self, Tensor};
    use crate::onnx::proto::AttributeProto;

    /// The same net as an old file writes it (attributes) and as a new one does (inputs).
    fn net(old: bool) -> ModelProto {
        let mut net = Net::new([2, 4, 3]);
        let bounds = [AttributeProto::float("min", 0.2), AttributeProto::float("max", 0.7)];
        let axes = AttributeProto::ints("axes", &[2, 3]);
        let keep = AttributeProto::int("keepdims", 0);
        let flat = if old {
            let x = net.b.node("Clip", &["image"], bounds.to_vec());
            let x = net.b.node("Dropout", &[&x], vec![AttributeProto::float("ratio", 0.5)]);
            net.b.node("ReduceMean", &[&x], vec![axes, keep])
        } else {
            let (low, high, axes) = (net.b.scalar(0.2), net.b.scalar(0.7), net.b.list(&[2, 3]));
            let x = net.b.node("Clip", &["image", &low, &high], vec![]);
            let x = net.b.node("Dropout", &[&x], vec![]);
            net.b.node("ReduceMean", &[&x, &axes], vec![keep])
        };
        let w = net.weight(&[2, 3], -1.0, 1.0);
        let e = net.op("MatMul", &[&flat, &w]);
        let mut model = net.finish(&e, 3);
        if old {
            model.opset_import[0].version = 9;
            model.ir_version = 4;
        }
        model
    }

    #[test]
    fn an_old_file_means_the_same_after_lifting() {
        let lifted = lift(net(true)).unwrap();
        assert_eq!(lifted.opset(), OPSET);
        let x = || [("image", Tensor::from_f32(&[2, 2, 4, 3], &uniform(5, 48, 0.0, 1.0)))];
        let output = |m: &ModelProto| interpret::run(m, &x()).unwrap()["matmul"].clone();
        assert_eq!(output(&lifted), output(&net(false)));
    }

    #[test]
    fn an_operator_that_changed_its_meaning_is_refused() {
        let mut net = Net::new([2, 4, 3]);
        let x = net.op("TopK", &["image"]);
        let e = net.head(&x, 2, 3);
        let mut model = net.finish(&e, 3);
        model.opset_import[0].version = 9;
        let error = lift(model).unwrap_err().to_string();
        assert!(error.contains("TopK") && error.contains("opset 18"), "{error}");
    }

    /// A net in the form of an old set, its form of today, and the set.
    fn pair(set: i64, body: impl Fn(&mut Net, bool) -> String) -> [ModelProto; 2] {
        [true, false].map(|old| {
            let mut net = Net::new([2, 4, 6]);
            let x = body(&mut net, old);
            net.b.output(&x, crate::onnx::graph::FLOAT, &[]);
            let mut model = net.b.finish();
            model.opset_import[0].version = if old { set } else { OPSET };
            model
        })
    }

    #[test]
    fn layout_operators_of_old_sets_mean_the_same_after_lifting() {
        let ints = |name: &str, values: &[i64]| AttributeProto::ints(name, values);
        let pairs = [
            pair(9, |net, old| {
                if old {
                    let cut = vec![ints("starts", &[1, -3]), ints("ends", &[3, 9000]), ints("axes", &[2, 3])];
                    return net.b.node("Slice", &["image"], cut);
                }
                let [starts, ends, axes] = [[1, -3], [3, 9000], [2, 3]].map(|list| net.b.list(&list));
                net.op("Slice", &["image", &starts, &ends, &axes])
            }),
            pair(10, |net, old| {
                let pads = [0, 0, 1, 2, 0, 0, 0, 1];
                if old {
                    let attributes = vec![ints("pads", &pads), AttributeProto::float("value", 0.5)];
                    return net.b.node("Pad", &["image"], attributes);
                }
                let (pads, value) = (net.b.list(&pads), net.b.scalar(0.5));
                net.op("Pad", &["image", &pads, &value])
            }),
            pair(11, |net, old| {
                let axis = AttributeProto::int("axis", 3);
                if old {
                    net.b.push("Split", &["image"], &["a", "b"], vec![axis, ints("split", &[2, 4])]);
                } else {
                    let sizes = net.b.list(&[2, 4]);
                    net.b.push("Split", &["image", &sizes], &["a", "b"], vec![axis]);
                }
                "b".into()
            }),
            pair(13, |net, old| {
                let mut attributes = vec![AttributeProto::int("axis", 3)];
                if !old {
                    attributes.push(AttributeProto::int("num_outputs", 2));
                }
                net.b.push("Split", &["image"], &["a", "b"], attributes);
                "b".into()
            }),
            pair(9, |net, old| {
                let scales = net.b.constant("scales", &[4], &[1.0, 1.0, 2.0, 1.5]);
                if old {
                    return net.b.node("Upsample", &["image", &scales], vec![AttributeProto::string("mode", "linear")]);
                }
                let [mode, coordinates] = [("mode", "linear"), ("coordinate_transformation_mode", "asymmetric")]
                    .map(|(n, v)| AttributeProto::string(n, v));
                net.b.node("Resize", &["image", "", &scales], vec![mode, coordinates])
            }),
        ];
        for (i, [old, new]) in pairs.into_iter().enumerate() {
            let lifted = lift(old).unwrap();
            let x = || [("image", Tensor::from_f32(&[2, 2, 4, 6], &uniform(5, 96, 0.0, 1.0)))];
            let output = |m: &ModelProto| {
                let name = &m.graph.as_ref().unwrap().output[0].name;
                interpret::run(m, &x()).unwrap()[name].clone()
            };
            assert_eq!(output(&lifted), output(&new), "pair {i}");
        }
    }
}
