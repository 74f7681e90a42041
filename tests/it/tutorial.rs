//! The commands of `docs/tutorial.md`, run as a reader runs them.

use std::path::Path;
use std::process::Command;

/// The blocks that a reader types, in order; those marked `console` need a network or minutes.
fn blocks(text: &str) -> Vec<String> {
    text.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap().to_string()).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            if entry.file_name() != "artifacts" {
                copy(&path, &target);
            }
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn the_commands_of_the_tutorial_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/tutorial.md")).unwrap();
    let blocks = blocks(&text);
    assert!(blocks.len() >= 7, "{} blocks", blocks.len());
    let folder = tempfile::tempdir().unwrap();
    copy(&root.join("models"), &folder.path().join("models"));
    copy(&root.join("suites"), &folder.path().join("suites"));
    // What `make setup` fills.
    #[cfg(unix)]
    std::os::unix::fs::symlink(root.join(".deps"), folder.path().join(".deps")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_mdprop")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    for block in &blocks {
        let mut bash = Command::new("bash");
        let bash = bash.args(["-eu", "-o", "pipefail", "-c", block]).current_dir(folder.path());
        let done = bash.env("PATH", &path).env_remove("GITHUB_STEP_SUMMARY").output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(done.status.success(), "{block}\n{}\n{}", said(&done.stdout), said(&done.stderr));
    }
    for made in [
        "reports/runs/smoke/report.html",
        "reports/runs/mine/report.html",
        "reports/runs/mine/tables/headline.tex",
        "reports/leaderboard/leaderboard.html",
        "reports/history.parquet",
        "reports/check/junit.xml",
    ] {
        assert!(folder.path().join(made).is_file(), "{made} was not made");
    }
}

#[test]
fn every_page_of_the_documentation_that_is_linked_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(root.join("docs")).unwrap().map(|e| e.unwrap().path()) {
        if entry.extension().is_none_or(|e| e != "md") {
            continue;
        }
        for link in std::fs::read_to_string(&entry).unwrap().split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap();
            let outside = target.is_empty() || target.starts_with("http");
            assert!(outside || root.join("docs").join(target).exists(), "{}: {target} is not there", entry.display());
        }
    }
}
