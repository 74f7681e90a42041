//! Building a graph node by node: unique names, constants, inputs and outputs.

use std::collections::{HashMap, HashSet};

use super::access::Dim;
use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    ValueInfoProto, data_type,
};
use super::visit;

/// The operator set that new graphs use: the first in which all reductions take their axes as an input.
pub const OPSET: i64 = 18;
/// The file format version that belongs to [`OPSET`].
pub const IR_VERSION: i64 = 8;

/// A graph under construction. Values are referred to by name; the caller adds nodes in topological order.
#[derive(Debug, Clone)]
pub struct GraphBuilder {
    model: ModelProto,
    graph: GraphProto,
    taken: HashSet<String>,
    /// Constants that are given out again: what they hold, and their names.
    shared: HashMap<String, String>,
}

impl GraphBuilder {
    /// An empty graph of [`OPSET`].
    pub fn new(name: &str) -> Self {
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "mdprop".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            ..ModelProto::default()
        };
        let graph = GraphProto { name: name.into(), ..GraphProto::default() };
        Self { model, graph, taken: HashSet::new(), shared: HashMap::new() }
    }

    /// Goes on with an existing model; its names stay as they are and are never given out again.
    pub fn extend(mut model: ModelProto) -> Self {
        let graph = model.graph.take().unwrap_or_default();
        let mut taken = HashSet::new();
        take_names(&graph, &mut taken);
        Self { model, graph, taken, shared: HashMap::new() }
    }

    /// `hint`, with a number behind it if the name is already taken.
    pub fn unique(&mut self, hint: &str) -> String {
        let mut name = hint.to_string();
        let mut count = 1;
        while name.is_empty() || !self.taken.insert(name.clone()) {
            count += 1;
            name = format!("{hint}_{count}");
        }
        name
    }

    /// Keeps a name from being given out.
    pub(super) fn reserve(&mut self, name: &str) {
        self.taken.insert(name.to_string());
    }

    /// Declares a graph input; returns its name, which is `name` unless that is taken.
    pub fn input(&mut self, name: &str, elem_type: i32, dims: &[Dim]) -> String {
        let name = self.unique(name);
        self.graph.input.push(ValueInfoProto::tensor(&name, elem_type, dims));
        name
    }

    /// Declares an existing value as a graph output under its own name.
    pub fn output(&mut self, value: &str, elem_type: i32, dims: &[Dim]) {
        self.graph.output.push(ValueInfoProto::tensor(value, elem_type, dims));
    }

    /// Adds a node with one output; returns the output's name.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let hint = op.to_lowercase();
        self.named_node(op, &hint, inputs, attributes)
    }

    /// As [`GraphBuilder::node`], with `output` as the output's name (numbered if it is taken).
    pub fn named_node(&mut self, op: &str, output: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.unique(output);
        self.push(op, inputs, &[&output], attributes);
        output
    }

    /// Adds a node with several outputs, whose names come from [`GraphBuilder::unique`].
    pub fn push(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) {
        self.graph.node.push(NodeProto {
            name: outputs.first().map(|o| format!("{o}/{op}")).unwrap_or_default(),
            op_type: op.into(),
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: outputs.iter().map(|s| s.to_string()).collect(),
            attribute,
            ..NodeProto::default()
        });
    }

    /// Adds a float32 constant; returns its name.
    pub fn constant(&mut self, name: &str, dims: &[usize], data: &[f32]) -> String {
        let name = self.unique(name);
        self.graph.initializer.push(TensorProto::from_f32(&name, dims, data));
        name
    }

    /// Adds an int64 constant; returns its name.
    pub fn constant_i64(&mut self, name: &str, dims: &[usize], data: &[i64]) -> String {
        let name = self.unique(name);
        self.graph.initializer.push(TensorProto::from_i64(&name, dims, data));
        name
    }

    /// A float32 constant without axes; equal ones are shared.
    pub fn scalar(&mut self, value: f32) -> String {
        let key = format!("scalar_{:08x}", value.to_bits());
        self.share(key, |builder, name| builder.constant(name, &[], &[value]))
    }

    /// Weights of a depthwise 1×1 convolution that multiplies by `value`, `[channels, 1, 1, 1]`; equal ones are shared.
    pub fn channel_factors(&mut self, channels: usize, value: f32) -> String {
        let name = format!("channels_{channels}_{:08x}", value.to_bits());
        if self.taken.insert(name.clone()) {
            let values = vec![value; channels];
            self.graph.initializer.push(TensorProto::from_f32(&name, &[channels, 1, 1, 1], &values));
        }
        name
    }

    /// An int64 list; equal ones are shared.
    pub fn list(&mut self, values: &[i64]) -> String {
        let text: Vec<String> = values.iter().map(i64::to_string).collect();
        self.share(format!("list_{}", text.join("_")), |builder, name| {
            builder.constant_i64(name, &[values.len()], values)
        })
    }

    /// A constant made once. A value of that name that the model brought along is another one.
    fn share(&mut self, key: String, make: impl FnOnce(&mut Self, &str) -> String) -> String {
        if let Some(name) = self.shared.get(&key) {
            return name.clone();
        }
        let name = make(self, &key);
        self.shared.insert(key, name.clone());
        name
    }

    /// Sets a string property of the model.
    pub fn metadata(&mut self, key: &str, value: &str) {
        self.model.metadata_props.retain(|p| p.key != key);
        self.model.metadata_props.push(StringStringEntryProto { key: key.into(), value: value.into() });
    }

    /// Gives the last node's only output another name, one that readers already have.
    pub(super) fn rename_last_output(&mut self, name: &str) {
        if let Some(output) = self.graph.node.last_mut().and_then(|node| node.output.first_mut()) {
            *output = name.into();
            self.taken.insert(name.into());
        }
    }

    /// The operator set of the graph.
    pub fn opset(&self) -> i64 {
        self.model.opset()
    }

    /// What was built so far.
    pub fn graph(&self) -> &GraphProto {
        &self.graph
    }

    /// For the attack graph, which replaces inputs and outputs.
    pub(super) fn graph_mut(&mut self) -> &mut GraphProto {
        &mut self.graph
    }

    /// The model.
    pub fn finish(mut self) -> ModelProto {
        self.model.graph = Some(self.graph);
        self.model
    }
}

/// Names that are taken, also in sub-graphs: a value given the name of an inner one would be hidden there.
fn take_names(graph: &GraphProto, taken: &mut HashSet<String>) {
    taken.extend(graph.input.iter().chain(&graph.output).map(|v| v.name.clone()));
    taken.extend(graph.initializer.iter().map(|t| t.name.clone()));
    for node in &graph.node {
        taken.insert(node.name.clone());
        taken.extend(node.output.iter().cloned());
        visit::sub_graphs(node).for_each(|inner| take_names(inner, taken));
    }
}

/// Divides each row of `input` (`[n, d]`) by `max(‖row‖₂, 1e-12)`, as PyTorch's `normalize` does.
///
/// Made of `ReduceL2`, `Clip` and `Div`: the combination that differentiates without a special case, and whose gradient
/// at a zero row is finite.
pub fn l2_normalize(builder: &mut GraphBuilder, input: &str) -> String {
    let axes = builder.list(&[1]);
    let norm = builder.named_node("ReduceL2", "norm", &[input, &axes], vec![AttributeProto::int("keepdims", 1)]);
    let floor = builder.scalar(1e-12);
    let norm = builder.named_node("Clip", "norm_floored", &[&norm, &floor], vec![]);
    builder.named_node("Div", "embedding", &[input, &norm], vec![])
}

/// `(pixels − mean) / std` per channel, for `[n, c, h, w]`.
pub fn normalize_pixels(builder: &mut GraphBuilder, pixels: &str, mean: &[f32], std: &[f32]) -> String {
    let mean = builder.constant("pixel_mean", &[1, mean.len(), 1, 1], mean);
    let std = builder.constant("pixel_std", &[1, std.len(), 1, 1], std);
    let centred = builder.named_node("Sub", "centred", &[pixels, &mean], vec![]);
    builder.named_node("Div", "normalized", &[&centred, &std], vec![])
}

/// Element type of images, embeddings and weights.
pub const FLOAT: i32 = data_type::FLOAT;
