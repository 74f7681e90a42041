//! A plan on several machines: parts in any order, one killed and repeated, merged to the bytes of one run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use predicates::str::contains;

use crate::pipeline::{assert_same, copy_folder, finished};
use crate::program;

/// A folder with the models of the finished run, so that no part trains.
fn machines() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&finished().folder.path().join("artifacts"), &folder.path().join("artifacts"));
    folder
}

fn run_part(folder: &Path, shard: &str, out: &str) -> assert_cmd::Command {
    let mut command = program();
    command.args(["run", "suites/smoke.toml", "--quiet", "--threads", "2", "--shard", shard]);
    for (flag, name) in [("--out", out), ("--artifacts", "artifacts"), ("--data", "data")] {
        command.arg(flag).arg(folder.join(name));
    }
    command.timeout(Duration::from_secs(240));
    command
}

fn merge(folder: &Path, parts: &[&str]) -> assert_cmd::Command {
    let mut command = program();
    command.arg("merge").args(parts.iter().map(|part| folder.join(part)));
    command.arg("--out").arg(folder.join("merged"));
    command
}

fn trials(part: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(part.join("trials")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn parts_in_any_order_one_of_them_killed_and_repeated_give_the_bytes_of_one_run() {
    let machines = machines();
    let folder = machines.path();
    // One part twice, and in the end the one that is killed: after its first trial there is no card yet.
    for (shard, out) in [("4/4", "parts/d"), ("1/4", "parts/a"), ("2/4", "parts/b"), ("2/4", "parts/b-again")] {
        run_part(folder, shard, out).assert().success().stdout(contains(format!("shard {shard}:")));
    }
    run_part(folder, "auto/4", "parts/c").env("JOB_COMPLETION_INDEX", "2").assert().success();
    // What a kill in the middle leaves: some trials, no card.
    let killed = folder.join("parts/c");
    std::fs::remove_file(killed.join("shard.json")).unwrap();
    let files = trials(&killed);
    assert!(files.len() > 1, "{files:?}");
    std::fs::remove_file(&files[0]).unwrap();
    merge(folder, &["parts"])
        .assert()
        .code(2)
        .stderr(contains("1 of 4 shards missing: 3; run each: mdprop run SUITE --shard I/4"));
    assert!(!folder.join("merged").exists());
    let kept = std::fs::metadata(&files[1]).unwrap().modified().unwrap();
    run_part(folder, "3/4", "parts/c").assert().success();
    assert_eq!(std::fs::metadata(&files[1]).unwrap().modified().unwrap(), kept, "a finished trial was made again");
    merge(folder, &["parts"]).assert().success().stdout(contains("report: "));
    assert_same(&folder.join("merged"), &finished().folder.path().join("run"));

    // A machine whose pictures are others: numbers are not lost for want of pictures.
    let flips = |run: &str| mdprop::record::folder::read(&folder.join(run)).unwrap().flips;
    assert!(!flips("merged").is_empty());
    for part in std::fs::read_dir(folder.join("parts")).unwrap() {
        let card = part.unwrap().path().join("shard.json");
        let text = std::fs::read_to_string(&card).unwrap();
        let other = text.replace("\"per_class\": 12", "\"per_class\": 13");
        assert_ne!(text, other);
        std::fs::write(&card, other).unwrap();
    }
    merge(folder, &["parts"]).assert().success().stderr(contains("merged without pictures of flipped queries"));
    assert!(flips("merged").is_empty());
}

#[test]
fn what_is_no_run_is_not_merged() {
    let machines = machines();
    let folder = machines.path();
    for index in 1..=2 {
        run_part(folder, &format!("{index}/2"), &format!("two/{index}")).assert().success();
    }
    merge(folder, &["absent"]).assert().code(2).stderr(contains("absent"));
    merge(folder, &["artifacts"]).assert().code(2).stderr(contains("no shard.json"));
    merge(folder, &["two/1"]).assert().code(2).stderr(contains("1 of 2 shards missing: 2"));

    // Another cut of the same plan.
    run_part(folder, "1/3", "three/1").assert().success();
    merge(folder, &["two", "three/1"])
        .assert()
        .code(2)
        .stderr(contains("the number of shards is 2 in the first and 3"));

    let card = folder.join("two/2/shard.json");
    let whole = std::fs::read_to_string(&card).unwrap();
    let edited = |from: &str, to: &str, why: &str| {
        assert!(whole.contains(from), "{from}");
        std::fs::write(&card, whole.replacen(from, to, 1)).unwrap();
        merge(folder, &["two"]).assert().code(2).stderr(contains(why));
        std::fs::write(&card, &whole).unwrap();
    };
    let value: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let text = |pointer: &str| value.pointer(pointer).unwrap().as_str().unwrap().to_string();
    edited(&text("/manifest/plan"), &"0".repeat(64), "parts of different runs: the plan's digest");
    edited(&text("/manifest/dataset_digest"), &"0".repeat(64), "parts of different runs: the data set's digest");
    let (_, file) = value.pointer("/models/0/files").unwrap().as_object().unwrap().iter().next().unwrap();
    edited(file.as_str().unwrap(), &"0".repeat(64), "parts of different runs: the file of model");
    edited("\"schema\": 1", "\"schema\": 9", "has schema 9, wanted 1");
    edited("\"done\"", "\"don\"", "run that shard again");
    std::fs::write(&card, &whole[..whole.len() / 2]).unwrap();
    merge(folder, &["two"]).assert().code(2).stderr(contains("shard.json"));
    std::fs::write(&card, &whole).unwrap();

    // A trial of this part: its folder also has the clean ones that it compares with.
    let done = value.pointer("/done").unwrap().as_object().unwrap().values().next().unwrap();
    let trial = folder.join(format!("two/2/trials/{}.json", done[0]["key"].as_str().unwrap()));
    let bytes = std::fs::read(&trial).unwrap();
    std::fs::write(&trial, &bytes[..bytes.len() / 2]).unwrap();
    merge(folder, &["two"]).assert().code(2).stderr(contains("its digest is"));
    std::fs::write(&trial, &bytes).unwrap();
    merge(folder, &["two"]).assert().success();
}

#[test]
fn job_files_name_the_suite_and_the_number_of_parts() {
    let plan = |format: &str| {
        let mut command = program();
        command.args(["plan", "suites/smoke.toml", "--shards", "3", "--format", format]);
        command.assert().success()
    };
    let whole = program().args(["plan", "suites/smoke.toml", "--no-timing"]).assert().success();
    assert!(String::from_utf8_lossy(&whole.get_output().stdout).contains(" trials"));
    plan("text").stdout(contains("1/3: ")).stdout(contains("3/3: ")).stdout(contains("smoke-mdprop seed 0 clean"));
    plan("github").stdout(contains("matrix: { shard: [1, 2, 3] }")).stdout(contains("run suites/smoke.toml --shard"));
    plan("slurm").stdout(contains("--array=1-3")).stdout(contains("--shard auto/3"));
    plan("kubernetes").stdout(contains("completions: 3")).stdout(contains("--shard auto/3"));
    let mut bad = program();
    bad.args(["run", "suites/smoke.toml", "--shard", "4/3"]).assert().code(2).stderr(contains("counted from 1 to 3"));
    let mut alone = program();
    alone.args(["run", "suites/smoke.toml", "--shard", "auto/3"]).env_remove("SLURM_ARRAY_TASK_ID");
    alone.env_remove("JOB_COMPLETION_INDEX").assert().code(2).stderr(contains("neither SLURM_ARRAY_TASK_ID"));
}

/// Two models of which each crafts for the other, as in suites/attack/transfer.toml, in seconds.
fn transfer_suite(folder: &Path) -> PathBuf {
    let smoke = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/smoke.toml")).unwrap();
    let (head, _) = smoke.split_once("[[attack]]").unwrap();
    let head = head.replace("batch_size = 16", "batch_size = 16\nqueries = 16");
    let attack = r#"
[[attack]]
name = "moved"
side = "query"
crafted_by = ["all"]
goal.untargeted = {}
method.pgd = { epsilon = "8/255", steps = 2 }
"#;
    let suite = folder.join("transfer.toml");
    std::fs::write(&suite, format!("{head}{attack}")).unwrap();
    suite
}

#[test]
fn a_part_has_the_models_that_craft_for_its_own_and_the_record_names_their_files() {
    let machines = machines();
    let folder = machines.path();
    let suite = transfer_suite(folder);
    let run = |out: &str, shard: Option<&str>| {
        let mut command = program();
        command.arg("run").arg(&suite).args(["--quiet", "--threads", "2"]);
        command.args(shard.iter().flat_map(|shard| ["--shard", shard]));
        for (flag, name) in [("--out", out), ("--artifacts", "artifacts"), ("--data", "data")] {
            command.arg(flag).arg(folder.join(name));
        }
        command.assert()
    };
    run("whole", None);
    let whole = mdprop::record::folder::read(&folder.join("whole")).unwrap();
    let own = |model: &str| {
        let clean = whole.measurements.iter().find(|m| m.model == model && m.attack == "clean").unwrap();
        clean.artefact.clone()
    };
    assert_ne!(own("smoke-standard"), own("smoke-mdprop"));
    for other in ["smoke-standard", "smoke-mdprop"] {
        let mut rows = whole.measurements.iter().filter(|m| m.crafted_by == other && m.model != other).peekable();
        assert!(rows.peek().is_some(), "nothing was crafted by {other}");
        assert!(rows.all(|m| m.crafter == own(other) && m.artefact == own(&m.model)), "{other}");
    }
    for index in 1..=4 {
        run(&format!("parts/{index}"), Some(&format!("{index}/4")));
    }
    let merged = merge(folder, &["parts"]).assert().get_output().clone();
    assert!(folder.join("merged/manifest.json").is_file(), "{}", String::from_utf8_lossy(&merged.stderr));
    assert_same(&folder.join("merged"), &folder.join("whole"));
}
