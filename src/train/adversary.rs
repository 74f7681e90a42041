//! Adversarial training images, made inside a training step (PAPER.md section 1.2).
//!
//! Everything happens in normalised space. The attack minimises the distance of `f(x + δ)` to the embeddings of T other
//! images of the same group, `f` answering through the batch norm of the group's branch with running statistics. All
//! that is random comes from a named stream on the host, so a step is the same on every device and thread count.

use rand::RngCore;
use tch::{Device, Kind, TchError, Tensor};

use super::model::Model;
use crate::rng::{self, Stream};
use crate::suite::attack::{Branch, TargetLoss};
use crate::suite::recipe::{BranchGoal, ClampRange, Quirks, TargetChoice, TrainingAttack};
use crate::units::Epsilon;

/// Makes adversarial versions of groups of images, as a recipe's attack and quirks say.
#[derive(Debug)]
pub struct Adversary {
    quirks: Quirks,
    steps: usize,
    /// Radius per channel in normalised space, `[1, 3, 1, 1]`.
    radius: Tensor,
    /// Size of one step, likewise.
    step: Tensor,
    /// Normalised value of black per channel, `[1, 3, 1, 1]`.
    black: Tensor,
    /// Normalised value of white per channel, `[1, 3, 1, 1]`.
    white: Tensor,
}

/// What is random about one attack on a group of n images.
#[derive(Debug, Clone, PartialEq)]
pub struct Draws {
    /// Positions in the group whose embeddings image i approaches: `targets[t][i]`, shape `[T, n]`.
    pub targets: Vec<Vec<i64>>,
    /// Added to the images before the first step, `[n, c, h, w]`; empty without start noise.
    pub noise: Vec<f32>,
}

impl Adversary {
    /// `mean`, `std`: the normalisation of the network, per channel, in pixel units.
    pub fn new(attack: &TrainingAttack, quirks: &Quirks, mean: [f32; 3], std: [f32; 3], device: Device) -> Self {
        let channels =
            |f: &dyn Fn(usize) -> f32| Tensor::from_slice(&[f(0), f(1), f(2)]).reshape([1, 3, 1, 1]).to_device(device);
        let amount = |epsilon: &Epsilon| match epsilon {
            Epsilon::Normalized(value) => channels(&|_| *value as f32),
            Epsilon::Pixels(amount) => channels(&|c| (amount.value() / f64::from(std[c])) as f32),
            // Recipes refuse it.
            Epsilon::L2(length) => channels(&|c| (length.min(1.0) / f64::from(std[c])) as f32),
        };
        let radius = amount(&attack.epsilon);
        Self {
            quirks: quirks.clone(),
            steps: attack.steps,
            step: attack.step_size.as_ref().map_or_else(|| &radius / attack.steps as f64, amount),
            radius,
            black: channels(&|c| (0.0 - mean[c]) / std[c]),
            white: channels(&|c| (1.0 - mean[c]) / std[c]),
        }
    }

    /// Draws targets and start noise for a group.
    ///
    /// `values` is the number of pixel values of the whole group. With [`TargetChoice::OtherIdentity`] the T targets of
    /// an image have T distinct labels, none its own; a group with fewer other identities uses each of them in turn,
    /// and a group of a single identity falls back to permutations (there is nobody else to approach).
    ///
    /// With [`BranchGoal::SameIdentity`] they are other images of its own identity, each of them in turn.
    pub fn draw(&self, rng: &mut Stream, labels: &[u32], (goal, targets): (BranchGoal, usize), values: usize) -> Draws {
        let targets = match (goal, self.quirks.target_choice) {
            (BranchGoal::SameIdentity, _) => same_identity(rng, labels, targets),
            (BranchGoal::OtherIdentity, TargetChoice::Permutation) => permutations(rng, labels.len(), targets),
            (BranchGoal::OtherIdentity, TargetChoice::OtherIdentity) => other_identities(rng, labels, targets),
        };
        Draws { targets, noise: self.noise(rng, values) }
    }

    /// Start noise for `values` pixel values; none at all if the recipe wants none.
    pub fn noise(&self, rng: &mut Stream, values: usize) -> Vec<f32> {
        let width = self.quirks.start_noise as f32;
        match width == 0.0 {
            true => vec![],
            false => (0..values).map(|_| (2.0 * rng::unit(rng) - 1.0) * width).collect(),
        }
    }

    /// The adversarial version of `images`, in normalised space, without a graph.
    ///
    /// Parameters get no gradient and running statistics do not move.
    ///
    /// # Shapes
    /// `images`: normalised, `[n, 3, h, w]`; so is the result. `draws` must be for n images.
    /// # Errors
    /// libtorch's own (no memory).
    pub fn attack(&self, model: &Model, images: &Tensor, branch: Branch, draws: &Draws) -> Result<Tensor, TchError> {
        let answers = model.inference(branch)?;
        let targets = gather_targets(&tch::no_grad(|| answers.forward(images))?, &draws.targets);
        self.descend(images, &draws.noise, |input| Ok(self.distance(&answers.forward(input)?, &targets)))
    }

    /// Moves `images` down the signs of a loss's gradient, step by step, inside their box. Without a graph; where the
    /// gradient is zero nothing moves.
    ///
    /// `loss` gives a scalar with a graph towards its argument; every image must count by itself, since only signs are
    /// used. It must not touch running statistics.
    ///
    /// # Shapes
    /// `images`: normalised, `[n, 3, h, w]`; so is the result. `noise`: as many values, or empty.
    /// # Errors
    /// The loss's own, and libtorch's.
    pub fn descend(
        &self,
        images: &Tensor,
        noise: &[f32],
        loss: impl Fn(&Tensor) -> Result<Tensor, TchError>,
    ) -> Result<Tensor, TchError> {
        let (lower, upper) = self.bounds(images);
        let mut current = match noise.is_empty() {
            true => images.copy(),
            false => images + Tensor::from_slice(noise).reshape(images.size()).to_device(images.device()),
        };
        for _ in 0..self.steps {
            let input = current.detach().set_requires_grad(true);
            let loss = loss(&input)?;
            // Only the input is asked for, so libtorch computes no parameter gradient on the way.
            let gradient = Tensor::f_run_backward(&[&loss], &[&input], false, false)?.remove(0);
            let step = gradient.sign() * &self.step;
            current = tch::no_grad(|| (input - step).clamp_tensor(Some(&lower), Some(&upper)));
        }
        Ok(current.detach())
    }

    /// Box of allowed values around `images`.
    fn bounds(&self, images: &Tensor) -> (Tensor, Tensor) {
        let (least, most) = match self.quirks.clamp {
            ClampRange::Image => (self.black.shallow_clone(), self.white.shallow_clone()),
            ClampRange::Batch => images.aminmax(None, false),
        };
        let clip = |value: Tensor| value.clamp_tensor(Some(&least), Some(&most));
        (clip(images - &self.radius), clip(images + &self.radius))
    }

    /// Summed over images; only the sign of each image's gradient is used, so neither the outer mean nor the outer
    /// square of the official code matters.
    fn distance(&self, embeddings: &Tensor, targets: &Tensor) -> Tensor {
        let difference = embeddings.unsqueeze(1) - targets; // [n, T, d]
        match self.quirks.target_loss {
            TargetLoss::MeanDistance => difference.norm_scalaropt_dim(2, [2i64], false).sum(Kind::Float),
            // The two differ by the spread of the targets, which has no gradient.
            TargetLoss::MeanSquaredDistance | TargetLoss::SquaredDistanceToMean => difference.square().sum(Kind::Float),
            TargetLoss::SoftMin => {
                let squared = difference.square().sum_dim_intlist([2i64].as_slice(), false, Kind::Float); // [n, T]
                let mean = squared.mean_dim([1i64].as_slice(), true, Kind::Float).detach();
                let softness = mean.clamp_min(1e-6) * TargetLoss::SOFTNESS;
                -((-&squared / &softness).logsumexp([1i64].as_slice(), true) * softness).sum(Kind::Float)
            }
        }
    }
}

/// Target embeddings, `[n, T, d]`.
fn gather_targets(embeddings: &Tensor, targets: &[Vec<i64>]) -> Tensor {
    let rows: Vec<Tensor> = targets
        .iter()
        .map(|positions| embeddings.index_select(0, &Tensor::from_slice(positions).to_device(embeddings.device())))
        .collect();
    Tensor::stack(&rows, 1)
}

/// T independent permutations of `0..n`.
fn permutations(rng: &mut impl RngCore, n: usize, targets: usize) -> Vec<Vec<i64>> {
    (0..targets)
        .map(|_| {
            let mut positions: Vec<i64> = (0..n as i64).collect();
            rng::shuffle(rng, &mut positions);
            positions
        })
        .collect()
}

/// For every image, T other images of its identity, each in turn; itself if there is none.
fn same_identity(rng: &mut Stream, labels: &[u32], targets: usize) -> Vec<Vec<i64>> {
    let mut chosen = vec![Vec::with_capacity(labels.len()); targets];
    for (own, label) in labels.iter().enumerate() {
        let same = |&j: &usize| j != own && labels[j] == *label;
        let mut others: Vec<i64> = (0..labels.len()).filter(same).map(|j| j as i64).collect();
        rng::shuffle(rng, &mut others);
        if others.is_empty() {
            others.push(own as i64);
        }
        for (t, list) in chosen.iter_mut().enumerate() {
            list.push(others[t % others.len()]);
        }
    }
    chosen
}

/// For every image, one random image of each of T distinct other identities.
fn other_identities(rng: &mut Stream, labels: &[u32], targets: usize) -> Vec<Vec<i64>> {
    let mut members: std::collections::BTreeMap<u32, Vec<i64>> = std::collections::BTreeMap::new();
    for (position, &label) in labels.iter().enumerate() {
        members.entry(label).or_default().push(position as i64);
    }
    if members.len() < 2 {
        return permutations(rng, labels.len(), targets);
    }
    let mut chosen = vec![Vec::with_capacity(labels.len()); targets];
    for own in labels {
        let mut others: Vec<&Vec<i64>> = members.iter().filter(|(label, _)| *label != own).map(|(_, m)| m).collect();
        rng::shuffle(rng, &mut others);
        for (t, list) in chosen.iter_mut().enumerate() {
            let identity = others[t % others.len()];
            list.push(identity[rng::below(rng, identity.len() as u64) as usize]);
        }
    }
    chosen
}
