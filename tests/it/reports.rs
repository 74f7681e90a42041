//! What `report` writes, and that a number can be made again from its key.

use mdprop::record::folder;

use crate::pipeline::finished;
use crate::program;

fn out() -> std::path::PathBuf {
    finished().folder.path().join("run")
}

#[test]
fn a_trial_made_again_by_its_key_is_the_same_to_the_bit() {
    let whole = finished().read();
    let trial = whole.measurements.iter().find(|m| m.attack == "single-target" && m.epsilon == "24/255").unwrap();
    let again = tempfile::tempdir().unwrap();
    let shared = |name: &str| finished().folder.path().join(name).into_os_string();
    let mut command = program();
    command.args(["run", "suites/smoke.toml", "--quiet", "--threads", "2", "--trial", &trial.trial]);
    command.arg("--out").arg(again.path()).arg("--artifacts").arg(shared("artifacts"));
    command.arg("--data").arg(shared("data")).assert().success();
    let found = folder::read(again.path()).unwrap();
    assert_eq!(found.measurements.len(), 1);
    assert_eq!(found.measurements[0].recall, trial.recall);
    let own: Vec<_> = whole.queries.iter().filter(|q| q.trial == trial.trial).collect();
    assert!(own.len() > 50 && own.iter().copied().eq(found.queries.iter()));
}

#[test]
fn an_unknown_key_is_bad_input_that_says_where_keys_are() {
    let shared = |name: &str| finished().folder.path().join(name).into_os_string();
    let again = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["run", "suites/smoke.toml", "--quiet", "--trial", "nonsense"]).arg("--out").arg(again.path());
    command.arg("--artifacts").arg(shared("artifacts")).arg("--data").arg(shared("data"));
    let said = command.assert().code(2).get_output().stderr.clone();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("no trial `nonsense`") && said.contains("measurements.csv"), "{said}");
}

#[test]
fn a_report_again_is_the_same_and_has_pictures_on_request() {
    // In a folder of its own: other tests compare the files of the shared one.
    let copy = tempfile::tempdir().unwrap();
    folder::write(&finished().read(), copy.path()).unwrap();
    program().arg("report").arg(copy.path()).arg("--png").assert().success();
    let page = |folder: &std::path::Path| std::fs::read(folder.join("report.html")).unwrap();
    assert!(page(copy.path()) == page(&out()), "the report written again differs");
    let png = std::fs::read(copy.path().join("charts/recall.png")).unwrap();
    assert_eq!(&png[1..4], b"PNG");
}

#[test]
fn several_runs_are_a_leaderboard_that_a_filter_narrows() {
    let board = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let run = finished().read();
    folder::write(&run, copy.path()).unwrap();
    let mut command = program();
    command.arg("report").arg(out()).arg(copy.path()).args(["--threat", "single-target", "--out"]).arg(board.path());
    let said = command.env("COLUMNS", "100").env_remove("NO_COLOR").assert().success().get_output().stdout.clone();
    let said = String::from_utf8(said).unwrap();
    assert!(said.lines().all(|line| line.chars().count() <= 100) && !said.contains('\u{1b}'), "{said}");
    assert!(said.trim_end().ends_with("leaderboard.html"), "{said}");
    let csv = std::fs::read_to_string(board.path().join("leaderboard.csv")).unwrap();
    assert!(csv.lines().skip(1).all(|line| line.contains("single-target")) && csv.lines().count() > 4, "{csv}");

    let wrong =
        program().arg("report").arg(out()).args(["--dataset", "cub"]).assert().code(2).get_output().stderr.clone();
    assert!(String::from_utf8_lossy(&wrong).contains("there are glyphs"), "{}", String::from_utf8_lossy(&wrong));
    program().arg("report").arg(out()).arg(out()).assert().code(2);
}
