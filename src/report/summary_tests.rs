//! Tests of the grouping, against arithmetic done here in another way.

use super::*;
use crate::record::sample;

#[test]
fn columns_are_clean_first_then_attacks_by_budget() {
    let summary = Summary::of(&sample::run());
    let labels: Vec<String> = summary.conditions.iter().map(Condition::label).collect();
    assert_eq!(
        labels,
        ["clean", "single 8/255", "single 16/255", "single 24/255", "multi 8/255", "multi 16/255", "multi 24/255"]
    );
    assert_eq!(summary.headline(), [0, 3, 6]);
    assert_eq!(summary.strongest(), Some(3));
    assert_eq!(summary.baseline, Some(0));
}

#[test]
fn a_cell_is_the_mean_over_seeds_counted_from_the_queries() {
    let run = sample::run();
    let summary = Summary::of(&run);
    let trials: Vec<&str> = run
        .measurements
        .iter()
        .filter(|m| m.model == "mdprop" && m.attack == "single" && m.epsilon == "24/255")
        .map(|m| m.trial.as_str())
        .collect();
    let outcomes: Vec<&crate::record::QueryOutcome> =
        run.queries.iter().filter(|q| trials.contains(&q.trial.as_str())).collect();
    let wanted = outcomes.iter().filter(|q| q.first_hit == 1).count() as f64 / outcomes.len() as f64;
    let got = summary.recall(3, 3).unwrap();
    assert!((got.value - wanted).abs() < 1e-12);
    assert_eq!((got.seeds, got.queries, got.kind), (2, 200, IntervalKind::Envelope));
    assert!(got.low < got.value && got.value < got.high);
}

#[test]
fn the_kind_of_interval_follows_the_seeds() {
    for (seeds, kind) in [(1, IntervalKind::Queries), (2, IntervalKind::Envelope), (4, IntervalKind::Mean)] {
        let run = sample::make(&sample::Shape { seeds, ..Default::default() });
        assert_eq!(Summary::of(&run).kinds(), [kind]);
    }
}

#[test]
fn a_failed_trial_is_neither_averaged_nor_hidden() {
    let mut run = sample::run();
    let clean = run.measurements.iter_mut().find(|m| m.model == "standard").unwrap();
    clean.error = Some("out of memory".into());
    let left = run.measurements.iter().filter(|m| m.model == "standard" && m.attack == "clean").nth(1).unwrap();
    let wanted = left.recall[0].estimate.value;
    let summary = Summary::of(&run);
    let cell = summary.models[0].cells[0].as_ref().unwrap();
    assert_eq!(cell.recall.as_ref().unwrap().value, wanted);
    assert_eq!(cell.errors, ["seed 0: the trial failed: out of memory"]);
}

#[test]
fn auxiliary_branches_are_columns_of_their_own() {
    let mut run = sample::run();
    let mut row = run.measurements[0].clone();
    row.answered_by = "aux1".into();
    run.measurements.push(row);
    let summary = Summary::of(&run);
    assert!(summary.conditions.iter().any(|c| c.label() == "clean, answered by aux1"));
    assert_eq!(summary.clean(), Some(0));
}
