//! Training with libtorch (feature `train`).
//!
//! [`train`] turns a recipe, a seed and labelled images into weights. Per step: [`sampler`] names the images,
//! [`adversary`] makes their adversarial versions, [`model`] embeds all of them in one pass with a batch norm per
//! branch, one [`loss`] judges them, [`adam`] moves the parameters along [`schedule`]. [`checkpoint`] keeps the state
//! after every epoch. Everything random is named by (seed, epoch, batch, sample).

pub mod adam;
pub mod adversary;
pub mod checkpoint;
pub mod defence;
pub mod device;
mod error;
#[cfg(test)]
pub(crate) mod formula;
mod job;
pub mod loss;
pub mod memory;
pub mod miner;
pub mod model;
pub mod pretrained;
pub mod sampler;
pub mod schedule;
mod selection;
pub mod step;

pub use error::TrainError;
pub use job::{TrainJob, Trained, train};

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
