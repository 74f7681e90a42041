//! mdprop: how well does an embedding model retrieve, clean and under attack, and is model B better than model A?
//!
//! Layers, arrows only downward (a test enforces it): `cmd` → `run`, `report` → `attack`, `train`, `export` →
//! `encoder`, `dataset` → `onnx`, `network`, `suite`, `record` → `metric`, `stats` → `units`, `batch`, `digest`, `rng`,
//! `artefact`, `progress`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod artefact;
pub mod batch;
pub mod dataset;
pub mod digest;
pub mod encoder;
pub mod network;
pub mod progress;
pub mod record;
pub mod rng;
pub mod suite;
pub mod units;
