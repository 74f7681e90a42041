//! `mdprop doctor`: what is installed, what is found, what is wrong and how to put it right.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::DoctorArgs;
use crate::run::environment::{Finding, Health, Places, Survey, survey};
use anyhow::Context;

/// Runs the command: exit code 0 if every command can work, 2 if something has to be put right first.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let places = Places::of_process(data_sets(&args.data)).context("cannot find the current folder")?;
    let survey = survey(&places);
    if args.json {
        super::print(&(serde_json::to_string_pretty(&survey)? + "\n"))?;
    } else {
        super::print(&page(&survey))?;
    }
    Ok(if survey.health() == Health::Fail { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

fn data_sets(data: &Path) -> Vec<(String, std::path::PathBuf)> {
    vec![("emoji".to_owned(), data.join("emoji"))]
}

/// One aligned line for each finding, its fix below it, and a verdict.
fn page(survey: &Survey) -> String {
    let width = survey.findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    let mut page: String = survey.findings.iter().map(|finding| lines(finding, width)).collect();
    page.push_str(match survey.health() {
        Health::Ok => "\nall well\n",
        Health::Warn => "\nready; lines marked warn say what some commands will miss\n",
        Health::Fail => "\nnot ready: put right what is marked FAIL\n",
    });
    page
}

fn lines(finding: &Finding, width: usize) -> String {
    let mark = match finding.health {
        Health::Ok => "ok  ",
        Health::Warn => "warn",
        Health::Fail => "FAIL",
    };
    let fix = finding.fix.as_ref().map_or(String::new(), |fix| format!("      {:width$}  fix: {fix}\n", ""));
    format!("{mark}  {:width$}  {}\n{fix}", finding.subject, finding.found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned_and_a_fix_stands_below_its_finding() {
        let finding = |health, fix: Option<&str>| Finding {
            subject: "data".into(),
            health,
            found: "none".into(),
            fix: fix.map(str::to_owned),
        };
        assert_eq!(lines(&finding(Health::Ok, None), 8), "ok    data      none\n");
        assert_eq!(
            lines(&finding(Health::Fail, Some("fetch it")), 8),
            "FAIL  data      none\n                fix: fetch it\n"
        );
    }
}
