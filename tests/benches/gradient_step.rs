//! One step of a white-box attack on a ResNet with random weights, batch 8, in ONNX Runtime.
//!
//! With `MDPROP_PEER_PYTHON` set to a Python that has PyTorch and onnx, the same step in PyTorch eager autograd is
//! timed in turns with ours, and the signs of the two gradients are compared; see `peers/README.md`.
#![allow(missing_docs)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use criterion::Criterion;
use mdprop::batch::Images;
use mdprop::encoder::onnx::{OnnxEncoder, OnnxOptions, Runtime};
use mdprop::encoder::{Descent, Distance, Encoder};
use mdprop::onnx::graph::{self, FLOAT, GraphBuilder};
use mdprop::onnx::proto::{AttributeProto, ModelProto};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BATCH: usize = 8;
const DIM: usize = 512;
const THREADS: usize = 2;
const STEPS_COMPARED: usize = 9;

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
    model: ModelProto,
    size: usize,
}

/// What a step needs, without bounds that would hide the sign of the gradient.
struct Data {
    x: Images,
    lower: Images,
    upper: Images,
    targets: Vec<f32>,
    weights: Vec<f32>,
}

impl Data {
    fn new(size: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let shape = [BATCH, 3, size, size];
        let count = shape.iter().product();
        let filled = |value: f32| Images::new(shape, vec![value; count]).expect("sizes agree");
        let x = (0..count).map(|_| rng.random_range(0.0..1.0)).collect();
        let targets = (0..BATCH * DIM).map(|_| rng.random_range(-0.1..0.1)).collect();
        let x = Images::new(shape, x).expect("sizes agree");
        Self { x, lower: filled(-9.0), upper: filled(9.0), targets, weights: vec![1.0; BATCH] }
    }

    fn descent(&self) -> Descent<'_> {
        Descent {
            distance: Distance::SquaredEuclidean,
            targets_per_sample: 1,
            start: &self.x,
            lower: &self.lower,
            upper: &self.upper,
            targets: &self.targets,
            weights: &self.weights,
        }
    }
}

fn library() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/.deps/onnxruntime/lib/libonnxruntime.so.1.32.0");
    std::env::var_os("ORT_DYLIB_PATH").map_or_else(|| default.into(), PathBuf::from)
}

fn open(case: &Case) -> OnnxEncoder {
    let runtime = Runtime::load(&library()).expect("ONNX Runtime, see `make setup`");
    let options = OnnxOptions { threads: THREADS, batch_size: BATCH / THREADS, ..OnnxOptions::default() };
    OnnxEncoder::from_model(&runtime, case.model.clone(), case.name, &options).expect("the fixture is an encoder")
}

/// Floats as little-endian bytes.
fn write_floats(path: &Path, values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(path, bytes).expect("the temporary folder is writable");
}

/// Times our step and PyTorch's in turns, and compares the signs of the gradients.
#[allow(clippy::print_stdout, reason = "a bench talks to its user")]
fn compare(case: &Case, python: &std::ffi::OsStr) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(case.name);
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let data = Data::new(case.size);
    mdprop::onnx::write_atomic(&folder.join("model.onnx"), &case.model).expect("the model can be written");
    write_floats(&folder.join("x.f32"), data.x.as_slice());
    write_floats(&folder.join("targets.f32"), &data.targets);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/benches/peers/gradient_step.py");
    let mut peer = Command::new(python)
        .args([script, folder.to_str().expect("an ASCII path"), &BATCH.to_string(), &THREADS.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("MDPROP_PEER_PYTHON starts");
    let mut ask = peer.stdin.take().expect("piped");
    let mut answers = BufReader::new(peer.stdout.take().expect("piped")).lines();
    let mut answer = || answers.next().expect("the peer answers").expect("the peer writes text");
    println!("{}: peer {}", case.name, answer());

    let mut encoder = open(case);
    let mut running = encoder.descend(&data.descent()).expect("the fixture can be attacked");
    running.step(&[1.0; 3 * BATCH]).expect("a step");
    running.evaluate().expect("an evaluation");
    let mut moved = vec![0.0; data.x.as_slice().len()];
    moved.chunks_mut(data.x.stride()).enumerate().for_each(|(i, out)| running.copy_evaluated(i, out));

    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..STEPS_COMPARED {
        let start = Instant::now();
        running.step(&[1e-6; 3 * BATCH]).expect("a step");
        ours.push(start.elapsed().as_secs_f64());
        writeln!(ask, "step").expect("the peer listens");
        theirs.push(answer().parse::<f64>().expect("seconds"));
    }
    writeln!(ask, "gradient").expect("the peer listens");
    answer();
    drop(ask);
    peer.wait().expect("the peer ends");
    let bytes = std::fs::read(folder.join("gradient.f32")).expect("the peer wrote its gradient");
    let gradient = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
    let sign = |v: f32| if v == 0.0 { 0 } else { v.signum() as i32 };
    let ours_sign = data.x.as_slice().iter().zip(&moved).map(|(x, m)| (x - m).round() as i32);
    let equal = gradient.zip(ours_sign).filter(|(theirs, ours)| sign(*theirs) == *ours).count();

    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2] * 1e3
    };
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    println!("{}: mdprop {ours:.1} ms, PyTorch {theirs:.1} ms, {:.2} times as fast", case.name, theirs / ours);
    println!("{}: {:.4} % of signs equal", case.name, 100.0 * equal as f64 / moved.len() as f64);
}

fn main() {
    let cases = [
        Case { name: "resnet50-112", model: resnet([3, 4, 6, 3], true, 112), size: 112 },
        Case { name: "resnet18-64", model: resnet([2, 2, 2, 2], false, 64), size: 64 },
    ];
    if let Some(python) = std::env::var_os("MDPROP_PEER_PYTHON") {
        cases.iter().for_each(|case| compare(case, &python));
        return;
    }
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    for case in &cases {
        let data = Data::new(case.size);
        let mut encoder = open(case);
        let mut running = encoder.descend(&data.descent()).expect("the fixture can be attacked");
        criterion.bench_function(&format!("gradient_step/{}", case.name), |b| {
            b.iter(|| running.step(&[1e-6; 3 * BATCH]).expect("a step"));
        });
    }
    criterion.final_summary();
}
