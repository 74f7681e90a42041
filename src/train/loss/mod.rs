//! Metric-learning losses, one file each.
//!
//! A loss sees the embeddings of the whole batch (clean and adversarial rows alike) and their labels, and gives one
//! scalar with a graph. To add one: a variant of [`LossSpec`], a file with a type that implements [`Loss`], one arm in
//! [`from_spec`]. A loss with parameters of its own (proxies, margins) keeps them in its type.

mod multi_similarity;

use tch::Tensor;

pub use multi_similarity::MultiSimilarity;

use crate::suite::recipe::LossSpec;

/// A differentiable scalar of a batch of embeddings.
pub trait Loss {
    /// The value to minimise.
    ///
    /// # Shapes
    /// `embeddings`: `[n, d]`, rows of unit length; `labels`: `[n]` of kind `Int64` on the same device; the result is
    /// a scalar.
    fn value(&self, embeddings: &Tensor, labels: &Tensor) -> Tensor;
}

/// The loss that a recipe names.
pub fn from_spec(spec: &LossSpec) -> Box<dyn Loss> {
    match *spec {
        LossSpec::MultiSimilarity { alpha, beta, threshold, margin } => {
            Box::new(MultiSimilarity { alpha, beta, threshold, margin })
        }
    }
}
