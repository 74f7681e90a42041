//! ONNX graphs as data: read, build, infer shapes, differentiate, and extend to an attack graph.
//!
//! [`mod@file`] reads and writes, [`proto`] is the format, [`access`] the convenient view of it, [`graph`] builds,
//! [`opset`] lifts old files, [`inline`] writes out functions and branches, [`mod@shape`] knows sizes and constant parts,
//! [`differentiate`] appends the backward pass, [`loss_head`] and [`attack_graph`] the loss and the step, [`interpret`] is the slow
//! float64 reference that the fast path is compared with.

pub mod access;
pub mod attack_graph;
pub mod compact;
pub mod describe;
pub mod differentiate;
pub mod element;
pub mod equation;
pub mod error;
pub mod external;
pub mod file;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod graph;
pub mod inline;
pub mod interpret;
pub mod loss_head;
pub mod opset;
pub mod promote;
pub mod proto;
pub mod prune;
pub mod resize;
pub mod shape;
pub mod split;
mod tensor;
pub mod validate;
pub mod visit;
pub mod window;
pub mod wire;
pub mod wrap;

pub use access::Dim;
pub use attack_graph::{AttackGraph, AttackGraphOptions, Signature};
pub use file::{OnnxError, decode, encode, read, write_atomic};
pub use graph::GraphBuilder;
pub use loss_head::{LossDistance, LossHead};
