//! Operators that hand their input on.

use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{NodeProto, data_type};

pub(super) const RULES: &[(&str, Rule)] = &[("Cast", cast), ("Dropout", dropout), ("Identity", identity)];

fn identity(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    tape.add(value, dy.to_string());
    Ok(())
}

/// Whether the node rounds to integers or truth values, which has no gradient.
pub(super) fn casts_to_integers(node: &NodeProto) -> bool {
    node.op_type == "Cast" && !data_type::is_float(i32::try_from(node.int("to", 0)).unwrap_or(0))
}

/// Between float types; the gradient takes the type of the value.
fn cast(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    if tape.facts().elem_type(value).map(i64::from) == Some(node.int("to", 0)) {
        return identity(tape, node, dy);
    }
    let gradient = tape.op("CastLike", &[dy, value]);
    tape.add(value, gradient);
    Ok(())
}

/// At inference it does nothing.
fn dropout(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    if let Some(training) = node.input_name(2)
        && tape.facts().constant(training).is_none_or(|t| t.to_i64() != Some(vec![0]))
    {
        return Err(tape.unsupported(node, "training_mode is not constantly false; export the model for inference"));
    }
    identity(tape, node, dy)
}
