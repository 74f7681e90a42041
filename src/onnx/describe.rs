//! What is in a model file, in numbers: for people who look at it before they attack it.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::access::Dim;
use super::attack_graph::written_out;
use super::differentiate::{Support, support};
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto, data_type};
use super::shape::Facts;
use super::wrap::{Adapted, list_values};

/// Facts about a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileFacts {
    /// Version of the file format.
    pub ir_version: i64,
    /// Domain and version of each operator set; `ai.onnx` is ONNX itself.
    pub opsets: Vec<(String, i64)>,
    /// Program and version that wrote it, as it says.
    pub producer: String,
    /// Inputs that are no constants, with type and shape.
    pub inputs: String,
    /// Outputs, with type and shape.
    pub outputs: String,
    /// Nodes of the main graph.
    pub nodes: usize,
    /// Model-local functions.
    pub functions: usize,
    /// Numbers in floating-point constants.
    pub parameters: u64,
    /// Bytes of all constants.
    pub constant_bytes: u64,
    /// Element types of the constants and how many numbers each has.
    pub constant_types: BTreeMap<String, u64>,
}

/// Whether an operator can be differentiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coverage {
    /// It has a rule.
    Rule,
    /// It has none but can be passed straight through, and lies between image and embedding.
    StraightThrough,
    /// It has none, and lies between image and embedding.
    Missing,
    /// No gradient passes through it.
    NotNeeded,
}

/// An operator of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperatorUse {
    /// Its name, with its domain if it is not ONNX's own.
    pub op: String,
    /// Nodes with it.
    pub count: usize,
    /// Of those, nodes between image and embedding.
    pub on_path: usize,
    /// Whether it can be differentiated.
    pub coverage: Coverage,
}

/// What a file holds.
pub fn file_facts(model: &ModelProto) -> FileFacts {
    let empty = GraphProto::default();
    let graph = model.graph.as_ref().unwrap_or(&empty);
    let in_nodes = graph.node.iter().filter(|n| n.op_type == "Constant").flat_map(|n| &n.attribute);
    let constants = graph.initializer.iter().chain(in_nodes.filter_map(|a| a.t.as_ref()));
    let (mut parameters, mut bytes, mut types) = (0, 0, BTreeMap::new());
    for tensor in constants {
        let count = count_of(tensor);
        if [data_type::FLOAT, data_type::FLOAT16, data_type::DOUBLE, BFLOAT16].contains(&tensor.data_type) {
            parameters += count;
        }
        bytes += count * width_of(tensor.data_type);
        *types.entry(data_type::name(tensor.data_type)).or_default() += count;
    }
    let domain = |name: &str| if name.is_empty() { "ai.onnx".into() } else { name.to_string() };
    FileFacts {
        ir_version: model.ir_version,
        opsets: model.opset_import.iter().map(|set| (domain(&set.domain), set.version)).collect(),
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_string(),
        inputs: list_values(graph.true_inputs()),
        outputs: list_values(&graph.output),
        nodes: graph.node.len(),
        functions: model.functions.len(),
        parameters,
        constant_bytes: bytes,
        constant_types: types,
    }
}

/// `bfloat16` in ONNX's numbering.
const BFLOAT16: i32 = 16;

fn count_of(tensor: &TensorProto) -> u64 {
    tensor.dims.iter().map(|d| u64::try_from(*d).unwrap_or(0)).fold(1, u64::saturating_mul)
}

/// Bytes of one number.
fn width_of(elem_type: i32) -> u64 {
    match elem_type {
        data_type::DOUBLE | data_type::INT64 => 8,
        data_type::FLOAT | data_type::INT32 => 4,
        data_type::FLOAT16 | BFLOAT16 => 2,
        _ => 1,
    }
}

/// The operators of an adapted model, most frequent first. Counted after functions and decided branches are written
/// out and the file is lifted to today's operator set, since the rules are written for that.
pub fn operators(adapted: &Adapted) -> Vec<OperatorUse> {
    let single = adapted.with_batch(Dim::Fixed(1));
    let lifted = written_out(single.clone()).unwrap_or(single);
    let Some(graph) = &lifted.graph else { return vec![] };
    let path = path(graph, &adapted.pixels, &adapted.embedding);
    let mut uses: BTreeMap<String, (usize, usize, Support)> = BTreeMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        let name = if node.is_onnx() { node.op_type.clone() } else { format!("{}::{}", node.domain, node.op_type) };
        let entry = uses.entry(name).or_insert((0, 0, Support::Rule));
        entry.0 += 1;
        if path.contains(&index) {
            entry.1 += 1;
            // A cast may be to floats here and to integers there: the worse counts.
            entry.2 = match (entry.2, support(node)) {
                (Support::None, _) | (_, Support::None) => Support::None,
                (Support::StraightThrough, _) | (_, Support::StraightThrough) => Support::StraightThrough,
                _ => Support::Rule,
            };
        }
    }
    let mut list: Vec<OperatorUse> = uses
        .into_iter()
        .map(|(op, (count, on_path, support))| {
            let coverage = match (on_path, support) {
                (0, _) => Coverage::NotNeeded,
                (_, Support::Rule) => Coverage::Rule,
                (_, Support::StraightThrough) => Coverage::StraightThrough,
                (_, Support::None) => Coverage::Missing,
            };
            OperatorUse { op, count, on_path, coverage }
        })
        .collect();
    list.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.op.cmp(&b.op)));
    list
}

/// Multiplications of one forward pass, as far as shapes are known: convolutions and matrix products, which are nearly
/// all of them.
pub fn multiplications(model: &ModelProto) -> u64 {
    let Some(graph) = &model.graph else { return 0 };
    let Ok(facts) = Facts::infer(graph) else { return 0 };
    let count = |dims: &[Dim]| dims.iter().map(|d| d.fixed().unwrap_or(1) as u64).product::<u64>();
    let of = |node: &NodeProto| -> Option<u64> {
        let output = count(facts.shape(node.output.first()?)?);
        let (first, second) = (facts.shape(node.input_name(0)?)?, facts.shape(node.input_name(1)?)?);
        match node.op_type.as_str() {
            // Of each output entry, one filter.
            "Conv" => Some(output * count(&second[1..])),
            "ConvTranspose" => Some(count(first) * count(&second[1..])),
            "MatMul" => Some(output * first.last()?.fixed().unwrap_or(1) as u64),
            "Gemm" => {
                let inner = if node.int("transA", 0) != 0 { first.first()? } else { first.last()? };
                Some(output * inner.fixed().unwrap_or(1) as u64)
            }
            _ => None,
        }
    };
    graph.node.iter().filter_map(of).fold(0, u64::saturating_add)
}

/// Nodes that depend on `input` and that `output` depends on. A shape carries no gradient.
fn path(graph: &GraphProto, input: &str, output: &str) -> HashSet<usize> {
    let mut active: HashSet<&str> = HashSet::from([input]);
    let mut forward = vec![false; graph.node.len()];
    for (index, node) in graph.node.iter().enumerate() {
        if !matches!(node.op_type.as_str(), "Shape" | "Size") && node.input.iter().any(|i| active.contains(i.as_str()))
        {
            forward[index] = true;
            active.extend(node.output.iter().filter(|o| !o.is_empty()).map(String::as_str));
        }
    }
    let mut wanted: HashSet<&str> = HashSet::from([output]);
    let mut path = HashSet::new();
    for (index, node) in graph.node.iter().enumerate().rev() {
        if forward[index] && node.output.iter().any(|o| wanted.contains(o.as_str())) {
            path.insert(index);
            wanted.extend(node.input.iter().filter(|i| active.contains(i.as_str())).map(String::as_str));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::fixtures::{Net, little_resnet};
    use crate::onnx::graph::FLOAT;
    use crate::onnx::wrap::{Wrapping, adapt};

    #[test]
    fn constants_are_counted_by_type_and_multiplications_by_shape() {
        let mut net = Net::new([3, 8, 8]);
        let x = net.conv("image", [4, 3, 3, 3], 2, 1);
        let e = net.head(&x, 4, 5);
        let model = net.finish(&e, 5);
        let facts = file_facts(&model);
        // Convolution 4·3·9, product 5·4 and its bias, floor of the norm; the axis of the norm is whole.
        assert_eq!((facts.parameters, facts.constant_types["float32"], facts.constant_types["int64"]), (134, 134, 1));
        assert_eq!(facts.constant_bytes, 134 * 4 + 8);
        assert_eq!(facts.inputs, "`image` float32 [n, 3, 8, 8]");
        // 4 × 4 places, 4 filters of 27; then 5 rows of 4.
        assert_eq!(multiplications(&model), 16 * 4 * 27 + 20);
    }

    #[test]
    fn coverage_is_asked_only_between_image_and_embedding() {
        let mut net = Net::new([3, 8, 8]);
        let shape = net.op("Shape", &["image"]);
        let idle = net.op("Cos", &["image"]);
        let x = net.op("Round", &["image"]);
        let x = net.op("NobodyKnowsThis", &[&x]);
        net.b.output(&idle, FLOAT, &["n".into(), 3.into(), 8.into(), 8.into()]);
        let x = net.b.node("Reshape", &[&x, &shape], vec![]);
        let e = net.head(&x, 3, 5);
        let model = net.finish(&e, 5);
        let wrapping = Wrapping { output: Some(e), ..Wrapping::default() };
        let uses = operators(&adapt(model, &wrapping, 8).unwrap());
        let of = |name: &str| uses.iter().find(|u| u.op == name).unwrap().clone();
        assert_eq!((of("Round").on_path, of("Round").coverage), (1, Coverage::StraightThrough));
        assert_eq!(of("NobodyKnowsThis").coverage, Coverage::Missing);
        assert_eq!((of("Cos").count, of("Cos").coverage), (1, Coverage::NotNeeded));
        assert_eq!(of("Shape").coverage, Coverage::NotNeeded);
        assert_eq!(of("Reshape").coverage, Coverage::Rule);
    }

    #[test]
    fn every_node_of_a_residual_network_is_on_the_way() {
        let model = little_resnet(12, 12);
        let nodes = model.graph.as_ref().unwrap().node.len();
        let uses = operators(&adapt(model, &Wrapping::default(), 12).unwrap());
        assert_eq!(uses.iter().map(|u| u.on_path).sum::<usize>(), nodes);
        assert!(uses.iter().all(|u| u.coverage == Coverage::Rule));
    }
}
