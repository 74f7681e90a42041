//! Passes by running statistics, as many as one likes for one preparation.

use tch::{Kind, TchError, Tensor};

use super::Model;
use super::interpret::Norms;
use super::norms::fold;
use crate::network::Op;
use crate::suite::attack::Branch;

/// Weight and bias of a convolution.
type Kernel = (Tensor, Option<Tensor>);

/// A model as one branch of it answers, norms inside the convolutions.
///
/// Attacks make several passes with the same weights: they are prepared once, and without a graph, so that a gradient
/// towards the images computes none towards the weights. It answers with the numbers that the model had when it was
/// made.
#[derive(Debug)]
pub struct Inference<'a> {
    model: &'a Model,
    pub(super) branch: Branch,
    /// What feature maps are in.
    pub(super) kind: Kind,
    /// One per node that is a convolution.
    kernels: Vec<Option<Kernel>>,
}

impl Model {
    /// Prepares passes through `branch` by its running statistics, which do not move.
    ///
    /// # Errors
    /// libtorch's own; a branch that does not exist.
    pub fn inference(&self, branch: Branch) -> Result<Inference<'_>, TchError> {
        self.prepared(branch, self.kind())
    }

    /// [`Model::inference`] with feature maps in `kind`.
    pub(super) fn prepared(&self, branch: Branch, kind: Kind) -> Result<Inference<'_>, TchError> {
        self.check_branch(branch)?;
        let nodes = 0..self.network.nodes.len();
        let kernels = tch::no_grad(|| nodes.map(|i| self.kernel(i, branch, kind)).collect::<Result<_, TchError>>())?;
        Ok(Inference { model: self, branch, kind, kernels })
    }

    /// What convolution `i` computes with; absent for another node.
    fn kernel(&self, i: usize, branch: Branch, kind: Kind) -> Result<Option<Kernel>, TchError> {
        let Op::Conv { bias, .. } = self.network.nodes[i].op else { return Ok(None) };
        let own = &self.tensors[self.steps[i].parameters.clone()];
        let bias = bias.then(|| &own[1]);
        let norm = self.steps[i].last_user;
        let (weight, bias) = match self.network.nodes[norm].op {
            Op::BatchNorm { epsilon, .. } if self.steps[norm].folded => {
                let norm = &self.tensors[self.steps[norm].parameters.clone()];
                let (weight, bias) = fold(&own[0], bias, norm, branch, epsilon)?;
                (weight, Some(bias))
            }
            _ => (own[0].detach(), bias.map(Tensor::detach)),
        };
        let bias = bias.map(|bias| bias.f_to_kind(kind)).transpose()?;
        Ok(Some((self.lay_out(&weight, kind)?, bias)))
    }
}

impl Inference<'_> {
    /// Embeds a batch of normalised images, with a graph towards them if they want a gradient.
    ///
    /// # Shapes
    /// `normalized`: `[n, 3, h, w]`; the result is `[n, d]` with rows of unit length.
    /// # Errors
    /// libtorch's own: no memory, a batch of another shape.
    pub fn forward(&self, normalized: &Tensor) -> Result<Tensor, TchError> {
        self.model.interpret(normalized, Norms::Inside(self), &mut None)
    }

    /// Weight and bias of convolution `i`.
    pub(super) fn kernel(&self, i: usize) -> Result<(&Tensor, Option<&Tensor>), TchError> {
        let kernel = self.kernels[i].as_ref();
        let (weight, bias) = kernel.ok_or_else(|| TchError::Shape(format!("node {i} is no convolution")))?;
        Ok((weight, bias.as_ref()))
    }
}
