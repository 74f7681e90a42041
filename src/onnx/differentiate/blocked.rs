//! Which forward values ONNX Runtime keeps in its blocked layout (channels in groups of 8 or 16, side by side).
//!
//! Its CPU convolutions read and write that layout, and it survives ReLU, additions, same-shaped products, poolings and
//! batch normalisation. Every other operator forces a reordering before and after it. A backward pass that stays inside
//! pays none, and its gradient sums are fused into the convolutions. Nothing here changes a number's meaning: on another
//! provider, or where the guess is wrong, the graph computes the same.
//!
//! Measured (CPU time of a step ÷ CPU time of the forward pass alone, in turns, one thread, onnxruntime 1.32, AVX-512):
//!
//! | variant | ResNet-50 112² | ResNet-50 224² | ResNet-18 112² | kept |
//! |---|---|---|---|---|
//! | mask `Clip(y·1e38, 0, 1)`, everything else plain | 2.39 | 2.58 | 2.45 | |
//! | mask `HardSigmoid(alpha = 1e38)`: one node for two | 2.36 | 2.51 | 2.45 | for plain values |
//! | mask `Sign`, `Tanh`, `1 − Relu(1 − y·1e38)` | 2.47, 2.41, 2.38 | | | |
//! | mask as depthwise convolution by 1e38, `Clip` fused into it | 2.37 | | | |
//! | the same, and gradients anchored in the blocked layout | 2.29–2.32 | 2.46 | 2.40 | for blocked values |
//! | the same without any mask (wrong: the floor) | 2.23 | 2.26 | 2.44 | |
//! | 7×7 stride 2 as one convolution to 4 phases and `DepthToSpace` | 2.32 | 2.45 | 2.43 | |
//! | also 3×3 stride 2 so | 2.35 | 2.50 | 2.45 | |
//! | also 1×1 stride 2 so | | 2.79 | | |
//! | small images laid side by side for one wide convolution | | | 2.40–2.41 | |
//! | max pool positions from a second node, the forward one untouched | 2.25–2.30 | | 2.42 | yes |
//! | more input channels for each call of the 1×1 kernels (`mlas.nchwc_pointwise…` = 256 to 2048) | no gain | | | |
//!
//! On ResNet-18 at 64² nothing of this is worth more than 3 %: its last convolutions on 2×2 pixels wait for weights, in
//! both directions. What is left of the excess over 2: the positions of the max pool (4–10 % of a step), the masks
//! (3–8 %), and the transposed convolutions of stride 2, which are within a third of the time of blocked ones.

use std::collections::HashSet;

use crate::onnx::proto::NodeProto;
use crate::onnx::shape::{Facts, fixed};

/// A multiple of every block that ONNX Runtime uses: 16 with AVX-512, 8 below.
const BLOCK: usize = 16;

/// Values between the first convolution and the last that are blocked, as far as can be told from outside.
pub(super) fn values(nodes: &[NodeProto], facts: &Facts) -> HashSet<String> {
    let mut blocked: HashSet<String> = HashSet::new();
    for node in nodes.iter().filter(|n| n.is_onnx()) {
        let Some(output) = node.output.first() else { continue };
        let inside = |name: &String| blocked.contains(name);
        let stays = match node.op_type.as_str() {
            "Conv" => conv_is_blocked(node, facts),
            "Relu" | "BatchNormalization" | "AveragePool" | "MaxPool" => node.input.first().is_some_and(inside),
            "Add" | "Mul" | "Sum" => {
                let same = |name: &String| facts.shape(name) == facts.shape(output);
                node.input.iter().all(|name| inside(name) && same(name))
            }
            _ => false,
        };
        if stays && channels(output, facts).is_some() {
            blocked.insert(output.clone());
        }
    }
    // The positions of a max pool are found in the plain layout, so its input is there too.
    for node in nodes.iter().filter(|n| n.op_type == "MaxPool") {
        node.input.first().map(|name| blocked.remove(name));
    }
    blocked
}

/// Channels of a `[n, c, h, w]` value whose sizes are known and whose channels fill whole blocks.
pub(super) fn channels(value: &str, facts: &Facts) -> Option<usize> {
    let [_, rest @ ..] = facts.shape(value)? else { return None };
    let sizes = fixed(rest).filter(|s| s.len() == 3)?;
    sizes[0].is_multiple_of(BLOCK).then_some(sizes[0])
}

/// A 2-D convolution whose weights the runtime can reorder once and for all.
fn conv_is_blocked(node: &NodeProto, facts: &Facts) -> bool {
    let Some(weight) = node.input_name(1).and_then(|w| facts.constant(w)) else { return false };
    let [m, c, _, _] = weight.dims[..] else { return false };
    let group = node.int("group", 1);
    let whole = |n: i64| n % BLOCK as i64 == 0;
    match group {
        1 => c < BLOCK as i64 || whole(c),
        _ if c == 1 => m == group,
        _ => whole(c) && m % group == 0 && whole(m / group),
    }
}
