//! Operators that move values without changing them.

use super::{Rule, Tape};
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Concat", concat),
    ("CumSum", cumulative_sum),
    ("DepthToSpace", depth_to_space),
    ("Expand", expand),
    ("Flatten", reshape),
    ("Reshape", reshape),
    ("SpaceToDepth", space_to_depth),
    ("Split", split),
    ("Squeeze", reshape),
    ("Tile", tile),
    ("Transpose", transpose),
    ("Trilu", trilu),
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

/// The pieces' gradients put together again; a piece that nothing reads has gradient 0.
fn split(tape: &mut Tape<'_>, node: &NodeProto, _: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let given = tape.output_gradients().to_vec();
    let mut pieces = vec![];
    for (output, gradient) in node.output.iter().zip(given) {
        pieces.push(match gradient {
            Some(gradient) => gradient,
            None if output.is_empty() => return Err(tape.unsupported(node, "an output has no name")),
            None => tape.zeros_like(output),
        });
    }
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let gradient = tape.node("Concat", &pieces, vec![AttributeProto::int("axis", node.int("axis", 0))]);
    tape.add(value, gradient);
    Ok(())
}

fn expand(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let gradient = tape.unbroadcast(node, dy, value)?;
    tape.add(value, gradient);
    Ok(())
}

/// Copies add up.
fn tile(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let shape = tape.shape(node, value)?;
    let repeats = tape.facts().inputs(node).integers(1);
    let repeats = repeats.ok_or_else(|| tape.unsupported(node, "the repeats are not constant"))?;
    let (mut split, mut copies) = (vec![], vec![]);
    for (size, times) in shape.iter().zip(&repeats) {
        if *times != 1 {
            copies.push(split.len() as i64);
            split.push(Dim::Fixed(usize::try_from(*times).unwrap_or(0)));
        }
        split.push(size.clone());
    }
    let mut gradient = dy.to_string();
    if !copies.is_empty() {
        let apart = tape.reshape_to(node, dy, &split)?;
        let axes = tape.builder().list(&copies);
        gradient = tape.node("ReduceSum", &[&apart, &axes], vec![AttributeProto::int("keepdims", 0)]);
    }
    tape.add(value, gradient);
    Ok(())
}

fn trilu(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let inputs: Vec<&str> = [dy].into_iter().chain(node.input_name(1)).collect();
    let gradient = tape.node("Trilu", &inputs, vec![AttributeProto::int("upper", node.int("upper", 1))]);
    tape.add(value, gradient);
    Ok(())
}

/// The sum from the other end.
fn cumulative_sum(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (value, axis) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let attributes = vec![
        AttributeProto::int("exclusive", node.int("exclusive", 0)),
        AttributeProto::int("reverse", i64::from(node.int("reverse", 0) == 0)),
    ];
    let gradient = tape.node("CumSum", &[dy, axis], attributes);
    tape.add(value, gradient);
    Ok(())
}

fn space_to_depth(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let attributes = vec![AttributeProto::int("blocksize", node.int("blocksize", 1))];
    let gradient = tape.node("DepthToSpace", &[dy], attributes);
    tape.add(value, gradient);
    Ok(())
}

/// `SpaceToDepth` undoes the order DCR only; for CRD the axes are moved one by one.
fn depth_to_space(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let block = node.int("blocksize", 1);
    let gradient = if node.string("mode", "DCR") == "DCR" {
        tape.node("SpaceToDepth", &[dy], vec![AttributeProto::int("blocksize", block)])
    } else {
        let [n, c, h, w] = tape.shape(node, value)? else { return Err(tape.unsupported(node, "wanted [n, c, h, w]")) };
        let block = Dim::Fixed(usize::try_from(block).unwrap_or(0).max(1));
        let channels = c.fixed().zip(block.fixed()).map(|(c, b)| Dim::Fixed(c / (b * b)));
        let channels = channels.ok_or_else(|| tape.unsupported(node, "the number of channels is not fixed"))?;
        let apart = [n.clone(), channels, h.clone(), block.clone(), w.clone(), block];
        let apart = tape.reshape_to(node, dy, &apart)?;
        let order = vec![AttributeProto::ints("perm", &[0, 1, 3, 5, 2, 4])];
        let moved = tape.node("Transpose", &[&apart], order);
        tape.reshape_like(&moved, value)
    };
    tape.add(value, gradient);
    Ok(())
}
