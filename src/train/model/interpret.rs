//! One forward pass, node by node.

use tch::{Device, Kind, TchError, Tensor};

use super::inference::Inference;
use super::{Model, Pass, Slice, norms, product};
use crate::network::Op;
use crate::suite::attack::Branch;
use crate::suite::recipe::Precision;

/// Where the norms of a pass come from.
#[derive(Clone, Copy)]
pub(super) enum Norms<'a> {
    /// Their own nodes, slice by slice.
    Own { slices: &'a [Slice], train: bool },
    /// They are inside the convolutions.
    Inside(&'a Inference<'a>),
}

impl Model {
    /// `features` is filled with the last feature map if it is not `None`.
    pub(super) fn run(
        &self,
        normalized: &Tensor,
        pass: Pass<'_>,
        features: &mut Option<Tensor>,
    ) -> Result<Tensor, TchError> {
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

    pub(super) fn interpret(
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

    pub(super) fn check_branch(&self, branch: Branch) -> Result<(), TchError> {
        match self.network.branches().contains(&branch) {
            true => Ok(()),
            false => Err(TchError::Shape(format!("the network has no branch `{branch}`"))),
        }
    }

    /// What feature maps are in where the recipe's precision counts.
    pub(super) fn kind(&self) -> Kind {
        match self.precision {
            Precision::Float32 => Kind::Float,
            Precision::Bf16Mixed => Kind::BFloat16,
        }
    }

    /// Channels last on the CPU, where the layout propagates: a training step of a small convnet takes 0.7 of the time,
    /// one of ResNet-18 the same. Kernels of a GPU prefer channel planes in full precision, and channels last in half.
    pub(super) fn lay_out(&self, maps: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
        let maps = maps.f_to_kind(kind)?;
        match (self.device, kind) {
            (Device::Cpu, _) | (_, Kind::BFloat16) => {
                maps.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
            }
            _ => Ok(maps),
        }
    }
}
