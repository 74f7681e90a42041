//! What an attack needs from a model: embed a batch, and walk down a loss by signed gradient steps.
//!
//! [`Encoder`] is implemented by [`onnx`] (a file in ONNX Runtime) and by [`fake`] (closed form, for tests without any
//! runtime). `attack/` sees nothing else.

pub mod fake;
pub mod loss;
pub mod onnx;

pub use loss::{Gallery, Loss};

use crate::batch::{Embeddings, Images, ShapeError};
pub use crate::onnx::loss_head::{LossDistance as Distance, LossHead, Reach};

/// What a caller may know about an encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderSpec {
    /// Name for messages: a path or a model id.
    pub name: String,
    /// `[c, h, w]` of one input image, pixels in `[0, 1]`.
    pub input: [usize; 3],
    /// Entries of one embedding.
    pub embedding_dim: usize,
    /// Per-channel standard deviation of the model's own normalisation (ones if unknown); budgets given in normalised
    /// units are scaled by it.
    pub std: Vec<f32>,
    /// Which device ran it, as verified: `cpu` or `cuda`.
    pub provider: String,
    /// What a reader of numbers measured on it should know, such as that a float32 copy was attacked; often nothing.
    pub notes: Vec<String>,
    /// Nodes whose gradient is a straight-through one, known once a descent was opened. Empty: the gradient is exact.
    pub straight_through: Vec<String>,
}

/// A search for small losses: where it starts, where it may go, and what it minimises.
///
/// Every goal is a choice of a head, targets and weights: towards one image (weight 1), towards T at once (1/T each),
/// away from the clean embedding (−1), and so on; see [`LossHead`].
#[derive(Debug, Clone)]
pub struct Descent<'a> {
    /// What is minimised, for each of the `n` samples.
    pub loss: Loss<'a>,
    /// First iterate, `[n, c, h, w]`.
    pub start: &'a Images,
    /// Lower bound of every pixel, `[n, c, h, w]`.
    pub lower: &'a Images,
    /// Upper bound of every pixel, `[n, c, h, w]`.
    pub upper: &'a Images,
}

/// One sample that enters a running descent, see [`GradientSteps::replace`]; its fields are one row of [`Descent`]'s.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// First iterate, `[c, h, w]`.
    pub start: &'a [f32],
    /// Lower bound of every pixel, `[c, h, w]`.
    pub lower: &'a [f32],
    /// Upper bound of every pixel, `[c, h, w]`.
    pub upper: &'a [f32],
    /// Target embeddings, `[T, d]`.
    pub targets: &'a [f32],
    /// Weights, `[T]`.
    pub weights: &'a [f32],
    /// Further numbers that the loss wants, `[columns]`.
    pub table: &'a [f32],
}

impl Sample<'_> {
    fn check(&self, name: &str, stride: usize, [targets, dim, columns]: [usize; 3]) -> Result<(), EncoderError> {
        let rows = [
            ("start", self.start.len(), stride),
            ("lower bound", self.lower.len(), stride),
            ("upper bound", self.upper.len(), stride),
            ("targets", self.targets.len(), targets * dim),
            ("weights", self.weights.len(), targets),
            ("table of the loss", self.table.len(), columns),
        ];
        match rows.into_iter().find(|(_, got, wanted)| got != wanted) {
            None => Ok(()),
            Some((what, got, wanted)) => {
                let source = ShapeError::Mismatch { what, got: vec![got], wanted: vec![wanted] };
                Err(EncoderError::Shape { name: name.into(), source })
            }
        }
    }
}

/// What one evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Loss of each sample at the evaluated iterate, `[n]`.
    pub loss: Vec<f32>,
    /// Embedding of each sample at the evaluated iterate, `[n, d]`.
    pub embeddings: Embeddings,
}

/// Loss and gradient of some samples, see [`Encoder::gradient`].
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    /// Loss and embedding of each sample.
    pub evaluation: Evaluation,
    /// Gradient of each sample's loss with respect to its pixels, `[n, c, h, w]`.
    pub pixels: Vec<f32>,
}

/// A running descent. Tensors stay on the device between steps.
pub trait GradientSteps {
    /// Evaluates the loss at the current iterate `x`, then moves to `clip(x − step · sign(∇L), lower, upper)`.
    ///
    /// # Shapes
    /// `step_size`: `[n, c]`, in pixel units, one per sample and channel.
    /// # Errors
    /// [`EncoderError`] if the runtime fails or a gradient is not finite.
    fn step(&mut self, step_size: &[f32]) -> Result<Evaluation, EncoderError>;

    /// Evaluates the loss at the current iterate without moving.
    ///
    /// # Errors
    /// As [`GradientSteps::step`].
    fn evaluate(&mut self) -> Result<Evaluation, EncoderError>;

    /// Copies sample `i` of the iterate that the last evaluation saw into `out` (`[c, h, w]`).
    fn copy_evaluated(&self, i: usize, out: &mut [f32]);

    /// Copies the iterate of sample `i` that the next evaluation will see into `out` (`[c, h, w]`).
    fn copy_current(&self, i: usize, out: &mut [f32]);

    /// Puts another sample in the place of sample `i`. The others go on undisturbed, and since losses are per sample,
    /// the new one goes the way that it would go in any other company (and, but for rounding, in any other place: see
    /// [`Encoder::pass_size`]).
    ///
    /// # Errors
    /// [`EncoderError::Shape`] if a row has another length; [`EncoderError`] if the runtime fails.
    fn replace(&mut self, i: usize, sample: &Sample<'_>) -> Result<(), EncoderError>;

    /// Forgets the samples from `n` on: the next evaluation is of the first `n` only.
    fn shrink(&mut self, n: usize);

    /// Share of gradient entries that were exactly zero at the last step, `[n]`; absent before the first step or if
    /// the encoder does not count them.
    fn zero_gradient_share(&self) -> Option<&[f32]> {
        None
    }
}

/// A model that turns images into embeddings.
pub trait Encoder: Send {
    /// What is known about it.
    fn spec(&self) -> &EncoderSpec;

    /// Images in one pass of the model, 1 if passes do not matter. Sample `i` of a batch is in row `i % pass_size` of its
    /// pass. The row may decide the last bits of its results (vector kernels begin where memory is aligned), the company
    /// does not: who wants equal bits keeps an image in its row.
    fn pass_size(&self) -> usize {
        1
    }

    /// Embeds a batch of any size.
    ///
    /// # Errors
    /// [`EncoderError`] if the batch does not fit the model or the runtime fails.
    fn embed(&mut self, images: &Images) -> Result<Embeddings, EncoderError>;

    /// Opens a descent on one batch.
    ///
    /// # Errors
    /// [`EncoderError::NoGradient`] if the model cannot be differentiated, naming the node; shape errors otherwise.
    fn descend<'a>(&'a mut self, descent: &Descent<'_>) -> Result<Box<dyn GradientSteps + 'a>, EncoderError>;

    /// Loss and gradient at `at.start`, for searches that step by themselves. The bounds are not looked at.
    ///
    /// # Errors
    /// As [`Encoder::descend`]; also [`EncoderError::NotFinite`] if a loss or a gradient is not finite.
    fn gradient(&mut self, at: &Descent<'_>) -> Result<Gradient, EncoderError> {
        let _ = at;
        let name = self.spec().name.clone();
        Err(EncoderError::NoGradient { name, node: "embedding".into(), op: "none".into() })
    }
}

/// Why an encoder could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// The file cannot be used.
    #[error("{name}: {reason}")]
    Unusable {
        /// File or model.
        name: String,
        /// What, wanted, how to fix.
        reason: String,
    },
    /// No gradient rule.
    #[error(
        "{name}: node `{node}` ({op}) has no gradient rule; gradient-free methods still work, and straight_through = true in the card passes rounding and quantisation through"
    )]
    NoGradient {
        /// File or model.
        name: String,
        /// Node name.
        node: String,
        /// Operator.
        op: String,
    },
    /// A batch of the wrong shape.
    #[error("{name}: {source}")]
    Shape {
        /// File or model.
        name: String,
        /// What differs.
        #[source]
        source: ShapeError,
    },
    /// NaN or infinity where a number is needed.
    #[error("{name}: {what} of sample {sample} is not finite")]
    NotFinite {
        /// File or model.
        name: String,
        /// Which value.
        what: &'static str,
        /// Position in the batch.
        sample: usize,
    },
    /// A provider that is missing or did not do the work.
    #[error("{name}: {source}")]
    Provider {
        /// File or model.
        name: String,
        /// What is wrong and what helps.
        #[source]
        source: onnx::ProviderError,
    },
    /// The runtime failed.
    #[error("{name}: ONNX Runtime failed: {reason}")]
    Runtime {
        /// File or model.
        name: String,
        /// Its own words.
        reason: String,
    },
}
