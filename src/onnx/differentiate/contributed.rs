//! ONNX Runtime's own operators (`com.microsoft`) that optimised exports contain.

use super::activation::{gated_slope, gelu_slope, gelu_tanh_slope};
use super::linear::sum_batches;
use super::normalisation::{layer_core, scaled, standardised};
use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto};

/// By name without the domain.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("BiasGelu", bias_gelu),
    ("FastGelu", fast_gelu),
    ("FusedMatMul", fused_matmul),
    ("Gelu", bias_gelu),
    ("QuickGelu", quick_gelu),
    ("SkipLayerNormalization", skip_layer),
    ("SkipSimplifiedLayerNormalization", skip_simplified),
];

/// The value plus its bias, if it has one.
fn biased(tape: &mut Tape<'_>, node: &NodeProto) -> Result<String, OnnxError> {
    let value = tape.input(node, 0)?;
    Ok(match node.input_name(1) {
        Some(bias) => tape.op("Add", &[value, bias]),
        None => value.to_string(),
    })
}

/// `dy · slope` to the value and, summed, to its bias.
fn to_both(tape: &mut Tape<'_>, node: &NodeProto, dy: &str, slope: &str) -> Result<(), OnnxError> {
    let gradient = tape.op("Mul", &[dy, slope]);
    (0..node.input.len()).filter(|i| node.input_name(*i).is_some()).try_for_each(|i| tape.give(node, i, &gradient))
}

fn bias_gelu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let x = biased(tape, node)?;
    let slope = gelu_slope(tape, &x);
    to_both(tape, node, dy, &slope)
}

fn fast_gelu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let x = biased(tape, node)?;
    let slope = gelu_tanh_slope(tape, &x);
    to_both(tape, node, dy, &slope)
}

fn quick_gelu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let slope = gated_slope(tape, value, &node.output[0], node.float("alpha", 1.702));
    to_both(tape, node, dy, &slope)
}

/// `y = alpha · A' B'`, where `'` may exchange the last two axes.
fn fused_matmul(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (a, b) = (tape.input(node, 0)?, tape.input(node, 1)?);
    if node.int("transBatchA", 0) != 0 || node.int("transBatchB", 0) != 0 {
        return Err(tape.unsupported(node, "transBatchA and transBatchB have no rule"));
    }
    if tape.shape(node, a)?.len() < 2 || tape.shape(node, b)?.len() < 2 {
        return Err(tape.unsupported(node, "an operand is a vector; only matrices have a rule"));
    }
    let [trans_a, trans_b] = ["transA", "transB"].map(|name| i64::from(node.int(name, 0) != 0));
    let alpha = node.float("alpha", 1.0);
    let product = |tape: &mut Tape<'_>, x: &str, y: &str, turned: [i64; 2]| {
        let flags = vec![
            AttributeProto::int("transA", turned[0]),
            AttributeProto::int("transB", turned[1]),
            AttributeProto::float("alpha", alpha),
        ];
        tape.contributed("FusedMatMul", &[x, y], flags)
    };
    if tape.wants(a) {
        let gradient = match trans_a {
            0 => product(tape, dy, b, [0, 1 - trans_b]),
            _ => product(tape, b, dy, [trans_b, 1]),
        };
        let gradient = sum_batches(tape, node, &gradient, a)?;
        tape.add(a, gradient);
    }
    if tape.wants(b) {
        let gradient = match trans_b {
            0 => product(tape, a, dy, [1 - trans_a, 0]),
            _ => product(tape, dy, a, [1, trans_a]),
        };
        let gradient = sum_batches(tape, node, &gradient, b)?;
        tape.add(b, gradient);
    }
    Ok(())
}

fn skip_layer(tape: &mut Tape<'_>, node: &NodeProto, _: &str) -> Result<(), OnnxError> {
    skip(tape, node, 4, true)
}

fn skip_simplified(tape: &mut Tape<'_>, node: &NodeProto, _: &str) -> Result<(), OnnxError> {
    skip(tape, node, 3, false)
}

/// The sum of two values (and the bias, input `bias_at`) is normalised, and is output 3 too.
fn skip(tape: &mut Tape<'_>, node: &NodeProto, bias_at: usize, centred: bool) -> Result<(), OnnxError> {
    let gradients = tape.output_gradients().to_vec();
    if gradients.iter().enumerate().any(|(i, g)| matches!(i, 1 | 2) && g.is_some()) {
        return Err(tape.unsupported(node, "its mean or deviation is used; only outputs 0 and 3 have a rule"));
    }
    let sum = tape.extra_output(node, 3, "skip_sum");
    let epsilon = node.float("epsilon", 1e-12);
    let rank = tape.shape(node, tape.input(node, 0)?)?.len() as i64;
    let mut gradient = gradients.get(3).cloned().flatten();
    if let Some(dy) = gradients.first().cloned().flatten() {
        let (x_hat, r) = match centred {
            true => standardised(tape, &sum, &[rank - 1], epsilon),
            false => scaled(tape, &sum, &[rank - 1], epsilon),
        };
        let own = layer_core(tape, node, &dy, (&x_hat, &r), &[rank - 1], (2, centred))?;
        gradient = Some(match gradient {
            Some(direct) => tape.op("Add", &[&direct, &own]),
            None => own,
        });
    }
    let Some(gradient) = gradient else { return Ok(()) };
    [0, 1, bias_at]
        .into_iter()
        .filter(|i| node.input_name(*i).is_some())
        .try_for_each(|i| tape.give(node, i, &gradient))
}
