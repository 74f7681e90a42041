//! Attacks on any [`Encoder`](crate::encoder::Encoder): goal × method × budget, and the checks that travel with a number.
//!
//! [`evaluate`] runs one trial; the others are its parts. Every draw is named by (suite seed, attack, data-set index), so
//! that no result depends on batch size or threads and two models are attacked with the same targets and starts.

pub mod aim;
pub mod auto;
pub mod budget;
pub mod checks;
pub mod corruption;
pub mod evaluate;
pub mod goal;
pub mod losses;
pub mod noise;
pub mod patch;
pub mod pgd;
pub mod probe;
pub mod ranking;
pub mod region;
pub mod route;
pub mod search;
pub mod survivors;
pub mod targets;
pub mod universal;
pub mod walk;

use crate::encoder::EncoderError;
use crate::metric::neighbors::NeighborError;
use crate::progress::Cancelled;

/// Why an attack or a trial failed.
#[derive(Debug, thiserror::Error)]
pub enum AttackError {
    /// The method's numbers do not fit together.
    #[error(transparent)]
    Budget(#[from] budget::BudgetError),
    /// Targets cannot be drawn.
    #[error(transparent)]
    Targets(#[from] targets::TargetError),
    /// The model failed.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The embeddings cannot be ranked.
    #[error(transparent)]
    Neighbors(#[from] NeighborError),
    /// NaN or infinity in the loss.
    #[error(
        "image {image}: loss at step {step} is {loss}, wanted a finite number; the model or its gradient overflows"
    )]
    Loss {
        /// Index in the data set.
        image: usize,
        /// Step from 0.
        step: usize,
        /// The value.
        loss: f32,
    },
    /// Inputs of a trial that do not belong together.
    #[error("{what}: got {got}, wanted {wanted}")]
    Input {
        /// Which.
        what: &'static str,
        /// What was found.
        got: String,
        /// What was expected.
        wanted: String,
    },
    /// Ctrl-C.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}
