//! The trials of one model: those that are finished come from the store, the others are measured and kept.

use std::collections::BTreeMap;

use serde::Serialize;

use super::RunError;
use super::models::{OnnxFile, ReadyModel};
use super::pictures::{self, AdversarialBytes};
use super::queries::Queries;
use super::settings::Settings;
use super::store::{StoredTrial, TrialStore};
use crate::attack::evaluate::{TrialInput, TrialLabels, evaluate};
use crate::batch::Embeddings;
use crate::dataset::ImageSet;
use crate::digest::Digest;
use crate::encoder::Encoder;
use crate::encoder::onnx::{OnnxEncoder, OnnxOptions, Runtime};
use crate::record::QueryOutcome;
use crate::suite::attack::Branch;
use crate::suite::plan::{Plan, TrialSpec};

/// What all trials of a run share.
pub struct TrialContext<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The images.
    pub images: &'a ImageSet,
    /// The queries.
    pub queries: &'a Queries,
    /// Finished trials.
    pub store: &'a TrialStore,
    /// ONNX Runtime.
    pub runtime: &'a Runtime,
    /// Threads, progress, cancellation.
    pub settings: &'a Settings<'a>,
}

/// Version of the measurement; a change that alters an outcome raises it, so that finished trials are not reused.
const TRIAL_VERSION: u32 = 1;

/// Everything that can change an outcome of a trial.
#[derive(Serialize)]
struct Identity<'a> {
    version: u32,
    dataset: &'a Digest,
    queries: Digest,
    crafter: &'a Digest,
    answerer: &'a Digest,
    trial: &'a TrialSpec,
    seed: u64,
    recall_at: &'a [u32],
    batch_size: usize,
    gallery: usize,
    model: (&'a str, u64),
}

/// Measures every trial of one model, clean first.
///
/// # Errors
/// [`RunError`] if a model cannot be opened, the disk is full or the user stops; an attack that fails is a row with its
/// error.
pub fn measure_model(context: &TrialContext<'_>, model: &ReadyModel) -> Result<Vec<StoredTrial>, RunError> {
    let mut session = Session { context, model, encoders: BTreeMap::new(), clean: BTreeMap::new() };
    let mut done: Vec<StoredTrial> = Vec::new();
    for trial in context.plan.trials(&model.branches()) {
        context.settings.cancel.check()?;
        let digest = session.identity(&trial);
        let stored = match context.store.get(&digest) {
            Some(stored) => stored,
            None => {
                let clean = done.first().map(|first| first.queries.as_slice());
                let stored = session.measure(&trial, &digest, clean)?;
                context.store.put(&digest, &stored)?;
                stored
            }
        };
        done.push(stored);
    }
    Ok(done)
}

/// Open encoders and clean embeddings of one model, made when first needed.
struct Session<'a> {
    context: &'a TrialContext<'a>,
    model: &'a ReadyModel,
    encoders: BTreeMap<Branch, OnnxEncoder>,
    clean: BTreeMap<Branch, Embeddings>,
}

impl Session<'_> {
    fn file(&self, branch: Branch) -> &OnnxFile {
        self.model.files.get(&branch).expect("a plan lists only trials of branches that the model has")
    }

    fn identity(&self, trial: &TrialSpec) -> Digest {
        let evaluation = &self.context.plan.suite.evaluation;
        Digest::of_value(&Identity {
            version: TRIAL_VERSION,
            dataset: &self.context.images.digest,
            queries: Digest::of_value(&self.context.queries.chosen),
            crafter: &self.file(trial.crafted_on).sha256,
            answerer: &self.file(trial.answered_by).sha256,
            trial,
            seed: self.context.plan.suite.seed,
            recall_at: &evaluation.recall_at,
            batch_size: evaluation.batch_size,
            gallery: evaluation.gallery,
            model: (&self.model.id, self.model.seed),
        })
    }

    /// Opens a branch and embeds the clean gallery with it.
    fn open(&mut self, branch: Branch) -> Result<(), RunError> {
        if self.encoders.contains_key(&branch) {
            return Ok(());
        }
        let context = self.context;
        let file = self.file(branch);
        let options = OnnxOptions {
            name: format!("{} ({branch})", self.model.id),
            threads: context.settings.threads,
            batch_size: context.plan.suite.evaluation.batch_size,
            ..OnnxOptions::default()
        };
        let mut encoder = OnnxEncoder::open(context.runtime, &file.path, &options)?;
        let images = context.images;
        if encoder.spec().input != [3, images.size, images.size] {
            return Err(RunError::InputSize {
                model: self.model.id.clone(),
                wanted: encoder.spec().input,
                got: images.size,
            });
        }
        let gallery = &images.split.test;
        let mut data = Vec::with_capacity(gallery.len() * encoder.spec().embedding_dim);
        for part in gallery.chunks(context.plan.suite.evaluation.batch_size) {
            context.settings.cancel.check()?;
            data.extend_from_slice(encoder.embed(&images.images(part))?.as_slice());
        }
        let embeddings = Embeddings::new([gallery.len(), encoder.spec().embedding_dim], data)
            .expect("every part gives one row per image");
        self.encoders.insert(branch, encoder);
        self.clean.insert(branch, embeddings);
        Ok(())
    }

    fn measure(
        &mut self,
        trial: &TrialSpec,
        digest: &Digest,
        clean: Option<&[QueryOutcome]>,
    ) -> Result<StoredTrial, RunError> {
        self.open(trial.crafted_on)?;
        self.open(trial.answered_by)?;
        let context = self.context;
        let plan = context.plan;
        let mut crafter = self.encoders.remove(&trial.crafted_on).expect("opened above");
        let answerer: Option<&mut dyn Encoder> = match self.encoders.get_mut(&trial.answered_by) {
            Some(encoder) => Some(encoder),
            None => None,
        };
        let artefact = self.model.files[&trial.answered_by].sha256.short().to_string();
        let outcome = evaluate(TrialInput {
            images: context.images,
            queries: &context.queries.chosen,
            queries_available: context.queries.available,
            gallery: &context.images.split.test,
            crafter_clean: &self.clean[&trial.crafted_on],
            answerer_clean: &self.clean[&trial.answered_by],
            crafter: &mut crafter,
            answerer,
            trial,
            batch_size: plan.suite.evaluation.batch_size,
            seed: plan.suite.seed,
            recall_at: &plan.suite.evaluation.recall_at,
            keep_pixels_of: &context.queries.chosen[..context.queries.chosen.len().min(64)],
            labels: TrialLabels {
                trial: digest.short(),
                suite: &plan.name,
                model: &self.model.id,
                training: &self.model.training,
                model_seed: self.model.seed,
                artefact: &artefact,
                selected_on: &self.model.selected_on,
            },
            observer: context.settings.observer,
            cancel: &context.settings.cancel,
        });
        self.encoders.insert(trial.crafted_on, crafter);
        let outcome = outcome?;
        let kept: AdversarialBytes = outcome.adversarial;
        let gallery = match clean {
            Some(clean) if trial.goal.is_some() && self.model.seed == first_seed(context, &self.model.id) => {
                pictures::stories(
                    context.images,
                    &self.model.id,
                    &trial.attack,
                    clean,
                    &outcome.queries,
                    &kept,
                    plan.suite.evaluation.gallery,
                )
            }
            _ => vec![],
        };
        Ok(StoredTrial { measurement: outcome.measurement, queries: outcome.queries, gallery })
    }
}

/// Picture stories are told of one seed only.
fn first_seed(context: &TrialContext<'_>, id: &str) -> u64 {
    context.plan.models.iter().find(|m| m.id == id).and_then(|m| m.seeds.first().copied()).unwrap_or_default()
}
