//! Every graph, node and tensor of a model, also those inside attributes, sub-graphs and functions.

use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// Every tensor of a model.
pub fn tensors<'a>(model: &'a ModelProto, f: &mut impl FnMut(&'a TensorProto)) {
    if let Some(graph) = &model.graph {
        graph_tensors(graph, f);
    }
    for function in &model.functions {
        nodes_tensors(&function.node, f);
        attributes_tensors(&function.attribute_proto, f);
    }
}

fn graph_tensors<'a>(graph: &'a GraphProto, f: &mut impl FnMut(&'a TensorProto)) {
    graph.initializer.iter().for_each(&mut *f);
    nodes_tensors(&graph.node, f);
}

fn nodes_tensors<'a>(nodes: &'a [NodeProto], f: &mut impl FnMut(&'a TensorProto)) {
    nodes.iter().for_each(|node| attributes_tensors(&node.attribute, f));
}

fn attributes_tensors<'a>(attributes: &'a [AttributeProto], f: &mut impl FnMut(&'a TensorProto)) {
    for attribute in attributes {
        attribute.t.iter().chain(&attribute.tensors).for_each(&mut *f);
        attribute.g.iter().chain(&attribute.graphs).for_each(|graph| graph_tensors(graph, f));
    }
}

/// Every tensor of a model, to be changed; stops at the first error.
///
/// # Errors
/// Whatever `f` gives.
pub fn tensors_mut<E>(model: &mut ModelProto, f: &mut impl FnMut(&mut TensorProto) -> Result<(), E>) -> Result<(), E> {
    if let Some(graph) = &mut model.graph {
        graph_tensors_mut(graph, f)?;
    }
    for function in &mut model.functions {
        function.node.iter_mut().try_for_each(|node| attributes_tensors_mut(&mut node.attribute, f))?;
        attributes_tensors_mut(&mut function.attribute_proto, f)?;
    }
    Ok(())
}

fn graph_tensors_mut<E>(
    graph: &mut GraphProto,
    f: &mut impl FnMut(&mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    graph.initializer.iter_mut().try_for_each(&mut *f)?;
    graph.node.iter_mut().try_for_each(|node| attributes_tensors_mut(&mut node.attribute, f))
}

fn attributes_tensors_mut<E>(
    attributes: &mut [AttributeProto],
    f: &mut impl FnMut(&mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for attribute in attributes {
        attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(&mut *f)?;
        attribute.g.iter_mut().chain(&mut attribute.graphs).try_for_each(|graph| graph_tensors_mut(graph, f))?;
    }
    Ok(())
}

/// Every graph of a model, outermost first, to be changed.
pub fn graphs_mut(model: &mut ModelProto, f: &mut impl FnMut(&mut GraphProto)) {
    if let Some(graph) = &mut model.graph {
        graph_and_inner(graph, f);
    }
    for function in &mut model.functions {
        function.node.iter_mut().for_each(|node| inner_graphs(node, f));
    }
}

fn graph_and_inner(graph: &mut GraphProto, f: &mut impl FnMut(&mut GraphProto)) {
    f(graph);
    graph.node.iter_mut().for_each(|node| inner_graphs(node, f));
}

fn inner_graphs(node: &mut NodeProto, f: &mut impl FnMut(&mut GraphProto)) {
    for attribute in &mut node.attribute {
        attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|graph| graph_and_inner(graph, f));
    }
}

/// The sub-graphs in a node's attributes.
pub fn sub_graphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}
