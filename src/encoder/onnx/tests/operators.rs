//! Every net of `onnx::fixtures` in ONNX Runtime, forward and backward, against the float64 interpreter: so that a
//! wrong reading of an operator's definition cannot hide in both the interpreter and the gradient rule.

use std::collections::BTreeMap;

use super::{Provider, Weights, relative_error, runtime, session};
use crate::onnx::attack_graph::{self, AttackGraphOptions};
use crate::onnx::fixtures::{FAMILIES, Nets, uniform};
use crate::onnx::interpret::{self, Tensor};
use crate::onnx::proto::ModelProto;
use crate::onnx::{LossDistance, LossHead};

const BATCH: usize = 2;
const TARGETS: usize = 3;

/// Named inputs with their shapes.
type Inputs = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Named outputs, each as ONNX Runtime and as the interpreter has it.
type Outputs = BTreeMap<String, (Vec<f32>, Vec<f64>)>;

/// The named outputs of both.
fn run(model: &ModelProto, inputs: &Inputs, names: &[&str]) -> Result<Outputs, String> {
    let exact: Vec<_> = inputs.iter().map(|(n, shape, data)| (n.as_str(), Tensor::from_f32(shape, data))).collect();
    let exact = interpret::run(model, &exact).map_err(|e| e.to_string())?;
    // Before the session, which reads them to its end.
    let mut weights = Weights::default();
    let mut session =
        session::open(&runtime(), "net", model, Provider::Cpu, &mut weights).map_err(|e| e.to_string())?;
    let feeds: Vec<_> = inputs
        .iter()
        .map(|(name, shape, data)| (name.clone(), session::tensor("net", shape, data.clone()).unwrap()))
        .collect();
    let outputs = session.run(feeds).map_err(|e| e.to_string())?;
    let both = |name: &&str| {
        let got = outputs[*name].try_extract_tensor::<f32>().unwrap().1.to_vec();
        (name.to_string(), (got, exact[*name].data.clone()))
    };
    Ok(names.iter().map(both).collect())
}

fn check(model: &ModelProto) -> Result<(), String> {
    let signature = attack_graph::signature(model).unwrap();
    let image: Vec<usize> = signature.input_dims[1..].iter().map(|d| d.fixed().unwrap()).collect();
    let shape = [&[BATCH], &image[..]].concat();
    let x = uniform(100, shape.iter().product(), 0.05, 0.95);
    let close = |what: &str, (got, wanted): &(Vec<f32>, Vec<f64>), tolerance: f64| {
        let error = relative_error(got, wanted);
        // Not `error > tolerance`: a NaN must fail.
        if error < tolerance { Ok(()) } else { Err(format!("{what}: relative error {error:e}")) }
    };

    let forward = attack_graph::with_batch_size(model.clone(), BATCH);
    let inputs = vec![(signature.input.clone(), shape.clone(), x.clone())];
    close("forward", &run(&forward, &inputs, &[&signature.output])?[&signature.output], 1e-5)?;

    let options = AttackGraphOptions {
        head: LossHead::Weighted(LossDistance::SquaredEuclidean),
        batch_size: Some(BATCH),
        targets_per_sample: Some(TARGETS),
        gradient_output: true,
        straight_through: false,
    };
    let graph = attack_graph::build(model.clone(), &options).map_err(|e| e.to_string())?;
    let d = signature.embedding_dim.unwrap();
    let inputs = vec![
        (graph.x.clone(), shape.clone(), x.clone()),
        (graph.lower.clone(), shape.clone(), x.iter().map(|v| v - 0.01).collect()),
        (graph.upper.clone(), shape.clone(), x.iter().map(|v| v + 0.01).collect()),
        (graph.step_size.clone(), vec![BATCH, image[0], 1, 1], vec![0.005; BATCH * image[0]]),
        (graph.targets.clone(), vec![BATCH, TARGETS, d], uniform(101, BATCH * TARGETS * d, -1.0, 1.0)),
        (graph.weights.clone(), vec![BATCH, TARGETS], vec![1.0, -0.5, 0.25, 0.1, 0.7, -2.0]),
    ];
    let gradient = graph.gradient.as_ref().unwrap();
    let results = run(&graph.model, &inputs, &[&graph.embedding, gradient])?;
    close("embedding", &results[&graph.embedding], 1e-5)?;
    close("gradient", &results[gradient], 1e-4)
}

#[test]
fn onnx_runtime_agrees_with_the_interpreter_on_every_operator() {
    let nets = FAMILIES.iter().flat_map(|(family, _)| Nets::of(family).0);
    let wrong: Vec<String> =
        nets.filter_map(|(name, model)| Some(format!("{name}: {}", check(&model).err()?))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the rules emit has kept its form since the set that they are written in; the runtime's newest set says so.
#[test]
fn emitted_graphs_load_at_newer_operator_sets() {
    // The last one that ONNX Runtime 1.32 takes.
    const NEWEST: i64 = 28;
    let options = AttackGraphOptions {
        head: LossHead::Weighted(LossDistance::Euclidean),
        batch_size: Some(BATCH),
        targets_per_sample: Some(TARGETS),
        gradient_output: true,
        straight_through: false,
    };
    let nets = ["indexing", "layout", "spatial"].iter().flat_map(|family| Nets::of(family).0);
    // ONNX Runtime itself has no kernel for this one since set 22.
    for (name, model) in nets.filter(|(name, _)| !name.starts_with("GlobalLpPool")) {
        let graph = attack_graph::build(model, &options).unwrap();
        for version in [19, 21, 23, 25, NEWEST] {
            let mut model = graph.model.clone();
            model.opset_import[0].version = version;
            let mut weights = Weights::default();
            if let Err(error) = session::open(&runtime(), "net", &model, Provider::Cpu, &mut weights) {
                panic!("{name} at set {version}: {error}");
            }
        }
    }
}
