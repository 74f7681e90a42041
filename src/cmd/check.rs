//! `mdprop check RUN`: tonight's run against the accepted one.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::process::Process;
use crate::artefact::write_bytes;
use crate::cli::{CheckArgs, CheckForm};
use crate::drift::{self, Baseline, Judgement, slow};
use crate::record::history::{self, HistoryRow, Night};
use crate::record::{Measurement, Run, folder};
use crate::run::derived;
use crate::run::environment::program_version;
use crate::run::execute::execute;
use crate::run::progress::Console;
use crate::run::settings::{Settings, Until};
use crate::suite::plan::Plan;

/// Compares, confirms, follows, writes; the exit code says what was found.
///
/// # Errors
/// A folder that is no finished run, a baseline that is absent, edited or of another suite, a damaged history, a disk that
/// is full.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    // Before anything else starts worker threads.
    let process = args.confirm.as_ref().map(|_| Process::set_up(args.threads)).transpose()?;
    let tonight = folder::read_outcomes(&args.run)?;
    let baseline = baseline(args, &tonight)?;
    let mut judgement = drift::check(&baseline, &tonight)?;
    let doubtful = measured(&tonight, judgement.to_confirm());
    if let Some((suite, process)) = args.confirm.as_ref().zip(process).filter(|_| !doubtful.is_empty()) {
        let again = measure_again(args, (suite, process), &tonight, doubtful)?;
        let second = with_trials(&tonight, again);
        let judged = drift::check(&baseline, &second)?;
        judgement.confirmed_by(&judged);
    }
    if let Some(path) = &args.history {
        follow(path, &baseline, &tonight, &mut judgement)?;
    }
    write(args, &judgement)?;
    Ok(ExitCode::from(judgement.exit_code()))
}

/// The baseline that was asked for, or the accepted one of the suite.
fn baseline(args: &CheckArgs, tonight: &Run) -> anyhow::Result<Baseline> {
    let path = match &args.against {
        None => Baseline::path(Path::new("reports/baselines"), &tonight.manifest.suite),
        Some(folder) if folder.join("manifest.json").is_file() => {
            return Ok(Baseline::of_run(folder::read_outcomes(folder)?));
        }
        Some(folder) if folder.is_dir() => folder.join(drift::baseline::FILE),
        Some(file) => file.clone(),
    };
    Ok(Baseline::read(&path)?)
}

/// The trials to measure for some rows: a row that is made of others stands for those.
fn measured(tonight: &Run, keys: BTreeSet<String>) -> BTreeSet<String> {
    let parts = derived::parts(tonight);
    keys.into_iter().flat_map(|key| parts.get(&key).cloned().unwrap_or_else(|| vec![key])).collect()
}

/// Measures some trials afresh, beside the run.
fn measure_again(
    args: &CheckArgs,
    (suite, process): (&Path, Process),
    tonight: &Run,
    keys: BTreeSet<String>,
) -> anyhow::Result<Run> {
    if Plan::read(suite, &args.folders.models)?.digest().to_string() != tonight.manifest.plan {
        bail!(
            "{}: the suite or a recipe has changed since {} was measured; run it again",
            suite.display(),
            args.run.display()
        );
    }
    let out = args.run.join("confirm");
    if out.exists() {
        std::fs::remove_dir_all(&out).with_context(|| format!("cannot clear {}", out.display()))?;
    }
    let console = Console::new(args.quiet);
    let provider = tonight.measurements.iter().map(|m| m.provider.as_str()).find(|p| !p.is_empty()).unwrap_or("cpu");
    let Process { cancel, places, threads } = process;
    let settings = Settings {
        data: args.folders.data.clone(),
        models: args.folders.models.clone(),
        artifacts: args.folders.artifacts.clone(),
        out: Some(out),
        device: "cpu".into(),
        provider: provider.parse().map_err(|e| anyhow::anyhow!("{}: {e}", args.run.display()))?,
        scratch: std::env::temp_dir(),
        threads,
        onnxruntime: places.find_onnxruntime()?,
        cuda_library: Box::new(move || places.find_libtorch_cuda()),
        search_path: std::env::var_os("PATH").unwrap_or_default(),
        command: tonight.manifest.command.clone(),
        program: program_version(),
        started_unix_s: tonight.manifest.started_unix_s,
        shard: None,
        only: Some(keys),
        until: Until::Measured,
        observer: &console,
        cancel,
    };
    execute(suite, &settings)?.run.context("a run that is measured has results")
}

/// The run with those trials that were measured again in their place.
fn with_trials(run: &Run, again: Run) -> Run {
    let keys: BTreeSet<&str> = again.measurements.iter().map(|m| m.trial.as_str()).collect();
    let second = |m: &Measurement| again.measurements.iter().find(|a| a.trial == m.trial).unwrap_or(m).clone();
    let kept = run.queries.iter().filter(|q| !keys.contains(q.trial.as_str())).cloned();
    Run {
        manifest: run.manifest.clone(),
        measurements: run.measurements.iter().map(second).collect(),
        queries: kept.chain(again.queries.iter().cloned()).collect(),
        steps: vec![],
        training: vec![],
        gallery: vec![],
        flips: vec![],
        views: vec![],
    }
}

/// Looks for slow drift since the acceptance and adds tonight to the history.
fn follow(path: &Path, baseline: &Baseline, tonight: &Run, judgement: &mut Judgement) -> anyhow::Result<()> {
    let known = history::read(path)?;
    let accepted = baseline.last().unix_s;
    let manifest = &tonight.manifest;
    let own = |r: &&HistoryRow| r.night.suite == manifest.suite && r.night.plan == manifest.plan;
    let earlier = || known.iter().filter(own).filter(|r| r.night.started_unix_s != manifest.started_unix_s);
    if let Some(last) = earlier().map(|r| r.night.started_unix_s).max().filter(|last| *last > manifest.started_unix_s) {
        judgement.notes.push(format!(
            "the history has a night of {}, later than this run's {}: an old run, or a clock that is wrong; nights keep the order in which they were checked",
            drift::utc(last),
            drift::utc(manifest.started_unix_s)
        ));
    }
    let mut nights: Vec<(u32, Vec<Measurement>)> = Vec::new();
    for row in earlier().filter(|r| r.night.accepted_unix_s == accepted) {
        match nights.last_mut() {
            Some((number, rows)) if *number == row.night.number => rows.push(row.measurement.clone()),
            _ => nights.push((row.night.number, vec![row.measurement.clone()])),
        }
    }
    let mut nights: Vec<Vec<Measurement>> = nights.into_iter().map(|(_, rows)| rows).collect();
    nights.push(tonight.measurements.clone());
    judgement.watch(slow::follow(baseline, &nights));
    let night = Night::of(manifest, accepted, judgement.exit_code());
    history::append(path, known, &night, &tonight.measurements)?;
    Ok(())
}

/// The suite's file, for machines that point at files.
fn suite_file(args: &CheckArgs, judgement: &Judgement) -> String {
    let default = || PathBuf::from(format!("suites/{}.toml", judgement.suite));
    args.confirm.clone().unwrap_or_else(default).display().to_string()
}

fn write(args: &CheckArgs, judgement: &Judgement) -> anyhow::Result<()> {
    let suite = suite_file(args, judgement);
    if let Some(folder) = &args.reports {
        for (name, text) in [
            ("check.json", drift::json(judgement)),
            ("check.md", drift::summary(judgement)),
            ("junit.xml", drift::junit(judgement)),
            ("check.sarif", drift::sarif(judgement, &suite)),
        ] {
            write_bytes(&folder.join(name), text.as_bytes())?;
        }
    }
    super::print(&match args.format {
        CheckForm::Text => drift::text(judgement),
        CheckForm::Markdown => drift::summary(judgement),
        CheckForm::Json => drift::json(judgement),
        CheckForm::Junit => drift::junit(judgement),
        CheckForm::Sarif => drift::sarif(judgement, &suite),
        CheckForm::Github => {
            append_summary(&drift::summary(judgement))?;
            drift::annotations(judgement, &suite) + &drift::text(judgement)
        }
    })
}

/// Adds to the job's summary, where there is one.
fn append_summary(text: &str) -> anyhow::Result<()> {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else { return Ok(()) };
    let path = Path::new(&path);
    let open = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let written = open.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot add to {}", path.display()))
}
