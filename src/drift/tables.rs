//! A night in words: for a terminal, and as the summary of a CI job.

use std::fmt::Write as _;

use super::cell_number;
use super::gate::{Cell, Judgement, Says};
use crate::metric::kind::Metric;

const HEAD: [&str; 7] = ["question", "metric", "accepted", "tonight", "change", "p (Holm)", "says"];

/// Rows of the summary that pass; the rest are counted.
const SHOWN: usize = 40;

fn cells(cell: &Cell) -> [String; 7] {
    let number = |value| cell_number(cell.metric, value);
    let change = match cell.flipped {
        Some((lost, gained)) => format!("{} (−{lost} +{gained} of {})", signed(cell), cell.n),
        None => signed(cell),
    };
    let p = match cell.p_adjusted {
        None => "–".into(),
        Some(p) if p < 0.001 => "< 0.001".into(),
        Some(p) => format!("{p:.3}"),
    };
    let (then, now) = (number(cell.accepted), number(cell.tonight));
    [cell.question.clone(), cell.metric.to_string(), then, now, change, p, says(cell.says).into()]
}

fn signed(cell: &Cell) -> String {
    let number = cell_number(cell.metric, cell.change().abs());
    match cell.change() {
        0.0 => "0".into(),
        change if change < 0.0 => format!("−{number}"),
        _ => format!("+{number}"),
    }
}

fn says(says: Says) -> &'static str {
    match says {
        Says::Identical => "identical",
        Says::Within => "as chance would have it",
        Says::BelowFloor => "worse, below the floor",
        Says::Better => "better",
        Says::Shown => "shown only",
        Says::Drift => "DRIFT",
    }
}

fn verdict(j: &Judgement) -> String {
    let (code, total) = (j.exit_code(), j.cells.len());
    let count = |says: Says| j.cells.iter().filter(|c| c.says == says).count();
    if code == 0 && total > 0 && count(Says::Identical) == total {
        return format!("passed: {total} metrics are identical to the accepted ones");
    }
    if code == 0 {
        let (same, better) = (count(Says::Identical), count(Says::Better));
        return format!(
            "passed: {total} metrics compared, {same} identical, {better} better, none worse beyond chance and floor"
        );
    }
    let mut kinds: Vec<&str> = j.findings.iter().map(|f| f.kind.name()).collect();
    kinds.dedup();
    format!("FAILED (exit code {code}): {} findings: {}", j.findings.len(), kinds.join(", "))
}

fn findings(j: &Judgement) -> Vec<String> {
    let line = |f: &super::gate::Finding| format!("{}: {}: {}", f.kind.name(), f.place, f.text);
    j.findings.iter().map(line).collect()
}

/// For a terminal: recall@1 and what is worse or better; ends with a line break.
pub fn text(j: &Judgement) -> String {
    let mut out = format!("{} against what was accepted {}\n", j.suite, j.accepted);
    for (model, class) in &j.models {
        let _ = writeln!(out, "  {model}: {}", class.in_words());
    }
    let told = |c: &&Cell| {
        let headline = c.metric == Metric::RecallAt(1) && c.says != Says::Identical;
        headline || matches!(c.says, Says::Drift | Says::Better | Says::BelowFloor)
    };
    let rows: Vec<[String; 7]> = j.cells.iter().filter(told).map(cells).collect();
    if !rows.is_empty() {
        let mut widths = HEAD.map(|head| head.chars().count());
        for row in &rows {
            widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
        }
        let line = |cells: &[String]| {
            let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, w)| format!("{cell:w$}")).collect();
            padded.join("  ").trim_end().to_string() + "\n"
        };
        out += "\n";
        out += &line(&HEAD.map(String::from));
        rows.iter().for_each(|row| out += &line(row));
    }
    let mut section = |head: &str, lines: &[String]| {
        if !lines.is_empty() {
            let _ = writeln!(out, "\n{head}");
            lines.iter().for_each(|line| out += &format!("  {line}\n"));
        }
    };
    section("failures", &findings(j));
    section("notes", &j.notes);
    section(
        if j.findings.is_empty() { "changed since the baseline" } else { "suspects: changed since the baseline" },
        &j.suspects,
    );
    out + "\n" + &verdict(j) + "\n"
}

/// For `$GITHUB_STEP_SUMMARY` and everything else that renders GitHub's Markdown.
pub fn summary(j: &Judgement) -> String {
    // A name may hold what a table row ends at.
    let escape =
        |cell: &str| cell.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ");
    let mark = if j.findings.is_empty() { "✅" } else { "❌" };
    let mut out =
        format!("## {mark} {}: {}\n\nAccepted {}.\n", escape(&j.suite), escape(&verdict(j)), escape(&j.accepted));
    for (model, class) in &j.models {
        let _ = writeln!(out, "- `{}`: {}", escape(model), class.in_words());
    }
    let mut section = |head: &str, lines: &[String]| {
        if !lines.is_empty() {
            let _ = writeln!(out, "\n### {head}\n");
            lines.iter().for_each(|line| out += &format!("- {}\n", escape(line)));
        }
    };
    section("Failures", &findings(j));
    section(
        if j.findings.is_empty() { "Changed since the baseline" } else { "Suspects: changed since the baseline" },
        &j.suspects,
    );
    section("Notes", &j.notes);
    if !j.cells.is_empty() {
        let _ = writeln!(out, "\n| {} |\n|{}", HEAD.join(" | "), " --- |".repeat(HEAD.len()));
        let moved = |c: &&Cell| !matches!(c.says, Says::Identical | Says::Shown);
        let rows: Vec<&Cell> = j.cells.iter().filter(moved).chain(j.cells.iter().filter(|c| !moved(c))).collect();
        let failing = j.cells.iter().filter(|c| c.says == Says::Drift).count();
        for cell in rows.iter().take(SHOWN.max(failing)) {
            let _ = writeln!(out, "| {} |", cells(cell).map(|cell| escape(&cell)).join(" | "));
        }
        let more = rows.len().saturating_sub(SHOWN.max(failing));
        if more > 0 {
            let _ = writeln!(out, "\n{more} more metrics did not move or are shown only.");
        }
    }
    out
}
