//! Every suite and model of the repository reads, checks and plans.

use std::path::{Path, PathBuf};

use mdprop::suite::load::parse_model;
use mdprop::suite::plan::Plan;

fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("models/artifacts") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "toml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_suite_plans() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let suites = files("suites");
    assert!(suites.len() >= 2);
    for suite in suites {
        let plan = Plan::read(&suite, &models).unwrap_or_else(|e| panic!("{e}"));
        assert!(!plan.models.is_empty());
    }
}

#[test]
fn every_model_reads() {
    let models = files("models");
    assert!(models.len() >= 6);
    for model in models {
        parse_model(&model, &std::fs::read_to_string(&model).unwrap()).unwrap_or_else(|e| panic!("{e}"));
    }
}
