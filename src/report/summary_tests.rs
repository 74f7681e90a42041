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

#[test]
fn what_another_model_crafted_is_a_section_of_its_own_and_a_matrix() {
    let mut run = sample::run();
    for m in run.measurements.iter_mut().filter(|m| m.attack == "multi") {
        m.attack = "multi:standard".into();
        if m.model != "standard" {
            m.crafted_by = "standard".into();
        }
    }
    let summary = Summary::of(&run);
    let columns = summary.columns_of(Chapter::Transfer);
    assert_eq!(columns.len(), 3);
    assert!(columns.iter().all(|c| summary.conditions[*c].crafter() == Some("standard")));
    assert_eq!(summary.columns_of(Chapter::SingleTarget).len(), 3);
    let table = crate::report::table::chapter(&summary, Chapter::Transfer, &columns);
    let own = |row: usize| table.rows[row][1].detail.as_ref().is_some_and(|d| d.ends_with("] white box"));
    assert!(own(0) && !own(1) && !own(3));
}

#[test]
fn a_check_that_fails_everywhere_is_one_note() {
    let mut run = sample::run();
    let attacked = run.measurements.iter_mut().filter(|m| m.attack == "single");
    attacked.for_each(|m| m.checks[0].passed = false);
    let table = crate::report::table::headline(&Summary::of(&run));
    // Four models with two seeds under one shown attack; and the sample's own failed check.
    assert_eq!(table.notes.len(), 2, "{:?}", table.notes);
    assert!(table.notes[0].starts_with("check budget-obeyed failed in 8 trials of this table; the first, standard, "));
    assert!(table.notes[1].contains("check zero-gradients failed: 7 of 200"));
    assert!(table.rows.iter().all(|row| row[2].marks == [1]));
    let checks = crate::report::table::checks(&run).unwrap();
    assert_eq!(checks.head[1], "what holds where it passes");
    assert!(checks.remarks.iter().any(|r| r.starts_with("zero-gradients failed, what to do: the gradient is masked")));
    assert_eq!(checks.remarks.len(), 2);
}
