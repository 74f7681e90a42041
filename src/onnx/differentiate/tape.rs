//! What the rules write on: the graph under construction, what is known of its values, and the gradients so far.

use std::collections::{HashMap, HashSet};

use super::blocked;
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;
use crate::onnx::graph::GraphBuilder;
use crate::onnx::inline;
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto, data_type};
use crate::onnx::shape::{Facts, show};

/// What makes every positive number that matters at least 1, see [`Tape::positive_mask`].
pub(super) const LARGE: f32 = 1e38;

/// State of one backward pass.
pub struct Tape<'a> {
    builder: &'a mut GraphBuilder,
    facts: &'a Facts,
    /// Values that depend on the input.
    active: HashSet<String>,
    /// How many nodes read a value.
    readers: HashMap<String, usize>,
    /// Node that makes a value.
    makers: HashMap<String, usize>,
    nodes: &'a [NodeProto],
    /// Contributions to the gradient of each value.
    gradients: HashMap<String, Vec<String>>,
    /// Gradients of the outputs of the node at hand.
    outputs: Vec<Option<String>>,
    /// Per-channel factors that the gradient of a convolution's output still has to be multiplied with.
    channel_factors: HashMap<String, Vec<f32>>,
    /// Forward values in the runtime's blocked layout, and gradients that are computed in it.
    blocked: HashSet<String>,
}

/// Whether the node's result depends on the shape of its inputs alone: random draws do, so they are constants to a gradient
/// (and a model that draws them answers differently each time, which `two-runs-equal` finds).
fn reads_shape_only(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Shape" | "Size" | "RandomNormalLike" | "RandomUniformLike")
}

impl<'a> Tape<'a> {
    pub(super) fn new(builder: &'a mut GraphBuilder, facts: &'a Facts, nodes: &'a [NodeProto], input: &str) -> Self {
        let mut active = HashSet::from([input.to_string()]);
        let mut readers = HashMap::new();
        let mut makers = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            for name in node.input.iter().filter(|i| !i.is_empty()) {
                *readers.entry(name.clone()).or_insert(0) += 1;
            }
            makers.extend(node.output.iter().map(|o| (o.clone(), index)));
            // A shape carries no gradient.
            let mut read = node.input.iter().map(String::as_str).chain(inline::captured(node));
            if !reads_shape_only(node) && read.any(|i| active.contains(i)) {
                active.extend(node.output.iter().filter(|o| !o.is_empty()).cloned());
            }
        }
        let (gradients, channel_factors, outputs) = (HashMap::new(), HashMap::new(), vec![]);
        let blocked = blocked::values(nodes, facts);
        Self { builder, facts, active, readers, makers, nodes, gradients, outputs, channel_factors, blocked }
    }

    /// Whether a value depends on the image, so that its gradient is wanted.
    pub fn wants(&self, value: &str) -> bool {
        self.active.contains(value)
    }

    /// Adds a contribution to the gradient of a value; does nothing for a constant.
    pub fn add(&mut self, value: &str, gradient: String) {
        if self.wants(value) {
            let gradient = self.anchored(value, gradient);
            self.gradients.entry(value.into()).or_default().push(gradient);
        }
    }

    /// Brings a gradient into the blocked layout if sums or products come next: a depthwise convolution by 1, which
    /// changes no bit. Without it, one reordered gradient would drag all sums and masks of its residual stage along.
    fn anchored(&mut self, value: &str, gradient: String) -> String {
        let comes_next = self.makers.get(value).map(|m| self.nodes[*m].op_type.as_str());
        if !matches!(comes_next, Some("Relu" | "Add" | "Sum"))
            || !self.blocked.contains(value)
            || self.blocked.contains(&gradient)
        {
            return gradient;
        }
        self.channelwise(&gradient, value, 1.0)
    }

    /// `value` times a number, as a depthwise convolution with the channels of the blocked value `like`.
    fn channelwise(&mut self, value: &str, like: &str, factor: f32) -> String {
        let Some(channels) = blocked::channels(like, self.facts) else { return self.scale(value, factor) };
        let weight = self.builder.channel_factors(channels, factor);
        self.node("Conv", &[value, &weight], vec![AttributeProto::int("group", channels as i64)])
    }

    /// The sum of all contributions; absent if there are none.
    pub(super) fn take(&mut self, value: &str) -> Option<String> {
        let mut parts = self.gradients.remove(value)?.into_iter();
        let first = parts.next()?;
        Some(parts.fold(first, |sum, part| self.node("Add", &[&sum, &part], vec![])))
    }

    /// Gradients of all outputs of the node at hand, for rules that know more than one.
    pub(super) fn output_gradients(&self) -> &[Option<String>] {
        &self.outputs
    }

    pub(super) fn set_output_gradients(&mut self, gradients: Vec<Option<String>>) {
        self.outputs = gradients;
    }

    /// Emits a node of the backward pass.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.builder.named_node(op, &format!("grad_{}", op.to_lowercase()), inputs, attributes);
        let stays = match op {
            "Conv" => true,
            "Clip" => self.blocked.contains(inputs[0]),
            "Add" | "Mul" => inputs.iter().all(|i| self.blocked.contains(*i)),
            _ => false,
        };
        if stays {
            self.blocked.insert(output.clone());
        }
        output
    }

    /// As [`Tape::node`], without attributes.
    pub fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.node(op, inputs, vec![])
    }

    /// As [`Tape::node`], for an operator of ONNX Runtime's own. The model imports their domain already.
    pub(super) fn contributed(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.node(op, inputs, attributes);
        if let Some(node) = self.builder.graph_mut().node.last_mut() {
            node.domain = super::CONTRIBUTED.into();
        }
        output
    }

    /// A truth value as 1 or 0.
    pub fn as_float(&mut self, truth: &str) -> String {
        self.node("Cast", &[truth], vec![AttributeProto::int("to", data_type::FLOAT.into())])
    }

    /// `value` plus a number.
    pub fn shift(&mut self, value: &str, number: f32) -> String {
        let number = self.builder.scalar(number);
        self.op("Add", &[value, &number])
    }

    /// `value` between two numbers.
    pub fn clamp(&mut self, value: &str, low: Option<f32>, high: Option<f32>) -> String {
        let mut bound = |b: Option<f32>| b.map_or_else(String::new, |b| self.builder.scalar(b));
        let (low, high) = (bound(low), bound(high));
        let inputs = if high.is_empty() { vec![value, &low] } else { vec![value, &low, &high] };
        self.op("Clip", &inputs)
    }

    /// Adds `gradient`, of the shape of the node's output, to input `i`, summed down to its shape.
    pub fn give(&mut self, node: &NodeProto, i: usize, gradient: &str) -> Result<(), OnnxError> {
        let value = self.input(node, i)?;
        if self.wants(value) {
            let gradient = self.unbroadcast(node, gradient, value)?;
            self.add(value, gradient);
        }
        Ok(())
    }

    /// The graph under construction, for constants.
    pub fn builder(&mut self) -> &mut GraphBuilder {
        self.builder
    }

    /// What is known about the forward values.
    pub fn facts(&self) -> &'a Facts {
        self.facts
    }

    /// Gives a forward node one more output; returns its name.
    pub(super) fn extra_output(&mut self, node: &NodeProto, position: usize, hint: &str) -> String {
        if let Some(name) = node.output.get(position).filter(|o| !o.is_empty()) {
            return name.clone();
        }
        let name = self.builder.unique(hint);
        let forward = self.builder.graph_mut().node.iter_mut().find(|n| n.output.first() == node.output.first());
        if let Some(forward) = forward {
            forward.output.resize(position + 1, String::new());
            forward.output[position].clone_from(&name);
        }
        name
    }

    /// As [`Tape::extra_output`], from a second node like the first: for an operator that is much slower, or leaves the
    /// blocked layout, with the further output.
    pub(super) fn twin_output(&mut self, node: &NodeProto, position: usize, hint: &str) -> String {
        if let Some(name) = node.output.get(position).filter(|o| !o.is_empty()) {
            return name.clone();
        }
        let outputs: Vec<String> = (0..=position).map(|_| self.builder.unique(hint)).collect();
        let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let inputs: Vec<&str> = node.input.iter().map(String::as_str).collect();
        self.builder.push(&node.op_type, &inputs, &names, node.attribute.clone());
        outputs[position].clone()
    }

    /// The node that makes `value`, if `value` has that operator and no other reader: then a factor on its gradient
    /// may be moved into the maker's weights.
    pub(super) fn sole_maker(&self, value: &str, op: &str) -> Option<&'a NodeProto> {
        let node = &self.nodes[*self.makers.get(value)?];
        (node.op_type == op && self.readers.get(value) == Some(&1)).then_some(node)
    }

    /// Postpones a per-channel factor on the gradient of `value` to the rule of its maker.
    pub(super) fn postpone_factor(&mut self, value: &str, factor: Vec<f32>) {
        self.channel_factors.insert(value.into(), factor);
    }

    /// The factor postponed to this value, if any.
    pub(super) fn postponed_factor(&mut self, value: &str) -> Option<Vec<f32>> {
        self.channel_factors.remove(value)
    }

    /// The shape of a forward value, or an error naming the node that needs it and the one that hides it.
    pub fn shape(&self, node: &NodeProto, value: &str) -> Result<&'a [Dim], OnnxError> {
        self.facts.shape(value).ok_or_else(|| {
            let unknown = format!("the shape of `{value}` cannot be told");
            match self.hides_shape(value) {
                Some(cause) if inline::refusal(cause).is_some() => {
                    self.unsupported(cause, inline::refusal(cause).unwrap_or_default())
                }
                Some(cause) if !cause.output.iter().any(|o| o == value) => {
                    let reason =
                        format!("{unknown}, because that of node `{}` ({}) cannot", cause.label(), cause.op_type);
                    self.unsupported(node, reason)
                }
                _ => self.unsupported(node, unknown),
            }
        })
    }

    /// The first node on the way to `value` whose result has no known shape although its inputs have.
    fn hides_shape(&self, value: &str) -> Option<&'a NodeProto> {
        let mut maker = &self.nodes[*self.makers.get(value)?];
        for _ in 0..self.nodes.len() {
            let mut inputs = maker.input.iter().filter(|i| !i.is_empty());
            match inputs.find(|i| self.facts.shape(i).is_none()).and_then(|i| self.makers.get(i)) {
                Some(earlier) => maker = &self.nodes[*earlier],
                None => return Some(maker),
            }
        }
        Some(maker)
    }

    /// An error about this node.
    pub fn unsupported(&self, node: &NodeProto, reason: impl Into<String>) -> OnnxError {
        OnnxError::Node { node: node.label().into(), op: node.op_type.clone(), reason: reason.into() }
    }

    /// Name of input `i`.
    pub fn input<'n>(&self, node: &'n NodeProto, i: usize) -> Result<&'n str, OnnxError> {
        node.input_name(i).ok_or_else(|| self.unsupported(node, format!("input {i} is missing")))
    }

    /// `gradient` with the shape that `value` has when the graph runs.
    pub fn reshape_like(&mut self, gradient: &str, value: &str) -> String {
        let shape = self.node("Shape", &[value], vec![]);
        self.node("Reshape", &[gradient, &shape], vec![])
    }

    /// `gradient` with a shape of which at most one size is not fixed.
    pub(super) fn reshape_to(&mut self, node: &NodeProto, gradient: &str, shape: &[Dim]) -> Result<String, OnnxError> {
        if shape.iter().filter(|d| d.fixed().is_none()).count() > 1 {
            return Err(self.unsupported(node, format!("more than one size of {} is not fixed", show(shape))));
        }
        let sizes: Vec<i64> = shape.iter().map(|d| d.fixed().map_or(-1, |n| n as i64)).collect();
        let sizes = self.builder.list(&sizes);
        Ok(self.node("Reshape", &[gradient, &sizes], vec![]))
    }

    /// Zeros with the shape and type that `value` has when the graph runs.
    pub(super) fn zeros_like(&mut self, value: &str) -> String {
        let (elem_type, width) = match self.facts.elem_type(value) {
            Some(data_type::DOUBLE) => (data_type::DOUBLE, 8),
            Some(data_type::FLOAT16) => (data_type::FLOAT16, 2),
            _ => (data_type::FLOAT, 4),
        };
        let zero = TensorProto {
            dims: vec![1],
            data_type: elem_type,
            raw_data: Some(vec![0; width].into()),
            ..TensorProto::default()
        };
        let shape = self.node("Shape", &[value], vec![]);
        self.node("ConstantOfShape", &[&shape], vec![AttributeProto::tensor("value", zero)])
    }

    /// `gradient` repeated to the shape that `value` has when the graph runs.
    pub fn expand_like(&mut self, gradient: &str, value: &str) -> String {
        let shape = self.node("Shape", &[value], vec![]);
        self.node("Expand", &[gradient, &shape], vec![])
    }

    /// `gradient` times a number.
    pub fn scale(&mut self, gradient: &str, factor: f32) -> String {
        let factor = self.builder.scalar(factor);
        self.node("Mul", &[gradient, &factor], vec![])
    }

    /// 1 where `value` is positive, 0 elsewhere: `value · 1e38` cut to `[0, 1]`, rather than a comparison, which would
    /// leave the blocked layout. It is exact for 0 and for every value above 1e-38; `blocked` has the alternatives.
    pub fn positive_mask(&mut self, value: &str) -> String {
        if !self.blocked.contains(value) {
            let steep = vec![AttributeProto::float("alpha", LARGE), AttributeProto::float("beta", 0.0)];
            return self.node("HardSigmoid", &[value], steep);
        }
        let large = self.channelwise(value, value, LARGE);
        self.clamp(&large, Some(0.0), Some(1.0))
    }

    /// Sums `gradient`, which has the shape of the node's output, down to the shape of a broadcast input.
    pub fn unbroadcast(&mut self, node: &NodeProto, gradient: &str, value: &str) -> Result<String, OnnxError> {
        let output = node.output.first().map_or("", String::as_str);
        let (from, to) = (self.shape(node, output)?, self.shape(node, value)?);
        if from == to {
            return Ok(gradient.to_string());
        }
        let lead = from.len().checked_sub(to.len());
        let lead =
            lead.ok_or_else(|| self.unsupported(node, format!("{} is no broadcast of {}", show(from), show(to))))?;
        let spread = |axis: &usize| *axis < lead || (to[axis - lead] == Dim::Fixed(1) && from[*axis] != Dim::Fixed(1));
        let axes: Vec<i64> = (0..from.len()).filter(spread).map(|a| a as i64).collect();
        let mut gradient = gradient.to_string();
        if !axes.is_empty() {
            let axes = self.builder.list(&axes);
            gradient = self.node("ReduceSum", &[&gradient, &axes], vec![AttributeProto::int("keepdims", 1)]);
        }
        Ok(if lead == 0 { gradient } else { self.reshape_like(&gradient, value) })
    }
}
