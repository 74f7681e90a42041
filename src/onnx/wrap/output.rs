//! The output of a foreign file that is the embedding, brought to `[n, d]`.

use super::frame::{BatchAxis, Frame};
use super::inner::vectors;
use super::spec::Wrapping;
use super::{Note, Source, list_values};
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;
use crate::onnx::graph::{FLOAT, GraphBuilder};
use crate::onnx::proto::{AttributeProto, GraphProto, ValueInfoProto, data_type};
use crate::onnx::shape::{Facts, show};

/// The chosen output.
pub(super) struct Output {
    pub name: String,
    elem_type: i32,
    /// What brings it to two axes.
    shaping: Shaping,
    /// Entries of one embedding, if they can be told.
    pub entries: Option<usize>,
    /// Other values inside that could be one.
    pub vectors: Vec<String>,
}

enum Shaping {
    /// `[n, d]` already, or nothing is known.
    None,
    /// Axes of size 1 behind or between.
    Flatten,
    /// The batch axis is missing, or goes missing when the batch is one image; the embedding has this many entries.
    Rows(i64),
}

/// Chooses the output of a graph whose pixels are already in place.
pub(super) fn choose(
    graph: &GraphProto,
    wrapping: &Wrapping,
    frame: &Frame,
    notes: &mut Vec<Note>,
) -> Result<Output, OnnxError> {
    let refuse = |reason: String| Err(OnnxError::Graph(format!("not an image encoder: {reason}")));
    // Of an output, the shape that follows from the image is better than the declared one; what is wrong inside is told
    // when the graph is differentiated or run.
    let facts = facts_with(graph, frame);
    let shape = |value: &ValueInfoProto| {
        let inferred = facts.as_ref().and_then(|facts| facts.shape(&value.name)).map(<[Dim]>::to_vec);
        let declared = value.dims();
        match (inferred, declared) {
            // A number that only the declaration knows counts; the batch axis may be declared for another size.
            (Some(mut dims), Some(declared)) if dims.len() == declared.len() => {
                for (own, told) in dims.iter_mut().zip(declared).skip(1) {
                    if own.fixed().is_none() && told.fixed().is_some() {
                        *own = told;
                    }
                }
                Some(dims)
            }
            (Some(dims), _) => Some(dims),
            (None, declared) => declared,
        }
    };
    let is_float = |value: &ValueInfoProto| {
        matches!(value.elem_type(), Some(data_type::FLOAT | data_type::FLOAT16 | data_type::DOUBLE))
    };
    let all = || {
        let shown = graph.output.iter().map(|v| match shape(v) {
            Some(dims) => ValueInfoProto::tensor(&v.name, v.elem_type().unwrap_or_default(), &dims),
            None => v.clone(),
        });
        list_values(&shown.collect::<Vec<_>>())
    };
    let others = |but: &str| facts.as_ref().map_or_else(Vec::new, |facts| vectors(graph, facts, &frame.name, but));
    let inside = |but: &str, words: &str| match &others(but)[..] {
        [] => String::new(),
        list => format!("{words} {}", list.join(", ")),
    };
    let (value, source, why) = match (&wrapping.output, &graph.output[..]) {
        (Some(wanted), outputs) => match outputs.iter().find(|v| v.name == *wanted) {
            Some(value) => (value, Source::Given, String::new()),
            None => {
                let inside = inside("", "; nor a value inside it, such as");
                return refuse(format!("output = \"{wanted}\" is none of its outputs: {}{inside}", all()));
            }
        },
        (None, [only]) => (only, Source::File, "the only output".into()),
        (None, outputs) => {
            let flat = |v: &&ValueInfoProto| is_float(v) && shape(v).is_some_and(|dims| dims.len() == 2);
            let candidates: Vec<&ValueInfoProto> = outputs.iter().filter(flat).collect();
            match candidates[..] {
                [value] => (value, Source::Detected, format!("the only float one of two axes among {}", all())),
                _ => {
                    let inside = inside("", ", or a value inside it, such as");
                    let count = outputs.len();
                    return refuse(format!("{count} outputs ({}); say output = \"...\" in the card{inside}", all()));
                }
            }
        }
    };
    if !is_float(value) {
        return refuse(format!("output {}, wanted float32", list_values([value])));
    }
    notes.push(Note::new("output", format!("\"{}\"", value.name), source, why));
    let inside = || inside(&value.name, ", a value inside it, such as");
    let (shaping, entries) = shaping(graph, value, (shape(value), inside), frame, notes)?;
    let elem_type = value.elem_type().unwrap_or(FLOAT);
    Ok(Output { name: value.name.clone(), elem_type, shaping, entries, vectors: others(&value.name) })
}

/// Shapes of all values once the sizes of the image are fixed.
fn facts_with(graph: &GraphProto, frame: &Frame) -> Option<Facts> {
    let mut graph = graph.clone();
    let made = graph.node.iter().any(|node| node.output.contains(&frame.name));
    graph.input.retain(|v| v.name != frame.name);
    if made {
        // The nodes before the image are known to give these sizes.
        graph.node.retain(|node| !node.output.contains(&frame.name));
    }
    graph.input.push(ValueInfoProto::tensor(&frame.name, frame.elem_type, &frame.dims));
    Facts::infer(&graph).ok()
}

fn squeezes_all(graph: &GraphProto, value: &str) -> bool {
    let maker = graph.node.iter().find(|node| node.output.iter().any(|output| output == value));
    maker.is_some_and(|node| {
        node.op_type == "Squeeze" && node.input_name(1).is_none() && node.attribute("axes").is_none()
    })
}

fn shaping(
    graph: &GraphProto,
    value: &ValueInfoProto,
    (shape, inside): (Option<Vec<Dim>>, impl Fn() -> String),
    frame: &Frame,
    notes: &mut Vec<Note>,
) -> Result<(Shaping, Option<usize>), OnnxError> {
    let Some(dims) = shape else { return Ok((Shaping::None, None)) };
    match &dims[..] {
        // `squeeze()` without axes takes the batch axis away as well when the batch is one image.
        [_, Dim::Fixed(d)] if squeezes_all(graph, &value.name) => Ok((Shaping::Rows(*d as i64), Some(*d))),
        [_, d] => Ok((Shaping::None, d.fixed())),
        [Dim::Fixed(d)] if matches!(frame.batch, BatchAxis::Fixed(1) | BatchAxis::Absent) => {
            notes.push(Note::new("shape", show(&dims), Source::File, "the embedding of one image"));
            Ok((Shaping::Rows(*d as i64), Some(*d)))
        }
        [_, rest @ ..] if rest.len() > 1 && rest.iter().filter(|d| **d != Dim::Fixed(1)).count() <= 1 => {
            let entries = rest.iter().find(|d| **d != Dim::Fixed(1)).map_or(Some(1), Dim::fixed);
            notes.push(Note::new("shape", show(&dims), Source::File, "flattened to [n, d]"));
            Ok((Shaping::Flatten, entries))
        }
        _ => Err(OnnxError::Graph(format!(
            "not an image encoder: output `{}` has shape {}, wanted one embedding for each image, [n, d]; choose another \
             output{}, or export the model with its pooling",
            value.name,
            show(&dims),
            inside()
        ))),
    }
}

/// Adds what brings the output to `[n, d]` float32, normalised if asked; returns the embedding's name.
pub(super) fn put_behind(
    b: &mut GraphBuilder,
    output: &Output,
    wrapping: &Wrapping,
    opset: i64,
    notes: &mut Vec<Note>,
) -> String {
    let mut x = output.name.clone();
    if output.elem_type != FLOAT {
        let to = AttributeProto::int("to", i64::from(FLOAT));
        x = b.named_node("Cast", "embedding_float32", &[&x], vec![to]);
    }
    match output.shaping {
        Shaping::None => {}
        Shaping::Flatten => {
            x = b.named_node("Flatten", "embedding_flat", &[&x], vec![AttributeProto::int("axis", 1)]);
        }
        Shaping::Rows(entries) => {
            let shape = b.list(&[-1, entries]);
            x = b.named_node("Reshape", "embedding_row", &[&x, &shape], vec![]);
        }
    }
    let source = if wrapping.normalize { Source::Given } else { Source::Assumed };
    notes.push(Note::new("normalize", wrapping.normalize.to_string(), source, ""));
    if wrapping.normalize { unit_length(b, &x, opset) } else { x }
}

/// As [`crate::onnx::graph::l2_normalize`], in the operator set of the file.
fn unit_length(b: &mut GraphBuilder, x: &str, opset: i64) -> String {
    if opset >= 18 {
        return crate::onnx::graph::l2_normalize(b, x);
    }
    let attributes = vec![AttributeProto::ints("axes", &[1]), AttributeProto::int("keepdims", 1)];
    let norm = b.named_node("ReduceL2", "norm", &[x], attributes);
    let norm = if opset < 11 {
        b.named_node("Clip", "norm_floored", &[&norm], vec![AttributeProto::float("min", 1e-12)])
    } else {
        let floor = b.scalar(1e-12);
        b.named_node("Clip", "norm_floored", &[&norm, &floor], vec![])
    };
    b.named_node("Div", "embedding", &[x, &norm], vec![])
}
