//! Reverse mode: the gradient of a scalar loss with respect to the image, as ordinary ONNX nodes.
//!
//! The forward nodes stay what they were (a max pool may get a second output, its indices). Only what lies between
//! the image and the output is differentiated; weights are constants. An operator without a rule is an error that
//! names the node, never a silent zero.
//!
//! To add an operator: write its rule in the file of its family, and name it in `RULES`.

mod activation;
mod arithmetic;
mod convolution;
mod layout;
mod linear;
mod pooling;
mod reduction;
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

/// Every operator that can be differentiated.
const RULES: &[(&str, Rule)] = &[
    ("Abs", activation::abs),
    ("Add", arithmetic::add),
    ("AveragePool", pooling::average),
    ("BatchNormalization", linear::batch_normalization),
    ("Cast", layout::identity),
    ("Clip", activation::clip),
    ("Concat", layout::concat),
    ("Conv", convolution::conv),
    ("Div", arithmetic::div),
    ("Dropout", layout::identity),
    ("Exp", activation::exp),
    ("Flatten", layout::reshape),
    ("Gemm", linear::gemm),
    ("GlobalAveragePool", pooling::global_average),
    ("Identity", layout::identity),
    ("LeakyRelu", activation::leaky_relu),
    ("Log", activation::log),
    ("MatMul", linear::matmul),
    ("MaxPool", pooling::max),
    ("Mul", arithmetic::mul),
    ("Neg", activation::neg),
    ("Pow", arithmetic::pow),
    ("ReduceL2", reduction::l2),
    ("ReduceMean", reduction::mean),
    ("ReduceSum", reduction::sum),
    ("Relu", activation::relu),
    ("Reshape", layout::reshape),
    ("Sigmoid", activation::sigmoid),
    ("Sqrt", activation::sqrt),
    ("Squeeze", layout::reshape),
    ("Sub", arithmetic::sub),
    ("Tanh", activation::tanh),
    ("Transpose", layout::transpose),
    ("Unsqueeze", layout::reshape),
];

/// Names of all operators that can be differentiated, sorted.
pub fn supported_ops() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(op, _)| *op)
}

fn rule_of(node: &NodeProto) -> Result<Rule, OnnxError> {
    RULES
        .iter()
        .find(|(op, _)| node.is_onnx() && *op == node.op_type)
        .map(|(_, rule)| *rule)
        .ok_or_else(|| OnnxError::NoRule { node: node.label().into(), op: node.op_type.clone() })
}

/// Appends the backward pass to the graph under construction: given `seed`, the gradient of the loss with respect to
/// `output`, returns the name of the gradient with respect to `input`.
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
) -> Result<String, OnnxError> {
    let nodes = builder.graph().node.clone();
    let mut tape = Tape::new(builder, facts, &nodes, input);
    if !tape.wants(output) {
        return Err(OnnxError::Graph(format!("output `{output}` does not depend on the input `{input}`")));
    }
    tape.add(output, seed.to_string());
    for node in nodes.iter().rev() {
        let Some(gradient) = node.output.first().and_then(|o| tape.take(o)) else { continue };
        let rule = rule_of(node)?;
        rule(&mut tape, node, &gradient)?;
    }
    tape.take(input).ok_or_else(|| OnnxError::Graph(format!("output `{output}` has no gradient towards `{input}`")))
}
