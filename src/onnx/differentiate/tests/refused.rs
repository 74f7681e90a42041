//! Uses of known operators that no rule covers are errors that name the node and say what is wrong.

use super::options;
use crate::onnx::attack_graph::{self, LossDistance};
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
