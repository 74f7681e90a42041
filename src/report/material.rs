//! What every part of a report is made from: the run, its summary, and its per-query outcomes found by trial.

use std::collections::HashMap;

use super::summary::Summary;
use super::trend::Trend;
use crate::record::{Measurement, QueryOutcome, Run, StepPoint};

/// A run with everything that is worked out once and used by many parts.
#[derive(Debug)]
pub struct Material<'a> {
    /// The run.
    pub run: &'a Run,
    /// Its measurements, grouped.
    pub summary: Summary,
    /// Its per-query outcomes.
    pub outcomes: Outcomes<'a>,
    /// The nights before it.
    pub trend: Option<&'a Trend>,
}

impl<'a> Material<'a> {
    /// The steps of one trial's attack, ascending; none if it was not searched step by step.
    pub fn steps_of(&self, trial: &str) -> Vec<&'a StepPoint> {
        let mut steps: Vec<&StepPoint> = self.run.steps.iter().filter(|point| point.trial == trial).collect();
        steps.sort_by_key(|point| point.step);
        steps
    }

    /// Groups and sorts a run once.
    pub fn of(run: &'a Run) -> Self {
        Self { run, summary: Summary::of(run), outcomes: Outcomes::of_run(run), trend: None }
    }
}

/// The outcomes of each trial, sorted by query.
#[derive(Debug)]
pub struct Outcomes<'a>(HashMap<&'a str, Vec<&'a QueryOutcome>>);

impl<'a> Outcomes<'a> {
    fn of_run(run: &'a Run) -> Self {
        let mut by_trial: HashMap<&str, Vec<&QueryOutcome>> = HashMap::new();
        for rows in run.queries.chunk_by(|a, b| a.trial == b.trial) {
            by_trial.entry(rows[0].trial.as_str()).or_default().extend(rows);
        }
        by_trial.values_mut().for_each(|list| list.sort_by_key(|outcome| outcome.query));
        Self(by_trial)
    }

    /// Those of one trial, ascending by query; `None` if the run has none of it.
    pub fn of(&self, trial: &str) -> Option<&[&'a QueryOutcome]> {
        self.0.get(trial).map(Vec::as_slice)
    }

    /// The lists of several trials, if all are of the same queries; without those that have no answer.
    pub fn of_trials(&self, trials: &[&Measurement]) -> Option<Vec<Vec<&'a QueryOutcome>>> {
        let lists: Option<Vec<&[&QueryOutcome]>> = trials.iter().map(|m| self.of(&m.trial)).collect();
        let lists = lists?;
        let queries = |list: &[&QueryOutcome]| list.iter().map(|o| (o.query, o.first_hit > 0)).collect::<Vec<_>>();
        let first = queries(lists.first()?);
        let same = lists.iter().all(|list| queries(list) == first);
        let counted = |list: &[&'a QueryOutcome]| list.iter().copied().filter(|o| o.first_hit > 0).collect();
        (same && !first.is_empty()).then(|| lists.into_iter().map(counted).collect())
    }
}
