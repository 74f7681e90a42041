//! What one unit of work costs here and now: a few passes and steps of the model's own file, and a few trials of a model
//! that computes nothing, which leaves what the program itself takes.

use serde::Serialize;

use super::Scene;
use super::idle::Idle;
use crate::attack::AttackError;
use crate::attack::evaluate::{AttackInput, TrialInput, run_trial};
use crate::attack::goal::Objective;
use crate::batch::{Embeddings, Images};
use crate::encoder::onnx::OnnxEncoder;
use crate::encoder::{Encoder, EncoderError};
use crate::metric::neighbors::{Depth, Distance, Search, search};
use crate::progress::Silent;
use crate::run::RunError;
use crate::run::clock::since_start;
use crate::suite::attack::{Access, Distribution, EpsilonList, Goal, Method, Side, Stop};
use crate::suite::cost::Work;
use crate::units::{Epsilon, PixelAmount};

/// A unit is timed at least so often and until so many seconds have gone, but never more often than the last number says.
const TIMED: (usize, f64, usize) = (3, 0.1, 9);
/// What takes so many seconds is timed once.
const LONG: f64 = 0.5;
/// Queries of the trials that compute nothing.
const IDLE_QUERIES: usize = 256;
const IDLE_WALKS: usize = 64;
const IDLE_STEPS: usize = 4;
const IDLE_LOOKS: usize = 64;
const IDLE_SURVIVORS: usize = 4;

/// Seconds of each unit of [`Work`].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Prices {
    /// A round of forward passes.
    pub forward: f64,
    /// A round of gradient steps in the attack graph.
    pub step: f64,
    /// A round of gradients for a walk outside of it.
    pub gradient: f64,
    /// An image that a walk moves.
    pub moved: f64,
    /// An image whose loss compares it with the whole gallery.
    pub compared: f64,
    /// A query that is ranked, one of many.
    pub ranked: f64,
    /// The first query of a ranking.
    pub rankings: f64,
    /// The answers of a clean trial.
    pub clean_answers: f64,
    /// The answers of an attacked trial.
    pub answers: f64,
    /// A file that is opened.
    pub opened: f64,
    /// A loss whose backward pass is opened.
    pub losses: f64,
    /// Passes side by side.
    pub lanes: usize,
}

impl Prices {
    /// Seconds of some work of a trial.
    pub fn seconds(&self, work: &Work, clean: bool) -> f64 {
        let answers = if clean { self.clean_answers } else { self.answers };
        work.forward * self.forward
            + work.step * self.step
            + work.gradient * self.gradient
            + work.moved * self.moved
            + work.compared * self.compared
            + work.ranked * self.ranked
            + work.rankings * self.rankings
            + work.answers * answers
            + work.opened * self.opened
            + work.losses * self.losses
    }
}

/// Seconds of something done once.
fn once<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
    let began = since_start();
    let done = work()?;
    Ok((done, since_start().saturating_sub(began).as_secs_f64()))
}

/// The median of a few times, the first one (which finds its memory) left out unless it is [`LONG`].
fn median<E>(mut work: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let (at_least, seconds, at_most) = TIMED;
    let ((), first) = once(&mut work)?;
    if first > LONG {
        return Ok(first);
    }
    let (mut times, mut sum) = (Vec::new(), 0.0);
    while times.len() < at_least || (sum < seconds && times.len() < at_most) {
        let ((), time) = once(&mut work)?;
        times.push(time);
        sum += time;
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Times a model. `open` opens it; `ways`: whether the plan follows its gradient, and whether it walks outside of the attack
/// graph (the probe of a gradient does so once, which is priced as a step).
///
/// # Errors
/// [`RunError`] of the model. One without gradient has no price for it: its attacks will fail at once.
pub(super) fn measure(
    scene: &Scene<'_>,
    open: impl FnOnce() -> Result<OnnxEncoder, RunError>,
    (gradients, walks): (bool, bool),
) -> Result<(Prices, OnnxEncoder), RunError> {
    let (mut encoder, opened) = once(open)?;
    let mut prices = Prices { opened, lanes: encoder.lanes(), ..Prices::default() };
    let batch = encoder.batch_size();
    let mut pixels = scene.pixels(batch * encoder.lanes());
    let mut found = encoder.embed(&pixels)?;
    if gradients {
        match price_gradients(&mut encoder, (&pixels, &found), walks, &mut prices) {
            Err(EncoderError::NoGradient { .. }) => {}
            other => other?,
        }
        prices.lanes = encoder.lanes();
        if prices.lanes * batch < pixels.len() {
            pixels = scene.pixels(batch * prices.lanes);
            found = encoder.embed(&pixels)?;
            // What is priced is a round, and rounds have become smaller.
            price_steps(&mut encoder, (&pixels, &found), walks, &mut prices)?;
        }
    }
    prices.forward = median(|| encoder.embed(&pixels).map(drop))?;
    price_answers(scene, found.dim(), batch, &mut prices)?;
    Ok((prices, encoder))
}

fn objective(found: &Embeddings) -> Objective {
    // Each towards the next one: what is aimed at changes no time.
    let n = found.len();
    let targets = (0..n).flat_map(|i| found.row((i + 1) % n).to_vec()).collect();
    Objective::new(&Goal::SingleTarget {}, n, targets)
}

fn price_gradients(
    encoder: &mut OnnxEncoder,
    (pixels, found): (&Images, &Embeddings),
    walks: bool,
    prices: &mut Prices,
) -> Result<(), EncoderError> {
    let objective = objective(found);
    let ((), opened) = once(|| encoder.descend(&objective.descent(pixels, pixels, pixels)).map(drop))?;
    prices.losses = opened;
    price_steps(encoder, (pixels, found), walks, prices)
}

fn price_steps(
    encoder: &mut OnnxEncoder,
    (pixels, found): (&Images, &Embeddings),
    walks: bool,
    prices: &mut Prices,
) -> Result<(), EncoderError> {
    let objective = objective(found);
    if walks {
        prices.gradient = median(|| encoder.gradient(&objective.descent(pixels, pixels, pixels)).map(drop))?;
    }
    let sizes = vec![1e-3; pixels.len() * pixels.shape()[1]];
    let mut steps = encoder.descend(&objective.descent(pixels, pixels, pixels))?;
    prices.step = median(|| steps.step(&sizes).map(drop))?;
    prices.gradient = if walks { prices.gradient } else { prices.step };
    Ok(())
}

/// Times what is no pass of the model, with one that answers without computing.
fn price_answers(scene: &Scene<'_>, dim: usize, batch: usize, prices: &mut Prices) -> Result<(), AttackError> {
    let Scene { images, queries, .. } = scene;
    let gallery = &images.split.test;
    let size = images.size;
    let mut idle = Idle::new([3, size, size], dim, batch);
    let clean = |list: &[usize]| Idle::classes(&images.labels_of(list), dim);
    let (own, all) = (clean(&queries.chosen), clean(gallery));
    let epsilon = Epsilon::Pixels(PixelAmount::grey_levels(8));
    let radii = || EpsilonList(vec![epsilon.clone()]);
    let noise = Method::Noise { epsilon: radii(), distribution: Distribution::Uniform };
    let walk =
        Method::Apgd { epsilon: radii(), steps: IDLE_STEPS - 1, restarts: 1, stop: Stop::Never, warm_start: false };
    let square = Method::Square {
        epsilon: radii(),
        queries: IDLE_LOOKS,
        restarts: 1,
        access: Access::Embedding,
        stop: Stop::Never,
    };
    let mut trial = |goal: &Goal, method: Option<&Method>, most: usize| -> Result<(f64, usize), AttackError> {
        let count = queries.chosen.len().min(most);
        let rows: Vec<usize> = (0..count).collect();
        let own = own.select(&rows);
        let attack =
            method.map(|method| AttackInput { name: "estimate", goal, method, epsilon: &epsilon, side: Side::Query });
        let input = TrialInput {
            queries: &queries.chosen[..count],
            query_embeddings: &own,
            gallery_embeddings: &all,
            ..scene.input(attack)
        };
        let ((), seconds) = once(|| run_trial(&mut idle, None, &input).map(drop))?;
        Ok((seconds, count))
    };
    let (shift, misrank) = (Goal::Untargeted {}, Goal::Misrank {});
    prices.clean_answers = trial(&shift, None, usize::MAX)?.0;
    let (seconds, count) = trial(&shift, Some(&noise), IDLE_QUERIES)?;
    prices.answers = seconds * queries.chosen.len() as f64 / count.max(1) as f64;
    let (still, _) = trial(&shift, Some(&noise), IDLE_WALKS)?;
    let (moved, count) = trial(&shift, Some(&walk), IDLE_WALKS)?;
    prices.moved = (moved - still).max(0.0) / (count.max(1) * IDLE_STEPS) as f64;
    // A few images, as at the end of a search that few queries survive.
    let (blind, count) = trial(&shift, Some(&square), IDLE_SURVIVORS)?;
    let (compared, _) = trial(&misrank, Some(&square), IDLE_SURVIVORS)?;
    prices.compared = (compared - blind).max(0.0) / (count.max(1) * IDLE_LOOKS) as f64;
    let gallery_labels = images.labels_of(gallery);
    let rank = |count: usize| {
        let rows: Vec<usize> = (0..count).collect();
        let (asking, labels) = (own.select(&rows), images.labels_of(&queries.chosen[..count]));
        median(|| {
            let all = search(Search {
                queries: &asking,
                query_labels: &labels,
                gallery: &all,
                gallery_labels: &gallery_labels,
                excluded: &[],
                depth: Depth::Fixed(0),
                distance: Distance::Euclidean,
            });
            all.map(drop)
        })
    };
    let count = queries.chosen.len().min(IDLE_QUERIES);
    prices.rankings = rank(1)?;
    prices.ranked = (rank(count)? - prices.rankings).max(0.0) / (count - 1).max(1) as f64;
    Ok(())
}

/// What [`TrialInput`] wants besides what a trial differs in.
impl<'a> Scene<'a> {
    pub(super) fn input(&'a self, attack: Option<AttackInput<'a>>) -> TrialInput<'a> {
        let evaluation = &self.plan.suite.evaluation;
        TrialInput {
            trial: "estimate",
            images: self.images,
            queries: &self.queries.chosen,
            queries_available: self.queries.available,
            gallery: &self.images.split.test,
            query_embeddings: &self.nothing,
            gallery_embeddings: &self.nothing,
            crafter_embeddings: None,
            attack,
            batch_size: evaluation.batch_size * crate::suite::cost::BATCHES_AT_ONCE,
            seed: self.plan.suite.seed,
            ks: &evaluation.recall_at,
            metrics: &evaluation.metrics,
            clustering: self.clustering,
            keep: &[],
            observer: &Silent,
            cancel: self.cancel,
        }
    }
}
