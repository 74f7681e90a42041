//! Writing out what is a graph within the graph: calls of model-local functions, and branches whose condition is known.
//!
//! Neither changes what the model computes. Values and nodes of a body get names of their own; everything else stays as
//! it was. Loops are left alone: they have no gradient rule.

use std::collections::HashMap;

use super::file::OnnxError;
use super::graph::GraphBuilder;
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};
use super::shape::Facts;

/// Most nodes that functions may stand for together.
const MOST_NODES: usize = 1 << 18;

/// Deepest nesting of calls, and of graphs within graphs.
const DEEPEST: usize = 64;

/// Domain, name and overload of a function.
type Key = (String, String, String);

fn key(domain: &str, name: &str, overload: &str) -> Key {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    (domain.into(), name.into(), overload.into())
}

/// Replaces every call of a model-local function by the function's nodes.
///
/// # Errors
/// [`OnnxError::Node`] for a function that calls itself, one that was written for another operator set than the model,
/// and functions that stand for more than 2¹⁸ nodes.
pub fn functions(mut model: ModelProto) -> Result<ModelProto, OnnxError> {
    if model.functions.is_empty() {
        return Ok(model);
    }
    let functions = std::mem::take(&mut model.functions);
    let by_key: HashMap<Key, &FunctionProto> =
        functions.iter().map(|f| (key(&f.domain, &f.name, &f.overload), f)).collect();
    for import in functions.iter().flat_map(|f| &f.opset_import) {
        if !model.opset_import.iter().any(|o| key(&o.domain, "", "") == key(&import.domain, "", "")) {
            model.opset_import.push(import.clone());
        }
    }
    let imports = model.opset_import.clone();
    let nodes = model.graph.as_mut().map(|g| std::mem::take(&mut g.node)).unwrap_or_default();
    let mut builder = GraphBuilder::extend(model);
    // Names that the nodes use, which the builder has not seen.
    nodes.iter().flat_map(|n| n.output.iter().chain([&n.name])).for_each(|name| builder.reserve(name));
    let mut writer = Writer { functions: &by_key, imports: &imports, builder, nodes: vec![] };
    for node in nodes {
        writer.write(node, &mut vec![])?;
    }
    let Writer { builder, nodes, .. } = writer;
    let mut model = builder.finish();
    if let Some(graph) = &mut model.graph {
        graph.node = nodes;
    }
    Ok(model)
}

struct Writer<'a> {
    functions: &'a HashMap<Key, &'a FunctionProto>,
    imports: &'a [OperatorSetIdProto],
    builder: GraphBuilder,
    nodes: Vec<NodeProto>,
}

impl Writer<'_> {
    /// Adds a node, or the body of the function that it calls. `calls` are the functions that are being written out.
    fn write(&mut self, node: NodeProto, calls: &mut Vec<Key>) -> Result<(), OnnxError> {
        let fail = |node: &NodeProto, reason: String| {
            Err(OnnxError::Node { node: node.label().into(), op: node.op_type.clone(), reason })
        };
        let call = key(&node.domain, &node.op_type, &node.overload);
        let Some(function) = self.functions.get(&call).copied() else {
            if self.nodes.len() >= MOST_NODES {
                return fail(&node, format!("the functions stand for more than {MOST_NODES} nodes"));
            }
            self.nodes.push(node);
            return Ok(());
        };
        if calls.contains(&call) || calls.len() >= DEEPEST {
            return fail(&node, "the function calls itself; export the model without functions".into());
        }
        self.check_operator_set(function, &node)?;
        let mut scope = self.scope_of(function, &node);
        calls.push(call);
        for inner in &function.node {
            let written = scope.written(inner, &mut self.builder, 0)?;
            self.write(written, calls)?;
        }
        calls.pop();
        for (inner, outer) in function.output.iter().zip(&node.output).filter(|(_, outer)| !outer.is_empty()) {
            // An output that is one of the inputs, or is made under another name.
            if let Some(value) = scope.values.get(inner).filter(|value| *value != outer) {
                self.nodes.push(identity(value, outer));
            }
        }
        Ok(())
    }

    fn check_operator_set(&self, function: &FunctionProto, node: &NodeProto) -> Result<(), OnnxError> {
        let onnx =
            |imports: &[OperatorSetIdProto]| imports.iter().find(|o| key(&o.domain, "", "").0.is_empty()).cloned();
        match (onnx(&function.opset_import), onnx(self.imports)) {
            (Some(own), Some(other)) if own.version != other.version => {
                let reason = format!(
                    "the function was written for operator set {} and the model for {}; export the model without \
                     functions",
                    own.version, other.version
                );
                Err(OnnxError::Node { node: node.label().into(), op: node.op_type.clone(), reason })
            }
            _ => Ok(()),
        }
    }

    fn scope_of(&self, function: &FunctionProto, node: &NodeProto) -> Scope {
        let mut values: HashMap<String, String> = HashMap::new();
        for (inner, outer) in function.output.iter().zip(&node.output).filter(|(_, outer)| !outer.is_empty()) {
            values.insert(inner.clone(), outer.clone());
        }
        // An input that is not given is an empty name inside too.
        for (i, inner) in function.input.iter().enumerate() {
            values.insert(inner.clone(), node.input.get(i).cloned().unwrap_or_default());
        }
        let defaults = function.attribute_proto.iter().map(|a| (a.name.clone(), a.clone()));
        let given = node.attribute.iter().map(|a| (a.name.clone(), a.clone()));
        Scope { prefix: node.label().to_string(), values, attributes: Some(defaults.chain(given).collect()) }
    }
}

fn identity(from: &str, to: &str) -> NodeProto {
    NodeProto {
        name: format!("{to}/Identity"),
        op_type: "Identity".into(),
        input: vec![from.into()],
        output: vec![to.into()],
        ..NodeProto::default()
    }
}

/// What the names of a body mean outside.
struct Scope {
    /// In front of new names.
    prefix: String,
    /// Values: inner name to outer name.
    values: HashMap<String, String>,
    /// Attributes that the body may refer to; absent for a branch, whose attributes refer to nothing.
    attributes: Option<HashMap<String, AttributeProto>>,
}

impl Scope {
    /// The outer name of a value that the body makes.
    fn made(&mut self, inner: &str, builder: &mut GraphBuilder) -> String {
        if inner.is_empty() {
            return String::new();
        }
        if let Some(outer) = self.values.get(inner) {
            return outer.clone();
        }
        let outer = builder.unique(&format!("{}/{inner}", self.prefix));
        self.values.insert(inner.into(), outer.clone());
        outer
    }

    /// The outer name of a value that the body reads; a name from further outside stays.
    fn read(&self, inner: &str) -> String {
        self.values.get(inner).cloned().unwrap_or_else(|| inner.to_string())
    }

    /// A node of the body as it is outside.
    fn written(&mut self, node: &NodeProto, builder: &mut GraphBuilder, depth: usize) -> Result<NodeProto, OnnxError> {
        let mut node = node.clone();
        if depth > DEEPEST {
            let reason = format!("graphs are nested more than {DEEPEST} deep");
            return Err(OnnxError::Node { node: node.label().into(), op: node.op_type, reason });
        }
        node.input.iter_mut().for_each(|name| *name = self.read(name));
        let mut attributes = vec![];
        for attribute in std::mem::take(&mut node.attribute) {
            let Some(mut attribute) = self.attribute(attribute) else { continue };
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                self.graph(graph, builder, depth + 1)?;
            }
            attributes.push(attribute);
        }
        node.attribute = attributes;
        node.output.iter_mut().for_each(|name| *name = self.made(name, builder));
        node.name = format!("{}/{}", self.prefix, node.label());
        Ok(node)
    }

    /// The attribute that is meant; absent for a reference to one that is not given.
    fn attribute(&self, attribute: AttributeProto) -> Option<AttributeProto> {
        let known = self.attributes.as_ref().filter(|_| !attribute.ref_attr_name.is_empty());
        let Some(known) = known else { return Some(attribute) };
        let meant = known.get(&attribute.ref_attr_name)?;
        Some(AttributeProto { name: attribute.name, ..meant.clone() })
    }

    /// Renames within a graph inside the body. What it makes is visible in it only.
    fn graph(&self, graph: &mut GraphProto, builder: &mut GraphBuilder, depth: usize) -> Result<(), OnnxError> {
        let mut inner =
            Self { prefix: self.prefix.clone(), values: self.values.clone(), attributes: self.attributes.clone() };
        for value in &mut graph.input {
            inner.values.remove(&value.name);
            value.name = inner.made(&value.name, builder);
        }
        for tensor in &mut graph.initializer {
            inner.values.remove(&tensor.name);
            tensor.name = inner.made(&tensor.name, builder);
        }
        for node in &mut graph.node {
            node.output.iter().for_each(|name| drop(inner.values.remove(name)));
            *node = inner.written(node, builder, depth)?;
        }
        graph.output.iter_mut().for_each(|value| value.name = inner.read(&value.name));
        graph.value_info.clear();
        Ok(())
    }
}

/// Replaces every `If` node whose condition is constant by the branch that it takes, as often as that makes another
/// condition constant. Shapes of the inputs should be fixed before, because conditions are mostly about shapes.
///
/// # Errors
/// [`OnnxError`] as from [`Facts::infer`].
pub fn branches(mut model: ModelProto) -> Result<ModelProto, OnnxError> {
    for _ in 0..DEEPEST {
        let Some(graph) = &model.graph else { return Ok(model) };
        if !graph.node.iter().any(|n| n.op_type == "If" && n.is_onnx()) {
            return Ok(model);
        }
        let facts = Facts::infer(graph)?;
        let taken = |node: &NodeProto| {
            let condition = facts.integers(node.input_name(0)?)?;
            let branch = if *condition.first()? != 0 { "then_branch" } else { "else_branch" };
            node.attribute(branch)?.g.clone().filter(|_| node.op_type == "If" && node.is_onnx())
        };
        if !graph.node.iter().any(|n| taken(n).is_some()) {
            return Ok(model);
        }
        let nodes = graph.node.clone();
        let mut builder = GraphBuilder::extend(model);
        let mut result = vec![];
        for node in nodes {
            match taken(&node) {
                Some(branch) => result.extend(written_out(&node, branch, &mut builder)?),
                None => result.push(node),
            }
        }
        model = builder.finish();
        if let Some(graph) = &mut model.graph {
            graph.node = result;
        }
    }
    Ok(model)
}

/// The nodes of a branch, with its constants among the graph's.
fn written_out(node: &NodeProto, branch: GraphProto, builder: &mut GraphBuilder) -> Result<Vec<NodeProto>, OnnxError> {
    let mut scope = Scope { prefix: node.label().to_string(), values: HashMap::new(), attributes: None };
    for mut tensor in branch.initializer {
        tensor.name = scope.made(&tensor.name, builder);
        builder.graph_mut().initializer.push(tensor);
    }
    let made: Vec<&String> = branch.node.iter().flat_map(|n| &n.output).collect();
    for (inner, outer) in branch.output.iter().zip(&node.output) {
        if made.contains(&&inner.name) && !outer.is_empty() && !scope.values.contains_key(&inner.name) {
            scope.values.insert(inner.name.clone(), outer.clone());
        }
    }
    let mut result = branch.node.iter().map(|n| scope.written(n, builder, 0)).collect::<Result<Vec<_>, _>>()?;
    for (inner, outer) in branch.output.iter().zip(&node.output).filter(|(_, outer)| !outer.is_empty()) {
        let value = scope.read(&inner.name);
        if value != *outer {
            result.push(identity(&value, outer));
        }
    }
    Ok(result)
}

/// Why a node with graphs inside cannot be differentiated; absent for other nodes.
pub fn refusal(node: &NodeProto) -> Option<&'static str> {
    match node.op_type.as_str() {
        "If" => Some(
            "which branch is taken is known only when the model runs; export it with fixed shapes, or without the \
             condition",
        ),
        "Loop" | "Scan" | "SequenceMap" => {
            Some("loops have no gradient rule; export the model with its loops written out (unrolled)")
        }
        _ => None,
    }
}

/// Names that the graphs inside a node read, whether they make them or not.
pub fn captured(node: &NodeProto) -> Vec<&str> {
    let mut names = vec![];
    let mut graphs: Vec<&GraphProto> = inner_graphs(node).collect();
    while let Some(graph) = graphs.pop() {
        names.extend(graph.output.iter().map(|v| v.name.as_str()));
        for node in &graph.node {
            names.extend(node.input.iter().map(String::as_str));
            graphs.extend(inner_graphs(node));
        }
    }
    names
}

fn inner_graphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::fixtures::{Net, uniform};
    use crate::onnx::graph::FLOAT;
    use crate::onnx::interpret::{self, Tensor};
    use crate::onnx::proto::ValueInfoProto;

    fn node(op: &str, domain: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        NodeProto {
            op_type: op.into(),
            domain: domain.into(),
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: outputs.iter().map(|s| s.to_string()).collect(),
            ..NodeProto::default()
        }
    }

    fn refers(name: &str, to: &str) -> AttributeProto {
        AttributeProto { ref_attr_name: to.into(), ..AttributeProto::float(name, 0.0) }
    }

    /// `f(x) = leaky(x) + g(x)`, `g(x) = x · x`; the slope is an attribute with a default.
    fn with_functions(recursive: bool) -> ModelProto {
        let mut net = Net::new([2, 4, 3]);
        let x = net.op("Neg", &["image"]);
        let e = net.head(&x, 2, 3);
        let mut model = net.finish(&e, 3);
        let imports = model.opset_import.clone();
        let square = FunctionProto {
            name: "g".into(),
            domain: "local".into(),
            input: vec!["x".into()],
            output: vec!["y".into()],
            node: vec![node("Mul", "", &["x", "x"], &["y"])],
            opset_import: imports.clone(),
            ..FunctionProto::default()
        };
        let mut leaky = node("LeakyRelu", "", &["x"], &["t"]);
        leaky.attribute = vec![refers("alpha", "slope")];
        let inner = if recursive { "f" } else { "g" };
        let sum = FunctionProto {
            name: "f".into(),
            domain: "local".into(),
            input: vec!["x".into()],
            output: vec!["y".into()],
            attribute_proto: vec![AttributeProto::float("slope", 0.25)],
            node: vec![leaky, node(inner, "local", &["x"], &["u"]), node("Add", "", &["t", "u"], &["y"])],
            opset_import: imports,
            ..FunctionProto::default()
        };
        model.functions = vec![square, sum];
        model.opset_import.push(OperatorSetIdProto { domain: "local".into(), version: 1 });
        let graph = model.graph.as_mut().unwrap();
        let mut first = node("f", "local", &["image"], &["once"]);
        first.name = "first".into();
        let mut second = node("f", "local", &["once"], &[&x]);
        second.attribute = vec![AttributeProto::float("slope", 0.5)];
        graph.node.splice(0..1, [first, second]);
        model
    }

    #[test]
    fn nested_functions_become_their_nodes() {
        let model = functions(with_functions(false)).unwrap();
        let ops: Vec<&str> = model.graph.as_ref().unwrap().node.iter().map(|n| n.op_type.as_str()).take(6).collect();
        assert_eq!(ops, ["LeakyRelu", "Mul", "Add", "LeakyRelu", "Mul", "Add"]);
        let x = Tensor::from_f32(&[1, 2, 4, 3], &uniform(3, 24, -1.0, 1.0));
        let values = interpret::run(&model, &[("image", x.clone())]).unwrap();
        let f = |x: f64, slope: f64| x * x + if x < 0.0 { slope * x } else { x };
        assert_eq!(values["neg"], x.map(|x| f(f(x, 0.25), 0.5)));
    }

    #[test]
    fn a_function_that_calls_itself_is_refused() {
        let error = functions(with_functions(true)).unwrap_err().to_string();
        assert!(error.contains("calls itself"), "{error}");
    }

    fn branch(name: &str, op: &str, inputs: &[&str]) -> GraphProto {
        GraphProto {
            name: name.into(),
            node: vec![node(op, "", inputs, &["result"])],
            output: vec![ValueInfoProto::tensor("result", FLOAT, &[])],
            ..GraphProto::default()
        }
    }

    #[test]
    fn a_branch_that_depends_on_a_shape_is_taken() {
        let mut net = Net::new([2, 4, 3]);
        let shape = net.op("Shape", &["image"]);
        let axis = net.b.constant_i64("axis", &[], &[1]);
        let channels = net.op("Gather", &[&shape, &axis]);
        let condition = net.op("Equal", &[&channels, &axis]);
        let x = net.op("If", &[&condition]);
        let e = net.head(&x, 2, 3);
        let mut model = net.finish(&e, 3);
        let taken = model.graph.as_mut().unwrap().node.iter_mut().find(|n| n.op_type == "If").unwrap();
        for (name, graph) in
            [("then_branch", branch("then", "Neg", &["image"])), ("else_branch", branch("else", "Sin", &["image"]))]
        {
            taken.attribute.push(AttributeProto {
                name: name.into(),
                g: Some(graph),
                r#type: crate::onnx::proto::attribute_type::GRAPH,
                ..AttributeProto::default()
            });
        }
        assert_eq!(captured(taken), ["result", "image", "result", "image"]);
        let model = branches(model).unwrap();
        let graph = model.graph.as_ref().unwrap();
        assert!(graph.node.iter().all(|n| n.op_type != "If"));
        assert!(graph.node.iter().any(|n| n.op_type == "Sin" && n.output == [x.clone()]));
    }
}
