//! A plan cut into shards of about equal cost, each of which any machine can measure by itself.
//!
//! The cut depends on the plan alone, so every machine finds the same one. What a shard leaves is a file `shard.json`, written
//! last, and the finished trials; `merge` joins them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::models::ReadyModel;
use super::settings::Part;
use crate::digest::Digest;
use crate::suite::plan::{Plan, PlannedTrial};

/// One of several parts of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Which, from 1.
    pub index: u32,
    /// Of how many.
    pub of: u32,
}

/// Shards at most: more than any scheduler's array.
const MOST: u32 = 100_000;

/// A text that is no shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no shard; wanted i/N with 1 ≤ i ≤ N, such as 2/4, or auto/4 to take i from SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX")]
pub struct ShardError(pub String);

impl Shard {
    /// Checks both numbers.
    ///
    /// # Errors
    /// [`ShardError`] unless `1 ≤ index ≤ of`.
    pub fn new(index: u32, of: u32) -> Result<Self, ShardError> {
        if (1..=of).contains(&index) && of <= MOST { Ok(Self { index, of }) } else { Err(ShardError(format!("{index}/{of}"))) }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let wrong = || ShardError(text.to_string());
        let (index, of) = text.split_once('/').ok_or_else(wrong)?;
        Self::new(index.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?).map_err(|_| wrong())
    }
}

/// What a trial costs, in forward passes of the data set's images by one model.
///
/// A gradient step costs 2.5 to 3 passes (measured, README); embedding the clean images is paid by every trial that opens
/// the model, so a trial never costs less than that.
pub fn cost(trial: &PlannedTrial<'_>) -> f64 {
    const GRADIENT: f64 = 3.0;
    let method = &trial.spec.method;
    let steps = (method.steps() * method.restarts()) as f64;
    1.0 + GRADIENT * steps
}

/// Shard (from 0) of each trial of [`Plan::all_trials`]: the dearest first, each to the shard that has least so far.
///
/// No shard then has more than 4/3 of what the best cut has.
///
/// # Source
/// Graham 1969, "Bounds on multiprocessing timing anomalies" (longest processing time first).
pub fn assign(costs: &[f64], shards: u32) -> Vec<u32> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by(|&a, &b| costs[b].total_cmp(&costs[a]).then(a.cmp(&b)));
    let mut load = vec![0.0f64; shards as usize];
    let mut of = vec![0; costs.len()];
    for trial in order {
        // The first of the least: the same on every machine.
        let least = (0..load.len()).min_by(|&a, &b| load[a].total_cmp(&load[b])).unwrap_or(0);
        load[least] += costs[trial];
        of[trial] = least as u32;
    }
    of
}

/// The shard of each trial of a plan, in the order of [`Plan::all_trials`], and its cost.
pub fn cut(plan: &Plan, shards: u32) -> Vec<(u32, f64)> {
    let costs: Vec<f64> = plan.all_trials().iter().map(cost).collect();
    assign(&costs, shards).into_iter().zip(costs).collect()
}

/// The trials that a run measures, resolved against its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assigned {
    /// Every one.
    All,
    /// Those of these models (id, training seed) and places.
    Places(BTreeSet<(String, u64, usize)>),
    /// Those with these keys.
    Keys(BTreeSet<String>),
}

impl Assigned {
    /// What `part` is of `plan`.
    pub fn of(part: &Part, plan: &Plan) -> Self {
        match part {
            Part::Whole => Self::All,
            Part::Trials(keys) => Self::Keys(keys.clone()),
            Part::Shard(shard) => {
                let all = plan.all_trials();
                let own = all.iter().zip(cut(plan, shard.of)).filter(|(_, (of, _))| *of + 1 == shard.index);
                Self::Places(own.map(|(t, _)| (t.model.id.clone(), t.seed, t.place)).collect())
            }
        }
    }

    /// Whether a model has to be made ready at all.
    pub fn needs(&self, model: &str, seed: u64) -> bool {
        match self {
            Self::All | Self::Keys(_) => true,
            Self::Places(places) => places.iter().any(|(id, s, _)| id == model && *s == seed),
        }
    }

    /// Whether a trial is measured.
    pub fn has(&self, model: &ReadyModel, place: usize, digest: &Digest) -> bool {
        match self {
            Self::All => true,
            Self::Keys(keys) => keys.contains(digest.short()),
            Self::Places(places) => places.contains(&(model.id.clone(), model.seed, place)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_written_and_read() {
        assert_eq!("2/4".parse(), Ok(Shard { index: 2, of: 4 }));
        assert_eq!(Shard { index: 2, of: 4 }.to_string(), "2/4");
        for text in ["0/4", "5/4", "2", "a/4", "1/0", "-1/4", "1/999999999"] {
            let error = text.parse::<Shard>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("2/4"), "{error}");
        }
    }

    #[test]
    fn a_cut_has_every_trial_once_and_is_balanced() {
        let costs: Vec<f64> = (0..97).map(|i| f64::from(1 + (i * i) % 61)).collect();
        let total: f64 = costs.iter().sum();
        for shards in [1u32, 2, 4, 7, 200] {
            let of = assign(&costs, shards);
            assert_eq!(of, assign(&costs, shards));
            let mut load = vec![0.0; shards as usize];
            of.iter().zip(&costs).for_each(|(s, c)| load[*s as usize] += c);
            let best = (total / f64::from(shards)).max(61.0);
            let worst = load.iter().copied().fold(0.0, f64::max);
            assert!(worst <= best * 4.0 / 3.0, "{shards}: {worst} of {best}");
        }
        assert!(assign(&[], 3).is_empty());
    }
}
