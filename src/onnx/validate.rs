//! Whether a decoded file is a graph that could run: every value made once and before it is read, every tensor as long
//! as its shape says, no number that is none, no function that calls itself.
//!
//! Nodes that are out of order are sorted; everything else that is wrong is a [`Fault`]. Time and memory are linear in
//! the size of the file, whatever it declares.

mod functions;
mod order;

use std::collections::{HashMap, HashSet};

use super::access::Dim;
use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, data_type};
use super::tensor::Irregular;
use super::visit;

/// What is wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The model says no version for a domain that it uses.
    #[error("no version of the operator set `{domain}` is declared, which node `{node}` ({op}) needs; export it again")]
    NoOperatorSet {
        /// Domain; `ai.onnx` for ONNX itself.
        domain: String,
        /// Node name.
        node: String,
        /// Operator.
        op: String,
    },
    /// A version that no operator set has.
    #[error("operator set `{domain}` has version {version}, wanted a positive number; export it again")]
    OperatorSetVersion {
        /// Domain.
        domain: String,
        /// Version.
        version: i64,
    },
    /// Operators of a domain that a stock runtime lacks.
    #[error(
        "node `{node}` ({op}) belongs to the domain `{domain}`, which neither this file nor a stock ONNX Runtime \
         defines; export the model with standard operators"
    )]
    UnknownDomain {
        /// Node name.
        node: String,
        /// Operator.
        op: String,
        /// Its domain.
        domain: String,
    },
    /// A node without operator.
    #[error("node `{node}` has no operator; the file is damaged, export it again")]
    NoOperator {
        /// Node name.
        node: String,
    },
    /// A value that is read, but made nowhere.
    #[error(
        "node `{node}` ({op}) reads `{value}`, which is no input, no initialiser and no node's output; the weights are \
         missing or the file is damaged, export it again"
    )]
    NobodyMakes {
        /// Node name.
        node: String,
        /// Operator.
        op: String,
        /// The value.
        value: String,
    },
    /// An output that no node makes.
    #[error("output `{value}` is made by no node; export it again")]
    OutputNobodyMakes {
        /// The output.
        value: String,
    },
    /// A graph without outputs.
    #[error("the graph has no outputs, so there is no embedding; export it again")]
    NoOutputs,
    /// Nodes that wait for each other.
    #[error("the nodes {} wait for each other; a graph must be without cycles, export it again", list(nodes))]
    Cycle {
        /// The nodes of the cycle.
        nodes: Vec<String>,
    },
    /// Two makers of one value.
    #[error("`{value}` is made twice, by {first} and by {second}; names must be unique, export it again")]
    MadeTwice {
        /// The value.
        value: String,
        /// First maker.
        first: String,
        /// Second maker.
        second: String,
    },
    /// A function that calls itself, directly or through others.
    #[error(
        "the functions {} call each other; functions may not recur, export the model without functions",
        list(functions)
    )]
    RecursiveFunction {
        /// Their names.
        functions: Vec<String>,
    },
    /// Functions that become too much when they are written out.
    #[error("function `{function}` stands for more than {limit} nodes; export the model without functions")]
    FunctionTooLarge {
        /// Its name.
        function: String,
        /// Most nodes allowed.
        limit: usize,
    },
    /// A call that gives or wants more values than the function has.
    #[error(
        "node `{node}` calls the function `{function}` with {} inputs and {} outputs, it has {} and {}; export the \
         model without functions", got[0], got[1], wanted[0], wanted[1]
    )]
    Call {
        /// Node name.
        node: String,
        /// Function.
        function: String,
        /// Inputs and outputs of the call.
        got: [usize; 2],
        /// Inputs and outputs of the function.
        wanted: [usize; 2],
    },
    /// A branch that does not give what its node promises.
    #[error("node `{node}` has {outputs} outputs, one of its branches gives {given}; export it again")]
    Branch {
        /// Node name.
        node: String,
        /// Outputs of the node.
        outputs: usize,
        /// Outputs of the branch.
        given: usize,
    },
    /// Sparse weights.
    #[error("{count} initialisers are sparse tensors; export the model with dense weights")]
    Sparse {
        /// How many.
        count: usize,
    },
    /// A tensor whose element type is none of ONNX's.
    #[error("tensor `{tensor}` has the unknown element type {element}; export it again")]
    ElementType {
        /// The tensor.
        tensor: String,
        /// Number of the type.
        element: i32,
    },
    /// A shape with a negative size or with more elements than there are addresses.
    #[error("tensor `{tensor}` has the impossible shape {dims:?}; the file is damaged, export it again")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        dims: Vec<i64>,
    },
    /// A tensor that holds more or fewer numbers than its shape says.
    #[error(
        "tensor `{tensor}` holds {got} {unit}, its shape {dims:?} of {element} needs {wanted}; the file is damaged or \
         its weights are elsewhere, export it again"
    )]
    Size {
        /// The tensor.
        tensor: String,
        /// Its shape.
        dims: Vec<i64>,
        /// Its element type.
        element: String,
        /// What is counted.
        unit: &'static str,
        /// How many there are.
        got: usize,
        /// How many there should be.
        wanted: usize,
    },
    /// A weight that is no number.
    #[error("tensor `{tensor}` is NaN at position {position}; the training diverged, take an earlier checkpoint")]
    NotANumber {
        /// The tensor.
        tensor: String,
        /// Position of the first NaN, row-major.
        position: usize,
    },
    /// An attribute that is no number.
    #[error("attribute `{attribute}` of node `{node}` ({op}) is NaN; the file is damaged, export it again")]
    NanAttribute {
        /// Node name.
        node: String,
        /// Operator.
        op: String,
        /// The attribute.
        attribute: String,
    },
    /// An input with a size below 1 or a shape without meaning.
    #[error("input `{value}` declares the size {size} on axis {axis}, wanted at least 1; export it again")]
    InputSize {
        /// The input.
        value: String,
        /// Axis.
        axis: usize,
        /// Size.
        size: i64,
    },
    /// A value larger than any machine holds.
    #[error(
        "`{value}`, made by node `{node}` ({op}), would have {elements} elements (shape {shape}), wanted at most \
         {limit}; export the model for smaller images"
    )]
    ValueTooLarge {
        /// The value.
        value: String,
        /// Node name.
        node: String,
        /// Operator.
        op: String,
        /// Its shape.
        shape: String,
        /// Its elements.
        elements: u64,
        /// Most elements allowed.
        limit: u64,
    },
}

/// At most this many names are listed in a message.
const LISTED: usize = 8;

fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(LISTED).map(|n| format!("`{n}`")).collect();
    let rest = names.len().saturating_sub(LISTED);
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}

/// Checks a model and sorts its nodes if they are out of order. Tensors whose numbers are in other files are not looked
/// into; their loader checks them.
///
/// # Errors
/// The first [`Fault`].
pub fn validate(model: &mut ModelProto) -> Result<(), Fault> {
    operators(model)?;
    tensors(model)?;
    if let Some(graph) = &mut model.graph {
        inputs(graph)?;
        if graph.output.is_empty() {
            return Err(Fault::NoOutputs);
        }
        order::graph(graph, &HashSet::new())?;
    }
    for function in &mut model.functions {
        order::function(function)?;
    }
    functions::check(model)
}

/// Most elements of one value, batch axis aside: 8 GB in float32, more than any image encoder needs for one image.
const MOST_ELEMENTS: u64 = 1 << 31;

/// Refuses a graph one of whose values would be larger than any machine holds, before a runtime tries to make it.
/// Axes known by name only count as 1, values without known shape not at all.
///
/// # Errors
/// [`Fault::ValueTooLarge`].
pub fn value_sizes<'a>(graph: &GraphProto, shape: impl Fn(&str) -> Option<&'a [Dim]>) -> Result<(), Fault> {
    for node in &graph.node {
        for value in node.output.iter().filter(|o| !o.is_empty()) {
            let Some(dims) = shape(value) else { continue };
            let elements = dims.iter().filter_map(Dim::fixed).fold(1u64, |n, d| n.saturating_mul(d as u64));
            if elements > MOST_ELEMENTS {
                return Err(Fault::ValueTooLarge {
                    value: value.clone(),
                    node: node.label().into(),
                    op: node.op_type.clone(),
                    shape: crate::onnx::shape::show(dims),
                    elements,
                    limit: MOST_ELEMENTS,
                });
            }
        }
    }
    Ok(())
}

/// The names of weights that hold infinities, with how many. They are legal (masks are made of them) but rare.
pub fn infinite_weights(model: &ModelProto) -> Vec<(String, usize)> {
    let mut found = vec![];
    visit::tensors(model, &mut |tensor| {
        let Irregular { infinite, .. } = tensor.irregular();
        if infinite > 0 {
            found.push((tensor.name.clone(), infinite));
        }
    });
    found
}

/// Domains whose operators a stock ONNX Runtime has.
const STOCK_DOMAINS: &[&str] = &[
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.preview",
    "ai.onnx.preview.training",
    "ai.onnx.training",
    "com.microsoft",
    "com.microsoft.experimental",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
    "org.pytorch.aten",
];

fn canonical(domain: &str) -> &str {
    if domain.is_empty() { "ai.onnx" } else { domain }
}

/// Each node's operator, domain and attributes.
fn operators(model: &ModelProto) -> Result<(), Fault> {
    let mut declared: HashSet<&str> = HashSet::new();
    for set in &model.opset_import {
        let domain = canonical(&set.domain);
        if set.version < 1 {
            return Err(Fault::OperatorSetVersion { domain: domain.into(), version: set.version });
        }
        declared.insert(domain);
    }
    let own: HashSet<functions::Key<'_>> = model.functions.iter().map(functions::key).collect();
    let check = |node: &NodeProto, declared: &HashSet<&str>| {
        let domain = canonical(&node.domain);
        let (name, op) = (node.label().to_string(), node.op_type.clone());
        if op.is_empty() {
            return Err(Fault::NoOperator { node: name });
        }
        if let Some(attribute) = node.attribute.iter().find(|a| is_nan(a)) {
            return Err(Fault::NanAttribute { node: name, op, attribute: attribute.name.clone() });
        }
        if own.contains(&(domain, op.as_str(), node.overload.as_str())) {
            return Ok(());
        }
        if !STOCK_DOMAINS.contains(&domain) {
            return Err(Fault::UnknownDomain { node: name, op, domain: domain.into() });
        }
        if !declared.contains(domain) {
            return Err(Fault::NoOperatorSet { domain: domain.into(), node: name, op });
        }
        if node.is_onnx() && op == "If" {
            let outputs = node.output.len();
            if let Some(branch) = visit::sub_graphs(node).find(|graph| graph.output.len() != outputs) {
                return Err(Fault::Branch { node: name, outputs, given: branch.output.len() });
            }
        }
        Ok(())
    };
    if let Some(graph) = &model.graph {
        each_node(&graph.node, &mut |node| check(node, &declared))?;
    }
    for function in &model.functions {
        // A function may declare its own versions; what it leaves out is the model's.
        let mut inside = declared.clone();
        inside.extend(function.opset_import.iter().map(|set| canonical(&set.domain)));
        each_node(&function.node, &mut |node| check(node, &inside))?;
        if let Some(default) = function.attribute_proto.iter().find(|a| is_nan(a)) {
            let attribute = default.name.clone();
            return Err(Fault::NanAttribute { node: function.name.clone(), op: "function".into(), attribute });
        }
    }
    Ok(())
}

fn is_nan(attribute: &AttributeProto) -> bool {
    attribute.f.is_some_and(f32::is_nan) || attribute.floats.iter().any(|v| v.is_nan())
}

/// Every node, also those of sub-graphs.
fn each_node<'a>(nodes: &'a [NodeProto], f: &mut impl FnMut(&'a NodeProto) -> Result<(), Fault>) -> Result<(), Fault> {
    for node in nodes {
        f(node)?;
        for attribute in &node.attribute {
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                each_node(&graph.node, f)?;
            }
        }
    }
    Ok(())
}

fn tensors(model: &mut ModelProto) -> Result<(), Fault> {
    let mut sparse = 0;
    visit::graphs_mut(model, &mut |graph| sparse += graph.sparse_initializer.len());
    if sparse > 0 {
        return Err(Fault::Sparse { count: sparse });
    }
    let mut first = None;
    visit::tensors(model, &mut |tensor| {
        if first.is_none() {
            first = tensor_fault(tensor);
        }
    });
    first.map_or(Ok(()), Err)
}

/// What is wrong with a tensor that is in the model itself.
fn tensor_fault(tensor: &TensorProto) -> Option<Fault> {
    if tensor.data_location != 0 {
        return None;
    }
    let name = || if tensor.name.is_empty() { "(inside a node)".to_string() } else { tensor.name.clone() };
    if tensor.data_type != data_type::STRING && data_type::bits(tensor.data_type).is_none() {
        return Some(Fault::ElementType { tensor: name(), element: tensor.data_type });
    }
    let (got, wanted, unit) = match tensor.raw_bytes() {
        Some(raw) if tensor.data_type != data_type::STRING => (raw.len(), tensor.byte_size(), "bytes"),
        _ => match tensor.typed_entries() {
            Some((got, wanted)) => (got, Some(wanted), "entries"),
            None => (0, None, ""),
        },
    };
    let Some(wanted) = wanted else { return Some(Fault::Shape { tensor: name(), dims: tensor.dims.clone() }) };
    if got != wanted {
        let element = data_type::name(tensor.data_type);
        return Some(Fault::Size { tensor: name(), dims: tensor.dims.clone(), element, unit, got, wanted });
    }
    tensor.irregular().nan.map(|position| Fault::NotANumber { tensor: name(), position })
}

fn inputs(graph: &GraphProto) -> Result<(), Fault> {
    let initialised: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    for value in graph.input.iter().filter(|v| !initialised.contains(v.name.as_str())) {
        for (axis, size) in sizes(value) {
            // Some exporters write −1 or 0 where they mean "any"; only the batch axis may be open so.
            if size < 1 && axis > 0 {
                return Err(Fault::InputSize { value: value.name.clone(), axis, size });
            }
        }
    }
    Ok(())
}

fn sizes(value: &ValueInfoProto) -> impl Iterator<Item = (usize, i64)> {
    let shape = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).and_then(|t| t.shape.as_ref());
    let dims = shape.map_or(&[][..], |s| s.dim.as_slice());
    dims.iter().enumerate().filter_map(|(axis, dim)| Some((axis, dim.dim_value?)))
}

/// Who makes the values of a scope.
struct Makers<'a>(HashMap<&'a str, String>);

impl<'a> Makers<'a> {
    fn add(&mut self, value: &'a str, maker: impl FnOnce() -> String) -> Result<(), Fault> {
        if let Some(first) = self.0.get(value) {
            return Err(Fault::MadeTwice { value: value.into(), first: first.clone(), second: maker() });
        }
        self.0.insert(value, maker());
        Ok(())
    }
}
