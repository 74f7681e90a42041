//! One optimizer step: adversarial images, one forward pass over all branches, one loss, one update.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::TrainError;
use super::adam::Adam;
use super::adversary::{Adversary, Draws};
use super::loss::{self, Loss};
use super::model::{Model, Pass, Slice};
use crate::rng;
use crate::suite::attack::Branch;
use crate::suite::recipe::{Quirks, Recipe, TrainingMethod};

/// Which part of a batch is attacked how.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    /// The branch that answers during the attack and that the adversarial images train.
    branch: Branch,
    /// Target embeddings per image.
    targets: usize,
}

/// Everything that a training step changes.
pub struct Trainer {
    /// The model being trained.
    pub model: Model,
    /// Its optimizer.
    pub adam: Adam,
    loss: Box<dyn Loss>,
    adversary: Option<Adversary>,
    groups: Vec<Group>,
}

impl Trainer {
    /// Sets up the steps of `recipe` on `model`, whose network has the branches that the method needs.
    ///
    /// # Errors
    /// [`TrainError::Attack`] if the method needs an attack and the recipe has none, or one of no step.
    pub fn new(recipe: &Recipe, model: Model) -> Result<Self, TrainError> {
        let groups = groups(&recipe.method);
        let adversary = match (&recipe.attack, groups.is_empty()) {
            (_, true) => None,
            (Some(attack), false) if attack.steps > 0 => {
                let quirks = Quirks::resolve(recipe.preset, &recipe.quirks);
                let network = model.network();
                Some(Adversary::new(attack, &quirks, network.mean, network.std, model.device()))
            }
            _ => return Err(TrainError::Attack { method: recipe.method.name() }),
        };
        let adam = Adam::new(model.flat_parameters(), recipe.optimizer.weight_decay);
        Ok(Self { model, adam, loss: loss::from_spec(&recipe.loss), adversary, groups })
    }

    /// What is random in the step at `position` (epoch, batch), one entry per adversarial group.
    ///
    /// `values` is the number of pixel values of one image.
    pub fn draw(&self, seed: u64, position: (usize, usize), labels: &[u32], values: usize) -> Vec<Draws> {
        let Some(adversary) = &self.adversary else { return vec![] };
        let parts = parts(labels.len(), self.groups.len());
        let draw = |(g, part): (usize, Range<usize>)| {
            let counters = [position.0 as u64, position.1 as u64, g as u64];
            let mut rng = rng::stream(seed, "training-adversary", &counters);
            adversary.draw(&mut rng, &labels[part.clone()], self.groups[g].targets, part.len() * values)
        };
        parts.into_iter().enumerate().map(draw).collect()
    }

    /// Takes one step and gives the loss before the update. If that is not finite, nothing is updated.
    ///
    /// The n clean images go through the main branch. The batch is cut into as many consecutive parts as the method has
    /// adversarial branches, and the adversarial version of a part goes through its branch; a part's bounds are
    /// `⌊g·n/G⌋`, so parts differ by at most one image (the official code sends one single-target image of an odd batch
    /// through the second branch; we do not). All 2n embeddings enter one loss, adversarial images with the labels of
    /// their sources.
    ///
    /// # Shapes
    /// `pixels`: `[n, 3, h, w]` in `[0, 1]` on the model's device; `labels`: n; `draws`: from [`Trainer::draw`].
    /// # Errors
    /// libtorch's own.
    pub fn step(
        &mut self,
        pixels: &Tensor,
        labels: &[u32],
        draws: &[Draws],
        learning_rate: f64,
    ) -> Result<f64, TrainError> {
        let clean = tch::no_grad(|| self.model.normalize(pixels));
        let mut inputs = vec![clean.shallow_clone()];
        let mut slices = vec![Slice { branch: Branch::Main, count: labels.len() as i64 }];
        inputs.extend(self.attack(&clean, draws)?);
        let mut all_labels: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
        if !draws.is_empty() {
            all_labels.extend_from_within(..);
        }
        for (group, part) in self.groups.iter().zip(parts(labels.len(), self.groups.len())) {
            match (slices.last_mut(), group.branch) {
                (Some(last), branch) if last.branch == branch => last.count += part.len() as i64,
                (_, branch) => slices.push(Slice { branch, count: part.len() as i64 }),
            }
        }
        let input = if inputs.len() == 1 { inputs.remove(0) } else { Tensor::cat(&inputs, 0) };
        let embeddings = self.model.try_forward(&input, Pass::Train(&slices))?;
        let loss = self.loss.value(&embeddings, &Tensor::from_slice(&all_labels).to_device(self.model.device()));
        let gradient = self.model.flat_gradient(&loss)?;
        let value = loss.to_kind(Kind::Double).double_value(&[]);
        if value.is_finite() {
            self.adam.step(self.model.flat_parameters(), gradient, learning_rate);
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

/// Adversarial training attacks the whole batch through the main branch; the others give each auxiliary branch a part.
fn groups(method: &TrainingMethod) -> Vec<Group> {
    let branch = |i: usize| match method {
        TrainingMethod::Adversarial { .. } => Branch::Main,
        _ => Branch::Aux(i as u8 + 1),
    };
    let group = |(i, adversary): (usize, crate::suite::recipe::TrainingBranch)| Group {
        branch: branch(i),
        targets: adversary.targets,
    };
    method.adversaries().into_iter().enumerate().map(group).collect()
}

/// `count` consecutive ranges that cover `0..n` as evenly as possible.
fn parts(n: usize, count: usize) -> Vec<Range<usize>> {
    (0..count).map(|g| g * n / count..(g + 1) * n / count).collect()
}

#[cfg(test)]
mod tests;
