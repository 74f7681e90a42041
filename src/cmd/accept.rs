//! `mdprop accept RUN`: these are the numbers to compare with from now on.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use crate::cli::AcceptArgs;
use crate::drift::baseline::{Baseline, BaselineError, Decision};
use crate::record::folder;

/// Writes the baseline of the run's suite.
///
/// # Errors
/// A folder that is no finished run, a run with failed trials or checks, a baseline that was edited by hand, a clock that
/// stands before the last acceptance, a disk that is full; the baseline is then as it was.
pub fn run(args: &AcceptArgs) -> anyhow::Result<ExitCode> {
    let run = folder::read_outcomes(&args.run)?;
    let path = Baseline::path(&args.baselines, &run.manifest.suite);
    let before = match Baseline::read(&path) {
        Ok(before) => Some(before),
        Err(BaselineError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let decision = Decision {
        who: args.by.clone().or_else(somebody).context("who accepts? give --by NAME")?,
        why: args.reason.clone(),
        unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        floors: args.floor.iter().map(|(metric, change)| (metric.to_string(), *change)).collect(),
        pinned: if args.pin { Some(true) } else { args.unpin.then_some(false) },
    };
    let accepted = Baseline::accept(run, &args.run.display().to_string(), before.as_ref(), &decision)?;
    accepted.write(&path)?;
    let last = accepted.last();
    let mut text = format!("{}\naccepted {} by {}: {}\n", path.display(), last.when, last.who, last.why);
    last.changes.iter().for_each(|line| text += &format!("  {line}\n"));
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The name that git, the CI or the system has for the user.
fn somebody() -> Option<String> {
    let of_git = || {
        let out = std::process::Command::new("git").args(["config", "user.name"]).output().ok()?;
        String::from_utf8(out.stdout).ok()
    };
    let of_environment = |key| std::env::var(key).ok();
    let names = [of_environment("GITHUB_ACTOR"), of_git(), of_environment("USER")];
    names.into_iter().flatten().map(|name| name.trim().to_string()).find(|name| !name.is_empty())
}
