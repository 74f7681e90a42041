//! Rows that are made of other rows, without asking a model again: each query's worst over the branches that crafted, and
//! the mean over all corruptions.

use std::collections::BTreeMap;

use super::ers;
use crate::digest::Digest;
use crate::metric::kind::Metric;
use crate::record::{Check, Measurement, QueryOutcome, RecallAt, Run};
use crate::score;
use crate::suite::attack::CORRUPTION_MEAN;

/// Adds the rows, each behind the last of its parts. Parts that failed, or that do not have the same queries, make none.
pub fn add_rows(run: &mut Run) {
    let mut added: Vec<(usize, Measurement, Vec<QueryOutcome>)> = Vec::new();
    let mut by_trial: ByTrial<'_> = BTreeMap::new();
    run.queries.iter().for_each(|outcome| by_trial.entry(&outcome.trial).or_default().push(outcome));
    for rows in groups(run, of_branches) {
        let branches: std::collections::BTreeSet<&str> =
            rows.iter().map(|&row| run.measurements[row].crafted_on.as_str()).collect();
        if branches.len() > 1 && branches.len() == rows.len() {
            added.extend(worst_of(run, &by_trial, &rows));
        }
    }
    for rows in groups(run, of_corruptions) {
        added.extend(mean_of(run, &by_trial, &rows));
    }
    // From behind, so that places stay what they were.
    added.sort_by_key(|row| std::cmp::Reverse(row.0));
    for (last, row, queries) in added {
        run.measurements.insert(last + 1, row);
        run.queries.extend(queries);
    }
}

/// Keys of the trials that each row of a finished run was made of, by the row's own key; what was measured is not in it.
pub fn parts(run: &Run) -> BTreeMap<String, Vec<String>> {
    let kinds =
        [(WORST_BRANCH, groups(run, of_branches)), (MEAN, groups(run, of_corruptions)), (ers::WHAT, ers::parts(run))];
    let all = kinds.into_iter().flat_map(|(what, lists)| lists.into_iter().map(move |rows| (what, rows)));
    let keys = all.map(|(what, rows)| {
        let trials: Vec<String> = rows.iter().map(|&row| run.measurements[row].trial.clone()).collect();
        (key_of(what, &trials), trials)
    });
    // Not every group makes a row.
    keys.filter(|(key, _)| run.measurements.iter().any(|m| m.trial == *key)).collect()
}

/// The key of a row that is made of others.
pub(super) fn key_of<T: AsRef<str>>(what: &str, trials: &[T]) -> String {
    let trials: Vec<&str> = trials.iter().map(AsRef::as_ref).collect();
    Digest::of_value(&(what, &trials)).short().into()
}

const WORST_BRANCH: &str = "worst-branch";
const MEAN: &str = "corruption-mean";

/// What a row that takes each query's worst branch says of where it was crafted.
const WORST: &str = "worst";

/// The rows that differ in nothing but the branch that crafted.
fn of_branches(m: &Measurement) -> Option<Key> {
    let own = m.method != "none" && m.crafted_on != WORST && !m.is_transfer() && !m.is_part_of_mean();
    own.then(|| worst_key(m))
}

fn of_corruptions(m: &Measurement) -> Option<Key> {
    m.is_part_of_mean().then(|| mean_key(m))
}

type Key = Vec<String>;

/// Outcomes by the key of their trial.
type ByTrial<'r> = BTreeMap<&'r str, Vec<&'r QueryOutcome>>;

fn worst_key(m: &Measurement) -> Key {
    [&m.dataset, &m.model, &m.attack, &m.epsilon, &m.side, &m.goal, &m.method, &m.answered_by]
        .into_iter()
        .cloned()
        .chain([m.model_seed.to_string(), m.seed.to_string()])
        .collect()
}

fn mean_key(m: &Measurement) -> Key {
    let attack = m.attack.split_once(':').map_or(m.attack.as_str(), |(attack, _)| attack);
    [m.dataset.as_str(), &m.model, attack, &m.side, &m.answered_by]
        .into_iter()
        .map(str::to_string)
        .chain([m.model_seed.to_string(), m.seed.to_string()])
        .collect()
}

/// Places of the rows that share a key, in the order of the record; rows with errors make their group vanish.
fn groups(run: &Run, key: impl Fn(&Measurement) -> Option<Key>) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (place, m) in run.measurements.iter().enumerate() {
        if let Some(key) = key(m) {
            groups.entry(key).or_default().push(place);
        }
    }
    let sound = |rows: &Vec<usize>| rows.iter().all(|&row| run.measurements[row].error.is_none());
    groups.into_values().filter(|rows| sound(rows)).collect()
}

/// Outcomes of each row, in one order of queries; `None` if the queries differ.
fn outcomes<'r>(run: &Run, by_trial: &ByTrial<'r>, rows: &[usize]) -> Option<Vec<Vec<&'r QueryOutcome>>> {
    let of = |row: &usize| {
        let mut list = by_trial.get(run.measurements[*row].trial.as_str()).cloned().unwrap_or_default();
        list.sort_by_key(|outcome| outcome.query);
        list
    };
    let lists: Vec<Vec<&QueryOutcome>> = rows.iter().map(of).collect();
    let queries = |list: &[&QueryOutcome]| list.iter().map(|outcome| outcome.query).collect::<Vec<u32>>();
    let first = queries(lists.first()?);
    (!first.is_empty() && lists.iter().all(|list| queries(list) == first)).then_some(lists)
}

/// A row that starts from the first of its parts and keeps none of its numbers.
fn blank(run: &Run, rows: &[usize], what: &str) -> Measurement {
    let parts: Vec<&Measurement> = rows.iter().map(|&row| &run.measurements[row]).collect();
    let trials: Vec<&str> = parts.iter().map(|m| m.trial.as_str()).collect();
    let largest = |of: fn(&Measurement) -> Option<f64>| parts.iter().filter_map(|m| of(m)).reduce(f64::max);
    Measurement {
        trial: key_of(what, &trials),
        recall: vec![],
        success: None,
        shift: None,
        metrics: vec![],
        linf_max: largest(|m| m.linf_max),
        l2_mean: None,
        evaluations_mean: None,
        checks: failed_of(&parts),
        ..parts[0].clone()
    }
}

/// What did not hold in a part, with the part's name: the number made of it carries it on.
fn failed_of(parts: &[&Measurement]) -> Vec<Check> {
    let mut failed: Vec<Check> = Vec::new();
    for part in parts {
        for check in part.checks.iter().filter(|check| !check.passed) {
            if failed.iter().all(|told| told.name != check.name) {
                let detail = format!("{} of {}, crafted on {}", check.detail, part.attack, part.crafted_on);
                failed.push(Check { detail, ..check.clone() });
            }
        }
    }
    failed
}

/// Each query's outcome under the branch that threw it back farthest.
fn worst_of(run: &Run, by_trial: &ByTrial<'_>, rows: &[usize]) -> Option<(usize, Measurement, Vec<QueryOutcome>)> {
    let lists = outcomes(run, by_trial, rows)?;
    let mut row = blank(run, rows, WORST_BRANCH);
    row.crafted_on = WORST.into();
    let worst = |i: usize| {
        let mut worst = lists[0][i];
        for list in &lists[1..] {
            if list[i].first_hit > worst.first_hit {
                worst = list[i];
            }
        }
        let success = lists.iter().any(|list| list[i].success);
        QueryOutcome { trial: row.trial.clone(), success, ..worst.clone() }
    };
    let queries: Vec<QueryOutcome> = (0..lists[0].len()).map(worst).collect();
    let labels: Vec<u32> = queries.iter().map(|outcome| outcome.label).collect();
    let ranks: Vec<u32> = queries.iter().map(|outcome| outcome.first_hit).collect();
    let parts = || rows.iter().map(|&row| &run.measurements[row]);
    let ks: Vec<u32> = run.measurements[rows[0]].recall.iter().map(|r| r.k).collect();
    row.recall = score::recall_at(&ks, &ranks, &labels, row.seed);
    if parts().all(|m| m.success.is_some()) {
        let flags: Vec<f64> = queries.iter().map(|outcome| f64::from(u8::from(outcome.success))).collect();
        row.success = score::mean(&flags, &labels, (0.0, 1.0), row.seed);
    }
    Some((rows.iter().copied().max()?, row, queries))
}

/// The mean over kinds and severities of each query's hits.
fn mean_of(run: &Run, by_trial: &ByTrial<'_>, rows: &[usize]) -> Option<(usize, Measurement, Vec<QueryOutcome>)> {
    let lists = outcomes(run, by_trial, rows)?;
    let mut row = blank(run, rows, MEAN);
    row.attack = row.attack.split_once(':').map_or(row.attack.clone(), |(attack, _)| attack.to_string());
    row.epsilon = CORRUPTION_MEAN.into();
    let ks: Vec<u32> = run.measurements[rows[0]].recall.iter().map(|r| r.k).collect();
    // Queries without an image of their class have nothing to find.
    let asked: Vec<usize> = (0..lists[0].len()).filter(|&i| lists[0][i].first_hit > 0).collect();
    let labels: Vec<u32> = asked.iter().map(|&i| lists[0][i].label).collect();
    for k in ks {
        let share = |&i: &usize| {
            let hits = lists.iter().filter(|list| (1..=k).contains(&list[i].first_hit)).count();
            hits as f64 / lists.len() as f64
        };
        let values: Vec<f64> = asked.iter().map(share).collect();
        row.recall.extend(score::mean(&values, &labels, (0.0, 1.0), row.seed).map(|estimate| RecallAt { k, estimate }));
    }
    let all: Vec<u32> = lists[0].iter().map(|outcome| outcome.label).collect();
    let shift = |i: usize| lists.iter().map(|list| f64::from(list[i].shift)).sum::<f64>() / lists.len() as f64;
    let shifts: Vec<f64> = (0..all.len()).map(shift).collect();
    row.shift = score::mean(&shifts, &all, Metric::Shift.about().range, row.seed);
    Some((rows.iter().copied().max()?, row, vec![]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Estimate;

    fn part(trial: &str, attack: &str, method: &str, branch: &str, ranks: &[u32]) -> (Measurement, Vec<QueryOutcome>) {
        let row = Measurement {
            trial: trial.into(),
            model: "m".into(),
            attack: attack.into(),
            method: method.into(),
            goal: "untargeted".into(),
            side: "query".into(),
            crafted_on: branch.into(),
            answered_by: "main".into(),
            epsilon: "8/255".into(),
            recall: vec![RecallAt { k: 1, estimate: Estimate::default() }],
            checks: vec![Check { name: "zero-gradients".into(), passed: branch == "main", detail: "d".into() }],
            ..Measurement::default()
        };
        let outcome = |(query, rank): (usize, &u32)| QueryOutcome {
            trial: trial.into(),
            query: query as u32,
            label: query as u32 / 2,
            first_hit: *rank,
            ..QueryOutcome::default()
        };
        (row, ranks.iter().enumerate().map(outcome).collect())
    }

    fn run(parts: Vec<(Measurement, Vec<QueryOutcome>)>) -> Run {
        let (rows, outcomes): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        Run { measurements: rows, queries: outcomes.concat(), ..crate::record::sample::run() }
    }

    #[test]
    fn the_worst_branch_is_taken_for_each_query() {
        let mut run = run(vec![
            part("a", "x", "pgd", "main", &[1, 1, 5, 1]),
            part("b", "x", "pgd", "aux1", &[3, 1, 1, 1]),
            part("c", "y", "pgd", "main", &[1, 1, 1, 1]),
        ]);
        add_rows(&mut run);
        let rows: Vec<(&str, &str)> =
            run.measurements.iter().map(|m| (m.attack.as_str(), m.crafted_on.as_str())).collect();
        assert_eq!(rows, [("x", "main"), ("x", "aux1"), ("x", "worst"), ("y", "main")]);
        let worst = &run.measurements[2];
        assert_eq!(worst.recall[0].estimate.value, 0.5);
        assert!(worst.checks.iter().any(|c| c.name == "zero-gradients" && !c.passed && c.detail.contains("aux1")));
        let ranks: Vec<u32> = run.queries.iter().filter(|q| q.trial == worst.trial).map(|q| q.first_hit).collect();
        assert_eq!(ranks, [3, 1, 5, 1]);
    }

    #[test]
    fn the_mean_over_corruptions_is_the_mean_of_their_recalls() {
        let mut run = run(vec![
            part("a", "c:fog", "corruption", "main", &[1, 1, 2, 2]),
            part("b", "c:snow", "corruption", "main", &[1, 2, 2, 2]),
        ]);
        add_rows(&mut run);
        let mean = &run.measurements[2];
        assert_eq!((mean.attack.as_str(), mean.epsilon.as_str()), ("c", "mean"));
        assert_eq!(mean.recall[0].estimate.value, (0.5 + 0.25) / 2.0);
        assert!(!mean.is_part_of_mean());
    }

    #[test]
    fn a_row_knows_its_parts() {
        let mut run = run(vec![
            part("a", "x", "pgd", "main", &[1, 1, 5, 1]),
            part("b", "x", "pgd", "aux1", &[3, 1, 1, 1]),
            part("c", "c:fog", "corruption", "main", &[1, 1, 2, 2]),
            part("d", "c:snow", "corruption", "main", &[1, 2, 2, 2]),
            part("e", "y", "pgd", "main", &[1, 2, 2, 2]),
        ]);
        assert!(parts(&run).is_empty(), "nothing is made of them yet");
        add_rows(&mut run);
        let key = |attack: &str, branch: &str| {
            run.measurements.iter().find(|m| m.attack == attack && m.crafted_on == branch).unwrap().trial.clone()
        };
        let wanted = [(key("x", "worst"), vec!["a", "b"]), (key("c", "main"), vec!["c", "d"])];
        let wanted = wanted.map(|(key, trials)| (key, trials.into_iter().map(str::to_string).collect()));
        assert_eq!(parts(&run), BTreeMap::from(wanted));
    }

    #[test]
    fn a_failed_part_makes_no_row() {
        let mut failed = part("b", "x", "pgd", "aux1", &[3, 1, 1, 1]);
        failed.0.error = Some("no".into());
        let mut run = run(vec![part("a", "x", "pgd", "main", &[1, 1, 5, 1]), failed]);
        add_rows(&mut run);
        assert_eq!(run.measurements.len(), 2);
    }
}
