//! The libtorch interpreter of a [`Network`]: parameters, buffers, forward passes.
//!
//! Every trained value is a view into one flat tensor, so that an optimizer is a few kernels over one buffer and its
//! state one tensor per moment. A training pass gives each slice of the batch its own batch-norm branch (`MixBatchNorm`,
//! Xie et al. 2020, arXiv:1911.09665).

mod first_values;
mod inference;
mod layout;
mod norms;
mod plan;
mod product;

use std::collections::BTreeSet;

use rayon::prelude::*;
use tch::{Device, Kind, TchError, Tensor};

use crate::network::weights::{self, Weights};
use crate::network::{Network, Op, ParameterSpec};
use crate::suite::attack::Branch;
use crate::suite::recipe::Precision;

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

/// Why a model cannot be made or filled.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Tensors that the network needs are absent.
    #[error("weights lack {}; they belong to another network", quoted(.0))]
    Missing(Vec<String>),
    /// Tensors that the network does not have.
    #[error("weights hold {}, which the network does not have; they belong to another network", quoted(.0))]
    Unexpected(Vec<String>),
    /// A tensor of another shape.
    #[error("weights: `{name}` has shape {got:?}, wanted {wanted:?}; they belong to another network")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        got: Vec<usize>,
        /// The network's.
        wanted: Vec<usize>,
    },
    /// libtorch failed.
    #[error("libtorch failed")]
    Torch(#[from] TchError),
}

/// The first few names in backquotes, and how many more.
fn quoted(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
    let rest = names.len().saturating_sub(5);
    if rest > 0 { format!("{} and {rest} more", shown.join(", ")) } else { shown.join(", ") }
}

/// Where the norms of a pass come from.
#[derive(Clone, Copy)]
enum Norms<'a> {
    /// Their own nodes, slice by slice.
    Own { slices: &'a [Slice], train: bool },
    /// They are inside the convolutions.
    Inside(&'a Inference<'a>),
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

    /// `features` is filled with the last feature map if it is not `None`.
    fn run(&self, normalized: &Tensor, pass: Pass<'_>, features: &mut Option<Tensor>) -> Result<Tensor, TchError> {
        match pass {
            Pass::Eval(branch) => {
                let judged = self.prepared(branch, Kind::Float)?;
                self.interpret(normalized, Norms::Inside(&judged), features)
            }
            Pass::Train(slices) | Pass::Frozen(slices) => {
                self.check_slices(normalized, slices)?;
                let train = matches!(pass, Pass::Train(_));
                self.interpret(normalized, Norms::Own { slices, train }, features)
            }
        }
    }

    fn interpret(
        &self,
        normalized: &Tensor,
        norms: Norms<'_>,
        features: &mut Option<Tensor>,
    ) -> Result<Tensor, TchError> {
        let kind = match norms {
            Norms::Own { .. } => self.kind(),
            Norms::Inside(inference) => inference.kind,
        };
        let mut outputs: Vec<Option<Tensor>> = Vec::with_capacity(self.network.nodes.len());
        // Products and what passes them on: overwriting a view makes autograd copy all of it.
        let mut views = vec![false; self.network.nodes.len()];
        for (i, node) in self.network.nodes.iter().enumerate() {
            // The last user takes a value, so that a pass without gradients keeps no activation it will not read again.
            let mut operands = node.inputs.iter().map(|&from| {
                let value = if self.steps[from].last_user == i { outputs[from].take() } else { None };
                value.or_else(|| outputs[from].as_ref().map(Tensor::shallow_clone))
            });
            let mut operand = || operands.next().flatten().ok_or_else(|| TchError::Shape(node.name.clone()));
            let own = &self.tensors[self.steps[i].parameters.clone()];
            let view = node.inputs.first().is_some_and(|&from| views[from]);
            let in_place = self.steps[i].in_place && !view;
            let output = match node.op {
                Op::Input => self.lay_out(normalized, kind)?,
                Op::Conv { stride, padding, bias, .. } => {
                    let [stride, padding] = [stride, padding].map(|v| [v as i64; 2]);
                    let cast;
                    let (weight, bias) = match norms {
                        Norms::Inside(inference) => inference.kernel(i)?,
                        Norms::Own { .. } => {
                            cast = own[..1 + usize::from(bias)]
                                .iter()
                                .map(|t| t.f_to_kind(kind))
                                .collect::<Result<Vec<_>, _>>()?;
                            (&cast[0], cast.get(1))
                        }
                    };
                    let x = operand()?;
                    views[i] = self.is_product(i, &x);
                    match views[i] {
                        true => product::apply(&x, weight, bias, stride[0])?,
                        false => x.f_conv2d(weight, bias, stride, padding, [1, 1], 1)?,
                    }
                }
                Op::BatchNorm { epsilon, momentum, .. } => match norms {
                    Norms::Inside(_) if self.steps[i].folded => {
                        views[i] = view;
                        operand()?
                    }
                    Norms::Inside(inference) => {
                        let whole = [Slice { branch: inference.branch, count: normalized.size()[0] }];
                        norms::sliced(&operand()?, own, &whole, false, [epsilon, momentum])?
                    }
                    Norms::Own { slices, train } => {
                        norms::sliced(&operand()?, own, slices, train, [epsilon, momentum])?
                    }
                },
                Op::Relu if in_place => operand()?.f_relu_()?,
                Op::Relu => operand()?.f_relu()?,
                Op::MaxPool { kernel, stride, padding } => {
                    let [kernel, stride, padding] = [kernel, stride, padding].map(|v| [v as i64; 2]);
                    operand()?.f_max_pool2d(kernel, stride, padding, [1, 1], false)?
                }
                Op::Add if in_place => {
                    let (mut a, b) = (operand()?, operand()?);
                    a.f_add_(&b)?
                }
                Op::Add => operand()?.f_add(&operand()?)?,
                Op::GlobalAveragePool => {
                    let map = operand()?;
                    if let Some(features) = features {
                        *features = map.f_to_kind(Kind::Float)?;
                    }
                    map.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?
                }
                Op::Linear { .. } => operand()?.f_to_kind(Kind::Float)?.f_linear(&own[0], Some(&own[1]))?,
                Op::Normalize => {
                    let x = operand()?;
                    let length = x.f_norm_scalaropt_dim(2, [-1].as_slice(), true)?.f_clamp_min(1e-12)?;
                    x.f_div(&length)?
                }
            };
            outputs.push(Some(output));
        }
        outputs.pop().flatten().ok_or_else(|| TchError::Shape("the network has no node".into()))
    }

    fn check_slices(&self, normalized: &Tensor, slices: &[Slice]) -> Result<(), TchError> {
        let size = normalized.size();
        let counts: Vec<i64> = slices.iter().map(|s| s.count).collect();
        if Some(&counts.iter().sum::<i64>()) != size.first() || counts.contains(&0) {
            let text = format!("slices of {counts:?} images do not cover a batch of shape {size:?}");
            return Err(TchError::Shape(text));
        }
        slices.iter().try_for_each(|slice| self.check_branch(slice.branch))
    }

    fn check_branch(&self, branch: Branch) -> Result<(), TchError> {
        match self.network.branches().contains(&branch) {
            true => Ok(()),
            false => Err(TchError::Shape(format!("the network has no branch `{branch}`"))),
        }
    }

    /// What feature maps are in where the recipe's precision counts.
    fn kind(&self) -> Kind {
        match self.precision {
            Precision::Float32 => Kind::Float,
            Precision::Bf16Mixed => Kind::BFloat16,
        }
    }

    /// Channels last on the CPU, where the layout propagates: a training step of a small convnet takes 0.7 of the time,
    /// one of ResNet-18 the same. Kernels of a GPU prefer channel planes in full precision, and channels last in half.
    fn lay_out(&self, maps: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
        let maps = maps.f_to_kind(kind)?;
        match (self.device, kind) {
            (Device::Cpu, _) | (_, Kind::BFloat16) => {
                maps.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
            }
            _ => Ok(maps),
        }
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

/// Whether these weights are exactly those of a network.
fn check(specs: &[ParameterSpec], weights: &Weights) -> Result<(), ModelError> {
    let absent = |spec: &&ParameterSpec| !weights.tensors.contains_key(&spec.name);
    let missing: Vec<_> = specs.iter().filter(absent).map(|s| s.name.clone()).collect();
    if !missing.is_empty() {
        return Err(ModelError::Missing(missing));
    }
    for spec in specs {
        let got = &weights.tensors[&spec.name];
        if got.shape != spec.shape || got.data.len() != spec.count() {
            let (name, got, wanted) = (spec.name.clone(), got.shape.clone(), spec.shape.clone());
            return Err(ModelError::Shape { name, got, wanted });
        }
    }
    let known: BTreeSet<_> = specs.iter().map(|s| &s.name).collect();
    let unexpected: Vec<_> = weights.tensors.keys().filter(|name| !known.contains(name)).cloned().collect();
    if unexpected.is_empty() { Ok(()) } else { Err(ModelError::Unexpected(unexpected)) }
}

#[cfg(test)]
mod tests;
