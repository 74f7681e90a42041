//! `mdprop compare --report`: a comparison with pictures of the flipped queries.

use super::super::ReportError;
use super::super::table::{Table, TableCell};
use super::super::words::escape;
use super::picture::BYTES;
use super::tables::{folded, rendered};
use super::{Sections, document, flips};
use crate::drift::words::{HEAD, cells, conclusion};
use crate::drift::{Comparison, Contest, Difference};
use crate::record::{FlippedQuery, Manifest};

/// A comparison and everything that its page shows.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// The paired tests.
    pub comparison: &'a Comparison,
    /// Its questions about recall@1.
    pub contests: &'a [Contest<'a>],
    /// Their flipped queries, as many as are told.
    pub flips: &'a [FlippedQuery],
    /// The run folders, one or two: name and manifest.
    pub runs: &'a [(String, &'a Manifest)],
}

/// The whole page.
///
/// # Errors
/// [`ReportError::Picture`] if a picture has the wrong size.
pub fn comparison(compared: &Compared<'_>) -> Result<String, ReportError> {
    let Compared { comparison, contests, runs, .. } = *compared;
    let title = format!("{} against {}, query by query", comparison.a, comparison.b);
    let mut body = format!("<header><h1>{}</h1>\n", escape(&title));
    body += &format!("<p class=\"about\">A = {}, B = {}</p>\n", escape(&comparison.a), escape(&comparison.b));
    if let Some((_, manifest)) = runs.first() {
        body += &format!("<p class=\"about\">{}</p>\n", escape(&manifest.dataset));
    }
    let conclusion = conclusion(comparison);
    let mut sentences = conclusion.lines();
    let first = sentences.next().unwrap_or_default();
    body += &format!("</header>\n<div class=\"answer\" role=\"note\"><p class=\"first\">{}</p>\n", escape(first));
    body += &sentences.map(|s| format!("<p>{}</p>\n", escape(s))).collect::<String>();
    body += "</div>\n";
    let mut out = Sections::default();
    let recall = |d: &&Difference| d.metric == "recall@1";
    let every: Vec<&Difference> = comparison.differences.iter().collect();
    let headline: Vec<&Difference> = every.iter().copied().filter(recall).collect();
    let every_metric = || rendered(&differences(comparison, &every, "Every metric"));
    let differences = match headline.len() {
        0 => every_metric(),
        n if n == every.len() => rendered(&with_counts(comparison, &headline)),
        _ => rendered(&with_counts(comparison, &headline)) + &folded("Every metric", &every_metric()),
    };
    out.add("differences", "Differences", differences);
    let pictures = flips::contests(contests, compared.flips, BYTES)?;
    out.add("flips", "Queries that only one of the two answers", pictures);
    out.add("manifest", "How it was made", runs.iter().map(|(name, manifest)| made(name, manifest)).collect());
    body += &out.contents();
    body += &out.html();
    if let Some((_, manifest)) = runs.first() {
        body += &format!("<footer>Made by mdprop {}.</footer>\n", escape(&manifest.program));
    }
    Ok(document(&title, &body))
}

/// The rows of a comparison, in percent.
fn differences(comparison: &Comparison, rows: &[&Difference], what: &str) -> Table {
    // Words first: what it says goes before the numbers.
    let order = [0, 1, 6, 2, 3, 4, 5];
    let row = |d: &&Difference| {
        let cells = cells(comparison, d);
        order.map(|column| TableCell::new(cells[column].as_str())).into()
    };
    Table {
        caption: format!(
            "{what}, in percent; B − A with its 95 % interval, p corrected by Holm over every metric and question"
        ),
        head: order.map(|column| HEAD[column].to_string()).into(),
        words: 3,
        rows: rows.iter().map(row).collect(),
        ..Table::default()
    }
}

/// [`differences`] of a hit, with the queries behind them.
fn with_counts(comparison: &Comparison, rows: &[&Difference]) -> Table {
    let mut table = differences(comparison, rows, "recall@1");
    // The caption names the one metric; the width is wanted for the counts.
    let metric = table.head.iter().position(|head| head == "metric");
    if let Some(column) = metric {
        table.words -= 1;
        table.head.remove(column);
        table.rows.iter_mut().for_each(|row| drop(row.remove(column)));
    }
    table.head.extend(["queries", "A alone right", "B alone right"].map(String::from));
    for (row, d) in table.rows.iter_mut().zip(rows) {
        row.extend([d.queries.to_string(), d.only.0.to_string(), d.only.1.to_string()].map(TableCell::new));
    }
    table
}

fn made(name: &str, manifest: &Manifest) -> String {
    let [name, command] = [name, &manifest.command].map(escape);
    format!(
        "<p>{name}: suite {}, data set {}, by mdprop {}</p><pre><code>{command}</code></pre>\n",
        escape(&manifest.suite),
        escape(&manifest.dataset_digest.chars().take(12).collect::<String>()),
        escape(&manifest.program)
    )
}
