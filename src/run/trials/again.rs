//! The same trial in other batches.

use super::{Session, trial_input};
use crate::attack::checks;
use crate::attack::evaluate::{embed_all, run_trial};
use crate::batch::Embeddings;
use crate::digest::Digest;
use crate::progress::Silent;
use crate::record::{Check, QueryOutcome};
use crate::run::RunError;
use crate::suite::attack::Branch;
use crate::suite::cost::BATCHES_AT_ONCE;
use crate::suite::plan::TrialSpec;
use crate::suite::repeats::{OTHER_BATCH_GALLERY, OTHER_BATCH_QUERIES};

impl Session<'_> {
    /// Measures the first queries again with half the batch size, `gallery` (by the answering model) renewed in the same way
    /// as far as [`OTHER_BATCH_GALLERY`] allows, and counts the outcomes that differ: what a batch has to
    /// do with an image's result is rounding alone. Done once per attack, for the first seed.
    pub(super) fn other_batch_size(
        &mut self,
        trial: &TrialSpec,
        digest: &Digest,
        outcomes: &[QueryOutcome],
        gallery: &Embeddings,
    ) -> Result<Option<Check>, RunError> {
        let context = self.context;
        if !context.plan.is_repeated_in_other_batches(trial, &self.model.id, self.model.seed) {
            return Ok(None);
        }
        let batch_size = match context.plan.suite.evaluation.batch_size {
            1 => 2,
            size => size / 2,
        };
        let queries = &context.queries.chosen[..context.queries.chosen.len().min(OTHER_BATCH_QUERIES)];
        let mut encoder = self.encoder(&(None, Branch::Main), batch_size)?;
        let silent = Silent;
        let mut embed = |indices: &[usize]| {
            embed_all(
                &mut encoder,
                context.images,
                indices,
                batch_size * BATCHES_AT_ONCE,
                &silent,
                &context.settings.cancel,
            )
        };
        let own = embed(queries)?;
        let gallery = match self.other_gallery.take() {
            Some(gallery) => gallery,
            None => {
                // What mixes the images of a batch shows in a part of a large gallery as well.
                let all = &context.images.split.test;
                let every = all.len().div_ceil(OTHER_BATCH_GALLERY).max(1);
                let few: Vec<usize> = all.iter().copied().step_by(every).collect();
                gallery.with_rows(every, &embed(&few)?)
            }
        };
        let mut input = trial_input(context, trial, digest, queries, ((&own, &gallery), None));
        input.batch_size = batch_size * BATCHES_AT_ONCE;
        input.observer = &silent;
        input.keep = &[];
        input.metrics = &[];
        let again = run_trial(&mut encoder, None, &input)?;
        self.other_gallery = Some(gallery);
        let ks = &context.plan.suite.evaluation.recall_at;
        let hit = |outcome: &QueryOutcome, k: u32| (1..=k).contains(&outcome.first_hit);
        let differing = again
            .queries
            .iter()
            .zip(outcomes)
            .map(|(a, b)| ks.iter().filter(|&&k| hit(a, k) != hit(b, k)).count())
            .sum();
        Ok(Some(checks::batch_size_changes_little(differing, queries.len() * ks.len(), batch_size)))
    }
}
