//! From a recipe's backbone to a [`Network`]: the checks, and what both families share.

use super::{ConvStart, INPUT, Network, Node, NodeId, Op, convnet, resnet};
use crate::suite::recipe::BackboneSpec;

/// Why a network cannot be built or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// A ResNet that does not exist.
    #[error("backbone.resnet: depth {0} is unknown; the published depths are 18, 34, 50, 101 and 152")]
    Depth(u32),
    /// A convnet without blocks.
    #[error("backbone.convnet: widths is empty; list the output channels of each block, such as [32, 64, 128]")]
    NoBlocks,
    /// A block without channels.
    #[error("backbone.convnet: widths[{0}] is 0; a block needs at least one channel")]
    ZeroWidth(usize),
    /// An embedding without entries.
    #[error("embedding_dim is 0; an embedding needs at least one entry")]
    ZeroEmbedding,
    /// An image that shrinks to nothing on its way.
    #[error(
        "node `{node}`: an image of {height}x{width} pixels has shrunk to {} x {} here, less than the window of {kernel}; \
         use larger images or fewer blocks",
        got[0], got[1]
    )]
    ImageTooSmall {
        /// Where.
        node: String,
        /// Height of the image.
        height: usize,
        /// Width of the image.
        width: usize,
        /// Height and width that arrive at the node, padding included.
        got: [usize; 2],
        /// Side of the node's window.
        kernel: usize,
    },
}

/// ImageNet's per-channel mean, the normalisation of every backbone here (PAPER.md section 1).
pub(super) const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's per-channel standard deviation.
pub(super) const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Builds the network of a recipe: backbone, global average pool, linear head, L2 normalisation.
///
/// # Errors
/// [`NetworkError`] for a depth that does not exist, no blocks, or a size of zero.
pub fn build(backbone: &BackboneSpec, embedding_dim: usize, auxiliary_branches: u8) -> Result<Network, NetworkError> {
    if embedding_dim == 0 {
        return Err(NetworkError::ZeroEmbedding);
    }
    let (nodes, conv_start) = match backbone {
        BackboneSpec::Convnet { widths } => (convnet::nodes(widths, embedding_dim)?, ConvStart::UniformFanIn),
        BackboneSpec::Resnet { depth, stride_in } => {
            (resnet::nodes(*depth, *stride_in, embedding_dim)?, ConvStart::NormalFanOut)
        }
    };
    Ok(Network { nodes, auxiliary_branches, mean: MEAN, std: STD, embedding_dim, conv_start })
}

/// A list of nodes that grows at its end.
pub(super) struct Chain {
    nodes: Vec<Node>,
}

impl Chain {
    /// Only the input.
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node { name: "input".into(), op: Op::Input, inputs: vec![] }] }
    }

    /// Position of the newest node.
    pub(super) fn last(&self) -> NodeId {
        self.nodes.len() - 1 + INPUT
    }

    /// Adds a node with these inputs.
    pub(super) fn push(&mut self, name: impl Into<String>, op: Op, inputs: Vec<NodeId>) -> NodeId {
        self.nodes.push(Node { name: name.into(), op, inputs });
        self.last()
    }

    /// A bias-free convolution with "same" padding, then its batch norm (1e-5 and 0.1 as in torchvision).
    pub(super) fn conv_norm(
        &mut self,
        names: [String; 2],
        from: NodeId,
        [input, output]: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> NodeId {
        let [conv, norm] = names;
        let op = Op::Conv { input, output, kernel, stride, padding: kernel / 2, bias: false };
        let from = self.push(conv, op, vec![from]);
        self.push(norm, Op::BatchNorm { channels: output, epsilon: 1e-5, momentum: 0.1 }, vec![from])
    }

    /// `max(x, 0)` of one node.
    pub(super) fn relu(&mut self, name: String, from: NodeId) -> NodeId {
        self.push(name, Op::Relu, vec![from])
    }

    /// Pool, linear head of this name, unit length; and the finished list.
    pub(super) fn finish(mut self, head: &str, channels: usize, embedding_dim: usize) -> Vec<Node> {
        let from = self.push("avgpool", Op::GlobalAveragePool, vec![self.last()]);
        let from = self.push(head, Op::Linear { input: channels, output: embedding_dim }, vec![from]);
        self.push("normalize", Op::Normalize, vec![from]);
        self.nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::recipe::StrideIn;

    #[test]
    fn impossible_backbones_are_refused_with_the_way_out() {
        let convnet = |widths: &[usize]| BackboneSpec::Convnet { widths: widths.to_vec() };
        let resnet = |depth| BackboneSpec::Resnet { depth, stride_in: StrideIn::Conv2 };
        for (backbone, dim, wanted) in [
            (resnet(77), 8, "18, 34, 50, 101 and 152"),
            (convnet(&[]), 8, "widths is empty"),
            (convnet(&[4, 0]), 8, "widths[1] is 0"),
            (resnet(18), 0, "embedding_dim is 0"),
        ] {
            let error = build(&backbone, dim, 0).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn names_are_unique_and_inputs_come_first() {
        for depth in [18, 34, 50, 101, 152] {
            let network = build(&BackboneSpec::Resnet { depth, stride_in: StrideIn::Conv2 }, 8, 1).unwrap();
            let names: std::collections::BTreeSet<_> = network.nodes.iter().map(|n| &n.name).collect();
            assert_eq!(names.len(), network.nodes.len());
            for (i, node) in network.nodes.iter().enumerate() {
                assert!(node.inputs.iter().all(|&input| input < i), "{}", node.name);
            }
        }
    }
}
