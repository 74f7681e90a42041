//! A whole training: epochs, selection, checkpoints.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tch::{Device, TchError, Tensor};

use super::checkpoint::{Checkpoint, EpochRecord, Generations, LossState};
use super::device;
use super::error::TrainError;
use super::memory::KeptMemory;
use super::model::Model;
use super::pretrained;
use super::sampler::Sampler;
use super::schedule::Schedule;
use super::selection;
use super::step::Trainer;
use crate::batch::Images;
use crate::dataset::ImageSet;
use crate::dataset::loader::Loader;
use crate::digest::Digest;
use crate::network::pretrained::apply_pretrained;
use crate::network::weights::Weights;
use crate::network::{Network, build};
use crate::progress::{Cancel, Observer};
use crate::record::TrainingPoint;
use crate::rng;
use crate::suite::recipe::{Quirks, Recipe, Selection};

/// Batches prepared ahead of the step that needs them.
const PREFETCH: usize = 4;

/// What to train, on what, and who watches.
#[derive(Clone, Copy)]
pub struct TrainJob<'a> {
    /// Model id, for the curve and for messages.
    pub model: &'a str,
    /// How.
    pub recipe: &'a Recipe,
    /// Which of the recipe's seeds.
    pub seed: u64,
    /// On what.
    pub images: &'a ImageSet,
    /// Weights to begin with, of every branch; `None` begins with the recipe's pretrained file, or at random.
    pub start: Option<&'a Weights>,
    /// Where libtorch computes.
    pub device: Device,
    /// Threads of libtorch and of data loading.
    pub threads: usize,
    /// Where the checkpoint lies.
    pub folder: &'a Path,
    /// Told about progress: one unit per clean image.
    pub observer: &'a dyn Observer,
    /// Looked at between steps. The last epoch's checkpoint stays.
    pub cancel: &'a Cancel,
}

/// A finished training.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The network, with its branches.
    pub network: Network,
    /// Weights of the selected epoch.
    pub weights: Weights,
    /// One point per epoch.
    pub curve: Vec<TrainingPoint>,
    /// Epoch whose weights these are, from 1.
    pub selected_epoch: u32,
    /// What the epoch was chosen on. [`Selection::Test`] means that test numbers of this model are optimistic; every
    /// record made from it must say so.
    pub selected_on: Selection,
}

/// What makes two trainings the same; its digest guards the checkpoint.
#[derive(Serialize)]
struct Identity<'a> {
    recipe: Recipe,
    seed: u64,
    images: &'a Digest,
    start: Option<Digest>,
}

/// Name of a training, equal for two jobs that give the same weights. Words about the recipe and its other seeds do not
/// matter.
pub fn identity(job: &TrainJob<'_>) -> Digest {
    let recipe = Recipe { about: String::new(), seeds: vec![], ..job.recipe.clone() };
    let start = job.start.map(Weights::digest);
    Digest::of_value(&Identity { recipe, seed: job.seed, images: &job.images.digest, start })
}

/// Trains to the last epoch, from the checkpoint in `job.folder` if there is one.
///
/// On one machine with the same number of threads a training that was stopped and continued gives the same bits as one
/// that was not (CPU). A finished training's checkpoint gives the result again without a step.
///
/// # Errors
/// [`TrainError`]; checkpoints already written stay.
pub fn train(job: &TrainJob<'_>) -> Result<Trained, TrainError> {
    let _kept = KeptMemory::begin();
    tch::set_num_threads(job.threads.max(1) as i32);
    let what = format!("train {} seed {}", job.model, job.seed);
    let sampler = Sampler::new(job.recipe, &job.images.split.train, &job.images.labels, job.seed)?;
    let total = job.recipe.epochs * sampler.batches() * job.recipe.batch_size;
    job.observer.begin(&what, total as u64, "images");
    let trained = Training::begin(job, sampler).and_then(Training::run);
    job.observer.end();
    trained
}

/// A training under way.
struct Training<'a> {
    job: &'a TrainJob<'a>,
    sampler: Sampler,
    loader: Loader,
    schedule: Schedule,
    trainer: Trainer,
    selection: Selection,
    /// Images to choose the epoch on.
    selectors: Vec<usize>,
    identity: Digest,
    curve: Vec<EpochRecord>,
    best_epoch: u32,
    best: Option<Weights>,
}

impl<'a> Training<'a> {
    /// Fresh, or as the checkpoint left it.
    fn begin(job: &'a TrainJob<'a>, sampler: Sampler) -> Result<Self, TrainError> {
        let recipe = job.recipe;
        let network = build(&recipe.backbone, recipe.embedding_dim, recipe.method.auxiliary_branches())?;
        // Said here in its own words, not by libtorch in the first step.
        network.output_shapes(job.images.size, job.images.size)?;
        let mut model = Model::new(&network, job.seed, job.device)?;
        if let Some(notice) = device::slow_format(recipe.precision, job.device, device::processor_has_bfloat16()) {
            job.observer.say(notice);
        }
        let Quirks { selection, auxiliary_start, .. } = Quirks::resolve(recipe.preset, &recipe.quirks);
        match (job.start, &recipe.weights) {
            (Some(start), _) => model.load_weights(start)?,
            (None, Some(spec)) => {
                let file = pretrained::load(spec)?;
                let mut weights = model.to_weights();
                apply_pretrained(&network, &mut weights, &file, auxiliary_start).check(&network)?;
                model.load_weights(&weights)?;
            }
            (None, None) => {}
        }
        let mut training = Self {
            job,
            loader: Loader::new(
                Arc::new(job.images.clone()),
                recipe.augmentation.clone(),
                job.seed,
                job.threads,
                PREFETCH,
            ),
            schedule: Schedule::new(&recipe.optimizer, recipe.epochs, sampler.batches()),
            sampler,
            trainer: Trainer::new(recipe, model, &job.images.labels_of(&job.images.split.train), job.seed)?,
            selection,
            selectors: selection::images(job.images, selection)?,
            identity: identity(job),
            curve: vec![],
            best_epoch: 0,
            best: None,
        };
        let (checkpoint, word) = Generations::new(job.folder).load(training.identity.as_str())?;
        if let Some(word) = word {
            job.observer.note(&word);
        }
        if let Some(checkpoint) = checkpoint {
            training.restore(checkpoint)?;
        }
        Ok(training)
    }

    fn restore(&mut self, checkpoint: Checkpoint) -> Result<(), TrainError> {
        self.trainer.model.load_weights(&checkpoint.model)?;
        let moment = |data: &[f32]| Tensor::f_from_slice(data)?.f_to_device(self.job.device);
        let model = &self.trainer.model;
        let [mean, square] = [&checkpoint.mean, &checkpoint.square].map(|data| model.from_file_order(&moment(data)?));
        let (mean, square) = (mean?, square?);
        self.trainer.adam.restore(checkpoint.steps, &mean, &square);
        if let Some(own) = &checkpoint.loss {
            self.trainer.restore_loss(&moment(&own.values)?, &moment(&own.mean)?, &moment(&own.square)?)?;
        }
        self.trainer.restore_previous(checkpoint.previous);
        self.curve = checkpoint.curve;
        self.best_epoch = checkpoint.best_epoch;
        self.best = Some(checkpoint.best.unwrap_or(checkpoint.model));
        Ok(())
    }

    fn run(mut self) -> Result<Trained, TrainError> {
        let images_per_epoch = self.sampler.batches() * self.job.recipe.batch_size;
        self.job.observer.advance((self.curve.len() * images_per_epoch) as u64);
        for epoch in self.curve.len()..self.job.recipe.epochs {
            let loss = self.epoch(epoch)?;
            self.finish_epoch(epoch, loss)?;
        }
        let point = |record: &EpochRecord| TrainingPoint {
            model: self.job.model.to_string(),
            seed: self.job.seed,
            epoch: record.epoch,
            loss: record.loss,
            selection_recall: record.selection_recall,
            learning_rate: record.learning_rate,
        };
        Ok(Trained {
            curve: self.curve.iter().map(point).collect(),
            network: self.trainer.model.network().clone(),
            weights: self.best.unwrap_or_else(|| self.trainer.model.to_weights()),
            selected_epoch: self.best_epoch,
            selected_on: self.selection,
        })
    }

    /// All steps of one epoch; gives the mean loss.
    fn epoch(&mut self, epoch: usize) -> Result<f64, TrainError> {
        let plan = self.sampler.epoch(epoch);
        let mut sum = 0.0;
        self.job.observer.phase("load");
        for (batch, made) in self.loader.epoch(epoch as u64, plan.clone())?.enumerate() {
            self.job.cancel.check()?;
            let (images, labels) = made?;
            let indices = &plan[batch];
            let loss = self.step((epoch, batch), &images, &labels)?;
            self.job.observer.phase("load");
            if !loss.is_finite() {
                let images = indices.iter().map(|&i| self.source(i)).collect();
                return Err(TrainError::NotFinite { loss, epoch: epoch + 1, step: batch + 1, images });
            }
            sum += loss;
            let rate = self.schedule.learning_rate(epoch * plan.len() + batch);
            let epochs = self.job.recipe.epochs;
            self.job.observer.advance(indices.len() as u64);
            self.job.observer.note(&format!("epoch {}/{epochs}, loss {loss:.4}, lr {rate:.2e}", epoch + 1));
        }
        Ok(sum / plan.len() as f64)
    }

    fn step(&mut self, position: (usize, usize), images: &Images, labels: &[u32]) -> Result<f64, TrainError> {
        self.job.observer.phase("draw");
        let draws = self.trainer.draw(self.job.seed, position, labels, images.stride());
        let rate = self.schedule.learning_rate(position.0 * self.sampler.batches() + position.1);
        let pixels = to_tensor(images, self.job.device)?;
        let counters = [position.0 as u64, position.1 as u64];
        let mut random = rng::stream(self.job.seed, "loss-miner", &counters);
        self.trainer.watched_step((&pixels, labels, &draws), rate, &mut random, self.job.observer)
    }

    /// Selects, records and saves.
    fn finish_epoch(&mut self, epoch: usize, loss: f64) -> Result<(), TrainError> {
        let number = epoch as u32 + 1;
        self.job.observer.phase("select");
        let recall = match self.selection {
            Selection::Last => None,
            _ => Some(selection::recall_at_1(&self.trainer.model, self.job.images, &self.selectors)?),
        };
        let best_so_far = self.curve.iter().filter_map(|record| record.selection_recall).fold(-1.0, f64::max);
        let model = self.trainer.model.to_weights();
        if recall.is_none_or(|recall| recall > best_so_far) {
            self.best_epoch = number;
            self.best = Some(model.clone());
        }
        self.job.observer.phase("save");
        let last_step = (epoch + 1) * self.sampler.batches() - 1;
        let learning_rate = self.schedule.learning_rate(last_step);
        self.curve.push(EpochRecord { epoch: number, loss, selection_recall: recall, learning_rate });
        let (mean, square) = self.trainer.adam.moments();
        let in_file_order = |moment| Vec::try_from(self.trainer.model.to_file_order(moment)?);
        let checkpoint = Checkpoint {
            training: self.identity.as_str().to_string(),
            steps: self.trainer.adam.steps(),
            curve: self.curve.clone(),
            best_epoch: self.best_epoch,
            best: self.best.clone().filter(|_| self.best_epoch != number),
            model,
            mean: in_file_order(mean)?,
            square: in_file_order(square)?,
            loss: self.loss_state()?,
            previous: self.trainer.previous(),
        };
        Ok(Generations::new(self.job.folder).save(&checkpoint)?)
    }

    fn loss_state(&self) -> Result<Option<LossState>, TchError> {
        let Some((values, adam)) = self.trainer.loss_state() else { return Ok(None) };
        let (mean, square) = adam.moments();
        let values = Vec::try_from(values.f_detach()?)?;
        Ok(Some(LossState { values, mean: Vec::try_from(mean)?, square: Vec::try_from(square)? }))
    }

    fn source(&self, image: usize) -> String {
        self.job.images.sources.get(image).cloned().unwrap_or_else(|| format!("#{image}"))
    }
}

/// A batch on the device, `[n, 3, h, w]`.
pub(super) fn to_tensor(images: &Images, device: Device) -> Result<Tensor, TchError> {
    let shape = images.shape().map(|side| side as i64);
    Tensor::f_from_slice(images.as_slice())?.f_reshape(shape)?.f_to_device(device)
}
