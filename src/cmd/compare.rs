//! `mdprop compare A B`: two runs, or two models of a run, paired per query.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use crate::cli::{CompareArgs, CompareForm};
use crate::drift::{self, Form};
use crate::record::folder;

/// Names the draws of intervals: the same two results always give the same text.
const SEED: u64 = 0;

/// Compares and prints.
///
/// # Errors
/// A folder that is no run folder, a model that is not there, results on other images or queries.
pub fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let form = match args.format {
        CompareForm::Text => Form::Text,
        CompareForm::Markdown => Form::Markdown,
        CompareForm::Json => Form::Json,
    };
    let first = folder::read_outcomes(Path::new(&args.run))?;
    let comparison = match (&args.other, args.models.as_slice()) {
        (Some(other), []) => {
            let second = folder::read_outcomes(Path::new(other))?;
            let (pairs, alone) = drift::runs(&first, &second)?;
            let alone = alone.iter().map(ToString::to_string).collect();
            let (a, b) = (args.run.display().to_string(), other.display().to_string());
            drift::compare(&a, &b, &pairs, alone, SEED)
        }
        (None, [a, b]) => {
            let (pairs, alone) = drift::models_of_a_run(&first, a, b)?;
            drift::compare(a, b, &pairs, alone.iter().map(ToString::to_string).collect(), SEED)
        }
        _ => bail!("give two run folders, or one and --models A B"),
    };
    super::print(&drift::write(&comparison, form))?;
    Ok(ExitCode::SUCCESS)
}
