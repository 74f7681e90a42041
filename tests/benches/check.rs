//! `mdprop check` and `mdprop compare` on a million per-query rows, and the start of the program: wall time and peak memory of
//! the program itself. `cargo bench --bench check`; numbers in docs/drift.md.
#![allow(missing_docs)]
#![allow(clippy::print_stdout, reason = "a bench talks to its user")]

use std::path::Path;

use mdprop::drift::baseline::{Baseline, Decision};
use mdprop::record::folder;

mod million;

fn main() {
    let place = std::env::temp_dir().join(format!("mdprop-bench-check-{}", std::process::id()));
    let path = |name: &str| place.join(name).display().to_string();
    let (first, second) = (million::run(0), million::run(1));
    folder::write(&first, Path::new(&path("a"))).expect("room for the runs");
    folder::write(&second, Path::new(&path("b"))).expect("room for the runs");
    let decision =
        Decision { who: "bench".into(), why: "bench".into(), unix_s: 1, floors: Default::default(), pinned: None };
    let accepted = Baseline::accept(first, "a", None, &decision).expect("a run without failures");
    accepted.write(Path::new(&path("accepted.toml"))).expect("room for the baseline");
    println!("{} rows a run", million::TRIALS * million::QUERIES);
    million::report("start (--version)", &["--version"]);
    million::report("start (operators)", &["operators"]);
    million::report("check against a baseline", &["check", &path("b"), "--against", &path("accepted.toml")]);
    million::report("check against a run", &["check", &path("b"), "--against", &path("a")]);
    million::report("compare", &["compare", &path("a"), &path("b")]);
    // Best effort: it is a folder for temporary files.
    let _ = std::fs::remove_dir_all(&place);
}
