//! Encoders as other people export them (tests/data/onnx/exports): every file is read, run and attacked, and its gradient
//! is the one that the framework it came from computed.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use mdprop::encoder::onnx::probe::{Probe, Rewriting};
use mdprop::encoder::onnx::{Provider, Runtime};
use mdprop::onnx::wrap::{Adapted, Wrapping, adapt};
use mdprop::onnx::{self, AttackGraphOptions, Dim, LossDistance, LossHead, attack_graph};
use safetensors::SafeTensors;

use crate::program;

fn runtime() -> Runtime {
    let library = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".deps/onnxruntime/lib/libonnxruntime.so.1.32.0")
    });
    Runtime::load(&library).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/exports")
}

/// Names of all files, without `.onnx`.
fn files() -> Vec<String> {
    let all = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        all.filter_map(|f| Some(f.strip_suffix(".gz").unwrap_or(&f).strip_suffix(".onnx")?.to_string())).collect();
    names.sort();
    names
}

fn world_of(file: &str) -> &str {
    file.split('.').next().unwrap()
}

/// What the file's own framework says.
struct Truth {
    /// Pixels in the layout of the model, with their shape.
    images: Vec<f32>,
    shape: [usize; 4],
    targets: Vec<f32>,
    embedding: Vec<f32>,
    /// As `images`.
    gradient: Vec<f32>,
}

impl Truth {
    fn of(file: &str) -> Self {
        let own = folder().join(format!("{file}.safetensors"));
        let path = if own.is_file() { own } else { folder().join(format!("{}.safetensors", world_of(file))) };
        let bytes = std::fs::read(path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = |name: &str| -> Vec<f32> {
            tensors.tensor(name).unwrap().data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let images = tensors.tensor("images").unwrap();
        Self {
            images: images.data().iter().map(|b| f32::from(*b) / 255.0).collect(),
            shape: images.shape().try_into().unwrap(),
            targets: numbers("targets"),
            embedding: numbers("embedding"),
            gradient: numbers("gradient"),
        }
    }

    fn count(&self) -> usize {
        self.shape[0]
    }

    fn channels_last(&self) -> bool {
        self.shape[3] == 3
    }

    /// `values` (of the images' shape) as `[n, 3, h, w]`.
    fn planes(&self, values: &[f32]) -> Vec<f32> {
        if !self.channels_last() {
            return values.to_vec();
        }
        let [n, h, w, c] = self.shape;
        let at = |i: usize| {
            let (image, channel, place) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
            values[(image * h * w + place) * c + channel]
        };
        (0..n * c * h * w).map(at).collect()
    }
}

/// How far a file may be from its framework's float64.
struct Tolerance {
    embedding: f32,
    gradient: f64,
    signs: f64,
}

impl Tolerance {
    fn of(file: &str) -> Self {
        match file {
            // The exporter folded norms into weights and rounded those to eleven bits again, which its reference lacks.
            "resnext.fp16" => Self { embedding: 5e-3, gradient: 5e-2, signs: 0.98 },
            _ => Self { embedding: 1e-4, gradient: 1e-3, signs: 0.999 },
        }
    }
}

/// How far an attack graph's forward pass may be from the file's; absent: no bit may differ.
fn forward_rounding(file: &str) -> Option<f32> {
    match file {
        "resnext.fp16" => Some(5e-3),
        // Its weights are inputs too (format version 3), so the runtime cannot pack the matrix beforehand as it does with
        // the attack graph's constant, and sums in another order.
        "hand-opset7" => Some(1e-6),
        _ => None,
    }
}

/// The file, unpacked if need be, in a folder that lives as long as the value.
fn plain(file: &str) -> (tempfile::TempDir, PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let stored = folder().join(format!("{file}.onnx"));
    if stored.is_file() {
        return (temporary, stored);
    }
    let mut bytes = vec![];
    let packed = std::fs::File::open(folder().join(format!("{file}.onnx.gz"))).unwrap();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    let path = temporary.path().join(format!("{file}.onnx"));
    std::fs::write(&path, bytes).unwrap();
    (temporary, path)
}

/// What one run of the attack graph gives for all images, and what the untouched file gives.
#[derive(Default)]
struct Found {
    embedding: Vec<f32>,
    loss: Vec<f32>,
    gradient: Vec<f32>,
    /// Embeddings by the attack graph and by the file, both without the runtime's rewriting.
    plain_attacked: Vec<f32>,
    plain_original: Vec<f32>,
    /// Embedding by the file, with rewriting.
    original: Vec<f32>,
    /// Whether the attack graph is the float32 copy of a file that computes in half precision.
    promoted: bool,
}

/// Runs file and attack graph on pieces of `batch` images.
fn run(path: &Path, adapted: &Adapted, truth: &Truth, batch: usize) -> Found {
    let runtime = runtime();
    let options = AttackGraphOptions {
        head: LossHead::Weighted(LossDistance::SquaredEuclidean),
        batch_size: Some(batch),
        targets_per_sample: Some(1),
        gradient_output: true,
        straight_through: false,
    };
    let model = adapted.with_batch(Dim::Fixed(batch));
    let attack = attack_graph::build(model, &options).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(attack.straight_through, Vec::<String>::new());
    let open = |rewriting| Probe::open(&runtime, "attack", &attack.model, rewriting, Provider::Cpu).unwrap();
    let (mut fast, mut exact) = (open(Rewriting::On), open(Rewriting::Off));
    let original = |rewriting| Probe::open_file(&runtime, path, rewriting, Provider::Cpu).unwrap();
    let (mut original_fast, mut original_exact) = (original(Rewriting::On), original(Rewriting::Off));

    let planes = truth.planes(&truth.images);
    let (stride, d) = (planes.len() / truth.count(), truth.targets.len() / truth.count());
    let [_, a, b, c] = truth.shape;
    let side = a.max(b);
    let image = [batch, 3, side, side];
    let (low, high) = (vec![-1.0; batch * stride], vec![2.0; batch * stride]);
    let (steps, weights) = (vec![0.0; batch * 3], vec![1.0; batch]);
    let mut found = Found { promoted: attack.promoted, ..Found::default() };
    for first in (0..truth.count()).step_by(batch) {
        let rows = |values: &[f32], width: usize| values[first * width..(first + batch) * width].to_vec();
        let (x, targets) = (rows(&planes, stride), rows(&truth.targets, d));
        let inputs: [(&str, &[usize], &[f32]); 6] = [
            (&attack.x, &image, &x),
            (&attack.lower, &image, &low),
            (&attack.upper, &image, &high),
            (&attack.step_size, &[batch, 3, 1, 1], &steps),
            (&attack.targets, &[batch, 1, d], &targets),
            (&attack.weights, &[batch, 1], &weights),
        ];
        let gradient = attack.gradient.as_deref().unwrap();
        let [embedding, loss, gradient]: [_; 3] =
            fast.run(&inputs, &[&attack.embedding, &attack.loss, gradient]).unwrap().try_into().unwrap();
        found.embedding.extend(embedding.data);
        found.loss.extend(loss.data);
        found.gradient.extend(gradient.data);
        found.plain_attacked.extend(exact.run(&inputs, &[&attack.embedding]).unwrap().remove(0).data);
        let own = rows(&truth.images, stride);
        let own: [(&str, &[usize], &[f32]); 1] = [(&adapted.file_input, &[batch, a, b, c], &own)];
        for (probe, into) in
            [(&mut original_fast, &mut found.original), (&mut original_exact, &mut found.plain_original)]
        {
            into.extend(probe.run(&own, &[&adapted.file_output]).unwrap().remove(0).data);
        }
    }
    found
}

fn farthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// `‖a − b‖ / ‖b‖`, and the share of equal signs where `b` is not tiny.
fn closeness(a: &[f32], b: &[f32]) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    let square = |v: f32| f64::from(v).powi(2);
    let difference: f64 = a.iter().zip(b).map(|(x, y)| square(x - y)).sum();
    let length: f64 = b.iter().map(|y| square(*y)).sum();
    let floor = 1e-3 * b.iter().map(|y| y.abs()).fold(0.0, f32::max);
    let clear: Vec<bool> =
        a.iter().zip(b).filter(|(_, y)| y.abs() > floor).map(|(x, y)| x.signum() == y.signum()).collect();
    assert!(clear.len() * 2 > b.len(), "most gradients are not tiny");
    let equal = clear.iter().filter(|equal| **equal).count() as f64 / clear.len() as f64;
    ((difference / length).sqrt(), equal)
}

fn check(file: &str) {
    let (_folder, path) = plain(file);
    let truth = Truth::of(file);
    let tolerance = Tolerance::of(file);
    let side = truth.shape[1].max(truth.shape[2]);
    let model = onnx::read(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
    let adapted = adapt(model, &Wrapping::default(), side).unwrap_or_else(|e| panic!("{file}: {e}"));
    let fixed = adapted.file_input_dims[0].fixed();
    let found = run(&path, &adapted, &truth, fixed.unwrap_or(truth.count()));

    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    if let Some(allowed) = forward_rounding(file) {
        let apart = farthest(&found.plain_attacked, &found.plain_original);
        assert!(apart < allowed, "{file}: the forward pass has changed by {apart}");
    } else {
        assert_eq!(bits(&found.plain_attacked), bits(&found.plain_original), "{file}: the forward pass has changed");
    }
    assert_eq!(found.promoted, file == "resnext.fp16", "{file}");
    for (what, embedding) in [("attack graph", &found.embedding), ("file", &found.original)] {
        let error = farthest(embedding, &truth.embedding);
        assert!(error < tolerance.embedding, "{file}: the {what}'s embeddings are off by {error}");
    }
    let d = truth.targets.len() / truth.count();
    for (i, loss) in found.loss.iter().enumerate() {
        let row = |values: &[f32]| values[i * d..(i + 1) * d].to_vec();
        let (e, t) = (row(&found.embedding), row(&truth.targets));
        let wanted: f64 = e.iter().zip(&t).map(|(e, t)| f64::from(e - t).powi(2)).sum();
        assert!((f64::from(*loss) - wanted).abs() < 1e-5 * wanted.max(1.0), "{file}: loss {loss}, wanted {wanted}");
    }
    let (error, signs) = closeness(&found.gradient, &truth.planes(&truth.gradient));
    assert!(error < tolerance.gradient, "{file}: the gradient is off by {error} of its length");
    assert!(signs >= tolerance.signs, "{file}: {signs} of the gradient's signs are equal");
}

fn check_world(world: &str) {
    let own: Vec<String> = files().into_iter().filter(|file| world_of(file) == world).collect();
    assert!(!own.is_empty(), "no file of {world}");
    own.iter().for_each(|file| check(file));
    own.iter().for_each(|file| verify(file));
}

/// `mdprop verify` finds the same without being told anything but the size of the pictures.
fn verify(file: &str) {
    let (_folder, path) = plain(file);
    let truth = Truth::of(file);
    let side = truth.shape[1].max(truth.shape[2]).to_string();
    let mut command = program();
    command.arg("verify").arg(path).args(["--image-size", &side, "--json", "--quiet"]);
    // Few directions: the gradient has been compared entry by entry already.
    let output = command.args(["--count", "1", "--directions", "2"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{file}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() >= 6 && checks.iter().all(|check| check["passed"] == true), "{file}: {text}");
}

#[test]
fn every_file_belongs_to_a_world_that_is_tested() {
    let files = files();
    assert!(files.len() >= 41, "{files:?}");
    for file in files {
        assert!(TESTED.contains(&world_of(&file)), "{file}");
    }
}

/// One test a world, so that a failure names it.
macro_rules! worlds {
    ($($test:ident: $world:literal,)*) => {
        const TESTED: &[&str] = &[$($world),*];
        $(
            #[test]
            fn $test() {
                check_world($world);
            }
        )*
    };
}

worlds! {
    convnext: "convnext",
    densenet: "densenet",
    efficientnet: "efficientnet",
    bfloat16_weights_in_a_file_of_their_own: "hand-bf16-external",
    model_local_functions: "hand-functions",
    operator_set_7: "hand-opset7",
    operator_set_9: "hand-opset9",
    keras_mobile: "keras-mobile",
    keras_residual: "keras-residual",
    mixture: "mixture",
    mobilenet_v2: "mobilenet-v2",
    mobilenet_v3: "mobilenet-v3",
    resnet: "resnet",
    resnext: "resnext",
    shufflenet: "shufflenet",
    swin: "swin",
    swin_v2: "swin-v2",
    timm_blur_resnet: "timm-blur-resnet",
    timm_convnext_v2: "timm-convnext-v2",
    timm_eva: "timm-eva",
    timm_vit: "timm-vit",
    vit: "vit",
}
