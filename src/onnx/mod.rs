//! ONNX graphs as data: read, build, infer shapes, differentiate, and extend to an attack graph.
//!
//! [`file`] reads and writes, [`proto`] is the format, [`access`] the convenient view of it, [`graph`] builds.

pub mod access;
pub mod file;
pub mod graph;
pub mod proto;

pub use access::Dim;
pub use file::{OnnxError, decode, encode, read, write_atomic};
pub use graph::GraphBuilder;
