//! Whether a foreign file can take several images at once: tried, not believed.
//!
//! Exporters write `n` for a batch axis whose graph holds a constant 1, and 1 for graphs that could take any number. A
//! model may also mix the images of a batch. So a few pictures are embedded together and one by one; only if the results
//! are the same but for rounding is the model run in batches. Otherwise images go through one by one.

use super::Runtime;
use super::probe::{Probe, Rewriting, tell};
use super::provider::Provider;
use crate::encoder::EncoderError;
use crate::onnx::Dim;
use crate::onnx::proto::ModelProto;
use crate::onnx::wrap::{Adapted, BatchAxis, Note, Source};
use crate::rng;

/// Pictures tried together: a number that constants of a graph seldom divide.
const TOGETHER: usize = 3;
/// Largest difference, relative to the largest entry, that rounding explains.
const ROUNDING: f64 = 1e-4;

/// How a model is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batching {
    /// Any number of images at once.
    Free,
    /// Exactly so many, the last batch padded.
    Fixed(usize),
    /// One by one.
    Looped,
}

/// A model whose batch axis says how it is run.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The model: its batch axis is a symbol, a number, or 1.
    pub model: ModelProto,
    /// How it is run.
    pub batching: Batching,
    /// The same in words, in place of what the file alone said.
    pub note: Note,
}

/// Decides how a model is run.
///
/// # Errors
/// [`EncoderError::Runtime`] if the runtime refuses the model for a single image too, or for the fixed batch of the file.
pub fn settle(runtime: &Runtime, adapted: &Adapted, name: &str) -> Result<Settled, EncoderError> {
    let size = pixel_size(adapted);
    if let BatchAxis::Fixed(n @ 2..) = adapted.batch {
        embed(runtime, adapted, name, n, &pictures(n, size), size)?;
        let note = Note::new("batch", n.to_string(), Source::File, "fixed in the file; the last batch is padded");
        return Ok(Settled { model: adapted.model.clone(), batching: Batching::Fixed(n), note });
    }
    let images = pictures(TOGETHER, size);
    let stride = images.len() / TOGETHER;
    let mut singly = Vec::new();
    for image in images.chunks(stride) {
        singly.push(embed(runtime, adapted, name, 1, image, size)?);
    }
    if let Some(bad) = singly.iter().position(|row| row.iter().any(|v| !v.is_finite())) {
        return Err(EncoderError::NotFinite { name: name.into(), what: "embedding", sample: bad });
    }
    let looped = |why: String| Settled {
        model: adapted.with_batch(Dim::Fixed(1)),
        batching: Batching::Looped,
        note: Note::new("batch", "1, looped", Source::Detected, why),
    };
    if adapted.batch == BatchAxis::Absent {
        return Ok(looped("the input has no batch axis".into()));
    }
    let declared = match &adapted.batch {
        BatchAxis::Free(axis) => format!("the file says `{axis}`"),
        _ => "the file says 1".into(),
    };
    Ok(match embed(runtime, adapted, name, TOGETHER, &images, size) {
        Err(error) => looped(format!("{declared}, but {TOGETHER} images at once fail: {}", first_line(&error))),
        Ok(together) => match difference(&together, &singly.concat()) {
            Some(difference) if difference <= ROUNDING => Settled {
                model: adapted.with_batch(Dim::Symbol("n".into())),
                batching: Batching::Free,
                note: Note::new(
                    "batch",
                    "any",
                    Source::Detected,
                    format!("{declared}; {TOGETHER} images together and one by one differ by {}", tell(difference)),
                ),
            },
            Some(difference) => looped(format!(
                "{declared}, but images of one batch influence each other: they differ by {}",
                tell(difference)
            )),
            None => looped(format!("{declared}, but {TOGETHER} images give {} numbers", together.len())),
        },
    })
}

/// The runtime's words without the file's name, cut where they get long.
fn first_line(error: &EncoderError) -> String {
    let text = match error {
        EncoderError::Runtime { reason, .. } => reason.clone(),
        other => other.to_string(),
    };
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(120).collect();
    if cut.len() < line.len() { cut + " ..." } else { cut }
}

/// Largest difference relative to the largest entry; `None` if the counts differ or an entry is not finite.
fn difference(a: &[f32], b: &[f32]) -> Option<f64> {
    let largest = b.iter().fold(0f32, |m, v| m.max(v.abs()));
    let finite = a.iter().chain(b).all(|v| v.is_finite());
    let apart = a.iter().zip(b).fold(0f32, |m, (x, y)| m.max((x - y).abs()));
    (a.len() == b.len() && finite).then(|| f64::from(apart / largest.max(f32::MIN_POSITIVE)))
}

fn pixel_size(adapted: &Adapted) -> usize {
    let graph = adapted.model.graph.as_ref();
    let input = graph.and_then(|g| g.input.iter().find(|v| v.name == adapted.pixels));
    input.and_then(|v| v.dims()?.last()?.fixed()).unwrap_or(1)
}

/// Noise of different brightness, so that a model that mixes images shows it.
fn pictures(n: usize, size: usize) -> Vec<f32> {
    let one = |i: usize| {
        let mut stream = rng::stream(0, "batching", &[i as u64]);
        let (low, high) = (i as f32 / (n as f32 + 1.0), 1.0);
        (0..3 * size * size).map(move |_| low + (high - low) * rng::unit(&mut stream))
    };
    (0..n).flat_map(one).collect()
}

fn embed(
    runtime: &Runtime,
    adapted: &Adapted,
    name: &str,
    n: usize,
    pixels: &[f32],
    size: usize,
) -> Result<Vec<f32>, EncoderError> {
    let mut probe = Probe::open(runtime, name, &adapted.with_batch(Dim::Fixed(n)), Rewriting::On, Provider::Cpu)?;
    let found = probe.run(&[(&adapted.pixels, &[n, 3, size, size], pixels)], &[&adapted.embedding])?;
    Ok(found.into_iter().next().map(|value| value.data).unwrap_or_default())
}
