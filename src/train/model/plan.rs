//! What is known about the nodes of a network before any pass.

use std::ops::Range;

use crate::network::{Network, Node, Op, ParameterSpec};

/// What the interpreter must know about a node beside its operation.
#[derive(Debug)]
pub(super) struct Step {
    /// Its tensors in [`Model::tensors`].
    pub(super) parameters: Range<usize>,
    /// The last node that reads its output.
    pub(super) last_user: usize,
    /// Whether it may overwrite its first operand: nobody else reads that, and its own gradient does not need it.
    pub(super) in_place: bool,
    /// Whether it is a batch norm that alone reads a convolution, so that inference can put it into the weights.
    pub(super) folded: bool,
    /// Whether it is a convolution of single pixels, which is a matrix product.
    pub(super) pointwise: bool,
}

/// One per node.
pub(super) fn steps(network: &Network, specs: &[ParameterSpec]) -> Vec<Step> {
    let users =
        |id: usize| network.nodes.iter().enumerate().filter(move |(_, n)| n.inputs.contains(&id)).map(|(i, _)| i);
    let step = |(i, node): (usize, &Node)| {
        let first = specs.partition_point(|s| s.node < i);
        let in_place = matches!(node.op, Op::Relu | Op::Add)
            && node.inputs.first().is_some_and(|&from| {
                let keeps_output = matches!(network.nodes[from].op, Op::Input | Op::Relu | Op::MaxPool { .. });
                !keeps_output && users(from).count() == 1
            });
        Step {
            parameters: first..specs.partition_point(|s| s.node <= i),
            last_user: users(i).next_back().unwrap_or(i),
            in_place,
            folded: matches!(node.op, Op::BatchNorm { .. })
                && node
                    .inputs
                    .first()
                    .is_some_and(|&from| matches!(network.nodes[from].op, Op::Conv { .. }) && users(from).count() == 1),
            pointwise: matches!(node.op, Op::Conv { kernel: 1, padding: 0, .. }),
        }
    };
    network.nodes.iter().enumerate().map(step).collect()
}
