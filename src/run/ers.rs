//! The row of ERS, made of the trials of RobRank's attacks.

use std::collections::BTreeMap;

use super::derived;
use crate::attack::checks;
use crate::metric::ers::{self, SCORES};
use crate::metric::kind::Metric;
use crate::record::{Measurement, MetricEstimate, QueryOutcome, Run};
use crate::score;
use crate::suite::attack::RankingPart;

/// Adds, behind the last of its parts, a row for each set of trials that are all nine attacks of one suite entry on one
/// model with one budget, and its outcome per image. If one of them failed, the row has an error.
pub fn add_rows(run: &mut Run) {
    let mut added: Vec<(usize, Measurement, Vec<QueryOutcome>)> = groups(run)
        .map(|(key, rows)| {
            let last = rows.iter().copied().max().unwrap_or(0);
            let parts: Vec<&Measurement> = rows.iter().map(|&row| &run.measurements[row]).collect();
            let (row, queries) = row_of(&key, &parts, &run.queries);
            (last, row, queries)
        })
        .collect();
    // From behind, so that places stay what they were.
    added.sort_by_key(|row| std::cmp::Reverse(row.0));
    for (last, row, queries) in added {
        run.measurements.insert(last + 1, row);
        run.queries.extend(queries);
    }
}

/// Places of the rows that share a key and are all nine.
fn groups(run: &Run) -> impl Iterator<Item = (Key, Vec<usize>)> {
    let mut groups: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (index, m) in run.measurements.iter().enumerate() {
        if let Some(key) = Key::of(m) {
            groups.entry(key).or_default().push(index);
        }
    }
    groups.into_iter().filter(|(_, rows)| rows.len() == RankingPart::ALL.len())
}

/// Places of the parts of each row of ERS.
pub(super) fn parts(run: &Run) -> Vec<Vec<usize>> {
    groups(run).map(|(_, rows)| rows).collect()
}

/// Names the row in its key.
pub(super) const WHAT: &str = "ers";

/// What the parts of one score share.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    model: String,
    seed: u64,
    attack: String,
    rest: [String; 5],
}

impl Key {
    fn of(m: &Measurement) -> Option<Self> {
        let (attack, part) = m.attack.split_once(':')?;
        RankingPart::ALL.iter().find(|known| known.word() == part)?;
        let texts = [&m.dataset, &m.epsilon, &m.method, &m.crafted_on, &m.answered_by];
        Some(Self {
            model: m.model.clone(),
            seed: m.model_seed,
            attack: attack.into(),
            rest: texts.map(|text| text.to_string()),
        })
    }
}

fn row_of(key: &Key, parts: &[&Measurement], outcomes: &[QueryOutcome]) -> (Measurement, Vec<QueryOutcome>) {
    let trials: Vec<&str> = parts.iter().map(|m| m.trial.as_str()).collect();
    let mut row = Measurement {
        trial: derived::key_of(WHAT, &trials),
        attack: key.attack.clone(),
        goal: "robrank".into(),
        side: "each".into(),
        recall: vec![],
        success: None,
        shift: None,
        metrics: vec![],
        linf_max: None,
        l2_mean: None,
        evaluations_mean: None,
        checks: vec![],
        error: None,
        ..parts[0].clone()
    };
    if let Some(failed) = parts.iter().find_map(|m| Some((&m.attack, m.error.as_ref()?))) {
        row.error = Some(format!("ERS needs all its parts; `{}` failed: {}", failed.0, failed.1));
        return (row, vec![]);
    }
    let (per_image, labels) = per_image(&trials, outcomes, parts);
    let values: Vec<f64> = per_image.iter().map(|(_, value)| *value).collect();
    let found: Vec<MetricEstimate> = SCORES
        .iter()
        .filter_map(|score| parts.iter().flat_map(|m| &m.metrics).find(|e| e.metric == *score).cloned())
        .collect();
    let means: Option<Vec<f64>> = found.iter().map(|e| e.estimate.map(|e| e.value)).collect();
    let of_means = means.and_then(|means| <[f64; 10]>::try_from(means).ok()).map(ers::ers);
    row.metrics = found;
    row.metrics.push(match score::mean(&values, &labels, Metric::Ers.about().range, row.seed) {
        Some(estimate) => {
            row.checks.push(checks::ers_recomputed(estimate.value, of_means));
            MetricEstimate { metric: Metric::Ers, estimate: Some(estimate), note: String::new() }
        }
        None => MetricEstimate::undefined(Metric::Ers, "the parts share no image"),
    });
    let outcome = |((query, value), label): (&(u32, f64), &u32)| QueryOutcome {
        trial: row.trial.clone(),
        query: *query,
        label: *label,
        first_hit: 0,
        neighbors: vec![],
        targets: vec![],
        success: false,
        target_rank: 0,
        shift: 0.0,
        linf: 0.0,
        l2: 0.0,
        loss: 0.0,
        score: Some(*value),
        map_at_r: None,
        broken_by: String::new(),
        evaluations: 0,
    };
    let queries = per_image.iter().zip(&labels).map(outcome).collect();
    (row, queries)
}

/// The mean of the ten rescaled scores of every image that has all of them, ascending, and its class.
fn per_image(trials: &[&str], outcomes: &[QueryOutcome], parts: &[&Measurement]) -> (Vec<(u32, f64)>, Vec<u32>) {
    let mut sums: BTreeMap<u32, (usize, f64, u32)> = BTreeMap::new();
    for outcome in outcomes {
        let Some(part) = trials.iter().position(|trial| *trial == outcome.trial) else { continue };
        let scores = parts[part].metrics.iter().map(|e| e.metric).filter(|metric| SCORES.contains(metric));
        for metric in scores {
            let value = match metric {
                Metric::EsR => Some(100.0 * f64::from(u8::from(outcome.first_hit == 1))),
                _ => outcome.score,
            };
            if let Some(value) = value.and_then(|value| ers::rescaled(metric, value)) {
                let entry = sums.entry(outcome.query).or_insert((0, 0.0, outcome.label));
                *entry = (entry.0 + 1, entry.1 + value, outcome.label);
            }
        }
    }
    let complete = sums.into_iter().filter(|(_, (count, ..))| *count == SCORES.len());
    complete.map(|(query, (_, sum, label))| ((query, sum / SCORES.len() as f64), label)).unzip()
}
