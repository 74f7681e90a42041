//! Straight-through estimates: what to use in place of a gradient that is zero almost everywhere.
//!
//! Not gradients. They are used only when the caller asks for them, and every node so treated is listed in the result.
//! Rounding, signs and casts to integers count as the identity, quantisation as a clamp, and truth values as constants.
//! Source: Bengio, Léonard, Courville 2013, arXiv:1308.3432, section 4; the clamp is PyTorch's `fake_quantize`.

use super::{Rule, Tape, passing};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto, data_type};

/// Every operator that has an estimate but no gradient.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("And", constant),
    ("Ceil", identity),
    ("DequantizeLinear", dequantize),
    ("Equal", constant),
    ("Floor", identity),
    ("Greater", constant),
    ("GreaterOrEqual", constant),
    ("Less", constant),
    ("LessOrEqual", constant),
    ("Not", constant),
    ("Or", constant),
    ("QuantizeLinear", quantize),
    ("Round", identity),
    ("Sign", identity),
    ("Xor", constant),
];

pub(super) fn rule_of(node: &NodeProto) -> Option<Rule> {
    if passing::casts_to_integers(node) {
        return Some(identity);
    }
    RULES.iter().find(|(op, _)| node.is_onnx() && *op == node.op_type).map(|(_, rule)| *rule)
}

fn identity(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    tape.add(value, dy.to_string());
    Ok(())
}

fn constant(_: &mut Tape<'_>, _: &NodeProto, _: &str) -> Result<(), OnnxError> {
    Ok(())
}

/// `scale` as something that multiplies values of the quantised tensor: per tensor, or along `axis`.
fn scale_of(tape: &mut Tape<'_>, node: &NodeProto) -> Result<String, OnnxError> {
    let scale = tape.input(node, 1)?;
    if node.int("block_size", 0) != 0 {
        return Err(tape.unsupported(node, "blocked quantisation has no rule; quantise per tensor or per axis"));
    }
    if tape.wants(scale) {
        return Err(tape.unsupported(node, "the scale depends on the image; only a constant scale has a rule"));
    }
    along_axis(tape, node, scale)
}

/// A list over `axis` of the node's input, with axes of one behind it; a scalar stays as it is.
fn along_axis(tape: &mut Tape<'_>, node: &NodeProto, list: &str) -> Result<String, OnnxError> {
    if tape.shape(node, list)?.iter().all(|d| d.fixed() == Some(1)) {
        return Ok(list.to_string());
    }
    let rank = tape.shape(node, tape.input(node, 0)?)?.len() as i64;
    let axis = node.int("axis", 1);
    let axis = if axis < 0 { axis + rank } else { axis };
    let shape: Vec<i64> = (0..rank - axis).map(|a| if a == 0 { -1 } else { 1 }).collect();
    let shape = tape.builder().list(&shape);
    Ok(tape.node("Reshape", &[list, &shape], vec![]))
}

fn dequantize(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let scale = scale_of(tape, node)?;
    let gradient = tape.node("Mul", &[dy, &scale], vec![]);
    let value = tape.input(node, 0)?;
    tape.add(value, gradient);
    Ok(())
}

/// The rounding counts as the identity; where the result is beyond the range of the integer type the gradient is 0.
fn quantize(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let scale = scale_of(tape, node)?;
    let zero_type = node.input_name(2).and_then(|z| tape.facts().constant(z)).map(|t| t.data_type);
    let declared = i32::try_from(node.int("output_dtype", 0)).ok().filter(|t| *t != 0);
    let (low, high) = match zero_type.or(declared).unwrap_or(data_type::UINT8) {
        data_type::UINT8 => (0.0, 255.0),
        data_type::INT8 => (-128.0, 127.0),
        other => {
            let reason = format!("quantisation to {} has no rule, only to int8 and uint8", data_type::name(other));
            return Err(tape.unsupported(node, reason));
        }
    };
    let slope = tape.node("Div", &[dy, &scale], vec![]);
    let steps = tape.node("Div", &[value, &scale], vec![]);
    let mut level = tape.node("Round", &[&steps], vec![]);
    let float = || vec![AttributeProto::int("to", data_type::FLOAT.into())];
    if let Some(zero) = node.input_name(2) {
        let zero = along_axis(tape, node, zero)?;
        let zero = tape.node("Cast", &[&zero], float());
        level = tape.node("Add", &[&level, &zero], vec![]);
    }
    let (low, high) = (tape.builder().scalar(low), tape.builder().scalar(high));
    let above = tape.node("GreaterOrEqual", &[&level, &low], vec![]);
    let below = tape.node("LessOrEqual", &[&level, &high], vec![]);
    let inside = tape.node("And", &[&above, &below], vec![]);
    let mask = tape.node("Cast", &[&inside], float());
    let gradient = tape.node("Mul", &[&slope, &mask], vec![]);
    tape.add(value, gradient);
    Ok(())
}
