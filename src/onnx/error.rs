//! Why a file or a graph cannot be used.

use std::path::PathBuf;

use super::external::ExternalFault;
use super::validate::Fault;
use crate::artefact::WriteError;

/// Why a file or a graph cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file cannot be read.
    #[error("{}: cannot read the model: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are no protobuf message of this kind, or stop in the middle of one.
    #[error(
        "{}: not an ONNX file, or a truncated one ({bytes} bytes: {reason}); export or copy it again", path.display()
    )]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: usize,
        /// What the decoder said.
        reason: String,
    },
    /// A graph without nodes.
    #[error("{}: the graph has no nodes; this is no model", path.display())]
    EmptyGraph {
        /// The file.
        path: PathBuf,
    },
    /// The file is ONNX, but no graph that could run.
    #[error("{}: {fault}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Box<Fault>,
    },
    /// As [`OnnxError::Invalid`], for a model that is in memory only.
    #[error(transparent)]
    Fault(Box<Fault>),
    /// Weights in a second file that cannot be read.
    #[error("{}: tensor `{tensor}` is in the file `{location}`, which cannot be used: {fault}", path.display())]
    ExternalData {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The second file, as written in the first.
        location: String,
        /// Why not.
        fault: Box<ExternalFault>,
    },
    /// More than a protobuf message can hold, although the large weights are kept outside.
    #[error(
        "the graph without its large weights still has {bytes} bytes, and a protobuf message can hold {limit}; \
         export the constants inside nodes as initialisers"
    )]
    TooLarge {
        /// Size.
        bytes: usize,
        /// What fits.
        limit: usize,
    },
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An operator without a gradient rule.
    #[error("node `{node}` ({op}) has no gradient rule")]
    NoRule {
        /// Node name.
        node: String,
        /// Operator.
        op: String,
    },
    /// A node that is not as its operator demands, or a use of it that the rules do not cover.
    #[error("node `{node}` ({op}): {reason}")]
    Node {
        /// Node name.
        node: String,
        /// Operator.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// The graph as a whole does not fit its use.
    #[error("{0}")]
    Graph(String),
}

impl From<Fault> for OnnxError {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}
