//! `mdprop compare`: two runs, two models of a run, and what it refuses.

use mdprop::record::{Measurement, Right, folder};
use mdprop::suite::dataset::DatasetSpec;
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
fn a_run_keeps_the_queries_that_one_model_answers_and_the_other_does_not() {
    let run = finished().read();
    assert!(!run.flips.is_empty());
    let deployed = |m: &&Measurement| m.crafted_on == "main" && m.answered_by == "main" && m.model_seed == 0;
    for flip in &run.flips {
        assert_eq!((flip.a.as_str(), flip.b.as_str()), ("smoke-standard", "smoke-mdprop"));
        let (attack, epsilon) = flip.question.split_once(' ').unwrap_or((&flip.question, "0"));
        let outcome = |model: &str| {
            let own = |m: &&Measurement| m.model == model && m.attack == attack && m.epsilon == epsilon;
            let trial = &run.measurements.iter().filter(deployed).find(own).unwrap().trial;
            run.queries.iter().find(|q| q.trial == *trial && q.query == flip.query.index).unwrap()
        };
        let (a, b) = (outcome(&flip.a), outcome(&flip.b));
        assert_eq!(flip.first_hit, (a.first_hit, b.first_hit));
        assert_eq!((flip.right == Right::A, flip.right == Right::B), (a.first_hit == 1, b.first_hit == 1));
        for (nearest, outcome) in [(&flip.nearest_a, a), (&flip.nearest_b, b)] {
            assert!(nearest.iter().map(|p| p.index).eq(outcome.neighbors.iter().take(3).copied()));
        }
    }
    let html = std::fs::read_to_string(finished().folder.path().join("run/report.html")).unwrap();
    let section = html.split("<section id=\"flips\">").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(section.contains("smoke-standard alone right ") && section.contains("data:image/png;base64,"));
}

#[test]
fn a_page_shows_the_flipped_queries() {
    let run = finished().folder.path().join("run");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/comparison.html");
    let page = |more: &[&str]| {
        let mut command = program();
        command.arg("compare").arg(&run).args(more).arg("--report").arg(&path);
        let out = command.assert().success().get_output().stdout.clone();
        (String::from_utf8(out).unwrap(), std::fs::read_to_string(&path).unwrap())
    };
    let models = ["--models", "smoke-standard", "smoke-mdprop"];
    let (said, html) = page(&models);
    assert!(said.ends_with(&format!("report: {}\n", path.display())), "{said}");
    for text in ["smoke-mdprop right, smoke-standard wrong", "<b>✓ ", "<b>✗ ", "data:image/png;base64,", "seed 0 clean"]
    {
        assert!(html.contains(text), "{text}");
    }
    assert!(["<link", "src=\"http", "href=\"http"].iter().all(|outside| !html.contains(outside)));
    let (json, again) = page(&[&models[..], &["--format", "json"]].concat());
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok() && again == html);
    let (_, same) = page(&[run.to_str().unwrap()]);
    assert!(same.contains("identical, query by query") && !same.contains("<img"));
}

#[test]
fn a_page_without_its_pictures_says_what_is_missing() {
    let copy = tempfile::tempdir().unwrap();
    let mut run = finished().read();
    run.manifest.dataset_spec = Some(DatasetSpec::Emoji { image_size: 24, validation: 0.1 });
    folder::write(&run, copy.path()).unwrap();
    let page = copy.path().join("comparison.html");
    let mut command = program();
    command.arg("compare").arg(copy.path()).args(["--models", "smoke-standard", "smoke-mdprop"]);
    command.arg("--report").arg(&page).arg("--data").arg(copy.path().join("empty"));
    command.assert().code(2).stderr(contains("mdprop data fetch emoji").and(contains("--data FOLDER")));
    assert!(!page.exists());
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
