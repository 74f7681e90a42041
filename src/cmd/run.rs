//! `mdprop run SUITE` and its parts `train`, `export`, `measure`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use super::process::Process;
use crate::cli::{MergeArgs, RunArgs};
use crate::progress::{Cancel, Observer as _};
use crate::report::summary::Summary;
use crate::report::{ers, terminal};
use crate::run::environment::program_version;
use crate::run::execute::{self, Album, Outcome, execute};
use crate::run::profile::Profile;
use crate::run::progress::Console;
use crate::run::settings::Settings;
pub use crate::run::settings::Until;
use crate::run::shard::PartDone;
use crate::suite::soundness::{self, Weight};

/// Rows that are named for each check that failed.
const PLACES: usize = 5;

/// Runs a suite up to a point.
///
/// # Errors
/// Bad input, a broken set-up, a full disk, Ctrl-C. Failed trials and checks are exit codes, not errors.
pub fn run(args: &RunArgs, until: Until) -> anyhow::Result<ExitCode> {
    let Process { cancel, places, threads } = Process::set_up(args.threads)?;
    let console = Console::new(args.quiet);
    let profile = Profile::new(&console);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let settings = Settings {
        data: args.folders.data.clone(),
        models: args.folders.models.clone(),
        artifacts: args.folders.artifacts.clone(),
        out: args.out.clone(),
        device: args.device.clone(),
        provider: args.provider,
        scratch: std::env::temp_dir(),
        threads,
        onnxruntime: places.find_onnxruntime()?,
        cuda_library: Box::new(move || places.find_libtorch_cuda()),
        search_path: std::env::var_os("PATH").unwrap_or_default(),
        command: format!("mdprop run {}", args.suite.display()),
        program: program_version(),
        started_unix_s: started,
        shard: args.shard.map(|wanted| wanted.resolve(|name| std::env::var(name).ok())).transpose()?,
        only: args.trial.clone().map(|key| BTreeSet::from([key])),
        until,
        observer: if args.profile { &profile } else { &console },
        cancel,
    };
    let outcome = execute(&args.suite, &settings)?;
    profile.lines().iter().for_each(|line| console.say(line));
    report(args.json, &outcome)?;
    Ok(ExitCode::from(outcome.exit_code()))
}

/// `mdprop merge`: the parts of several machines as one run.
///
/// # Errors
/// Parts that do not make a run; a data set that is not there; a full disk.
pub fn merge(args: &MergeArgs) -> anyhow::Result<ExitCode> {
    let console = Console::new(true);
    let album = Album {
        data: args.data.clone(),
        search_path: std::env::var_os("PATH").unwrap_or_default(),
        observer: &console,
        cancel: Cancel::default(),
    };
    let outcome = execute::merge(&args.parts, args.out.as_deref(), &album)?;
    report(args.json, &outcome)?;
    Ok(ExitCode::from(outcome.exit_code()))
}

fn report_part(json: bool, outcome: &Outcome, part: &PartDone) -> anyhow::Result<()> {
    if json {
        let value = serde_json::json!({
            "folder": outcome.folder, "shard": part.shard, "trials": part.trials, "failed": part.failed,
        });
        return super::print(&(serde_json::to_string_pretty(&value)? + "\n"));
    }
    let mut text = String::new();
    for failed in &part.failed {
        let _ = writeln!(text, "trial failed: {failed}");
    }
    let _ = writeln!(
        text,
        "shard {}: {} trials in {}; when all are done: mdprop merge {}",
        part.shard,
        part.trials,
        outcome.folder.display(),
        outcome.folder.parent().unwrap_or(&outcome.folder).display()
    );
    super::print(&text)
}

fn report(json: bool, outcome: &Outcome) -> anyhow::Result<()> {
    if let Some(part) = &outcome.part {
        return report_part(json, outcome, part);
    }
    let Some(run) = &outcome.run else {
        let mut text = String::new();
        for model in &outcome.models {
            let _ = writeln!(text, "{}", model.display());
        }
        return super::print(&text);
    };
    if json {
        let value = serde_json::json!({
            "folder": outcome.folder,
            "report": outcome.report,
            "measurements": run.measurements,
            "expectations": outcome.verdicts.iter().map(|v| serde_json::json!({
                "expected": v.expected, "measured": v.measured, "met": v.met,
            })).collect::<Vec<_>>(),
        });
        return super::print(&(serde_json::to_string_pretty(&value)? + "\n"));
    }
    let style = super::style();
    let summary = Summary::of(run);
    let mut text = terminal::headline(&summary, style);
    for scores in ers::tables(run, &summary) {
        let _ = write!(text, "\n{}", terminal::table(&scores, style));
    }
    text += &terminal::curves(&summary, style);
    for verdict in &outcome.verdicts {
        let mark = if verdict.met { "met" } else { "NOT MET" };
        let measured = verdict.measured.map_or("nothing".to_string(), |value| format!("{value:.4}"));
        let _ = writeln!(text, "expected {}: measured {measured}, {mark}", verdict.expected);
    }
    text += &failed_checks(outcome);
    let _ = match &outcome.report {
        Some(html) => writeln!(text, "\nreport: {}", html.display()),
        None => writeln!(text, "\nresults: {}", outcome.folder.display()),
    };
    super::print(&text)
}

/// Each check that did not hold, once: where it failed, what it means and what to do.
fn failed_checks(outcome: &Outcome) -> String {
    let mut text = String::new();
    let all: Vec<_> = outcome.failed_checks().collect();
    let mut told: Vec<&str> = Vec::new();
    for (_, check, weight) in &all {
        if told.contains(&check.name.as_str()) {
            continue;
        }
        told.push(&check.name);
        let what = if *weight == Weight::Fatal { "check failed" } else { "check did not hold (a warning)" };
        let places: Vec<_> = all.iter().filter(|(_, other, _)| other.name == check.name).collect();
        for (place, other, _) in places.iter().take(PLACES) {
            let _ = writeln!(text, "{what}: {} of {place}: {}", other.name, other.detail);
        }
        if places.len() > PLACES {
            let _ = writeln!(text, "  and {} further rows", places.len() - PLACES);
        }
        if let Some(about) = soundness::about(&check.name) {
            let _ = writeln!(text, "  should hold: {}\n  what to do: {}", about.holds, about.otherwise);
        }
    }
    text
}
