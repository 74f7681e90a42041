//! Models whose numbers cannot be believed, from the file to the exit code: a run ends with 3 and says which check failed,
//! what should hold and what to do. The same model without the fault ends with 0.

use mdprop::onnx::proto::{AttributeProto, ModelProto, data_type};
use mdprop::onnx::{Dim, GraphBuilder, write_atomic};
use mdprop::record::{Run, folder};
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;

use crate::theirs::{self, reference};

/// `CHECKS` is what the suite says of checks.
const SUITE: &str = r#"
schema = 1
about = "a model that is not what it seems"
seed = 1
CHECKS
[dataset.glyphs]
image_size = 32
classes = 16
per_class = 8
seed = 2
[evaluation]
recall_at = [1]
metrics = []
batch_size = 16
gallery = 0
[[model]]
id = "theirs"
[[attack]]
name = "single-target"
side = "query"
goal.single-target = {}
method.pgd = { epsilon = "8/255", steps = 20 }
"#;

/// The reference encoder behind nodes that `front` makes of the image.
fn behind(front: impl Fn(&mut GraphBuilder, &str) -> String) -> ModelProto {
    theirs::behind(&[Dim::Symbol("n".into()), 3.into(), 32.into(), 32.into()], front)
}

/// The reference's embedding in steps of a tenth: where rounding is passed straight through, the gradient is not the slope of the loss,
/// which is flat but for its jumps.
fn quantised() -> ModelProto {
    let mut b = GraphBuilder::extend(reference());
    let step = b.scalar(0.1);
    let x = b.node("Div", &["embedding", &step], vec![]);
    let x = b.node("Round", &[&x], vec![]);
    let x = b.node("Mul", &[&x, &step], vec![]);
    b.output(&x, data_type::FLOAT, &[Dim::Symbol("n".into()), 64.into()]);
    let mut model = b.finish();
    model.graph.as_mut().unwrap().output.retain(|v| v.name == x);
    model.metadata_props.clear();
    model
}

/// A sigmoid so steep that no pixel is on its slope.
fn saturated(b: &mut GraphBuilder, image: &str) -> String {
    let (middle, steep) = (b.scalar(0.501), b.scalar(1e6));
    let x = b.node("Sub", &[image, &middle], vec![]);
    let x = b.node("Mul", &[&x, &steep], vec![]);
    b.node("Sigmoid", &[&x], vec![])
}

/// A little noise on every image, drawn anew each time.
fn dice(b: &mut GraphBuilder, image: &str) -> String {
    let noise = b.node("RandomNormalLike", &[image], vec![AttributeProto::float("scale", 0.05)]);
    b.node("Add", &[image, &noise], vec![])
}

/// Runs the suite on a model; `card` are further lines of its card.
fn run(model: &ModelProto, (checks, card): (&str, &str)) -> (assert_cmd::assert::Assert, Run) {
    let folder = tempfile::tempdir().unwrap();
    let onnx = folder.path().join("encoder.onnx");
    write_atomic(&onnx, model).unwrap();
    theirs::write(folder.path(), &SUITE.replace("CHECKS", checks), &onnx, card);
    let assert = theirs::run(folder.path()).args(["--threads", "2"]).assert();
    (assert, folder::read(&folder.path().join("run")).unwrap())
}

/// Names of the checks that failed on the attacked row.
fn failed(run: &Run) -> Vec<&str> {
    let row = run.measurements.iter().find(|m| m.attack == "single-target").unwrap();
    assert_eq!(row.error, None);
    row.checks.iter().filter(|check| !check.passed).map(|check| check.name.as_str()).collect()
}

#[test]
fn a_sound_model_ends_with_0() {
    let (assert, run) = run(&reference(), ("[checks]\nfatal = [\"more-steps-change-little\"]", ""));
    assert.code(0).stdout(contains("check failed").not());
    assert_eq!(failed(&run), [""; 0]);
}

#[test]
fn a_masked_gradient_ends_with_3_and_says_what_to_do() {
    let masked = "straight_through = true\n";
    let (assert, run) = run(&quantised(), ("", masked));
    let told =
        contains("check failed: gradient-matches-differences of theirs seed 0 single-target 8/255: measured slopes")
            .and(contains("should hold: "))
            .and(contains("what to do: "));
    assert.code(3).stdout(told);
    assert!(failed(&run).contains(&"gradient-matches-differences"), "{:?}", failed(&run));
}

#[test]
fn a_zero_gradient_ends_with_3() {
    let (assert, run) = run(&behind(saturated), ("", ""));
    assert.code(3).stdout(contains("check failed: gradient-not-zero of theirs seed 0 single-target 8/255"));
    assert!(failed(&run).contains(&"gradient-not-zero"), "{:?}", failed(&run));
}

#[test]
fn a_model_that_throws_dice_ends_with_3() {
    let (assert, run) = run(&behind(dice), ("", ""));
    assert.code(3).stdout(contains("check failed: two-runs-equal of theirs seed 0"));
    assert!(failed(&run).contains(&"two-runs-equal"), "{:?}", failed(&run));
}

#[test]
fn the_suite_says_which_checks_end_a_run() {
    // The same faults, called warnings: they are told and the run ends with 0. Those that are not named stay fatal.
    let (_, strict) = run(&quantised(), ("", "straight_through = true\n"));
    let names: Vec<String> = failed(&strict).into_iter().map(|name| format!("{name:?}")).collect();
    let checks = format!("[checks]\nwarning = [{}]", names.join(", "));
    let (assert, lenient) = run(&quantised(), (&checks, "straight_through = true\n"));
    assert.code(0).stdout(contains("check did not hold (a warning): gradient-matches-differences"));
    assert_eq!(failed(&strict), failed(&lenient));
}
