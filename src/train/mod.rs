//! Training with libtorch (feature `train`).

pub mod adam;
pub mod loss;
pub mod schedule;
