use super::*;
use crate::drift::pairing::{DriftError, models_of_a_run, runs};
use crate::drift::words::{Form, write};
use crate::record::Run;
use crate::record::sample::{self, Shape};
use crate::rng;

fn two_models(clean: (f64, f64), queries: u32) -> Run {
    let model = |id: &str, p: f64| (id.to_string(), "standard".to_string(), p, p / 2.0);
    let models = vec![model("base", clean.0), model("mine", clean.1)];
    sample::make(&Shape { models, seeds: 1, levels: vec![8], queries, ..Shape::default() })
}

fn compared(run: &Run) -> Comparison {
    let (pairs, alone) = models_of_a_run(run, "base", "mine").unwrap();
    compare("base", "mine", &pairs, alone.iter().map(ToString::to_string).collect(), 1)
}

#[test]
fn a_run_is_identical_to_itself() {
    let run = sample::run();
    let (pairs, alone) = runs(&run, &run).unwrap();
    assert!(alone.is_empty());
    assert_eq!(pairs.len(), run.measurements.len());
    let comparison = compare("a", "b", &pairs, vec![], 1);
    assert!(comparison.differences.iter().all(|d| d.verdict == Verdict::Identical && d.p_value == 1.0));
    assert!(write(&comparison, Form::Text).contains("identical, query by query"));
}

#[test]
fn a_clear_difference_is_supported_and_has_its_direction() {
    let comparison = compared(&two_models((0.3, 0.7), 400));
    let clean: Vec<&Difference> = comparison.differences.iter().filter(|d| d.question.ends_with("clean")).collect();
    for d in clean.iter().filter(|d| ["recall@1", "mrr"].contains(&d.metric.as_str())) {
        assert_eq!(d.verdict, Verdict::BBetter, "{d:?}");
        assert!(d.interval.0 > 0.0 && d.interval.1 > d.difference && d.p_adjusted >= d.p_value);
    }
    let hits = clean.iter().find(|d| d.metric == "recall@1").unwrap();
    assert_eq!((hits.flipped.0.len() as u64, hits.flipped.1.len() as u64), hits.only);
    let share = hits.only.1 as f64 / 400.0 - hits.only.0 as f64 / 400.0;
    assert!((share - hits.difference).abs() < 1e-12);
    let text = write(&comparison, Form::Markdown);
    assert!(text.contains("mine better") && text.contains("| seed 0 clean | recall@1 |"), "{text}");
}

#[test]
fn nights_without_a_change_seldom_alarm_over_the_whole_grid() {
    let mut run = two_models((0.5, 0.5), 200);
    let shown = |d: &Difference| matches!(d.verdict, Verdict::ABetter | Verdict::BBetter);
    let mut alarms = 0;
    for night in 0..100 {
        let mut draw = rng::stream(11, "night", &[night]);
        for q in &mut run.queries {
            q.first_hit = 1 + (1.0 / (rng::unit_f64(&mut draw) + 0.02)) as u32;
        }
        let comparison = compared(&run);
        assert!(comparison.differences.len() >= 10);
        alarms += u32::from(comparison.differences.iter().any(shown));
        if night == 0 {
            assert!(write(&comparison, Form::Text).contains("no difference shown, would need "));
        }
    }
    // At most 5 % of nights; 12 of 100 or more would come once in 230 times if it were just that.
    assert!(alarms <= 11, "{alarms} of 100 nights");
}

#[test]
fn an_attackers_success_is_better_when_it_is_lower() {
    let mut run = two_models((0.5, 0.5), 300);
    let trials: Vec<(String, bool)> =
        run.measurements.iter().filter(|m| m.success.is_some()).map(|m| (m.trial.clone(), m.model == "mine")).collect();
    for q in &mut run.queries {
        if let Some((_, mine)) = trials.iter().find(|(trial, _)| *trial == q.trial) {
            q.success = !mine || q.query.is_multiple_of(3);
        }
    }
    let comparison = compared(&run);
    let success: Vec<&Difference> = comparison.differences.iter().filter(|d| d.metric == "success").collect();
    assert!(!success.is_empty());
    assert!(success.iter().all(|d| d.verdict == Verdict::BBetter && d.difference < 0.0), "{success:?}");
}

#[test]
fn what_cannot_be_compared_is_refused_in_words() {
    let run = sample::run();
    let unknown = models_of_a_run(&run, "standard", "nobody").unwrap_err();
    assert!(unknown.to_string().contains("no model `nobody`; it has standard"), "{unknown}");
    let mut other = run.clone();
    other.manifest.dataset_digest = "f00d".into();
    assert!(matches!(runs(&run, &other), Err(DriftError::Dataset { .. })));
    let mut fewer = run.clone();
    fewer.queries.retain(|q| q.query != 3);
    let error = runs(&run, &fewer).unwrap_err().to_string();
    assert!(error.contains("200 queries in the first and 199 in the second, 199 of them the same"), "{error}");
    let mut none = run.clone();
    none.queries.clear();
    assert!(matches!(runs(&run, &none), Err(DriftError::NoQueries { .. })));
    let mut alone = run.clone();
    alone.measurements.retain(|m| m.attack != "multi");
    let (pairs, left) = runs(&run, &alone).unwrap();
    assert_eq!(pairs.len() + left.len(), run.measurements.len());
    alone.measurements.clear();
    assert!(matches!(runs(&run, &alone), Err(DriftError::NothingInCommon { .. })));
}

#[test]
fn names_with_pipes_do_not_break_the_table() {
    let run = two_models((0.5, 0.5), 50);
    let (pairs, _) = models_of_a_run(&run, "base", "mine").unwrap();
    let text = write(&compare("a|b", "c\nd", &pairs, vec![], 1), Form::Markdown);
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        assert_eq!(line.replace("\\|", "").matches('|').count(), 8, "{line}");
    }
}
