//! Batch norms of several branches in one pass, and inside the convolution before them.

use tch::{TchError, Tensor};

use super::Slice;
use crate::suite::attack::Branch;

/// Scale, shift, mean and variance of a branch, from those of all branches of a norm.
fn of_branch(own: &[Tensor], branch: Branch) -> [&Tensor; 4] {
    // The order of `Network::parameters`: main, then the auxiliary branches.
    let position = match branch {
        Branch::Main => 0,
        Branch::Aux(n) => usize::from(n),
    };
    [0, 1, 2, 3].map(|k| &own[4 * position + k])
}

/// Weight and bias of a convolution with the inference batch norm behind it inside: two passes over the activations less,
/// forward and backward. Attacks during training are made of nothing else.
pub(super) fn fold(
    weight: &Tensor,
    bias: Option<&Tensor>,
    norm: &[Tensor],
    branch: Branch,
    epsilon: f64,
) -> Result<(Tensor, Tensor), TchError> {
    let [scale, shift, mean, var] = of_branch(norm, branch);
    let factor = scale.f_div(&var.f_add_scalar(epsilon)?.f_sqrt()?)?;
    let centre = match bias {
        Some(bias) => mean.f_sub(bias)?,
        None => mean.shallow_clone(),
    };
    let bias = shift.f_sub(&centre.f_mul(&factor)?)?;
    Ok((weight.f_mul(&factor.f_reshape([-1, 1, 1, 1])?)?, bias))
}

/// One batch norm, each slice by its branch: with its own statistics, which move the running ones, or (not `train`) with
/// the running ones.
///
/// Only the norms see slices; convolutions run on the whole batch. Running the whole network slice by slice was slower
/// (1.4 times on ResNet-18 at 64 px), and joining the slices again behind each norm costs nothing that could be measured.
pub(super) fn sliced(
    x: &Tensor,
    own: &[Tensor],
    slices: &[Slice],
    train: bool,
    [epsilon, momentum]: [f64; 2],
) -> Result<Tensor, TchError> {
    let normalize = |x: &Tensor, slice: &Slice| {
        let [scale, shift, mean, var] = of_branch(own, slice.branch).map(Some);
        x.f_batch_norm(scale, shift, mean, var, train, momentum, epsilon, true)
    };
    if let [slice] = slices {
        return normalize(x, slice);
    }
    // A split, whose backward pass is one joining; that of a slice is a batch of zeros with the slice in it.
    let counts: Vec<i64> = slices.iter().map(|slice| slice.count).collect();
    let parts = x.f_split_with_sizes(&counts, 0)?;
    let parts: Vec<Tensor> =
        parts.iter().zip(slices).map(|(x, slice)| normalize(x, slice)).collect::<Result<_, _>>()?;
    Tensor::f_cat(&parts, 0)
}
