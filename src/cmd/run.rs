//! `mdprop run SUITE` and its parts `train`, `export`, `measure`.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::cli::RunArgs;
use crate::report::summary::Summary;
use crate::report::terminal::{self, Style};
use crate::run::execute::{Outcome, execute};
use crate::run::progress::Console;
use crate::run::settings::Settings;
pub use crate::run::settings::Until;

/// Runs a suite up to a point.
///
/// # Errors
/// Bad input, a broken set-up, a full disk, Ctrl-C. Failed trials and checks are exit codes, not errors.
pub fn run(args: &RunArgs, until: Until) -> anyhow::Result<ExitCode> {
    let console = Console::new(args.quiet);
    let settings = Settings {
        out: args.out.clone(),
        device: args.device.clone(),
        provider: args.provider,
        command: format!("mdprop run {}", args.suite.display()),
        until,
        ..super::settings(&args.folders, args.threads, &console)?
    };
    let outcome = execute(&args.suite, &settings)?;
    report(args, &outcome)?;
    Ok(ExitCode::from(outcome.exit_code()))
}

fn report(args: &RunArgs, outcome: &Outcome) -> anyhow::Result<()> {
    let Some(run) = &outcome.run else {
        let mut text = String::new();
        for model in &outcome.models {
            let _ = writeln!(text, "{}", model.display());
        }
        return super::print(&text);
    };
    if args.json {
        let value = serde_json::json!({
            "folder": outcome.folder,
            "report": outcome.report,
            "measurements": run.measurements,
            "expectations": outcome.verdicts.iter().map(|v| serde_json::json!({
                "expected": v.expected, "measured": v.measured, "met": v.met,
            })).collect::<Vec<_>>(),
        });
        return super::print(&(serde_json::to_string_pretty(&value)? + "\n"));
    }
    let style = Style { width: terminal_width(), colour: use_colour() };
    let mut text = terminal::headline(&Summary::of(run), style);
    for verdict in &outcome.verdicts {
        let mark = if verdict.met { "met" } else { "NOT MET" };
        let measured = verdict.measured.map_or("nothing".to_string(), |value| format!("{value:.4}"));
        let _ = writeln!(text, "expected {}: measured {measured}, {mark}", verdict.expected);
    }
    for (place, check) in outcome.failed_checks() {
        let _ = writeln!(text, "check failed: {} of {place}: {}", check.name, check.detail);
    }
    let _ = match &outcome.report {
        Some(html) => writeln!(text, "\nreport: {}", html.display()),
        None => writeln!(text, "\nresults: {}", outcome.folder.display()),
    };
    super::print(&text)
}

fn terminal_width() -> usize {
    use std::io::IsTerminal as _;
    let from_environment = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    from_environment.unwrap_or(if std::io::stdout().is_terminal() { 100 } else { 120 })
}

fn use_colour() -> bool {
    use std::io::IsTerminal as _;
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}
