//! Damaged nets: whatever a file says, it is an error in words or a graph, of bounded size; never a panic.
//!
//! A file can be well-formed and still lie in every number. Each net of the fixtures is taken and a few attributes,
//! lists, shapes, wires or operators in it are replaced by odd ones, from a seed.

use prost::Message as _;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::options;
use crate::onnx::LossDistance;
use crate::onnx::attack_graph;
use crate::onnx::fixtures::{FAMILIES, Nets};
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, data_type};

const NETS: u64 = 3000;

const ODD: &[i64] = &[
    0,
    1,
    -1,
    2,
    -2,
    3,
    5,
    64,
    65,
    -64,
    1 << 20,
    1 << 31,
    1 << 32,
    -(1 << 40),
    1 << 62,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
];

const OPERATORS: &[&str] = &[
    "Add",
    "AveragePool",
    "Cast",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "CumSum",
    "Einsum",
    "Expand",
    "Flatten",
    "Gather",
    "GatherND",
    "Gemm",
    "LayerNormalization",
    "LpPool",
    "MatMul",
    "MaxPool",
    "NonZero",
    "OneHot",
    "Pad",
    "Range",
    "ReduceMean",
    "Reshape",
    "Resize",
    "ScatterND",
    "Shape",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
];

fn pick<'a, T>(rng: &mut ChaCha8Rng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

fn damage(graph: &mut GraphProto, rng: &mut ChaCha8Rng) {
    let at = rng.random_range(0..graph.node.len());
    match rng.random_range(0..6) {
        0 | 1 => {
            let attributes = &mut graph.node[at].attribute;
            if !attributes.is_empty() {
                let a = rng.random_range(0..attributes.len());
                damage_attribute(&mut attributes[a], rng);
            }
        }
        2 => drop(graph.node[at].attribute.pop()),
        3 => {
            let lists: Vec<&mut TensorProto> =
                graph.initializer.iter_mut().filter(|t| t.data_type == data_type::INT64).collect();
            if !lists.is_empty() {
                let which = rng.random_range(0..lists.len());
                lists.into_iter().nth(which).into_iter().for_each(|list| damage_list(list, rng));
            }
        }
        4 => {
            let made = graph.node[..at].iter().flat_map(|n| &n.output);
            let mut names: Vec<String> = graph.initializer.iter().map(|t| &t.name).chain(made).cloned().collect();
            names.extend(["image".into(), String::new()]);
            let name = pick(rng, &names).clone();
            rewire(&mut graph.node[at], name, rng);
        }
        _ => graph.node[at].op_type = pick(rng, OPERATORS).to_string(),
    }
}

fn damage_attribute(a: &mut AttributeProto, rng: &mut ChaCha8Rng) {
    match rng.random_range(0..3) {
        0 if !a.ints.is_empty() => {
            let i = rng.random_range(0..a.ints.len());
            a.ints[i] = *pick(rng, ODD);
        }
        1 => a.ints.push(*pick(rng, ODD)),
        _ => {
            a.ints.pop();
            a.i = a.i.map(|_| *pick(rng, ODD));
            a.f = a.f.map(|_| *pick(rng, &[f32::NAN, 0.0, -1.0, f32::INFINITY, 1e38]));
            a.s = a.s.take().map(|_| b"odd".to_vec());
        }
    }
}

fn damage_list(list: &mut TensorProto, rng: &mut ChaCha8Rng) {
    let mut numbers = list.to_i64().unwrap_or_default();
    match rng.random_range(0..3) {
        0 if !numbers.is_empty() => {
            let i = rng.random_range(0..numbers.len());
            numbers[i] = *pick(rng, ODD);
        }
        1 => numbers.push(*pick(rng, ODD)),
        _ => drop(numbers.pop()),
    }
    *list = TensorProto::from_i64(&list.name, &[numbers.len()], &numbers);
}

fn rewire(node: &mut NodeProto, to: String, rng: &mut ChaCha8Rng) {
    if !node.input.is_empty() {
        let i = rng.random_range(0..node.input.len());
        node.input[i] = to;
    }
}

#[test]
fn damaged_nets_are_refused_in_words_and_in_bounded_size() {
    let nets: Vec<_> = FAMILIES.iter().flat_map(|(family, _)| Nets::of(family).0).collect();
    let mut refused = 0;
    for seed in 0..NETS {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (name, mut model) = pick(&mut rng, &nets).clone();
        for _ in 0..rng.random_range(1..4) {
            damage(model.graph.as_mut().unwrap(), &mut rng);
        }
        // What is written is bounded, and so is the time that writing takes; this layer has no clock.
        match attack_graph::build(model, &options(LossDistance::Euclidean)) {
            Err(_) => refused += 1,
            Ok(graph) => {
                let bytes = graph.model.encoded_len();
                assert!(bytes < 1 << 26, "seed {seed}, damaged {name}: {bytes} bytes");
            }
        }
    }
    // Some damage does no harm; most does.
    assert!(refused > NETS / 4 && refused < NETS, "{refused} of {NETS} were refused");
}
