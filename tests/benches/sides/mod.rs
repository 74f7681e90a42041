//! Two sides of a comparison, taking turns: a peer in a process of its own, quotients of neighbouring turns, one process
//! a case.
#![allow(dead_code, reason = "each bench uses its part")]

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The Python with the peers' libraries, if there is one.
pub fn python() -> Option<OsString> {
    std::env::var_os("MDPROP_PEER_PYTHON")
}

/// A script of `peers/` in a process of its own, which answers every line that it is sent with a line.
pub struct Peer {
    process: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    pub fn start(python: &OsStr, script: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/benches/peers")).join(script);
        let mut process = Command::new(python)
            .arg(script)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("MDPROP_PEER_PYTHON starts");
        let ask = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self { process, ask, answers }
    }

    pub fn answer(&mut self) -> String {
        self.answers.next().expect("the peer answers").expect("the peer writes text")
    }

    pub fn ask(&mut self, what: &str) -> String {
        writeln!(self.ask, "{what}").expect("the peer listens");
        self.answer()
    }

    pub fn number(&mut self, what: &str) -> f64 {
        self.ask(what).parse().expect("the peer answers with a number")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It has answered everything; an error means that it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder for what the sides share.
pub fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    folder
}

/// Floats as little-endian bytes.
pub fn write_floats(path: &Path, values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(path, bytes).expect("the temporary folder is writable");
}

/// Most memory that this process ever had, in MiB.
pub fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok()).map_or(f64::NAN, |kib| kib / 1024.0)
}

/// Processor time that this process has used so far, all its threads. On a busy machine it tells more than the clock.
pub fn processor_seconds() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux");
    let spent = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    threads.filter_map(spent).sum::<f64>() / 1e9
}

pub fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Median of the quotients of turns that followed each other: what else runs on the machine slows both.
pub fn ratio(above: &[f64], below: &[f64]) -> f64 {
    median(&above.iter().zip(below).map(|(a, b)| a / b).collect::<Vec<f64>>())
}

/// Measures each of `cases` whose name holds an argument of the program (all without arguments), in a process of its
/// own, so that its memory is its own.
pub fn each_alone<'a>(cases: impl Iterator<Item = &'a str>, measure: impl Fn(&str)) {
    const CASE: &str = "MDPROP_BENCH_CASE";
    if let Ok(name) = std::env::var(CASE) {
        return measure(&name);
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let this = std::env::current_exe().expect("this program has a path");
    for name in cases.filter(|name| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str()))) {
        let status = Command::new(&this).env(CASE, name).status().expect("this program starts");
        assert!(status.success(), "{name} failed");
    }
}
