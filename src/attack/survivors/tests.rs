//! Against the full run: every query to the end of its schedule, in batches, the first broken iterate looked up after.

use super::*;
use crate::encoder::Distance;
use crate::encoder::fake::LinearEncoder;
use crate::encoder::onnx::{OnnxEncoder, OnnxOptions, Runtime};
use crate::onnx::fixtures::little_resnet;
use crate::rng;
use crate::suite::attack::{EpsilonList, Goal, Method, RandomStart, Stop};
use crate::units::{Epsilon, PixelAmount};

/// Queries of a few classes among a gallery of clean embeddings.
struct World {
    shape: [usize; 3],
    clean: Vec<Images>,
    labels: Vec<usize>,
    embeddings: Embeddings,
    attack: &'static str,
}

impl World {
    fn new(encoder: &mut dyn Encoder, n: usize) -> Self {
        let shape @ [c, h, w] = encoder.spec().input;
        let mut stream = rng::stream(3, "world", &[]);
        let patterns: Vec<Vec<f32>> =
            (0..5).map(|_| (0..c * h * w).map(|_| 0.2 + 0.6 * rng::unit(&mut stream)).collect()).collect();
        let labels: Vec<usize> = (0..n).map(|i| i % 5).collect();
        let mut pixels = Vec::new();
        for &label in &labels {
            pixels.extend(patterns[label].iter().map(|p| p + 0.2 * (rng::unit(&mut stream) - 0.5)));
        }
        let all = Images::new([n, c, h, w], pixels).unwrap();
        let embeddings = encoder.embed(&all).unwrap();
        let one = |i| Images::new([1, c, h, w], all.image(i).to_vec()).unwrap();
        Self { shape, clean: (0..n).map(one).collect(), labels, embeddings, attack: "hunt" }
    }
}

impl Victims for World {
    /// Towards two images of other classes.
    fn load(&self, i: usize) -> Result<Victim, AttackError> {
        let n = self.clean.len();
        let targets = [(i + 1) % n, (i + 2) % n].map(|t| self.embeddings.row(t)).concat();
        let goal = Goal::MultiTarget { targets: 2, loss: Default::default(), choice: Default::default() };
        Ok(Victim { image: 100 + i, clean: self.clean[i].clone(), objective: Objective::new(&goal, 1, targets) })
    }

    /// Naive: the nearest clean image but the query's own is of another class, or as near as one of its own.
    fn broken(&self, queries: &[usize], embeddings: &Embeddings) -> Result<Vec<bool>, AttackError> {
        let lost = |(row, &query): (usize, &usize)| {
            let nearest = |own: bool| {
                (0..self.labels.len())
                    .filter(|&g| g != query && (self.labels[g] == self.labels[query]) == own)
                    .map(|g| Distance::SquaredEuclidean.between(embeddings.row(row), self.embeddings.row(g)))
                    .fold(f64::INFINITY, f64::min)
            };
            nearest(true) >= nearest(false)
        };
        Ok(queries.iter().enumerate().map(lost).collect())
    }
}

fn levels(n: u32) -> Epsilon {
    Epsilon::Pixels(PixelAmount::grey_levels(n))
}

fn schedule(epsilon: &Epsilon, steps: usize, restarts: usize) -> Schedule {
    let list = EpsilonList(vec![epsilon.clone()]);
    let random_start = RandomStart::Uniform;
    let allow_overshoot = false;
    let method = Method::Pgd {
        epsilon: list,
        step_size: None,
        steps,
        restarts,
        random_start,
        allow_overshoot,
        stop: Stop::Broken,
    };
    Schedule::resolve(&method, &Goal::SingleTarget {}, epsilon, &[1.0; 3]).unwrap().unwrap()
}

/// What the full run finds: the same rows as [`Ended`], but for the evaluations, which are always all of them.
fn full_run(encoder: &mut dyn Encoder, world: &World, hunt: &Hunt<'_>) -> Vec<Ended> {
    let all: Vec<usize> = (0..world.clean.len()).collect();
    let mut found: Vec<Option<Ended>> = vec![None; all.len()];
    let mut paths = vec![LossPath::default(); all.len()];
    for batch in all.chunks(hunt.places) {
        for restart in 0..hunt.schedule.restarts {
            let places: Vec<Option<Place>> = batch
                .iter()
                .map(|&i| {
                    let mut place = hunt.enter(i, world).unwrap();
                    let bounds = (&place.lower, &place.upper);
                    place.current = hunt.first_iterate(&place.victim, bounds, restart);
                    Some(place)
                })
                .collect();
            let mut steps = descend(encoder, &places).unwrap().unwrap();
            for _ in 0..=hunt.schedule.steps {
                let evaluation = steps.step(&hunt.schedule.step.repeat(batch.len())).unwrap();
                let broken = world.broken(batch, &evaluation.embeddings).unwrap();
                for (i, place) in places.iter().flatten().enumerate() {
                    let mut adversarial = vec![0.0; place.current.stride()];
                    steps.copy_evaluated(i, &mut adversarial);
                    let slot = &mut found[place.query];
                    if restart == 0 && slot.as_ref().is_none_or(|e| !e.broken) {
                        paths[place.query].push(evaluation.loss[i]);
                    }
                    let start_loss = slot.as_ref().map_or(evaluation.loss[i], |e| e.start_loss);
                    let loss = evaluation.loss[i];
                    if slot.as_ref().is_none_or(|e| !e.broken && (broken[i] || loss < e.loss)) {
                        *slot = Some(Ended {
                            query: place.query,
                            broken: broken[i],
                            evaluations: 0,
                            victim: place.victim.clone(),
                            adversarial,
                            embedding: evaluation.embeddings.row(i).to_vec(),
                            start_loss,
                            loss,
                            path: LossPath::default(),
                        });
                    }
                }
            }
        }
    }
    found.into_iter().flatten().zip(paths).map(|(ended, path)| Ended { path, ..ended }).collect()
}

/// Runs the hunt, `enough` at a time, with other work for the encoder in between.
fn hunt_all(encoder: &mut dyn Encoder, world: &World, hunt: Hunt<'_>, enough: usize) -> Vec<Ended> {
    let mut running = hunt.start(&*encoder, &Survivors::all(world.clean.len())).unwrap();
    let mut all = Vec::new();
    loop {
        let ended = running.advance(encoder, world, enough).unwrap();
        if ended.is_empty() {
            return all;
        }
        encoder.embed(&world.clean[0]).unwrap();
        all.extend(ended);
    }
}

/// Compares bit by bit, and gives (broken, evaluations of the hunt, evaluations of the full run).
fn same(encoder: &mut dyn Encoder, n: usize, epsilon: u32, places: [usize; 2], enough: usize) -> [usize; 3] {
    let world = World::new(encoder, n);
    let epsilon = levels(epsilon);
    let schedule = schedule(&epsilon, 6, 2);
    let budget = Budget::new(&epsilon, &[1.0; 3]);
    let cancel = Cancel::default();
    let hunt =
        |places| Hunt { budget: &budget, schedule: &schedule, places, seed: 9, attack: world.attack, cancel: &cancel };
    let full = full_run(encoder, &world, &hunt(places[0]));
    let mut hunted = hunt_all(encoder, &world, hunt(places[1]), enough);
    hunted.sort_by_key(|e| e.query);
    let evaluations: usize = hunted.iter().map(|e| e.evaluations).sum();
    hunted.iter_mut().for_each(|e| e.evaluations = 0);
    assert_eq!(hunted.len(), n);
    for (hunted, full) in hunted.iter().zip(&full) {
        assert!(hunted == full, "{places:?}, query {} differs", full.query);
    }
    [full.iter().filter(|e| e.broken).count(), evaluations, n * 2 * 7]
}

/// Radii from nearly nobody to nearly everybody; at least one must break some and leave some.
fn same_at_every_radius(encoder: &mut dyn Encoder, n: usize, places: [usize; 2], enough: usize) {
    let mut mixed = 0;
    for epsilon in [1, 3, 6, 12, 24] {
        let [broken, spent, full] = same(encoder, n, epsilon, places, enough);
        assert!(broken == 0 || spent < full, "{spent} of {full} evaluations");
        mixed += usize::from((3..n - 2).contains(&broken) && spent < full * 9 / 10);
    }
    assert!(mixed > 0, "no radius has anything to schedule");
}

#[test]
fn a_hunt_finds_what_the_full_run_finds_on_a_linear_encoder() {
    let mut encoder = LinearEncoder::random([3, 4, 4], 6, true, 3).unwrap();
    for (places, enough) in [(1, 1), (3, 2), (4, 100), (23, 5), (64, 1)] {
        same_at_every_radius(&mut encoder, 23, [5, places], enough);
    }
}

/// The net's five outputs make rows that begin at all kinds of addresses, so that a query in another row gets other
/// last bits.
#[test]
fn a_hunt_finds_what_the_full_run_finds_in_onnx_runtime() {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/.deps/onnxruntime/lib/libonnxruntime.so.1.32.0");
    let library = std::env::var_os("ORT_DYLIB_PATH").unwrap_or_else(|| default.into());
    let runtime = Runtime::load(std::path::Path::new(&library)).unwrap();
    let options = OnnxOptions { threads: 2, batch_size: 4, ..OnnxOptions::default() };
    let mut encoder = OnnxEncoder::from_model(&runtime, little_resnet(12, 12), "net", &options).unwrap();
    for (places, enough) in [(8, 3), (6, 100), (21, 1), (4, 4)] {
        same_at_every_radius(&mut encoder, 21, [8, places], enough);
    }
}

#[test]
fn survivors_are_those_whom_nobody_broke() {
    let mut encoder = LinearEncoder::random([3, 4, 4], 6, true, 3).unwrap();
    let world = World::new(&mut encoder, 23);
    assert_eq!(world.shape, [3, 4, 4]);
    let mut survivors = Survivors::all(23);
    let mut left = vec![23];
    for (grey, steps) in [(16, 1), (16, 6), (40, 6)] {
        let epsilon = levels(grey);
        let (budget, schedule) = (Budget::new(&epsilon, &[1.0; 3]), schedule(&epsilon, steps, 1));
        let cancel = Cancel::default();
        let (budget, schedule, cancel) = (&budget, &schedule, &cancel);
        let hunt = Hunt { budget, schedule, places: 4, seed: 1, attack: "stage", cancel };
        let ended = hunt.start(&encoder, &survivors).unwrap().advance(&mut encoder, &world, usize::MAX).unwrap();
        assert_eq!(ended.len(), survivors.as_slice().len(), "only survivors are attacked again");
        survivors.strike(&ended);
        assert!(ended.iter().all(|e| e.broken != survivors.as_slice().contains(&e.query)));
        left.push(survivors.as_slice().len());
    }
    assert!(left.is_sorted_by(|a, b| a >= b) && left[3] < left[1], "{left:?}");
}

#[test]
fn no_place_is_an_error_and_no_query_is_none() {
    let mut encoder = LinearEncoder::random([3, 4, 4], 6, true, 3).unwrap();
    let world = World::new(&mut encoder, 5);
    let epsilon = levels(4);
    let (budget, schedule, cancel) = (Budget::new(&epsilon, &[1.0; 3]), schedule(&epsilon, 2, 1), Cancel::default());
    let hunt = |places| Hunt { budget: &budget, schedule: &schedule, places, seed: 1, attack: "none", cancel: &cancel };
    assert_eq!(
        hunt(0).start(&encoder, &Survivors::all(5)).unwrap_err().to_string(),
        "queries at once: got 0, wanted at least 1"
    );
    let mut nobody = hunt(2).start(&encoder, &Survivors::default()).unwrap();
    assert_eq!(nobody.advance(&mut encoder, &world, 1).unwrap(), []);
}
