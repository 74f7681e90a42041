//! `mdprop compare`: two runs, two models of a run, and what it refuses.

use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;

use crate::pipeline::finished;
use crate::program;

#[test]
fn a_run_is_identical_to_itself_in_every_form() {
    let run = finished().folder.path().join("run");
    let mut text = program();
    text.arg("compare").arg(&run).arg(&run).assert().success().stdout(contains("identical, query by query"));
    let mut markdown = program();
    markdown.arg("compare").arg(&run).arg(&run).args(["--format", "markdown"]);
    markdown.assert().success().stdout(contains("| question | metric |"));
    let mut json = program();
    let out = json.arg("compare").arg(&run).arg(&run).args(["--format", "json"]).output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let differences = value["differences"].as_array().unwrap();
    assert!(differences.len() > 10);
    assert!(differences.iter().all(|d| d["verdict"] == "identical" && d["p_value"] == 1.0));
}

#[test]
fn two_models_of_a_run_are_compared_on_the_same_queries() {
    let run = finished().folder.path().join("run");
    let mut command = program();
    command.arg("compare").arg(&run).args(["--models", "smoke-standard", "smoke-mdprop"]);
    command.assert().success().stdout(contains("A = smoke-standard").and(contains("recall@1")).and(contains("Holm")));
}

#[test]
fn what_is_no_run_or_no_model_is_bad_input() {
    let run = finished().folder.path().join("run");
    let mut nobody = program();
    nobody.arg("compare").arg(&run).args(["--models", "smoke-standard", "nobody"]);
    nobody.assert().code(2).stderr(contains("no model `nobody`"));
    let mut alone = program();
    alone.arg("compare").arg(&run).assert().code(2).stderr(contains("--models A B"));
    let mut absent = program();
    absent.arg("compare").arg(&run).arg("/nonexistent/run").assert().code(2).stderr(contains("/nonexistent/run"));
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&run).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let queries = folder.path().join("queries.parquet");
    let bytes = std::fs::read(&queries).unwrap();
    std::fs::write(&queries, &bytes[..bytes.len() / 2]).unwrap();
    let mut cut = program();
    cut.arg("compare").arg(&run).arg(folder.path()).assert().code(2).stderr(contains("queries.parquet"));
}
