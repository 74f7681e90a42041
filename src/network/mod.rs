//! A network as plain data: a list of nodes in evaluation order, with parameter names.
//!
//! Two interpreters read it: `train/` runs it with libtorch, `export/` writes it as ONNX nodes. Their agreement is tested
//! and proven again at every export. Names are torchvision's, so pretrained files load without a translation table.

mod build;
mod convnet;
mod parameters;
pub mod pretrained;
mod resnet;
mod shapes;
#[cfg(test)]
mod tests;
pub mod weights;

use serde::{Deserialize, Serialize};

use crate::suite::attack::Branch;

pub use build::{NetworkError, build};
pub use parameters::{ParameterKind, ParameterSpec};

/// A position in [`Network::nodes`]; [`INPUT`] is the normalised image.
pub type NodeId = usize;

/// What one node computes. All tensors are `[n, c, h, w]` until [`Op::GlobalAveragePool`], then `[n, c]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// The image after `(x − mean) / std`. Always node 0.
    Input,
    /// 2-D convolution, square kernel, weight `[out, in, kernel, kernel]`.
    Conv {
        /// Input channels.
        input: usize,
        /// Output channels.
        output: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Stride in both directions.
        stride: usize,
        /// Zero padding on every side.
        padding: usize,
        /// Whether there is a bias `[out]`.
        bias: bool,
    },
    /// Batch norm with one set of scale, shift and running statistics per branch (`MixBatchNorm`).
    BatchNorm {
        /// Channels.
        channels: usize,
        /// Added to the variance (1e-5 in torchvision).
        epsilon: f64,
        /// Share of the new batch in the running statistics (0.1 in torchvision).
        momentum: f64,
    },
    /// `max(x, 0)`.
    Relu,
    /// Max pooling, padding never wins.
    MaxPool {
        /// Side of the window.
        kernel: usize,
        /// Stride.
        stride: usize,
        /// Padding on every side.
        padding: usize,
    },
    /// Sum of two tensors of equal shape.
    Add,
    /// Mean over height and width: `[n, c, h, w]` to `[n, c]`.
    GlobalAveragePool,
    /// `x · Wᵀ + b`, weight `[out, in]`.
    Linear {
        /// Input entries.
        input: usize,
        /// Output entries.
        output: usize,
    },
    /// Rows scaled to unit L2 norm, `x / max(‖x‖, 1e-12)`.
    Normalize,
}

/// Position of the input node.
pub const INPUT: NodeId = 0;

/// One step of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Prefix of its parameters (`layer1.0.conv1`); also its name in the ONNX file. Unique.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Where its inputs come from, all earlier in the list.
    pub inputs: Vec<NodeId>,
}

/// How the weights of convolutions begin when nothing is loaded. Linear layers begin as in PyTorch in either case, batch
/// norms with scale 1 and shift 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConvStart {
    /// PyTorch's `Conv2d`: uniform in `±1/√fan_in`.
    UniformFanIn,
    /// torchvision's ResNets: normal with variance `2/fan_out`. He et al. 2015, arXiv:1502.01852.
    NormalFanOut,
}

/// A whole embedding network. The last node is the embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Steps in evaluation order; node 0 is [`Op::Input`], the last one the embedding.
    pub nodes: Vec<Node>,
    /// Number of auxiliary batch-norm branches beside the main one.
    pub auxiliary_branches: u8,
    /// Per-channel mean of the normalisation, in pixel units.
    pub mean: [f32; 3],
    /// Per-channel standard deviation of the normalisation, in pixel units.
    pub std: [f32; 3],
    /// Entries of the embedding.
    pub embedding_dim: usize,
    /// How its convolutions begin.
    pub conv_start: ConvStart,
}

impl Network {
    /// Main, then every auxiliary branch.
    pub fn branches(&self) -> Vec<Branch> {
        std::iter::once(Branch::Main).chain((1..=self.auxiliary_branches).map(Branch::Aux)).collect()
    }

    /// Channels of the feature map that the global pooling reads; absent without one.
    pub fn pooled_channels(&self) -> Option<usize> {
        let pool = self.nodes.iter().position(|node| node.op == Op::GlobalAveragePool)?;
        self.nodes.iter().filter(|node| node.inputs.contains(&pool)).find_map(|node| match node.op {
            Op::Linear { input, .. } => Some(input),
            _ => None,
        })
    }
}

/// Name of a batch norm's parameter in one branch: `bn1.weight` for main, `bn1.aux1.weight` for the first auxiliary.
pub fn branch_parameter(node: &str, branch: Branch, parameter: &str) -> String {
    match branch {
        Branch::Main => format!("{node}.{parameter}"),
        Branch::Aux(n) => format!("{node}.aux{n}.{parameter}"),
    }
}
