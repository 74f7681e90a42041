//! Trained weights to ONNX files, with a proof that both compute the same (feature `train`).
//!
//! One file per batch-norm branch: pixels in `[0, 1]` in, unit embedding out, normalisation inside. [`graph`] writes the
//! nodes, [`parity`] compares the file with libtorch on real images, [`card`] keeps the result beside the file.

pub mod card;
pub mod fold;
pub mod graph;
pub mod parity;

pub use card::ArtefactCard;
pub use graph::{ExportError, ExportNotes, export_branch, file_name};
pub use parity::{Parity, ParityError, prove};
