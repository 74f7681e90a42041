//! `accept` and `check` on real runs of a foreign file: planted faults, bad input, outputs.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use mdprop::onnx;
use mdprop::record::{self, Run, history};
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;

use crate::program;

const SUITE: &str = r#"
schema = 1
about = "a small nightly suite"
seed = 3
[dataset.glyphs]
image_size = 32
classes = 24
per_class = 30
seed = 2
[evaluation]
recall_at = [1, 4]
metrics = ["map@r", "mrr"]
batch_size = 16
gallery = 0
[[model]]
id = "mine"
[[attack]]
name = "single-target"
side = "query"
goal.single-target = {}
method.pgd = { epsilon = "4/255", steps = 3 }
"#;

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/reference/glyph-encoder.onnx")
}

/// A place with a suite `night`, a card and what a run leaves.
struct Night {
    folder: tempfile::TempDir,
}

impl Night {
    fn new(suite: &str, onnx: &Path, card: &str) -> Self {
        let night = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(night.at("models")).unwrap();
        let card = format!("schema = 1\nabout = \"mine\"\nonnx = {:?}\n{card}", onnx.display().to_string());
        std::fs::write(night.at("models/mine.toml"), card).unwrap();
        std::fs::write(night.at("night.toml"), suite).unwrap();
        night
    }

    fn measured(suite: &str, onnx: &Path, card: &str) -> Self {
        let night = Self::new(suite, onnx, card);
        night.run(&[]).success();
        night
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, more: &[&str]) -> assert_cmd::assert::Assert {
        let mut command = program();
        command.arg("measure").arg(self.at("night.toml")).arg("--quiet").args(more);
        command.arg("--out").arg(self.at("run"));
        self.folders(&mut command);
        command.assert()
    }

    fn folders(&self, command: &mut assert_cmd::Command) {
        for name in ["artifacts", "data", "models"] {
            command.arg(format!("--{name}")).arg(self.at(name));
        }
    }

    fn accept(&self, more: &[&str]) -> assert_cmd::assert::Assert {
        let mut command = program();
        command.arg("accept").arg(self.at("run")).args(["--by", "a test", "--reason", "first"]).args(more);
        command.arg("--baselines").arg(self.at("baselines")).assert()
    }

    /// Checks this night's run against another's baseline.
    fn check(&self, other: &Self, more: &[&str]) -> assert_cmd::assert::Assert {
        let mut command = program();
        command.arg("check").arg(self.at("run")).arg("--against").arg(other.at("baselines/night")).args(more);
        command.assert()
    }

    fn read(&self) -> Run {
        record::folder::read(&self.at("run")).unwrap()
    }

    /// The same night in a place of its own, its record changed.
    fn with(&self, change: impl FnOnce(&mut Run)) -> Self {
        let night = Self::new(SUITE, &reference(), "");
        let mut run = self.read();
        change(&mut run);
        record::folder::write(&run, &night.at("run")).unwrap();
        night
    }
}

/// The accepted night that the tests of this file compare with.
fn accepted() -> &'static Night {
    static NIGHT: OnceLock<Night> = OnceLock::new();
    NIGHT.get_or_init(|| {
        let night = Night::measured(SUITE, &reference(), "");
        night.accept(&[]).success().stdout(contains("accepted.toml").and(contains("by a test: first")));
        night
    })
}

#[test]
fn another_thread_count_and_batch_size_are_no_alarm() {
    let other = Night::new(&SUITE.replace("batch_size = 16", "batch_size = 5"), &reference(), "");
    other.run(&["--threads", "1"]).success();
    let checked = other.check(accepted(), &[]).code(0);
    checked.stdout(contains("same file: flipped queries are counted").and(contains("passed")).and(contains("plan")));
}

#[test]
fn a_weight_that_changed_by_one_percent_is_named_where_files_are_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = onnx::file::read(&reference()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let weights = graph.initializer.iter_mut().find(|t| t.name == "block2.conv.weight").unwrap();
    // The largest weight, wherever the file keeps its bytes.
    let mut raw = weights.raw_data.take().expect("the reference model keeps raw bytes").to_vec();
    let value = |raw: &[u8], i: usize| f32::from_le_bytes(raw[4 * i..4 * i + 4].try_into().unwrap());
    let largest = (0..raw.len() / 4).max_by(|&a, &b| value(&raw, a).abs().total_cmp(&value(&raw, b).abs())).unwrap();
    let moved = (value(&raw, largest) * 1.01).to_le_bytes();
    raw[4 * largest..4 * largest + 4].copy_from_slice(&moved);
    weights.raw_data = Some(raw.into());
    let path = folder.path().join("moved.onnx");
    onnx::file::write_atomic(&path, &model).unwrap();
    let moved = Night::measured(SUITE, &path, "");
    // No metric can show it ...
    moved.check(accepted(), &[]).code(0).stdout(contains("new file: paired tests per query"));
    // ... but the file is not the one that was accepted.
    let pinned = accepted().with(|_| ());
    pinned.accept(&["--pin"]).success();
    let checked = moved.check(&pinned, &[]).code(1);
    checked.stdout(contains("artefact: mine: its file is").and(contains("file of mine seed 0")));
}

#[test]
fn a_swapped_batch_norm_branch_is_drift() {
    let suite = SUITE.replace("classes = 24", "classes = 48");
    // Both branches of one network; tests/data/drift/branches.toml makes them.
    let branch = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/drift").join(name);
    let good = Night::measured(&suite, &branch("main.onnx"), "");
    good.accept(&["--pin"]).success();
    let named = || contains("drift: mine seed 0 clean: recall@1 was").and(contains("artefact: mine: its file is"));
    // The wrong branch is deployed.
    let other = Night::measured(&suite, &branch("aux1.onnx"), "");
    other.check(&good, &[]).code(1).stdout(named());
    // One layer has the batch norm of the other branch: the exporter folds it into the convolution.
    let mut model = onnx::file::read(&branch("main.onnx")).unwrap();
    let donor = onnx::file::read(&branch("aux1.onnx")).unwrap().graph.unwrap().initializer;
    let own = &mut model.graph.as_mut().unwrap().initializer;
    for tensor in own.iter_mut().filter(|t| t.name.starts_with("block1.conv.")) {
        tensor.clone_from(donor.iter().find(|t| t.name == tensor.name).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let mixed = folder.path().join("mixed.onnx");
    onnx::file::write_atomic(&mixed, &model).unwrap();
    let mixed = Night::measured(&suite, &mixed, "");
    mixed.check(&good, &[]).code(1).stdout(named().and(contains("file of mine seed 0")));
}

#[test]
fn every_query_has_its_map_at_r() {
    let run = accepted().read();
    for m in &run.measurements {
        let own: Vec<f64> = run.queries.iter().filter(|q| q.trial == m.trial).filter_map(|q| q.map_at_r).collect();
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        let metric = m.metrics.iter().find(|e| e.metric.to_string() == "map@r").unwrap().estimate.unwrap();
        assert_eq!(own.len(), m.queries as usize);
        assert!((mean - metric.value).abs() < 1e-12, "{}: {mean} and {}", m.attack, metric.value);
    }
}

#[test]
fn another_resize_filter_is_drift() {
    // Pictures of 64 pixels for a model of 32: every second pixel instead of an average.
    let suite = SUITE.replace("image_size = 32", "image_size = 64");
    let card =
        |filter: &str| format!("resize = {{ to = 32, filter = \"{filter}\", antialias = {} }}\n", filter != "nearest");
    let good = Night::measured(&suite, &reference(), &card("bilinear"));
    good.accept(&[]).success();
    let other = Night::measured(&suite, &reference(), &card("nearest"));
    other.check(&good, &[]).code(1).stdout(contains("drift: mine seed 0").and(contains("more than the floor")));
}

#[test]
fn five_percent_of_the_queries_missing_is_a_failure_of_coverage() {
    // 12 test classes of 30 images are 360 queries.
    let fewer = Night::measured(&SUITE.replace("[evaluation]", "[evaluation]\nqueries = 342"), &reference(), "");
    fewer.check(accepted(), &[]).code(4).stdout(contains("18 of 360 queries are missing (5.0 %)"));
}

#[test]
fn labels_shuffled_for_one_class_are_other_data() {
    let pictures = tempfile::tempdir().unwrap();
    let draw = |class: u32, image: u32| {
        let mut picture = image::RgbImage::new(32, 32);
        for (x, y, pixel) in picture.enumerate_pixels_mut() {
            let wave = (x * (1 + class % 4) + y * (1 + class / 4) + 3 * image) % 32;
            *pixel = image::Rgb([(8 * wave) as u8, (20 * class) as u8, (255 - 8 * wave) as u8]);
        }
        let folder = pictures.path().join(format!("class-{class:02}"));
        std::fs::create_dir_all(&folder).unwrap();
        picture.save(folder.join(format!("{image}.png"))).unwrap();
    };
    (0..12).for_each(|class| (0..8).for_each(|image| draw(class, image)));
    let dataset = format!("[dataset.folder]\npath = {:?}\nimage_size = 32\n", pictures.path().display().to_string());
    let from = SUITE.find("[dataset.glyphs]").unwrap();
    let to = SUITE.find("[evaluation]").unwrap();
    let suite = format!("{}{dataset}{}", &SUITE[..from], &SUITE[to..]);
    let good = Night::measured(&suite, &reference(), "");
    good.accept(&[]).success();
    good.check(&good, &[]).code(0);
    // The pictures of the last class change places with those of the two before it.
    let place = |class: u32, image: u32| pictures.path().join(format!("class-{class:02}/{image}.png"));
    for image in 0..8 {
        let (a, b) = (place(11, image), place(9 + image % 2, image));
        let (x, y) = (std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        std::fs::write(&a, y).unwrap();
        std::fs::write(&b, x).unwrap();
    }
    let shuffled = Night::measured(&suite, &reference(), "");
    let checked = shuffled.check(&good, &[]).code(2);
    checked.stdout(contains("data: ").and(contains("no number can be compared")).and(contains("images (digest)")));
}

#[test]
fn a_failure_that_does_not_repeat_when_measured_again_is_a_note() {
    // A machine that once gave wrong neighbours.
    let glitch = accepted().with(|run| {
        let trial = run.measurements[0].trial.clone();
        let own = run.queries.iter_mut().filter(|q| q.trial == trial && q.query % 7 == 0);
        own.for_each(|q| q.first_hit = if q.first_hit == 1 { 9 } else { 1 });
    });
    let alone = glitch.check(accepted(), &[]).code(1);
    alone.stdout(contains("the same file gives").and(contains("may flip by rounding")));
    let confirm = |night: &Night, other: &Night| {
        let mut command = program();
        command.arg("check").arg(night.at("run")).arg("--against").arg(other.at("baselines/night")).arg("--quiet");
        command.arg("--confirm").arg(night.at("night.toml"));
        night.folders(&mut command);
        command.assert()
    };
    confirm(&glitch, accepted()).code(0).stdout(contains("not confirmed: mine seed 0 clean recall@1"));
    // A failure that stays: the baseline is of another world.
    let other = accepted().with(|run| run.queries.iter_mut().for_each(|q| q.first_hit = 1));
    other.accept(&[]).success();
    let real = accepted().with(|_| ());
    confirm(&real, &other).code(1).stdout(contains("confirmed by measuring their trials again"));
}

#[test]
fn every_output_says_the_same() {
    let worse = accepted().with(|run| {
        run.queries.iter_mut().for_each(|q| q.first_hit += 50);
        run.manifest.versions[0].1 = "9.9.9".into();
    });
    let reports = worse.at("reports");
    let summary = worse.at("summary.md");
    let mut command = program();
    command.arg("check").arg(worse.at("run")).arg("--against").arg(accepted().at("baselines/night"));
    command.args(["--format", "github", "--reports"]).arg(&reports).env("GITHUB_STEP_SUMMARY", &summary);
    let out = command.assert().code(1).get_output().stdout.clone();
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("::error file=suites/night.toml,title=drift%3A mine seed 0 clean recall@1::"), "{out}");
    assert!(out.contains("::notice title=suspect::onnxruntime: ") && out.contains("→ 9.9.9"), "{out}");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(reports.join("check.json")).unwrap()).unwrap();
    assert_eq!((json["exit_code"].as_u64(), json["passed"].as_bool()), (Some(1), Some(false)));
    let findings = json["findings"].as_array().unwrap();
    let sarif: serde_json::Value =
        serde_json::from_slice(&std::fs::read(reports.join("check.sarif")).unwrap()).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), findings.len());
    let junit = std::fs::read_to_string(reports.join("junit.xml")).unwrap();
    assert_eq!(junit.matches("<failure ").count(), findings.len());
    assert_eq!(junit.matches("<testcase ").count(), json["cells"].as_array().unwrap().len());
    for (open, close) in [("<testsuite ", "</testsuite>"), ("<testcase ", "</testcase>"), ("<failure ", "</failure>")] {
        assert_eq!(junit.matches(open).count(), junit.matches(close).count());
    }
    let markdown = std::fs::read_to_string(reports.join("check.md")).unwrap();
    assert_eq!(markdown, std::fs::read_to_string(&summary).unwrap());
    assert!(markdown.contains("### Suspects") && markdown.contains("| mine seed 0 clean | recall@1 |"), "{markdown}");
}

#[test]
fn the_history_has_one_row_per_trial_and_night() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.parquet");
    let check = |night: &Night| {
        night.check(accepted(), &["--history", path.to_str().unwrap()]).code(0);
    };
    check(accepted());
    check(accepted());
    let trials = accepted().read().measurements.len();
    assert_eq!(history::read(&path).unwrap().len(), trials, "checked twice is one night");
    check(&accepted().with(|run| run.manifest.started_unix_s += 86_400));
    let early = accepted().with(|run| run.manifest.started_unix_s -= 86_400);
    let noted = early.check(accepted(), &["--history", path.to_str().unwrap()]).code(0);
    noted.stdout(contains("a clock that is wrong"));
    let rows = history::read(&path).unwrap();
    let nights: Vec<u32> = rows.iter().map(|r| r.night.number).collect();
    assert_eq!((rows.len(), nights.last()), (3 * trials, Some(&3)));
    // Half a history is an error, and stays what it is.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let cut = accepted().check(accepted(), &["--history", path.to_str().unwrap()]).code(2);
    cut.stderr(contains("history.parquet"));
    assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len() / 2);
}

#[test]
fn bad_input_is_refused_and_no_baseline_is_damaged() {
    let night = accepted().with(|_| ());
    night.accept(&[]).success();
    let baseline = night.at("baselines/night/accepted.toml");
    let good = std::fs::read(&baseline).unwrap();
    // An edited baseline is neither used nor replaced.
    let text = String::from_utf8(good.clone()).unwrap();
    std::fs::write(&baseline, text.replacen("\"recall@1\", 0.", "\"recall@1\", 0.9", 1)).unwrap();
    night.check(&night, &[]).code(2).stderr(contains("edited by hand").and(contains("accepted.toml")));
    night.accept(&[]).code(2).stderr(contains("edited by hand"));
    std::fs::write(&baseline, &good).unwrap();
    // A reason that says nothing; a run with a failed trial.
    let mut command = program();
    command.arg("accept").arg(night.at("run")).args(["--by", "me", "--reason", " "]).arg("--baselines");
    command.arg(night.at("baselines")).assert().code(2).stderr(contains("the reason is empty"));
    let failed = night.with(|run| run.measurements[1].error = Some("out of memory".into()));
    failed.check(&night, &[]).code(4).stdout(contains("the trial failed: out of memory"));
    failed.accept(&[]).code(2).stderr(contains("out of memory"));
    // A run cut short, a truncated table, another suite, nothing at all.
    let cut = night.with(|_| ());
    let queries = cut.at("run/queries.parquet");
    let bytes = std::fs::read(&queries).unwrap();
    std::fs::write(&queries, &bytes[..bytes.len() / 3]).unwrap();
    cut.check(&night, &[]).code(2).stderr(contains("queries.parquet"));
    std::fs::remove_file(cut.at("run/manifest.json")).unwrap();
    cut.check(&night, &[]).code(2).stderr(contains("no finished run folder"));
    let other = night.with(|run| run.manifest.suite = "another".into());
    other.check(&night, &[]).code(2).stderr(contains("of suite `night`, the run of `another`"));
    let mut absent = program();
    absent.arg("check").arg(night.at("run")).arg("--against").arg(night.at("nothing"));
    absent.assert().code(2).stderr(contains("mdprop accept RUN"));
    let queries = night.with(|run| run.queries.iter_mut().for_each(|q| q.query += 1));
    queries.check(&night, &[]).code(2).stdout(contains("other queries"));
    assert_eq!(std::fs::read(&baseline).unwrap(), good);
    // Another run folder serves as a baseline too.
    let mut folder = program();
    folder.arg("check").arg(night.at("run")).arg("--against").arg(accepted().at("run")).assert().code(0);
}
