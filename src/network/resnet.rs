//! ResNet-18, 34, 50, 101 and 152 with torchvision's parameter names. He et al. 2016, arXiv:1512.03385, table 1.
//!
//! The classifier `fc` is replaced by our head `embedding`, so that a classifier's weights are never mistaken for it.

use super::build::{Chain, NetworkError};
use super::{INPUT, Node, NodeId, Op};
use crate::suite::recipe::StrideIn;

/// The residual branch of one block.
#[derive(Clone, Copy, PartialEq)]
enum Block {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3, and 1×1 to four times the width.
    Bottleneck,
}

/// All nodes, in torchvision's order of evaluation.
pub(super) fn nodes(depth: u32, stride_in: StrideIn, embedding_dim: usize) -> Result<Vec<Node>, NetworkError> {
    let (block, layers) = match depth {
        18 => (Block::Basic, [2, 2, 2, 2]),
        34 => (Block::Basic, [3, 4, 6, 3]),
        50 => (Block::Bottleneck, [3, 4, 6, 3]),
        101 => (Block::Bottleneck, [3, 4, 23, 3]),
        152 => (Block::Bottleneck, [3, 8, 36, 3]),
        other => return Err(NetworkError::Depth(other)),
    };
    let expansion = if block == Block::Bottleneck { 4 } else { 1 };
    let mut chain = Chain::new();
    let from = chain.conv_norm(["conv1".into(), "bn1".into()], INPUT, [3, 64], 7, 2);
    let from = chain.relu("relu".into(), from);
    let mut from = chain.push("maxpool", Op::MaxPool { kernel: 3, stride: 2, padding: 1 }, vec![from]);
    let mut input = 64;
    for (layer, &blocks) in layers.iter().enumerate() {
        let width = 64 << layer;
        for i in 0..blocks {
            let stride = if i == 0 && layer > 0 { 2 } else { 1 };
            let prefix = format!("layer{}.{i}", layer + 1);
            let output = width * expansion;
            let main = match block {
                Block::Basic => basic(&mut chain, &prefix, from, [input, width], stride),
                Block::Bottleneck => bottleneck(&mut chain, &prefix, from, [input, width], stride, stride_in),
            };
            let shortcut = if stride == 1 && input == output {
                from
            } else {
                let names = [format!("{prefix}.downsample.0"), format!("{prefix}.downsample.1")];
                chain.conv_norm(names, from, [input, output], 1, stride)
            };
            let sum = chain.push(format!("{prefix}.add"), Op::Add, vec![main, shortcut]);
            from = chain.relu(format!("{prefix}.relu"), sum);
            input = output;
        }
    }
    Ok(chain.finish("embedding", input, embedding_dim))
}

fn names(prefix: &str, i: usize) -> [String; 2] {
    [format!("{prefix}.conv{i}"), format!("{prefix}.bn{i}")]
}

fn basic(chain: &mut Chain, prefix: &str, from: NodeId, [input, width]: [usize; 2], stride: usize) -> NodeId {
    let from = chain.conv_norm(names(prefix, 1), from, [input, width], 3, stride);
    let from = chain.relu(format!("{prefix}.relu1"), from);
    chain.conv_norm(names(prefix, 2), from, [width, width], 3, 1)
}

fn bottleneck(
    chain: &mut Chain,
    prefix: &str,
    from: NodeId,
    [input, width]: [usize; 2],
    stride: usize,
    stride_in: StrideIn,
) -> NodeId {
    let (first, second) = match stride_in {
        StrideIn::Conv1 => (stride, 1),
        StrideIn::Conv2 => (1, stride),
    };
    let from = chain.conv_norm(names(prefix, 1), from, [input, width], 1, first);
    let from = chain.relu(format!("{prefix}.relu1"), from);
    let from = chain.conv_norm(names(prefix, 2), from, [width, width], 3, second);
    let from = chain.relu(format!("{prefix}.relu2"), from);
    chain.conv_norm(names(prefix, 3), from, [width, width * 4], 1, 1)
}
