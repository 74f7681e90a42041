//! `mdprop compare A B`: two runs, or two models of a run, paired per query.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use crate::cli::{CompareArgs, CompareForm};
use crate::drift::{self, Comparison, Form, Pair};
use crate::progress::Cancel;
use crate::record::{Manifest, Run, folder};
use crate::report::{self, Compared};
use crate::run::flips;
use crate::run::progress::Console;

/// Names the draws of intervals: the same two results always give the same text.
const SEED: u64 = 0;

/// Compares and prints; writes a page if one is asked for.
///
/// # Errors
/// A folder that is no run folder, a model that is not there, results on other images or queries; for a page a data set
/// that is not there or a full disk.
pub fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let form = match args.format {
        CompareForm::Text => Form::Text,
        CompareForm::Markdown => Form::Markdown,
        CompareForm::Json => Form::Json,
    };
    // Only a page shows who is near a query.
    let read = |place: &Path| if args.report.is_some() { folder::read(place) } else { folder::read_outcomes(place) };
    let first = read(&args.run)?;
    let (names, second): ([String; 2], Option<Run>) = match (&args.other, args.models.as_slice()) {
        (Some(other), []) => ([&args.run, other].map(|place| place.display().to_string()), Some(read(other)?)),
        (None, [a, b]) => ([a.clone(), b.clone()], None),
        _ => bail!("give two run folders, or one and --models A B"),
    };
    let (pairs, alone) = match &second {
        Some(second) => drift::runs(&first, second)?,
        None => drift::models_of_a_run(&first, &names[0], &names[1])?,
    };
    let alone = alone.iter().map(ToString::to_string).collect();
    let comparison = drift::compare(&names[0], &names[1], &pairs, alone, SEED);
    let mut text = drift::write(&comparison, form);
    if let Some(path) = &args.report {
        let manifests: Vec<&Manifest> =
            [Some(&first), second.as_ref()].into_iter().flatten().map(|r| &r.manifest).collect();
        write_page(args, &comparison, &pairs, &manifests, path)?;
        // What machines and GitHub read stays as it is.
        if form == Form::Text {
            text += &format!("\nreport: {}\n", path.display());
        }
    }
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn write_page(
    args: &CompareArgs,
    comparison: &Comparison,
    pairs: &[Pair<'_>],
    manifests: &[&Manifest],
    path: &Path,
) -> anyhow::Result<()> {
    let contests = drift::contests(comparison, pairs);
    let told = !drift::told(&contests).is_empty();
    let pictures = match manifests.first().filter(|_| told) {
        Some(manifest) => {
            let images = flips::images_of(manifest, &args.data, None, &Console::new(true), &Cancel::default())?;
            flips::with_pictures(&images, &contests)
        }
        None => vec![],
    };
    let places = [Some(&args.run), args.other.as_ref()].into_iter().flatten().map(|place| place.display().to_string());
    let runs: Vec<(String, &Manifest)> = places.zip(manifests.iter().copied()).collect();
    report::write_comparison(&Compared { comparison, contests: &contests, flips: &pictures, runs: &runs }, path)?;
    Ok(())
}
