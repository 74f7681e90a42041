//! Broken ONNX files by the thousand: the reader, the checks, the shapes and the attack graph may refuse them, but may
//! not panic, hang, fill the memory or emit a graph that is none.
//!
//! Good models (built in `seeds`) and kept files (`tests/data/onnx/corpus`) are mutated, field by field and byte by byte,
//! from fixed seeds; what behaves in a new way is mutated further. `cargo test --release --test fuzz` runs for a few
//! seconds. By hand, longer: `MDPROP_FUZZ_SECONDS=600`; with `MDPROP_FUZZ_KEEP=FOLDER` inputs with a new behaviour are
//! written there. A file that broke something belongs into the corpus, with the mending.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stderr, reason = "a test says what it did")]

mod memory;
mod mutate;
mod seeds;
mod target;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use mutate::Mutator;
use target::Behaviour;

const THREADS: usize = 2;
const SECONDS: u64 = 20;
/// Inputs of a thread that a test run tries at most: from fixed seeds, so that a run sees the same ones on every machine, or
/// on a slow one the first of them.
const INPUTS: usize = 20_000;
/// Memory that one small input may take at once. The largest is a constant of the attack graph written out; weights
/// cannot be larger than the file.
const MOST_MEMORY: usize = 256 << 20;
const MOST_TIME: Duration = Duration::from_secs(2);
/// Inputs do not grow beyond this, so that a run sees many of them.
const LARGEST: usize = 64 << 10;
/// After this long on one input the process is ended, with the input written down.
const HANGS: Duration = Duration::from_secs(30);

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/onnx/corpus");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|f| (f.display().to_string(), std::fs::read(&f).unwrap())).collect()
}

/// Runs one input and says what went wrong, if anything.
fn check(bytes: &[u8]) -> Result<Behaviour, String> {
    memory::reset();
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| target::run(bytes)));
    let (mut took, peak) = (started.elapsed(), memory::peak());
    if took > MOST_TIME {
        // Somebody else may have had the processor.
        let again = Instant::now();
        let _ = catch_unwind(AssertUnwindSafe(|| target::run(bytes)));
        took = took.min(again.elapsed());
    }
    match outcome {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(format!("it panicked: {}", text.unwrap_or_default()))
        }
        Ok(_) if took > MOST_TIME => Err(format!("it took {took:?}")),
        Ok(_) if peak > MOST_MEMORY => Err(format!("it took {peak} bytes of memory")),
        Ok(behaviour) => behaviour,
    }
}

fn write_down(bytes: &[u8]) -> PathBuf {
    let name = format!("broken-{:016x}.onnx", mutate::hash(bytes));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn seconds() -> u64 {
    std::env::var("MDPROP_FUZZ_SECONDS").map_or(SECONDS, |text| text.parse().unwrap())
}

/// A run by hand goes on until its time is over.
fn inputs() -> usize {
    if std::env::var_os("MDPROP_FUZZ_SECONDS").is_some() { usize::MAX } else { INPUTS }
}

/// When the input that a thread works on was begun, in milliseconds since the start; 0 between inputs.
static BEGUN: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];

struct Worker {
    index: usize,
    start: Instant,
    rng: ChaCha8Rng,
    pool: Vec<Vec<u8>>,
    seen: HashSet<u64>,
    keep: Option<PathBuf>,
}

impl Worker {
    fn new(index: usize, start: Instant, pool: Vec<Vec<u8>>) -> Self {
        let keep = std::env::var_os("MDPROP_FUZZ_KEEP").map(PathBuf::from);
        let rng = ChaCha8Rng::seed_from_u64(0x6d64_7072_6f70 + index as u64);
        Self { index, start, rng, pool, seen: HashSet::new(), keep }
    }

    /// Returns the number of inputs tried, or what broke: the first of each kind.
    fn work(&mut self, until: Duration) -> Result<usize, Vec<String>> {
        let mutator = Mutator::new(&self.pool);
        let current = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("current-{}.onnx", self.index));
        let mut tried = 0;
        let mut broken: Vec<(String, String)> = vec![];
        while tried < inputs() && self.start.elapsed() < until && broken.len() < 20 {
            let bytes = mutator.mutant(&mut self.rng, &self.pool);
            if bytes.len() > LARGEST {
                continue;
            }
            // Only for the watchdog, which cannot reach into this thread.
            if tried % 64 == 0 {
                let _ = std::fs::write(&current, &bytes);
            }
            BEGUN[self.index].store(self.start.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
            let result = check(&bytes);
            BEGUN[self.index].store(0, Ordering::Relaxed);
            tried += 1;
            match result {
                Err(reason) => {
                    let kind: String = reason.chars().filter(|c| !c.is_ascii_digit()).collect();
                    if broken.iter().all(|(known, _)| *known != kind) {
                        let file = write_down(&bytes);
                        let text = format!("{}: {reason} (input {tried} of thread {})", file.display(), self.index);
                        broken.push((kind, text));
                    }
                }
                Ok(behaviour) if self.seen.insert(behaviour.0) && self.pool.len() < 4096 => {
                    if let Some(folder) = self.keep.as_ref().filter(|_| bytes.len() < 4096) {
                        std::fs::write(folder.join(format!("{:016x}.onnx", behaviour.0)), &bytes).unwrap();
                    }
                    self.pool.push(bytes);
                }
                Ok(_) => {}
            }
        }
        let broken: Vec<String> = broken.into_iter().map(|(_, text)| text).collect();
        if broken.is_empty() { Ok(tried) } else { Err(broken) }
    }
}

fn watch(start: Instant, until: Duration) {
    while start.elapsed() < until {
        std::thread::sleep(Duration::from_millis(200));
        for (index, begun) in BEGUN.iter().enumerate() {
            let begun = begun.load(Ordering::Relaxed);
            let now = start.elapsed().as_millis() as u64;
            if begun > 0 && now.saturating_sub(begun) > HANGS.as_millis() as u64 {
                eprintln!("thread {index} hangs on an input at or shortly after the file current-{index}.onnx");
                std::process::exit(101);
            }
        }
    }
}

#[test]
fn what_was_kept_still_holds() {
    let kept = corpus();
    assert!(kept.len() >= 12, "the corpus lies in tests/data/onnx/corpus");
    for (name, bytes) in kept {
        assert!(bytes.len() < 4096, "{name}: the corpus is made of small files");
        check(&bytes).unwrap_or_else(|reason| panic!("{name}: {reason}"));
    }
}

#[test]
fn good_models_reach_an_attack_graph() {
    for (name, bytes) in seeds::all() {
        assert_eq!(target::outcome(&bytes), Ok(()), "{name}");
    }
    for (name, bytes) in seeds::readable() {
        let read = mdprop::onnx::decode(bytes.into(), Path::new(name));
        assert!(read.is_ok(), "{name}: {}", read.unwrap_err());
    }
}

#[test]
fn every_cut_of_a_file_is_refused_or_read() {
    for (name, bytes) in seeds::all().into_iter().take(4) {
        for length in 0..bytes.len() {
            check(&bytes[..length]).unwrap_or_else(|reason| panic!("{name} cut to {length}: {reason}"));
        }
    }
}

#[test]
fn mutants_break_nothing() {
    // What panics is reported with its input; the place is in the message only here.
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        eprintln!("{}", text.lines().take(2).collect::<Vec<_>>().join(" "));
    }));
    let until = Duration::from_secs(seconds());
    let start = Instant::now();
    let seeds = seeds::all().into_iter().chain(seeds::readable()).map(|(_, bytes)| bytes);
    let pool: Vec<Vec<u8>> = seeds.chain(corpus().into_iter().map(|(_, bytes)| bytes)).collect();
    let results: Vec<Result<usize, Vec<String>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|index| {
                let pool = pool.clone();
                scope.spawn(move || Worker::new(index, start, pool).work(until))
            })
            .collect();
        scope.spawn(move || watch(start, until));
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let tried: usize = results.into_iter().map(|r| r.unwrap_or_else(|broken| panic!("{}", broken.join("\n")))).sum();
    eprintln!("{tried} inputs");
    assert!(tried > 500, "only {tried} inputs in {until:?}: too few to mean anything");
}
