//! The model under examination: its sessions, and batches cut to the size that it takes.

use std::path::{Path, PathBuf};

use super::{Request, of_file};
use crate::batch::{Embeddings, Images};
use crate::encoder::onnx::batching::{Batching, Settled, settle};
use crate::encoder::onnx::probe::{Probe, Rewriting, Value};
use crate::encoder::onnx::{Provider, Runtime};
use crate::onnx::graph::FLOAT;
use crate::onnx::proto::{ModelProto, ValueInfoProto};
use crate::onnx::wrap::{Adapted, Note};
use crate::onnx::{AttackGraph, AttackGraphOptions, Dim, LossDistance, LossHead, OnnxError, attack_graph};
use crate::rng;
use crate::run::RunError;

/// See the module.
pub(super) struct Subject<'a> {
    pub runtime: &'a Runtime,
    pub provider: Provider,
    pub path: PathBuf,
    pub name: String,
    /// The file as read.
    pub original: &'a ModelProto,
    pub adapted: Adapted,
    pub batching: Batching,
    /// The adapted model with the batch size that is tried.
    pub fixed: ModelProto,
    pub notes: Vec<Note>,
    /// Images in one run.
    pub batch: usize,
    pub size: usize,
    seed: u64,
}

/// The attack graph.
pub(super) struct Attack {
    graph: AttackGraph,
}

/// Name, shape, numbers.
pub(super) type Input = (String, Vec<usize>, Vec<f32>);

/// What the attack graph says about some images.
pub(super) struct Gradient {
    /// `[n, 3, s, s]`.
    pub gradient: Vec<f32>,
    /// `[n, d]`: where each image was pulled.
    pub targets: Vec<f32>,
    /// Share of entries that are exactly zero, for each image.
    pub zero_share: Vec<f32>,
}

impl Attack {
    pub fn model(&self) -> &ModelProto {
        &self.graph.model
    }

    /// Nodes whose gradient is made up.
    pub fn straight_through(&self) -> &[String] {
        &self.graph.straight_through
    }

    /// Whether it is the float32 copy of a file that computes in half precision.
    pub fn promoted(&self) -> bool {
        self.graph.promoted
    }
}

impl<'a> Subject<'a> {
    pub fn open(
        runtime: &'a Runtime,
        path: &Path,
        original: &'a ModelProto,
        adapted: Adapted,
        size: usize,
        request: &Request<'_>,
    ) -> Result<Self, RunError> {
        let name = path.display().to_string();
        let Settled { model, batching, note } = settle(runtime, &adapted, &name)?;
        let batch = match batching {
            Batching::Free => request.batch_size.max(1),
            Batching::Fixed(n) => n,
            Batching::Looped => 1,
        };
        let mut notes = adapted.notes.clone();
        notes.retain(|note| note.key != "batch");
        notes.push(note);
        Ok(Self {
            runtime,
            provider: request.provider,
            path: path.to_path_buf(),
            name,
            original,
            fixed: attack_graph::with_batch_size(model, batch),
            adapted,
            batching,
            notes,
            batch,
            size,
            seed: request.seed,
        })
    }

    /// The same in batches of `n`.
    pub fn with_batch(&self, n: usize) -> Self {
        Self {
            runtime: self.runtime,
            provider: self.provider,
            path: self.path.clone(),
            name: self.name.clone(),
            original: self.original,
            adapted: self.adapted.clone(),
            batching: self.batching,
            fixed: self.adapted.with_batch(Dim::Fixed(n)),
            notes: self.notes.clone(),
            batch: n,
            size: self.size,
            seed: self.seed,
        }
    }

    /// Numbers of one image.
    pub fn stride(&self) -> usize {
        3 * self.size * self.size
    }

    pub fn image_shape(&self, n: usize) -> Vec<usize> {
        vec![n, 3, self.size, self.size]
    }

    pub fn forward_inputs(&self, pixels: &[f32]) -> Vec<Input> {
        vec![(self.adapted.pixels.clone(), self.image_shape(self.batch), pixels.to_vec())]
    }

    /// Inputs of the attack graph for one full batch and no target: enough to see what it computes on the way.
    pub fn attack_inputs(&self, attack: &Attack, pixels: &[f32]) -> Vec<Input> {
        let d = self.dim();
        self.attack_inputs_towards(attack, pixels, &vec![0.0; self.batch * d])
    }

    fn attack_inputs_towards(&self, attack: &Attack, pixels: &[f32], targets: &[f32]) -> Vec<Input> {
        let (n, image, d) = (self.batch, self.image_shape(self.batch), targets.len() / self.batch);
        let graph = &attack.graph;
        let constant = |value: f32| vec![value; n * self.stride()];
        vec![
            (graph.x.clone(), image.clone(), pixels.to_vec()),
            (graph.lower.clone(), image.clone(), constant(0.0)),
            (graph.upper.clone(), image, constant(1.0)),
            (graph.step_size.clone(), vec![n, 3, 1, 1], vec![0.0; n * 3]),
            (graph.targets.clone(), vec![n, 1, d], targets.to_vec()),
            (graph.weights.clone(), vec![n, 1], vec![1.0; n]),
        ]
    }

    /// Entries of an embedding as the file declares or the shapes tell; 1 if neither does.
    fn dim(&self) -> usize {
        let output = self.fixed.graph.as_ref().and_then(|g| g.output.first()).and_then(ValueInfoProto::dims);
        output.and_then(|dims| dims.last().and_then(Dim::fixed)).unwrap_or(1)
    }

    /// The attack graph on a squared distance to one target, with the gradient itself as an output, and the file's own
    /// output beside it.
    pub fn attack(&self, straight_through: bool) -> Result<Attack, OnnxError> {
        let options = AttackGraphOptions {
            head: LossHead::Weighted(LossDistance::SquaredEuclidean),
            batch_size: Some(self.batch),
            targets_per_sample: Some(1),
            gradient_output: true,
            straight_through,
        };
        let mut graph = attack_graph::build(self.fixed.clone(), &options)?;
        if let Some(inner) = &mut graph.model.graph
            && inner.output.iter().all(|v| v.name != self.adapted.file_output)
        {
            // The runtime tells the shape.
            inner.output.push(ValueInfoProto::unshaped(&self.adapted.file_output, FLOAT));
        }
        let refused = |e: RunError| OnnxError::Graph(format!("the runtime refuses the attack graph: {e}"));
        self.probe(&graph.model, Rewriting::On).map_err(refused)?;
        Ok(Attack { graph })
    }

    pub fn probe(&self, model: &ModelProto, rewriting: Rewriting) -> Result<Probe, RunError> {
        Ok(Probe::open(self.runtime, &self.name, model, rewriting, self.provider)?)
    }

    /// Runs `probe` on images cut to batches; the last one is padded with its last image. Returns the rows of `output`.
    pub fn rows(
        &self,
        probe: &mut Probe,
        images: &[f32],
        output: &str,
        inputs: impl Fn(&[f32], usize) -> Vec<Input>,
    ) -> Result<Vec<f32>, RunError> {
        let (stride, n) = (self.stride(), images.len() / self.stride());
        let mut rows = Vec::new();
        for (piece, chunk) in images.chunks(stride * self.batch).enumerate() {
            let mut padded = chunk.to_vec();
            while padded.len() < stride * self.batch {
                padded.extend_from_slice(&chunk[chunk.len() - stride..]);
            }
            let inputs = inputs(&padded, piece * self.batch);
            let fed: Vec<_> = inputs.iter().map(|(name, shape, data)| (name.as_str(), &shape[..], &data[..])).collect();
            let found: Option<Value> = probe.run(&fed, &[output])?.into_iter().next();
            rows.extend(found.map(|value| value.data).unwrap_or_default());
        }
        let width = rows.len() / (n.div_ceil(self.batch) * self.batch).max(1);
        rows.truncate(n * width);
        Ok(rows)
    }

    /// Embeddings as attacks see them.
    pub fn embed(&self, images: &Images) -> Result<Embeddings, RunError> {
        self.embed_pixels(&mut self.probe(&self.fixed, Rewriting::On)?, images.as_slice(), images.len())
    }

    pub fn embed_pixels(&self, probe: &mut Probe, pixels: &[f32], n: usize) -> Result<Embeddings, RunError> {
        let rows = self.rows(probe, pixels, &self.adapted.embedding, |x, _| self.forward_inputs(x))?;
        let bad = rows.iter().position(|v| !v.is_finite());
        if let Some(bad) = bad {
            let sample = bad / (rows.len() / n.max(1)).max(1);
            let name = self.name.clone();
            return Err(crate::encoder::EncoderError::NotFinite { name, what: "embedding", sample }.into());
        }
        let dim = rows.len() / n.max(1);
        Embeddings::new([n, dim], rows).map_err(|source| {
            RunError::Encoder(crate::encoder::EncoderError::Shape { name: self.name.clone(), source })
        })
    }

    /// The gradient of the squared distance to another image's embedding, a little displaced so that it is never zero.
    pub fn gradient(&self, attack: &Attack, images: &Images) -> Result<Gradient, RunError> {
        let embeddings = self.embed(images)?;
        let (n, d) = (images.len(), embeddings.dim());
        let rms = norm(embeddings.as_slice()) / (embeddings.as_slice().len() as f64).sqrt();
        let target = |i: usize| {
            let mut stream = rng::stream(self.seed, "verify-target", &[i as u64]);
            let row = embeddings.row((i + 1) % n).to_vec();
            row.into_iter().map(move |v| v + 0.3 * rms as f32 * rng::normal(&mut stream)).collect::<Vec<f32>>()
        };
        let targets: Vec<f32> = (0..n).flat_map(target).collect();
        let mut probe = self.probe(attack.model(), Rewriting::On)?;
        let graph = &attack.graph;
        let inputs = |x: &[f32], first: usize| {
            let own = (first..first + self.batch).flat_map(|i| &targets[i.min(n - 1) * d..][..d]).copied();
            self.attack_inputs_towards(attack, x, &own.collect::<Vec<f32>>())
        };
        let missing = || of_file(&self.path, OnnxError::Graph("the attack graph has no gradient output".into()));
        let name = graph.gradient.clone().ok_or_else(missing)?;
        let gradient = self.rows(&mut probe, images.as_slice(), &name, inputs)?;
        let nonzero = self.rows(&mut probe, images.as_slice(), &graph.nonzero_share, inputs)?;
        Ok(Gradient { gradient, targets, zero_share: nonzero.iter().map(|share| 1.0 - share).collect() })
    }
}

/// Euclidean norm.
pub(super) fn norm(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}
