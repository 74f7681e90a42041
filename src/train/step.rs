//! One optimizer step: adversarial images, one forward pass over all branches, one loss, one update.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tch::{Kind, TchError, Tensor};

use super::TrainError;
use super::adam::Adam;
use super::adversary::{Adversary, Draws};
use super::defence::{self, Defence};
use super::loss::{self, Loss, LossInput};
use super::model::{Model, Pass, Slice};
use crate::network::{Op, ParameterSpec};
use crate::progress::{Observer, Silent};
use crate::rng::{self, Stream};
use crate::suite::attack::Branch;
use crate::suite::recipe::{BranchGoal, Norms, OptimizerSpec, Quirks, Recipe, TrainingMethod};

/// Which part of a batch is attacked how.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    /// The branch that answers during the attack and that the adversarial images train.
    branch: Branch,
    /// Target embeddings per image.
    targets: usize,
    /// Whose they are.
    goal: BranchGoal,
}

/// Everything that a training step changes.
pub struct Trainer {
    /// The model being trained.
    pub model: Model,
    /// Its optimizer.
    pub adam: Adam,
    /// The loss, with parameters of its own perhaps, and their optimizer.
    loss: Box<dyn Loss>,
    loss_adam: Option<Adam>,
    /// Position of each data-set label among the training classes.
    classes: BTreeMap<u32, i64>,
    /// Learning rate of the recipe: schedules of other rates follow its course.
    base_rate: f64,
    norms: Norms,
    clip_norm: Option<f64>,
    adversary: Option<Adversary>,
    groups: Vec<Group>,
    defence: Option<Defence>,
    /// Triplet loss of the last defended step, which a gradual adversary looks at.
    previous: Option<f64>,
}

/// The scalar of a step, with its graph.
struct StepLoss {
    total: Tensor,
    /// What the next step is to remember.
    remembered: Option<Tensor>,
}

impl Trainer {
    /// Sets up the steps of `recipe` on `model`, whose network has the branches that the method needs.
    ///
    /// `labels` are those of the training images, in any order, repeated or not; `seed` names the first values of the
    /// loss's own parameters.
    ///
    /// # Errors
    /// [`TrainError::Attack`] if the method needs an attack and the recipe has none, or one of no step;
    /// [`TrainError::TripletLoss`] if it needs a triplet loss and the recipe has another.
    pub fn new(recipe: &Recipe, model: Model, labels: &[u32], seed: u64) -> Result<Self, TrainError> {
        let model = model.with_precision(recipe.precision);
        let groups = groups(&recipe.method);
        let defence = Defence::of(recipe);
        if recipe.method.wants_triplets() && defence.is_none() {
            return Err(TrainError::TripletLoss { method: recipe.method.name(), loss: recipe.loss.name() });
        }
        let adversary = match (&recipe.attack, groups.is_empty() && defence.is_none()) {
            (_, true) => None,
            (Some(attack), false) if attack.steps > 0 => {
                let quirks = Quirks::resolve(recipe.preset, &recipe.quirks);
                let network = model.network();
                Some(Adversary::new(attack, &quirks, network.mean, network.std, model.device()))
            }
            _ => return Err(TrainError::Attack { method: recipe.method.name() }),
        };
        let adam = Adam::new(model.flat_parameters(), recipe.optimizer.weight_decay);
        let adam = adam.with_rates(rates(&recipe.optimizer, &model)?);
        let distinct: BTreeSet<u32> = labels.iter().copied().collect();
        let classes: BTreeMap<u32, i64> = distinct.into_iter().zip(0..).collect();
        let base_rate = recipe.optimizer.learning_rate;
        let setting = loss::Setting {
            classes: classes.len(),
            dim: recipe.embedding_dim,
            channels: model.network().pooled_channels().unwrap_or(0),
            learning_rate: base_rate,
            seed,
            device: model.device(),
        };
        let loss = loss::from_spec(&recipe.loss, setting);
        let loss_adam = loss.parameters().map(|own| Adam::new(&own.flat, 0.0));
        let (norms, clip_norm) = (recipe.norms, recipe.optimizer.clip_norm);
        Ok(Self {
            model,
            adam,
            loss,
            loss_adam,
            classes,
            base_rate,
            norms,
            clip_norm,
            adversary,
            groups,
            defence,
            previous: None,
        })
    }

    /// The loss's own parameters and the state of their optimizer, if it has any.
    pub fn loss_state(&self) -> Option<(&Tensor, &Adam)> {
        Some((&self.loss.parameters()?.flat, self.loss_adam.as_ref()?))
    }

    /// Puts a saved state of the loss's own parameters back: values and both moments, each `[count]`.
    ///
    /// # Errors
    /// libtorch's own, and a shape error if the loss has another number of parameters.
    pub fn restore_loss(&mut self, values: &Tensor, mean: &Tensor, square: &Tensor) -> Result<(), TchError> {
        if let (Some(own), Some(adam)) = (self.loss.parameters(), &mut self.loss_adam) {
            tch::no_grad(|| own.flat.detach().f_copy_(values))?;
            adam.restore(self.adam.steps(), mean, square);
        }
        Ok(())
    }

    /// Triplet loss of the last defended step: with the weights and the moments, all that a step leaves behind.
    pub fn previous(&self) -> Option<f64> {
        self.previous
    }

    /// Puts [`Trainer::previous`] of a checkpoint back.
    pub fn restore_previous(&mut self, previous: Option<f64>) {
        self.previous = previous;
    }

    /// What is random in the step at `position` (epoch, batch), one entry per adversarial group.
    ///
    /// `values` is the number of pixel values of one image.
    pub fn draw(&self, seed: u64, position: (usize, usize), labels: &[u32], values: usize) -> Vec<Draws> {
        let Some(adversary) = self.adversary.as_ref().filter(|_| !self.groups.is_empty()) else { return vec![] };
        let parts = parts(labels.len(), self.groups.len());
        let draw = |(g, part): (usize, Range<usize>)| {
            let counters = [position.0 as u64, position.1 as u64, g as u64];
            let mut rng = rng::stream(seed, "training-adversary", &counters);
            let Group { targets, goal, .. } = self.groups[g];
            adversary.draw(&mut rng, &labels[part.clone()], (goal, targets), part.len() * values)
        };
        parts.into_iter().enumerate().map(draw).collect()
    }

    /// Takes one step and gives the loss before the update. If that is not finite, nothing is updated.
    ///
    /// The n clean images go through the main branch. The batch is cut into as many consecutive parts as the method has
    /// adversarial branches, and the adversarial version of a part goes through its branch; a part's bounds are
    /// `⌊g·n/G⌋`, so parts differ by at most one image (the official code sends one single-target image of an odd batch
    /// through the second branch; we do not). All 2n embeddings enter one loss, adversarial images with the labels of
    /// their sources. The ranking defences are in [`super::defence`].
    ///
    /// # Shapes
    /// `pixels`: `[n, 3, h, w]` in `[0, 1]` on the model's device; `labels`: n; `draws`: from [`Trainer::draw`];
    /// `random`: what the loss's miner draws from, named by (seed, epoch, batch).
    /// # Errors
    /// libtorch's own; [`TrainError::Label`] for a label that was not among the training labels.
    pub fn step(
        &mut self,
        pixels: &Tensor,
        labels: &[u32],
        draws: &[Draws],
        learning_rate: f64,
        random: &mut Stream,
    ) -> Result<f64, TrainError> {
        self.watched_step((pixels, labels, draws), learning_rate, random, &Silent)
    }

    /// [`Trainer::step`], telling `observer` its phases: `attack` (of a defence with triplets also their forward pass),
    /// `forward`, `backward`, `update`.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn watched_step(
        &mut self,
        (pixels, labels, draws): (&Tensor, &[u32], &[Draws]),
        learning_rate: f64,
        random: &mut Stream,
        observer: &dyn Observer,
    ) -> Result<f64, TrainError> {
        observer.phase("attack");
        let clean = tch::no_grad(|| self.model.normalize(pixels));
        let class = |label: &u32| self.classes.get(label).copied().ok_or(TrainError::Label { label: *label });
        let classes: Vec<i64> = labels.iter().map(class).collect::<Result<_, _>>()?;
        let loss = match (&self.defence, &self.adversary) {
            (Some(Defence::Triplets(triplets)), Some(adversary)) => {
                let batch = (&clean, classes.as_slice());
                let loss = triplets.loss(adversary, &self.model, batch, self.norms, self.previous, random)?;
                StepLoss { total: loss.total, remembered: Some(loss.triplet) }
            }
            (Some(Defence::Shift), Some(adversary)) => {
                let noise = adversary.noise(random, clean.numel());
                let shifted = defence::shift(adversary, &self.model, &clean, &noise)?;
                observer.phase("forward");
                self.joint_loss(vec![shifted], &classes, &[], random)?
            }
            _ => {
                let mut inputs = vec![clean.shallow_clone()];
                inputs.extend(self.attack(&clean, draws)?);
                observer.phase("forward");
                self.joint_loss(inputs, &classes, draws, random)?
            }
        };
        self.update(&loss, learning_rate, observer)
    }

    /// The loss of a batch whose parts go through their branches: first n images through main, then one part a group.
    fn joint_loss(
        &self,
        mut inputs: Vec<Tensor>,
        classes: &[i64],
        draws: &[Draws],
        random: &mut Stream,
    ) -> Result<StepLoss, TrainError> {
        let mut slices = vec![Slice { branch: Branch::Main, count: classes.len() as i64 }];
        let mut all_labels = classes.to_vec();
        if !draws.is_empty() {
            all_labels.extend_from_within(..);
        }
        for (group, part) in self.groups.iter().zip(parts(classes.len(), self.groups.len())) {
            match (slices.last_mut(), group.branch) {
                (Some(last), branch) if last.branch == branch => last.count += part.len() as i64,
                (_, branch) => slices.push(Slice { branch, count: part.len() as i64 }),
            }
        }
        let input = if inputs.len() == 1 { inputs.remove(0) } else { Tensor::cat(&inputs, 0) };
        let pass = match self.norms {
            Norms::Batch => Pass::Train(&slices),
            Norms::Frozen => Pass::Frozen(&slices),
        };
        let (embeddings, features) = match self.loss.wants_features() {
            true => self.model.forward_with_features(&input, pass).map(|(e, f)| (e, Some(f)))?,
            false => (self.model.try_forward(&input, pass)?, None),
        };
        let (labels, features, step) = (all_labels.as_slice(), features.as_ref(), self.adam.steps());
        let total = self.loss.value(&mut LossInput { embeddings: &embeddings, labels, features, step, random })?;
        Ok(StepLoss { total, remembered: None })
    }

    /// Moves the parameters, unless the loss is not finite, and gives its value.
    fn update(&mut self, loss: &StepLoss, learning_rate: f64, observer: &dyn Observer) -> Result<f64, TrainError> {
        observer.phase("backward");
        let own = self.loss.parameters();
        let (gradient, own_gradient) = self.model.gradient(&loss.total, own.map(|own| &own.flat))?;
        let (gradient, own_gradient) = clip(self.clip_norm, gradient, own_gradient)?;
        let number = |value: &Tensor| value.to_kind(Kind::Double).double_value(&[]);
        let value = number(&loss.total);
        observer.phase("update");
        if value.is_finite() {
            self.adam.step(self.model.flat_parameters(), &gradient, learning_rate);
            if let (Some(own), Some(adam), Some(gradient)) = (own, &mut self.loss_adam, own_gradient) {
                adam.step(&own.flat, &[gradient], own.learning_rate * learning_rate / self.base_rate);
            }
            self.previous = loss.remembered.as_ref().map(number);
        }
        Ok(value)
    }

    /// Adversarial versions of the parts of a normalised batch, in order.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn attack(&self, clean: &Tensor, draws: &[Draws]) -> Result<Vec<Tensor>, TrainError> {
        let Some(adversary) = &self.adversary else { return Ok(vec![]) };
        let parts = parts(clean.size()[0] as usize, self.groups.len());
        let attack = |((group, part), draws): ((&Group, Range<usize>), &Draws)| {
            let images = clean.narrow(0, part.start as i64, part.len() as i64);
            Ok(adversary.attack(&self.model, &images, group.branch, draws)?)
        };
        self.groups.iter().zip(parts).zip(draws).map(attack).collect()
    }
}

/// Learning rates of their own, over that of the schedule; absent if no group has one.
fn rates(optimizer: &OptimizerSpec, model: &Model) -> Result<Option<Tensor>, TchError> {
    let OptimizerSpec { learning_rate, head_learning_rate, auxiliary_learning_rate, .. } = *optimizer;
    if head_learning_rate.is_none() && auxiliary_learning_rate.is_none() {
        return Ok(None);
    }
    let head = model.network().nodes.iter().rposition(|node| matches!(node.op, Op::Linear { .. }));
    let rate = |spec: &ParameterSpec| match spec.branch {
        _ if Some(spec.node) == head => head_learning_rate,
        Some(Branch::Aux(_)) => auxiliary_learning_rate,
        _ => None,
    };
    model.per_parameter(|spec| (rate(spec).unwrap_or(learning_rate) / learning_rate) as f32).map(Some)
}

/// Scales the gradient of network and loss together down to a largest L2 norm, as PyTorch's `clip_grad_norm_`.
fn clip(
    limit: Option<f64>,
    mut network: Vec<Tensor>,
    own: Option<Tensor>,
) -> Result<(Vec<Tensor>, Option<Tensor>), TchError> {
    let Some(limit) = limit else { return Ok((network, own)) };
    let lengths = network.iter().chain(&own).map(|piece| piece.f_norm()).collect::<Result<Vec<_>, _>>()?;
    // On the device: no norm is read back to the host.
    let length = Tensor::f_stack(&lengths, 0)?.f_norm()?;
    let factor = length.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar(limit)?.f_clamp_max(1.0)?;
    for piece in &mut network {
        *piece = piece.f_mul(&factor)?;
    }
    Ok((network, own.map(|own| own.f_mul(&factor)).transpose()?))
}

/// Adversarial training attacks the whole batch through the main branch; the others give each auxiliary branch a part.
fn groups(method: &TrainingMethod) -> Vec<Group> {
    let branch = |i: usize| match method {
        TrainingMethod::Adversarial { .. } => Branch::Main,
        _ => Branch::Aux(i as u8 + 1),
    };
    let group = |(i, adversary): (usize, crate::suite::recipe::TrainingBranch)| Group {
        branch: branch(i),
        targets: adversary.targets,
        goal: adversary.goal,
    };
    method.adversaries().into_iter().enumerate().map(group).collect()
}

/// `count` consecutive ranges that cover `0..n` as evenly as possible.
fn parts(n: usize, count: usize) -> Vec<Range<usize>> {
    (0..count).map(|g| g * n / count..(g + 1) * n / count).collect()
}

#[cfg(test)]
mod defence_tests;
#[cfg(test)]
mod tests;
