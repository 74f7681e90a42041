//! `mdprop speed`: ratios of benchmarks against the accepted ones; warns, never fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::artefact::write_bytes;
use crate::cli::SpeedArgs;
use crate::drift::speed::{SpeedBaseline, accept, measure, text};

/// Reads criterion's results and prints the ratios.
///
/// # Errors
/// A baseline that is no baseline, a folder without results of criterion; with `--accept` a ratio that was not measured, a
/// disk that is full. A slower ratio is a warning, exit code 0.
pub fn run(args: &SpeedArgs) -> anyhow::Result<ExitCode> {
    let path = &args.against;
    let content = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let baseline: SpeedBaseline = toml::from_str(&content).with_context(|| path.display().to_string())?;
    if baseline.schema != 1 {
        bail!("{}: schema = {} is unknown; this program reads schema = 1", path.display(), baseline.schema);
    }
    let mut medians = BTreeMap::new();
    collect(&args.criterion, 0, &mut medians)?;
    if medians.is_empty() {
        bail!("{}: no results of criterion; run `make bench` first", args.criterion.display());
    }
    let measured = measure(&baseline, &medians);
    super::print(&text(&measured, args.github))?;
    if args.accept {
        let accepted =
            accept(baseline, &measured).map_err(|missing| anyhow::anyhow!("{}: {missing}", path.display()))?;
        write_bytes(path, accepted.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Folders between criterion's own and a benchmark's results.
const DEEPEST: usize = 8;

/// Medians in nanoseconds by criterion's id, from every `new/` folder.
fn collect(folder: &Path, depth: usize, found: &mut BTreeMap<String, f64>) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Benchmark {
        full_id: String,
    }
    #[derive(Deserialize)]
    struct Estimates {
        median: Estimate,
    }
    #[derive(Deserialize)]
    struct Estimate {
        point_estimate: f64,
    }
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", folder.display())),
    };
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let (id, times) = (path.join("benchmark.json"), path.join("estimates.json"));
        if path.ends_with("new") && id.is_file() && times.is_file() {
            let id: Benchmark = serde_json::from_slice(&read(&id)?).with_context(|| id.display().to_string())?;
            let times: Estimates =
                serde_json::from_slice(&read(&times)?).with_context(|| times.display().to_string())?;
            found.insert(id.full_id, times.median.point_estimate);
        } else if path.is_dir() && depth < DEEPEST {
            collect(&path, depth + 1, found)?;
        }
    }
    Ok(())
}
