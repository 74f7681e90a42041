//! Trials whose images walk: in another norm, without gradients, as an ensemble, as a curve.

use super::*;
use crate::attack::budget::Budget;
use crate::suite::attack::{Access, Estimation};

/// How a list of radii is measured at once.
fn curve(bench: &Bench, goal: &Goal, methods: &[Method]) -> Result<Vec<TrialOutcome>, AttackError> {
    let mut crafter = encoder(1);
    let mut embed = |list: &[usize]| {
        embed_all(&mut crafter, &bench.images, list, bench.batch_size, &Silent, &Cancel::default()).unwrap()
    };
    let (query_embeddings, gallery_embeddings) = (embed(&bench.queries), embed(&bench.all));
    let input = |method| TrialInput {
        trial: "t1",
        images: &bench.images,
        queries: &bench.queries,
        queries_available: 72,
        gallery: &bench.all,
        query_embeddings: &query_embeddings,
        gallery_embeddings: &gallery_embeddings,
        crafter_embeddings: None,
        attack: Some(attack(goal, method, &method.epsilons()[0], Side::Query)),
        batch_size: bench.batch_size,
        seed: 7,
        ks: &[1, 2, 4],
        metrics: &[],
        clustering: Default::default(),
        keep: &[4],
        observer: &Silent,
        cancel: &bench.cancel,
    };
    let inputs: Vec<TrialInput<'_>> = methods.iter().map(input).collect();
    run_curve(&mut crafter, None, &inputs)
}

fn auto(epsilon: &Epsilon, stop: Stop) -> Method {
    Method::Auto { epsilon: EpsilonList(vec![epsilon.clone()]), stop }
}

fn apgd(epsilon: &Epsilon, stop: Stop) -> Method {
    let (epsilon, warm_start) = (EpsilonList(vec![epsilon.clone()]), false);
    Method::Apgd { epsilon, steps: 20, restarts: 1, stop, warm_start }
}

fn square(epsilon: &Epsilon, access: Access) -> Method {
    let (epsilon, stop) = (EpsilonList(vec![epsilon.clone()]), Stop::Never);
    Method::Square { epsilon, queries: 150, restarts: 1, access, stop }
}

fn recall(outcome: &TrialOutcome) -> f64 {
    outcome.recall[0].estimate.value
}

#[test]
fn every_method_keeps_its_budget_and_is_as_strong_as_its_access_allows() {
    let bench = Bench::new();
    let goal = Goal::Misrank {};
    for epsilon in [levels(10), Epsilon::L2(0.25)] {
        let run = |method: &Method| {
            let (outcome, row) = bench.run(Some(attack(&goal, method, &epsilon, Side::Query))).unwrap();
            assert_eq!(failed(&outcome.checks), Vec::<&Check>::new(), "{method:?}");
            (recall(&outcome), row)
        };
        let (clean, _) = bench.run(None).unwrap();
        let (white, row) = run(&apgd(&epsilon, Stop::Never));
        assert_eq!((row.method.as_str(), row.steps, row.restarts), ("apgd", 20, 1));
        assert_eq!(row.norm, epsilon.norm().to_string());
        assert_eq!(row.evaluations_mean, Some(21.0));
        let (gradients, _) = run(&pgd(&epsilon));
        let list = EpsilonList(vec![epsilon.clone()]);
        let (noise, _) = run(&Method::Noise { epsilon: list.clone(), distribution: Distribution::Gaussian });
        let (scores, row) = run(&square(&epsilon, Access::Embedding));
        assert_eq!(row.evaluations_mean, Some(150.0));
        let (ranking, row) = run(&square(&epsilon, Access::Ranking(30)));
        assert_eq!(row.method, "square-by-rank");
        let nes = Estimation {
            epsilon: list,
            queries: 200,
            pairs: 9,
            sigma: None,
            step_size: None,
            restarts: 1,
            access: Access::Embedding,
            stop: Stop::Never,
        };
        let (estimated, _) = run(&Method::Nes(nes));
        let all = [white, gradients, scores, ranking, estimated, noise];
        assert!(white <= gradients + 0.03, "{epsilon}: {all:?}");
        assert!(white <= scores.min(ranking).min(estimated), "white box first, {epsilon}: {all:?}");
        assert!(scores < noise && estimated < noise && ranking <= noise, "noise last, {epsilon}: {all:?}");
        assert!(recall(&clean) - white > 0.3, "{epsilon}: {all:?}");
    }
}

#[test]
fn an_ensemble_finds_the_same_whether_or_not_it_leaves_broken_queries_alone() {
    let mut bench = Bench::new();
    let goal = Goal::Misrank {};
    let epsilon = levels(5);
    let run = |bench: &Bench, method: &Method| bench.run(Some(attack(&goal, method, &epsilon, Side::Query))).unwrap().0;
    let left_alone = run(&bench, &auto(&epsilon, Stop::Broken));
    let to_the_end = run(&bench, &auto(&epsilon, Stop::Never));
    assert_eq!(failed(&left_alone.checks), Vec::<&Check>::new());
    let looks = |outcome: &TrialOutcome| outcome.evaluations_mean.unwrap();
    assert_eq!(looks(&to_the_end), 3.0 * 101.0 + 1000.0);
    assert!(looks(&left_alone) < looks(&to_the_end) / 2.0, "{}", looks(&left_alone));
    let without_work = |outcome: &TrialOutcome| {
        let bare = |q: &QueryOutcome| QueryOutcome { evaluations: 0, ..q.clone() };
        outcome.queries.iter().map(bare).collect::<Vec<_>>()
    };
    assert_eq!(without_work(&left_alone), without_work(&to_the_end));
    assert_eq!(left_alone.kept, to_the_end.kept);
    // Some stand and some fall, and who fell has a name.
    let lost = left_alone.queries.iter().filter(|q| q.first_hit > 1).count();
    assert!((1..36).contains(&lost), "{lost}");
    for query in &left_alone.queries {
        assert_eq!(query.first_hit > 1, !query.broken_by.is_empty(), "{query:?}");
    }
    // Never weaker than its first member alone.
    let first = run(&bench, &apgd(&epsilon, Stop::Broken));
    assert!(recall(&left_alone) <= recall(&first));
    for batch_size in [1, 100] {
        bench.batch_size = batch_size;
        assert_eq!(run(&bench, &auto(&epsilon, Stop::Broken)), left_alone, "batch size {batch_size}");
    }
}

#[test]
fn a_curve_begins_clean_and_never_rises() {
    let bench = Bench::new();
    let goal = Goal::Misrank {};
    let radii = [0, 1, 3, 6, 12].map(levels);
    for method in [|e: &Epsilon| auto(e, Stop::Broken), |e: &Epsilon| apgd(e, Stop::Broken)] {
        let methods: Vec<Method> = radii.iter().map(method).collect();
        let outcomes = curve(&bench, &goal, &methods).unwrap();
        let clean = bench.run(None).unwrap().0;
        assert_eq!(recall(&outcomes[0]), recall(&clean));
        for (pair, radius) in outcomes.windows(2).zip(&radii[1..]) {
            assert!(recall(&pair[1]) <= recall(&pair[0]));
            for (small, large) in pair[0].queries.iter().zip(&pair[1].queries) {
                if small.first_hit > 1 {
                    assert_eq!(small, large, "carried as it is");
                } else {
                    assert!(large.evaluations > small.evaluations);
                }
            }
            let largest = Budget::new(radius, &[1.0; 3]).radii()[0];
            assert!(pair[1].queries.iter().all(|q| q.linf <= largest + 1e-6));
            assert_eq!(failed(&pair[1].checks), Vec::<&Check>::new());
        }
        assert!(recall(&outcomes[4]) < recall(&outcomes[0]) / 2.0);
    }
    let descending = [12, 6].map(|n| auto(&levels(n), Stop::Broken));
    let error = curve(&bench, &goal, &descending).unwrap_err().to_string();
    assert!(error.starts_with("radius of a curve: got 0.0235"), "{error}");
}
