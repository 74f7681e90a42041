//! What may be wrong with the numbers of a model.

use std::collections::BTreeSet;

use tch::TchError;

use crate::network::ParameterSpec;
use crate::network::weights::Weights;

/// Why a model cannot be made or filled.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Tensors that the network needs are absent.
    #[error("weights lack {}; they belong to another network", quoted(.0))]
    Missing(Vec<String>),
    /// Tensors that the network does not have.
    #[error("weights hold {}, which the network does not have; they belong to another network", quoted(.0))]
    Unexpected(Vec<String>),
    /// A tensor of another shape.
    #[error("weights: `{name}` has shape {got:?}, wanted {wanted:?}; they belong to another network")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        got: Vec<usize>,
        /// The network's.
        wanted: Vec<usize>,
    },
    /// libtorch failed.
    #[error("libtorch failed")]
    Torch(#[from] TchError),
}

/// The first few names in backquotes, and how many more.
fn quoted(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
    let rest = names.len().saturating_sub(5);
    if rest > 0 { format!("{} and {rest} more", shown.join(", ")) } else { shown.join(", ") }
}

/// Whether these weights are exactly those of a network.
pub(super) fn check(specs: &[ParameterSpec], weights: &Weights) -> Result<(), ModelError> {
    let absent = |spec: &&ParameterSpec| !weights.tensors.contains_key(&spec.name);
    let missing: Vec<_> = specs.iter().filter(absent).map(|s| s.name.clone()).collect();
    if !missing.is_empty() {
        return Err(ModelError::Missing(missing));
    }
    for spec in specs {
        let got = &weights.tensors[&spec.name];
        if got.shape != spec.shape || got.data.len() != spec.count() {
            let (name, got, wanted) = (spec.name.clone(), got.shape.clone(), spec.shape.clone());
            return Err(ModelError::Shape { name, got, wanted });
        }
    }
    let known: BTreeSet<_> = specs.iter().map(|s| &s.name).collect();
    let unexpected: Vec<_> = weights.tensors.keys().filter(|name| !known.contains(name)).cloned().collect();
    if unexpected.is_empty() { Ok(()) } else { Err(ModelError::Unexpected(unexpected)) }
}
