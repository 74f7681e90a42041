//! Retrieval metrics over plain arrays.

pub mod neighbors;
pub mod recall;
