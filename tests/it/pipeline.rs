//! The whole pipeline on the smoke suite: train, export, attack, record, report; then again, interrupted, and on
//! another number of threads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use mdprop::record::{Measurement, Run, folder};

use crate::program;

pub struct Finished {
    pub folder: tempfile::TempDir,
}

impl Finished {
    pub fn out(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    pub fn read(&self) -> Run {
        folder::read(&self.out()).unwrap()
    }
}

pub fn arguments(folder: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["run", "suites/smoke.toml", "--quiet"].map(OsString::from).into();
    for (flag, name) in [("--out", "run"), ("--artifacts", "artifacts"), ("--data", "data")] {
        arguments.extend([OsString::from(flag), folder.join(name).into()]);
    }
    arguments
}

pub fn command(folder: &Path) -> assert_cmd::Command {
    let mut command = program();
    command.args(arguments(folder)).args(["--threads", "2"]).timeout(Duration::from_secs(240));
    command
}

/// One run shared by the tests of this file.
pub fn finished() -> &'static Finished {
    static RUN: OnceLock<Finished> = OnceLock::new();
    RUN.get_or_init(|| {
        let run = Finished { folder: tempfile::tempdir().unwrap() };
        command(run.folder.path()).assert().success();
        run
    })
}

/// Every file of a run folder that must not depend on the time of day.
fn contents(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![out.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(out).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                open.push(path);
            } else if name != "manifest.json" && !name.starts_with("report.") {
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

pub fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (contents(a), contents(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{name} differs");
    }
}

fn row<'a>(run: &'a Run, model: &str, attack: &str, epsilon: &str) -> &'a Measurement {
    run.measurements
        .iter()
        .find(|m| m.model == model && m.attack == attack && m.epsilon == epsilon)
        .unwrap_or_else(|| panic!("no row {model} {attack} {epsilon}"))
}

#[test]
fn a_run_leaves_tables_charts_and_a_report() {
    let out = finished().out();
    for name in
        ["manifest.json", "measurements.parquet", "measurements.csv", "queries.parquet", "report.html", "report.md"]
    {
        assert!(std::fs::metadata(out.join(name)).unwrap().len() > 100, "{name}");
    }
    assert!(std::fs::read_dir(out.join("charts")).unwrap().count() >= 2);
    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    for text in ["smoke-standard", "smoke-mdprop", "<svg", "data:image/png;base64"] {
        assert!(html.contains(text), "{text}");
    }
}

#[test]
fn every_planned_trial_is_measured_without_error() {
    let run = finished().read();
    // standard: clean, 3 radii, 1 (no aux branch), 1; mdprop has one more, crafted on aux1, and so the worst of both
    assert_eq!(run.measurements.len(), 6 + 8);
    let mut worst = run.measurements.iter().filter(|m| m.crafted_on == "worst");
    assert!(worst.next().is_some_and(|m| m.attack == "multi-target-all") && worst.next().is_none());
    for m in &run.measurements {
        assert_eq!(m.error, None);
        assert!(m.queries > 50 && m.queries == m.queries_available, "{m:?}");
        assert_eq!(m.recall.iter().map(|r| r.k).collect::<Vec<_>>(), [1, 2, 4, 8]);
        for pair in m.recall.windows(2) {
            assert!(pair[0].estimate.value <= pair[1].estimate.value);
        }
        for r in &m.recall {
            assert!(r.estimate.low <= r.estimate.value && r.estimate.value <= r.estimate.high);
        }
    }
    assert!(run.measurements.iter().any(|m| m.crafted_on == "aux1" && m.answered_by == "main"));
}

#[test]
fn epsilon_zero_gives_exactly_the_clean_outcomes() {
    let run = finished().read();
    for model in ["smoke-standard", "smoke-mdprop"] {
        let (clean, zero) = (row(&run, model, "clean", "0"), row(&run, model, "single-target", "0"));
        assert_eq!(clean.recall, zero.recall);
        let of = |trial: &str| -> Vec<(u32, u32, Vec<u32>)> {
            let own = run.queries.iter().filter(|q| q.trial == trial);
            own.map(|q| (q.query, q.first_hit, q.neighbors.clone())).collect()
        };
        assert_eq!(of(&clean.trial), of(&zero.trial));
        assert_ne!(clean.trial, zero.trial);
    }
}

#[test]
fn attacks_stay_within_their_budget_and_hurt() {
    let run = finished().read();
    for m in run.measurements.iter().filter(|m| m.attack != "clean") {
        let linf = m.linf_max.unwrap();
        assert!(linf <= m.epsilon_pixels + 1e-6, "{} used {linf} of {}", m.attack, m.epsilon_pixels);
    }
    for model in ["smoke-standard", "smoke-mdprop"] {
        let clean = row(&run, model, "clean", "0").recall[0].estimate.value;
        let strong = row(&run, model, "single-target", "24/255");
        assert!(strong.recall[0].estimate.value < clean, "{model}: an attack of 24/255 changed nothing");
        assert!(strong.shift.unwrap().value > 0.1);
        assert!(strong.linf_max.unwrap() > 20.0 / 255.0);
    }
}

#[test]
fn no_soundness_check_fails() {
    for m in finished().read().measurements {
        // What is counted from other rows has its checks there.
        assert!(m.crafted_on == "worst" || m.checks.len() >= 3, "{}: {:?}", m.attack, m.checks);
        for check in &m.checks {
            assert!(check.passed, "{} {} {}: {}", m.model, m.attack, check.name, check.detail);
        }
    }
}

#[test]
fn the_same_command_again_does_nothing_and_gives_the_same_bytes() {
    let run = finished();
    let before = contents(&run.out());
    let clock = std::time::Instant::now();
    command(run.folder.path()).assert().success();
    assert!(clock.elapsed() < Duration::from_secs(20), "finished stages were redone");
    assert!(before == contents(&run.out()));
}

#[test]
fn another_number_of_threads_gives_the_same_bytes() {
    // The models are shared: libtorch's own sums depend on the number of threads, what is measured of a file does not.
    let other = tempfile::tempdir().unwrap();
    copy_folder(&finished().folder.path().join("artifacts"), &other.path().join("artifacts"));
    let mut command = program();
    command.args(arguments(other.path())).args(["--threads", "1"]).timeout(Duration::from_secs(240));
    command.assert().success();
    assert_same(&finished().out(), &other.path().join("run"));
}

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_run_killed_without_warning_continues_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    // Kill at several depths: while training, while measuring.
    for milliseconds in [700, 1500, 2500, 4000] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_mdprop"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(arguments(folder.path()))
            .args(["--threads", "2"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    }
    command(folder.path()).assert().success();
    assert_same(&finished().out(), &folder.path().join("run"));
}

#[test]
fn ctrl_c_stops_within_a_step_and_loses_nothing_that_was_finished() {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&finished().folder.path().join("artifacts"), &folder.path().join("artifacts"));
    // An attack that would take an hour.
    let smoke = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/smoke.toml")).unwrap();
    let suite = folder.path().join("slow.toml");
    std::fs::write(&suite, smoke.replace("steps = 5", "steps = 100000")).unwrap();
    let mut arguments = arguments(folder.path());
    arguments[1] = suite.into();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_mdprop"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(&arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let trials = folder.path().join("run/trials");
    let began = std::time::Instant::now();
    while std::fs::read_dir(&trials).map_or(0, |entries| entries.count()) < 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "clean and the zero radius take a moment only");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(300));
    let interrupted = std::time::Instant::now();
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(interrupted.elapsed() < Duration::from_secs(20), "took {:?}", interrupted.elapsed());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("stopped by the user"));
    assert_eq!(std::fs::read_dir(&trials).unwrap().count(), 2);
}

#[test]
fn a_damaged_trial_or_model_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    command(folder.path()).assert().success();
    let first = |path: &Path, end: &str| -> PathBuf {
        let mut found: Vec<PathBuf> = std::fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.to_string_lossy().ends_with(end))
            .collect();
        found.sort();
        found.remove(0)
    };
    // A truncated trial is measured again ...
    let trial = first(&folder.path().join("run/trials"), ".json");
    let bytes = std::fs::read(&trial).unwrap();
    std::fs::write(&trial, &bytes[..bytes.len() / 2]).unwrap();
    command(folder.path()).assert().success();
    assert_same(&finished().out(), &folder.path().join("run"));
    // ... a changed model is refused by name.
    let model = first(&first(&folder.path().join("artifacts"), ""), "model.onnx");
    std::fs::write(&model, b"not a model").unwrap();
    command(folder.path()).assert().code(2).stderr(predicates::str::contains("model.onnx"));
}
