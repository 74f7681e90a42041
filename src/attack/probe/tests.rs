//! The probe on models that mask their gradient, built node by node and run in ONNX Runtime, and on one that does not.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::attack::evaluate::embed_all;
use crate::dataset::{Pixels, Split};
use crate::digest::Digest;
use crate::encoder::onnx::{OnnxEncoder, OnnxOptions, Runtime};
use crate::onnx::graph::{FLOAT, GraphBuilder};
use crate::onnx::proto::{AttributeProto, ModelProto};
use crate::progress::Silent;
use crate::rng;

const SIZE: usize = 8;
const STRIDE: usize = 3 * SIZE * SIZE;
const BATCH: usize = 8;

/// Eight classes of six images: a class is a pattern, an image the pattern with noise.
fn set() -> ImageSet {
    let mut stream = rng::stream(5, "set", &[]);
    let patterns: Vec<u8> = (0..8 * STRIDE).map(|_| 60 + rng::below(&mut stream, 130) as u8).collect();
    let labels: Vec<u32> = (0..48).map(|i| i / 6).collect();
    let noisy = |i: usize, stream: &mut rng::Stream| -> Vec<u8> {
        patterns[i / 6 * STRIDE..][..STRIDE].iter().map(|&p| p - 30 + rng::below(stream, 60) as u8).collect()
    };
    let pixels: Vec<u8> = (0..48).flat_map(|i| noisy(i, &mut stream)).collect();
    ImageSet {
        id: "patterns".into(),
        originals: crate::dataset::Originals::default(),
        size: SIZE,
        digest: Digest::of_bytes(&pixels),
        pixels: Pixels::Owned(Arc::new(pixels)),
        labels,
        classes: (0..8).map(|c| c.to_string()).collect(),
        sources: vec![String::new(); 48],
        split: Split::default(),
    }
}

/// `tanh(slope · W (prepare(x) − 0.5))`: what precedes the linear map is the caller's.
fn model(slope: f32, prepare: impl FnOnce(&mut GraphBuilder, &str) -> String) -> ModelProto {
    let mut b = GraphBuilder::new("net");
    b.input("image", FLOAT, &[BATCH.into(), 3.into(), SIZE.into(), SIZE.into()]);
    let x = prepare(&mut b, "image");
    let half = b.scalar(0.5);
    let centred = b.node("Sub", &[&x, &half], vec![]);
    let flat = b.node("Flatten", &[&centred], vec![]);
    let mut stream = rng::stream(7, "weights", &[]);
    let weight: Vec<f32> =
        (0..STRIDE * 16).map(|_| slope * rng::normal(&mut stream) / (STRIDE as f32).sqrt()).collect();
    let weight = b.constant("weight", &[STRIDE, 16], &weight);
    let product = b.node("MatMul", &[&flat, &weight], vec![]);
    let embedding = b.named_node("Tanh", "embedding", &[&product], vec![]);
    b.output(&embedding, FLOAT, &[BATCH.into(), 16.into()]);
    b.finish()
}

/// `W pool(|C x|)`: convolution, rectifier and max pooling, whose kinks are where an area of the picture is flat.
fn pooled() -> ModelProto {
    let mut b = GraphBuilder::new("net");
    b.input("image", FLOAT, &[BATCH.into(), 3.into(), SIZE.into(), SIZE.into()]);
    let mut stream = rng::stream(9, "weights", &[]);
    let mut normal =
        |n: usize, fan: usize| -> Vec<f32> { (0..n).map(|_| rng::normal(&mut stream) / (fan as f32).sqrt()).collect() };
    let kernel = b.constant("kernel", &[8, 3, 3, 3], &normal(8 * 27, 27));
    let pads = AttributeProto::ints("pads", &[1; 4]);
    let y = b.node("Conv", &["image", &kernel], vec![pads]);
    let y = b.node("Relu", &[&y], vec![]);
    let (window, strides) = (AttributeProto::ints("kernel_shape", &[2, 2]), AttributeProto::ints("strides", &[2, 2]));
    let y = b.node("MaxPool", &[&y], vec![window, strides]);
    let flat = b.node("Flatten", &[&y], vec![]);
    let weight = b.constant("weight", &[8 * SIZE * SIZE / 4, 16], &normal(8 * SIZE * SIZE / 4 * 16, 128));
    let embedding = b.named_node("MatMul", "embedding", &[&flat, &weight], vec![]);
    b.output(&embedding, FLOAT, &[BATCH.into(), 16.into()]);
    b.finish()
}

/// The set as drawings: all but the first row is white paper.
fn on_white(mut images: ImageSet) -> ImageSet {
    let mut pixels: Vec<u8> = (0..48).flat_map(|i| images.bytes(i).to_vec()).collect();
    for (i, pixel) in pixels.iter_mut().enumerate() {
        if i % (SIZE * SIZE) >= SIZE {
            *pixel = 255;
        }
    }
    images.pixels = Pixels::Owned(Arc::new(pixels));
    images
}

fn as_it_is(_: &mut GraphBuilder, x: &str) -> String {
    x.to_string()
}

/// A staircase of four levels made of ramps so steep that hardly a pixel lies on one.
fn plateaus(b: &mut GraphBuilder, x: &str) -> String {
    let (zero, one, steep, part) = (b.scalar(0.0), b.scalar(1.0), b.scalar(1e6), b.scalar(0.25));
    let levels: Vec<String> = [0.2011, 0.4011, 0.6011, 0.8011]
        .into_iter()
        .map(|threshold| {
            let threshold = b.scalar(threshold);
            let over = b.node("Sub", &[x, &threshold], vec![]);
            let ramp = b.node("Mul", &[&over, &steep], vec![]);
            b.node("Clip", &[&ramp, &zero, &one], vec![])
        })
        .collect();
    let names: Vec<&str> = levels.iter().map(String::as_str).collect();
    let sum = b.node("Sum", &names, vec![]);
    b.node("Mul", &[&sum, &part], vec![])
}

/// Four levels by rounding, which has no gradient of its own.
fn rounded(b: &mut GraphBuilder, x: &str) -> String {
    let four = b.scalar(4.0);
    let wide = b.node("Mul", &[x, &four], vec![]);
    let whole = b.node("Round", &[&wide], vec![]);
    b.node("Div", &[&whole, &four], vec![])
}

fn smoothed(op: &'static str) -> impl FnOnce(&mut GraphBuilder, &str) -> String {
    move |b, x| {
        let amount = if op == "RandomNormalLike" {
            vec![AttributeProto::float("scale", 0.2)]
        } else {
            vec![AttributeProto::float("low", -0.3), AttributeProto::float("high", 0.3)]
        };
        let noise = b.node(op, &[x], amount);
        b.node("Add", &[x, &noise], vec![])
    }
}

/// All checks of a model.
fn probed(model: ModelProto) -> Vec<Check> {
    probed_on(set(), model)
}

fn probed_on(images: ImageSet, model: ModelProto) -> Vec<Check> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/.deps/onnxruntime/lib/libonnxruntime.so.1.32.0");
    let library = std::env::var_os("ORT_DYLIB_PATH").unwrap_or_else(|| default.into());
    let runtime = Runtime::load(Path::new(&library)).unwrap();
    let options = OnnxOptions { batch_size: BATCH, straight_through: true, ..OnnxOptions::default() };
    let mut encoder = OnnxEncoder::from_model(&runtime, model, "net", &options).unwrap();
    let (all, cancel) = ((0..48).collect::<Vec<usize>>(), Cancel::default());
    let clean = embed_all(&mut encoder, &images, &all, 48, &Silent, &cancel).unwrap();
    let subject = Subject {
        images: &images,
        queries: &all,
        query_embeddings: &clean,
        gallery: &all,
        gallery_embeddings: &clean,
        seed: 1,
        cancel: &cancel,
    };
    let mut found = vec![stability(&mut encoder, &subject).unwrap()];
    found.extend(gradient(&mut encoder, &subject).unwrap());
    found.extend(checks::gradient_exact(&encoder.spec().straight_through));
    found
}

/// Names of those that failed.
fn failed(found: &[Check]) -> Vec<&str> {
    found.iter().filter(|c| !c.passed).map(|c| c.name.as_str()).collect()
}

#[test]
fn a_healthy_model_passes_every_check() {
    let found = probed(model(1.0, as_it_is));
    assert_eq!(failed(&found), Vec::<&str>::new(), "{found:#?}");
    let names: Vec<&str> = found.iter().map(|c| c.name.as_str()).collect();
    let all = [
        "two-runs-equal",
        "gradient-finite",
        "gradient-not-zero",
        "gradient-matches-differences",
        "huge-budget-breaks",
    ];
    assert_eq!(names, all);
}

#[test]
fn drawings_on_white_paper_pass_where_max_pooling_has_its_kinks() {
    let found = probed_on(on_white(set()), pooled());
    assert!(!failed(&found).contains(&"gradient-matches-differences"), "{found:#?}");
}

#[test]
fn a_saturated_head_is_caught() {
    let found = probed(model(1e4, as_it_is));
    assert!(
        failed(&found).contains(&"gradient-not-zero") && failed(&found).contains(&"huge-budget-breaks"),
        "{found:#?}"
    );
}

#[test]
fn a_quantised_input_is_caught_with_and_without_straight_through() {
    let found = probed(model(1.0, plateaus));
    assert!(
        failed(&found).contains(&"gradient-not-zero") && failed(&found).contains(&"huge-budget-breaks"),
        "{found:#?}"
    );
    let found = probed(model(1.0, rounded));
    assert!(failed(&found).contains(&"gradient-exact"), "{found:#?}");
    assert!(failed(&found).contains(&"gradient-matches-differences"), "{found:#?}");
}

#[test]
fn random_smoothing_is_caught() {
    for op in ["RandomNormalLike", "RandomUniformLike"] {
        let found = probed(model(1.0, smoothed(op)));
        assert!(failed(&found).contains(&"two-runs-equal"), "{op}: {found:#?}");
    }
}
