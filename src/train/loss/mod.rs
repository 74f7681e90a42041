//! Metric-learning losses, one file each.
//!
//! A loss sees the embeddings of the whole batch (clean and adversarial rows alike) and their classes, and gives one
//! scalar with a graph. To add one: a variant of [`LossSpec`], a file with a type that implements [`Loss`], one arm in
//! [`from_spec`]. A loss with parameters of its own (proxies, boundaries, target networks) keeps them in one flat
//! [`LossParameters`], which the trainer moves with its own learning rate.

mod classification;
mod multi_similarity;
mod pairs;
mod proxies;
mod s2sd;
#[cfg(test)]
mod tests;

use tch::{Device, Kind, TchError, Tensor};

pub use classification::{Arcface, NormalizedSoftmax};
pub use multi_similarity::MultiSimilarity;
pub use pairs::{Contrastive, Margin, Triplet};
pub use proxies::{ProxyAnchor, ProxyNca};
pub use s2sd::S2sd;

use crate::rng::{self, Stream};
use crate::suite::loss::{LossSpec, S2sdPooling};

/// What a loss sees of a step.
pub struct LossInput<'a> {
    /// `[n, d]`, rows of unit length.
    pub embeddings: &'a Tensor,
    /// Class of each row among the training classes, from 0, n of them.
    pub labels: &'a [i64],
    /// The last feature map `[n, c, h, w]`, for a loss that asks for it.
    pub features: Option<&'a Tensor>,
    /// Optimizer steps taken before this one.
    pub step: u64,
    /// What the loss draws from, named by (seed, epoch, batch).
    pub random: &'a mut Stream,
}

impl LossInput<'_> {
    /// The labels on the embeddings' device, `[n]` of kind `Int64`.
    fn label_tensor(&self) -> Tensor {
        Tensor::from_slice(self.labels).to_device(self.embeddings.device())
    }
}

/// A differentiable scalar of a batch of embeddings.
pub trait Loss {
    /// The value to minimise, a scalar.
    ///
    /// # Errors
    /// libtorch's own.
    fn value(&self, input: &mut LossInput<'_>) -> Result<Tensor, TchError>;

    /// Parameters of its own, if it has any.
    fn parameters(&self) -> Option<&LossParameters> {
        None
    }

    /// Whether [`LossInput::features`] is wanted.
    fn wants_features(&self) -> bool {
        false
    }
}

/// Trained numbers that belong to a loss.
#[derive(Debug)]
pub struct LossParameters {
    /// All of them, `[count]`: a leaf that wants a gradient.
    pub flat: Tensor,
    /// Their own learning rate. No weight decay, as in the official code.
    pub learning_rate: f64,
}

impl LossParameters {
    /// From first values on the host.
    fn new(values: &[f32], learning_rate: f64, device: Device) -> Self {
        let flat = Tensor::from_slice(values).to_device(device).detach().set_requires_grad(true);
        Self { flat, learning_rate }
    }

    /// Entries `at..at + Π shape` as a view.
    fn view(&self, at: i64, shape: &[i64]) -> Result<Tensor, TchError> {
        self.flat.f_narrow(0, at, shape.iter().product())?.f_view(shape)
    }
}

/// The shape of the problem that a loss with parameters is made for.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Training classes.
    pub classes: usize,
    /// Entries of an embedding.
    pub dim: usize,
    /// Channels of the last feature map.
    pub channels: usize,
    /// Learning rate of the network, for parts that share it.
    pub learning_rate: f64,
    /// Names the first values.
    pub seed: u64,
    /// Where the parameters live.
    pub device: Device,
}

/// The loss that a recipe names.
pub fn from_spec(spec: &LossSpec, setting: Setting) -> Box<dyn Loss> {
    match spec.clone() {
        LossSpec::MultiSimilarity { alpha, beta, threshold, margin } => {
            Box::new(MultiSimilarity { alpha, beta, threshold, margin })
        }
        LossSpec::Triplet { margin, distance, miner } => Box::new(Triplet { margin, distance, miner }),
        LossSpec::Margin { margin, beta, learning_rate, miner } => {
            Box::new(Margin::new(margin, beta, learning_rate, miner, setting))
        }
        LossSpec::Contrastive { positive_margin, negative_margin, miner } => {
            Box::new(Contrastive { positive_margin, negative_margin, miner })
        }
        LossSpec::NormalizedSoftmax { temperature, learning_rate } => {
            Box::new(NormalizedSoftmax::new(temperature, learning_rate, setting))
        }
        LossSpec::Arcface { scale, margin, applied, learning_rate } => {
            Box::new(Arcface::new(scale, margin, applied, learning_rate, setting))
        }
        LossSpec::ProxyNca { learning_rate } => Box::new(ProxyNca::new(learning_rate, setting)),
        LossSpec::ProxyAnchor { alpha, delta, learning_rate } => {
            Box::new(ProxyAnchor::new(alpha, delta, learning_rate, setting))
        }
        LossSpec::S2sd { dims, temperature, weight, feature_weight, feature_delay, pooling } => {
            let source = MultiSimilarity { alpha: 2.0, beta: 40.0, threshold: 0.5, margin: 0.1 };
            let with_maximum = pooling == S2sdPooling::AverageAndMax;
            Box::new(S2sd::new(
                source,
                dims,
                (temperature, weight),
                (feature_weight, feature_delay),
                with_maximum,
                setting,
            ))
        }
    }
}

/// One proxy a class, `[classes, dim]`.
#[derive(Debug)]
struct Proxies {
    parameters: LossParameters,
    shape: [i64; 2],
}

impl Proxies {
    /// Uniform in ±1/√dim, as `PAPER.md` section 2 gives for ArcFace and as a linear layer starts.
    fn new(learning_rate: f64, setting: Setting) -> Self {
        let mut stream = rng::stream(setting.seed, "loss-proxies", &[]);
        let bound = 1.0 / (setting.dim as f32).sqrt();
        let values: Vec<f32> =
            (0..setting.classes * setting.dim).map(|_| (2.0 * rng::unit(&mut stream) - 1.0) * bound).collect();
        let parameters = LossParameters::new(&values, learning_rate, setting.device);
        Self { parameters, shape: [setting.classes as i64, setting.dim as i64] }
    }

    /// Proxies of unit length, `[classes, dim]`.
    fn unit(&self) -> Result<Tensor, TchError> {
        unit_rows(&self.parameters.view(0, &self.shape)?)
    }
}

/// Rows divided by their lengths, as PyTorch's `normalize`.
fn unit_rows(rows: &Tensor) -> Result<Tensor, TchError> {
    rows.f_div(&rows.f_norm_scalaropt_dim(2, [-1].as_slice(), true)?.f_clamp_min(1e-12)?)
}

/// A zero with a graph towards the embeddings, for a batch that teaches nothing.
fn nothing(embeddings: &Tensor) -> Result<Tensor, TchError> {
    embeddings.f_sum(Kind::Float)?.f_mul_scalar(0.0)
}
