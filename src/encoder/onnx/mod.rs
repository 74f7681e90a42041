//! An image encoder in an ONNX file, run and attacked in ONNX Runtime.
//!
//! Every forward pass has the same batch size, and every session one thread; a batch is cut into pieces of that size
//! which `threads` sessions share. So no number depends on the thread count, and none on what else is in the batch,
//! up to rounding inside one piece. The last piece is padded with copies of its last image.

pub mod batching;
mod descent;
mod gradient;
mod lanes;
mod opening;
pub mod probe;
pub mod provider;
mod runtime;
mod session;
#[cfg(test)]
mod tests;
mod weights;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ort::session::Session;

pub use lanes::Clock;
pub use provider::{Provider, ProviderError};
pub use runtime::Runtime;
use weights::Weights;

use self::opening::{Attack, Pass};
use super::{Descent, Encoder, EncoderError, EncoderSpec, Gradient, GradientSteps};
use crate::batch::{Embeddings, Images, ShapeError};
use crate::onnx::proto::ModelProto;
use crate::onnx::{self, Dim, LossHead, attack_graph, promote, validate, wrap};

/// How to run a file.
#[derive(Debug, Clone)]
pub struct OnnxOptions {
    /// Name for messages; the path if absent.
    pub name: Option<String>,
    /// Threads to use at most; does not change any number.
    pub threads: usize,
    /// To find out by how many threads attacks gain, when the first one begins; without it, all are used.
    pub clock: Option<Clock>,
    /// Images in one forward pass; a file with a fixed batch axis overrides it.
    pub batch_size: usize,
    /// Height and width for a file that leaves them open.
    pub image_size: Option<[usize; 2]>,
    /// Whether nodes without a gradient are passed straight through; [`EncoderSpec::straight_through`] names them.
    pub straight_through: bool,
    /// Who computes. CUDA is proven, not believed: see [`provider`].
    pub provider: Provider,
    /// Folder for the profiles that prove a provider; removed after reading.
    pub scratch: PathBuf,
}

impl Default for OnnxOptions {
    fn default() -> Self {
        Self {
            name: None,
            threads: 1,
            clock: None,
            batch_size: 8,
            image_size: None,
            straight_through: false,
            provider: Provider::Cpu,
            scratch: PathBuf::from("."),
        }
    }
}

/// Most entries of one batch: 2 GB in float32.
const MOST_PIXELS: usize = 1 << 29;

/// An encoder in an ONNX file.
#[derive(Debug)]
pub struct OnnxEncoder {
    runtime: Runtime,
    model: ModelProto,
    spec: EncoderSpec,
    input: String,
    output: String,
    batch_size: usize,
    threads: usize,
    clock: Option<Clock>,
    straight_through: bool,
    provider: Provider,
    scratch: PathBuf,
    forward: Vec<Session>,
    attacks: HashMap<(LossHead, Pass), Attack>,
    /// The losses with sessions, the one that was used last at the end.
    recent: Vec<LossHead>,
    /// Behind the sessions, which are dropped first: they read these.
    weights: Weights,
}

impl OnnxEncoder {
    /// Opens a file and checks that it is an image encoder: one float input `[n, c, h, w]` of fixed `c, h, w`, one
    /// float output `[n, d]`. Runs it once on black images.
    ///
    /// A file in half or double floats answers as it is and is attacked through its float32 copy; if the runtime has no
    /// kernels for it, the copy answers too. [`EncoderSpec::notes`] says so.
    ///
    /// # Errors
    /// [`EncoderError`] naming the file: missing, not ONNX, truncated, wrong inputs or outputs, or refused by the
    /// runtime.
    pub fn open(runtime: &Runtime, path: &Path, options: &OnnxOptions) -> Result<Self, EncoderError> {
        let name = options.name.clone().unwrap_or_else(|| path.display().to_string());
        let model = onnx::read(path).map_err(|e| match &options.name {
            // The error names the path itself.
            None => EncoderError::Unusable { name: "model".into(), reason: e.to_string() },
            Some(name) => EncoderError::Unusable { name: name.clone(), reason: e.to_string() },
        })?;
        Self::from_model(runtime, model, &name, options)
    }

    /// As [`OnnxEncoder::open`], for a model that is already in memory.
    ///
    /// # Errors
    /// As [`OnnxEncoder::open`].
    pub fn from_model(
        runtime: &Runtime,
        mut model: ModelProto,
        name: &str,
        options: &OnnxOptions,
    ) -> Result<Self, EncoderError> {
        let unusable = |reason: String| EncoderError::Unusable { name: name.into(), reason };
        if let Some(sides) = options.image_size {
            attack_graph::fix_sides(&mut model, sides);
        }
        let model = wrap::float32_border(model);
        let signature = attack_graph::signature(&model).map_err(|e| unusable(e.to_string()))?;
        let [batch, c, h, w] = &signature.input_dims;
        let (Some(c), Some(h), Some(w)) = (c.fixed(), h.fixed(), w.fixed()) else {
            let shape = onnx::shape::show(&signature.input_dims);
            return Err(unusable(format!(
                "input `{}` has shape {shape}, wanted fixed c, h, w; give the size of the images, or export the model for one",
                signature.input
            )));
        };
        let batch_size = if let Dim::Fixed(n) = batch { *n } else { options.batch_size }.max(1);
        let pixels = [batch_size, c, h, w].iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if pixels.is_none_or(|n| n == 0 || n > MOST_PIXELS) {
            let shape = onnx::shape::show(&[batch_size, c, h, w].map(Dim::Fixed));
            return Err(unusable(format!(
                "input `{}` would be {shape} in one run, wanted 1 to {MOST_PIXELS} entries; export the model for \
                 smaller images or a smaller batch",
                signature.input
            )));
        }
        let std = normalisation(&model, c).map_err(&unusable)?;
        let spec = EncoderSpec {
            name: name.into(),
            input: [c, h, w],
            embedding_dim: signature.embedding_dim.unwrap_or(0),
            std,
            provider: options.provider.name().into(),
            straight_through: vec![],
            notes: notes(&model),
        };
        let mut encoder = Self {
            runtime: runtime.clone(),
            model,
            spec,
            input: signature.input,
            output: signature.output,
            batch_size,
            threads: options.threads.max(1),
            clock: options.clock,
            straight_through: options.straight_through,
            provider: options.provider,
            scratch: options.scratch.clone(),
            forward: vec![],
            attacks: HashMap::new(),
            recent: vec![],
            weights: Weights::default(),
        };
        encoder.open_first()?;
        let black = Images::new([1, c, h, w], vec![0.0; c * h * w]).map_err(|e| encoder.shape_error(e))?;
        let probe = encoder.embed(&black)?;
        let declared = encoder.spec.embedding_dim;
        if declared != 0 && declared != probe.dim() {
            return Err(unusable(format!("the embedding has {} entries, the file declares {declared}", probe.dim())));
        }
        encoder.spec.embedding_dim = probe.dim();
        if encoder.provider != Provider::Cpu {
            let model = attack_graph::with_batch_size(encoder.model.clone(), encoder.batch_size);
            encoder.prove_provider(&model, &[(encoder.input.clone(), vec![encoder.batch_size, c, h, w])])?;
        }
        Ok(encoder)
    }

    /// A string property of the file, such as `mdprop.recipe`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.model.metadata(key)
    }

    /// Passes side by side: the threads, or fewer once an attack has found that more gain nothing.
    pub fn lanes(&self) -> usize {
        self.threads
    }

    /// Images in one forward pass.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn shape_error(&self, source: ShapeError) -> EncoderError {
        EncoderError::Shape { name: self.spec.name.clone(), source }
    }

    /// Whether a descent has the shapes of this model.
    fn check_descent(&self, descent: &Descent<'_>) -> Result<(), EncoderError> {
        let n = descent.start.len();
        self.check_images("start", descent.start, n)?;
        self.check_images("lower bound", descent.lower, n)?;
        self.check_images("upper bound", descent.upper, n)?;
        descent.loss.check(n, self.spec.embedding_dim).map_err(|source| self.shape_error(source))
    }

    fn check_images(&self, what: &'static str, images: &Images, n: usize) -> Result<(), EncoderError> {
        let [c, h, w] = self.spec.input;
        let wanted = vec![n, c, h, w];
        if images.shape().as_slice() == wanted {
            return Ok(());
        }
        Err(self.shape_error(ShapeError::Mismatch { what, got: images.shape().to_vec(), wanted }))
    }
}

impl Encoder for OnnxEncoder {
    fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    fn pass_size(&self) -> usize {
        self.batch_size
    }

    fn embed(&mut self, images: &Images) -> Result<Embeddings, EncoderError> {
        self.check_images("images", images, images.len())?;
        let (n, size, stride) = (images.len(), self.batch_size, images.stride());
        let [c, h, w] = self.spec.input;
        self.ensure_forward(n.div_ceil(size))?;
        let (name, input, output) = (&self.spec.name, &self.input, &self.output);
        let piece = |session: &mut Session, at: usize| {
            let x = padded(images.as_slice(), stride, at * size, size);
            let x = session::tensor(name, &[size, c, h, w], x)?;
            forward(session, name, input, output, &x.into_dyn())
        };
        let pieces = share(&mut self.forward, n.div_ceil(size), piece)?;
        join(&self.spec.name, n, self.spec.embedding_dim, size, pieces)
    }

    fn descend<'a>(&'a mut self, descent: &Descent<'_>) -> Result<Box<dyn GradientSteps + 'a>, EncoderError> {
        Ok(Box::new(descent::OnnxDescent::new(self, descent)?))
    }

    fn gradient(&mut self, at: &Descent<'_>) -> Result<Gradient, EncoderError> {
        self.gradient_at(at)
    }
}

/// Rows `start..start + count` of a buffer; beyond its end the last row is repeated.
fn padded(data: &[f32], stride: usize, start: usize, count: usize) -> Vec<f32> {
    let rows = (data.len() / stride.max(1)).max(1);
    (start..start + count).flat_map(|i| &data[i.min(rows - 1) * stride..][..stride]).copied().collect()
}

/// Runs `work` on pieces `0..count`, piece `i` on worker `i % workers`, and returns the results in order.
fn share<W: Send, R: Send>(
    workers: &mut [W],
    count: usize,
    work: impl Fn(&mut W, usize) -> Result<R, EncoderError> + Sync,
) -> Result<Vec<R>, EncoderError> {
    let lanes = workers.len().min(count).max(1);
    if lanes == 1 {
        let Some(worker) = workers.first_mut() else { return Ok(vec![]) };
        return (0..count).map(|i| work(worker, i)).collect();
    }
    let results: Vec<Vec<Result<R, EncoderError>>> = std::thread::scope(|scope| {
        let work = &work;
        let mut handles = Vec::with_capacity(lanes);
        for (first, worker) in workers.iter_mut().take(lanes).enumerate() {
            let lane = move || (first..count).step_by(lanes).map(|i| work(worker, i)).collect::<Vec<_>>();
            handles.push(scope.spawn(lane));
        }
        handles.into_iter().map(|h| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut lanes_left: Vec<_> = results.into_iter().map(Vec::into_iter).collect();
    (0..count).filter_map(|i| lanes_left[i % lanes].next()).collect()
}

/// One forward pass of a full piece: `[size · d]` entries.
fn forward(
    session: &mut Session,
    name: &str,
    input: &str,
    output: &str,
    x: &ort::value::DynValue,
) -> Result<Vec<f32>, EncoderError> {
    let failed = session::failed(name);
    let outputs = session.run(ort::inputs![input => x]).map_err(&failed)?;
    let value = outputs
        .get(output)
        .ok_or_else(|| EncoderError::Runtime { name: name.into(), reason: format!("output `{output}` is missing") })?;
    Ok(value.try_extract_tensor::<f32>().map_err(&failed)?.1.to_vec())
}

/// Pieces to one batch without the padding. `dim` 0 means: whatever comes.
fn join(name: &str, n: usize, dim: usize, size: usize, pieces: Vec<Vec<f32>>) -> Result<Embeddings, EncoderError> {
    let dim = if dim == 0 { pieces.first().map_or(0, |p| p.len() / size) } else { dim };
    let mut data = pieces.concat();
    data.truncate(n * dim);
    if let Some(bad) = data.iter().position(|v| !v.is_finite()) {
        return Err(EncoderError::NotFinite { name: name.into(), what: "embedding", sample: bad / dim.max(1) });
    }
    Embeddings::new([n, dim], data).map_err(|source| EncoderError::Shape { name: name.into(), source })
}

/// What a reader of numbers measured on this file should know.
fn notes(model: &ModelProto) -> Vec<String> {
    let mut notes = vec![];
    if promote::is_needed(model) {
        notes.push(
            "the file computes in half or double floats: attacks are made on its float32 copy, the file itself \
            answers"
                .into(),
        );
    }
    for (tensor, count) in validate::infinite_weights(model) {
        notes.push(format!("weights `{tensor}` hold {count} infinities"));
    }
    notes
}

/// The per-channel standard deviation that the exporter wrote down; ones for a foreign file.
fn normalisation(model: &ModelProto, channels: usize) -> Result<Vec<f32>, String> {
    if let Some(range) = model.metadata("mdprop.input_range").filter(|r| *r != "0-1") {
        return Err(format!("mdprop.input_range is `{range}`, wanted `0-1`"));
    }
    let Some(text) = model.metadata("mdprop.std") else { return Ok(vec![1.0; channels]) };
    let values: Option<Vec<f32>> = text.split(',').map(|v| v.trim().parse().ok()).collect();
    values
        .filter(|v| v.len() == channels && v.iter().all(|s| s.is_finite() && *s > 0.0))
        .ok_or_else(|| format!("mdprop.std is `{text}`, wanted {channels} positive numbers with commas"))
}
