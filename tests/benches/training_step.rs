//! One training step on random images, ours beside PyTorch's: the official loop, and the same step as PyTorch's manual
//! would have it.
//!
//! With `MDPROP_PEER_PYTHON` set to a Python that has PyTorch and torchvision, the sides take turns on the same weights,
//! images, targets and noise, and the losses of the first step are compared; see `peers/README.md`. Every case runs in a
//! process of its own, and arguments are parts of names of cases; none means all. Without the variable criterion times ours on
//! the small cases.
#![allow(missing_docs)]

mod sides;

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use mdprop::network::build;
use mdprop::rng::{self, stream};
use mdprop::suite::recipe::Recipe;
use mdprop::train::adversary::Draws;
use mdprop::train::memory::KeptMemory;
use mdprop::train::model::Model;
use mdprop::train::step::Trainer;
use sides::{Peer, median, peak, processor_seconds, ratio, write_floats};
use tch::{Device, Tensor};

const DIM: usize = 128;
const LEARNING_RATE: f64 = 1e-5;
/// Threads of every side, unless `MDPROP_BENCH_THREADS` says otherwise.
const THREADS: usize = 2;
/// Rounds in which everybody takes one turn: more where a turn is short.
const SECONDS: f64 = 60.0;
const ROUNDS: std::ops::RangeInclusive<usize> = 7..=40;

/// A backbone as recipes write it, and as the peer has it.
struct Case {
    name: &'static str,
    backbone: &'static str,
    size: usize,
    batch: usize,
    per_class: usize,
    mdprop: bool,
    /// As a recipe has it; the peers take autocast.
    precision: &'static str,
}

const CONVNET: &str = "convnet = { widths = [16, 32, 64, 128] }";
const RESNET18: &str = "resnet = { depth = 18 }";
const RESNET50: &str = "resnet = { depth = 50 }";

/// Standard and MDProp {1,5} with one attack step.
const fn case(name: &'static str, backbone: &'static str, [size, batch, per_class]: [usize; 3], mdprop: bool) -> Case {
    Case { name, backbone, size, batch, per_class, mdprop, precision: "float32" }
}

const fn bf16(case: Case) -> Case {
    Case { precision: "bf16-mixed", ..case }
}

const CASES: [Case; 12] = [
    case("convnet-32-standard", CONVNET, [32, 128, 4], false),
    case("convnet-32-mdprop", CONVNET, [32, 128, 4], true),
    case("resnet18-64-standard", RESNET18, [64, 32, 2], false),
    case("resnet18-64-mdprop", RESNET18, [64, 32, 2], true),
    case("resnet50-64-standard", RESNET50, [64, 16, 2], false),
    case("resnet50-64-mdprop", RESNET50, [64, 16, 2], true),
    case("resnet50-112-standard", RESNET50, [112, 16, 2], false),
    case("resnet50-112-mdprop", RESNET50, [112, 16, 2], true),
    bf16(case("resnet50-64-standard-bf16", RESNET50, [64, 16, 2], false)),
    bf16(case("resnet50-64-mdprop-bf16", RESNET50, [64, 16, 2], true)),
    bf16(case("resnet50-112-standard-bf16", RESNET50, [112, 16, 2], false)),
    bf16(case("resnet50-112-mdprop-bf16", RESNET50, [112, 16, 2], true)),
];

impl Case {
    /// The official code's algorithm in every detail that a preset can choose.
    fn recipe(&self) -> Recipe {
        let method = match self.mdprop {
            true => "mdprop = { branches = [{ targets = 1 }, { targets = 5 }] }",
            false => "standard = {}",
        };
        let text = format!(
            r#"
            schema = 1
            about = "bench"
            preset = "code"
            embedding_dim = {DIM}
            epochs = 1
            batch_size = {}
            per_class = {}
            seeds = [0]
            augmentation.none = {{}}
            loss.multi-similarity = {{}}
            backbone.{}
            attack = {{ epsilon = {{ normalized = 0.01 }}, steps = 1 }}
            optimizer = {{ learning_rate = {LEARNING_RATE}, weight_decay = 4e-4 }}
            method.{method}
            precision = "{}"
            "#,
            self.batch, self.per_class, self.backbone, self.precision
        );
        toml::from_str(&text).expect("the bench's recipe is valid")
    }

    fn labels(&self) -> Vec<u32> {
        (0..self.batch).map(|i| (i / self.per_class) as u32).collect()
    }

    fn values(&self) -> usize {
        3 * self.size * self.size
    }
}

/// What the peer must know to take the same first step.
fn write_case(ours: &Ours<'_>, folder: &Path) {
    let (case, draws) = (ours.case, ours.draw(0));
    let weights = ours.trainer.model.to_weights().tensors;
    let tensors: Vec<_> = weights.iter().map(|(name, tensor)| (name, &tensor.shape)).collect();
    let description = serde_json::json!({
        "backbone": case.backbone, "size": case.size, "dim": DIM, "bf16": case.precision != "float32", "learning_rate": LEARNING_RATE,
        "labels": case.labels(), "tensors": tensors,
        "targets": draws.iter().map(|d| &d.targets).collect::<Vec<_>>(),
    });
    std::fs::write(folder.join("case.json"), description.to_string()).expect("the temporary folder is writable");
    write_floats(&folder.join("weights.f32"), &weights.values().flat_map(|t| &t.data).copied().collect::<Vec<f32>>());
    write_floats(&folder.join("pixels.f32"), &ours.pixels);
    write_floats(&folder.join("noise.f32"), &draws.iter().flat_map(|d| &d.noise).copied().collect::<Vec<f32>>());
}

/// Sets the threads of this process and gives their number.
fn threads() -> usize {
    let threads = std::env::var("MDPROP_BENCH_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(THREADS);
    tch::set_num_threads(threads as i32);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("the first pool");
    threads
}

/// The small cases without a peer, for `mdprop speed`.
fn alone(criterion: &mut Criterion) {
    let threads = threads();
    let mut group = criterion.benchmark_group("training_step");
    group.sample_size(20).warm_up_time(Duration::from_secs(2)).measurement_time(Duration::from_secs(8));
    for case in CASES.iter().filter(|case| case.backbone == CONVNET) {
        let (mut ours, mut number) = (Ours::new(case), 0);
        group.bench_function(
            BenchmarkId::new(case.name, format!("batch {}, {threads} threads", case.batch)),
            |bench| {
                bench.iter(|| {
                    number += 1;
                    ours.step(number)
                });
            },
        );
    }
    group.finish();
}

/// Our side of a case.
struct Ours<'a> {
    case: &'a Case,
    trainer: Trainer,
    /// As in a training.
    _kept: KeptMemory,
    /// `[batch, 3, size, size]`, as numbers and as a tensor.
    pixels: Vec<f32>,
    images: Tensor,
}

impl<'a> Ours<'a> {
    fn new(case: &'a Case) -> Self {
        let _kept = KeptMemory::begin();
        let recipe = case.recipe();
        let network = build(&recipe.backbone, DIM, recipe.method.auxiliary_branches()).expect("a backbone that exists");
        let model = Model::new(&network, 0, Device::Cpu).expect("memory for the model");
        let trainer = Trainer::new(&recipe, model, &case.labels(), 0).expect("the bench's recipe is valid");
        let mut random = stream(1, "pixels", &[]);
        let pixels: Vec<f32> = (0..case.batch * case.values()).map(|_| rng::unit(&mut random)).collect();
        let side = case.size as i64;
        let images = Tensor::from_slice(&pixels).reshape([case.batch as i64, 3, side, side]);
        Self { case, trainer, _kept, pixels, images }
    }

    /// Drawing targets and noise is part of a step here as it is in the peer.
    fn draw(&self, number: usize) -> Vec<Draws> {
        self.trainer.draw(0, (0, number), &self.case.labels(), self.case.values())
    }

    fn step(&mut self, number: usize) -> f64 {
        let (labels, draws) = (self.case.labels(), self.draw(number));
        let mut random = stream(0, "bench", &[number as u64]);
        self.trainer.step(&self.images, &labels, &draws, LEARNING_RATE, &mut random).expect("the step fits in memory")
    }
}

/// One case beside its peers, on its own in this process.
#[allow(clippy::print_stdout, reason = "a bench talks to its user")]
fn measure(name: &str) {
    let case = CASES.iter().find(|c| c.name == name).expect("a name from the list");
    let threads = threads();
    let mut ours = Ours::new(case);
    let mut peers = vec![];
    if let Some(python) = sides::python() {
        let folder = sides::folder(name);
        write_case(&ours, &folder);
        // PyTorch's tuning guide has an allocator that keeps memory; glibc does, if it is told to.
        let keeps = [("MALLOC_MMAP_MAX_", "0"), ("MALLOC_TRIM_THRESHOLD_", "100000000000")];
        for (form, environment) in [("official", &keeps[..0]), ("tuned", &keeps[..])] {
            let arguments = [folder.to_str().expect("an ASCII path"), form, &threads.to_string()];
            let mut peer = Peer::start(&python, "training_step.py", &arguments, environment);
            println!("{name}: batch {}, {threads} threads; {form}: {}", case.batch, peer.answer());
            peers.push((form, peer, [vec![], vec![]]));
        }
    }
    let loss = ours.step(0);
    for (form, peer, _) in &mut peers {
        let theirs = peer.number("first");
        println!("{name}: loss of the first step {loss:.6}, {form} {theirs:.6}");
        // Signs of gradients near zero may differ, and with them the adversarial images.
        let rounding = if case.precision == "float32" { 1e-3 } else { 3e-2 };
        assert!((loss - theirs).abs() < rounding * theirs.abs(), "{name}: the sides compute different steps");
        peer.ask("step");
    }
    ours.step(1);
    let (mut clock, mut spent) = (vec![], vec![]);
    let began = Instant::now();
    while clock.len() < *ROUNDS.start() || (clock.len() < *ROUNDS.end() && began.elapsed().as_secs_f64() < SECONDS) {
        let (start, before) = (Instant::now(), processor_seconds());
        ours.step(2 + clock.len());
        clock.push(start.elapsed().as_secs_f64());
        spent.push(processor_seconds() - before);
        for (_, peer, times) in &mut peers {
            let answer = peer.ask("step");
            let numbers = answer.split_whitespace().map(|word| word.parse::<f64>().expect("seconds"));
            times.iter_mut().zip(numbers).for_each(|(times, number)| times.push(number));
        }
    }
    let [time, processor] = [&clock, &spent].map(|times| 1e3 * median(times));
    let memory = peak();
    println!(
        "{name}: step {time:.1} ms, of processors {processor:.1} ms, {} rounds, peak {memory:.0} MiB",
        clock.len()
    );
    for (form, mut peer, [times, processors]) in peers {
        let [time, processor] = [&times, &processors].map(|times| 1e3 * median(times));
        let (compared, by_processor) = (ratio(&times, &clock), ratio(&processors, &spent));
        let memory = peer.number("peak");
        println!(
            "{name}: {form} {time:.1} ms, of processors {processor:.1} ms, peak {memory:.0} MiB; mdprop {compared:.2} times \
             as fast, by processors {by_processor:.2}"
        );
    }
}

fn main() {
    if sides::python().is_some() {
        sides::each_alone(CASES.iter().map(|c| c.name), measure);
    } else {
        let mut criterion = Criterion::default().configure_from_args();
        alone(&mut criterion);
        criterion.final_summary();
    }
}
