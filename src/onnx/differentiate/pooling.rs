//! Pooling: maxima, means and norms, over windows or over whole channels.

use super::convolution::transposed_attributes;
use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto};
use crate::onnx::shape::{element_count, fixed};
use crate::onnx::window::Window;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("AveragePool", average),
    ("GlobalAveragePool", global_average),
    ("GlobalLpPool", global_norm),
    ("GlobalMaxPool", global_max),
    ("LpPool", norm),
    ("MaxPool", max),
];

/// Each output's gradient goes to the one input that it came from, and adds up where windows overlap.
/// (`MaxUnpool` overwrites there, and is not the gradient.)
fn max(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    if node.int("storage_order", 0) != 0 {
        return Err(tape.unsupported(node, "storage_order = 1 has no rule"));
    }
    let positions = tape.twin_output(node, 1, "pool_positions");
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

/// The window of a pooling node.
fn window_of(tape: &Tape<'_>, node: &NodeProto) -> Result<Window, OnnxError> {
    let kernel: Option<Vec<usize>> =
        node.ints("kernel_shape").and_then(|k| k.iter().map(|v| usize::try_from(*v).ok()).collect());
    let kernel = kernel.ok_or_else(|| tape.unsupported(node, "kernel_shape is missing"))?;
    let spatial = tape.shape(node, tape.input(node, 0)?)?.get(2..).and_then(fixed);
    let spatial = spatial.ok_or_else(|| tape.unsupported(node, "the image size is not fixed"))?;
    let window = Window::of(node, &spatial, &kernel)?;
    // The gradient needs constants of these sizes.
    for (what, sizes) in [("windows", &window.output), ("kernel entries", &window.kernel)] {
        if element_count(sizes).is_none_or(|n| n > 1 << 26) {
            return Err(tape.unsupported(node, format!("{sizes:?} are more {what} than any rule allows")));
        }
    }
    Ok(window)
}

/// Adds to every input entry what the windows that see it hold: a transposed convolution of each channel by itself with
/// a kernel of ones.
fn spread(tape: &mut Tape<'_>, held: &str, window: &Window, value: &str) -> String {
    // [n, c, h, w] as [n·c, 1, h, w]: one single-channel transposed convolution.
    let split: Vec<i64> = [-1, 1].into_iter().chain(window.output.iter().map(|v| *v as i64)).collect();
    let split = tape.builder().list(&split);
    let planes = tape.node("Reshape", &[held, &split], vec![]);
    let dims: Vec<usize> = [1, 1].into_iter().chain(window.kernel.iter().copied()).collect();
    let ones = vec![1.0; window.kernel.iter().product()];
    let ones = tape.builder().constant("grad_pool_ones", &dims, &ones);
    let spread = tape.node("ConvTranspose", &[&planes, &ones], transposed_attributes(window, 1));
    tape.reshape_like(&spread, value)
}

/// Every entry of a window gets an equal share.
fn average(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let window = window_of(tape, node)?;
    let counts = window.counts(node.int("count_include_pad", 0) != 0);
    // A window that sees nothing but padding has nobody to give a share to.
    let share: Vec<f32> = counts.iter().map(|n| 1.0 / (*n).max(1) as f32).collect();
    let dims: Vec<usize> = [1, 1].into_iter().chain(window.output.iter().copied()).collect();
    let share = tape.builder().constant("grad_pool_share", &dims, &share);
    let shared = tape.node("Mul", &[dy, &share], vec![]);
    let gradient = spread(tape, &shared, &window, value);
    tape.add(value, gradient);
    Ok(())
}

/// `y = (Σ|x|ᵖ)^(1/p)`, so `dy/dx = (|x| / y)^(p−1) · sign(x)`, in two factors: what the window holds, and what is the
/// entry's own. 0 where `y` is 0: the floor keeps `y^(1−p)` finite.
fn norm_factors(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(String, String), OnnxError> {
    let (value, y, p) = (tape.input(node, 0)?, &node.output[0], node.int("p", 2));
    if p < 1 {
        return Err(tape.unsupported(node, format!("p = {p}")));
    }
    let sign = tape.node("Sign", &[value], vec![]);
    if p == 1 {
        return Ok((dy.to_string(), sign));
    }
    let power = (p - 1) as f32;
    let floor = tape.builder().scalar((f32::MIN_POSITIVE * 2.0).powf(1.0 / power));
    let floored = tape.node("Max", &[y, &floor], vec![]);
    if p == 2 {
        return Ok((tape.node("Div", &[dy, &floored], vec![]), value.to_string()));
    }
    let exponent = tape.builder().scalar(power);
    let below = tape.node("Pow", &[&floored, &exponent], vec![]);
    let held = tape.node("Div", &[dy, &below], vec![]);
    let size = tape.node("Abs", &[value], vec![]);
    let size = tape.node("Pow", &[&size, &exponent], vec![]);
    Ok((held, tape.node("Mul", &[&size, &sign], vec![])))
}

fn norm(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let window = window_of(tape, node)?;
    let (held, own) = norm_factors(tape, node, dy)?;
    let held = spread(tape, &held, &window, value);
    let gradient = tape.node("Mul", &[&held, &own], vec![]);
    tape.add(value, gradient);
    Ok(())
}

fn global_norm(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let (held, own) = norm_factors(tape, node, dy)?;
    let gradient = tape.node("Mul", &[&held, &own], vec![]);
    tape.add(value, gradient);
    Ok(())
}

/// All of it to the first of the largest entries of a channel.
fn global_max(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let [rows, column] = [[0, 0, -1], [0, 0, 1]].map(|shape| tape.builder().list(&shape));
    let flat = tape.node("Reshape", &[value, &rows], vec![]);
    let best = tape.node("ArgMax", &[&flat], vec![AttributeProto::int("axis", 2)]);
    let zeros = tape.zeros_like(&flat);
    let dy = tape.node("Reshape", &[dy, &column], vec![]);
    let gradient = tape.node("ScatterElements", &[&zeros, &best, &dy], vec![AttributeProto::int("axis", 2)]);
    let gradient = tape.reshape_like(&gradient, value);
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
