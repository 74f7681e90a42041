mod closed_forms;
mod counted;
mod searched;

use std::sync::Arc;

use super::*;
use crate::dataset::{Pixels, Split};
use crate::digest::Digest;
use crate::encoder::fake::LinearEncoder;
use crate::metric::kind::Scope;
use crate::progress::Silent;
use crate::record::Measurement;
use crate::rng;
use crate::suite::attack::{Distribution, EpsilonList, RandomStart, Stop};
use crate::units::PixelAmount;

/// Twelve classes of six 4 × 4 images: a class is a pattern, an image the pattern with noise.
fn set() -> ImageSet {
    let mut stream = rng::stream(5, "set", &[]);
    let patterns: Vec<u8> = (0..12 * 48).map(|_| 60 + rng::below(&mut stream, 130) as u8).collect();
    let labels: Vec<u32> = (0..72).map(|i| i / 6).collect();
    let noisy = |i: usize, stream: &mut rng::Stream| -> Vec<u8> {
        patterns[i / 6 * 48..][..48].iter().map(|&p| p - 40 + rng::below(stream, 80) as u8).collect()
    };
    let pixels: Vec<u8> = (0..72).flat_map(|i| noisy(i, &mut stream)).collect();
    ImageSet {
        id: "patterns".into(),
        originals: crate::dataset::Originals::default(),
        size: 4,
        digest: Digest::of_bytes(&pixels),
        pixels: Pixels::Owned(Arc::new(pixels)),
        labels,
        classes: (0..12).map(|c| c.to_string()).collect(),
        sources: vec![String::new(); 72],
        split: Split::default(),
    }
}

/// Random weights that sum to zero per output, so that brightness does not hide the patterns.
fn encoder(seed: u64) -> LinearEncoder {
    let mut stream = rng::stream(seed, "weights", &[]);
    let mut weight: Vec<f32> = (0..8 * 48).map(|_| rng::normal(&mut stream)).collect();
    for row in weight.chunks_exact_mut(48) {
        let mean = row.iter().sum::<f32>() / 48.0;
        row.iter_mut().for_each(|w| *w -= mean);
    }
    LinearEncoder::new([3, 4, 4], weight, true).unwrap()
}

fn levels(n: u32) -> Epsilon {
    Epsilon::Pixels(PixelAmount::grey_levels(n))
}

fn pgd(epsilon: &Epsilon) -> Method {
    let epsilon = EpsilonList(vec![epsilon.clone()]);
    let random_start = RandomStart::Uniform;
    Method::Pgd {
        epsilon,
        step_size: None,
        steps: 8,
        restarts: 1,
        random_start,
        allow_overshoot: false,
        stop: Stop::Never,
    }
}

struct Bench {
    images: ImageSet,
    all: Vec<usize>,
    queries: Vec<usize>,
    batch_size: usize,
    metrics: Vec<Metric>,
    cancel: Cancel,
}

impl Bench {
    fn new() -> Self {
        let queries = (0..72).step_by(2).collect();
        let metrics =
            Metric::all().into_iter().filter(|m| !matches!(m.scope(), Scope::Suite | Scope::Robrank)).collect();
        let cancel = Cancel::default();
        Self { images: set(), all: (0..72).collect(), queries, batch_size: 7, metrics, cancel }
    }

    fn run(&self, attack: Option<AttackInput<'_>>) -> Result<(TrialOutcome, Measurement), AttackError> {
        let mut crafter = encoder(1);
        self.run_with(&mut crafter, attack)
    }

    fn run_with(
        &self,
        crafter: &mut dyn Encoder,
        attack: Option<AttackInput<'_>>,
    ) -> Result<(TrialOutcome, Measurement), AttackError> {
        let mut embed = |list: &[usize]| {
            embed_all(crafter, &self.images, list, self.batch_size.max(1), &Silent, &Cancel::default()).unwrap()
        };
        let (query_embeddings, gallery_embeddings) = (embed(&self.queries), embed(&self.all));
        let input = TrialInput {
            trial: "t1",
            images: &self.images,
            queries: &self.queries,
            queries_available: 72,
            gallery: &self.all,
            query_embeddings: &query_embeddings,
            gallery_embeddings: &gallery_embeddings,
            crafter_embeddings: None,
            attack,
            batch_size: self.batch_size,
            seed: 7,
            ks: &[1, 2, 4],
            metrics: &self.metrics,
            clustering: Default::default(),
            keep: &[4, 5],
            observer: &Silent,
            cancel: &self.cancel,
        };
        let outcome = run_trial(crafter, None, &input)?;
        let mut row = empty_row();
        outcome.write_into(&input, crafter.spec(), &mut row);
        Ok((outcome, row))
    }
}

fn empty_row() -> Measurement {
    Measurement { model: "m".into(), ..Measurement::default() }
}

fn attack<'a>(goal: &'a Goal, method: &'a Method, epsilon: &'a Epsilon, side: Side) -> AttackInput<'a> {
    AttackInput { name: "test", goal, method, epsilon, side }
}

fn failed(checks: &[Check]) -> Vec<&Check> {
    checks.iter().filter(|c| !c.passed).collect()
}

#[test]
fn attacks_break_what_works_clean_and_every_check_holds() {
    let bench = Bench::new();
    let (clean, row) = bench.run(None).unwrap();
    assert!(clean.recall[0].estimate.value > 0.6, "{:?}", clean.recall);
    assert_eq!((row.attack.as_str(), row.queries, row.gallery, row.linf_max), ("clean", 36, 72, None));
    let eight = levels(24);
    let single = Goal::SingleTarget {};
    let (hit, row) = bench.run(Some(attack(&single, &pgd(&eight), &eight, Side::Query))).unwrap();
    assert!(hit.recall[0].estimate.value < clean.recall[0].estimate.value / 2.0, "{:?}", hit.recall);
    assert!(hit.success.unwrap().value > 0.5);
    assert_eq!(
        (row.goal.as_str(), row.method.as_str(), row.side.as_str(), row.steps),
        ("single-target", "pgd", "query", 8)
    );
    assert!((row.linf_max.unwrap() - 24.0 / 255.0).abs() < 1e-6);
    assert_eq!(hit.kept.len(), 1, "4 is a query, 5 is not");
    let noise = Method::Noise { epsilon: EpsilonList(vec![eight.clone()]), distribution: Distribution::Uniform };
    let (control, control_row) = bench.run(Some(attack(&single, &noise, &eight, Side::Query))).unwrap();
    assert!(checks::stronger_than_noise(&row, &control_row).unwrap().passed);
    let multi = Goal::MultiTarget { targets: 5, loss: Default::default(), choice: Default::default() };
    let (five, _) = bench.run(Some(attack(&multi, &pgd(&eight), &eight, Side::All))).unwrap();
    assert!(five.queries.iter().all(|q| q.targets.len() == 5));
    assert_eq!(five.kept.len(), 2, "on side `all` the gallery is attacked too");
    let away = Goal::Untargeted {};
    let (away, _) = bench.run(Some(attack(&away, &pgd(&eight), &eight, Side::Query))).unwrap();
    assert!(away.success.is_none() && away.shift.unwrap().value > control.shift.unwrap().value);
    for outcome in [&clean, &hit, &control, &five, &away] {
        assert_eq!(failed(&outcome.checks), Vec::<&Check>::new());
    }
}

#[test]
fn a_zero_radius_gives_the_clean_outcomes_on_both_sides() {
    let bench = Bench::new();
    let (clean, _) = bench.run(None).unwrap();
    let zero = levels(0);
    let single = Goal::SingleTarget {};
    for side in [Side::Query, Side::All] {
        let (same, _) = bench.run(Some(attack(&single, &pgd(&zero), &zero, side))).unwrap();
        assert_eq!(same.recall, clean.recall);
        for (a, b) in same.queries.iter().zip(&clean.queries) {
            assert_eq!((&a.neighbors, a.first_hit, a.linf, a.shift), (&b.neighbors, b.first_hit, 0.0, 0.0));
        }
        let check = same.checks.iter().find(|c| c.name == "zero-epsilon-equals-clean").unwrap();
        assert!(check.passed, "{check:?}");
    }
}

#[test]
fn batch_size_and_threads_change_nothing_and_targets_are_the_same_for_all_models() {
    let mut bench = Bench::new();
    let four = levels(4);
    let goal = Goal::MultiTarget { targets: 3, loss: Default::default(), choice: Default::default() };
    let method = pgd(&four);
    let spec = attack(&goal, &method, &four, Side::All);
    let (wanted, _) = bench.run(Some(spec)).unwrap();
    for batch_size in [1, 5, 100] {
        bench.batch_size = batch_size;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(batch_size.min(3)).build().unwrap();
        assert_eq!(pool.install(|| bench.run(Some(spec))).unwrap().0, wanted);
    }
    let (other, _) = bench.run_with(&mut encoder(2), Some(spec)).unwrap();
    assert_ne!(other.queries[0].loss, wanted.queries[0].loss);
    for (a, b) in other.queries.iter().zip(&wanted.queries) {
        assert_eq!(a.targets, b.targets);
    }
}

#[test]
fn every_kind_of_trial_has_the_metrics_that_it_can_have() {
    let bench = Bench::new();
    let radius = levels(24);
    let (single, method) = (Goal::SingleTarget {}, pgd(&radius));
    let run = |attack: Option<AttackInput<'_>>| bench.run(attack).unwrap().0;
    let clean = run(None);
    let query = run(Some(attack(&single, &method, &radius, Side::Query)));
    let all = run(Some(attack(&single, &method, &radius, Side::All)));
    let away = run(Some(attack(&Goal::Untargeted {}, &method, &radius, Side::Query)));
    let scopes = |outcome: &TrialOutcome| {
        outcome.metrics.iter().map(|m| m.metric.scope()).collect::<std::collections::BTreeSet<Scope>>()
    };
    use Scope::{Attack, Clustering, Geometry, Ranking};
    assert_eq!(scopes(&clean), [Ranking, Clustering, Geometry].into());
    assert_eq!(scopes(&query), [Ranking, Attack].into());
    assert_eq!(scopes(&all), [Ranking, Clustering, Geometry, Attack].into());
    let value = |outcome: &TrialOutcome, metric: Metric| {
        outcome.metrics.iter().find(|m| m.metric == metric).and_then(|m| m.estimate).map(|e| e.value)
    };
    assert_eq!(value(&away, Metric::TargetRank), None);
    assert!(value(&away, Metric::RecallDrop).is_some());
    // The drop is that of the means, because both are of the same queries.
    let recall = |outcome: &TrialOutcome| outcome.recall[0].estimate.value;
    let drop = value(&query, Metric::RecallDrop).unwrap();
    assert!((drop - (recall(&clean) - recall(&query))).abs() < 1e-12);
    let retained = value(&query, Metric::RetainedShare).unwrap();
    assert!((retained - recall(&query) / recall(&clean)).abs() < 1e-12);
    assert_eq!(value(&clean, Metric::PrecisionAt1), Some(recall(&clean)));
    // Where the attack succeeded the target's identity is first.
    for outcome in [&query, &all] {
        assert!(outcome.queries.iter().all(|q| q.target_rank > 0 && q.success == (q.target_rank == 1)));
    }
    assert!(away.queries.iter().chain(&clean.queries).all(|q| q.target_rank == 0));
    // Lists in the record stay as long as the largest k, however deep a metric searched.
    assert!(clean.queries.iter().all(|q| q.neighbors.len() == 4));
}

#[test]
fn queries_apart_from_the_gallery_exclude_nothing() {
    let mut bench = Bench::new();
    bench.all.retain(|i| i % 2 == 1);
    let (clean, row) = bench.run(None).unwrap();
    assert_eq!((row.queries, row.gallery, row.query_classes, row.without_positive), (36, 36, 12, 0));
    let embed =
        |list: &[usize]| embed_all(&mut encoder(1), &bench.images, list, 7, &Silent, &Cancel::default()).unwrap();
    let labels = |list: &[usize]| bench.images.labels_of(list);
    let embedded = score::Embedded {
        queries: &embed(&bench.queries),
        query_labels: &labels(&bench.queries),
        gallery: &embed(&bench.all),
        gallery_labels: &labels(&bench.all),
        protocol: score::Protocol::QueryGallery,
        distance: crate::metric::neighbors::Distance::Euclidean,
    };
    let scores = embedded.measure(&[1, 2, 4], &bench.metrics, Default::default(), 7).unwrap();
    assert_eq!((scores.recall, scores.metrics), (clean.recall, clean.metrics));
    // An attack on both sides needs its queries in the gallery.
    let radius = levels(4);
    let (goal, method) = (Goal::Untargeted {}, pgd(&radius));
    let error = bench.run(Some(attack(&goal, &method, &radius, Side::All))).unwrap_err().to_string();
    assert!(error.contains("an image of the gallery"), "{error}");
}

#[test]
fn another_model_may_answer() {
    let bench = Bench::new();
    let (mut crafter, mut answerer) = (encoder(1), encoder(2));
    let eight = levels(24);
    let (goal, method) = (Goal::SingleTarget {}, pgd(&eight));
    let embed = |encoder: &mut LinearEncoder, list: &[usize]| {
        embed_all(encoder, &bench.images, list, 7, &Silent, &Cancel::default()).unwrap()
    };
    let by_answerer = (embed(&mut answerer, &bench.queries), embed(&mut answerer, &bench.all));
    let by_crafter = (embed(&mut crafter, &bench.queries), embed(&mut crafter, &bench.all));
    let input = TrialInput {
        trial: "t2",
        images: &bench.images,
        queries: &bench.queries,
        queries_available: 36,
        gallery: &bench.all,
        query_embeddings: &by_answerer.0,
        gallery_embeddings: &by_answerer.1,
        crafter_embeddings: Some((&by_crafter.0, &by_crafter.1)),
        attack: Some(attack(&goal, &method, &eight, Side::Query)),
        batch_size: 7,
        seed: 7,
        ks: &[1],
        metrics: &[],
        clustering: Default::default(),
        keep: &[],
        observer: &Silent,
        cancel: &bench.cancel,
    };
    let transfer = run_trial(&mut crafter, Some(&mut answerer), &input).unwrap();
    assert_eq!(failed(&transfer.checks), Vec::<&Check>::new());
    let (white, _) = bench.run(input.attack).unwrap();
    assert_eq!(white.queries[3].loss, transfer.queries[3].loss, "the same attack was crafted");
    assert!(transfer.success.unwrap().value < white.success.unwrap().value, "and answered by another");
}

#[test]
fn refuses_what_does_not_fit_and_stops_when_asked() {
    let mut bench = Bench::new();
    let four = levels(4);
    let many = Goal::MultiTarget { targets: 12, loss: Default::default(), choice: Default::default() };
    let method = pgd(&four);
    let text = |bench: &Bench, goal, side| bench.run(Some(attack(goal, &method, &four, side))).unwrap_err().to_string();
    assert!(
        text(&bench, &many, Side::Query).contains("wants 12 targets of distinct other identities, the gallery has 11")
    );
    bench.all.retain(|&i| i != 4);
    let single = Goal::SingleTarget {};
    assert!(text(&bench, &single, Side::All).contains("query of an attack on side `all`: got 4"));
    assert!(bench.run(Some(attack(&single, &method, &four, Side::Query))).is_ok());
    bench.all = (0..72).filter(|i| i % 6 == 0).collect();
    bench.queries = vec![0, 6];
    assert!(bench.run(None).unwrap_err().to_string().contains("queries with another image of their class"));
    bench = Bench::new();
    bench.batch_size = 0;
    assert!(text(&bench, &single, Side::Query).contains("batch size: got 0"));
    bench = Bench::new();
    bench.cancel.cancel();
    assert!(text(&bench, &single, Side::Query).contains("stopped by the user"));
}

/// A trial that leaves broken queries alone: the same whatever the batch, and never weaker than the full search, since
/// the iterate that the full search keeps is one of those that were judged.
#[test]
fn queries_that_are_broken_are_left_alone_and_stay_broken() {
    let epsilon = levels(20);
    let goal = Goal::MultiTarget { targets: 3, loss: Default::default(), choice: Default::default() };
    let method = |stop| {
        let (epsilon, random_start) = (EpsilonList(vec![epsilon.clone()]), RandomStart::Uniform);
        Method::Pgd { epsilon, step_size: None, steps: 8, restarts: 2, random_start, allow_overshoot: false, stop }
    };
    let (never, broken) = (method(Stop::Never), method(Stop::Broken));
    let attack = |method| AttackInput { name: "a", goal: &goal, method, epsilon: &epsilon, side: Side::Query };
    let mut bench = Bench::new();
    let (full, _) = bench.run(Some(attack(&never))).unwrap();
    let (hunted, row) = bench.run(Some(attack(&broken))).unwrap();
    assert!(hunted.checks.iter().all(|c| c.passed), "{:?}", hunted.checks);
    assert_eq!(row.method, "pgd-until-broken");
    // What follows the nearest image was not attacked.
    let ks = |outcome: &TrialOutcome| outcome.recall.iter().map(|r| r.k).collect::<Vec<_>>();
    assert_eq!((ks(&full), ks(&hunted)), (vec![1, 2, 4], vec![1]));
    let value = |outcome: &TrialOutcome, metric: Metric| {
        let found = outcome.metrics.iter().find(|m| m.metric == metric).unwrap();
        (found.estimate.is_some(), found.note.contains("stop = \"never\""))
    };
    for metric in [Metric::MapAtR, Metric::Mrr, Metric::RPrecision, Metric::TargetRank] {
        assert_eq!([&full, &hunted].map(|o| value(o, metric)), [(true, false), (false, true)], "{metric}");
    }
    for metric in [Metric::PrecisionAt1, Metric::MacroRecallAt1, Metric::RecallDrop] {
        assert_eq!([&full, &hunted].map(|o| value(o, metric)), [(true, false); 2], "{metric}");
    }
    assert!(hunted.queries.iter().all(|q| q.map_at_r.is_none()) && full.queries.iter().any(|q| q.map_at_r.is_some()));
    let lost = |outcome: &TrialOutcome| outcome.queries.iter().filter(|q| q.first_hit > 1).count();
    assert!((1..36).contains(&lost(&full)), "{} of 36 lost", lost(&full));
    for (full, hunted) in full.queries.iter().zip(&hunted.queries) {
        assert!(full.first_hit <= 1 || hunted.first_hit > 1, "query {} recovered", full.query);
        assert_eq!(full.targets, hunted.targets);
    }
    assert_eq!(full.kept.iter().map(|k| k.0).collect::<Vec<_>>(), hunted.kept.iter().map(|k| k.0).collect::<Vec<_>>());
    for batch_size in [1, 3, 36, 100] {
        bench.batch_size = batch_size;
        assert_eq!(bench.run(Some(attack(&broken))).unwrap().0, hunted, "batch size {batch_size}");
    }
}
