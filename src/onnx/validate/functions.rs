//! Functions that call themselves, and functions that stand for more nodes than a machine holds when written out.

use std::collections::HashMap;

use super::{Fault, canonical, each_node};
use crate::onnx::proto::{FunctionProto, ModelProto, NodeProto};

/// Most nodes that a model may have after its functions are written out.
const MOST_NODES: usize = 1_000_000;

/// Domain, name and overload.
pub(super) type Key<'a> = (&'a str, &'a str, &'a str);

pub(super) fn key(function: &FunctionProto) -> Key<'_> {
    (canonical(&function.domain), &function.name, &function.overload)
}

/// Checks the calls between functions.
pub(super) fn check(model: &ModelProto) -> Result<(), Fault> {
    let mut by_key: HashMap<Key<'_>, &FunctionProto> = HashMap::new();
    for function in &model.functions {
        if by_key.insert(key(function), function).is_some() {
            let twice = || "a function".to_string();
            return Err(Fault::MadeTwice { value: function.name.clone(), first: twice(), second: twice() });
        }
    }
    let bodies = model.functions.iter().map(|f| &f.node).chain(model.graph.iter().map(|g| &g.node));
    for nodes in bodies {
        each_node(nodes, &mut |node| call(node, &by_key))?;
    }
    let mut sizes = Sizes { functions: &by_key, known: HashMap::new(), open: vec![] };
    for function in &model.functions {
        sizes.of(function)?;
    }
    Ok(())
}

/// A call may leave inputs and outputs out, but not have more of them than the function.
fn call(node: &NodeProto, functions: &HashMap<Key<'_>, &FunctionProto>) -> Result<(), Fault> {
    let called = (canonical(&node.domain), node.op_type.as_str(), node.overload.as_str());
    let Some(function) = functions.get(&called) else { return Ok(()) };
    if node.input.len() <= function.input.len() && node.output.len() <= function.output.len() {
        return Ok(());
    }
    Err(Fault::Call {
        node: node.label().into(),
        function: function.name.clone(),
        got: [node.input.len(), node.output.len()],
        wanted: [function.input.len(), function.output.len()],
    })
}

struct Sizes<'a> {
    functions: &'a HashMap<Key<'a>, &'a FunctionProto>,
    known: HashMap<Key<'a>, usize>,
    /// Functions that are being counted, outermost first.
    open: Vec<Key<'a>>,
}

impl<'a> Sizes<'a> {
    /// Nodes that a call of this function stands for.
    ///
    /// The recursion is as deep as calls are nested; a chain of functions longer than the stack allows is refused.
    fn of(&mut self, function: &'a FunctionProto) -> Result<usize, Fault> {
        const DEEPEST: usize = 200;
        let key = key(function);
        if let Some(size) = self.known.get(&key) {
            return Ok(*size);
        }
        if let Some(start) = self.open.iter().position(|k| *k == key) {
            let functions = self.open[start..].iter().map(|k| k.1.to_string()).collect();
            return Err(Fault::RecursiveFunction { functions });
        }
        let too_large = || Fault::FunctionTooLarge { function: function.name.clone(), limit: MOST_NODES };
        if self.open.len() >= DEEPEST {
            return Err(too_large());
        }
        self.open.push(key);
        let mut calls = vec![];
        let mut size = 0usize;
        each_node(&function.node, &mut |node| {
            let called = (canonical(&node.domain), node.op_type.as_str(), node.overload.as_str());
            match self.functions.get(&called) {
                Some(called) => calls.push(*called),
                None => size += 1,
            }
            Ok(())
        })?;
        for called in calls {
            size = size.saturating_add(self.of(called)?);
            if size > MOST_NODES {
                return Err(too_large());
            }
        }
        self.open.pop();
        self.known.insert(key, size);
        Ok(size)
    }
}
