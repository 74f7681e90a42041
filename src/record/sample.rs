//! A realistic made-up run for tests: 4 models × 2 seeds × (clean + 2 attacks × 3 budgets), 200 queries, a gallery.

use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::view::{Arrow, EmbeddingView, GalleryShape, Point};
use super::{
    Check, Estimate, FlippedQuery, GalleryItem, Manifest, Measurement, MetricEstimate, QueryOutcome, RecallAt, Right,
    Run, StepPoint, Thumbnail, TrainingPoint,
};
use crate::metric::kind::Metric;
use crate::stats::Interval;
use crate::stats::uncertainty::{Basis, Method, Unit};

/// What to make.
pub(crate) struct Shape {
    /// Id, training word and chance of a right answer: clean, then at the largest budget.
    pub models: Vec<(String, String, f64, f64)>,
    /// Training seeds.
    pub seeds: u64,
    /// Budgets in grey levels.
    pub levels: Vec<u32>,
    /// Queries a trial.
    pub queries: u32,
    /// Picture stories.
    pub stories: usize,
}

impl Default for Shape {
    fn default() -> Self {
        let model = |id: &str, training: &str, clean, worst| (id.to_string(), training.to_string(), clean, worst);
        Self {
            models: vec![
                model("standard", "standard", 0.47, 0.05),
                model("adversarial", "adversarial", 0.45, 0.20),
                model("advprop", "advprop", 0.48, 0.09),
                model("mdprop", "mdprop", 0.49, 0.14),
            ],
            seeds: 2,
            levels: vec![8, 16, 24],
            queries: 200,
            stories: 4,
        }
    }
}

pub(crate) fn run() -> Run {
    make(&Shape::default())
}

fn share(hits: usize, of: u32) -> Estimate {
    let (n, p) = (f64::from(of.max(1)), hits as f64 / f64::from(of.max(1)));
    let half = 1.96 * (p * (1.0 - p) / n).sqrt();
    Estimate { value: p, low: (p - half).max(0.0), high: (p + half).min(1.0), n: of, basis: Some(basis(of)) }
}

/// Ten queries a class.
fn basis(queries: u32) -> Basis {
    Basis { method: Method::Bca, unit: Unit::Classes, units: queries / 10 }
}

/// A mean over queries, a figure without an interval and one that is undefined.
fn metrics(chance: f64, shape: &Shape, attacked: bool) -> Vec<MetricEstimate> {
    let interval = |value: f64| Some((Interval { value, low: value - 0.05, high: value + 0.05 }, basis(shape.queries)));
    let of = |metric, value, interval| MetricEstimate::new(metric, value, interval, shape.queries as usize);
    let mut list = vec![of(Metric::MapAtR, 0.5 * chance, interval(0.5 * chance)), of(Metric::HubSkewness, 1.25, None)];
    if attacked {
        list.push(of(Metric::TargetRank, 0.25, interval(0.25)));
    } else {
        list.push(of(Metric::PiRatio, 1.5 - chance, interval(1.5 - chance)));
        list.push(MetricEstimate::undefined(Metric::Rho(1), "a singular value is zero"));
    }
    list
}

pub(crate) fn make(shape: &Shape) -> Run {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut run = Run {
        manifest: manifest(shape),
        measurements: vec![],
        queries: vec![],
        steps: vec![],
        training: vec![],
        gallery: vec![],
        flips: vec![],
        views: vec![],
    };
    let top = f64::from(shape.levels.iter().copied().max().unwrap_or(1));
    for (index, (id, training, clean, worst)) in shape.models.iter().enumerate() {
        for seed in 0..shape.seeds {
            let mut grid = vec![("clean", "none", 0)];
            for (attack, goal) in [("single", "single-target"), ("multi", "multi-target(5)")] {
                grid.extend(shape.levels.iter().map(|level| (attack, goal, *level)));
            }
            for (attack, goal, level) in grid {
                let weaker = if attack == "multi" { 0.03 } else { 0.0 };
                let drop = (f64::from(level) / top).sqrt();
                let chance = (clean + (worst - clean) * drop + if level > 0 { weaker } else { 0.0 }).clamp(0.0, 1.0);
                let trial = format!("t{index:02}{seed}{attack}{level:03}");
                trial_rows(&mut run, &mut rng, shape, (id, training, seed), (attack, goal, level), &trial, chance);
            }
            for epoch in 1..=12u32 {
                run.training.push(TrainingPoint {
                    model: id.clone(),
                    seed,
                    epoch,
                    loss: 1.2 / f64::from(epoch).sqrt() + 0.05 * index as f64 + 0.02 * rng.random::<f64>(),
                    selection_recall: (epoch % 2 == 0).then(|| clean * (1.0 - 1.0 / (1.0 + f64::from(epoch)))),
                    learning_rate: 1e-3,
                });
            }
        }
    }
    // One check that failed, and one trial that did.
    let failed = |m: &&mut Measurement| m.attack == "multi" && (255.0 * m.epsilon_pixels - top).abs() < 0.5;
    if let Some(row) = run.measurements.iter_mut().find(failed) {
        row.checks[1] = check("zero-gradients", false, "7 of 200 queries had a zero gradient");
    }
    for story in 0..shape.stories.min(shape.models.len()) {
        run.gallery.push(item(story, &shape.models[story].0, &mut rng));
    }
    if let (true, [a, .., b]) = (shape.stories > 0, shape.models.as_slice()) {
        run.flips = vec![flip(&a.0, &b.0, Right::A, 3), flip(&a.0, &b.0, Right::B, 4)];
    }
    if shape.stories > 0 {
        for (index, (id, ..)) in shape.models.iter().enumerate() {
            run.views.push(view(index, id));
            if !shape.levels.is_empty() {
                run.views.push(arrows(index, id, top));
            }
        }
    }
    run
}

fn check(name: &str, passed: bool, detail: &str) -> Check {
    Check { name: name.into(), passed, detail: detail.into() }
}

fn trial_rows(
    run: &mut Run,
    rng: &mut ChaCha8Rng,
    shape: &Shape,
    (model, training, seed): (&str, &str, u64),
    (attack, goal, level): (&str, &str, u32),
    trial: &str,
    chance: f64,
) {
    let attacked = attack != "clean";
    let ranks: Vec<u32> =
        (0..shape.queries).map(|_| if rng.random_bool(chance) { 1 } else { rng.random_range(2..40) }).collect();
    let recall = |k: u32| RecallAt { k, estimate: share(ranks.iter().filter(|r| **r <= k).count(), shape.queries) };
    let epsilon_pixels = f64::from(level) / 255.0;
    for (query, first_hit) in ranks.iter().enumerate() {
        run.queries.push(QueryOutcome {
            trial: trial.into(),
            query: query as u32,
            label: query as u32 / 10,
            first_hit: *first_hit,
            neighbors: (0..8).map(|n| (query as u32 * 7 + n * 13) % shape.queries).collect(),
            targets: if attacked { vec![(query as u32 + 50) % shape.queries] } else { vec![] },
            success: attacked && *first_hit > 20,
            target_rank: if attacked { 1 + query as u32 % 9 } else { 0 },
            shift: if attacked { rng.random::<f32>() } else { 0.0 },
            linf: epsilon_pixels as f32,
            l2: epsilon_pixels as f32 * 96.0,
            loss: rng.random::<f32>(),
            score: None,
            map_at_r: Some(1.0 / f64::from(*first_hit)),
            broken_by: String::new(),
            evaluations: 0,
        });
    }
    run.steps.extend((0..=20u32).filter(|_| attacked).map(|step| {
        let loss = chance + 0.4 / f64::from(step + 1);
        let quartiles = [loss - 0.1, loss - 0.01, loss + 0.1];
        StepPoint { trial: trial.into(), step, images: shape.queries, running: shape.queries, loss, quartiles }
    }));
    run.measurements.push(Measurement {
        trial: trial.into(),
        suite: "demo".into(),
        dataset: "emoji-64".into(),
        split: "ba7816bf8f01".into(),
        model: model.into(),
        training: training.into(),
        model_seed: seed,
        artefact: "0123456789ab".into(),
        crafter: "0123456789ab".into(),
        attack: attack.into(),
        goal: goal.into(),
        method: if attacked { "pgd" } else { "none" }.into(),
        side: if attacked { "query" } else { "none" }.into(),
        crafted_by: String::new(),
        crafted_on: "main".into(),
        answered_by: "main".into(),
        epsilon: if attacked { format!("{level}/255") } else { "0".into() },
        epsilon_pixels,
        norm: if attacked { "linf" } else { "none" }.into(),
        steps: if attacked { 20 } else { 0 },
        restarts: u32::from(attacked),
        seed: 0,
        queries: shape.queries,
        queries_available: shape.queries,
        without_positive: 3,
        query_classes: shape.queries / 10,
        gallery: shape.queries,
        recall: vec![recall(1), recall(2), recall(4), recall(8)],
        success: attacked.then(|| share(ranks.iter().filter(|r| **r > 20).count(), shape.queries)),
        shift: attacked.then(|| Estimate { high: 0.52, low: 0.48, value: 0.5, ..share(0, shape.queries) }),
        metrics: metrics(chance, shape, attacked),
        linf_max: attacked.then_some(epsilon_pixels),
        l2_mean: attacked.then_some(epsilon_pixels * 96.0),
        evaluations_mean: None,
        checks: vec![
            check("budget-obeyed", true, "largest change is the budget"),
            check("zero-gradients", true, "0 of 200 queries had a zero gradient"),
        ],
        provider: "cpu".into(),
        selected_on: "validation".into(),
        error: None,
    });
}

fn manifest(shape: &Shape) -> Manifest {
    Manifest {
        schema: crate::record::folder::SCHEMA,
        suite: "demo".into(),
        about: "MDProp beside a standard model on emoji drawings, clean and attacked.".into(),
        plan: "feedc0de1234".into(),
        command: "mdprop run suites/demo.toml".into(),
        program: "mdprop 0.1.0 (abcdef0)".into(),
        versions: vec![("ONNX Runtime".into(), "1.32.0".into()), ("libtorch".into(), "2.11.0".into())],
        dataset: "emoji, 64 px: 200 test images of 20 classes never seen in training".into(),
        dataset_spec: None,
        dataset_digest: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into(),
        threads: 2,
        machine: "Fast One".into(),
        started_unix_s: 1_795_000_000,
        stages: vec![("train".into(), 120.5), ("measure".into(), 60.25)],
        test_classes: (0..shape.queries.div_ceil(10)).map(|class| (class, format!("glyph {class}"))).collect(),
        models: shape.models.iter().map(|m| (m.0.clone(), format!("convnet trained by {}", m.1))).collect(),
        published: vec![],
    }
}

/// Bell-shaped histograms, a falling spectrum and points on a spiral.
fn view(index: usize, model: &str) -> EmbeddingView {
    let bell = |middle: f64| {
        let raw: Vec<f64> =
            (0..64).map(|bin| (-((f64::from(bin) + 0.5) / 32.0 - middle).powi(2) / 0.06).exp()).collect();
        let sum: f64 = raw.iter().sum();
        raw.into_iter().map(|share| share / sum).collect::<Vec<f64>>()
    };
    let raw: Vec<f64> = (0..32).map(|i| (-0.1 * f64::from(i) * (1.0 + 0.3 * index as f64)).exp()).collect();
    let sum: f64 = raw.iter().sum();
    let point = |i: u32| Point { label: i / 10, at: spiral(f64::from(i), index) };
    EmbeddingView {
        trial: format!("t{index:02}0clean000"),
        model: model.into(),
        attack: "clean".into(),
        epsilon: "0".into(),
        gallery: Some(GalleryShape {
            images: 200,
            spectrum: raw.into_iter().map(|value| value / sum).collect(),
            bin_width: 2.0 / 64.0,
            intra: bell(0.6 + 0.05 * index as f64),
            inter: bell(1.3),
            pairs: [900, 19_000],
            variance: [0.21, 0.12],
            points: (0..120).map(point).collect(),
        }),
        arrows: vec![],
    }
}

fn spiral(i: f64, index: usize) -> [f64; 2] {
    [(0.35 * i).cos() * (0.1 + i / 150.0), (0.35 * i + index as f64).sin() * (0.1 + i / 150.0)]
}

fn arrows(index: usize, model: &str, level: f64) -> EmbeddingView {
    let arrow = |query: u32| {
        let from = spiral(f64::from(query) * 3.0, index);
        let to = [from[0] * 0.5 + 0.2, from[1] * 0.5 - 0.1];
        Arrow { query, label: query / 10, from, to, flipped: !query.is_multiple_of(3) }
    };
    EmbeddingView {
        trial: format!("t{index:02}0single{level:03}"),
        attack: "single".into(),
        epsilon: format!("{level}/255"),
        gallery: None,
        arrows: (0..24).map(arrow).collect(),
        ..view(index, model)
    }
}

/// Side of the made-up pictures.
const SIDE: u32 = 48;

fn item(story: usize, model: &str, rng: &mut ChaCha8Rng) -> GalleryItem {
    let clean = glyph(story as u32, story as u32, true);
    let mut adversarial = clean.clone();
    let mut perturbation = clean.clone();
    for (a, p) in adversarial.pixels.iter_mut().zip(&mut perturbation.pixels) {
        let change: i16 = if rng.random_bool(0.5) { 24 } else { -24 };
        let moved = (i16::from(*a) + change).clamp(0, 255);
        *p = (128 + (moved - i16::from(*a)) * 4).clamp(0, 255) as u8;
        *a = moved as u8;
    }
    let class = story as u32;
    GalleryItem {
        trial: format!("t{story:02}0single024"),
        model: model.into(),
        attack: "single".into(),
        kind: "flipped".into(),
        size: SIDE,
        clean,
        adversarial,
        perturbation,
        magnification: 4,
        clean_neighbors: (0..5).map(|n| glyph(100 + n, if n < 3 { class } else { class + n }, n < 3)).collect(),
        adversarial_neighbors: (0..5).map(|n| glyph(120 + n, if n == 4 { class } else { 9 + n }, n == 4)).collect(),
        targets: vec![glyph(129, 9, false)],
    }
}

/// A clean query of two models; the one that is wrong has its first right image in the third place.
fn flip(a: &str, b: &str, right: Right, query: u32) -> FlippedQuery {
    let nearest = |first: u32, is_right: bool| -> Vec<Thumbnail> {
        (0..3).map(|n| glyph(first + n, if is_right || n == 2 { 0 } else { 1 + n }, is_right || n == 2)).collect()
    };
    FlippedQuery {
        question: "clean".into(),
        metric: "recall@1".into(),
        a: a.into(),
        b: b.into(),
        right,
        first_hit: if right == Right::A { (1, 3) } else { (3, 1) },
        size: SIDE,
        query: glyph(query, 0, true),
        nearest_a: nearest(30, right == Right::A),
        nearest_b: nearest(40, right == Right::B),
    }
}

/// A disc, ring or bar whose form depends on the class and whose place on the index.
fn glyph(index: u32, class: u32, same_class: bool) -> Thumbnail {
    let side = SIDE as i32;
    let (cx, cy) = (side / 2 + index as i32 % 5 - 2, side / 2 + index as i32 % 3 - 1);
    let ink = [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167]][class as usize % 4];
    let mut pixels = Vec::with_capacity((3 * side * side) as usize);
    for colour in ink {
        for y in 0..side {
            for x in 0..side {
                let (dx, dy) = (x - cx, y - cy);
                let r = dx * dx + dy * dy;
                let on = match class % 3 {
                    0 => r < 260,
                    1 => (120..330).contains(&r),
                    _ => dx.abs() < 6 || dy.abs() < 4,
                };
                pixels.push(if on { colour } else { 236 });
            }
        }
    }
    Thumbnail { index, class: format!("glyph {class}"), same_class, pixels }
}
