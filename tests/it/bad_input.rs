//! What a user gets wrong, and what the program says. Every case is a sentence.

use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;

use crate::program;

const SUITE: &str = r#"
schema = 1
about = "a test"
[dataset.glyphs]
image_size = 24
classes = 24
per_class = 8
seed = 1
[[model]]
id = "smoke-standard"
[[attack]]
name = "single-target"
side = "query"
goal.single-target = {}
method.pgd = { epsilon = "8/255", steps = 3 }
"#;

fn plan(folder: &Path, suite: &str) -> Command {
    let path = folder.join("suite.toml");
    std::fs::write(&path, suite).unwrap();
    let mut command = program();
    command.arg("plan").arg(path).arg("--no-timing");
    command
}

fn refuses(suite: &str, wanted: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut assert = plan(folder.path(), suite).assert().code(2).stdout(predicate::str::is_empty());
    for text in wanted {
        assert = assert.stderr(contains(*text));
    }
}

#[test]
fn the_unchanged_suite_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    plan(folder.path(), SUITE).assert().success().stdout(contains("single-target: single-target by pgd at 8/255"));
}

#[test]
fn an_unknown_key_is_shown_with_its_line() {
    refuses(&SUITE.replace("steps = 3", "stps = 3"), &["stps", "steps", "suite.toml", "15"]);
}

#[test]
fn an_attack_on_a_branch_that_no_model_has_is_refused() {
    let on = |line: &str| SUITE.replace("side = \"query\"", &format!("side = \"query\"\n{line}"));
    refuses(&on("crafted_on = [\"aux1\"]"), &["single-target", "crafted on aux1", "no model of this suite"]);
    refuses(&on("answered_by = \"aux2\""), &["answered by aux2", "no model of this suite"]);
    // One model that has it is enough.
    let both = on("crafted_on = [\"aux1\"]").replace("[[attack]]", "[[model]]\nid = \"smoke-mdprop\"\n[[attack]]");
    let folder = tempfile::tempdir().unwrap();
    plan(folder.path(), &both).assert().success().stdout(contains("crafted on aux1"));
}

#[test]
fn a_batch_that_no_memory_holds_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/smoke-standard.toml");
    let recipe = std::fs::read_to_string(recipe).unwrap().replace("batch_size = 32", "batch_size = 100000000");
    std::fs::write(folder.path().join("smoke-standard.toml"), recipe).unwrap();
    let mut command = plan(folder.path(), SUITE);
    command.arg("--models").arg(folder.path()).assert().code(2).stderr(contains("batch_size = 100000000 is above"));
}

#[test]
fn an_unknown_key_at_the_top_is_refused() {
    refuses(&SUITE.replace("schema = 1", "schema = 1\nsede = 3"), &["sede", "seed"]);
}

#[test]
fn a_model_without_file_lists_the_known_ones() {
    refuses(&SUITE.replace("smoke-standard", "smoke-standart"), &["smoke-standart", "known models", "smoke-mdprop"]);
}

#[test]
fn epsilon_must_be_an_amount_of_pixels() {
    for (epsilon, wanted) in [
        ("\"-1/255\"", "outside [0, 1]"),
        ("nan", "outside [0, 1]"),
        ("\"300/255\"", "outside [0, 1]"),
        ("\"8/0\"", "divides by zero"),
    ] {
        refuses(&SUITE.replace("\"8/255\"", epsilon), &[wanted]);
    }
}

#[test]
fn epsilon_zero_is_allowed_because_it_must_equal_clean() {
    let folder = tempfile::tempdir().unwrap();
    plan(folder.path(), &SUITE.replace("\"8/255\"", "0")).assert().success();
}

#[test]
fn a_step_longer_than_the_radius_needs_a_word() {
    let long = SUITE.replace("steps = 3", "steps = 3, step_size = \"16/255\"");
    refuses(&long, &["step_size 16/255", "allow_overshoot"]);
    let folder = tempfile::tempdir().unwrap();
    plan(folder.path(), &long.replace("steps = 3", "steps = 3, allow_overshoot = true")).assert().success();
}

#[test]
fn all_mistakes_are_listed_at_once() {
    let wrong = SUITE
        .replace("schema = 1", "schema = 2")
        .replace("about = \"a test\"", "about = \"\"")
        .replace("steps = 3", "steps = 0");
    refuses(&wrong, &["schema = 2", "about is empty", "steps = 0"]);
}

#[test]
fn absurd_numbers_are_refused() {
    refuses(&SUITE.replace("steps = 3", "steps = 999999999"), &["steps = 999999999"]);
    refuses(&SUITE.replace("image_size = 24", "image_size = 0"), &["image_size"]);
    refuses(&SUITE.replace("image_size = 24", "image_size = 1000000"), &["image_size"]);
}

#[test]
fn a_missing_suite_is_named() {
    let assert = program().args(["run", "suites/absent.toml"]).assert().code(2);
    assert.stderr(contains("suites/absent.toml").and(contains("No such file").count(1)));
}

#[test]
fn a_suite_that_is_no_toml_is_shown() {
    refuses("this is not toml", &["suite.toml", "line 1"]);
}

#[test]
fn an_expectation_of_something_unmeasured_is_refused() {
    let wrong = format!("{SUITE}\n[[expect]]\nmetric = \"recall@3\"\nmodel = \"nobody\"\nattack = \"none\"\n");
    refuses(&wrong, &["no such model", "no such attack", "add it to evaluation.recall_at", "at_least"]);
    let expect = |metric: &str, attack: &str, bound: &str| {
        let head = format!("{SUITE}\n[[expect]]\nmetric = \"{metric}\"\nmodel = \"smoke-standard\"\n");
        format!("{head}attack = \"{attack}\"\nat_least = {bound}\n")
    };
    for (metric, attack, bound, wanted) in [
        ("map", "clean", "0.1", "unknown metric `map`"),
        ("nmi", "clean", "0.1", "add it to evaluation.metrics"),
        ("map@r", "clean", "40", "40 % is written as 0.4"),
        ("pi-ratio", "single-target", "0.1", "expect it under `clean`"),
        ("retained-share", "clean", "0.1", "only attacks have it"),
        ("robust-recall@1", "single-target", "0.1", "several attacks together"),
    ] {
        refuses(&expect(metric, attack, bound), &[wanted]);
    }
}

#[test]
fn a_metric_that_does_not_exist_or_has_a_place_of_its_own_is_refused() {
    let with = |list: &str| SUITE.replace("[[model]]", &format!("[evaluation]\nmetrics = {list}\n[[model]]"));
    refuses(&with("[\"map@r\", \"mapr\"]"), &["unknown metric `mapr`", "map@r", "suite.toml"]);
    refuses(&with("[\"rho@0\"]"), &["-1, or from 1"]);
    let wrong = with("[\"recall@2\", \"success\", \"robust-recall@1\", \"mrr\", \"mrr\"]");
    refuses(&wrong, &["write 2 into recall_at", "always measured", "always in the report", "mrr stands twice"]);
    let folder = tempfile::tempdir().unwrap();
    plan(folder.path(), &with("[]")).assert().success();
    plan(folder.path(), &with("[\"nmi\", \"rho@-1\"]\nclusters = \"training-classes\"")).assert().success();
}

#[test]
fn a_report_of_a_folder_that_is_no_run_names_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    program().arg("report").arg(folder.path()).assert().code(2).stderr(contains("manifest.json"));
}

/// Against the data, so only once it is there; before anything is trained.
#[test]
fn goals_that_the_data_cannot_serve_are_refused_before_training() {
    let refused = |goal: &str, wanted: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let suite = folder.path().join("suite.toml");
        std::fs::write(&suite, SUITE.replace("goal.single-target = {}", goal)).unwrap();
        let out = folder.path().join("out");
        let mut command = program();
        command.arg("run").arg(&suite).arg("--quiet").arg("--out").arg(&out);
        for text in wanted {
            command.assert().code(2).stderr(contains(*text));
        }
    };
    let few = ["goal multi-target(500) needs 500 other identities", "lower targets"];
    refused("goal.multi-target = { targets = 500 }", &few);
    let small = ["attack `single-target:ca+`: w = 999 is more than the", "lower w"];
    refused("goal.robrank = { w = 999 }", &small);
    refuses(&SUITE.replace("goal.single-target = {}", "goal.robrank = { w = 0 }"), &["w = 0 is outside 1 to 1000"]);
    let twice = SUITE.replace("goal.single-target = {}", "goal.robrank = { parts = [\"tma\", \"tma\"] }");
    refuses(&twice, &["a part stands twice"]);
}
