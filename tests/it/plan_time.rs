//! `mdprop plan`: how long a run will take, or why that is not known.

use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;

use crate::program;

fn plan(suite: &str, flags: &[&str]) -> (assert_cmd::assert::Assert, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["plan", suite, "--threads", "2"]).args(flags);
    for flag in ["--data", "--artifacts"] {
        command.arg(flag).arg(folder.path().join("none"));
    }
    (command.assert(), folder)
}

#[test]
fn a_suite_of_foreign_files_is_timed_trial_by_trial() {
    let (assert, folder) = plan("suites/foreign.toml", &["--json"]);
    let output = assert.success().get_output().stdout.clone();
    let value: serde_json::Value = serde_json::from_slice(&output).unwrap();
    let trials = value.pointer("/time/estimate/models/0/trials").unwrap().as_array().unwrap();
    let seconds = |trial: &serde_json::Value| {
        let both = ["about", "at_most"].map(|key| trial["seconds"][key].as_f64().unwrap());
        // Nothing here stops early.
        assert_eq!(both[0], both[1]);
        both[0]
    };
    let names: Vec<&str> = trials.iter().map(|trial| trial["attack"].as_str().unwrap()).collect();
    assert_eq!(names, ["clean", "single-target", "single-target", "untargeted", "noise"]);
    let each: Vec<f64> = trials.iter().map(seconds).collect();
    assert!(each.iter().all(|seconds| *seconds > 0.0));
    // The larger radius is repeated in other batches and with more steps.
    assert!(each[2] > each[1], "{each:?}");
    let data = value.pointer("/time/estimate/data").unwrap().as_f64().unwrap();
    let total = value.pointer("/time/total/about").unwrap().as_f64().unwrap();
    assert!((each.iter().sum::<f64>() + data - total).abs() < 1e-9);
    assert!(!folder.path().join("none").exists(), "a plan leaves nothing behind");
}

#[test]
fn what_is_not_known_is_said_and_the_plan_is_printed_nevertheless() {
    let trials = || contains("\n4 models, 32 trials\n").or(contains(" trials\n"));
    let (assert, _folder) = plan("suites/demo.toml", &[]);
    assert.success().stdout(trials().and(contains("time: data set `emoji` is not in")));
    let (assert, _folder) = plan("suites/smoke.toml", &[]);
    assert.success().stdout(trials().and(contains("time: not known: no model is trained yet")));
    let (assert, _folder) = plan("suites/foreign.toml", &["--no-timing"]);
    assert.success().stdout(trials().and(contains("time: not asked for")));
}
