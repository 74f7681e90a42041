//! Robust-ranking defences: training on adversarial images in place of the clean ones.
//!
//! All attacks use running statistics of the main norms; the training pass uses those of its batch, unless norms are
//! frozen. Triplets have every second image of a batch as anchor, as in the defences' published code, whose batches hold
//! two of a class. The formulas are in the variants of [`TrainingMethod`] and [`Hardness`].

use tch::{Kind, TchError, Tensor};

use super::adversary::Adversary;
use super::loss::Triplet;
use super::miner::{self, Triplets};
use super::model::{Inference, Model, Pass, Slice};
use crate::rng::Stream;
use crate::suite::attack::Branch;
use crate::suite::defence::Hardness;
use crate::suite::loss::{LossSpec, MinerSpec};
use crate::suite::recipe::{Norms, Recipe, TrainingMethod};

/// A defence that a recipe names.
#[derive(Debug)]
pub enum Defence {
    /// Embedding shift, then the recipe's own loss.
    Shift,
    /// On triplets, with a loss of its own.
    Triplets(TripletDefence),
}

/// A defence that builds adversarial triplets.
#[derive(Debug)]
pub struct TripletDefence {
    loss: Triplet,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Collapse,
    Harden { destination: Hardness, intra_class: f64 },
}

/// What a defended step is worth.
#[derive(Debug)]
pub struct DefendedLoss {
    /// To minimise, a scalar with a graph.
    pub total: Tensor,
    /// Its part that the next step's gradual adversary looks at, a scalar.
    pub triplet: Tensor,
}

impl Defence {
    /// `None` for a method that is no such defence, or whose loss is no triplet loss where it must be one.
    pub fn of(recipe: &Recipe) -> Option<Self> {
        let change = match &recipe.method {
            TrainingMethod::Est {} => return Some(Self::Shift),
            TrainingMethod::Act {} => Change::Collapse,
            TrainingMethod::Hm { destination, intra_class } => {
                Change::Harden { destination: destination.clone(), intra_class: *intra_class }
            }
            _ => return None,
        };
        let LossSpec::Triplet { margin, distance, miner } = recipe.loss.clone() else { return None };
        Some(Self::Triplets(TripletDefence { loss: Triplet { margin, distance, miner }, change }))
    }
}

/// `images` moved away from their own embeddings: `argmax ‖f(x + r) − f(x)‖`. Zhou et al. 2020, arXiv:2002.11293.
///
/// At the images themselves the gradient is zero, so the start noise says in which direction they begin.
///
/// # Shapes
/// `images`: normalised, `[n, 3, h, w]`; so is the result. `noise`: as many values.
/// # Errors
/// libtorch's own.
pub fn shift(adversary: &Adversary, model: &Model, images: &Tensor, noise: &[f32]) -> Result<Tensor, TchError> {
    let answers = model.inference(Branch::Main)?;
    let own = tch::no_grad(|| answers.forward(images))?;
    adversary.descend(images, noise, |input| {
        let moved = answers.forward(input)?.f_sub(&own)?;
        moved.f_square()?.f_sum(Kind::Float)?.f_neg()
    })
}

/// The pass of a training batch through the main norms.
///
/// # Errors
/// libtorch's own.
pub fn train_pass(model: &Model, images: &Tensor, norms: Norms) -> Result<Tensor, TchError> {
    let slices = [Slice { branch: Branch::Main, count: images.size()[0] }];
    match norms {
        Norms::Batch => model.try_forward(images, Pass::Train(&slices)),
        Norms::Frozen => model.try_forward(images, Pass::Frozen(&slices)),
    }
}

/// Rows of a batch.
fn rows(batch: &Tensor, positions: &[i64]) -> Result<Tensor, TchError> {
    batch.f_index_select(0, &Tensor::from_slice(positions).to_device(batch.device()))
}

/// Rows in N equal parts, in order.
fn parts<const N: usize>(all: &Tensor) -> Result<[Tensor; N], TchError> {
    let n = all.size()[0] / N as i64;
    let mut parts = Vec::with_capacity(N);
    for i in 0..N as i64 {
        parts.push(all.f_narrow(0, i * n, n)?);
    }
    parts.try_into().map_err(|_| TchError::Shape("parts of a batch".into()))
}

impl TripletDefence {
    /// Mines triplets on the clean embeddings, makes them adversarial and judges them.
    ///
    /// `previous` is [`DefendedLoss::triplet`] of the step before, if there was one.
    ///
    /// # Shapes
    /// `clean`: normalised, `[n, 3, h, w]`; `labels`: n.
    /// # Errors
    /// libtorch's own.
    pub fn loss(
        &self,
        adversary: &Adversary,
        model: &Model,
        batch: (&Tensor, &[i64]),
        norms: Norms,
        previous: Option<f64>,
        random: &mut Stream,
    ) -> Result<DefendedLoss, TchError> {
        let (clean, labels) = batch;
        let answers = model.inference(Branch::Main)?;
        let embeddings = tch::no_grad(|| answers.forward(clean))?;
        let source = every_second(miner::mine(&self.loss.miner, &embeddings, labels, random)?);
        if source.anchors.is_empty() {
            // A batch of one class teaches nothing; the pass keeps the norms' statistics moving.
            let total = train_pass(model, clean, norms)?.f_sum(Kind::Float)?.f_mul_scalar(0.0)?;
            return Ok(DefendedLoss { triplet: total.detach(), total });
        }
        match &self.change {
            Change::Collapse => {
                let moved = self.collapse(adversary, &answers, clean, &source, random)?;
                let images = Tensor::f_cat(&[rows(clean, &source.anchors)?, moved], 0)?;
                let total = self.judge(&train_pass(model, &images, norms)?)?.0;
                Ok(DefendedLoss { triplet: total.detach(), total })
            }
            Change::Harden { destination, intra_class } => {
                let wanted = self.wanted(destination, &embeddings, labels, previous, random)?;
                let moved = match wanted {
                    Some(wanted) => self.harden(adversary, &answers, clean, &source, &wanted, random)?,
                    None => self.images(clean, &source)?,
                };
                let apart = match *intra_class > 0.0 {
                    true => {
                        let pair = [rows(clean, &source.anchors)?, rows(clean, &source.positives)?];
                        Some(train_pass(model, &Tensor::f_cat(&pair, 0)?, norms)?)
                    }
                    false => None,
                };
                let (triplet, adversarial_anchors) = self.judge(&train_pass(model, &moved, norms)?)?;
                let total = match apart {
                    None => triplet.shallow_clone(),
                    Some(pair) => {
                        let [anchors, positives] = parts::<2>(&pair)?;
                        let structure = self.loss.hinge(&anchors, &adversarial_anchors, &positives, 0.0)?;
                        triplet.f_add(&structure.f_mul_scalar(*intra_class)?)?
                    }
                };
                Ok(DefendedLoss { triplet: triplet.detach(), total })
            }
        }
    }

    /// The triplet loss of embeddings `[3 t, d]` (anchors, positives, negatives), and the anchors.
    fn judge(&self, embeddings: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        let [anchors, positives, negatives] = parts::<3>(embeddings)?;
        Ok((self.loss.hinge(&anchors, &positives, &negatives, self.loss.margin)?, anchors))
    }

    /// Positives and negatives moved together, `[2 t, 3, h, w]`: `argmin d(f(p + r), f(n + r′))`.
    fn collapse(
        &self,
        adversary: &Adversary,
        answers: &Inference<'_>,
        clean: &Tensor,
        source: &Triplets,
        random: &mut Stream,
    ) -> Result<Tensor, TchError> {
        let images = Tensor::f_cat(&[rows(clean, &source.positives)?, rows(clean, &source.negatives)?], 0)?;
        let noise = adversary.noise(random, images.numel());
        adversary.descend(&images, &noise, |input| {
            let [positives, negatives] = parts::<2>(&answers.forward(input)?)?;
            self.loss.distance(&positives, &negatives)?.f_sum(Kind::Float)
        })
    }

    /// Triplets as hard as `wanted`, `[3 t, 3, h, w]`: `argmin relu(wanted − H)²`. What is hard enough stays.
    fn harden(
        &self,
        adversary: &Adversary,
        answers: &Inference<'_>,
        clean: &Tensor,
        source: &Triplets,
        wanted: &Tensor,
        random: &mut Stream,
    ) -> Result<Tensor, TchError> {
        let images = self.images(clean, source)?;
        let noise = adversary.noise(random, images.numel());
        adversary.descend(&images, &noise, |input| {
            let all = answers.forward(input)?;
            let [anchors, positives, negatives] = parts::<3>(&all)?;
            let hardness = self.loss.hardness(&anchors, &positives, &negatives)?;
            wanted.f_sub(&hardness)?.f_relu()?.f_square()?.f_sum(Kind::Float)
        })
    }

    /// Anchors, positives and negatives of a batch, `[3 t, 3, h, w]`.
    fn images(&self, clean: &Tensor, source: &Triplets) -> Result<Tensor, TchError> {
        let [anchors, positives, negatives] =
            [&source.anchors, &source.positives, &source.negatives].map(|part| rows(clean, part));
        Tensor::f_cat(&[anchors?, positives?, negatives?], 0)
    }

    /// The destination hardness of every triplet, `[t]`; `None` if source and destination are mined alike, which is
    /// plain training (the last bits of two passes would else decide who moves).
    fn wanted(
        &self,
        destination: &Hardness,
        embeddings: &Tensor,
        labels: &[i64],
        previous: Option<f64>,
        random: &mut Stream,
    ) -> Result<Option<Tensor>, TchError> {
        let margin = self.loss.margin;
        let level = previous.map_or(1.0, |loss| (loss / margin).clamp(0.0, 1.0));
        match destination {
            Hardness::LinearGradual {} => Tensor::f_from_slice(&[(-margin * level) as f32]),
            Hardness::Constant { value } => Tensor::f_from_slice(&[*value as f32]),
            Hardness::Triplet { miner, boost } if *miner == self.loss.miner && *boost == 0.0 => return Ok(None),
            Hardness::Triplet { miner, boost } => {
                let other = self.mined(miner, embeddings, labels, random)?;
                let part = |positions: &[i64]| rows(embeddings, positions);
                let hardness =
                    self.loss.hardness(&part(&other.anchors)?, &part(&other.positives)?, &part(&other.negatives)?)?;
                hardness.f_add_scalar(boost * (1.0 - level))
            }
        }?
        .f_to_device(embeddings.device())
        .map(Some)
    }

    /// Triplets with the anchors of the source: which images are anchors does not depend on the miner.
    fn mined(
        &self,
        miner: &MinerSpec,
        embeddings: &Tensor,
        labels: &[i64],
        random: &mut Stream,
    ) -> Result<Triplets, TchError> {
        Ok(every_second(miner::mine(miner, embeddings, labels, random)?))
    }
}

/// The triplets whose anchor is at an even position of the batch.
fn every_second(all: Triplets) -> Triplets {
    let mut kept = Triplets::default();
    for (i, &anchor) in all.anchors.iter().enumerate().filter(|(_, anchor)| **anchor % 2 == 0) {
        kept.anchors.push(anchor);
        kept.positives.push(all.positives[i]);
        kept.negatives.push(all.negatives[i]);
    }
    kept
}
