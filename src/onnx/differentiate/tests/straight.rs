//! Straight-through estimates: asked for, listed, and equal to the gradient of the net without the rounding.

use super::{BATCH, Case, options, relative_error};
use crate::onnx::LossDistance;
use crate::onnx::attack_graph::{self, AttackGraphOptions};
use crate::onnx::fixtures::Net;
use crate::onnx::proto::{AttributeProto, ModelProto, TensorProto};

fn net(body: impl FnOnce(&mut Net) -> String) -> ModelProto {
    let mut net = Net::new([2, 4, 3]);
    let x = body(&mut net);
    let e = net.head(&x, 2, 3);
    net.finish(&e, 3)
}

/// The estimate's gradient and the nodes it lists.
fn estimate(model: &ModelProto) -> (Vec<f64>, Vec<String>) {
    let options = AttackGraphOptions { straight_through: true, ..options(LossDistance::SquaredEuclidean) };
    let graph = attack_graph::build(model.clone(), &options).unwrap();
    let gradient = Case::new(model).run(&graph)[graph.gradient.as_ref().unwrap()].data.clone();
    (gradient, graph.straight_through)
}

fn refusal(model: ModelProto) -> String {
    attack_graph::build(model, &options(LossDistance::SquaredEuclidean)).unwrap_err().to_string()
}

/// `x → op(4x) / 4 · w`, with weights small enough that the embedding's normalisation hardly bends between levels.
fn rounded(op: Option<&str>) -> ModelProto {
    net(|net| {
        let many = net.b.scalar(1e5);
        let x = net.op("Mul", &["image", &many]);
        let x = op.map_or(x.clone(), |op| net.op(op, &[&x]));
        let x = net.op("Div", &[&x, &many]);
        net.op("Mul", &[&x, &x])
    })
}

#[test]
fn rounding_passes_the_gradient_and_is_listed() {
    let (wanted, none) = estimate(&rounded(None));
    assert!(none.is_empty());
    for op in ["Round", "Floor", "Ceil"] {
        let model = rounded(Some(op));
        let label = format!("{}/{op}", op.to_lowercase());
        assert_eq!(refusal(model.clone()), format!("node `{label}` ({op}) has no gradient rule"));
        let (got, listed) = estimate(&model);
        assert_eq!(listed, [label]);
        // Steps of 1e-5: the rounded net is nearly the smooth one.
        assert!(relative_error(&got, &wanted) < 1e-3, "{op}");
    }
}

#[test]
fn quantisation_passes_the_gradient_inside_its_range() {
    // Levels of 1e-3 from 0 to 0.255: most pixels, which lie in (0.05, 0.95), are beyond.
    let quantized = |zero: u8, dims: &[i64]| {
        net(|net| {
            let scale = net.b.constant(
                "scale",
                &dims.iter().map(|d| *d as usize).collect::<Vec<_>>(),
                &[1e-3, 1e-3][..dims.first().map_or(1, |d| *d as usize)],
            );
            let count = dims.first().map_or(1, |d| *d as usize);
            let tensor = TensorProto {
                name: "zero_point".into(),
                data_type: 2,
                dims: dims.to_vec(),
                raw_data: Some(vec![zero; count].into()),
                ..TensorProto::default()
            };
            net.b.graph_mut().initializer.push(tensor);
            let axis = || vec![AttributeProto::int("axis", 1)];
            let q = net.b.node("QuantizeLinear", &["image", &scale, "zero_point"], axis());
            let y = net.b.node("DequantizeLinear", &[&q, &scale, "zero_point"], axis());
            net.op("Mul", &[&y, &y])
        })
    };
    let clipped = |zero: f32| {
        net(|net| {
            let (low, high) = (net.b.scalar(-zero * 1e-3), net.b.scalar((255.0 - zero) * 1e-3));
            let y = net.op("Clip", &["image", &low, &high]);
            net.op("Mul", &[&y, &y])
        })
    };
    for (zero, dims) in [(0, vec![]), (20, vec![]), (20, vec![2])] {
        let model = quantized(zero, &dims);
        assert!(refusal(model.clone()).ends_with("has no gradient rule"));
        let (got, listed) = estimate(&model);
        assert_eq!(listed, ["quantizelinear/QuantizeLinear", "dequantizelinear/DequantizeLinear"]);
        let (wanted, _) = estimate(&clipped(zero.into()));
        assert!(wanted.contains(&0.0) && wanted.iter().any(|v| *v != 0.0));
        for (a, b) in got.iter().zip(&wanted) {
            assert_eq!(*a == 0.0, *b == 0.0, "zero point {zero}");
        }
        assert!(relative_error(&got, &wanted) < 1e-2, "zero point {zero}");
    }
}

#[test]
fn casts_to_integers_pass_and_comparisons_count_as_constants() {
    let cast = |net: &mut Net, x: &str, to: i64| net.b.node("Cast", &[x], vec![AttributeProto::int("to", to)]);
    let through_integers = net(|net| {
        let many = net.b.scalar(1e5);
        let x = net.op("Mul", &["image", &many]);
        let x = cast(net, &x, 7);
        let x = cast(net, &x, 1);
        let x = net.op("Div", &[&x, &many]);
        net.op("Mul", &[&x, &x])
    });
    assert_eq!(refusal(through_integers.clone()), "node `cast/Cast` (Cast) has no gradient rule");
    let (got, listed) = estimate(&through_integers);
    assert_eq!(listed, ["cast/Cast"]);
    assert!(relative_error(&got, &estimate(&rounded(None)).0) < 1e-3);

    let masked = net(|net| {
        let half = net.b.scalar(0.5);
        let mask = net.op("Greater", &["image", &half]);
        let mask = cast(net, &mask, 1);
        net.op("Mul", &["image", &mask])
    });
    assert_eq!(refusal(masked.clone()), "node `greater/Greater` (Greater) has no gradient rule");
    let (got, listed) = estimate(&masked);
    assert_eq!(listed, ["greater/Greater"]);
    let case = Case::new(&masked);
    assert_eq!(case.x.data.len(), BATCH * 24);
    for (x, g) in case.x.data.iter().zip(&got) {
        assert_eq!(*x > 0.5, *g != 0.0);
    }
}
