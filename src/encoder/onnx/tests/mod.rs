//! ONNX Runtime's float32 against the float64 interpreter, and the promises of [`Encoder`].

mod heads;
mod operators;

use super::*;
use crate::encoder::{Distance, Loss};
use crate::onnx::AttackGraphOptions;
use crate::onnx::fixtures::{Net, little_resnet, uniform};
use crate::onnx::interpret::{self, Tensor};
use crate::onnx::proto::ModelProto;

fn runtime() -> Runtime {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/.deps/onnxruntime/lib/libonnxruntime.so.1.32.0");
    let path = std::env::var_os("ORT_DYLIB_PATH").unwrap_or_else(|| default.into());
    Runtime::load(Path::new(&path)).unwrap()
}

fn encoder(model: ModelProto, batch_size: usize, threads: usize) -> OnnxEncoder {
    OnnxEncoder::from_model(&runtime(), model, "net", &OnnxOptions { threads, batch_size, ..OnnxOptions::default() })
        .unwrap()
}

fn images(seed: u64, n: usize, size: usize) -> Images {
    Images::new([n, 3, size, size], uniform(seed, n * 3 * size * size, 0.0, 1.0)).unwrap()
}

/// Everything a descent on `n` images borrows.
struct Start {
    x: Images,
    lower: Images,
    upper: Images,
    targets: Vec<f32>,
    weights: Vec<f32>,
}

const TARGETS: usize = 2;
const EPSILON: f32 = 0.05;

impl Start {
    fn new(n: usize, size: usize) -> Self {
        let x = images(7, n, size);
        let bound = |step: f32| {
            let data = x.as_slice().iter().map(|v| (v + step).clamp(0.0, 1.0)).collect();
            Images::new(x.shape(), data).unwrap()
        };
        let (lower, upper) = (bound(-EPSILON), bound(EPSILON));
        Self { x, lower, upper, targets: uniform(8, n * TARGETS * 5, -0.5, 0.5), weights: vec![0.5; n * TARGETS] }
    }

    fn descent(&self, distance: Distance) -> Descent<'_> {
        Descent {
            loss: Loss::weighted(distance, TARGETS, &self.targets, &self.weights),
            start: &self.x,
            lower: &self.lower,
            upper: &self.upper,
        }
    }
}

/// Losses and last iterates of a few steps, as bits.
fn run_steps(encoder: &mut OnnxEncoder, start: &Start, distance: Distance, steps: usize) -> (Vec<f32>, Vec<f32>) {
    let n = start.x.len();
    let mut running = encoder.descend(&start.descent(distance)).unwrap();
    let mut losses = vec![];
    for _ in 0..steps {
        losses.extend(running.step(&vec![0.01; n * 3]).unwrap().loss);
    }
    losses.extend(running.evaluate().unwrap().loss);
    let mut pixels = vec![0.0; start.x.as_slice().len()];
    pixels.chunks_mut(start.x.stride()).enumerate().for_each(|(i, out)| running.copy_evaluated(i, out));
    (losses, pixels)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// `‖a − b‖ / ‖b‖`.
fn relative_error(got: &[f32], wanted: &[f64]) -> f64 {
    let square = |v: f64| v * v;
    let difference: f64 = got.iter().zip(wanted).map(|(a, b)| square(f64::from(*a) - b)).sum();
    (difference / wanted.iter().map(|v| square(*v)).sum::<f64>()).sqrt()
}

/// Clocks for which more sessions are a waste of memory, and worth it.
#[test]
fn as_many_sessions_as_the_clock_finds_worth_having() {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;
    static EVEN: AtomicU64 = AtomicU64::new(0);
    static RISING: AtomicU64 = AtomicU64::new(0);
    let even = || Duration::from_millis(EVEN.fetch_add(1, Ordering::Relaxed));
    // Looked at before and after each timing, first of all sessions and then of fewer: 1 ms and 2 ms.
    let rising = || {
        let looks = RISING.fetch_add(1, Ordering::Relaxed);
        Duration::from_millis(looks / 4 * 3 + [0, 1, 1, 3][looks as usize % 4])
    };
    let start = Start::new(9, 12);
    let distance = Distance::Euclidean;
    let mut found = vec![];
    for (clock, wanted) in [(Some(even as Clock), 1), (Some(rising as Clock), 3), (None, 3)] {
        let options = OnnxOptions { threads: 3, batch_size: 3, clock, ..OnnxOptions::default() };
        let mut encoder = OnnxEncoder::from_model(&runtime(), little_resnet(12, 12), "net", &options).unwrap();
        found.push(run_steps(&mut encoder, &start, distance, 3));
        assert_eq!(encoder.attacks[&(LossHead::Weighted(distance), Pass::Step)].sessions.len(), wanted);
        assert_eq!(encoder.forward.len(), wanted);
    }
    assert!(
        found.iter().all(|(losses, pixels)| { bits(losses) == bits(&found[0].0) && bits(pixels) == bits(&found[0].1) })
    );
}

#[test]
fn float32_agrees_with_the_float64_interpreter() {
    for (size, distance) in [(24, Distance::SquaredEuclidean), (23, Distance::Euclidean)] {
        let model = little_resnet(size, size);
        let options = AttackGraphOptions {
            head: LossHead::Weighted(distance),
            batch_size: Some(4),
            targets_per_sample: None,
            gradient_output: true,
            straight_through: false,
        };
        let graph = attack_graph::build(model, &options).unwrap();
        let start = Start::new(4, size);
        let image = [4, 3, size, size];
        let inputs: Vec<(&str, Vec<usize>, &[f32])> = vec![
            (&graph.x, image.to_vec(), start.x.as_slice()),
            (&graph.lower, image.to_vec(), start.lower.as_slice()),
            (&graph.upper, image.to_vec(), start.upper.as_slice()),
            (&graph.step_size, vec![4, 3, 1, 1], &[0.01; 12]),
            (&graph.targets, vec![4, TARGETS, 5], &start.targets),
            (&graph.weights, vec![4, TARGETS], &start.weights),
        ];
        let exact: Vec<_> = inputs.iter().map(|(n, shape, data)| (*n, Tensor::from_f32(shape, data))).collect();
        let exact = interpret::run(&graph.model, &exact).unwrap();
        // Before the session, which reads them to its end.
        let mut weights = Weights::default();
        let mut session = session::open(&runtime(), "net", &graph.model, Provider::Cpu, &mut weights).unwrap();
        let feeds: Vec<_> = inputs
            .iter()
            .map(|(name, shape, data)| (name.to_string(), session::tensor("net", shape, data.to_vec()).unwrap()))
            .collect();
        let outputs = session.run(feeds).unwrap();
        let gradient = graph.gradient.as_ref().unwrap();
        for (name, tolerance) in
            [(&graph.embedding, 1e-5), (&graph.loss, 1e-5), (gradient, 1e-5), (&graph.x_next, 1e-4)]
        {
            let got = outputs[name.as_str()].try_extract_tensor::<f32>().unwrap().1;
            let wanted = &exact[name].data;
            let error = relative_error(got, wanted);
            assert!(error < tolerance, "{name}: relative error {error:e}");
        }
        let got = outputs[gradient.as_str()].try_extract_tensor::<f32>().unwrap().1;
        let equal =
            got.iter().zip(&exact[gradient].data).filter(|(a, b)| f64::from(**a).signum() == b.signum()).count();
        assert!(equal as f64 >= 0.999 * got.len() as f64, "{equal} of {} signs", got.len());
    }
}

#[test]
fn bytes_do_not_depend_on_the_thread_count() {
    let start = Start::new(11, 24);
    let mut one = encoder(little_resnet(24, 24), 4, 1);
    let mut three = encoder(little_resnet(24, 24), 4, 3);
    assert_eq!(bits(one.embed(&start.x).unwrap().as_slice()), bits(three.embed(&start.x).unwrap().as_slice()));
    let a = run_steps(&mut one, &start, Distance::SquaredEuclidean, 3);
    let b = run_steps(&mut three, &start, Distance::SquaredEuclidean, 3);
    assert_eq!((bits(&a.0), bits(&a.1)), (bits(&b.0), bits(&b.1)));
}

#[test]
fn another_batch_size_changes_only_rounding() {
    let x = images(3, 11, 24);
    let (a, b) = (encoder(little_resnet(24, 24), 4, 1).embed(&x), encoder(little_resnet(24, 24), 1, 1).embed(&x));
    for (a, b) in a.unwrap().as_slice().iter().zip(b.unwrap().as_slice()) {
        assert!((a - b).abs() < 1e-5, "{a} against {b}");
    }
}

#[test]
fn steps_lower_the_loss_and_keep_the_budget() {
    for distance in [Distance::SquaredEuclidean, Distance::Euclidean] {
        let start = Start::new(6, 24);
        let mut encoder = encoder(little_resnet(24, 24), 4, 2);
        let (losses, pixels) = run_steps(&mut encoder, &start, distance, 8);
        let (first, last): (f32, f32) = (losses[..6].iter().sum(), losses[48..].iter().sum());
        assert!(last < first, "{distance:?}: loss went from {first} to {last}");
        for ((p, low), high) in pixels.iter().zip(start.lower.as_slice()).zip(start.upper.as_slice()) {
            assert!(low <= p && p <= high);
        }
    }
}

#[test]
fn the_evaluated_iterate_is_the_one_whose_loss_was_told() {
    let start = Start::new(3, 24);
    let mut encoder = encoder(little_resnet(24, 24), 2, 1);
    let mut running = encoder.descend(&start.descent(Distance::Euclidean)).unwrap();
    let mut seen = vec![0.0; start.x.stride()];
    assert!(running.zero_gradient_share().is_none());
    running.step(&[0.02; 9]).unwrap();
    running.copy_evaluated(2, &mut seen);
    assert_eq!(seen, start.x.image(2), "the first step evaluates the start");
    let shares = running.zero_gradient_share().unwrap().to_vec();
    assert!(shares.len() == 3 && shares.iter().all(|s| (0.0..0.1).contains(s)), "{shares:?}");
    let second = running.step(&[0.0; 9]).unwrap();
    running.copy_evaluated(2, &mut seen);
    for (now, before) in seen.iter().zip(start.x.image(2)) {
        assert!((now - before).abs() < 0.020_001);
    }
    assert_ne!(seen, start.x.image(2));
    let again = running.evaluate().unwrap();
    for (a, b) in again.loss.iter().zip(&second.loss) {
        assert!((a - b).abs() < 1e-5, "a step of 0 must not move");
    }
}

/// A binding that keeps its output buffer would write the next iterate over the one that was just evaluated.
#[test]
fn every_evaluated_iterate_embeds_to_the_loss_that_was_told() {
    let start = Start::new(5, 24);
    let mut running_encoder = encoder(little_resnet(24, 24), 2, 1);
    let mut told = vec![];
    {
        let mut running = running_encoder.descend(&start.descent(Distance::Euclidean)).unwrap();
        for step in 0..6 {
            let loss =
                if step < 5 { running.step(&[0.03; 15]).unwrap().loss } else { running.evaluate().unwrap().loss };
            let mut pixels = start.x.clone();
            (0..5).for_each(|i| running.copy_evaluated(i, pixels.image_mut(i)));
            told.push((pixels, loss));
        }
    }
    for (step, (pixels, loss)) in told.iter().enumerate() {
        let embeddings = running_encoder.embed(pixels).unwrap();
        for (i, &loss) in loss.iter().enumerate() {
            let target = |k: usize| &start.targets[(i * TARGETS + k) * 5..][..5];
            let one = |k: usize| 0.5 * Distance::Euclidean.between(embeddings.row(i), target(k));
            let again = one(0) + one(1);
            assert!((f64::from(loss) - again).abs() < 1e-5, "step {step}, image {i}: {loss} against {again}");
        }
    }
}

#[test]
fn target_equal_to_the_embedding_gives_no_error() {
    let start = Start::new(2, 24);
    let mut encoder = encoder(little_resnet(24, 24), 2, 1);
    let own = encoder.embed(&start.x).unwrap();
    let targets = (0..2).flat_map(|i| own.row(i).repeat(TARGETS)).collect();
    let start = Start { targets, ..start };
    let mut running = encoder.descend(&start.descent(Distance::Euclidean)).unwrap();
    assert!(running.step(&[0.01; 6]).unwrap().loss.iter().all(|l| l.abs() < 1e-5));
}

#[test]
fn what_is_no_image_encoder_is_refused_in_words() {
    let refused = |model: ModelProto| {
        OnnxEncoder::from_model(&runtime(), model, "m.onnx", &OnnxOptions::default()).unwrap_err().to_string()
    };
    let mut two = little_resnet(24, 24);
    let graph = two.graph.as_mut().unwrap();
    graph.output.push(graph.output[0].clone());
    assert!(refused(two).contains("2 outputs"));

    let mut flat = little_resnet(24, 24);
    flat.graph.as_mut().unwrap().input[0] = crate::onnx::proto::ValueInfoProto::tensor("image", 1, &[Dim::Fixed(4)]);
    assert!(refused(flat).contains("has shape [4], wanted [n, c, h, w]"));

    let mut range = little_resnet(24, 24);
    range
        .metadata_props
        .push(crate::onnx::proto::StringStringEntryProto { key: "mdprop.input_range".into(), value: "0-255".into() });
    assert!(refused(range).contains("wanted `0-1`"));
}

#[test]
fn broken_files_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        OnnxEncoder::open(&runtime(), &folder.path().join(name), &OnnxOptions::default()).unwrap_err().to_string()
    };
    assert!(open("absent.onnx").contains("cannot read"));
    std::fs::write(folder.path().join("text.onnx"), "this is a letter to nobody").unwrap();
    assert!(open("text.onnx").contains("not an ONNX file"));
    std::fs::write(folder.path().join("empty.onnx"), "").unwrap();
    assert!(open("empty.onnx").contains("not an ONNX file"));
    let bytes = onnx::encode(&little_resnet(24, 24));
    std::fs::write(folder.path().join("half.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    let error = open("half.onnx");
    assert!(error.contains("truncated") && error.contains("half.onnx"), "{error}");
    onnx::write_atomic(&folder.path().join("whole.onnx"), &little_resnet(24, 24)).unwrap();
    OnnxEncoder::open(&runtime(), &folder.path().join("whole.onnx"), &OnnxOptions::default()).unwrap();
}

#[test]
fn a_net_without_gradient_still_embeds() {
    let mut net = Net::new([3, 8, 8]);
    let x = net.op("Round", &["image"]);
    let e = net.head(&x, 3, 5);
    let mut encoder = encoder(net.finish(&e, 5), 2, 1);
    let start = Start::new(2, 8);
    assert_eq!(encoder.embed(&start.x).unwrap().dim(), 5);
    let Err(error) = encoder.descend(&start.descent(Distance::Euclidean)) else { panic!("no error") };
    assert!(matches!(&error, EncoderError::NoGradient { op, .. } if op == "Round"), "{error}");
}

#[test]
fn images_of_another_size_are_refused() {
    let error = encoder(little_resnet(24, 24), 4, 1).embed(&images(1, 2, 16)).unwrap_err().to_string();
    assert_eq!(error, "net: images: got shape [2, 3, 16, 16], wanted [2, 3, 24, 24]");
}

#[test]
fn a_missing_or_second_library_is_refused() {
    runtime();
    let absent = Runtime::load(Path::new("/nowhere/libonnxruntime.so")).unwrap_err().to_string();
    assert!(absent.contains("make setup"), "{absent}");
    let other = Runtime::load(Path::new("/proc/self/exe")).unwrap_err().to_string();
    assert!(other.contains("already loaded"), "{other}");
    assert!(runtime().version().starts_with("1."));
}

/// One network in several float types, and what the float32 one says to the same images.
fn narrowed(element: i32) -> (OnnxEncoder, OnnxEncoder) {
    let narrow = crate::onnx::fixtures::narrowed(little_resnet(24, 24), element);
    let wide = promote::to_float32(narrow.clone());
    (encoder(narrow, 4, 1), encoder(wide, 4, 1))
}

#[test]
fn other_float_types_answer_and_are_attacked_in_float32() {
    use crate::onnx::proto::data_type::{BFLOAT16, DOUBLE, FLOAT16};
    let start = Start::new(5, 24);
    for (element, tolerance) in [(FLOAT16, 5e-3), (BFLOAT16, 4e-2), (DOUBLE, 1e-5)] {
        let (mut narrow, mut wide) = narrowed(element);
        assert_eq!(narrow.spec().notes.len(), 1, "{element}");
        assert!(narrow.spec().notes[0].contains("float32 copy"), "{:?}", narrow.spec().notes);
        assert!(wide.spec().notes.is_empty());
        let (a, b) = (narrow.embed(&start.x).unwrap(), wide.embed(&start.x).unwrap());
        let furthest = a.as_slice().iter().zip(b.as_slice()).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(furthest < tolerance, "{element}: {furthest}");
        // The attack is the float32 copy's, bit for bit; only what answers is the file's own.
        let crafted = |encoder: &mut OnnxEncoder| {
            let mut running = encoder.descend(&start.descent(Distance::SquaredEuclidean)).unwrap();
            running.step(&[0.01; 15]).unwrap();
            running.step(&[0.01; 15]).unwrap();
            let mut pixels = vec![0.0; start.x.as_slice().len()];
            pixels.chunks_mut(start.x.stride()).enumerate().for_each(|(i, out)| running.copy_evaluated(i, out));
            bits(&pixels)
        };
        assert_eq!(crafted(&mut narrow), crafted(&mut wide), "{element}");
    }
}

#[test]
fn a_file_with_its_weights_outside_answers_as_one_with_them_inside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let model = little_resnet(24, 24);
    crate::onnx::split::write(&path, &model, 20_000).unwrap();
    assert!(folder.path().join("m.onnx.data").is_file());
    let options = OnnxOptions { threads: 2, batch_size: 4, ..OnnxOptions::default() };
    let (mut outside, mut inside) = (OnnxEncoder::open(&runtime(), &path, &options).unwrap(), encoder(model, 4, 2));
    let start = Start::new(11, 24);
    assert_eq!(bits(outside.embed(&start.x).unwrap().as_slice()), bits(inside.embed(&start.x).unwrap().as_slice()));
    let a = run_steps(&mut outside, &start, Distance::SquaredEuclidean, 2);
    let b = run_steps(&mut inside, &start, Distance::SquaredEuclidean, 2);
    assert_eq!((bits(&a.0), bits(&a.1)), (bits(&b.0), bits(&b.1)));
}

#[test]
fn weights_are_shared_by_all_sessions() {
    let mut encoder = encoder(little_resnet(24, 24), 4, 2);
    let start = Start::new(11, 24);
    run_steps(&mut encoder, &start, Distance::SquaredEuclidean, 1);
    let mut sessions = encoder.weights.shared(8 * 3 * 7 * 7 * 4);
    sessions.sort();
    // The weights of the stem, 8·3·7·7 floats: held once for two forward and two attack sessions; those of its backward
    // pass, once for the two attack sessions.
    assert_eq!(sessions, [2, 4]);
}

#[test]
fn infinite_weights_are_noted_and_infinite_embeddings_refused() {
    let masked = |value: f32| {
        let mut net = Net::new([3, 4, 4]);
        let limit = net.b.constant("mask", &[1], &[value]);
        let x = net.op("Max", &["image", &limit]);
        let e = net.head(&x, 3, 5);
        net.finish(&e, 5)
    };
    let options = OnnxOptions::default();
    let open = |value: f32| OnnxEncoder::from_model(&runtime(), masked(value), "net", &options);
    assert_eq!(open(f32::NEG_INFINITY).unwrap().spec().notes, ["weights `mask` hold 1 infinities"]);
    assert!(open(f32::INFINITY).unwrap_err().to_string().contains("not finite"));
}

#[test]
fn a_batch_that_no_machine_holds_is_refused_before_it_is_made() {
    let mut model = little_resnet(24, 24);
    let shape = model.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
    shape.shape.as_mut().unwrap().dim[0].dim_value = Some(1 << 40);
    let error = OnnxEncoder::from_model(&runtime(), model, "net", &OnnxOptions::default()).unwrap_err().to_string();
    assert!(error.contains("1099511627776"), "{error}");
}

#[test]
fn the_gradient_alone_steps_as_the_attack_graph_does() {
    let start = Start::new(7, 24);
    for distance in [Distance::SquaredEuclidean, Distance::Euclidean] {
        let mut encoder = encoder(little_resnet(24, 24), 3, 2);
        let at = start.descent(distance);
        let found = encoder.gradient(&at).unwrap();
        let mut running = encoder.descend(&at).unwrap();
        let evaluation = running.step(&[0.01; 7 * 3]).unwrap();
        let mut next = vec![0.0; start.x.stride()];
        let mut equal = 0;
        for i in 0..7 {
            running.copy_current(i, &mut next);
            let (x, lower, upper) = (start.x.image(i), start.lower.image(i), start.upper.image(i));
            let gradient = &found.pixels[i * next.len()..][..next.len()];
            let moved = |p: usize| (x[p] - 0.01 * gradient[p].signum()).max(lower[p]).min(upper[p]);
            equal += (0..next.len()).filter(|&p| (moved(p) - next[p]).abs() < 1e-6).count();
        }
        // Two graphs may add in another order: a gradient near zero may change its sign.
        assert!(equal as f64 > 0.9995 * (7 * next.len()) as f64, "{equal}");
        for (a, b) in found.evaluation.loss.iter().zip(&evaluation.loss) {
            approx::assert_relative_eq!(a, b, max_relative = 1e-5);
        }
    }
}
