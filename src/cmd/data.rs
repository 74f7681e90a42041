//! `mdprop data list|fetch|verify`.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::cli::{DataAction, DataArgs, DataSetArgs};
use crate::dataset::{self, DatasetState, DatasetStatus};
use crate::progress::Cancel;
use crate::run::progress::Console;
use crate::suite::dataset::DatasetSpec;

/// Lists, fetches or verifies data sets.
///
/// # Errors
/// An unknown data set, a failed download, a damaged cache.
pub fn run(args: &DataArgs) -> anyhow::Result<ExitCode> {
    let cancel = Cancel::default();
    let handler = cancel.clone();
    ctrlc::set_handler(move || handler.cancel()).context("cannot listen for Ctrl-C")?;
    let console = Console::new(false);
    match &args.action {
        DataAction::List { json } => {
            let rows = dataset::list(&args.data);
            let text = if *json { serde_json::to_string_pretty(&rows)? + "\n" } else { table(&rows) };
            super::print(&text)?;
        }
        DataAction::Fetch(which) => {
            let search_path = std::env::var_os("PATH").unwrap_or_default();
            let images = dataset::fetch(&spec(which)?, &args.data, &search_path, &console, &cancel)?;
            super::print(&format!(
                "{} at {} px: {} images of {} classes; {} train, {} validate, {} test\n",
                images.id,
                images.size,
                images.len(),
                images.classes.len(),
                images.split.train.len(),
                images.split.validation.len(),
                images.split.test.len()
            ))?;
        }
        DataAction::Verify(which) => {
            let report = dataset::verify(&spec(which)?, &args.data, &console, &cancel)?;
            let mut text = format!(
                "{} at {} px: {} images of {} classes, pixel digest {}\n",
                report.id, report.size, report.images, report.classes, report.pixel_digest
            );
            for line in &report.checked {
                let _ = writeln!(text, "ok    {line}");
            }
            for line in &report.problems {
                let _ = writeln!(text, "FAIL  {line}");
            }
            super::print(&text)?;
            if !report.problems.is_empty() {
                return Ok(ExitCode::from(super::BAD_INPUT));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A data set by its id, with the settings that need no suite. The glyphs are those of `suites/smoke.toml` but for the
/// size.
fn spec(which: &DataSetArgs) -> anyhow::Result<DatasetSpec> {
    let validation = 0.1;
    let image_size = which.image_size;
    Ok(match which.id.as_str() {
        "emoji" => DatasetSpec::Emoji { image_size, validation },
        "glyphs" => DatasetSpec::Glyphs { image_size, classes: 24, per_class: 12, seed: 1, validation },
        suite if suite.ends_with(".toml") => crate::suite::load::read_suite(std::path::Path::new(suite))?.dataset,
        other => bail!(
            "`{other}` is no data set that can be fetched; known are emoji and glyphs; one of your own needs no fetching: name it in a suite and give the suite's path here"
        ),
    })
}

fn table(rows: &[DatasetStatus]) -> String {
    let mut text = String::new();
    let width = rows.iter().map(|row| row.id.len()).max().unwrap_or(0);
    for row in rows {
        let state = match &row.state {
            DatasetState::BuiltIn => "built in".to_string(),
            DatasetState::Fetched => "ready".to_string(),
            DatasetState::Absent => "absent: mdprop data fetch".to_string(),
            DatasetState::Damaged(what) => format!("damaged: {what}"),
        };
        let counts = match (row.images, row.classes) {
            (Some(images), Some(classes)) => format!(", {images} images of {classes} classes"),
            _ => String::new(),
        };
        let size = if row.bytes > 0 { format!(", {:.1} MB", row.bytes as f64 / 1e6) } else { String::new() };
        let _ = writeln!(text, "{:width$}  {state}{counts}{size}", row.id);
        let _ = writeln!(text, "{:width$}  {}; licence: {}", "", row.about, row.licence);
    }
    text
}
