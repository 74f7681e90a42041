//! A run with a million per-query rows, and the program timed on it.
#![allow(clippy::print_stdout, reason = "a bench talks to its user")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mdprop::record::{Estimate, Manifest, Measurement, QueryOutcome, RecallAt, Run, folder};
use mdprop::rng;

/// As many queries and classes as Stanford Online Products has; 16 trials are a million rows.
pub const QUERIES: u32 = 62_500;
const CLASSES: u32 = 11_316;
pub const TRIALS: u32 = 16;
/// Trials of a model.
const COLUMNS: u32 = TRIALS / 2;

/// The run of a night: two models, clean and under two attacks at up to four radii each.
pub fn run(night: u64) -> Run {
    let mut run = Run {
        manifest: Manifest {
            schema: folder::SCHEMA,
            suite: "million".into(),
            started_unix_s: 1 + night,
            ..Manifest::default()
        },
        ..Run::default()
    };
    for trial in 0..TRIALS {
        let key = format!("{trial:012x}");
        let (model, column) = (["a", "b"][(trial / COLUMNS) as usize], trial % COLUMNS);
        let (attack, level) = match column {
            0 => ("clean", 0),
            1..=4 => ("single", 2 << column),
            _ => ("multi", 2 << (column - 4)),
        };
        let mut world = rng::stream(1, "world", &[u64::from(trial)]);
        let mut draws = rng::stream(1, "night", &[night, u64::from(trial)]);
        let mut hits = 0;
        for query in 0..QUERIES {
            let mut rank = 1 + (1.0 / (f64::from(rng::unit(&mut world)) + 0.02)) as u32 % 60;
            if night > 0 && rng::unit(&mut draws) < 0.1 {
                rank = 1 + rank * 7 % 60;
            }
            hits += u32::from(rank == 1);
            run.queries.push(QueryOutcome {
                trial: key.clone(),
                query,
                label: query % CLASSES,
                first_hit: rank,
                neighbors: (0..8).map(|n| (query * 31 + n * 977) % QUERIES).collect(),
                targets: vec![(query + 7) % QUERIES],
                success: rank > 30,
                shift: level as f32 * 0.01 + 0.2 * rng::unit(&mut draws),
                ..QueryOutcome::default()
            });
        }
        let value = f64::from(hits) / f64::from(QUERIES);
        let estimate = Estimate { value, low: value, high: value, n: QUERIES, basis: None };
        run.measurements.push(Measurement {
            trial: key,
            suite: "million".into(),
            dataset: "made-up".into(),
            model: model.into(),
            training: "foreign".into(),
            artefact: format!("{night:012x}"),
            attack: attack.into(),
            goal: if column == 0 { "none".into() } else { format!("{attack}-target") },
            method: if column == 0 { "none".into() } else { "pgd".into() },
            side: if column == 0 { "none".into() } else { "query".into() },
            crafted_on: "main".into(),
            answered_by: "main".into(),
            epsilon: if column == 0 { "0".into() } else { format!("{level}/255") },
            epsilon_pixels: f64::from(level) / 255.0,
            queries: QUERIES,
            queries_available: QUERIES,
            recall: [1, 2, 4, 8].map(|k| RecallAt { k, estimate }).to_vec(),
            success: Some(estimate),
            ..Measurement::default()
        });
    }
    run
}

/// Runs the program; wall time and the most memory that was seen (`VmHWM`, which the kernel keeps).
fn time(arguments: &[&str]) -> (Duration, u64, Option<i32>) {
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mdprop"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the program starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
        peak = peak.max(kib);
        if let Some(code) = child.try_wait().expect("our own child") {
            return (began.elapsed(), peak, code.code());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Runs the program five times; prints the median time and the most memory.
pub fn report(what: &str, arguments: &[&str]) {
    let mut runs: Vec<_> = (0..5).map(|_| time(arguments)).collect();
    runs.sort_by_key(|run| run.0);
    let peak = runs.iter().map(|run| run.1).max().unwrap_or(0);
    let (median, code) = (runs[2].0, runs[2].2);
    println!("{what}: median {:.3} s of 5, at most {} MiB, exit code {code:?}", median.as_secs_f64(), peak / 1024);
}
