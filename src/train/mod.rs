//! Training with libtorch (feature `train`).

pub mod device;
pub mod model;
