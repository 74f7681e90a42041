//! Resizing is a small constant matrix per axis; its gradient multiplies with the same matrices, turned.

use super::{Rule, Tape};
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto};
use crate::onnx::resize::{self, ResizedAxis};
use crate::onnx::shape::{show, spatial};

pub(super) const RULES: &[(&str, Rule)] = &[("Resize", resize)];

/// What a linear operator does to one axis.
pub(super) struct AxisMatrix {
    axis: usize,
    input: usize,
    /// Row-major, `[output, input]`.
    entries: Vec<f32>,
}

impl AxisMatrix {
    /// From the input entries and weights of each output entry.
    ///
    /// # Errors
    /// [`OnnxError::Node`] for a matrix of more than 2²⁴ entries.
    pub(super) fn new(
        tape: &Tape<'_>,
        node: &NodeProto,
        axis: usize,
        input: usize,
        taps: &[Vec<(usize, f64)>],
    ) -> Result<Self, OnnxError> {
        if input.saturating_mul(taps.len()) > 1 << 24 {
            let reason = format!("axis {axis} goes from {input} entries to {}; no rule for so many", taps.len());
            return Err(tape.unsupported(node, reason));
        }
        let mut entries = vec![0.0; input * taps.len()];
        for (row, taps) in taps.iter().enumerate() {
            taps.iter().for_each(|(column, weight)| entries[row * input + column] += *weight as f32);
        }
        Ok(Self { axis, input, entries })
    }

    fn turned(&self) -> Vec<f32> {
        let output = self.entries.len() / self.input;
        (0..self.entries.len()).map(|i| self.entries[i % output * self.input + i / output]).collect()
    }
}

/// The gradient of the input of an operator that applies one matrix to each of some axes. `dy` has the shape `output`.
pub(super) fn along_axes(
    tape: &mut Tape<'_>,
    node: &NodeProto,
    dy: &str,
    output: &[Dim],
    matrices: &[AxisMatrix],
) -> Result<String, OnnxError> {
    let mut shape = output.to_vec();
    let mut gradient = dy.to_string();
    for matrix in matrices {
        let (axis, size) = (matrix.axis, matrix.entries.len() / matrix.input);
        if axis + 1 == shape.len() {
            let constant = tape.builder().constant("grad_axis", &[size, matrix.input], &matrix.entries);
            gradient = tape.node("MatMul", &[&gradient, &constant], vec![]);
        } else {
            // The axes behind count as one.
            let behind = shape[axis + 1..].iter().map(Dim::fixed).product::<Option<usize>>();
            let behind = behind.ok_or_else(|| {
                tape.unsupported(node, format!("axis {axis} of {} has axes of unknown size behind it", show(&shape)))
            })?;
            let constant = tape.builder().constant("grad_axis", &[matrix.input, size], &matrix.turned());
            if axis + 2 == shape.len() {
                gradient = tape.node("MatMul", &[&constant, &gradient], vec![]);
            } else {
                let merged = [&shape[..=axis], &[Dim::Fixed(behind)]].concat();
                gradient = tape.reshape_to(node, &gradient, &merged)?;
                gradient = tape.node("MatMul", &[&constant, &gradient], vec![]);
                let apart = [&shape[..axis], &[Dim::Fixed(matrix.input)], &shape[axis + 1..]].concat();
                gradient = tape.reshape_to(node, &gradient, &apart)?;
            }
        }
        shape[axis] = Dim::Fixed(matrix.input);
    }
    Ok(gradient)
}

fn resize(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    let value = tape.input(node, 0)?;
    let (shape, output) = (tape.shape(node, value)?, tape.shape(node, &node.output[0])?);
    let request = spatial::request(&tape.facts().inputs(node));
    let axes = resize::resized_axes(node, shape, &request)?;
    let axes = axes.ok_or_else(|| tape.unsupported(node, "neither scales nor sizes are constant"))?;
    let gradient = match repeats(&axes, shape.len()) {
        Some([h, w]) => {
            // Every entry was copied h·w times, and its gradient is the sum over the copies.
            let sizes = AttributeProto::ints("kernel_shape", &[h, w]);
            let mean = tape.node("AveragePool", &[dy], vec![sizes, AttributeProto::ints("strides", &[h, w])]);
            tape.scale(&mean, (h * w) as f32)
        }
        None => {
            let matrices = axes.iter().map(|line| AxisMatrix::new(tape, node, line.axis, line.input, &line.taps));
            let matrices = matrices.collect::<Result<Vec<_>, _>>()?;
            along_axes(tape, node, dy, output, &matrices)?
        }
    };
    tape.add(value, gradient);
    Ok(())
}

/// How often each row and each column of `[n, c, h, w]` was repeated, if that is all that happened.
fn repeats(axes: &[ResizedAxis], rank: usize) -> Option<[i64; 2]> {
    let mut result = [1, 1];
    for line in axes {
        let times = line.taps.len() / line.input;
        let plain = |(o, taps): (usize, &Vec<(usize, f64)>)| *taps == [(o / times, 1.0)];
        if rank != 4 || line.axis < 2 || times * line.input != line.taps.len() {
            return None;
        }
        line.taps.iter().enumerate().all(plain).then_some(())?;
        result[line.axis - 2] = times as i64;
    }
    (!axes.is_empty()).then_some(result)
}
