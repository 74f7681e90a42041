//! `mdprop operators`: the ONNX operators that can be differentiated.

use std::process::ExitCode;

use crate::onnx::differentiate::operators_markdown;

/// Prints the table in Markdown; `docs/operators.md` is this output.
///
/// # Errors
/// A failure of stdout.
pub fn run() -> anyhow::Result<ExitCode> {
    super::print(&operators_markdown())?;
    Ok(ExitCode::SUCCESS)
}
