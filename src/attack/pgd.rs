//! Projected gradient descent over any [`Encoder`]; FGSM is its one-step case.

use super::AttackError;
use super::budget::{Budget, Schedule, Start};
use super::goal::Objective;
use super::losses::LossPath;
use super::noise;
use crate::batch::{Embeddings, Images};
use crate::encoder::{Encoder, Evaluation};
use crate::progress::Cancel;

/// One batch to attack.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// `[n, c, h, w]`.
    pub clean: &'a Images,
    /// Data-set index of each sample: the name of its random start.
    pub images: &'a [usize],
    /// How far a pixel may move.
    pub budget: &'a Budget,
    /// How to search.
    pub schedule: &'a Schedule,
    /// What to minimise.
    pub objective: &'a Objective,
    /// Suite seed.
    pub seed: u64,
    /// The suite's name of the attack.
    pub attack: &'a str,
    /// Looked at between steps.
    pub cancel: &'a Cancel,
    /// Which iterate counts.
    pub keep: Keep,
}

/// Which iterate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// The one with the lowest loss of all runs.
    #[default]
    Best,
    /// The last one of the last run.
    Last,
}

/// The iterate of each sample that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Crafted {
    /// `[n, c, h, w]`.
    pub adversarial: Images,
    /// As the crafting graph saw them, `[n, d]`.
    pub embeddings: Embeddings,
    /// Loss at the first iterate of the first run.
    pub start_loss: Vec<f32>,
    /// Loss there.
    pub loss: Vec<f32>,
    /// Losses of the first run's iterates; empty where nothing was searched step by step.
    pub paths: Vec<LossPath>,
    /// Embeddings of the iterate before the last step of the last run, `[n, d]`; absent if no step was taken.
    pub penultimate: Option<Embeddings>,
}

/// Runs the schedule and keeps, per sample, the iterate with the lowest loss of all runs, first and last included, or
/// the last one.
///
/// A zero budget gives exactly the clean pixels; no gradient is taken then.
///
/// # Errors
/// [`AttackError::Loss`] names the image whose loss is not finite; the encoder's errors otherwise.
/// # Source
/// Madry et al. 2018, arXiv:1706.06083, section 2.1; best iterate as in Croce & Hein 2020, arXiv:2003.01690.
pub fn craft(encoder: &mut dyn Encoder, job: Job<'_>) -> Result<Crafted, AttackError> {
    if job.budget.is_zero() {
        let embeddings = encoder.embed(job.clean)?;
        let loss: Vec<f32> = (0..job.clean.len()).map(|i| job.objective.loss(i, embeddings.row(i)) as f32).collect();
        return Ok(Crafted {
            adversarial: job.clean.clone(),
            embeddings,
            start_loss: loss.clone(),
            loss,
            paths: vec![LossPath::default(); job.clean.len()],
            penultimate: None,
        });
    }
    let (lower, upper) = job.budget.bounds(job.clean)?;
    let n = job.clean.len();
    let step_size = job.schedule.step.repeat(n);
    let mut best: Option<Best> = None;
    let mut penultimate = None;
    for restart in 0..job.schedule.restarts {
        let named = (job.seed, job.attack, job.images);
        let start = first_iterate(job.clean, (&lower, &upper), (job.budget, job.schedule), named, restart);
        let mut run = encoder.descend(&job.objective.descent(&start, &lower, &upper))?;
        for step in 0..=job.schedule.steps {
            job.cancel.check()?;
            let evaluation = if step < job.schedule.steps { run.step(&step_size)? } else { run.evaluate()? };
            check_finite(&evaluation, job.images, step)?;
            let best = best.get_or_insert_with(|| Best::new(&start, &evaluation));
            if restart == 0 {
                best.follow(&evaluation);
            }
            let is_last = job.keep == Keep::Last && step == job.schedule.steps;
            for sample in best.improve(&evaluation, is_last) {
                run.copy_evaluated(sample, best.adversarial.image_mut(sample));
            }
            if step + 1 == job.schedule.steps {
                penultimate = Some(evaluation.embeddings);
            }
        }
    }
    best.map(|best| best.finish(penultimate))
        .ok_or(AttackError::Budget(super::budget::BudgetError::Zero { what: "restarts" }))
}

/// Where run `restart` begins.
///
/// A second run from the clean image would repeat the first: later runs start uniformly in the ball.
pub(super) fn first_iterate(
    clean: &Images,
    bounds: (&Images, &Images),
    (budget, schedule): (&Budget, &Schedule),
    (seed, attack, images): (u64, &str, &[usize]),
    restart: usize,
) -> Images {
    let radii = match &schedule.start {
        Start::Uniform(radii) => Some(radii.as_slice()),
        Start::Clean => (restart > 0).then(|| budget.radii()),
    };
    let purpose = format!("start/{attack}");
    radii.map_or_else(
        || clean.clone(),
        |radii| noise::uniform(clean, bounds, radii, (seed, &purpose), images, restart as u64),
    )
}

fn check_finite(evaluation: &Evaluation, images: &[usize], step: usize) -> Result<(), AttackError> {
    let bad = evaluation.loss.iter().position(|loss| !loss.is_finite());
    bad.map_or(Ok(()), |i| Err(AttackError::Loss { image: images[i], step, loss: evaluation.loss[i] }))
}

struct Best {
    adversarial: Images,
    embeddings: Vec<f32>,
    dim: usize,
    start_loss: Vec<f32>,
    loss: Vec<f32>,
    paths: Vec<LossPath>,
}

impl Best {
    fn new(start: &Images, evaluation: &Evaluation) -> Self {
        Self {
            adversarial: start.clone(),
            embeddings: evaluation.embeddings.as_slice().to_vec(),
            dim: evaluation.embeddings.dim(),
            start_loss: evaluation.loss.clone(),
            loss: evaluation.loss.clone(),
            paths: vec![LossPath::default(); evaluation.loss.len()],
        }
    }

    /// Notes the losses along the way.
    fn follow(&mut self, evaluation: &Evaluation) {
        self.paths.iter_mut().zip(&evaluation.loss).for_each(|(path, loss)| path.push(*loss));
    }

    /// Takes over lower losses, or `all`; gives the samples whose pixels the caller must copy.
    fn improve(&mut self, evaluation: &Evaluation, all: bool) -> Vec<usize> {
        let better: Vec<usize> = (0..self.loss.len()).filter(|&i| all || evaluation.loss[i] < self.loss[i]).collect();
        for &i in &better {
            self.loss[i] = evaluation.loss[i];
            self.embeddings[i * self.dim..(i + 1) * self.dim].copy_from_slice(evaluation.embeddings.row(i));
        }
        better
    }

    fn finish(self, penultimate: Option<Embeddings>) -> Crafted {
        let shape = [self.loss.len(), self.dim];
        let embeddings = Embeddings::new(shape, self.embeddings).expect("one row for each sample");
        let (adversarial, start_loss, loss, paths) = (self.adversarial, self.start_loss, self.loss, self.paths);
        Crafted { adversarial, embeddings, start_loss, loss, paths, penultimate }
    }
}

#[cfg(test)]
mod tests;
