//! `history.parquet`: one row per trial and night, the columns of `measurements.parquet` after those of the night.

use std::path::Path;

use super::columns::{Columns, Values};
use super::folder::FolderError;
use super::frames::{self, FrameError};
use super::{Manifest, Measurement, layout};
use crate::artefact::write_bytes;

/// What all rows of a night share.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Night {
    /// Number of the night in this suite's history, from 1; the order in which nights are read, whatever clocks say.
    pub number: u32,
    /// Suite.
    pub suite: String,
    /// When the run began, seconds since 1970.
    pub started_unix_s: u64,
    /// When the baseline that it was checked against was accepted, seconds since 1970; 0: there was none.
    pub accepted_unix_s: u64,
    /// Exit code of the check.
    pub exit_code: u32,
    /// Version of the program.
    pub program: String,
    /// Versions of the libraries, `name version` with `; ` between.
    pub versions: String,
    /// Processor and system.
    pub machine: String,
    /// Digest of the plan.
    pub plan: String,
    /// Digest of the data set.
    pub dataset_digest: String,
}

impl Night {
    /// The night of a run, not numbered yet.
    pub fn of(manifest: &Manifest, accepted_unix_s: u64, exit_code: u8) -> Self {
        let versions: Vec<String> = manifest.versions.iter().map(|(name, v)| format!("{name} {v}")).collect();
        Self {
            number: 0,
            suite: manifest.suite.clone(),
            started_unix_s: manifest.started_unix_s,
            accepted_unix_s,
            exit_code: u32::from(exit_code),
            program: manifest.program.clone(),
            versions: versions.join("; "),
            machine: manifest.machine.clone(),
            plan: manifest.plan.clone(),
            dataset_digest: manifest.dataset_digest.clone(),
        }
    }
}

/// One trial of one night.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryRow {
    /// The night.
    pub night: Night,
    /// What was measured.
    pub measurement: Measurement,
}

fn columns(rows: &[HistoryRow]) -> Columns {
    let text = |get: fn(&Night) -> &str| Values::Text(rows.iter().map(|r| get(&r.night).to_string()).collect());
    let whole = |get: fn(&Night) -> u32| Values::Whole(rows.iter().map(|r| get(&r.night)).collect());
    let wide = |get: fn(&Night) -> u64| Values::Wide(rows.iter().map(|r| get(&r.night)).collect());
    let mut c = Columns::default();
    c.push("night", whole(|n| n.number));
    c.push("night_suite", text(|n| &n.suite));
    c.push("started_unix_s", wide(|n| n.started_unix_s));
    c.push("accepted_unix_s", wide(|n| n.accepted_unix_s));
    c.push("exit_code", whole(|n| n.exit_code));
    c.push("program", text(|n| &n.program));
    c.push("versions", text(|n| &n.versions));
    c.push("machine", text(|n| &n.machine));
    c.push("plan", text(|n| &n.plan));
    c.push("dataset_digest", text(|n| &n.dataset_digest));
    let measurements: Vec<Measurement> = rows.iter().map(|r| r.measurement.clone()).collect();
    c.0.extend(layout::from_measurements(&measurements).0);
    c
}

fn rows(c: &Columns) -> Result<Vec<HistoryRow>, FrameError> {
    let measurements = layout::to_measurements(c)?;
    let (number, exit_code) = (c.whole("night")?, c.whole("exit_code")?);
    let (started, accepted) = (c.wide("started_unix_s")?, c.wide("accepted_unix_s")?);
    let (suite, program, versions) = (c.text("night_suite")?, c.text("program")?, c.text("versions")?);
    let (machine, plan, dataset) = (c.text("machine")?, c.text("plan")?, c.text("dataset_digest")?);
    let row = |(i, measurement): (usize, Measurement)| HistoryRow {
        night: Night {
            number: number[i],
            suite: suite[i].clone(),
            started_unix_s: started[i],
            accepted_unix_s: accepted[i],
            exit_code: exit_code[i],
            program: program[i].clone(),
            versions: versions[i].clone(),
            machine: machine[i].clone(),
            plan: plan[i].clone(),
            dataset_digest: dataset[i].clone(),
        },
        measurement,
    };
    Ok(measurements.into_iter().enumerate().map(row).collect())
}

/// Reads a history, oldest night first; a file that is not there is an empty one.
///
/// # Errors
/// [`FolderError`] if it cannot be read or is damaged.
pub fn read(path: &Path) -> Result<Vec<HistoryRow>, FolderError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(source) => return Err(FolderError::Read { path: path.to_path_buf(), source }),
    };
    let read = || rows(&frames::columns_from_parquet(bytes)?);
    read().map_err(|error: FrameError| FolderError::History { path: path.to_path_buf(), why: error.to_string() })
}

/// Appends the rows of a night to `known` and writes the file whole. The same run (suite, plan and start) replaces its own
/// earlier rows, so that checking twice is one night.
///
/// # Errors
/// [`FolderError`] if it cannot be written; the file before is untouched.
pub fn append(
    path: &Path,
    mut known: Vec<HistoryRow>,
    night: &Night,
    measurements: &[Measurement],
) -> Result<(), FolderError> {
    let same = |n: &Night| (&n.suite, &n.plan, n.started_unix_s) == (&night.suite, &night.plan, night.started_unix_s);
    let before = known.iter().find(|r| same(&r.night)).map(|r| r.night.number);
    let last = known.iter().filter(|r| r.night.suite == night.suite).map(|r| r.night.number).max().unwrap_or(0);
    let night = Night { number: before.unwrap_or(last + 1), ..night.clone() };
    known.retain(|r| !same(&r.night));
    known.extend(measurements.iter().map(|m| HistoryRow { night: night.clone(), measurement: m.clone() }));
    known.sort_by(|a, b| (&a.night.suite, a.night.number).cmp(&(&b.night.suite, b.night.number)));
    let bytes = frames::table_to_parquet(&columns(&known)).map_err(FolderError::Table)?;
    Ok(write_bytes(path, &bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    fn night(started: u64) -> Night {
        let manifest = Manifest { started_unix_s: started, ..sample::run().manifest };
        Night::of(&manifest, 5, 1)
    }

    #[test]
    fn nights_are_added_once_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.parquet");
        let rows = sample::run().measurements;
        assert_eq!(read(&path).unwrap(), vec![]);
        append(&path, vec![], &night(100), &rows).unwrap();
        // A clock that goes backwards changes no order.
        append(&path, read(&path).unwrap(), &night(90), &rows[..3]).unwrap();
        append(&path, read(&path).unwrap(), &night(100), &rows).unwrap();
        let found = read(&path).unwrap();
        assert_eq!(found.len(), rows.len() + 3);
        let numbers: Vec<u32> = found.iter().map(|r| r.night.number).collect();
        assert!(numbers.is_sorted() && numbers[0] == 1 && *numbers.last().unwrap() == 2);
        assert_eq!(found[0].measurement, rows[0]);
        assert_eq!(found[0].night, Night { number: 1, ..night(100) });
    }

    #[test]
    fn a_night_with_other_metrics_fits_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.parquet");
        let rows = sample::run().measurements;
        append(&path, vec![], &night(1), &rows).unwrap();
        let mut fewer = rows.clone();
        fewer.iter_mut().for_each(|m| m.metrics.clear());
        append(&path, read(&path).unwrap(), &night(2), &fewer).unwrap();
        let found = read(&path).unwrap();
        assert_eq!(found[0].measurement, rows[0]);
        assert!(found.last().unwrap().measurement.metrics.is_empty());
    }

    #[test]
    fn a_history_cut_short_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.parquet");
        append(&path, vec![], &night(1), &sample::run().measurements).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("history.parquet") && error.contains("git checkout"), "{error}");
    }
}
