//! At kinks, ties and poles the gradient is PyTorch's (`tests/data/onnx/conventions/`, with the script that stored it).

use std::collections::BTreeMap;

use super::relative_error;
use crate::onnx::differentiate::backward;
use crate::onnx::fixtures::Net;
use crate::onnx::interpret::{self, Tensor};
use crate::onnx::proto::{AttributeProto, TensorProto};
use crate::onnx::shape::Facts;

#[derive(serde::Deserialize)]
struct Stored {
    cases: BTreeMap<String, Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    x: Vec<f32>,
    gradient: Vec<f64>,
}

/// The gradient of the sum of what `body` makes of one row of numbers.
fn gradient(body: impl FnOnce(&mut Net) -> String, x: &[f32]) -> Vec<f64> {
    let mut net = Net::new([1, 1, x.len()]);
    let y = body(&mut net);
    let shape = net.op("Shape", &[&y]);
    let one = AttributeProto::tensor("value", TensorProto::from_f32("", &[1], &[1.0]));
    let seed = net.b.node("ConstantOfShape", &[&shape], vec![one]);
    let facts = Facts::infer(net.b.graph()).unwrap();
    let result = backward(&mut net.b, &facts, "image", &y, &seed, false).unwrap();
    let x = Tensor::from_f32(&[1, 1, 1, x.len()], x);
    let mut model = net.b.finish();
    model.opset_import[0].version = net.opset;
    interpret::run(&model, &[("image", x)]).unwrap()[&result.gradient].data.clone()
}

/// The case of that name as ONNX writes it.
fn body(name: &str, net: &mut Net) -> String {
    let float = AttributeProto::float;
    let with = |net: &mut Net, op: &str, attributes: Vec<AttributeProto>| net.b.node(op, &["image"], attributes);
    let scalar = |net: &mut Net, op: &str, value: f32| {
        let value = net.b.scalar(value);
        net.op(op, &["image", &value])
    };
    let last = |net: &mut Net, op: &str| {
        let axes = net.b.list(&[-1]);
        net.op(op, &["image", &axes])
    };
    match name {
        "abs" => net.op("Abs", &["image"]),
        "relu" => net.op("Relu", &["image"]),
        "leaky_relu 0.1" => with(net, "LeakyRelu", vec![float("alpha", 0.1)]),
        "prelu 0.25" => scalar(net, "PRelu", 0.25),
        "elu" => net.op("Elu", &["image"]),
        "elu 0.5" => with(net, "Elu", vec![float("alpha", 0.5)]),
        "selu" => net.op("Selu", &["image"]),
        "celu 0.5" => with(net, "Celu", vec![float("alpha", 0.5)]),
        "hardsigmoid" => with(net, "HardSigmoid", vec![float("alpha", 1.0 / 6.0)]),
        "hardswish" => net.op("HardSwish", &["image"]),
        "threshold 1" => net.op("ThresholdedRelu", &["image"]),
        "softshrink 0.5" => with(net, "Shrink", vec![float("bias", 0.5)]),
        "hardshrink 0.5" => net.op("Shrink", &["image"]),
        "softsign" => net.op("Softsign", &["image"]),
        "clamp 0.25 0.75" => {
            let (low, high) = (net.b.scalar(0.25), net.b.scalar(0.75));
            net.op("Clip", &["image", &low, &high])
        }
        "clamp 0.25" => scalar(net, "Clip", 0.25),
        "relu6" => {
            let (low, high) = (net.b.scalar(0.0), net.b.scalar(6.0));
            net.op("Clip", &["image", &low, &high])
        }
        "maximum 0.5" => scalar(net, "Max", 0.5),
        "minimum 0.5" => scalar(net, "Min", 0.5),
        "amax" => last(net, "ReduceMax"),
        "amin" => last(net, "ReduceMin"),
        name if name.starts_with("prod") => last(net, "ReduceProd"),
        "norm 1" => last(net, "ReduceL1"),
        name if name.starts_with("norm 2") => last(net, "ReduceL2"),
        "pow 2" => scalar(net, "Pow", 2.0),
        "pow 3" => scalar(net, "Pow", 3.0),
        "pow 0" => scalar(net, "Pow", 0.0),
        "0.5 pow x" | "0 pow x" => {
            let base = net.b.scalar(if name.starts_with("0.5") { 0.5 } else { 0.0 });
            net.op("Pow", &[&base, "image"])
        }
        "gelu" => net.op("Gelu", &["image"]),
        "gelu tanh" => with(net, "Gelu", vec![AttributeProto::string("approximate", "tanh")]),
        "silu" => {
            let gate = net.op("Sigmoid", &["image"]);
            net.op("Mul", &["image", &gate])
        }
        "mish" => net.op("Mish", &["image"]),
        "softplus" => net.op("Softplus", &["image"]),
        "logsumexp" => last(net, "ReduceLogSumExp"),
        other => panic!("no net for {other}"),
    }
}

#[test]
fn kinks_ties_and_poles_have_the_gradient_of_pytorch() {
    let text = include_str!("../../../../tests/data/onnx/conventions/conventions.json");
    let stored: Stored = serde_json::from_str(text).unwrap();
    assert!(stored.cases.len() > 30);
    for (name, case) in &stored.cases {
        let got = gradient(|net| body(name, net), &case.x);
        // Attributes are float32 in ONNX and float64 in PyTorch.
        for (got, wanted) in got.iter().zip(&case.gradient) {
            assert!((got - wanted).abs() < 1e-6, "{name}: {got} against {wanted}");
        }
        assert_eq!(got.len(), case.gradient.len(), "{name}");
    }
}

#[test]
fn a_norm_made_of_squares_has_gradient_zero_at_zero() {
    let norm = |net: &mut Net| {
        let square = net.op("Mul", &["image", "image"]);
        let axes = net.b.list(&[-1]);
        let sum = net.op("ReduceSum", &[&square, &axes]);
        net.op("Sqrt", &[&sum])
    };
    assert_eq!(gradient(norm, &[0.0; 3]), [0.0; 3]);
    assert!(relative_error(&gradient(norm, &[3.0, 0.0, 4.0]), &[0.6, 0.0, 0.8]) < 1e-12);
}

#[test]
fn lp_normalisation_is_finite_at_zero() {
    for p in [1, 2] {
        let net = |net: &mut Net| net.b.node("LpNormalization", &["image"], vec![AttributeProto::int("p", p)]);
        assert!(gradient(net, &[0.0; 3]).iter().all(|g| g.is_finite()));
    }
}

#[test]
fn equal_operands_share_the_gradient() {
    assert_eq!(gradient(|net| net.op("Max", &["image", "image"]), &[1.0, 2.0]), [1.0, 1.0]);
    assert_eq!(gradient(|net| net.op("Mul", &["image", "image"]), &[1.0, 2.0]), [2.0, 4.0]);
}
