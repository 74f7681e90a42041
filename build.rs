//! Two facts that only the build knows: which commit it is of, and where libtorch lies.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    commit();
    if std::env::var_os("CARGO_FEATURE_TRAIN").is_some() {
        search_path();
    }
}

/// Sets `MDPROP_COMMIT` when the sources are a git checkout. Only the log of HEAD is watched (one line is added to it by
/// each commit and checkout), so that an ordinary build never runs this again.
fn commit() {
    let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).is_file()) else {
        return;
    };
    println!("cargo::rerun-if-changed={log}");
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo::rustc-env=MDPROP_COMMIT={commit}");
    }
}

/// Lets the program, tests, benches and doc-tests find libtorch without `LD_LIBRARY_PATH`, wherever the target folder and
/// `LIBTORCH` are. The folder that was linked comes first; the others, relative to the executable (the program lies in
/// `target/release/`, tests in `target/release/deps/`), are for a clone that is moved after the build.
fn search_path() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-env-changed=LIBTORCH_LIB");
    let linked = std::env::var("LIBTORCH_LIB").or_else(|_| std::env::var("LIBTORCH")).ok();
    let linked = linked.map(|root| format!("{root}/lib"));
    let moved = ["../..", "../../.."].map(|up| format!("$ORIGIN/{up}/.deps/libtorch/lib"));
    for folder in linked.into_iter().chain(moved) {
        // -Xlinker and not -Wl, which would cut a path at its commas.
        for argument in ["-Xlinker", "-rpath", "-Xlinker", &folder] {
            println!("cargo::rustc-link-arg={argument}");
        }
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
