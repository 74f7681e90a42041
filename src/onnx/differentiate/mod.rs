//! Reverse mode: the gradient of a scalar loss with respect to the image, as ordinary ONNX nodes.
//!
//! The forward nodes stay what they were (a layer normalisation may get more of its outputs). Only what
//! lies between the image and the output is differentiated; weights are constants. An operator without a rule is an
//! error that names the node, never a silent zero.
//!
//! To add an operator: write its rule in the file of its family and name it in the `RULES` there.

mod activation;
mod arithmetic;
mod attention;
mod blocked;
mod contributed;
mod convolution;
mod functions;
mod indexing;
mod layout;
mod linear;
mod normalisation;
mod operators;
mod passing;
mod pooling;
mod reduction;
mod resizing;
mod slicing;
mod straight;
mod tape;
#[cfg(test)]
mod tests;
mod transposed;

pub use operators::operators_markdown;
pub use tape::Tape;

use super::file::OnnxError;
use super::graph::GraphBuilder;
use super::inline;
use super::proto::NodeProto;
use super::shape::Facts;

/// A vector-Jacobian product: given the gradient of the node's first output, adds gradients to its inputs.
type Rule = fn(&mut Tape<'_>, &NodeProto, &str) -> Result<(), OnnxError>;

/// Every operator that can be differentiated, by family.
const FAMILIES: &[&[(&str, Rule)]] = &[
    activation::RULES,
    arithmetic::RULES,
    attention::RULES,
    convolution::RULES,
    functions::RULES,
    indexing::RULES,
    layout::RULES,
    linear::RULES,
    normalisation::RULES,
    passing::RULES,
    pooling::RULES,
    reduction::RULES,
    resizing::RULES,
    slicing::RULES,
    transposed::RULES,
];

/// Operators whose rules know the gradients of all outputs.
const MANY: &[&str] = &["SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "Split"];

/// The domain of ONNX Runtime's own operators.
const CONTRIBUTED: &str = "com.microsoft";

/// Names of all operators that can be differentiated, sorted; those of ONNX Runtime with their domain in front.
pub fn supported_ops() -> Vec<String> {
    let onnx = FAMILIES.iter().flat_map(|rules| rules.iter()).map(|(op, _)| op.to_string());
    let mut ops: Vec<String> = onnx.collect();
    ops.extend(contributed::RULES.iter().map(|(op, _)| format!("{CONTRIBUTED}.{op}")));
    ops.sort_unstable();
    ops
}

/// How a gradient passes a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// By its rule.
    Rule,
    /// By a straight-through estimate, if the caller allows that.
    StraightThrough,
    /// Not at all.
    None,
}

/// Whether a node's operator can be differentiated; a rule may still refuse a use that it does not cover.
pub fn support(node: &NodeProto) -> Support {
    match (rule_of(node), straight::rule_of(node)) {
        (Some(_), _) => Support::Rule,
        (None, Some(_)) => Support::StraightThrough,
        (None, None) => Support::None,
    }
}

fn rule_of(node: &NodeProto) -> Option<Rule> {
    let named = |rules: &'static [(&'static str, Rule)]| rules.iter().find(|(op, _)| *op == node.op_type);
    let found = match node.domain.as_str() {
        _ if passing::casts_to_integers(node) => None,
        _ if node.is_onnx() => FAMILIES.iter().find_map(|rules| named(rules)),
        CONTRIBUTED => named(contributed::RULES),
        _ => None,
    };
    found.map(|(_, rule)| *rule)
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
        let gradients: Vec<Option<String>> = node.output.iter().map(|o| tape.take(o)).collect();
        let Some(any) = gradients.iter().position(Option::is_some) else { continue };
        // Most rules know the first output only.
        if let Some(other) =
            gradients.iter().skip(1).position(Option::is_some).filter(|_| !MANY.contains(&node.op_type.as_str()))
        {
            let reason = format!("the gradient of output {} (`{}`) has no rule", other + 1, node.output[other + 1]);
            return Err(tape.unsupported(node, reason));
        }
        let gradient = gradients[any].clone().unwrap_or_default();
        tape.set_output_gradients(gradients);
        let rule = match rule_of(node) {
            Some(rule) => rule,
            None => {
                if let Some(reason) = inline::refusal(node) {
                    return Err(tape.unsupported(node, reason));
                }
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
