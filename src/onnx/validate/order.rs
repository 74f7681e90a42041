//! Values made once, before they are read; nodes in an order that shows it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::{Fault, Makers};
use crate::onnx::proto::{FunctionProto, GraphProto, NodeProto};
use crate::onnx::visit;

/// Checks a graph and those inside it, and sorts their nodes. `outer`: values of the graphs around it.
pub(super) fn graph(graph: &mut GraphProto, outer: &HashSet<String>) -> Result<(), Fault> {
    let mut makers = Makers(HashMap::new());
    for tensor in &graph.initializer {
        makers.add(&tensor.name, || "an initialiser".into())?;
    }
    let given: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let mut inputs = HashSet::new();
    for input in &graph.input {
        if !inputs.insert(input.name.as_str()) {
            let twice = || "an input".to_string();
            return Err(Fault::MadeTwice { value: input.name.clone(), first: twice(), second: twice() });
        }
        // Old files list initialisers as inputs too.
        if !given.contains(input.name.as_str()) {
            makers.add(&input.name, || "an input".into())?;
        }
    }
    let order = sort(&graph.node, &mut makers, outer)?;
    if let Some(missing) = graph.output.iter().find(|o| !makers.0.contains_key(o.name.as_str())) {
        // The result of a branch may be a value of the graph around it.
        if !outer.contains(&missing.name) {
            return Err(Fault::OutputNobodyMakes { value: missing.name.clone() });
        }
    }
    let visible = visible(&makers, outer, &graph.node);
    apply(&mut graph.node, order);
    inside(&mut graph.node, &visible)
}

/// As [`graph`] for the body of a function, which sees nothing outside.
pub(super) fn function(function: &mut FunctionProto) -> Result<(), Fault> {
    let mut makers = Makers(HashMap::new());
    for input in &function.input {
        makers.add(input, || "an input".into())?;
    }
    let outer = HashSet::new();
    let order = sort(&function.node, &mut makers, &outer)?;
    if let Some(missing) = function.output.iter().find(|o| !makers.0.contains_key(o.as_str())) {
        return Err(Fault::OutputNobodyMakes { value: missing.clone() });
    }
    let visible = visible(&makers, &outer, &function.node);
    apply(&mut function.node, order);
    inside(&mut function.node, &visible)
}

/// What sub-graphs see; nothing is gathered if there are none.
fn visible(makers: &Makers<'_>, outer: &HashSet<String>, nodes: &[NodeProto]) -> HashSet<String> {
    if nodes.iter().all(|node| visit::sub_graphs(node).next().is_none()) {
        return HashSet::new();
    }
    outer.iter().cloned().chain(makers.0.keys().map(|name| name.to_string())).collect()
}

fn inside(nodes: &mut [NodeProto], visible: &HashSet<String>) -> Result<(), Fault> {
    for node in nodes {
        for attribute in &mut node.attribute {
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                graph(inner, visible)?;
            }
        }
    }
    Ok(())
}

/// Adds the nodes' outputs to `makers`; returns the order in which the nodes can run, if it is another one.
fn sort<'a>(
    nodes: &'a [NodeProto],
    makers: &mut Makers<'a>,
    outer: &HashSet<String>,
) -> Result<Option<Vec<usize>>, Fault> {
    let mut maker_of: HashMap<&str, usize> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            makers.add(output, || format!("node `{}` ({})", node.label(), node.op_type))?;
            maker_of.insert(output, index);
        }
    }
    let mut in_order = true;
    let mut waits: Vec<Vec<usize>> = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let mut before = vec![];
        for value in reads(node) {
            match maker_of.get(value) {
                Some(maker) => {
                    in_order &= *maker < index;
                    before.push(*maker);
                }
                None if makers.0.contains_key(value) || outer.contains(value) => {}
                None => {
                    let (node, op) = (node.label().to_string(), node.op_type.clone());
                    return Err(Fault::NobodyMakes { node, op, value: value.into() });
                }
            }
        }
        waits.push(before);
    }
    if in_order { Ok(None) } else { topological(nodes, &waits).map(Some) }
}

/// Everything a node reads: its inputs and what its sub-graphs take from outside.
fn reads(node: &NodeProto) -> Vec<&str> {
    let mut found: Vec<&str> = node.input.iter().map(String::as_str).filter(|i| !i.is_empty()).collect();
    visit::sub_graphs(node).for_each(|graph| free(graph, &mut found));
    found
}

fn free<'a>(graph: &'a GraphProto, found: &mut Vec<&'a str>) {
    if graph.node.is_empty() && graph.output.is_empty() {
        return;
    }
    let mut own: HashSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    own.extend(graph.initializer.iter().map(|t| t.name.as_str()));
    own.extend(graph.node.iter().flat_map(|node| &node.output).map(String::as_str));
    let mut inner = vec![];
    for node in &graph.node {
        inner.extend(node.input.iter().map(String::as_str).filter(|i| !i.is_empty()));
        visit::sub_graphs(node).for_each(|graph| free(graph, &mut inner));
    }
    inner.extend(graph.output.iter().map(|o| o.name.as_str()));
    found.extend(inner.into_iter().filter(|name| !own.contains(name)));
}

/// Kahn's algorithm; of the nodes that can run, the one that came first in the file is next.
fn topological(nodes: &[NodeProto], waits: &[Vec<usize>]) -> Result<Vec<usize>, Fault> {
    let mut missing: Vec<usize> = waits.iter().map(Vec::len).collect();
    let mut readers: Vec<Vec<usize>> = vec![vec![]; nodes.len()];
    for (index, before) in waits.iter().enumerate() {
        before.iter().for_each(|maker| readers[*maker].push(index));
    }
    let mut ready: BinaryHeap<Reverse<usize>> = (0..nodes.len()).filter(|i| missing[*i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for reader in &readers[index] {
            missing[*reader] -= 1;
            if missing[*reader] == 0 {
                ready.push(Reverse(*reader));
            }
        }
    }
    if order.len() == nodes.len() {
        return Ok(order);
    }
    Err(Fault::Cycle { nodes: cycle(waits, &missing).into_iter().map(|i| nodes[i].label().to_string()).collect() })
}

/// One cycle among the nodes that still miss something: each of them waits for another such node.
fn cycle(waits: &[Vec<usize>], missing: &[usize]) -> Vec<usize> {
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut path = vec![];
    let mut at = missing.iter().position(|m| *m > 0);
    while let Some(index) = at {
        if let Some(start) = seen.insert(index, path.len()) {
            return path.split_off(start);
        }
        path.push(index);
        at = waits[index].iter().copied().find(|maker| missing[*maker] > 0);
    }
    path
}

fn apply(nodes: &mut Vec<NodeProto>, order: Option<Vec<usize>>) {
    let Some(order) = order else { return };
    let mut unsorted: Vec<Option<NodeProto>> = std::mem::take(nodes).into_iter().map(Some).collect();
    nodes.extend(order.into_iter().filter_map(|index| unsorted[index].take()));
}
