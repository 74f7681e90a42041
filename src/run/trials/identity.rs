//! What makes a trial the one it is: its digest, and the columns that are known before it is measured.

use serde::Serialize;

use super::Session;
use crate::digest::Digest;
use crate::encoder::onnx::Provider;
use crate::metric::kind::Metric;
use crate::record::Measurement;
use crate::suite::plan::TrialSpec;
use crate::suite::wire::Clusters;

/// Version of the measurement; a change that alters an outcome raises it, so that finished trials are not reused.
const TRIAL_VERSION: u32 = 6;

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
    metrics: &'a [Metric],
    clusters: Clusters,
    cluster_restarts: usize,
    batch_size: usize,
    gallery: usize,
    model: (&'a str, u64),
    provider: Provider,
    straight_through: bool,
}

impl Session<'_> {
    pub(super) fn identity(&self, trial: &TrialSpec) -> Digest {
        let evaluation = &self.context.plan.suite.evaluation;
        Digest::of_value(&Identity {
            version: TRIAL_VERSION,
            dataset: &self.context.images.digest,
            queries: Digest::of_value(&self.context.queries.chosen),
            crafter: &self.crafting_file(trial).sha256,
            answerer: &self.file(trial.answered_by).sha256,
            trial,
            seed: self.context.plan.suite.seed,
            recall_at: &evaluation.recall_at,
            metrics: &evaluation.metrics,
            clusters: evaluation.clusters,
            cluster_restarts: evaluation.cluster_restarts,
            batch_size: evaluation.batch_size,
            gallery: evaluation.gallery,
            model: (&self.model.id, self.model.seed),
            provider: self.context.settings.provider,
            straight_through: self.model.straight_through || self.crafter(trial.crafted_by.as_deref()).straight_through,
        })
    }

    /// A row with the columns that are known before the trial.
    pub(super) fn labels(&self, trial: &TrialSpec) -> Measurement {
        let text = |value: Option<String>| value.unwrap_or_else(|| "none".into());
        Measurement {
            dataset: self.context.images.id.clone(),
            split: self.context.images.digest.short().into(),
            model: self.model.id.clone(),
            training: self.model.training.clone(),
            model_seed: self.model.seed,
            artefact: self.file(trial.answered_by).sha256.short().to_string(),
            crafter: self.crafting_file(trial).sha256.short().to_string(),
            attack: trial.attack.clone(),
            goal: text(trial.goal.as_ref().map(ToString::to_string)),
            method: trial.method.label(),
            norm: trial.epsilon().map_or("none".into(), |e| e.norm().to_string()),
            side: "none".into(),
            crafted_by: trial.crafted_by.clone().unwrap_or_default(),
            crafted_on: trial.crafted_on.to_string(),
            answered_by: trial.answered_by.to_string(),
            epsilon: trial.epsilon().map_or("0".into(), |epsilon| trial.method.budget_in_words(epsilon)),
            selected_on: self.model.selected_on.clone(),
            ..Measurement::default()
        }
    }
}
