//! Retrieval metrics over plain arrays.

pub mod kmeans;
pub mod neighbors;
pub mod recall;
