//! From data-set pixels to what the model expects: stretch, cut out, order the channels, scale, normalise, order the axes.
//!
//! Stretching and cutting are linear and separable, so they are two matrix products whose matrices hold PIL's own
//! weights. That is exact, has the plainest gradient there is, and does not depend on what a runtime's `Resize` does.

use super::frame::{BatchAxis, Frame};
use super::spec::{Colour, Layout, Wrapping};
use super::{Note, Source};
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;
use crate::onnx::graph::{FLOAT, GraphBuilder, normalize_pixels};
use crate::onnx::proto::{AttributeProto, ModelProto, data_type};
use crate::resample::{Filter, matrix};

/// Nodes that were put before the image input.
pub(super) struct Before {
    /// Name of the new input.
    pub pixels: String,
    /// The same nodes as a model by themselves.
    pub model: ModelProto,
}

/// What one channel goes through.
struct Scaling {
    low: f32,
    high: f32,
    mean: Option<Vec<f32>>,
    std: Option<Vec<f32>>,
}

/// Puts the nodes before the image input; the value with the input's name is now what they give. `None` if pixels go in
/// as they are.
pub(super) fn put_before(
    builder: &mut GraphBuilder,
    frame: &Frame,
    wrapping: &Wrapping,
    image_size: usize,
    notes: &mut Vec<Note>,
) -> Result<Option<Before>, OnnxError> {
    let scaling = scaling(frame, wrapping, notes)?;
    let sampling = sampling(frame, wrapping, image_size, notes)?;
    let prefix = Prefix { frame, scaling, sampling, image_size, clip: overshoots(wrapping) };
    let opset = builder.opset();

    let mut alone = GraphBuilder::new("before");
    let axis = if frame.batch == BatchAxis::Absent { Dim::Fixed(1) } else { Dim::Symbol("n".into()) };
    let shape = [axis, Dim::Fixed(3), Dim::Fixed(image_size), Dim::Fixed(image_size)];
    let pixels = alone.input("pixels", FLOAT, &shape);
    let result = prefix.emit(&mut alone, &pixels, crate::onnx::graph::OPSET);
    if result == pixels {
        return Ok(None);
    }
    alone.rename_last_output(&frame.name);
    let taken = frame.name == pixels;
    if taken {
        // The input of the model by itself may not have the name of its output.
        alone = GraphBuilder::new("before");
        let pixels = alone.input("pixels_of_the_data_set", FLOAT, &shape);
        prefix.emit(&mut alone, &pixels, crate::onnx::graph::OPSET);
        alone.rename_last_output(&frame.name);
    }
    let elem_type = if frame.elem_type == data_type::UINT8 { FLOAT } else { frame.elem_type };
    alone.output(&frame.name, elem_type, &frame.dims);

    let before = builder.graph().node.len();
    let pixels = builder.unique("pixels");
    prefix.emit(builder, &pixels, opset);
    builder.rename_last_output(&frame.name);
    let graph = builder.graph_mut();
    // The builder appends; evaluation order wants them first.
    let added = graph.node.len() - before;
    graph.node.rotate_right(added);
    tell_normalisation(builder, frame, wrapping);
    Ok(Some(Before { pixels, model: alone.finish() }))
}

/// Only a cubic leaves `[0, 1]`; PIL cuts it off there.
fn overshoots(wrapping: &Wrapping) -> bool {
    wrapping.resize.is_some_and(|resize| resize.filter == Filter::Bicubic)
}

/// The matrices of both axes, rows of the result by pixels of the data set.
struct Sampling {
    /// `[h, image_size]`.
    down: Vec<f32>,
    /// `[image_size, w]`.
    across: Vec<f32>,
}

fn sampling(
    frame: &Frame,
    wrapping: &Wrapping,
    image_size: usize,
    notes: &mut Vec<Note>,
) -> Result<Option<Sampling>, OnnxError> {
    if let Some(resize) = &wrapping.resize {
        notes.push(Note::new("resize", resize.to_string(), Source::Given, "inside the graph"));
    }
    let stretched = wrapping.resize.map_or([image_size; 2], |resize| resize.to.0);
    if let Some(crop) = wrapping.crop {
        notes.push(Note::new("crop", crop.to_string(), Source::Given, "the centre, inside the graph"));
        if crop.0.iter().zip(stretched).any(|(cut, from)| *cut > from) {
            let [h, w] = stretched;
            return Err(OnnxError::Graph(format!(
                "crop = {crop} is larger than the picture it is cut from, {h} × {w}; lower it, or raise resize.to or the \
                 data set's image_size"
            )));
        }
    }
    let (filter, antialias) = wrapping.resize.map_or((Filter::Nearest, true), |r| (r.filter, r.antialias));
    let one = |axis: usize| -> Vec<f32> {
        let (cut, from) = (frame.sides[axis], stretched[axis]);
        let all = matrix(image_size, from, filter, antialias);
        // torchvision's CenterCrop: half of what is cut off, rounded to even.
        let first = ((from - cut) as f64 / 2.0).round_ties_even() as usize;
        all[first * image_size..(first + cut) * image_size].to_vec()
    };
    let (rows, columns) = (one(0), one(1));
    let identity =
        |m: &[f32]| m.len() == image_size * image_size && *m == matrix(image_size, image_size, Filter::Nearest, true);
    if identity(&rows) && identity(&columns) {
        return Ok(None);
    }
    let width = frame.sides[1];
    let across = (0..image_size * width).map(|i| columns[i % width * image_size + i / width]).collect();
    Ok(Some(Sampling { down: rows, across }))
}

fn scaling(frame: &Frame, wrapping: &Wrapping, notes: &mut Vec<Note>) -> Result<Scaling, OnnxError> {
    let [low, high] = match wrapping.range {
        Some(range) => {
            notes.push(Note::new("range", format!("{range:?}"), Source::Given, ""));
            range
        }
        None if frame.elem_type == data_type::UINT8 => {
            notes.push(Note::new("range", "[0, 255]", Source::Detected, "the input is uint8"));
            [0.0, 255.0]
        }
        None => {
            notes.push(Note::new("range", "[0, 1]", Source::Assumed, "a file does not say"));
            [0.0, 1.0]
        }
    };
    let mut each = |key: &'static str, given: &Option<super::PerChannel>, default: &str| match given {
        None => {
            notes.push(Note::new(key, default, Source::Assumed, "a file does not say"));
            Ok(None)
        }
        Some(values) => {
            notes.push(Note::new(key, values.to_string(), Source::Given, "in the unit of range"));
            values.spread(frame.channels).map(Some).ok_or_else(|| {
                OnnxError::Graph(format!(
                    "{key} = {values} has {} numbers, the input has {} channels; give one for each, or one for all",
                    values.0.len(),
                    frame.channels
                ))
            })
        }
    };
    let (mean, std) = (each("mean", &wrapping.mean, "0")?, each("std", &wrapping.std, "1")?);
    Ok(Scaling { low, high, mean, std })
}

struct Prefix<'a> {
    frame: &'a Frame,
    scaling: Scaling,
    sampling: Option<Sampling>,
    image_size: usize,
    clip: bool,
}

impl Prefix<'_> {
    /// Emits the nodes; returns `pixels` itself if there are none.
    fn emit(&self, b: &mut GraphBuilder, pixels: &str, opset: i64) -> String {
        let mut x = pixels.to_string();
        if let Some(sampling) = &self.sampling {
            x = self.sample(b, &x, sampling, opset);
        }
        x = self.colours(b, &x);
        let Scaling { low, high, mean, std } = &self.scaling;
        if high - low != 1.0 {
            let factor = b.scalar(high - low);
            x = b.named_node("Mul", "scaled", &[&x, &factor], vec![]);
        }
        if *low != 0.0 {
            let offset = b.scalar(*low);
            x = b.named_node("Add", "raised", &[&x, &offset], vec![]);
        }
        if mean.is_some() || std.is_some() {
            let ones = |value: f32| vec![value; self.frame.channels];
            let mean = mean.clone().unwrap_or_else(|| ones(0.0));
            let std = std.clone().unwrap_or_else(|| ones(1.0));
            x = normalize_pixels(b, &x, &mean, &std);
        }
        if self.frame.layout == Layout::Nhwc {
            x = b.named_node("Transpose", "channels_last", &[&x], vec![AttributeProto::ints("perm", &[0, 2, 3, 1])]);
        }
        if ![FLOAT, data_type::UINT8].contains(&self.frame.elem_type) {
            let to = AttributeProto::int("to", i64::from(self.frame.elem_type));
            x = b.named_node("Cast", "cast_pixels", &[&x], vec![to]);
        }
        if self.frame.batch == BatchAxis::Absent {
            let sizes: Vec<i64> = self.frame.dims.iter().filter_map(Dim::fixed).map(|n| n as i64).collect();
            let shape = b.list(&sizes);
            x = b.named_node("Reshape", "one_image", &[&x, &shape], vec![]);
        }
        if x == pixels && self.frame.elem_type == data_type::UINT8 {
            // A range of its own would have made a node; this one only separates the names.
            x = b.named_node("Identity", "pixels_as_floats", &[&x], vec![]);
        }
        x
    }

    fn sample(&self, b: &mut GraphBuilder, x: &str, sampling: &Sampling, opset: i64) -> String {
        let [h, w] = self.frame.sides;
        let down = b.constant("resample_rows", &[h, self.image_size], &sampling.down);
        let across = b.constant("resample_columns", &[self.image_size, w], &sampling.across);
        let wide = b.named_node("MatMul", "resampled_columns", &[x, &across], vec![]);
        let result = b.named_node("MatMul", "resampled", &[&down, &wide], vec![]);
        if !self.clip {
            return result;
        }
        if opset < 11 {
            let bounds = vec![AttributeProto::float("min", 0.0), AttributeProto::float("max", 1.0)];
            return b.named_node("Clip", "in_range", &[&result], bounds);
        }
        let (zero, one) = (b.scalar(0.0), b.scalar(1.0));
        b.named_node("Clip", "in_range", &[&result, &zero, &one], vec![])
    }

    /// A 1 × 1 convolution: products with 1 and sums with 0 are exact, so reordering changes no bit.
    fn colours(&self, b: &mut GraphBuilder, x: &str) -> String {
        let (rows, weights): (usize, &[f32]) = match self.frame.colour {
            Colour::Rgb => return x.to_string(),
            Colour::Bgr => (3, &[0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0]),
            Colour::Grey => (1, &[0.299, 0.587, 0.114]),
        };
        let weights = b.constant("colour_weights", &[rows, 3, 1, 1], weights);
        b.named_node("Conv", "colours", &[x, &weights], vec![])
    }
}

/// Tells in the properties what one normalised unit is in pixels of each RGB channel, so that budgets can be written in it.
fn tell_normalisation(builder: &mut GraphBuilder, frame: &Frame, wrapping: &Wrapping) {
    let [low, high] =
        wrapping.range.unwrap_or(if frame.elem_type == data_type::UINT8 { [0.0, 255.0] } else { [0.0, 1.0] });
    if wrapping.mean.is_none() && wrapping.std.is_none() && high - low == 1.0 {
        return;
    }
    let spread = |values: &Option<super::PerChannel>, default: f32| {
        let own = values.as_ref().and_then(|v| v.spread(frame.channels)).unwrap_or(vec![default; frame.channels]);
        match frame.colour {
            Colour::Rgb => own,
            Colour::Bgr => own.into_iter().rev().collect(),
            Colour::Grey => vec![own[0]; 3],
        }
    };
    let text = |values: Vec<f32>| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mean = spread(&wrapping.mean, 0.0).into_iter().map(|m| (m - low) / (high - low)).collect();
    let std = spread(&wrapping.std, 1.0).into_iter().map(|s| s / (high - low)).collect();
    builder.metadata("mdprop.mean", &text(mean));
    builder.metadata("mdprop.std", &text(std));
    builder.metadata("mdprop.input_range", "0-1");
}
