//! The libtorch interpreter of a [`Network`]: parameters, buffers, forward passes.
//!
//! Every trained value is a view into one flat tensor, so that an optimizer is a few kernels over one buffer and its
//! state one tensor per moment. A training pass gives each slice of the batch its own batch-norm branch (`MixBatchNorm`,
//! Xie et al. 2020, arXiv:1911.09665).

mod error;
mod first_values;
mod inference;
mod interpret;
mod layout;
mod norms;
mod plan;
mod product;

use rayon::prelude::*;
use tch::{Device, TchError, Tensor};

use crate::network::weights::{self, Weights};
use crate::network::{Network, ParameterSpec};
use crate::suite::attack::Branch;
use crate::suite::recipe::Precision;

pub use error::ModelError;
use error::check;
use first_values::first_values;
pub use inference::Inference;
use layout::Order;
use plan::{Step, steps};

/// A run of consecutive images of a batch that share one batch-norm branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Whose scale, shift and running statistics.
    pub branch: Branch,
    /// Number of images.
    pub count: i64,
}

/// How batch norm behaves in one forward pass.
#[derive(Debug, Clone, Copy)]
pub enum Pass<'a> {
    /// Each slice is normalised by its own statistics and moves the running statistics of its branch. The slices cover
    /// the batch in order.
    Train(&'a [Slice]),
    /// As [`Pass::Train`] with the running statistics of the branches, which do not move; scale and shift train. Frozen
    /// norms.
    Frozen(&'a [Slice]),
    /// The running statistics of one branch, which do not move.
    Eval(Branch),
}

/// A network with numbers in it.
#[derive(Debug)]
pub struct Model {
    network: Network,
    device: Device,
    specs: Vec<ParameterSpec>,
    /// All trained entries, `[trained_count]`, tensor by tensor in the order of [`Network::parameters`], each in its
    /// [`Order`].
    flat: Tensor,
    /// One tensor per spec, same order: leaf views of `flat`, or buffers of their own.
    tensors: Vec<Tensor>,
    /// One per node.
    steps: Vec<Step>,
    /// Whether convolutions of few pixels are computed as matrix products.
    products: bool,
    mean: Tensor,
    std: Tensor,
    /// What training passes and [`Model::inference`] compute feature maps in.
    precision: Precision,
}

impl Model {
    /// A model with fresh random weights: the same for the same seed on every machine, whatever the order of drawing.
    ///
    /// Linear layers as PyTorch's, convolutions as [`Network::conv_start`] says, batch norms with scale 1 and shift 0 in
    /// every branch, running statistics 0 and 1.
    ///
    /// # Errors
    /// [`ModelError::Torch`] if the device has no room.
    pub fn new(network: &Network, seed: u64, device: Device) -> Result<Self, ModelError> {
        let value = |spec: ParameterSpec| {
            let data = first_values(network, &spec, seed);
            (spec.name, weights::Tensor { shape: spec.shape, data })
        };
        let tensors = network.parameters().into_par_iter().map(value).collect();
        Self::from_weights(network, &Weights { tensors }, device)
    }

    /// A model with these numbers.
    ///
    /// # Errors
    /// [`ModelError`] listing what is missing, too much, or of another shape.
    pub fn from_weights(network: &Network, weights: &Weights, device: Device) -> Result<Self, ModelError> {
        let specs = network.parameters();
        check(&specs, weights)?;
        let data = |spec: &ParameterSpec| weights.tensors[&spec.name].data.as_slice();
        let value = |spec: &ParameterSpec| Tensor::f_from_slice(data(spec))?.f_view(layout::shape(spec).as_slice());
        let trained = specs.iter().filter(|spec| spec.kind.is_trained());
        let pieces = trained.map(|spec| Order::of(spec, device).entries(&value(spec)?));
        let flat = Tensor::f_cat(&pieces.collect::<Result<Vec<_>, _>>()?, 0)?.f_to_device(device)?;
        let mut offset = 0;
        let mut tensors = Vec::with_capacity(specs.len());
        for spec in &specs {
            tensors.push(if spec.kind.is_trained() {
                let count = spec.count() as i64;
                // `detach` keeps the storage (and its version counter) but makes a leaf of its own.
                let leaf = Order::of(spec, device).view(&flat.f_narrow(0, offset, count)?, spec)?.f_detach()?;
                offset += count;
                leaf.f_set_requires_grad(true)?
            } else {
                value(spec)?.f_to_device(device)?
            });
        }
        let channel = |v: &[f32; 3]| Tensor::f_from_slice(v)?.f_view([1, 3, 1, 1])?.f_to_device(device);
        let (mean, std) = (channel(&network.mean)?, channel(&network.std)?);
        let steps = steps(network, &specs);
        Ok(Self {
            network: network.clone(),
            device,
            specs,
            flat,
            tensors,
            steps,
            products: product::pays(device),
            mean,
            std,
            precision: Precision::Float32,
        })
    }

    /// The same model, whose training passes and [`Model::inference`] compute feature maps in `precision`. Parameters,
    /// running statistics, the head and gradients stay float32, and so does [`Pass::Eval`], which judges a model by what
    /// its exported file will answer.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The network it interprets.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        self.device
    }

    /// `(pixels − mean) / std`.
    ///
    /// # Shapes
    /// `pixels`: `[n, 3, h, w]` in `[0, 1]`; so is the result.
    /// # Panics
    /// If libtorch fails (no memory) or the shape is another.
    pub fn normalize(&self, pixels: &Tensor) -> Tensor {
        (pixels - &self.mean) / &self.std
    }

    /// Embeds a batch of normalised images.
    ///
    /// # Shapes
    /// `normalized`: `[n, 3, h, w]`; the result is `[n, d]` with rows of unit length.
    /// # Panics
    /// As [`Model::try_forward`] fails.
    pub fn forward(&self, normalized: &Tensor, pass: Pass<'_>) -> Tensor {
        self.try_forward(normalized, pass).expect("libtorch accepts batches of the documented shape and has memory")
    }

    /// [`Model::forward`] for callers that can do something about a failure.
    ///
    /// # Errors
    /// libtorch's own: no memory, a batch of another shape, slices that do not cover it, a branch that does not exist.
    pub fn try_forward(&self, normalized: &Tensor, pass: Pass<'_>) -> Result<Tensor, TchError> {
        self.run(normalized, pass, &mut None)
    }

    /// [`Model::try_forward`], and the last feature map `[n, c, h, w]`, which the global pooling reads.
    ///
    /// # Errors
    /// As [`Model::try_forward`].
    pub fn forward_with_features(&self, normalized: &Tensor, pass: Pass<'_>) -> Result<(Tensor, Tensor), TchError> {
        let mut features = Some(Tensor::new());
        let embeddings = self.run(normalized, pass, &mut features)?;
        let features = features.filter(Tensor::defined);
        Ok((embeddings, features.ok_or_else(|| TchError::Shape("the network pools no feature map".into()))?))
    }

    /// Trained tensors in network order: leaves that want gradients.
    pub fn parameters(&self) -> Vec<(&str, &Tensor)> {
        self.select(true)
    }

    /// Running statistics in network order.
    pub fn buffers(&self) -> Vec<(&str, &Tensor)> {
        self.select(false)
    }

    /// One number per entry of [`Model::flat_parameters`], `[trained_count]` on the model's device, the same for all
    /// entries of a tensor.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn per_parameter(&self, value: impl Fn(&ParameterSpec) -> f32) -> Result<Tensor, TchError> {
        let values: Vec<f32> = self.trained().flat_map(|spec| std::iter::repeat_n(value(spec), spec.count())).collect();
        Tensor::f_from_slice(&values)?.f_to_device(self.device)
    }

    /// What is trained, in network order.
    fn trained(&self) -> impl Iterator<Item = &ParameterSpec> + Clone {
        self.specs.iter().filter(|spec| spec.kind.is_trained())
    }

    fn select(&self, trained: bool) -> Vec<(&str, &Tensor)> {
        let pairs = self.specs.iter().zip(&self.tensors);
        pairs.filter(|(s, _)| s.kind.is_trained() == trained).map(|(s, t)| (s.name.as_str(), t)).collect()
    }

    /// The one buffer behind all trained tensors, `[trained_count]`, in their order; the entries of one lie as is best on
    /// its device ([`Model::to_file_order`]). It wants no gradient itself; change it in place (under `tch::no_grad`) and
    /// every parameter has changed.
    pub fn flat_parameters(&self) -> &Tensor {
        &self.flat
    }

    /// The gradient of a scalar with respect to [`Model::flat_parameters`], entry by entry in consecutive pieces, and to one more leaf;
    /// zero where the scalar does not depend on a parameter (a branch that no slice used). Consumes the graph; fills no
    /// `grad` field.
    ///
    /// # Errors
    /// libtorch's own: no graph, no memory.
    pub fn gradient(&self, loss: &Tensor, other: Option<&Tensor>) -> Result<(Vec<Tensor>, Option<Tensor>), TchError> {
        let mut leaves: Vec<&Tensor> = self.parameters().into_iter().map(|(_, tensor)| tensor).collect();
        let own = leaves.len();
        leaves.extend(other);
        let gradients = Tensor::f_run_backward(&[loss], &leaves, false, false)?;
        let orders = self.trained().map(|spec| Order::of(spec, self.device)).chain([Order::Plain]);
        let pieces = gradients.iter().zip(&leaves).zip(orders).map(|((gradient, leaf), order)| {
            if gradient.defined() { order.entries(gradient) } else { leaf.detach().f_zeros_like()?.f_reshape([-1]) }
        });
        let mut pieces = pieces.collect::<Result<Vec<_>, _>>()?;
        let other = (pieces.len() > own).then(|| pieces.pop()).flatten();
        Ok((pieces, other))
    }

    /// A copy of all numbers on the host.
    ///
    /// # Panics
    /// If libtorch cannot copy from the device.
    pub fn to_weights(&self) -> Weights {
        let read = |(spec, tensor): (&ParameterSpec, &Tensor)| {
            let flat = tensor.detach().to_device(Device::Cpu).contiguous().view([-1]);
            let mut data = vec![0f32; spec.count()];
            flat.copy_data(&mut data, spec.count());
            (spec.name.clone(), weights::Tensor { shape: spec.shape.clone(), data })
        };
        Weights { tensors: self.specs.iter().zip(&self.tensors).map(read).collect() }
    }

    /// Replaces all numbers. Nothing changes on an error.
    ///
    /// # Errors
    /// [`ModelError`] listing what is missing, too much, or of another shape.
    pub fn load_weights(&mut self, weights: &Weights) -> Result<(), ModelError> {
        check(&self.specs, weights)?;
        tch::no_grad(|| {
            for (spec, tensor) in self.specs.iter().zip(&self.tensors) {
                let source = &weights.tensors[&spec.name];
                let shape: Vec<i64> = source.shape.iter().map(|&s| s as i64).collect();
                tensor.detach().f_copy_(&Tensor::f_from_slice(&source.data)?.f_view(shape.as_slice())?)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
