//! Operators that move values without changing them.

use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Concat", concat),
    ("Flatten", reshape),
    ("Reshape", reshape),
    ("Squeeze", reshape),
    ("Transpose", transpose),
    ("Unsqueeze", reshape),
];

fn reshape(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let gradient = tape.reshape_like(dy, value);
    tape.add(value, gradient);
    Ok(())
}

fn transpose(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let attributes = match node.ints("perm") {
        None => vec![],
        Some(order) => {
            let mut inverse = vec![0; order.len()];
            for (to, from) in order.iter().enumerate() {
                let slot = usize::try_from(*from).ok().and_then(|f| inverse.get_mut(f));
                *slot.ok_or_else(|| tape.unsupported(node, format!("perm = {order:?} is no permutation")))? = to as i64;
            }
            vec![AttributeProto::ints("perm", &inverse)]
        }
    };
    let gradient = tape.node("Transpose", &[dy], attributes);
    tape.add(value, gradient);
    Ok(())
}

fn concat(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let axis = node.int("axis", 0);
    let mut start = 0;
    for (i, value) in node.input.iter().enumerate() {
        let shape = tape.shape(node, value)?;
        let position = usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).ok();
        let size = position.and_then(|p| shape.get(p)).and_then(|d| d.fixed());
        let size =
            size.ok_or_else(|| tape.unsupported(node, format!("the size of input {i} on axis {axis} is not fixed")))?;
        let end = start + size as i64;
        if tape.wants(value) {
            let [from, to, axes] = [start, end, axis].map(|v| tape.builder().list(&[v]));
            let gradient = tape.node("Slice", &[dy, &from, &to, &axes], vec![]);
            tape.add(value, gradient);
        }
        start = end;
    }
    Ok(())
}
