//! Training with libtorch (feature `train`).

pub mod device;
#[cfg(test)]
pub(crate) mod formula;
pub mod model;
