//! The emitted gradient, run by the float64 interpreter, against central differences of the forward pass alone.

mod conventions;
mod hostile;
mod refused;
mod straight;

use std::collections::HashSet;

use super::supported_ops;
use crate::onnx::attack_graph::{self, AttackGraph, AttackGraphOptions};
use crate::onnx::fixtures::{FAMILIES, Net, Nets, little_resnet, uniform};
use crate::onnx::interpret::{self, Tensor};
use crate::onnx::proto::{ModelProto, NodeProto};
use crate::onnx::{LossDistance, LossHead, OnnxError};

const BATCH: usize = 2;
const TARGETS: usize = 3;

fn options(distance: LossDistance) -> AttackGraphOptions {
    AttackGraphOptions {
        head: LossHead::Weighted(distance),
        batch_size: Some(BATCH),
        targets_per_sample: Some(TARGETS),
        gradient_output: true,
        straight_through: false,
    }
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
        self.try_run(graph).unwrap()
    }

    fn try_run(&self, graph: &AttackGraph) -> Result<interpret::Values, OnnxError> {
        let channels = [BATCH, self.image[0], 1, 1];
        let inputs = [
            (graph.x.as_str(), self.x.clone()),
            (&graph.lower, self.x.map(|v| v - 0.01)),
            (&graph.upper, self.x.map(|v| v + 0.02)),
            (&graph.step_size, Tensor::zeros(&channels).map(|_| 0.015)),
            (&graph.targets, Tensor::from_f32(&[BATCH, TARGETS, self.d], &self.targets)),
            (&graph.weights, Tensor::from_f32(&[BATCH, TARGETS], &self.weights)),
        ];
        interpret::run(&graph.model, &inputs)
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

/// What is wrong with the attack graph of a model.
fn fault(model: &ModelProto, distance: LossDistance) -> Result<(), String> {
    let case = Case::new(model);
    let graph = attack_graph::build(model.clone(), &options(distance)).map_err(|e| e.to_string())?;
    let values = case.try_run(&graph).map_err(|e| e.to_string())?;
    let gradient = &values[graph.gradient.as_ref().unwrap()];
    assert_eq!(gradient.shape, case.x.shape);
    let numeric = case.central_differences(model, distance);
    if !numeric.iter().any(|v| v.abs() > 1e-6) {
        return Err("the test has no gradient to find".into());
    }
    let error = relative_error(&gradient.data, &numeric);
    // Not `error > 1e-5`: a NaN must fail.
    if error.partial_cmp(&1e-5) != Some(std::cmp::Ordering::Less) {
        return Err(format!("relative error {error:e}"));
    }
    let wanted = loss(&values[&graph.embedding], &case.targets, &case.weights, distance);
    assert!(relative_error(&values[&graph.loss].data, &wanted) < 1e-12, "loss");
    for (i, next) in values[&graph.x_next].data.iter().enumerate() {
        let moved = case.x.data[i] - 0.015 * gradient.data[i].signum() * f64::from(gradient.data[i] != 0.0);
        let clipped = moved.max(case.x.data[i] - 0.01).min(case.x.data[i] + 0.02);
        assert!((next - clipped).abs() < 1e-8, "pixel {i} moved to {next}, wanted {clipped}");
    }
    Ok(())
}

#[test]
fn residual_net_with_overlapping_max_pool_at_odd_and_even_sizes() {
    assert_eq!(fault(&little_resnet(13, 11), LossDistance::SquaredEuclidean), Ok(()));
    assert_eq!(fault(&little_resnet(12, 12), LossDistance::Euclidean), Ok(()));
}

/// Masks and anchors as depthwise convolutions, where the channels fill whole blocks.
#[test]
fn gradients_stay_in_the_blocked_layout() {
    let mut net = Net::new([3, 8, 8]);
    let x = net.conv("image", [16, 3, 3, 3], 1, 1);
    let x = net.batch_norm(&x, 16);
    let x = net.op("Relu", &[&x]);
    let y = net.conv(&x, [16, 16, 3, 3], 2, 1);
    let y = net.op("Relu", &[&y]);
    let y = net.conv(&y, [32, 16, 1, 1], 1, 0);
    let shortcut = net.conv(&x, [32, 16, 1, 1], 2, 0);
    let sum = net.op("Add", &[&y, &shortcut]);
    let x = net.op("Relu", &[&sum]);
    let e = net.head(&x, 32, 3);
    let model = net.finish(&e, 3);
    assert_eq!(fault(&model, LossDistance::SquaredEuclidean), Ok(()));
    let nodes = attack_graph::build(model, &options(LossDistance::Euclidean)).unwrap().model.graph.unwrap().node;
    assert!(nodes.iter().all(|n| n.op_type != "HardSigmoid"), "a mask left the blocked layout");
    let channelwise = nodes.iter().filter(|n| n.op_type == "Conv" && n.input[1].starts_with("channels_")).count();
    // Three masks; anchors behind the global pooling and the two convolutions of stride 2.
    assert_eq!(channelwise, 6);
}

/// Every net of a family.
fn check_family(family: &str) {
    let fault = |(name, model): (String, ModelProto)| {
        fault(&model, LossDistance::SquaredEuclidean).err().map(|e| format!("{name}: {e}"))
    };
    let faults: Vec<String> = Nets::of(family).0.into_iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn arithmetic_operators() {
    check_family("arithmetic");
}

#[test]
fn functions_of_one_value() {
    check_family("functions");
}

#[test]
fn indexing_operators() {
    check_family("indexing");
}

#[test]
fn layout_operators() {
    check_family("layout");
}

#[test]
fn linear_operators() {
    check_family("linear");
}

#[test]
fn normalisations() {
    check_family("normalisation");
}

#[test]
fn reductions() {
    check_family("reduction");
}

#[test]
fn spatial_operators() {
    check_family("spatial");
}

#[test]
fn operators_of_onnx_runtime() {
    check_family("contributed");
}

#[test]
fn every_supported_op_is_in_a_net() {
    let nets = FAMILIES.iter().flat_map(|(family, _)| Nets::of(family).0);
    let name = |n: NodeProto| if n.is_onnx() { n.op_type } else { format!("{}.{}", n.domain, n.op_type) };
    let seen: HashSet<String> = nets.flat_map(|(_, m)| m.graph.unwrap().node).map(name).collect();
    let missing: Vec<String> = supported_ops().into_iter().filter(|op| !seen.contains(op)).collect();
    assert!(missing.is_empty(), "no net in fixtures/ has {missing:?}");
}

#[test]
fn an_op_without_a_rule_is_named() {
    let mut net = Net::new([2, 4, 3]);
    let x = net.op("Round", &["image"]);
    let e = net.head(&x, 2, 3);
    let error = attack_graph::build(net.finish(&e, 3), &options(LossDistance::Euclidean)).unwrap_err();
    assert_eq!(error.to_string(), "node `round/Round` (Round) has no gradient rule");
}

#[test]
fn forward_nodes_stay_what_they_were() {
    let model = little_resnet(12, 12);
    let before = model.graph.as_ref().unwrap().node.clone();
    let graph = attack_graph::build(model, &options(LossDistance::Euclidean)).unwrap();
    for (old, new) in before.iter().zip(&graph.model.graph.as_ref().unwrap().node) {
        assert_eq!(old, new);
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
