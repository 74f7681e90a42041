//! Functions that call themselves, and functions that stand for more nodes than a machine holds when written out.

use std::collections::HashMap;

use super::{Fault, canonical, each_node};
use crate::onnx::proto::{FunctionProto, ModelProto};

/// Most nodes that a model may have after its functions are written out.
const MOST_NODES: usize = 1_000_000;

type Key<'a> = (&'a str, &'a str, &'a str);

fn key(function: &FunctionProto) -> Key<'_> {
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
    let mut sizes = Sizes { functions: &by_key, known: HashMap::new(), open: vec![] };
    for function in &model.functions {
        sizes.of(function)?;
    }
    Ok(())
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
