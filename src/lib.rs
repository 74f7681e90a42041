//! mdprop: how well does an embedding model retrieve, clean and under attack, and is model B better than model A?
//!
//! Layers, arrows only downward (a test enforces it): `cmd` → `run`, `report` → `attack`, `train`, `export` →
//! `encoder`, `dataset`, `score` → `onnx`, `network`, `suite`, `record` → `metric`, `stats` → `units`, `batch`, `digest`,
//! `rng`, `artefact`, `progress`, `resample`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod artefact;
pub mod attack;
pub mod batch;
pub mod cli;
pub mod cmd;
pub mod dataset;
pub mod digest;
pub mod drift;
pub mod encoder;
#[cfg(feature = "train")]
pub mod export;
pub mod metric;
pub mod network;
pub mod onnx;
pub mod progress;
pub mod record;
pub mod report;
pub mod resample;
pub mod rng;
pub mod run;
pub mod score;
pub mod stats;
pub mod suite;
#[cfg(feature = "train")]
pub mod train;
pub mod units;
