//! A small plain network for small images: blocks of convolution, batch norm, pooling and ReLU.

use super::build::{Chain, NetworkError};
use super::{INPUT, Node, Op};

/// `block1` … `blockN`, the head `embed`. Every block but the last halves the image; the global average pool follows.
pub(super) fn nodes(widths: &[usize], embedding_dim: usize) -> Result<Vec<Node>, NetworkError> {
    let Some(&last) = widths.last() else {
        return Err(NetworkError::NoBlocks);
    };
    if let Some(position) = widths.iter().position(|&width| width == 0) {
        return Err(NetworkError::ZeroWidth(position));
    }
    let mut chain = Chain::new();
    let (mut from, mut input) = (INPUT, 3);
    for (i, &width) in widths.iter().enumerate() {
        let block = i + 1;
        let names = [format!("block{block}.conv"), format!("block{block}.bn")];
        from = chain.conv_norm(names, from, [input, width], 3, 1);
        // The maximum and the rectifier commute, exactly: pooling first leaves a quarter of the values to rectify.
        if block < widths.len() {
            let op = Op::MaxPool { kernel: 2, stride: 2, padding: 0 };
            from = chain.push(format!("block{block}.pool"), op, vec![from]);
        }
        from = chain.relu(format!("block{block}.relu"), from);
        input = width;
    }
    Ok(chain.finish("embed", last, embedding_dim))
}
