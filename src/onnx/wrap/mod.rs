//! Somebody else's model made to take what attacks give and to give what they measure: RGB pixels in `[0, 1]`,
//! `[n, 3, s, s]`, go in, and embeddings `[n, d]` come out. So budgets are in pixels whoever exported the file.
//!
//! Nodes are added before the image input and behind the embedding; the nodes of the file stay as they are. What the
//! card leaves open is detected in the file or takes a default, and a [`Note`] says which.

mod border;
mod frame;
mod inner;
mod output;
mod pixels;
mod spec;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

pub use border::float32_border;
pub use frame::{BatchAxis, natural_size};
pub use inner::expose;
pub use spec::{Colour, Extent, Layout, PerChannel, Resize, Wrapping};

use super::access::Dim;
use super::file::OnnxError;
use super::graph::{FLOAT, GraphBuilder};
use super::proto::{GraphProto, ModelProto, ValueInfoProto};
use super::prune::keep_outputs;
use super::shape::{Facts, show};
use super::validate;
use frame::Frame;

/// Where the answer to a question of the card came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The card, or the command line.
    Given,
    /// The file leaves no other choice.
    File,
    /// The file makes it likely.
    Detected,
    /// Nothing says so: the default.
    Assumed,
}

/// One thing that is taken for granted about a model, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The card's key, or `batch`.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
    /// What in the file says so; empty if there is nothing to say.
    pub why: String,
}

impl Note {
    /// A note.
    pub fn new(key: &'static str, value: impl Into<String>, source: Source, why: impl Into<String>) -> Self {
        Self { key, value: value.into(), source, why: why.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            Source::Given => "given",
            Source::File => "file",
            Source::Detected => "detected",
            Source::Assumed => "assumed",
        };
        write!(f, "{} = {} ({source}", self.key, self.value)?;
        if self.why.is_empty() { f.write_str(")") } else { write!(f, ": {})", self.why) }
    }
}

/// Key of the notes in the model's properties, one a line.
pub const NOTES: &str = "mdprop.adapted";

/// A model that takes `[n, 3, s, s]` pixels and gives `[n, d]`.
#[derive(Debug, Clone)]
pub struct Adapted {
    /// The model. Its batch axis is as in the file: see [`Adapted::with_batch`].
    pub model: ModelProto,
    /// What was given, found and assumed, in the card's order.
    pub notes: Vec<Note>,
    /// What the file says about the batch axis.
    pub batch: BatchAxis,
    /// Name of the pixel input.
    pub pixels: String,
    /// Name of the file's own image input, now a value of the graph (or still `pixels` if nothing stands before it).
    pub file_input: String,
    /// Shape of the file's own image input with sizes fixed; the batch axis, if there is one, as in the file.
    pub file_input_dims: Vec<Dim>,
    /// Element type of the file's own image input.
    pub file_input_type: i32,
    /// Name of the file's own output, or of the value inside it, that is the embedding.
    pub file_output: String,
    /// Other values inside the file with one vector for each image, as `` `name` shape ``: the last few.
    pub vectors: Vec<String>,
    /// Name of the embedding, behind the added nodes.
    pub embedding: String,
    /// Pixels to the file's own image input as a model by itself; absent if pixels go in as they are.
    pub before: Option<ModelProto>,
}

impl Adapted {
    /// The model with another batch axis; only [`BatchAxis::Free`] promises that it still runs.
    #[must_use]
    pub fn with_batch(&self, batch: Dim) -> ModelProto {
        let mut model = self.model.clone();
        if let Some(graph) = &mut model.graph {
            for value in graph.input.iter_mut().filter(|v| v.name == self.pixels).chain(&mut graph.output) {
                if let (Some(mut dims), Some(elem_type)) = (value.dims(), value.elem_type())
                    && let Some(first) = dims.first_mut()
                {
                    first.clone_from(&batch);
                    *value = ValueInfoProto::tensor(&value.name, elem_type, &dims);
                }
            }
        }
        model
    }

    /// Writes the notes into the model's properties.
    pub fn store_notes(model: &mut ModelProto, notes: &[Note]) {
        let text: Vec<String> = notes.iter().map(ToString::to_string).collect();
        let mut builder = GraphBuilder::extend(std::mem::take(model));
        builder.metadata(NOTES, &text.join("\n"));
        *model = builder.finish();
    }
}

/// Puts everything that a card says between square `image_size` pixels and the model's embedding into its graph.
///
/// # Errors
/// [`OnnxError::Graph`]: the file is no image encoder or the card does not fit it, with what was found, what is wanted
/// and which key helps.
pub fn adapt(model: ModelProto, wrapping: &Wrapping, image_size: usize) -> Result<Adapted, OnnxError> {
    let mut notes = Vec::new();
    let mut model = model;
    let inner = match &wrapping.output {
        Some(value) => expose(&mut model, value)?,
        None => false,
    };
    let model = float32_border(model);
    // Before a runtime is asked to make a value that no machine holds.
    let facts = Facts::infer(graph_of(&model)?)?;
    validate::value_sizes(graph_of(&model)?, |value| facts.shape(value))?;
    let frame = Frame::of(graph_of(&model)?, wrapping, image_size, &mut notes)?;
    let mut builder = GraphBuilder::extend(model);
    let opset = builder.opset();
    // Declared inner shapes may carry another batch or image size.
    builder.graph_mut().value_info.clear();
    let before = pixels::put_before(&mut builder, &frame, wrapping, image_size, &mut notes)?;
    let output = output::choose(builder.graph(), wrapping, &frame, &mut notes)?;
    let embedding = output::put_behind(&mut builder, &output, wrapping, opset, &mut notes);
    let batch = frame.batch.clone();
    let graph = builder.graph_mut();
    let axis = match batch {
        BatchAxis::Free(ref name) => Dim::Symbol(name.clone()),
        BatchAxis::Fixed(n) => Dim::Fixed(n),
        BatchAxis::Absent => Dim::Fixed(1),
    };
    let pixel_dims = [axis.clone(), Dim::Fixed(3), Dim::Fixed(image_size), Dim::Fixed(image_size)];
    let pixels = before.as_ref().map_or_else(|| frame.name.clone(), |before| before.pixels.clone());
    for value in graph.input.iter_mut().filter(|v| v.name == frame.name) {
        *value = ValueInfoProto::tensor(&pixels, FLOAT, &pixel_dims);
    }
    let d = output.entries.map_or_else(|| Dim::Symbol("d".into()), Dim::Fixed);
    graph.output = vec![ValueInfoProto::tensor(&embedding, FLOAT, &[axis, d])];
    notes.push(batch_note(&batch));
    let mut model = builder.finish();
    if inner {
        // What comes behind it in the file is of no use.
        keep_outputs(&mut model, &[&embedding]);
        if graph_of(&model)?.input.iter().all(|value| value.name != pixels) {
            let reason = format!("output = \"{}\" does not depend on the image", output.name);
            return Err(OnnxError::Graph(format!("not an image encoder: {reason}")));
        }
    }
    Ok(Adapted {
        model,
        notes,
        batch,
        pixels,
        file_input: frame.name,
        file_input_dims: frame.dims,
        file_input_type: frame.elem_type,
        file_output: output.name,
        vectors: output.vectors,
        embedding,
        before: before.map(|before| before.model),
    })
}

fn batch_note(batch: &BatchAxis) -> Note {
    match batch {
        BatchAxis::Free(name) => Note::new("batch", "any", Source::File, format!("the first axis is `{name}`")),
        BatchAxis::Fixed(n) => Note::new("batch", n.to_string(), Source::File, "the first axis is fixed"),
        BatchAxis::Absent => Note::new("batch", "1", Source::File, "the input has no batch axis"),
    }
}

fn graph_of(model: &ModelProto) -> Result<&GraphProto, OnnxError> {
    model.graph.as_ref().ok_or_else(|| OnnxError::Graph("not an image encoder: no graph".into()))
}

/// Values with their types and shapes, for messages: `` `x` float32 [n, 3, 8, 8] ``.
pub fn list_values<'a>(values: impl IntoIterator<Item = &'a ValueInfoProto>) -> String {
    let text = |value: &ValueInfoProto| {
        let kind = value.elem_type().map_or("no tensor".into(), super::proto::data_type::name);
        let shape = value.dims().map_or("of unknown shape".into(), |dims| show(&dims));
        format!("`{}` {kind} {shape}", value.name)
    };
    values.into_iter().map(text).collect::<Vec<_>>().join(", ")
}
