//! `mdprop report RUN ...`: write a finished run's report again, or a leaderboard over several.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use crate::cli::ReportArgs;
use crate::drift::baseline::{Baseline, BaselineError};
use crate::drift::gate::floor;
use crate::metric::kind::Metric;
use crate::record::{Run, folder, history};
use crate::report::Extras;
use crate::report::leaderboard::{self, Filter};
use crate::report::terminal;
use crate::report::trend::{Trend, TrendNight};
use crate::run::progress::Waiting;

/// Reads run folders and writes what is asked for.
///
/// # Errors
/// A folder that is no run folder or is named twice, a damaged table, a filter that nothing fits, a disk that is full.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let filter = Filter { dataset: args.dataset.clone(), threat: args.threat.clone() };
    if let ([one], true) = (args.runs.as_slice(), filter == Filter::default()) {
        let waiting = Waiting::new(&format!("reading {}", one.display()));
        let run = folder::read_reported(one)?;
        waiting.now("drawing charts and writing the page");
        let trend = args.history.as_ref().map(|history| trend(&run, history, &args.baselines)).transpose()?;
        let files = crate::report::write(&run, one, Extras { png: args.png, trend: trend.as_ref() })?;
        drop(waiting);
        super::print(&format!("{}\n", files.html.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut runs: Vec<(String, Run)> = Vec::new();
    let waiting = Waiting::new("reading runs");
    for (index, place) in args.runs.iter().enumerate() {
        if args.runs[..index].contains(place) {
            bail!("{}: named twice; name each run once", place.display());
        }
        waiting.now(&format!("reading {}", place.display()));
        let run = folder::read_rows(place)?;
        runs.push((run.manifest.suite.clone(), run));
    }
    tell_apart(&mut runs, &args.runs);
    let boards = leaderboard::boards(&runs, &filter);
    if boards.is_empty() {
        let known = leaderboard::boards(&runs, &Filter::default());
        let known: Vec<String> = known.iter().map(|b| format!("{}: {}", b.dataset, b.threat)).collect();
        bail!("no attacked result fits --dataset and --threat; there are {}", known.join("; "));
    }
    let names: Vec<String> = runs.into_iter().map(|(name, _)| name).collect();
    waiting.now("drawing charts and writing the leaderboard");
    let page = crate::report::write_leaderboard(&boards, &names, &args.out, args.png)?;
    drop(waiting);
    let style = super::style();
    let tables = boards.iter().map(|board| terminal::table(&leaderboard::table(board), style) + "\n");
    super::print(&format!("{}leaderboard: {}\n", tables.collect::<String>(), page.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The nights of the run's suite, beside what is accepted.
fn trend(run: &Run, path: &Path, baselines: &Path) -> anyhow::Result<Trend> {
    let mut nights: Vec<TrendNight> = Vec::new();
    for row in history::read(path)?.into_iter().filter(|row| row.night.suite == run.manifest.suite) {
        let (number, exit_code) = (row.night.number, row.night.exit_code);
        match nights.last_mut() {
            Some(night) if night.number == number => night.measurements.push(row.measurement),
            _ => nights.push(TrendNight { number, exit_code, measurements: vec![row.measurement] }),
        }
    }
    let accepted = match Baseline::read(&Baseline::path(baselines, &run.manifest.suite)) {
        Err(BaselineError::Missing(_)) => None,
        other => Some(other?),
    };
    let floors = accepted.as_ref().map(|baseline| baseline.floors.clone()).unwrap_or_default();
    let accepted = accepted.map(|baseline| baseline.run.measurements).unwrap_or_default();
    // A share's floor does not depend on the accepted value.
    Ok(Trend { nights, accepted, floor: floor(Metric::RecallAt(1), 0.0, &floors) })
}

/// Runs of one suite go by their folders too.
fn tell_apart(runs: &mut [(String, Run)], places: &[std::path::PathBuf]) {
    let suites: Vec<String> = runs.iter().map(|(name, _)| name.clone()).collect();
    for ((name, _), place) in runs.iter_mut().zip(places) {
        if suites.iter().filter(|suite| *suite == name).count() > 1 {
            *name = format!("{name} in {}", Path::new(place).display());
        }
    }
}
