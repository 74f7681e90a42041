//! One step of a white-box attack on ResNets with random weights in ONNX Runtime: its time, beside that of the forward
//! pass alone, the time to build the attack graph, and the peak of memory.
//!
//! With `MDPROP_PEER_PYTHON` set to a Python that has PyTorch and onnx, the same step in PyTorch eager autograd is
//! timed in turns with ours, and the signs of the two gradients are compared; see `peers/README.md`. Every case runs in
//! a process of its own. Arguments are names of cases; none means all.
#![allow(missing_docs)]

mod sides;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mdprop::batch::Images;
use mdprop::encoder::onnx::{Clock, OnnxEncoder, OnnxOptions, Runtime};
use mdprop::encoder::{Descent, Distance, Encoder, Loss};
use mdprop::onnx::graph::{self, FLOAT, GraphBuilder};
use mdprop::onnx::proto::{AttributeProto, ModelProto};
use mdprop::onnx::{AttackGraphOptions, LossDistance, LossHead, attack_graph};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sides::{Peer, median, peak, ratio, write_floats};

const DIM: usize = 512;
/// Threads of either side.
const THREADS: usize = 2;
/// Rounds in which everybody takes one turn: more where a turn is short.
const SECONDS: f64 = 20.0;
const ROUNDS: std::ops::RangeInclusive<usize> = 9..=60;

struct ResNet {
    b: GraphBuilder,
    rng: ChaCha8Rng,
}

impl ResNet {
    fn uniform(&mut self, name: &str, dims: &[usize], low: f32, high: f32) -> String {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| self.rng.random_range(low..high)).collect();
        self.b.constant(name, dims, &values)
    }

    fn conv_norm(&mut self, x: &str, dims: [usize; 3], stride: i64, scale: f32) -> String {
        let [to, from, k] = dims;
        let bound = (6.0 / (from * k * k) as f32).sqrt();
        let w = self.uniform("weight", &[to, from, k, k], -bound, bound);
        let pad = (k / 2) as i64;
        let window = vec![AttributeProto::ints("strides", &[stride; 2]), AttributeProto::ints("pads", &[pad; 4])];
        let y = self.b.node("Conv", &[x, &w], window);
        let [scale, bias, mean, variance] = [(0.8 * scale, 1.2 * scale), (-0.1, 0.1), (-0.1, 0.1), (0.8, 1.2)]
            .map(|(low, high)| self.uniform("norm", &[to], low, high));
        self.b.node("BatchNormalization", &[&y, &scale, &bias, &mean, &variance], vec![])
    }

    fn relu(&mut self, x: &str) -> String {
        self.b.node("Relu", &[x], vec![])
    }

    fn block(&mut self, x: &str, from: usize, width: usize, stride: i64, bottleneck: bool) -> String {
        let to = if bottleneck { 4 * width } else { width };
        let layers = if bottleneck {
            vec![([width, from, 1], 1), ([width, width, 3], stride), ([to, width, 1], 1)]
        } else {
            vec![([width, from, 3], stride), ([width, width, 3], 1)]
        };
        let mut y = x.to_string();
        for (i, (dims, stride)) in layers.iter().enumerate() {
            let last = i + 1 == layers.len();
            y = self.conv_norm(&y, *dims, *stride, if last { 0.3 } else { 1.0 });
            if !last {
                y = self.relu(&y);
            }
        }
        let shortcut = if from != to { self.conv_norm(x, [to, from, 1], stride, 1.0) } else { x.to_string() };
        let sum = self.b.node("Add", &[&y, &shortcut], vec![]);
        self.relu(&sum)
    }
}

fn resnet(blocks: [usize; 4], bottleneck: bool, size: usize) -> ModelProto {
    let mut net = ResNet { b: GraphBuilder::new("resnet"), rng: ChaCha8Rng::seed_from_u64(1) };
    let input = net.b.input("pixels", FLOAT, &["n".into(), 3.into(), size.into(), size.into()]);
    let x = graph::normalize_pixels(&mut net.b, &input, &[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]);
    let x = net.conv_norm(&x, [64, 3, 7], 2, 1.0);
    let x = net.relu(&x);
    let window = [("kernel_shape", vec![3; 2]), ("strides", vec![2; 2]), ("pads", vec![1; 4])];
    let mut x = net.b.node("MaxPool", &[&x], window.iter().map(|(n, v)| AttributeProto::ints(n, v)).collect());
    let mut from = 64;
    for (stage, count) in blocks.into_iter().enumerate() {
        let width = 64 << stage;
        for i in 0..count {
            let stride = if i == 0 && stage > 0 { 2 } else { 1 };
            x = net.block(&x, from, width, stride, bottleneck);
            from = if bottleneck { 4 * width } else { width };
        }
    }
    let pooled = net.b.node("GlobalAveragePool", &[&x], vec![]);
    let flat = net.b.node("Flatten", &[&pooled], vec![]);
    let bound = (1.0 / from as f32).sqrt();
    let w = net.uniform("fc", &[DIM, from], -bound, bound);
    let y = net.b.node("Gemm", &[&flat, &w], vec![AttributeProto::int("transB", 1)]);
    let embedding = graph::l2_normalize(&mut net.b, &y);
    net.b.output(&embedding, FLOAT, &["n".into(), DIM.into()]);
    net.b.finish()
}

struct Case {
    name: &'static str,
    blocks: [usize; 4],
    bottleneck: bool,
    size: usize,
    batch: usize,
}

const CASES: [Case; 4] = [
    Case { name: "resnet50-112", blocks: [3, 4, 6, 3], bottleneck: true, size: 112, batch: 8 },
    Case { name: "resnet50-224", blocks: [3, 4, 6, 3], bottleneck: true, size: 224, batch: 8 },
    Case { name: "resnet18-112", blocks: [2, 2, 2, 2], bottleneck: false, size: 112, batch: 16 },
    Case { name: "resnet18-64", blocks: [2, 2, 2, 2], bottleneck: false, size: 64, batch: 8 },
];

/// What a step needs, without bounds that would hide the sign of the gradient.
struct Data {
    x: Images,
    lower: Images,
    upper: Images,
    targets: Vec<f32>,
    weights: Vec<f32>,
}

impl Data {
    fn new(case: &Case) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let shape = [case.batch, 3, case.size, case.size];
        let count = shape.iter().product();
        let filled = |value: f32| Images::new(shape, vec![value; count]).expect("sizes agree");
        let x = (0..count).map(|_| rng.random_range(0.0..1.0)).collect();
        let targets = (0..case.batch * DIM).map(|_| rng.random_range(-0.1..0.1)).collect();
        let x = Images::new(shape, x).expect("sizes agree");
        Self { x, lower: filled(-9.0), upper: filled(9.0), targets, weights: vec![1.0; case.batch] }
    }

    fn descent(&self) -> Descent<'_> {
        Descent {
            loss: Loss::weighted(Distance::SquaredEuclidean, 1, &self.targets, &self.weights),
            start: &self.x,
            lower: &self.lower,
            upper: &self.upper,
        }
    }
}

fn library() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/.deps/onnxruntime/lib/libonnxruntime.so.1.32.0");
    std::env::var_os("ORT_DYLIB_PATH").map_or_else(|| default.into(), PathBuf::from)
}

/// Time since the first call.
fn clock() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Half a batch for each thread, as many threads as the encoder finds worth having.
fn open(case: &Case, model: ModelProto) -> OnnxEncoder {
    let runtime = Runtime::load(&library()).expect("ONNX Runtime, see `make setup`");
    let (batch_size, clock) = (case.batch / THREADS, Some(clock as Clock));
    let options = OnnxOptions { threads: THREADS, batch_size, clock, ..OnnxOptions::default() };
    OnnxEncoder::from_model(&runtime, model, case.name, &options).expect("the fixture is an encoder")
}

/// PyTorch, which does one step for each line that it is sent.
struct Torch {
    peer: Peer,
    folder: PathBuf,
}

impl Torch {
    fn start(python: &OsStr, case: &Case, model: &ModelProto, data: &Data) -> Self {
        let folder = sides::folder(case.name);
        mdprop::onnx::write_atomic(&folder.join("model.onnx"), model).expect("the model can be written");
        write_floats(&folder.join("x.f32"), data.x.as_slice());
        write_floats(&folder.join("targets.f32"), &data.targets);
        let [batch, threads] = [case.batch, THREADS].map(|n| n.to_string());
        let arguments = [folder.to_str().expect("an ASCII path"), &batch, &threads];
        Self { peer: Peer::start(python, "gradient_step.py", &arguments, &[]), folder }
    }

    /// Its gradient at the first iterate.
    fn gradient(&mut self) -> Vec<f32> {
        self.peer.ask("gradient");
        let bytes = std::fs::read(self.folder.join("gradient.f32")).expect("the peer wrote its gradient");
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
}

/// Leaves a result where criterion leaves its own, for `mdprop speed`.
fn keep(case: &str, what: &str, median: f64) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp lies in target");
    let folder = target.join("criterion/gradient_step").join(case).join(what).join("new");
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    let id = format!("{{\"full_id\": \"gradient_step/{case}/{what}\"}}");
    let times = format!("{{\"median\": {{\"point_estimate\": {median}}}}}");
    for (name, text) in [("benchmark.json", id), ("estimates.json", times)] {
        std::fs::write(folder.join(name), text).expect("the target folder is writable");
    }
}

/// Share of pixels that a step of 1 moved the way that the other gradient says.
fn equal_signs(data: &Data, moved: &[f32], gradient: &[f32]) -> f64 {
    let sign = |v: f32| if v == 0.0 { 0 } else { v.signum() as i32 };
    let ours = data.x.as_slice().iter().zip(moved).map(|(x, m)| (x - m).round() as i32);
    let equal = gradient.iter().zip(ours).filter(|(theirs, ours)| sign(**theirs) == *ours).count();
    equal as f64 / moved.len() as f64
}

/// One case, on its own in this process.
#[allow(clippy::print_stdout, reason = "a bench talks to its user")]
fn measure(name: &str) {
    let case = CASES.iter().find(|c| c.name == name).expect("a name from the list");
    let data = Data::new(case);
    let model = resnet(case.blocks, case.bottleneck, case.size);
    let mut peer = sides::python().map(|python| Torch::start(&python, case, &model, &data));
    match &mut peer {
        Some(peer) => println!("{name}: batch {}, {THREADS} threads; {}", case.batch, peer.peer.answer()),
        None => println!("{name}: batch {}, {THREADS} threads; no peer: MDPROP_PEER_PYTHON is not set", case.batch),
    }
    let options = AttackGraphOptions {
        head: LossHead::Weighted(LossDistance::SquaredEuclidean),
        batch_size: Some(case.batch / THREADS),
        targets_per_sample: None,
        gradient_output: false,
        straight_through: false,
    };
    let start = Instant::now();
    drop(attack_graph::build(model.clone(), &options).expect("the fixture can be differentiated"));
    let built = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut encoder = open(case, model);
    let mut running = encoder.descend(&data.descent()).expect("the fixture can be attacked");
    let opened = start.elapsed().as_secs_f64();
    println!("{name}: attack graph built in {built:.2} s, sessions open and counted in {opened:.2} s");

    running.step(&vec![1.0; 3 * case.batch]).expect("a step");
    running.evaluate().expect("an evaluation");
    let mut moved = vec![0.0; data.x.as_slice().len()];
    moved.chunks_mut(data.x.stride()).enumerate().for_each(|(i, out)| running.copy_evaluated(i, out));

    let small = vec![1e-6; 3 * case.batch];
    let (mut steps, mut forwards, mut theirs) = (vec![], vec![], vec![]);
    let began = Instant::now();
    while steps.len() < *ROUNDS.start() || (steps.len() < *ROUNDS.end() && began.elapsed().as_secs_f64() < SECONDS) {
        let start = Instant::now();
        running.step(&small).expect("a step");
        steps.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        running.evaluate().expect("an evaluation");
        forwards.push(start.elapsed().as_secs_f64());
        if let Some(peer) = &mut peer {
            theirs.push(peer.peer.number("step"));
        }
    }
    let of_forward = ratio(&steps, &forwards);
    // The median of the quotients, over one: what else the machine did in between cancels out.
    keep(name, "step", of_forward);
    keep(name, "forward", 1.0);
    let compared = (!theirs.is_empty()).then(|| ratio(&theirs, &steps));
    let [step, forward] = [&steps, &forwards].map(|times| 1e3 * median(times));
    println!(
        "{name}: step {step:.1} ms = {of_forward:.2} times the forward pass ({forward:.1} ms), {} rounds",
        steps.len()
    );
    let memory = peak();
    println!("{name}: peak of memory {memory:.0} MiB");
    if let (Some(mut peer), Some(compared)) = (peer, compared) {
        println!("{name}: PyTorch {:.1} ms, mdprop {compared:.2} times as fast", 1e3 * median(&theirs));
        let [after_imports, peak] = ["imports", "peak"].map(|what| peer.peer.number(what));
        let times = memory / peak;
        println!(
            "{name}: PyTorch's peak {peak:.0} MiB ({after_imports:.0} after its imports), mdprop {times:.2} of it"
        );
        let signs = 100.0 * equal_signs(&data, &moved, &peer.gradient());
        println!("{name}: {signs:.4} % of signs equal");
    }
}

fn main() {
    sides::each_alone(CASES.iter().map(|c| c.name), measure);
}
