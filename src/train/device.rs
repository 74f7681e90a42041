//! Which device libtorch computes on.
