//! The emitted gradient, run by the float64 interpreter, against central differences of the forward pass alone.

use super::supported_ops;
use crate::onnx::attack_graph::{self, AttackGraph, AttackGraphOptions, LossDistance};
use crate::onnx::fixtures::{Net, little_resnet, uniform};
use crate::onnx::interpret::{self, Tensor};
use crate::onnx::proto::{AttributeProto, ModelProto};

const BATCH: usize = 2;
const TARGETS: usize = 3;

fn options(distance: LossDistance) -> AttackGraphOptions {
    AttackGraphOptions { distance, batch_size: Some(BATCH), targets_per_sample: Some(TARGETS), gradient_output: true }
}

/// The loss of `encoder::Descent`, written out in Rust.
fn loss(e: &Tensor, targets: &[f32], weights: &[f32], distance: LossDistance) -> Vec<f64> {
    let d = e.shape[1];
    let one = |n: usize, t: usize| {
        let target = &targets[(n * TARGETS + t) * d..][..d];
        let square: f64 = e.data[n * d..][..d].iter().zip(target).map(|(a, b)| (a - f64::from(*b)).powi(2)).sum();
        let distance = if distance == LossDistance::Euclidean { square.sqrt() } else { square };
        f64::from(weights[n * TARGETS + t]) * distance
    };
    (0..e.shape[0]).map(|n| (0..TARGETS).map(|t| one(n, t)).sum()).collect()
}

struct Case {
    image: Vec<usize>,
    x: Tensor,
    targets: Vec<f32>,
    weights: Vec<f32>,
    d: usize,
}

impl Case {
    fn new(model: &ModelProto) -> Self {
        let signature = attack_graph::signature(model).unwrap();
        let image: Vec<usize> = signature.input_dims[1..].iter().map(|d| d.fixed().unwrap()).collect();
        let d = signature.embedding_dim.unwrap();
        let shape = [&[BATCH], &image[..]].concat();
        let x = Tensor::from_f32(&shape, &uniform(100, shape.iter().product(), 0.05, 0.95));
        let targets = uniform(101, BATCH * TARGETS * d, -1.0, 1.0);
        Self { image, x, targets, weights: vec![1.0, -0.5, 0.25, 0.1, 0.7, -2.0], d }
    }

    fn run(&self, graph: &AttackGraph) -> interpret::Values {
        let channels = [BATCH, self.image[0], 1, 1];
        let inputs = [
            (graph.x.as_str(), self.x.clone()),
            (&graph.lower, self.x.map(|v| v - 0.01)),
            (&graph.upper, self.x.map(|v| v + 0.02)),
            (&graph.step_size, Tensor::zeros(&channels).map(|_| 0.015)),
            (&graph.targets, Tensor::from_f32(&[BATCH, TARGETS, self.d], &self.targets)),
            (&graph.weights, Tensor::from_f32(&[BATCH, TARGETS], &self.weights)),
        ];
        interpret::run(&graph.model, &inputs).unwrap()
    }

    /// `∂ Σ loss / ∂ x` by central differences; samples are independent.
    fn central_differences(&self, model: &ModelProto, distance: LossDistance) -> Vec<f64> {
        let output = &model.graph.as_ref().unwrap().output[0].name;
        let h = 1e-6;
        let at = |i: usize, step: f64| {
            let mut x = self.x.clone();
            x.data[i] += step;
            let e = &interpret::run(model, &[("image", x)]).unwrap()[output];
            loss(e, &self.targets, &self.weights, distance).iter().sum::<f64>()
        };
        (0..self.x.data.len()).map(|i| (at(i, h) - at(i, -h)) / (2.0 * h)).collect()
    }
}

/// `‖a − b‖ / ‖b‖`.
fn relative_error(a: &[f64], b: &[f64]) -> f64 {
    let square = |v: f64| v * v;
    let difference: f64 = a.iter().zip(b).map(|(x, y)| square(x - y)).sum();
    let size: f64 = b.iter().map(|v| square(*v)).sum();
    (difference / size).sqrt()
}

fn check(name: &str, model: &ModelProto, distance: LossDistance) {
    let case = Case::new(model);
    let graph = attack_graph::build(model.clone(), &options(distance)).unwrap();
    let values = case.run(&graph);
    let gradient = &values[graph.gradient.as_ref().unwrap()];
    assert_eq!(gradient.shape, case.x.shape, "{name}");
    let numeric = case.central_differences(model, distance);
    assert!(numeric.iter().any(|v| v.abs() > 1e-6), "{name}: the test has no gradient to find");
    let error = relative_error(&gradient.data, &numeric);
    assert!(error < 1e-5, "{name}: relative error {error:e}");

    let wanted = loss(&values[&graph.embedding], &case.targets, &case.weights, distance);
    assert!(relative_error(&values[&graph.loss].data, &wanted) < 1e-12, "{name}: loss");
    for (i, next) in values[&graph.x_next].data.iter().enumerate() {
        let moved = case.x.data[i] - 0.015 * gradient.data[i].signum() * f64::from(gradient.data[i] != 0.0);
        let clipped = moved.max(case.x.data[i] - 0.01).min(case.x.data[i] + 0.02);
        assert!((next - clipped).abs() < 1e-8, "{name}: pixel {i} moved to {next}, wanted {clipped}");
    }
}

#[test]
fn residual_net_with_overlapping_max_pool_at_odd_and_even_sizes() {
    check("13x11", &little_resnet(13, 11), LossDistance::SquaredEuclidean);
    check("12x12", &little_resnet(12, 12), LossDistance::Euclidean);
}

#[test]
fn convolutions_of_every_geometry() {
    /// Name, weight shape, attributes, groups.
    type Geometry = (&'static str, [usize; 4], &'static [(&'static str, &'static [i64])], i64);
    let geometries: &[Geometry] = &[
        ("3x3", [4, 2, 3, 3], &[], 1),
        ("padded", [4, 2, 3, 3], &[("pads", &[1, 1, 1, 1])], 1),
        ("uneven pads", [4, 2, 3, 3], &[("pads", &[0, 1, 2, 1])], 1),
        ("pads wider than the kernel", [4, 2, 1, 1], &[("pads", &[1, 1, 1, 1])], 1),
        ("stride 2, one row left over", [4, 2, 3, 3], &[("strides", &[2, 2])], 1),
        ("stride 3", [4, 2, 2, 3], &[("strides", &[3, 2]), ("pads", &[1, 0, 0, 1])], 1),
        ("1x1 stride 2", [4, 2, 1, 1], &[("strides", &[2, 2])], 1),
        ("dilated", [4, 2, 3, 3], &[("dilations", &[2, 1]), ("pads", &[2, 1, 2, 1])], 1),
        ("dilated and strided", [4, 2, 3, 3], &[("dilations", &[2, 2]), ("strides", &[2, 2])], 1),
        ("grouped", [4, 1, 3, 3], &[("pads", &[1, 1, 1, 1])], 2),
        ("grouped and strided", [4, 1, 3, 3], &[("strides", &[2, 2])], 2),
    ];
    for (name, dims, lists, group) in geometries {
        let mut net = Net::new([2, 8, 7]);
        let x = net.conv_with("image", *dims, lists, *group);
        let x = net.batch_norm(&x, 4);
        let x = net.op("Tanh", &[&x]);
        let e = net.head(&x, 4, 3);
        check(name, &net.finish(&e, 3), LossDistance::SquaredEuclidean);
    }
}

#[test]
fn same_padding_and_ceil_mode() {
    for mode in ["SAME_UPPER", "SAME_LOWER"] {
        let mut net = Net::new([2, 7, 6]);
        let w = net.weight(&[4, 2, 3, 3], -0.5, 0.5);
        let attributes = vec![AttributeProto::string("auto_pad", mode), AttributeProto::ints("strides", &[2, 2])];
        let x = net.b.node("Conv", &["image", &w], attributes);
        let x = net.op("Sigmoid", &[&x]);
        let e = net.head(&x, 4, 3);
        check(mode, &net.finish(&e, 3), LossDistance::SquaredEuclidean);
    }
    for (op, include) in [("MaxPool", 0), ("AveragePool", 0), ("AveragePool", 1)] {
        let mut net = Net::new([2, 8, 6]);
        let mut attributes = vec![
            AttributeProto::ints("kernel_shape", &[3, 3]),
            AttributeProto::ints("strides", &[2, 2]),
            AttributeProto::ints("pads", &[1, 0, 1, 0]),
            AttributeProto::int("ceil_mode", 1),
        ];
        if op == "AveragePool" {
            attributes.push(AttributeProto::int("count_include_pad", include));
        }
        let x = net.b.node(op, &["image"], attributes);
        let x = net.op("Tanh", &[&x]);
        let e = net.head(&x, 2, 3);
        check(op, &net.finish(&e, 3), LossDistance::SquaredEuclidean);
    }
}

/// Nets of a few entry-wise, broadcasting and reducing operators on a `[n, 2, 4, 3]` image.
fn small_nets() -> Vec<(&'static str, ModelProto)> {
    let mut nets = vec![];
    let mut add = |name: &'static str, body: &dyn Fn(&mut Net) -> String| {
        let mut net = Net::new([2, 4, 3]);
        let x = body(&mut net);
        let flat = net.op("Flatten", &[&x]);
        let shape = net.b.clone().finish().graph.map(|g| crate::onnx::shape::Facts::infer(&g).unwrap()).unwrap();
        let c = shape.shape(&flat).unwrap()[1].fixed().unwrap();
        let e = net.linear_head(&flat, c, 3);
        nets.push((name, net.finish(&e, 3)));
    };
    for op in ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "Exp", "Neg", "Abs", "Identity", "Dropout", "Sqrt", "Log"] {
        add(op, &move |net| {
            // Sqrt and Log see positive numbers, the others both signs.
            let shift = net.b.scalar(if matches!(op, "Sqrt" | "Log") { 0.5 } else { -0.5 });
            let x = net.op("Add", &["image", &shift]);
            net.op(op, &[&x])
        });
    }
    for op in ["Add", "Sub", "Mul", "Div"] {
        for (name, dims) in [("scalar", vec![]), ("channel", vec![2, 1, 1]), ("full", vec![1, 2, 4, 3])] {
            add(Box::leak(format!("{op} with {name} constant, both sides").into_boxed_str()), &move |net| {
                let w = net.weight(&dims, 0.5, 1.5);
                let left = net.op(op, &["image", &w]);
                net.op(op, &[&w, &left])
            });
        }
        add(Box::leak(format!("{op} of two values that broadcast").into_boxed_str()), &move |net| {
            let axes = net.b.list(&[2, 3]);
            let mean = net.b.node("ReduceMean", &["image", &axes], vec![]);
            let both = net.op(op, &["image", &mean]);
            net.op(op, &[&mean, &both])
        });
    }
    for (op, keep) in [("ReduceSum", 0), ("ReduceSum", 1), ("ReduceMean", 0), ("ReduceL2", 0), ("ReduceL2", 1)] {
        add(Box::leak(format!("{op} keepdims {keep}").into_boxed_str()), &move |net| {
            let axes = net.b.list(&[-1, 1]);
            let flags = vec![AttributeProto::int("keepdims", keep)];
            net.b.node(op, &["image", &axes], flags)
        });
    }
    add("Clip", &|net| {
        let (low, high) = (net.b.scalar(0.3), net.b.scalar(0.7));
        net.op("Clip", &["image", &low, &high])
    });
    add("Pow", &|net| {
        let p = net.b.scalar(2.5);
        net.op("Pow", &["image", &p])
    });
    add("Cast", &|net| net.b.node("Cast", &["image"], vec![AttributeProto::int("to", 1)]));
    add("Concat and Transpose", &|net| {
        let y = net.op("Tanh", &["image"]);
        let w = net.weight(&[1, 2, 4, 1], 0.0, 1.0);
        let wide = net.op("Mul", &["image", &w]);
        let x = net.b.node("Concat", &[&y, &wide], vec![AttributeProto::int("axis", -1)]);
        net.b.node("Transpose", &[&x], vec![AttributeProto::ints("perm", &[0, 3, 1, 2])])
    });
    add("MatMul on both sides", &|net| {
        let right = net.weight(&[3, 5], -1.0, 1.0);
        let left = net.weight(&[6, 4], -1.0, 1.0);
        let x = net.op("MatMul", &["image", &right]);
        net.op("MatMul", &[&left, &x])
    });
    add("MatMul of two values", &|net| {
        let t = net.b.node("Transpose", &["image"], vec![AttributeProto::ints("perm", &[0, 1, 3, 2])]);
        net.op("MatMul", &["image", &t])
    });
    add("Reshape as PyTorch writes it, Squeeze, Unsqueeze", &|net| {
        let shape = net.op("Shape", &["image"]);
        let zero = net.b.constant_i64("zero", &[], &[0]);
        let n = net.op("Gather", &[&shape, &zero]);
        let first = net.b.list(&[0]);
        let n = net.op("Unsqueeze", &[&n, &first]);
        let rest = net.b.list(&[-1]);
        let shape = net.b.node("Concat", &[&n, &rest], vec![AttributeProto::int("axis", 0)]);
        let flat = net.op("Reshape", &["image", &shape]);
        let axis = net.b.list(&[1]);
        let x = net.op("Unsqueeze", &[&flat, &axis]);
        net.op("Squeeze", &[&x, &axis])
    });
    add("Gemm without transposition, with alpha and beta", &|net| {
        let flat = net.op("Flatten", &["image"]);
        let w = net.weight(&[24, 4], -1.0, 1.0);
        let bias = net.weight(&[4], -1.0, 1.0);
        let factors = vec![AttributeProto::float("alpha", 0.7), AttributeProto::float("beta", 1.3)];
        net.b.node("Gemm", &[&flat, &w, &bias], factors)
    });
    add("BatchNormalization alone", &|net| net.batch_norm("image", 2));
    add("max pool, windows apart", &|net| net.max_pool("image", 2, 2, 0));
    add("max pool, overlapping", &|net| net.max_pool("image", 3, 1, 1));
    nets
}

#[test]
fn small_ops_one_by_one() {
    for (name, model) in small_nets() {
        check(name, &model, LossDistance::SquaredEuclidean);
    }
}

#[test]
fn every_supported_op_is_in_a_test() {
    let mut seen = std::collections::HashSet::new();
    let nets = small_nets().into_iter().map(|(_, m)| m).chain([little_resnet(12, 12)]);
    for model in nets {
        seen.extend(model.graph.unwrap().node.into_iter().map(|n| n.op_type));
    }
    seen.extend(["AveragePool".into(), "MaxPool".into()]);
    let missing: Vec<&str> = supported_ops().filter(|op| !seen.contains(*op)).collect();
    assert!(missing.is_empty(), "no test differentiates {missing:?}");
}

#[test]
fn an_op_without_a_rule_is_named() {
    let mut net = Net::new([2, 4, 3]);
    let x = net.op("Softplus", &["image"]);
    let e = net.head(&x, 2, 3);
    let error = attack_graph::build(net.finish(&e, 3), &options(LossDistance::Euclidean)).unwrap_err();
    assert_eq!(error.to_string(), "node `softplus/Softplus` (Softplus) has no gradient rule");
}

#[test]
fn forward_nodes_stay_what_they_were() {
    let model = little_resnet(12, 12);
    let before = model.graph.as_ref().unwrap().node.clone();
    let graph = attack_graph::build(model, &options(LossDistance::Euclidean)).unwrap();
    for (old, new) in before.iter().zip(&graph.model.graph.as_ref().unwrap().node) {
        let mut new = new.clone();
        if new.op_type == "MaxPool" {
            new.output.truncate(1);
        }
        assert_eq!(*old, new);
    }
}

#[test]
fn euclidean_loss_at_the_target_has_gradient_zero() {
    let model = little_resnet(12, 12);
    let mut case = Case::new(&model);
    let graph = attack_graph::build(model, &options(LossDistance::Euclidean)).unwrap();
    let own = case.run(&graph)[&graph.embedding].clone();
    case.targets = (0..BATCH).flat_map(|n| own.data[n * 5..][..5].repeat(TARGETS)).map(|v| v as f32).collect();
    // The target is the embedding rounded to f32, so the distance is about 1e-8 and the slope bounded by the weight.
    let values = case.run(&graph);
    assert!(values[graph.gradient.as_ref().unwrap()].data.iter().all(|v| v.is_finite()));
    assert!(values[&graph.gradient_l1].data.iter().all(|v| v.is_finite()));
}
