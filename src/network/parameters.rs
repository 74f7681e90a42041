//! Every tensor a network owns, by name, in evaluation order.

use super::{Network, Op, branch_parameter};
use crate::suite::attack::Branch;

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// Kernel of a convolution or matrix of a linear layer.
    Weight,
    /// Added by a convolution or a linear layer.
    Bias,
    /// Scale of a batch norm, γ.
    Scale,
    /// Shift of a batch norm, β.
    Shift,
    /// Running mean of a batch norm; not trained.
    RunningMean,
    /// Running (unbiased) variance of a batch norm; not trained.
    RunningVar,
}

impl ParameterKind {
    /// Whether the optimizer moves it.
    pub fn is_trained(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVar)
    }
}

/// One named tensor of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Its name in a weights file: torchvision's, with `.auxN` inside for auxiliary branches.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What it is for.
    pub kind: ParameterKind,
    /// The batch-norm branch it belongs to; `None` for what all branches share.
    pub branch: Option<Branch>,
    /// Position of its node in [`Network::nodes`].
    pub node: usize,
}

impl ParameterSpec {
    /// Number of entries.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Network {
    /// All tensors in evaluation order; a batch norm lists main first, each branch as scale, shift, mean, variance.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        let branches = self.branches();
        let mut list = Vec::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let mut push = |parameter: &str, shape: Vec<usize>, kind, branch: Option<Branch>| {
                let name = branch_parameter(&node.name, branch.unwrap_or(Branch::Main), parameter);
                list.push(ParameterSpec { name, shape, kind, branch, node: i });
            };
            match node.op {
                Op::Conv { input, output, kernel, bias, .. } => {
                    push("weight", vec![output, input, kernel, kernel], ParameterKind::Weight, None);
                    if bias {
                        push("bias", vec![output], ParameterKind::Bias, None);
                    }
                }
                Op::Linear { input, output } => {
                    push("weight", vec![output, input], ParameterKind::Weight, None);
                    push("bias", vec![output], ParameterKind::Bias, None);
                }
                Op::BatchNorm { channels, .. } => {
                    for &branch in &branches {
                        push("weight", vec![channels], ParameterKind::Scale, Some(branch));
                        push("bias", vec![channels], ParameterKind::Shift, Some(branch));
                        push("running_mean", vec![channels], ParameterKind::RunningMean, Some(branch));
                        push("running_var", vec![channels], ParameterKind::RunningVar, Some(branch));
                    }
                }
                Op::Input | Op::Relu | Op::MaxPool { .. } | Op::Add | Op::GlobalAveragePool | Op::Normalize => {}
            }
        }
        list
    }

    /// Number of trained entries over all branches.
    pub fn trained_count(&self) -> usize {
        self.parameters().iter().filter(|p| p.kind.is_trained()).map(ParameterSpec::count).sum()
    }
}
