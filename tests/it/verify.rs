//! `mdprop verify` and foreign suites: what a file of somebody else's is fed with, what is proven about it, what is refused.

use std::path::{Path, PathBuf};

use mdprop::onnx::proto::{AttributeProto, ModelProto, data_type};
use mdprop::onnx::{Dim, GraphBuilder, write_atomic};
use mdprop::record::{Measurement, folder};
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;

use crate::program;
use crate::theirs::{self, reference};

const FLOAT: i32 = data_type::FLOAT;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn dims(text: &str) -> Vec<Dim> {
    text.split_whitespace().map(|d| d.parse().map_or_else(|_| Dim::Symbol(d.into()), Dim::Fixed)).collect()
}

fn verify(path: &Path, flags: &[&str]) -> assert_cmd::assert::Assert {
    program().arg("verify").arg(path).args(flags).args(["--quiet", "--count", "3", "--directions", "6"]).assert()
}

fn saved(folder: &Path, model: &ModelProto) -> PathBuf {
    let path = folder.join("encoder.onnx");
    write_atomic(&path, model).unwrap();
    path
}

/// The reference behind nodes that undo a card: it takes bytes-like numbers, channels last, blue first.
fn as_opencv_would_feed_it() -> ModelProto {
    theirs::behind(&dims("n 32 32 3"), |b, image| {
        let scale = b.scalar(255.0);
        let unit = b.node("Div", &[image, &scale], vec![]);
        let first = b.node("Transpose", &[&unit], vec![AttributeProto::ints("perm", &[0, 3, 1, 2])]);
        let reverse = b.constant("reverse", &[3, 3, 1, 1], &[0., 0., 1., 0., 1., 0., 1., 0., 0.]);
        b.node("Conv", &[&first, &reverse], vec![])
    })
}

/// A small net whose tail is the caller's: `tail` gets `[n, 8]` and names the output.
fn net(input: &str, tail: impl Fn(&mut GraphBuilder, &str) -> String, output: &str) -> ModelProto {
    let mut b = GraphBuilder::new("net");
    let image = b.input("image", FLOAT, &dims(input));
    let weights: Vec<f32> = (0..8 * 27).map(|i| ((i * 37 % 101) as f32 - 50.0) / 100.0).collect();
    let weights = b.constant("w", &[8, 3, 3, 3], &weights);
    let x = b.node("Conv", &[&image, &weights], vec![AttributeProto::ints("strides", &[2, 2])]);
    let x = b.node("Relu", &[&x], vec![]);
    let x = b.node("GlobalAveragePool", &[&x], vec![]);
    let x = b.node("Flatten", &[&x], vec![]);
    let embedding = tail(&mut b, &x);
    b.output(&embedding, FLOAT, &dims(output));
    b.finish()
}

fn plain(_: &mut GraphBuilder, x: &str) -> String {
    x.to_string()
}

/// A classifier so sure of itself that its answer has no slope anywhere.
fn classified(b: &mut GraphBuilder, x: &str) -> String {
    let features = b.named_node("Identity", "features", &[x], vec![]);
    let weights: Vec<f32> = (0..8 * 3).map(|i| ((i * 53 % 97) as f32 - 48.0) * 1e4).collect();
    let weights = b.constant("classes", &[8, 3], &weights);
    let logits = b.named_node("MatMul", "logits", &[&features, &weights], vec![]);
    b.node("Softmax", &[&logits], vec![])
}

fn rounded(b: &mut GraphBuilder, x: &str) -> String {
    let fine = b.scalar(32.0);
    let x = b.node("Mul", &[x, &fine], vec![]);
    let x = b.node("Round", &[&x], vec![]);
    b.node("Div", &[&x, &fine], vec![])
}

#[test]
fn the_embedding_may_be_a_value_inside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path(), &net("n 3 16 16", classified, "n 3"));
    let flat = verify(&path, &[]).code(3);
    flat.stdout(contains("or from     `").and(contains("`features` [n, 8], `logits` [n, 3]")).and(contains("flat: ")));
    let cut = verify(&path, &["--output", "features"]).success();
    cut.stdout(
        contains("8 entries")
            .and(contains("output = \"features\" (given)"))
            .and(contains("3 embeddings equal the untouched")),
    );
    verify(&path, &["--output", "feature"])
        .code(2)
        .stderr(contains("none of its outputs").and(contains("`features` [n, 8]")));
}

#[test]
fn the_template_card_is_attackable_and_every_check_is_told() {
    let assert = verify(Path::new("models/foreign.toml"), &[]).success();
    for part in [
        "glyph-encoder.onnx",
        "`pixels` float32 [N, 3, 32, 32]",
        "layout = \"nchw\" (detected: [N, 3, 32, 32] has its channels first)",
        "colour = \"rgb\" (assumed",
        "range = [0, 1] (assumed",
        "batch = any (detected",
        "Conv",
        "ok    forward-unchanged",
        "bit for bit",
        "ok    batch-changes-nothing",
        "ok    two-runs-equal",
        "ok    gradient-on-noise",
        "ok    gradient-on-pictures",
        "in float64",
        "on CPUExecutionProvider",
        "can be attacked: yes, white-box, with its own gradient",
        "output = \"embedding\"",
    ] {
        let text = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
}

#[test]
fn a_machine_gets_the_same_findings_twice() {
    let json = |seed: &str| {
        let flags = ["--json", "--seed", seed];
        verify(Path::new("models/reference/glyph-encoder.onnx"), &flags).success().get_output().stdout.clone()
    };
    let (one, two, other) = (json("4"), json("4"), json("5"));
    assert_eq!(one, two);
    assert_ne!(one, other);
    let value: serde_json::Value = serde_json::from_slice(&one).unwrap();
    assert_eq!(value["attackable"], "white-box");
    assert_eq!((&value["sound"], &value["exit_code"]), (&true.into(), &0.into()));
    assert_eq!(value["facts"]["opsets"][0], serde_json::json!(["ai.onnx", 18]));
    assert_eq!((&value["image_size"], &value["embedding_dim"]), (&32.into(), &64.into()));
    assert!(value["checks"].as_array().unwrap().iter().all(|check| check["passed"] == true));
    let conv = value["operators"].as_array().unwrap().iter().find(|op| op["op"] == "Conv").unwrap().clone();
    assert_eq!((&conv["count"], &conv["on_path"], &conv["coverage"]), (&3.into(), &3.into(), &"rule".into()));
}

#[test]
fn the_printed_card_says_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path(), &as_opencv_would_feed_it());
    let flags = ["--json", "--colour", "bgr", "--range", "0,255"];
    let output = verify(&path, &flags).success().get_output().stdout.clone();
    let value: serde_json::Value = serde_json::from_slice(&output).unwrap();
    let card = folder.path().join("card.toml");
    std::fs::write(&card, value["card"].as_str().unwrap()).unwrap();
    verify(&card, &[]).success().stdout(
        contains("layout = \"nhwc\" (given)")
            .and(contains("colour = \"bgr\" (given)"))
            .and(contains("range = [0.0, 255.0] (given)"))
            .and(contains("assumed: a file does not tell it from bgr").not()),
    );
}

#[test]
fn a_keras_export_passes() {
    let path = repository().join("tests/data/onnx/exports/keras-residual.onnx");
    verify(&path, &[]).success().stdout(contains("layout = \"nhwc\" (detected").and(contains("yes, white-box")));
}

#[test]
fn pictures_of_one_s_own_are_tried() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("holiday");
    std::fs::create_dir(&below).unwrap();
    for i in 0..4u8 {
        let picture = image::RgbImage::from_fn(40, 50, |x, y| image::Rgb([x as u8 * 5, y as u8 * 4, i * 60]));
        picture.save(below.join(format!("{i}.png"))).unwrap();
    }
    let flags = ["--images", folder.path().to_str().unwrap()];
    verify(Path::new("models/foreign.toml"), &flags).success().stdout(contains("ok    gradient-on-pictures"));
    let empty = tempfile::tempdir().unwrap();
    let flags = ["--images", empty.path().to_str().unwrap()];
    verify(Path::new("models/foreign.toml"), &flags).code(2).stderr(contains("holds no picture"));
}

#[test]
fn a_batch_of_one_in_the_file_is_tried_larger() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path(), &net("1 3 12 12", plain, "1 8"));
    let told = "batch = any (detected: the file says 1; 3 images together and one by one differ by 0)";
    verify(&path, &[]).success().stdout(contains(told).and(contains("ok    forward-unchanged")));
}

#[test]
fn a_constant_one_in_the_graph_is_looped_over() {
    let folder = tempfile::tempdir().unwrap();
    let tail = |b: &mut GraphBuilder, x: &str| {
        let shape = b.list(&[1, 8]);
        b.node("Reshape", &[x, &shape], vec![])
    };
    let path = saved(folder.path(), &net("n 3 12 12", tail, "n 8"));
    let told = contains("batch = 1, looped (detected: the file says `n`, but 3 images at once fail");
    verify(&path, &[]).success().stdout(told.and(contains("images go through one by one")));
}

#[test]
fn images_that_influence_each_other_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let tail = |b: &mut GraphBuilder, x: &str| {
        let axes = b.list(&[0]);
        let mean = b.node("ReduceMean", &[x, &axes], vec![AttributeProto::int("keepdims", 1)]);
        let tenth = b.scalar(0.1);
        let mean = b.node("Mul", &[&mean, &tenth], vec![]);
        b.node("Sub", &[x, &mean], vec![])
    };
    let path = saved(folder.path(), &net("n 3 12 12", tail, "n 8"));
    verify(&path, &[]).success().stdout(contains("images of one batch influence each other"));
}

#[test]
fn open_sides_are_fixed_by_the_images() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path(), &net("n 3 h w", plain, "n 8"));
    verify(&path, &[]).code(2).stderr(contains("[n, 3, h, w] leaves the size of the image open"));
    verify(&path, &["--image-size", "17"]).success().stdout(contains("sides = 17 × 17 (detected"));
}

#[test]
fn a_vector_without_batch_axis_and_a_map_of_one_pixel_are_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    let vector = |b: &mut GraphBuilder, x: &str| b.node("Squeeze", &[x], vec![]);
    let path = saved(folder.path(), &net("1 3 12 12", vector, "8"));
    verify(&path, &[]).success().stdout(contains("8 entries").and(contains("the embedding of one image")));
    let map = |b: &mut GraphBuilder, x: &str| {
        let shape = b.list(&[-1, 8, 1, 1]);
        b.node("Reshape", &[x, &shape], vec![])
    };
    let path = saved(folder.path(), &net("n 3 12 12", map, "n 8 1 1"));
    verify(&path, &[]).success().stdout(contains("flattened to [n, d]"));
}

#[test]
fn without_a_gradient_it_can_only_be_attacked_blindly_or_straight_through() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path(), &net("n 3 12 12", rounded, "n 8"));
    verify(&path, &[]).code(3).stdout(
        contains("FAIL  differentiable")
            .and(contains("Round"))
            .and(contains("no gradient; can be passed straight through"))
            .and(contains("can be attacked: only by methods that need no gradient")),
    );
    verify(&path, &["--straight-through"]).success().stdout(
        contains("MARK  gradient-exact")
            .and(contains("can be attacked: yes, with a straight-through gradient at 1 nodes"))
            .and(contains("gradient-on-noise").not()),
    );
}

#[test]
fn a_model_that_throws_dice_fails_a_check() {
    let folder = tempfile::tempdir().unwrap();
    let tail = |b: &mut GraphBuilder, x: &str| {
        let dice = b.node("RandomUniform", &[], vec![AttributeProto::ints("shape", &[1, 8])]);
        let small = b.scalar(0.3);
        let dice = b.node("Mul", &[&dice, &small], vec![]);
        b.node("Add", &[x, &dice], vec![])
    };
    let path = saved(folder.path(), &net("1 3 12 12", tail, "1 8"));
    verify(&path, &[]).code(3).stdout(contains("FAIL  two-runs-equal"));
}

#[test]
fn differences_in_float32_tell_their_own_error() {
    let told = contains("in float32 (3 images, 6 directions").and(contains("two steps disagree by"));
    verify(Path::new("models/foreign.toml"), &["--differences", "float32"]).success().stdout(told);
}

#[test]
fn bad_input_says_what_is_wrong_and_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes.onnx");
    std::fs::write(&notes, "dear reader").unwrap();
    verify(&notes, &[]).code(2).stderr(contains("notes.onnx").and(contains("not an ONNX file")));
    verify(Path::new("absent.onnx"), &[]).code(2).stderr(contains("absent.onnx"));
    verify(Path::new("models/smoke-standard.toml"), &[]).code(2).stderr(contains("is a recipe to train"));
    let known = Path::new("models/reference/glyph-encoder.onnx");
    verify(known, &["--image-size", "40"])
        .code(2)
        .stderr(contains("takes 32 × 32").and(contains("resize = { to = 32 }")));
    verify(known, &["--layout", "nhcw"]).code(2).stderr(contains("nhcw").and(contains("nchw")));
    verify(known, &["--output", "logits"]).code(2).stderr(contains("`embedding` float32 [N, 64]"));
    verify(known, &["--std", "0"]).code(2).stderr(contains("std = 0 must be positive"));
    verify(known, &["--range", "1"]).code(2).stderr(contains("two numbers"));
    let card = folder.path().join("card.toml");
    std::fs::write(&card, "schema = 1\nabout = \"a\"\nonnx = \"e.onnx\"\ncolor = \"bgr\"\n").unwrap();
    verify(&card, &[]).code(2).stderr(contains("line 4").and(contains("color")).and(contains("colour")));
    let tail = |b: &mut GraphBuilder, x: &str| {
        b.output(x, FLOAT, &dims("n 8"));
        b.node("Neg", &[x], vec![])
    };
    let two = saved(folder.path(), &net("n 3 12 12", tail, "n 8"));
    let listed = contains("2 outputs (`flatten` float32 [n, 8], `neg` float32 [n, 8])");
    verify(&two, &[]).code(2).stderr(listed.and(contains("say output")));
    verify(&two, &["--output", "neg"]).success();
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_and_not_a_slow_run() {
    let missing = || contains("provider cuda cannot be used").and(contains("onnxruntime-gpu"));
    verify(Path::new("models/foreign.toml"), &["--provider", "cuda"]).code(2).stderr(missing());
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    command
        .args(["run", "suites/foreign.toml", "--provider", "cuda", "--quiet", "--out"])
        .arg(folder.path().join("run"));
    command.assert().code(2).stderr(missing());
    verify(Path::new("models/foreign.toml"), &["--provider", "tpu"]).code(2).stderr(contains("cpu and cuda"));
}

/// Runs the template suite, changed by `edit`, on a card; returns the assertion and the rows.
fn measured(card: &str, edit: impl Fn(String) -> String) -> (assert_cmd::assert::Assert, Vec<Measurement>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("models")).unwrap();
    let card = card.replace("HERE", folder.path().to_str().unwrap());
    std::fs::write(folder.path().join("models/foreign.toml"), card).unwrap();
    write_atomic(&folder.path().join("opencv.onnx"), &as_opencv_would_feed_it()).unwrap();
    write_atomic(&folder.path().join("plain.onnx"), &reference()).unwrap();
    write_atomic(&folder.path().join("rounded.onnx"), &net("n 3 32 32", rounded, "n 8")).unwrap();
    let suite = std::fs::read_to_string(repository().join("suites/foreign.toml")).unwrap();
    std::fs::write(folder.path().join("suite.toml"), edit(suite)).unwrap();
    let mut command = program();
    command.arg("run").arg(folder.path().join("suite.toml")).arg("--quiet");
    for (flag, name) in [("--out", "run"), ("--artifacts", "artifacts"), ("--data", "data"), ("--models", "models")] {
        command.arg(flag).arg(folder.path().join(name));
    }
    let assert = command.assert();
    let rows = folder::read(&folder.path().join("run")).map(|run| run.measurements).unwrap_or_default();
    (assert, rows)
}

fn recalls(rows: &[Measurement]) -> Vec<f64> {
    rows.iter().flat_map(|m| m.recall.iter().map(|r| r.estimate.value)).collect()
}

#[test]
fn the_template_suite_runs_and_a_card_undoes_another_way_of_feeding() {
    let (assert, plain) = measured("schema = 1\nabout = \"a\"\nonnx = \"HERE/plain.onnx\"\n", |suite| suite);
    assert.success();
    let (clean, attacked, noise) = (plain[0].recall[0], plain[2].recall[0], plain[4].recall[0]);
    assert!(attacked.estimate.value < 0.5 * clean.estimate.value, "the attack takes recall");
    assert!(noise.estimate.value > 0.8 * clean.estimate.value, "noise does not");
    let card = "schema = 1\nabout = \"a\"\nonnx = \"HERE/opencv.onnx\"\ncolour = \"bgr\"\nrange = [0, 255]\n";
    let (assert, other) = measured(card, |suite| suite);
    assert.success();
    // Scaling up and down again may round; a handful of queries may change their neighbour.
    for (a, b) in recalls(&plain).iter().zip(recalls(&other)) {
        assert!((a - b).abs() <= 2.0 / 144.0 + 1e-9, "{:?} {:?}", recalls(&plain), recalls(&other));
    }
    let used = other[2].linf_max.unwrap();
    assert!((7.9 / 255.0..=8.0 / 255.0 + 1e-6).contains(&used), "the budget is in pixels of [0, 1]: {used}");
}

#[test]
fn pictures_of_another_size_are_stretched_inside_the_graph() {
    let card = "schema = 1\nabout = \"a\"\nonnx = \"HERE/plain.onnx\"\n";
    let larger = |suite: String| suite.replace("image_size = 32", "image_size = 48");
    let (assert, _) = measured(card, larger);
    assert.code(2).stderr(contains("takes 32 × 32").and(contains("image_size = 48")));
    let (assert, rows) = measured(&format!("{card}resize = {{ to = 40 }}\ncrop = 32\n"), larger);
    assert.success();
    assert!(rows.iter().all(|m| m.error.is_none()));
    assert!(rows[2].recall[0].estimate.value < rows[0].recall[0].estimate.value);
}

#[test]
fn a_straight_through_number_is_marked_and_without_it_the_trial_is_a_row_with_its_error() {
    let card = "schema = 1\nabout = \"a\"\nonnx = \"HERE/rounded.onnx\"\n";
    let (assert, rows) = measured(card, |suite| suite);
    assert.code(4);
    let gradient = |m: &&Measurement| m.method == "pgd";
    assert!(rows.iter().filter(gradient).all(|m| m.error.as_ref().is_some_and(|e| e.contains("Round"))));
    assert!(rows.iter().any(|m| m.method == "noise" && m.error.is_none()));
    let (assert, rows) = measured(&format!("{card}straight_through = true\n"), |suite| suite);
    let marked = |m: &Measurement| m.checks.iter().any(|check| check.name == "gradient-exact" && !check.passed);
    assert!(rows.iter().filter(gradient).count() == 3 && rows.iter().filter(gradient).all(marked));
    assert!(!rows.iter().any(|m| m.method != "pgd" && marked(m)));
    // The mark by itself fails no run; what this random net fails is another matter.
    let text = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
    assert!(!text.contains("check failed: gradient-exact"), "{text}");
}
