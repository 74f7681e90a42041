//! What a trial found, as columns of its row.

use std::collections::BTreeSet;

use super::{TrialInput, TrialOutcome};
use crate::encoder::EncoderSpec;
use crate::record::Measurement;
use crate::suite::attack::{Method, RankingPart, Side};

impl TrialOutcome {
    /// Fills the columns of a row that this trial knows; model, suite, artefact and branch are the caller's.
    pub fn write_into(&self, input: &TrialInput<'_>, spec: &EncoderSpec, row: &mut Measurement) {
        let attack = input.attack.filter(|a| !matches!(a.method, Method::None {}));
        row.trial = input.trial.into();
        row.dataset = input.images.id.clone();
        row.split = input.images.digest.short().into();
        row.attack = attack.map_or("clean", |a| a.name).into();
        row.goal = attack.map_or("none".into(), |a| a.goal.to_string());
        row.method = attack.map_or("none".into(), |a| a.method.label());
        let candidate = super::ranked::part_of(input).is_some_and(RankingPart::perturbs_candidate);
        row.side = attack.map_or("none", |a| if candidate { "candidate" } else { side_word(a.side) }).into();
        row.epsilon = attack.map_or("0".into(), |a| a.method.budget_in_words(a.epsilon));
        row.epsilon_pixels = attack.map_or(0.0, |a| a.epsilon.nominal(&spec.std));
        row.norm = attack.map_or("none".into(), |a| a.epsilon.norm().to_string());
        row.steps = attack.map_or(0, |a| a.method.steps() as u32);
        row.restarts = attack.map_or(0, |a| a.method.restarts() as u32);
        row.seed = input.seed;
        row.queries = self.queries.len() as u32;
        row.queries_available = input.queries_available as u32;
        row.without_positive = self.without_positive as u32;
        let classes: BTreeSet<u32> = self.queries.iter().map(|q| q.label).collect();
        row.query_classes = classes.len() as u32;
        row.gallery = input.gallery.len() as u32;
        row.recall = self.recall.clone();
        row.success = self.success;
        row.shift = self.shift;
        row.metrics = self.metrics.clone();
        row.linf_max = self.linf_max;
        row.l2_mean = self.l2_mean;
        row.evaluations_mean = self.evaluations_mean;
        row.checks = self.checks.clone();
        row.provider = spec.provider.clone();
        row.error = None;
    }
}

fn side_word(side: Side) -> &'static str {
    match side {
        Side::Query => "query",
        Side::Gallery => "gallery",
        Side::All => "all",
    }
}
