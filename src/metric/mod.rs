//! Retrieval metrics over plain arrays. `docs/metrics.md`, made from [`kind::Metric`], has all of them side by side.

pub mod about;
pub mod breakdown;
pub mod clustering;
pub mod directions;
pub mod eigenvalue;
pub mod ers;
pub mod groups;
pub mod hubness;
pub mod kind;
pub mod kmeans;
pub mod neighbors;
pub mod projection;
pub mod ranking;
pub mod recall;
pub mod robustness;
pub mod spectrum;
pub mod uniformity;
