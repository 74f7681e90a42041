//! Somebody else's ONNX file: attacked like our own, refused in words when it cannot be.

use std::path::{Path, PathBuf};

use mdprop::record::{Measurement, folder};
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;

use crate::pipeline::finished;
use crate::{program, theirs};

const SUITE: &str = r#"
schema = 1
about = "a foreign file"
seed = 3
[dataset.glyphs]
image_size = 24
classes = 24
per_class = 12
seed = 1
[evaluation]
batch_size = 16
[[model]]
id = "theirs"
[[attack]]
name = "single-target"
side = "query"
goal.single-target = {}
method.pgd = { epsilon = "24/255", steps = 5 }
"#;

/// The smoke suite's trained standard model, as if it had come by mail.
fn trained() -> PathBuf {
    let artifacts = finished().folder.path().join("artifacts");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(artifacts).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    let own = folders.into_iter().find(|f| f.to_string_lossy().contains("smoke-standard")).unwrap();
    own.join("model.onnx")
}

fn run(folder: &Path, onnx: &Path, more: &str) -> assert_cmd::assert::Assert {
    theirs::write(folder, SUITE, onnx, more);
    theirs::run(folder).assert()
}

fn rows(folder: &Path) -> Vec<Measurement> {
    folder::read(&folder.join("run")).unwrap().measurements
}

#[test]
fn a_foreign_file_is_measured_as_our_own() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &trained(), "").success();
    let theirs = rows(folder.path());
    let ours = finished().read().measurements;
    let ours = |attack: &str, epsilon: &str| {
        let same = |m: &&Measurement| m.model == "smoke-standard" && m.attack == attack && m.epsilon == epsilon;
        ours.iter().find(same).unwrap().recall.clone()
    };
    assert_eq!(theirs[0].recall, ours("clean", "0"));
    assert_eq!(theirs[1].recall, ours("single-target", "24/255"));
    assert_eq!((theirs[0].training.as_str(), theirs[0].selected_on.as_str()), ("foreign", "foreign"));
}

#[test]
fn a_normalisation_is_put_inside_and_budgets_stay_in_pixels() {
    // Pixels are halved and shifted before they reach a model that expects them plain: another function, so other
    // recalls, but the budget is still counted in pixels of [0, 1].
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &trained(), "mean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n").success();
    let identity = rows(folder.path());
    assert_eq!(identity[0].recall, finished().read().measurements[0].recall, "dividing by one changes nothing");
    let shifted = tempfile::tempdir().unwrap();
    run(shifted.path(), &trained(), "mean = [0.4, 0.5, 0.6]\nstd = [0.5, 0.5, 0.5]\n").success();
    let shifted = rows(shifted.path());
    assert_ne!(shifted[0].artefact, identity[0].artefact);
    let used = shifted[1].linf_max.unwrap();
    assert!((20.0 / 255.0..=24.0 / 255.0 + 1e-6).contains(&used), "{used}");
}

#[test]
fn what_is_no_onnx_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.onnx");
    std::fs::write(&text, "dear reader, this is a letter").unwrap();
    run(folder.path(), &text, "").code(2).stderr(contains("notes.onnx").and(contains("not an ONNX file")));
    let half = folder.path().join("half.onnx");
    let bytes = std::fs::read(trained()).unwrap();
    std::fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    run(folder.path(), &half, "").code(2).stderr(contains("half.onnx").and(contains("truncated")));
    run(folder.path(), &folder.path().join("absent.onnx"), "").code(2).stderr(contains("absent.onnx"));
}

#[test]
fn images_of_another_size_are_refused_with_both_sizes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("models")).unwrap();
    run(folder.path(), &trained(), "").success();
    std::fs::write(folder.path().join("suite.toml"), SUITE.replace("image_size = 24", "image_size = 32")).unwrap();
    let mut command = program();
    command.arg("run").arg(folder.path().join("suite.toml")).arg("--quiet");
    for (flag, name) in [("--out", "other"), ("--models", "models"), ("--data", "data")] {
        command.arg(flag).arg(folder.path().join(name));
    }
    command
        .assert()
        .code(2)
        .stderr(contains("24 × 24").and(contains("image_size = 32")).and(contains("resize = { to = 24 }")));
}
