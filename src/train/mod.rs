//! Training with libtorch (feature `train`).
