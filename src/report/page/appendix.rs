//! Every trial: its numbers, how it was made, and the command that makes it again.

use std::collections::BTreeMap;

use super::super::material::Material;
use super::super::table::{self, Table, TableCell, anchor};
use super::super::words::escape;
use crate::record::Measurement;

/// Columns of words that the page leaves out of the table: they are in each trial's details.
const LEFT_OUT: [&str; 4] = ["goal", "method", "side", "branches"];

/// Trials that are printed; of more paper only has the number.
const PRINTED: usize = 40;

/// One row a trial, those of a model and a condition together under the anchor that the numbers above link to.
pub(super) fn trials(material: &Material<'_>) -> String {
    let run = material.run;
    if run.measurements.is_empty() {
        return String::new();
    }
    let table = table::trials(run);
    let kept: Vec<usize> = (0..table.head.len()).filter(|c| !LEFT_OUT.contains(&table.head[*c].as_str())).collect();
    let words = kept.iter().filter(|c| **c < table.words).count();
    let mut groups: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (index, m) in run.measurements.iter().enumerate() {
        groups.entry(material.summary.place(m).unwrap_or((usize::MAX, index))).or_default().push(index);
    }
    let mut out = format!("<p>{}</p>\n", escape(&table.caption));
    out += "<p class=\"filter\"><label>Show trials with <input type=\"search\" data-filter=\"all-trials\" \
            placeholder=\"a model, an attack, a key\"></label></p>\n";
    let count = run.measurements.len();
    let mut class = "scroll";
    if count > PRINTED {
        class = "scroll only-screen";
        out += &format!("<p class=\"note only-print\">{count} trials: on the screen, and in measurements.csv.</p>\n");
    }
    out += &format!("<div class=\"{class}\"");
    out += " tabindex=\"0\" role=\"region\" aria-label=\"Every trial\"><table id=\"all-trials\" \
            class=\"sortable\">\n<thead><tr>";
    for (place, column) in kept.iter().enumerate() {
        let class = if place >= words { " class=\"number\"" } else { "" };
        out += &format!("<th scope=\"col\"{class}>{}</th>", escape(&table.head[*column]));
    }
    out += "</tr></thead>\n";
    for ((model, condition), members) in &groups {
        let id = if *model == usize::MAX { String::new() } else { format!(" id=\"{}\"", anchor(*model, *condition)) };
        out += &format!("<tbody{id}>\n");
        for index in members {
            out += &row(&run.measurements[*index], &run.manifest.command, &table, &table.rows[*index], &kept);
        }
        out += "</tbody>\n";
    }
    out + "</table></div>\n"
}

fn row(m: &Measurement, command: &str, table: &Table, cells: &[TableCell], kept: &[usize]) -> String {
    let mut out = format!("<tr id=\"t-{}\">", escape(&m.trial));
    for (place, column) in kept.iter().enumerate() {
        let cell = &cells[*column];
        let detail =
            cell.detail.as_ref().map(|d| format!("<span class=\"detail\">{}</span>", escape(d))).unwrap_or_default();
        let text = format!("{}{detail}", escape(&cell.text));
        out += &match (place, *column >= table.words) {
            (0, _) => format!("<th scope=\"row\">{text}{}</th>", details(m, command)),
            (_, true) => format!("<td class=\"number\">{text}</td>"),
            (_, false) => format!("<td>{text}</td>"),
        };
    }
    out + "</tr>\n"
}

/// What a reviewer needs to check the number: key, files, method, checks, and the command.
fn details(m: &Measurement, command: &str) -> String {
    let again = format!("{command} --trial {}", m.trial);
    let mut lines = vec![format!("<code class=\"command\">{}</code>", escape(&again))];
    if m.method != "none" {
        lines.push(escape(&format!(
            "{}, goal {}, side {}, ε {} (L∞ {:.4} of the pixel range), {} steps, {} restarts",
            m.method, m.goal, m.side, m.epsilon, m.epsilon_pixels, m.steps, m.restarts
        )));
    }
    lines.push(escape(&format!(
        "crafted on {}, answered by {} (ONNX file {}, on {}); epoch chosen on {}; suite seed {}; outcomes of its \
         queries: rows with trial = {} of queries.parquet",
        m.crafted_on, m.answered_by, m.artefact, m.provider, m.selected_on, m.seed, m.trial
    )));
    for check in &m.checks {
        let mark = if check.passed { "✓" } else { "✗" };
        lines.push(escape(&format!("{mark} {}: {}", check.name, check.detail)));
    }
    let lines: String = lines.into_iter().map(|line| format!("<p>{line}</p>")).collect();
    format!("<details class=\"trial\"><summary>{}</summary>{lines}</details>", escape(&m.trial))
}
