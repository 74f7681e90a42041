//! A comparison as text: for a terminal, for GitHub, for machines.

use std::fmt::Write as _;

use super::compare::{Comparison, Difference, Verdict};

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Aligned columns.
    Text,
    /// A table that GitHub renders.
    Markdown,
    /// Everything, flipped queries included.
    Json,
}

/// The whole comparison; ends with a line break.
pub fn write(comparison: &Comparison, form: Form) -> String {
    match form {
        Form::Json => serde_json::to_string_pretty(comparison).expect("plain numbers and names serialise") + "\n",
        Form::Markdown => markdown(comparison),
        Form::Text => text(comparison),
    }
}

/// Column heads of a comparison.
pub const HEAD: [&str; 7] = ["question", "metric", "A", "B", "B − A", "p (Holm)", "says"];

/// A row of a comparison, as long as [`HEAD`].
pub fn cells(c: &Comparison, d: &Difference) -> [String; 7] {
    let percent = |value: f64| if value.is_nan() { "–".into() } else { format!("{:.1}", 100.0 * value) };
    let (low, high) = d.interval;
    let difference = format!("{:+.1} [{}, {}]", 100.0 * d.difference, percent(low), percent(high));
    let p = match d.p_adjusted {
        p if p.is_nan() => "–".into(),
        p if p < 0.001 => "< 0.001".into(),
        p => format!("{p:.3}"),
    };
    [d.question.clone(), d.metric.clone(), percent(d.a), percent(d.b), difference, p, says(c, d)]
}

/// What the test says, in words.
pub(super) fn says(c: &Comparison, d: &Difference) -> String {
    match (d.verdict, d.queries_needed) {
        (Verdict::ABetter, _) => format!("{} better", c.a),
        (Verdict::BBetter, _) => format!("{} better", c.b),
        (Verdict::Identical, _) => "identical".into(),
        (Verdict::NotShown, Some(n)) if n > d.queries as u64 => {
            format!("no difference shown, would need {n} queries")
        }
        (Verdict::NotShown, _) => "no difference shown".into(),
    }
}

/// What a reader should leave with; ends with a line break.
pub fn conclusion(c: &Comparison) -> String {
    let count = |verdict: Verdict| c.differences.iter().filter(|d| d.verdict == verdict).count();
    let (a, b) = (count(Verdict::ABetter), count(Verdict::BBetter));
    let total = c.differences.len();
    let beats = |better: &str, other: &str, n: usize| format!("{better} beats {other} in {n} of {total} comparisons");
    let mut text = match (a, b) {
        (0, 0) if count(Verdict::Identical) == total => {
            format!("A ({}) and B ({}) are identical, query by query", c.a, c.b)
        }
        (0, 0) => format!("no difference between A ({}) and B ({}) is shown in {total} comparisons", c.a, c.b),
        (a, 0) => beats(&c.a, &c.b, a),
        (0, b) => beats(&c.b, &c.a, b),
        (a, b) => format!("{} better in {a}, {} better in {b} of {total} comparisons", c.a, c.b),
    };
    text += " (paired per query, corrected over all of them by Holm, 5 %).\n";
    if !c.unmatched.is_empty() {
        let _ = writeln!(text, "{} trials are in one of them only: {}", c.unmatched.len(), c.unmatched.join("; "));
    }
    text
}

fn markdown(c: &Comparison) -> String {
    // A name may hold what a table row ends at.
    let escape = |cell: &str| cell.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ");
    let mut out = format!("A = {}, B = {}. {}\n", escape(&c.a), escape(&c.b), escape(conclusion(c).trim_end()));
    let _ = writeln!(out, "\n| {} |\n|{}", HEAD.join(" | "), " --- |".repeat(HEAD.len()));
    for d in &c.differences {
        let _ = writeln!(out, "| {} |", cells(c, d).map(|cell| escape(&cell)).join(" | "));
    }
    out
}

fn text(c: &Comparison) -> String {
    let rows: Vec<[String; 7]> = c.differences.iter().map(|d| cells(c, d)).collect();
    let mut widths = HEAD.map(|head| head.chars().count());
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
    }
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(i, (cell, w))| if (2..6).contains(&i) { format!("{cell:>w$}") } else { format!("{cell:w$}") })
            .collect();
        padded.join("  ").trim_end().to_string() + "\n"
    };
    let mut out = format!("A = {}\nB = {}\n\n", c.a, c.b) + &line(&HEAD.map(String::from));
    rows.iter().for_each(|row| out += &line(row));
    out + "\n" + &conclusion(c)
}
