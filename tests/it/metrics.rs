//! `mdprop metrics` on embeddings that another program wrote.

use std::path::Path;

use predicates::prelude::*;
use predicates::str::contains;

use crate::program;

/// The rows and labels of the fixture that pytorch-metric-learning and scikit-learn were asked about.
fn write_fixture(folder: &Path) -> serde_json::Value {
    let text = include_str!("../data/metric/peers.json");
    let fixture: serde_json::Value = serde_json::from_str(text).unwrap();
    let numbers =
        |key: &str| -> Vec<f64> { fixture[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect() };
    let labels = numbers("labels");
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, 16), }}\n", labels.len());
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(numbers("rows").into_iter().flat_map(|v| (v as f32).to_le_bytes()));
    std::fs::write(folder.join("rows.npy"), bytes).unwrap();
    let lines: String = labels.iter().map(|label| format!("{label}\n")).collect();
    std::fs::write(folder.join("labels.txt"), lines).unwrap();
    fixture
}

#[test]
fn the_numbers_of_embeddings_from_elsewhere_are_those_of_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = write_fixture(folder.path());
    let mut command = program();
    command.current_dir(folder.path()).args(["metrics", "rows.npy", "--labels", "labels.txt", "--json"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let metric = |name: &str| {
        let list = found["metrics"].as_array().unwrap();
        list.iter().find(|m| m["metric"] == name).unwrap()["estimate"].clone()
    };
    for (name, theirs) in [
        ("precision@1", "/pml/precision_at_1"),
        ("r-precision", "/pml/r_precision"),
        ("map@r", "/pml/mean_average_precision_at_r"),
        ("mrr", "/pml/mean_reciprocal_rank"),
        ("pi-ratio", "/official/pi_ratio"),
        ("rho@1", "/official/rho/1"),
        ("effective-rank", "/geometry/effective_rank"),
    ] {
        let theirs = fixture.pointer(theirs).unwrap().as_f64().unwrap();
        let estimate = metric(name);
        assert!((estimate["value"].as_f64().unwrap() - theirs).abs() < 2e-6, "{name}: {estimate}, theirs {theirs}");
        assert!(estimate["basis"].as_str().unwrap().contains("over 6 classes"), "{name}: {estimate}");
    }
}

#[test]
fn a_gallery_apart_and_a_list_of_metrics() {
    let folder = tempfile::tempdir().unwrap();
    write_fixture(folder.path());
    let mut command = program();
    command.current_dir(folder.path()).args(["metrics", "rows.npy", "--labels", "labels.txt", "--gallery", "rows.npy"]);
    command.args(["--gallery-labels", "labels.txt", "--metrics", "nmi,map@r", "--recall-at", "1"]);
    // Every row finds itself: nothing is excluded between two sets.
    command.assert().success().stdout(contains("recall@1 %                  100.00").and(contains("nmi %")));
}

#[test]
fn bad_files_and_names_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    write_fixture(folder.path());
    std::fs::write(folder.path().join("few.txt"), "1\n2\n").unwrap();
    for (arguments, wanted) in [
        (&["rows.npy", "--labels", "few.txt"][..], "few.txt: 2 labels for 58 embeddings"),
        (&["labels.txt", "--labels", "labels.txt"], "wanted a .npy or .safetensors file"),
        (&["none.npy", "--labels", "labels.txt"], "none.npy"),
        (&["rows.npy", "--labels", "labels.txt", "--metrics", "success"], "run a suite for it"),
        (&["rows.npy", "--labels", "labels.txt", "--metrics", "map"], "unknown metric `map`"),
        (&["rows.npy", "--labels", "labels.txt", "--gallery", "rows.npy"], "--gallery-labels"),
    ] {
        let mut command = program();
        command.current_dir(folder.path()).arg("metrics").args(arguments);
        command.assert().code(2).stderr(contains(wanted));
    }
}
