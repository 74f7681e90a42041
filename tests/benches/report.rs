//! `mdprop report` on a million per-query rows: wall time and peak memory of the program itself, which is to stay below 10 s
//! and 1 GiB. `cargo bench --bench report`; numbers in docs/reports.md. Folders named behind `--` are timed too.
#![allow(missing_docs)]
#![allow(clippy::print_stdout, reason = "a bench talks to its user")]

use std::path::Path;

use mdprop::record::folder;

mod million;

fn main() {
    let place = std::env::temp_dir().join(format!("mdprop-bench-report-{}", std::process::id()));
    let path = |name: &str| place.join(name).display().to_string();
    folder::write(&million::run(0), Path::new(&path("a"))).expect("room for the run");
    println!("{} rows", million::TRIALS * million::QUERIES);
    million::report("report", &["report", &path("a")]);
    million::report("leaderboard", &["report", &path("a"), "--threat", "single", "--out", &path("board")]);
    for named in std::env::args().skip(1).filter(|argument| !argument.starts_with('-')) {
        million::report(&format!("report of {named}"), &["report", &named]);
    }
    // Best effort: it is a folder for temporary files.
    let _ = std::fs::remove_dir_all(&place);
}
