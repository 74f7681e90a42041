//! Max and average pooling.

use super::convolution::transposed_attributes;
use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto};
use crate::onnx::shape::fixed;
use crate::onnx::window::Window;

pub(super) const RULES: &[(&str, Rule)] =
    &[("AveragePool", average), ("GlobalAveragePool", global_average), ("MaxPool", max)];

/// Each output's gradient goes to the one input that it came from, and adds up where windows overlap.
/// (`MaxUnpool` overwrites there, and is not the gradient.) The forward node gets its second output, the positions.
fn max(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    if node.int("storage_order", 0) != 0 {
        return Err(tape.unsupported(node, "storage_order = 1 has no rule"));
    }
    let positions = tape.extra_output(node, 1, "pool_positions");
    // Positions count through the whole tensor, so one flat scatter serves all images and channels.
    let all = tape.builder().list(&[-1]);
    let flat_positions = tape.node("Reshape", &[&positions, &all], vec![]);
    let flat_gradient = tape.node("Reshape", &[dy, &all], vec![]);
    let shape = tape.node("Shape", &[value], vec![]);
    let size = tape.node("Size", &[value], vec![]);
    let size = tape.node("Reshape", &[&size, &all], vec![]);
    let zeros = tape.node("ConstantOfShape", &[&size], vec![]);
    let attributes = vec![AttributeProto::int("axis", 0), AttributeProto::string("reduction", "add")];
    let sums = tape.node("ScatterElements", &[&zeros, &flat_positions, &flat_gradient], attributes);
    let gradient = tape.node("Reshape", &[&sums, &shape], vec![]);
    tape.add(value, gradient);
    Ok(())
}

/// A transposed convolution of each channel by itself with a kernel of ones, after division by the number of entries
/// that each window averaged.
fn average(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let kernel: Option<Vec<usize>> =
        node.ints("kernel_shape").and_then(|k| k.iter().map(|v| usize::try_from(*v).ok()).collect());
    let kernel = kernel.ok_or_else(|| tape.unsupported(node, "kernel_shape is missing"))?;
    let spatial = tape.shape(node, value)?.get(2..).and_then(fixed);
    let spatial = spatial.ok_or_else(|| tape.unsupported(node, "the image size is not fixed"))?;
    let window = Window::of(node, &spatial, &kernel)?;
    let counts = window.counts(node.int("count_include_pad", 0) != 0);

    let share: Vec<f32> = counts.iter().map(|n| 1.0 / *n as f32).collect();
    let dims: Vec<usize> = [1, 1].into_iter().chain(window.output.iter().copied()).collect();
    let share = tape.builder().constant("grad_pool_share", &dims, &share);
    let shared = tape.node("Mul", &[dy, &share], vec![]);
    // [n, c, h, w] as [n·c, 1, h, w]: one single-channel transposed convolution.
    let split: Vec<i64> = [-1, 1].into_iter().chain(window.output.iter().map(|v| *v as i64)).collect();
    let split = tape.builder().list(&split);
    let planes = tape.node("Reshape", &[&shared, &split], vec![]);
    let dims: Vec<usize> = [1, 1].into_iter().chain(kernel.iter().copied()).collect();
    let ones = vec![1.0; kernel.iter().product()];
    let ones = tape.builder().constant("grad_pool_ones", &dims, &ones);
    let spread = tape.node("ConvTranspose", &[&planes, &ones], transposed_attributes(&window, 1));
    let gradient = tape.reshape_like(&spread, value);
    tape.add(value, gradient);
    Ok(())
}

fn global_average(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let spatial = tape.shape(node, value)?.get(2..).and_then(fixed);
    let spatial = spatial.ok_or_else(|| tape.unsupported(node, "the image size is not fixed"))?;
    let share = tape.scale(dy, 1.0 / spatial.iter().product::<usize>() as f32);
    let gradient = tape.expand_like(&share, value);
    tape.add(value, gradient);
    Ok(())
}
