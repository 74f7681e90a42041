//! `mdprop report RUN`: write a finished run's report again.

use std::process::ExitCode;

use crate::cli::ReportArgs;

/// Reads a run folder and writes its report.
///
/// # Errors
/// A folder that is no run folder, a damaged table, a disk that is full.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let run = crate::record::folder::read(&args.run)?;
    let files = crate::report::write(&run, &args.run)?;
    super::print(&format!("{}\n", files.html.display()))?;
    Ok(ExitCode::SUCCESS)
}
