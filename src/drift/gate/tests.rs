use super::*;
use crate::batch::Embeddings;
use crate::metric::neighbors::{Depth, Distance, Search, search};
use crate::record::sample::{self, Shape};
use crate::record::{Check, QueryOutcome};
use crate::rng;

/// A run without the sample's failed check.
fn good(seeds: u64, queries: u32) -> Run {
    let model = |id: &str, p: f64| (id.to_string(), "standard".to_string(), p, p / 2.0);
    let models = vec![model("base", 0.5), model("mine", 0.6)];
    let mut run = sample::make(&Shape { models, seeds, levels: vec![8], queries, stories: 0 });
    run.measurements.iter_mut().flat_map(|m| &mut m.checks).for_each(|check| check.passed = true);
    run
}

fn judged(accepted: &Run, tonight: &Run) -> Judgement {
    check(&Baseline::of_run(accepted.clone()), tonight).unwrap()
}

/// Changes the ranks of one model's trials, and its file unless `same_file`.
fn changed(run: &Run, model: &str, same_file: bool, change: impl Fn(&mut QueryOutcome)) -> Run {
    let mut run = run.clone();
    let own: BTreeSet<String> = run.measurements.iter().filter(|m| m.model == model).map(|m| m.trial.clone()).collect();
    run.queries.iter_mut().filter(|q| own.contains(&q.trial)).for_each(change);
    for m in run.measurements.iter_mut().filter(|m| m.model == model && !same_file) {
        m.artefact = "fedcba987654".into();
        m.crafter = "fedcba987654".into();
    }
    run
}

fn kinds(judgement: &Judgement) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = judgement.findings.iter().map(|f| f.kind).collect();
    kinds.dedup();
    kinds
}

#[test]
fn a_run_passes_against_itself() {
    let run = good(2, 200);
    let judgement = judged(&run, &run);
    assert_eq!((judgement.exit_code(), judgement.findings.len()), (0, 0));
    assert!(judgement.cells.len() > 20 && judgement.cells.iter().all(|c| c.says == Says::Identical));
    assert!(judgement.models.iter().all(|(_, class)| *class == Class::Same));
    assert!(judgement.suspects.is_empty() && judgement.notes.is_empty());
}

#[test]
fn the_same_file_may_flip_as_many_queries_as_rounding_does() {
    let run = good(1, 400);
    // Two of 400 may flip: queries 0 and 1 change sides.
    let flip = |n: u32| {
        changed(&run, "mine", true, move |q| {
            if q.query < n {
                q.first_hit = if q.first_hit == 1 { 9 } else { 1 }
            }
        })
    };
    let within = judged(&run, &flip(2));
    assert_eq!(within.exit_code(), 0, "{:?}", within.findings);
    assert!(within.cells.iter().any(|c| c.says == Says::Within && c.allowed == Some(2)));
    let beyond = judged(&run, &flip(3));
    assert_eq!((beyond.exit_code(), kinds(&beyond)), (1, vec![Kind::Drift]));
    assert!(beyond.findings.iter().all(|f| f.place.starts_with("mine") && f.trial.is_some()));
    assert!(beyond.findings[0].text.contains("3 of 400 queries another outcome"), "{}", beyond.findings[0].text);
    // A figure without queries may move as little.
    let mut moved = run.clone();
    let metric = &mut moved.measurements[0].metrics[0];
    metric.estimate.as_mut().unwrap().value += 0.006;
    assert_eq!(kinds(&judged(&run, &moved)), [Kind::Drift]);
}

#[test]
fn a_new_file_fails_if_it_is_worse_beyond_chance_and_floor() {
    let run = good(1, 400);
    let lost = |n: u32, same_file| {
        changed(&run, "mine", same_file, move |q| {
            if q.query < n {
                q.first_hit = 9
            }
        })
    };
    // About 36 of 60 hits are lost.
    let worse = judged(&run, &lost(60, false));
    assert_eq!(worse.exit_code(), 1);
    let headline = worse.findings.iter().find(|f| f.metric == Some(Metric::RecallAt(1))).unwrap();
    assert!(headline.text.contains("queries lost and 0 gained of 400"), "{}", headline.text);
    assert_eq!(worse.models, [("base".into(), Class::Same), ("mine".into(), Class::NewArtefact)]);
    assert!(worse.suspects.iter().any(|s| s.contains("file of mine seed 0")), "{:?}", worse.suspects);
    // Three lost hits are no evidence, though the same file may not flip three.
    assert_eq!(judged(&run, &lost(5, false)).exit_code(), 0);
    assert_eq!(judged(&run, &lost(5, true)).exit_code(), 1);
    // A floor above the loss.
    let mut baseline = Baseline::of_run(run.clone());
    for metric in run.measurements.iter().flat_map(|m| crate::drift::baseline::values(m).into_keys()) {
        baseline.floors.insert(metric.to_string(), 0.5);
    }
    let below = check(&baseline, &lost(60, false)).unwrap();
    assert_eq!(below.exit_code(), 0, "{:?}", below.findings);
    assert!(below.cells.iter().any(|c| c.says == Says::BelowFloor));
}

#[test]
fn map_at_r_is_paired_where_every_query_has_it() {
    let run = good(1, 400);
    // A fifth of one model's queries lose 0.2 of MAP@R: 4 points, far inside the intervals of two independent runs.
    let loses = |q: &QueryOutcome| q.query.is_multiple_of(5) && q.map_at_r.unwrap() > 0.2;
    let mut tonight = changed(&run, "mine", false, |q| {
        if loses(q) {
            q.map_at_r = q.map_at_r.map(|v| v - 0.2);
        }
    });
    for m in tonight.measurements.iter_mut().filter(|m| m.model == "mine") {
        let lost = run.queries.iter().filter(|q| q.trial == m.trial && loses(q)).count();
        for e in m.metrics.iter_mut().filter(|e| e.metric == Metric::MapAtR) {
            e.estimate.as_mut().unwrap().value -= 0.2 * lost as f64 / 400.0;
        }
    }
    let cell = |judgement: &Judgement| {
        let own = |c: &&Cell| c.question == "mine seed 0 clean" && c.metric == Metric::MapAtR;
        judgement.cells.iter().find(own).unwrap().clone()
    };
    let paired = judged(&run, &tonight);
    let found = cell(&paired);
    assert!(found.says == Says::Drift && found.flipped.unwrap().0 > 30, "{found:?}");
    assert_eq!(paired.exit_code(), 1);
    // A record of an older version has no values per query.
    tonight.queries.iter_mut().for_each(|q| q.map_at_r = None);
    let apart = cell(&judged(&run, &tonight));
    assert!(apart.says == Says::Within && apart.flipped.is_none() && apart.p.is_some(), "{apart:?}");
}

#[test]
fn better_is_a_note_and_more_success_of_the_attacker_is_worse() {
    let run = good(1, 400);
    let better = judged(&run, &changed(&run, "mine", false, |q| q.first_hit = 1));
    assert_eq!(better.exit_code(), 0, "{:?}", better.findings);
    assert!(better.cells.iter().any(|c| c.says == Says::Better) && better.notes[0].contains("accept the run"));
    let success = judged(&run, &changed(&run, "mine", false, |q| q.success = true));
    assert!(success.findings.iter().all(|f| f.metric == Some(Metric::Success)), "{:?}", success.findings);
    assert_eq!((success.exit_code(), kinds(&success)), (1, vec![Kind::Drift]));
    let failure = judged(&run, &changed(&run, "mine", false, |q| q.success = false));
    assert_eq!(failure.exit_code(), 0, "{:?}", failure.findings);
}

#[test]
fn seeds_are_compared_with_the_spread_over_seeds() {
    let mut accepted = good(4, 100);
    for (i, m) in accepted.measurements.iter_mut().enumerate() {
        for r in &mut m.recall {
            r.estimate.value = 0.5 + 0.004 * f64::from((i * 7 % 5) as u32);
        }
    }
    let moved = |by: f64| {
        let mut run = changed(&accepted, "mine", false, |q| q.first_hit = 1 + (q.first_hit * 7) % 11);
        for m in run.measurements.iter_mut().filter(|m| m.model == "mine") {
            m.recall.iter_mut().for_each(|r| r.estimate.value += by);
        }
        run
    };
    // Every query is shuffled, but the seeds' means are as they were.
    let same = judged(&accepted, &moved(-0.001));
    assert_eq!(same.models[1], ("mine".into(), Class::Retrained));
    assert_eq!(same.exit_code(), 0, "{:?}", same.findings);
    let worse = judged(&accepted, &moved(-0.1));
    assert_eq!(worse.exit_code(), 1);
    assert!(worse.findings.iter().all(|f| f.text.contains("means over 4 seeds")), "{:?}", worse.findings);
    assert_eq!(judged(&accepted, &moved(0.1)).exit_code(), 0);
}

#[test]
fn what_is_missing_fails_with_its_own_code() {
    let run = good(1, 200);
    let mut gone = run.clone();
    let trial = gone.measurements.remove(1).trial;
    gone.queries.retain(|q| q.trial != trial);
    let judgement = judged(&run, &gone);
    assert_eq!((judgement.exit_code(), kinds(&judgement)), (4, vec![Kind::Coverage]));
    assert!(judgement.findings[0].text.contains("the trial is missing"));

    let mut failed = run.clone();
    failed.measurements[1].error = Some("out of memory".into());
    let judgement = judged(&run, &failed);
    assert!(judgement.exit_code() == 4 && judgement.findings[0].text.contains("out of memory"));
    assert_eq!(judgement.to_confirm().len(), 1);

    let mut silent = run.clone();
    silent.measurements[0].metrics.remove(0);
    let judgement = judged(&run, &silent);
    assert!(judgement.exit_code() == 4 && judgement.findings[0].text.contains("no value for map@r"), "{judgement:?}");

    // 5 % of the queries, the planted fault.
    let mut fewer = run.clone();
    fewer.queries.retain(|q| q.query >= 10);
    let judgement = judged(&run, &fewer);
    assert_eq!((judgement.exit_code(), kinds(&judgement)), (4, vec![Kind::Coverage]));
    assert!(judgement.findings[0].text.contains("10 of 200 queries are missing (5.0 %)"));

    let mut other = run.clone();
    other.queries.iter_mut().for_each(|q| q.query += 100);
    let judgement = judged(&run, &other);
    assert_eq!((judgement.exit_code(), kinds(&judgement)), (2, vec![Kind::Data]));

    let mut more = fewer.clone();
    more.queries.extend(run.queries.iter().map(|q| QueryOutcome { query: q.query + 1000, ..q.clone() }));
    assert_eq!(judged(&fewer, &more).exit_code(), 0, "new queries are no loss");
}

#[test]
fn labels_shuffled_for_one_class_are_other_data_and_the_class_is_named() {
    let run = good(1, 200);
    let mut shuffled = run.clone();
    shuffled.manifest.dataset_digest = "f00d".into();
    shuffled.queries.iter_mut().filter(|q| q.label == 3).for_each(|q| q.label = 4 + q.query % 7);
    let judgement = judged(&run, &shuffled);
    assert_eq!((judgement.exit_code(), kinds(&judgement)), (2, vec![Kind::Data]));
    let text = &judgement.findings[0].text;
    assert!(text.contains("queries of class 3 (glyph 3) have another label now"), "{text}");
    assert!(judgement.cells.is_empty(), "numbers of other images are not compared");
}

#[test]
fn a_failed_check_has_its_code_and_the_worst_kind_decides() {
    let run = good(1, 400);
    let mut tonight = changed(&run, "mine", false, |q| q.first_hit = 9);
    let check = Check { name: "zero-gradients".into(), passed: false, detail: "7 of 400".into() };
    tonight.measurements[1].checks.push(check);
    let judgement = judged(&run, &tonight);
    assert_eq!((judgement.exit_code(), kinds(&judgement)), (3, vec![Kind::Soundness, Kind::Drift]));
    tonight.measurements[0].error = Some("no".into());
    assert_eq!(judged(&run, &tonight).exit_code(), 4);
}

#[test]
fn a_pinned_file_that_changed_fails_whatever_it_measures() {
    let run = good(1, 200);
    let mut baseline = Baseline::of_run(run.clone());
    let tonight = changed(&run, "mine", false, |_| ());
    assert_eq!(check(&baseline, &tonight).unwrap().exit_code(), 0);
    baseline.pinned = true;
    let judgement = check(&baseline, &tonight).unwrap();
    assert_eq!((judgement.exit_code(), kinds(&judgement)), (1, vec![Kind::Artefact]));
    assert!(judgement.findings[0].text.contains("fedcba987654") && judgement.findings[0].place == "mine");
}

#[test]
fn another_crafting_branch_is_another_file() {
    let run = good(1, 200);
    let mut tonight = run.clone();
    tonight.measurements.iter_mut().filter(|m| m.model == "mine").for_each(|m| m.crafter = "fedcba987654".into());
    assert_eq!(judged(&run, &tonight).models[1].1, Class::NewArtefact);
    // An old record does not name it.
    tonight.measurements.iter_mut().for_each(|m| m.crafter.clear());
    assert_eq!(judged(&run, &tonight).models[1].1, Class::Same);
}

#[test]
fn changed_libraries_are_suspects_and_another_suite_is_refused() {
    let run = good(1, 200);
    let mut tonight = run.clone();
    tonight.manifest.versions[0].1 = "1.33.0".into();
    tonight.manifest.versions.remove(1);
    tonight.manifest.machine = "Faster One".into();
    tonight.manifest.started_unix_s -= 86_400;
    let judgement = judged(&run, &tonight);
    // libtorch trained the files, and they are the same.
    assert_eq!(judgement.suspects, ["ONNX Runtime: 1.32.0 → 1.33.0", "machine: Fast One → Faster One"]);
    let again = judged(&run, &changed(&tonight, "mine", false, |_| ()));
    assert!(again.suspects.contains(&"libtorch: 2.11.0 → absent".to_string()), "{:?}", again.suspects);
    assert!(judgement.notes[0].contains("a clock that is wrong"), "{:?}", judgement.notes);
    tonight.manifest.suite = "other".into();
    let error = check(&Baseline::of_run(run), &tonight).unwrap_err().to_string();
    assert!(error.contains("baseline is of suite `demo`, the run of `other`"), "{error}");
}

#[test]
fn a_failure_that_does_not_repeat_is_a_note() {
    let run = good(1, 200);
    let flip = |from: u32, to: u32| {
        let at = move |q: &mut QueryOutcome| {
            if (from..to).contains(&q.query) {
                q.first_hit = if q.first_hit == 1 { 9 } else { 1 };
            }
        };
        changed(&run, "mine", true, at)
    };
    let mut first = judged(&run, &flip(0, 10));
    first.confirmed_by(&judged(&run, &flip(20, 30)));
    assert_eq!(first.exit_code(), 1, "two failures of one metric are one that repeats");
    assert!(first.notes.iter().any(|n| n.contains("confirmed by measuring")));
    let mut once = judged(&run, &flip(0, 10));
    once.confirmed_by(&judged(&run, &run));
    assert_eq!(once.exit_code(), 0, "{:?}", once.findings);
    assert!(once.notes.iter().all(|n| n.contains("not confirmed")) && !once.notes.is_empty());
    assert!(once.cells.iter().all(|c| c.says != Says::Drift));
}

#[test]
fn a_faster_but_wrong_search_is_drift() {
    // 400 points of 40 classes; the wrong search compares directions of 3-bit numbers, which is fast and nearly right.
    let (n, d) = (400usize, 16usize);
    let mut stream = rng::stream(5, "points", &[]);
    let centres: Vec<f32> = (0..40 * d).map(|_| rng::normal(&mut stream)).collect();
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 40).collect();
    let mut rows = Vec::new();
    for label in &labels {
        let centre = &centres[*label as usize * d..][..d];
        rows.extend(centre.iter().map(|c| c + 0.9 * rng::normal(&mut stream)));
    }
    let ranks = |rows: Vec<f32>| -> Vec<u32> {
        let points = Embeddings::new([n, d], rows).unwrap();
        let excluded: Vec<Option<usize>> = (0..n).map(Some).collect();
        let found = search(Search {
            queries: &points,
            query_labels: &labels,
            gallery: &points,
            gallery_labels: &labels,
            excluded: &excluded,
            depth: Depth::Fixed(1),
            distance: Distance::Euclidean,
        });
        found.unwrap().into_iter().map(|f| f.first_hit).collect()
    };
    let (exact, rough) = (ranks(rows.clone()), ranks(rows.iter().map(|v| v.round()).collect()));
    let run = good(1, n as u32);
    let with = |ranks: Vec<u32>| changed(&run, "mine", true, move |q| q.first_hit = ranks[q.query as usize]);
    assert_eq!(judged(&with(exact.clone()), &with(exact.clone())).exit_code(), 0);
    let judgement = judged(&with(exact), &with(rough));
    assert_eq!((judgement.exit_code(), kinds(&judgement)), (1, vec![Kind::Drift]));
}
