//! Uses of known operators that no rule covers are errors that name the node and say what is wrong.

use super::options;
use crate::onnx::LossDistance;
use crate::onnx::attack_graph;
use crate::onnx::fixtures::Net;
use crate::onnx::proto::AttributeProto;

fn refusal(body: impl FnOnce(&mut Net) -> String) -> String {
    let mut net = Net::new([2, 4, 3]);
    let x = body(&mut net);
    let e = net.head(&x, 2, 3);
    attack_graph::build(net.finish(&e, 3), &options(LossDistance::SquaredEuclidean)).unwrap_err().to_string()
}

#[test]
fn bounds_and_parameters_from_the_image() {
    let pooled = |net: &mut Net| net.op("GlobalAveragePool", &["image"]);
    let error = refusal(|net| {
        let axes = net.b.list(&[0, 1, 2, 3]);
        let flags = vec![AttributeProto::int("keepdims", 0)];
        let low = net.b.node("ReduceMin", &["image", &axes], flags);
        net.op("Clip", &["image", &low])
    });
    assert!(error.starts_with("node `clip/Clip` (Clip)") && error.contains("Min and Max"), "{error}");
    let error = refusal(|net| {
        let scale = pooled(net);
        net.op("LayerNormalization", &["image", &scale])
    });
    assert!(error.contains("(LayerNormalization)") && error.contains("must be constant"), "{error}");
}

#[test]
fn training_and_batch_statistics() {
    let error = refusal(|net| {
        let y = net.batch_norm("image", 2);
        net.b.graph_mut().node.last_mut().unwrap().attribute.push(AttributeProto::int("training_mode", 1));
        y
    });
    assert!(error.contains("training_mode = 1; export the model for inference"), "{error}");
    let error = refusal(|net| net.op("MeanVarianceNormalization", &["image"]));
    assert!(error.contains("over the batch axis"), "{error}");
    let error = refusal(|net| {
        let ratio = net.b.scalar(0.5);
        let training = net.b.constant_i64("training", &[], &[1]);
        net.op("Dropout", &["image", &ratio, &training])
    });
    assert!(error.contains("training_mode is not constantly false"), "{error}");
}

#[test]
fn attributes_out_of_range() {
    let error = refusal(|net| net.b.node("Elu", &["image"], vec![AttributeProto::float("alpha", -1.0)]));
    assert!(error.contains("alpha is negative"), "{error}");
    let error = refusal(|net| net.b.node("LpNormalization", &["image"], vec![AttributeProto::int("p", 3)]));
    assert!(error.contains("p = 3, wanted 1 or 2"), "{error}");
    let error = refusal(|net| net.b.node("Gelu", &["image"], vec![AttributeProto::string("approximate", "fast")]));
    assert!(error.contains("approximate = `fast`"), "{error}");
    let error = refusal(|net| {
        let flags = vec![AttributeProto::string("equation", "bcii->bci")];
        net.b.node("Einsum", &["image"], flags)
    });
    assert!(error.contains("a diagonal has no rule"), "{error}");
}

#[test]
fn layouts_that_depend_on_the_image() {
    let best = |net: &mut Net| {
        let rows = net.b.list(&[-1, 1]);
        let column = net.op("Reshape", &["image", &rows]);
        net.b.node("ArgMax", &[&column], vec![AttributeProto::int("axis", 0), AttributeProto::int("keepdims", 0)])
    };
    let error = refusal(|net| {
        let start = best(net);
        let (end, axis) = (net.b.list(&[i64::MAX]), net.b.list(&[2]));
        let cut = net.op("Slice", &["image", &start, &end, &axis]);
        let shape = net.b.list(&[-1, 2, 1, 1]);
        net.op("Reshape", &[&cut, &shape])
    });
    assert!(error.ends_with("cannot be told, because that of node `slice/Slice` (Slice) cannot"), "{error}");
    let error = refusal(|net| {
        let indices = net.b.constant_i64("indices", &[1, 1], &[0]);
        let zero = net.b.list(&[0]);
        let first = net.op("Gather", &["image", &zero]);
        let flags = vec![AttributeProto::string("reduction", "mul")];
        net.b.node("ScatterND", &["image", &indices, &first], flags)
    });
    assert!(error.contains("reduction = mul has no rule, only none and add"), "{error}");
    let error = refusal(|net| {
        let mean = net.op("GlobalAveragePool", &["image"]);
        let list = net.b.list(&[0, 0, 1, 1, 0, 0, 1, 1]);
        let scalar = net.b.list(&[0]);
        let fill = net.op("Gather", &[&mean, &scalar]);
        net.op("Pad", &["image", &list, &fill])
    });
    assert!(error.contains("(Pad): the padding depends on the image"), "{error}");
}

#[test]
fn graphs_inside_nodes() {
    for (op, wanted) in [("If", "which branch is taken is known only when the model runs"), ("Loop", "loops have no")] {
        let error = refusal(|net| net.op(op, &["image"]));
        assert!(error.contains(wanted), "{error}");
    }
}
