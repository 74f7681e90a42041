//! How long a run will take on this machine: the plan's work ([`cost`](crate::suite::cost)) times what a unit of it costs
//! (`prices`), where that depends on the model with what a pilot of the search finds (`pilot`).
//!
//! Training, downloads, and the report are not in it. Finished trials of an earlier run are counted as if they were to be
//! done again.

mod idle;
mod look;
mod pilot;
mod prices;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use self::look::{look_at, sizes};
use self::pilot::key;
pub use self::prices::Prices;
use super::RunError;
use super::clock::since_start;
use super::models::{self, ReadyModel};
use super::queries::{self, Queries};
use super::{foreign, trials};
use crate::batch::{Embeddings, Images};
use crate::dataset::{self, ImageSet};
use crate::digest::Digest;
use crate::encoder::onnx::{Provider, Runtime};
use crate::progress::{Cancel, Observer};
use crate::score::Clustering;
use crate::suite::attack::Branch;
use crate::suite::cost::{Counted, Course, of_model};
use crate::suite::load::ModelSource;
use crate::suite::plan::{Plan, PlannedModel, TrialSpec};

/// What an estimate is made with.
pub struct Ask<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Folder of data sets and their caches.
    pub data: PathBuf,
    /// Folder of trained models.
    pub artifacts: PathBuf,
    /// Folder for files that are gone at the end.
    pub scratch: PathBuf,
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
    /// Who computes.
    pub provider: Provider,
    /// Threads of the run.
    pub threads: usize,
    /// Hears of progress.
    pub observer: &'a dyn Observer,
    /// Set by Ctrl-C.
    pub cancel: Cancel,
}

/// Seconds that something takes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Seconds {
    /// As the pilot of the search has it; where nothing depends on the model, the same as `at_most`.
    pub about: f64,
    /// If no query were broken before its search is over.
    pub at_most: f64,
}

impl std::iter::Sum for Seconds {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self { about: a.about + b.about, at_most: a.at_most + b.at_most })
    }
}

/// A trial of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrialTime {
    /// Its attack, or `clean`.
    pub attack: String,
    /// Its radius, if it has one.
    pub epsilon: Option<String>,
    /// Branch whose gradients are used.
    pub crafted_on: Branch,
    /// How long it takes.
    pub seconds: Seconds,
}

/// The trials of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelTime {
    /// Model id.
    pub id: String,
    /// Training seed.
    pub seed: u64,
    /// Whether its training comes first, which is not counted.
    pub untrained: bool,
    /// What its file costs; `None`: no file with the same network is there to be timed.
    pub prices: Option<Prices>,
    /// Its trials in order; empty without prices.
    pub trials: Vec<TrialTime>,
}

/// What a run takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Threads that it is made for.
    pub threads: usize,
    /// Queries of a trial.
    pub queries: usize,
    /// Images of the gallery.
    pub gallery: usize,
    /// Seconds in which the data set was opened.
    pub data: f64,
    /// Every trained model, in order.
    pub models: Vec<ModelTime>,
}

impl Estimate {
    /// All that could be estimated.
    pub fn total(&self) -> Seconds {
        let data = Seconds { about: self.data, at_most: self.data };
        let trials = self.models.iter().flat_map(|model| &model.trials).map(|trial| trial.seconds);
        trials.chain([data]).sum()
    }
}

/// What everything that is timed has in common.
struct Scene<'a> {
    plan: &'a Plan,
    images: &'a ImageSet,
    queries: &'a Queries,
    clustering: Clustering,
    /// Stands where embeddings will be.
    nothing: Embeddings,
    cancel: &'a Cancel,
}

impl Scene<'_> {
    /// So many queries, from the first again where there are fewer.
    fn pixels(&self, count: usize) -> Images {
        let list: Vec<usize> = self.queries.chosen.iter().copied().cycle().take(count).collect();
        self.images.images(&list)
    }
}

/// Networks that cost the same have the same digest.
fn network(model: &PlannedModel) -> Digest {
    match &model.source {
        ModelSource::Recipe(recipe) => Digest::of_value(&(&recipe.backbone, recipe.embedding_dim)),
        ModelSource::Onnx(card) => Digest::of_value(&(&model.id, &card.onnx)),
    }
}

/// Estimates a run of a plan.
///
/// # Errors
/// [`RunError`]: data that is not here, no ONNX Runtime, a file that cannot be run, a stop by the user.
pub fn estimate(ask: &Ask<'_>) -> Result<Estimate, RunError> {
    let plan = ask.plan;
    let runtime = Runtime::load(&ask.onnxruntime)?;
    let began = since_start();
    let images = dataset::open(&plan.suite.dataset, &ask.data, ask.observer, &ask.cancel)?;
    let data = since_start().saturating_sub(began).as_secs_f64();
    super::demands::check(plan, &images)?;
    let queries = queries::choose(&images, plan.suite.evaluation.queries, plan.suite.seed);
    if queries.chosen.is_empty() {
        return Err(RunError::NoQueries { dataset: images.id.clone() });
    }
    let scene = Scene {
        plan,
        images: &images,
        queries: &queries,
        clustering: trials::clustering(plan, &images),
        nothing: Embeddings::new([0, 1], vec![]).expect("no row has no entry"),
        cancel: &ask.cancel,
    };
    let mut timed: BTreeMap<Digest, (Prices, usize)> = BTreeMap::new();
    let mut seen: BTreeMap<String, BTreeMap<String, Course>> = BTreeMap::new();
    let mut ready = Vec::new();
    for model in &plan.models {
        for &seed in &model.seeds {
            ask.cancel.check()?;
            let file = finished(ask, model, seed, &images, &runtime)?;
            let network = network(model);
            let first = !seen.contains_key(&model.id);
            if let Some(file) = file.as_ref().filter(|_| first || !timed.contains_key(&network)) {
                ask.observer.begin(&format!("timing {}", model.id), 0, "passes");
                let searched = look_at(ask, &scene, file, &runtime, (&network, &mut timed), first)?;
                if first {
                    seen.insert(model.id.clone(), searched);
                }
                ask.observer.end();
            }
            ready.push((model, seed, file.is_none(), network));
        }
    }
    let price = |model: &PlannedModel| timed.get(&network(model)).copied();
    let mut models = Vec::new();
    for (model, seed, untrained, _) in ready {
        let found = price(model);
        let trials = found.map(|own| {
            let crafter = |trial: &TrialSpec| {
                let by = plan.models.iter().find(|other| Some(&other.id) == trial.crafted_by.as_ref());
                by.and_then(price).unwrap_or(own)
            };
            times(&scene, (model, seed), own, &crafter, seen.get(&model.id))
        });
        let trials = trials.unwrap_or_default();
        models.push(ModelTime { id: model.id.clone(), seed, untrained, prices: found.map(|f| f.0), trials });
    }
    let (queries, gallery) = (queries.chosen.len(), images.split.test.len());
    Ok(Estimate { threads: ask.threads, queries, gallery, data, models })
}

/// A model that is there; `None` for a recipe that is still to be trained. A foreign file that was never made ready is
/// made ready in the scratch folder.
fn finished(
    ask: &Ask<'_>,
    model: &PlannedModel,
    seed: u64,
    images: &ImageSet,
    runtime: &Runtime,
) -> Result<Option<ReadyModel>, RunError> {
    match &model.source {
        ModelSource::Recipe(recipe) => models::finished(model, recipe, seed, images, &ask.artifacts),
        ModelSource::Onnx(card) => {
            let kept = foreign::is_ready(model, card, images.size, runtime, &ask.artifacts)?;
            let folder = if kept { &ask.artifacts } else { &ask.scratch };
            foreign::prepare(model, card, images.size, runtime, folder).map(Some)
        }
    }
}

/// The trials of a model in seconds.
fn times(
    scene: &Scene<'_>,
    (model, seed): (&PlannedModel, u64),
    (own, batch): (Prices, usize),
    crafter: &dyn Fn(&TrialSpec) -> (Prices, usize),
    seen: Option<&BTreeMap<String, Course>>,
) -> Vec<TrialTime> {
    let named = (model.id.as_str(), seed);
    let sizes = sizes(scene, batch, own.lanes);
    let count = |course: &dyn Fn(&TrialSpec) -> Course| -> Vec<Counted> {
        of_model(scene.plan, named, &model.branches(), sizes, course)
    };
    let most = count(&|_| Course::to_the_end());
    let about = count(&|trial| seen.and_then(|seen| seen.get(&key(trial)).cloned()).unwrap_or_else(Course::to_the_end));
    let seconds = |counted: &Counted| crafter(&counted.trial).0.seconds(&counted.work, counted.trial.goal.is_none());
    let both = most.iter().zip(&about).map(|(most, about)| TrialTime {
        attack: most.trial.attack.clone(),
        epsilon: most.trial.epsilon().map(|epsilon| most.trial.method.budget_in_words(epsilon)),
        crafted_on: most.trial.crafted_on,
        seconds: Seconds { about: seconds(about), at_most: seconds(most) },
    });
    both.collect()
}
