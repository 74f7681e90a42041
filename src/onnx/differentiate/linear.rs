//! Matrix products and batch normalisation at inference.

use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto};

pub(super) const RULES: &[(&str, Rule)] =
    &[("BatchNormalization", batch_normalization), ("Gemm", gemm), ("MatMul", matmul)];

/// `y = alpha · A' B' + beta · C`; `B` must be constant.
fn gemm(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (a, b) = (tape.input(node, 0)?, tape.input(node, 1)?);
    if tape.wants(b) {
        return Err(tape.unsupported(node, "input 1 depends on the image; only a constant matrix has a rule"));
    }
    if tape.wants(a) {
        let (trans_a, trans_b) = (node.int("transA", 0), node.int("transB", 0));
        let alpha = AttributeProto::float("alpha", node.float("alpha", 1.0));
        let flags =
            |a: i64, b: i64| vec![alpha.clone(), AttributeProto::int("transA", a), AttributeProto::int("transB", b)];
        let gradient = if trans_a == 0 {
            tape.node("Gemm", &[dy, b], flags(0, 1 - trans_b))
        } else {
            tape.node("Gemm", &[b, dy], flags(trans_b, 1))
        };
        tape.add(a, gradient);
    }
    if let Some(c) = node.input_name(2).filter(|c| tape.wants(c)) {
        let scaled = tape.scale(dy, node.float("beta", 1.0));
        let gradient = tape.unbroadcast(node, &scaled, c)?;
        tape.add(c, gradient);
    }
    Ok(())
}

fn matmul(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (a, b) = (tape.input(node, 0)?, tape.input(node, 1)?);
    if tape.wants(a) {
        let turned = turn(tape, node, b)?;
        let gradient = tape.node("MatMul", &[dy, &turned], vec![]);
        let gradient = sum_batches(tape, node, &gradient, a)?;
        tape.add(a, gradient);
    }
    if tape.wants(b) {
        let turned = turn(tape, node, a)?;
        let gradient = tape.node("MatMul", &[&turned, dy], vec![]);
        let gradient = sum_batches(tape, node, &gradient, b)?;
        tape.add(b, gradient);
    }
    Ok(())
}

/// The last two axes swapped; at least two are needed.
fn turn(tape: &mut Tape<'_>, node: &NodeProto, value: &str) -> Result<String, OnnxError> {
    let rank = tape.shape(node, value)?.len() as i64;
    if rank < 2 {
        return Err(tape.unsupported(node, format!("`{value}` is a vector; only matrices have a rule")));
    }
    let order: Vec<i64> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
    Ok(tape.node("Transpose", &[value], vec![AttributeProto::ints("perm", &order)]))
}

/// Sums over batch axes that the operand lacks.
fn sum_batches(tape: &mut Tape<'_>, node: &NodeProto, gradient: &str, value: &str) -> Result<String, OnnxError> {
    let (output, own) = (tape.shape(node, &node.output[0])?, tape.shape(node, value)?);
    let lead = output.len() - own.len();
    let spread = |a: &usize| *a < lead || (own[a - lead].fixed() == Some(1) && output[*a].fixed() != Some(1));
    let axes: Vec<i64> = (0..output.len() - 2).filter(spread).map(|a| a as i64).collect();
    if axes.is_empty() {
        return Ok(gradient.to_string());
    }
    let axes = tape.builder().list(&axes);
    let sum = tape.node("ReduceSum", &[gradient, &axes], vec![AttributeProto::int("keepdims", 1)]);
    Ok(tape.reshape_like(&sum, value))
}

/// At inference a factor per channel: `scale / sqrt(variance + epsilon)`. Behind a convolution that nobody else reads,
/// the factor moves into the weights of the convolution's own backward pass and costs nothing.
fn batch_normalization(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    if node.int("training_mode", 0) != 0 {
        return Err(tape.unsupported(node, "training_mode = 1; export the model for inference"));
    }
    let numbers = |i: usize| {
        tape.facts()
            .constant(tape.input(node, i)?)
            .and_then(|t| t.to_f32())
            .ok_or_else(|| tape.unsupported(node, format!("input {i} is not a constant")))
    };
    let (scale, variance) = (numbers(1)?, numbers(4)?);
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let factor: Vec<f32> =
        scale.iter().zip(&variance).map(|(s, v)| (f64::from(*s) / (f64::from(*v) + epsilon).sqrt()) as f32).collect();
    if let Some(conv) = tape.sole_maker(value, "Conv")
        && conv.input_name(1).is_some_and(|w| tape.facts().constant(w).is_some())
    {
        tape.postpone_factor(value, factor);
        tape.add(value, dy.to_string());
        return Ok(());
    }
    let rank = tape.shape(node, value)?.len();
    let mut dims = vec![1; rank];
    if let Some(channels) = dims.get_mut(1) {
        *channels = factor.len();
    }
    let factor = tape.builder().constant("grad_batch_norm_factor", &dims, &factor);
    let gradient = tape.node("Mul", &[dy, &factor], vec![]);
    tape.add(value, gradient);
    Ok(())
}
