//! Reverse mode: the gradient of a scalar loss with respect to the image, as ordinary ONNX nodes.
//!
//! The forward nodes stay what they were (a max pool may get a second output, its indices). Only what lies between
//! the image and the output is differentiated; weights are constants. An operator without a rule is an error that
//! names the node, never a silent zero.
//!
//! To add an operator: write its rule in the file of its family and name it in the `RULES` there.

mod activation;
mod arithmetic;
mod convolution;
mod layout;
mod linear;
mod passing;
mod pooling;
mod reduction;
mod straight;
mod tape;
#[cfg(test)]
mod tests;

pub use tape::Tape;

use super::file::OnnxError;
use super::graph::GraphBuilder;
use super::proto::NodeProto;
use super::shape::Facts;

/// A vector-Jacobian product: given the gradient of the node's first output, adds gradients to its inputs.
type Rule = fn(&mut Tape<'_>, &NodeProto, &str) -> Result<(), OnnxError>;

/// Every operator that can be differentiated, by family.
const FAMILIES: &[&[(&str, Rule)]] = &[
    activation::RULES,
    arithmetic::RULES,
    convolution::RULES,
    layout::RULES,
    linear::RULES,
    passing::RULES,
    pooling::RULES,
    reduction::RULES,
];

/// Names of all operators that can be differentiated, sorted.
pub fn supported_ops() -> Vec<&'static str> {
    let mut ops: Vec<&str> = FAMILIES.iter().flat_map(|rules| rules.iter()).map(|(op, _)| *op).collect();
    ops.sort_unstable();
    ops
}

fn rule_of(node: &NodeProto) -> Option<Rule> {
    let mut rules = FAMILIES.iter().flat_map(|rules| rules.iter());
    let known = node.is_onnx() && !passing::casts_to_integers(node);
    rules.find(|(op, _)| known && *op == node.op_type).map(|(_, rule)| *rule)
}

/// What [`backward`] appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backward {
    /// Name of the gradient with respect to the input.
    pub gradient: String,
    /// Labels of the nodes whose gradient is a straight-through estimate, in the order of the graph.
    pub straight_through: Vec<String>,
}

/// Appends the backward pass to the graph under construction, given `seed`, the gradient of the loss with respect to
/// `output`. With `straight_through`, operators whose gradient is zero almost everywhere (rounding, quantisation,
/// comparisons) get a straight-through estimate and are listed; otherwise they are an error.
///
/// # Errors
/// [`OnnxError::NoRule`] for an operator without a rule; [`OnnxError::Node`] for a use of one that its rule does not
/// cover; [`OnnxError::Graph`] if the output does not depend on the input.
pub fn backward(
    builder: &mut GraphBuilder,
    facts: &Facts,
    input: &str,
    output: &str,
    seed: &str,
    straight_through: bool,
) -> Result<Backward, OnnxError> {
    let nodes = builder.graph().node.clone();
    let mut tape = Tape::new(builder, facts, &nodes, input);
    if !tape.wants(output) {
        return Err(OnnxError::Graph(format!("output `{output}` does not depend on the input `{input}`")));
    }
    tape.add(output, seed.to_string());
    let mut estimated = vec![];
    for node in nodes.iter().rev() {
        let Some(gradient) = node.output.first().and_then(|o| tape.take(o)) else { continue };
        let rule = match rule_of(node) {
            Some(rule) => rule,
            None => {
                estimated.push(node.label().to_string());
                let estimate = straight::rule_of(node).filter(|_| straight_through);
                estimate.ok_or_else(|| OnnxError::NoRule { node: node.label().into(), op: node.op_type.clone() })?
            }
        };
        rule(&mut tape, node, &gradient)?;
    }
    estimated.reverse();
    let gradient = tape.take(input);
    let none = || OnnxError::Graph(format!("output `{output}` has no gradient towards `{input}`"));
    Ok(Backward { gradient: gradient.ok_or_else(none)?, straight_through: estimated })
}
