//! Trained weights to ONNX files, with a proof that both compute the same (feature `train`).
//!
//! One file per batch-norm branch: pixels in `[0, 1]` in, unit embedding out, normalisation inside. [`graph`] writes the
//! nodes, [`parity`] compares the file with libtorch on real images; the result goes into the artefact's card.

pub mod fold;
pub mod graph;
pub mod parity;

pub use graph::{ExportError, ExportNotes, export_branch, file_name};
pub use parity::{ParityError, prove};
