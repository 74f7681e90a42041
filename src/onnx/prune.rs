//! A graph without the parts that nobody asked for.

use std::collections::HashSet;

use super::attack_graph::AttackGraph;
use super::inline::captured;
use super::proto::ModelProto;

/// Keeps the outputs of these names, the nodes that they need, and the inputs that those nodes read.
pub fn keep_outputs(model: &mut ModelProto, outputs: &[&str]) {
    let Some(graph) = &mut model.graph else { return };
    graph.output.retain(|value| outputs.contains(&value.name.as_str()));
    let mut needed: HashSet<String> = graph.output.iter().map(|value| value.name.clone()).collect();
    // Nodes stand in an order in which every value is made before it is read.
    let mut kept = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|name| needed.contains(name)) {
            needed.extend(node.input.iter().cloned());
            needed.extend(captured(&node).into_iter().map(str::to_string));
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.input.retain(|value| needed.contains(&value.name));
    graph.initializer.retain(|tensor| needed.contains(&tensor.name));
}

impl AttackGraph {
    /// The same without the step: `(x, targets, weights) → (embedding, loss, gradient_l1, gradient)`, for searches that
    /// decide themselves what to do with a gradient.
    ///
    /// The graph must have been built with its gradient as an output; without, this takes nothing away.
    #[must_use]
    pub fn without_step(mut self) -> Self {
        if let Some(gradient) = &self.gradient {
            keep_outputs(&mut self.model, &[&self.embedding, &self.loss, &self.gradient_l1, gradient]);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use crate::onnx::attack_graph::build;
    use crate::onnx::fixtures::little_resnet;
    use crate::onnx::{AttackGraphOptions, LossDistance, LossHead};

    #[test]
    fn a_graph_without_the_step_reads_no_bounds() {
        let options = AttackGraphOptions {
            head: LossHead::Weighted(LossDistance::SquaredEuclidean),
            batch_size: Some(2),
            targets_per_sample: None,
            gradient_output: true,
            straight_through: false,
        };
        let whole = build(little_resnet(12, 12), &options).unwrap();
        let nodes = whole.model.graph.as_ref().unwrap().node.len();
        let bare = whole.without_step();
        let graph = bare.model.graph.as_ref().unwrap();
        let names = |list: &[crate::onnx::proto::ValueInfoProto]| -> Vec<String> {
            list.iter().map(|value| value.name.clone()).collect()
        };
        assert_eq!(names(&graph.input), [bare.x.clone(), bare.targets.clone(), bare.weights.clone()]);
        let gradient = bare.gradient.clone().unwrap();
        assert_eq!(names(&graph.output), [bare.embedding, bare.loss, bare.gradient_l1, gradient]);
        assert!(graph.node.len() < nodes && graph.node.iter().all(|node| node.op_type != "Sign"));
    }
}
