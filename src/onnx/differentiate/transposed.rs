//! Transposed convolution: the gradient is the convolution that it turns round, with the same weights.

use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto};
use crate::onnx::shape::fixed;
use crate::onnx::window::Window;

pub(super) const RULES: &[(&str, Rule)] = &[("ConvTranspose", conv_transpose)];

fn conv_transpose(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let (value, weight) = (tape.input(node, 0)?, tape.input(node, 1)?);
    if tape.wants(weight) || node.input_name(2).is_some_and(|b| tape.wants(b)) {
        return Err(tape.unsupported(node, "weights that depend on the image have no rule"));
    }
    let spatial = tape.shape(node, value)?.get(2..).and_then(fixed);
    let spatial = spatial.ok_or_else(|| tape.unsupported(node, "the image size is not fixed"))?;
    let dims = fixed(tape.shape(node, weight)?).filter(|d| d.len() == spatial.len() + 2);
    let dims = dims.ok_or_else(|| tape.unsupported(node, "the weights have no fixed shape"))?;
    let window = Window::transposed(node, &spatial, &dims[2..])?;
    let dy = without_surplus(tape, dy, &window);
    let attributes = vec![
        ints("kernel_shape", window.kernel.iter()),
        ints("strides", window.strides.iter()),
        ints("dilations", window.dilations.iter()),
        ints("pads", window.pads_begin.iter().chain(&window.pads_end)),
        AttributeProto::int("group", node.int("group", 1)),
    ];
    let gradient = tape.node("Conv", &[&dy, weight], attributes);
    tape.add(value, gradient);
    Ok(())
}

fn ints<'a>(name: &str, values: impl Iterator<Item = &'a usize>) -> AttributeProto {
    let values: Vec<i64> = values.map(|v| *v as i64).collect();
    AttributeProto::ints(name, &values)
}

/// Cuts off rows behind the last one that a kernel touched, if there are so many that a convolution would find room for
/// one more window there.
fn without_surplus(tape: &mut Tape<'_>, dy: &str, window: &Window) -> String {
    let (mut ends, mut axes) = (vec![], vec![]);
    for axis in 0..window.kernel.len() {
        let touched = window.reach(axis).saturating_sub(window.pads_begin[axis]);
        if window.input[axis] >= touched + window.strides[axis] {
            ends.push(touched as i64);
            axes.push(axis as i64 + 2);
        }
    }
    if axes.is_empty() {
        return dy.to_string();
    }
    let starts = vec![0; axes.len()];
    let [starts, ends, axes] = [starts, ends, axes].map(|list| tape.builder().list(&list));
    tape.node("Slice", &[dy, &starts, &ends, &axes], vec![])
}
