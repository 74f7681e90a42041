//! `report.html`: one file that opens offline, without scripts, light and dark, on paper and on a phone.

use super::answer;
use super::chart::Chart;
use super::summary::Summary;
use super::table::{self, Table};
use super::words::escape;
use super::{ReportError, gallery, metrics, robustness};
use crate::record::Run;

/// The whole page.
///
/// # Errors
/// [`ReportError::Picture`] if a gallery picture has the wrong size.
pub fn page(run: &Run, summary: &Summary, charts: &[Chart]) -> Result<String, ReportError> {
    let title = format!("{}: retrieval clean and under attack", run.manifest.suite);
    let mut body =
        format!("<header><h1>{}</h1>\n<p class=\"about\">{}</p>\n", escape(&title), escape(&run.manifest.about));
    body += &format!("<p class=\"about\">{}</p></header>\n", escape(&run.manifest.dataset));
    let mut sentences = answer::sentences(run, summary).into_iter();
    if let Some(first) = sentences.next() {
        body += &format!("<section class=\"answer\"><p class=\"first\">{}</p>\n", escape(&first));
        body += &sentences.map(|s| format!("<p>{}</p>\n", escape(&s))).collect::<String>();
        body += "</section>\n";
    }
    if !summary.models.is_empty() {
        let ratios = table::ratios(summary).map(|t| rendered(&t)).unwrap_or_default();
        let together = [robustness::worst_cases(run, summary), robustness::areas(run, summary)];
        let together: String = together.iter().flatten().map(rendered).collect();
        body += &section("results", "Results", &(rendered(&table::headline(summary)) + &ratios + &together));
    }
    let shown = |name: &str| charts.iter().filter(|c| c.name == name).map(chart).collect::<String>();
    body += &section("charts", "Charts", &(shown("recall") + &shown("epsilon")));
    body += &section("retrieval", "Retrieval", &unfolded(&metrics::retrieval(run, summary)));
    body += &section("geometry", "Geometry of the embeddings", &unfolded(&metrics::geometry(run, summary)));
    let classes = robustness::classes(run, summary).map(|t| rendered(&t)).unwrap_or_default();
    body += &section("classes", "Classes", &classes);
    let words: String = table::threat_model(summary).iter().map(|s| format!("<li>{}</li>\n", escape(s))).collect();
    let list = if words.is_empty() { words } else { format!("<ul>{words}</ul>\n") };
    body += &section("threat", "What was attacked, and how", &list);
    let stories: Result<String, ReportError> = run.gallery.iter().map(gallery::story).collect();
    body += &section("gallery", "Pictures", &stories?);
    let training = table::training(run).map(|t| folded("Every training", &rendered(&t))).unwrap_or_default();
    body += &section("training", "Training", &(shown("training") + &training));
    body += &section("checks", "Checks", &table::checks(run).map(|t| rendered(&t)).unwrap_or_default());
    if !run.measurements.is_empty() {
        let summary = format!("All {} trials", run.measurements.len());
        body += &section("trials", "Every trial", &folded(&summary, &rendered(&table::trials(run))));
    }
    let again = format!("<p>Make it again:</p><pre><code>{}</code></pre>\n", escape(&run.manifest.command));
    body += &section("manifest", "How it was made", &(again + &rendered(&table::manifest(run))));
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escape(&title),
        include_str!("style.css")
    ))
}

/// Nothing at all if there is no content.
fn section(id: &str, heading: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("<section id=\"{id}\"><h2>{heading}</h2>\n{content}</section>\n")
}

fn folded(summary: &str, content: &str) -> String {
    format!("<details><summary>{}</summary>\n{content}</details>\n", escape(summary))
}

/// The first table open, the others folded under their captions.
fn unfolded(tables: &[Table]) -> String {
    let show = |(index, table): (usize, &Table)| match index {
        0 => rendered(table),
        _ => folded(&table.caption, &rendered(table)),
    };
    tables.iter().enumerate().map(show).collect()
}

/// The picture is ours and already escaped; the XML head, if any, has no place inside a page.
fn chart(chart: &Chart) -> String {
    let svg = chart.svg.find("<svg").map_or("", |at| &chart.svg[at..]);
    format!(
        "<figure class=\"chart\"><div class=\"scroll\">{svg}</div><figcaption>{}</figcaption></figure>\n",
        escape(&chart.caption)
    )
}

fn rendered(table: &Table) -> String {
    let mut out = format!(
        "<div class=\"scroll\" tabindex=\"0\"><table>\n<caption>{}</caption>\n<thead><tr>",
        escape(&table.caption)
    );
    for (column, head) in table.head.iter().enumerate() {
        let class = if column >= table.words { " class=\"number\"" } else { "" };
        out += &format!("<th scope=\"col\"{class}>{}</th>", escape(head));
    }
    out += "</tr></thead>\n<tbody>\n";
    for row in &table.rows {
        out += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let marks: String =
                cell.marks.iter().map(|m| format!("<sup class=\"mark\" title=\"see note {m}\">!{m}</sup>")).collect();
            let detail = cell
                .detail
                .as_ref()
                .map(|d| format!("<span class=\"detail\">{}</span>", escape(d)))
                .unwrap_or_default();
            let content = format!("{}{marks}{detail}", escape(&cell.text));
            out += &match (column, column >= table.words) {
                (0, _) => format!("<th scope=\"row\">{content}</th>"),
                (_, true) => format!("<td class=\"number\">{content}</td>"),
                (_, false) => format!("<td>{content}</td>"),
            };
        }
        out += "</tr>\n";
    }
    out += "</tbody></table></div>\n";
    for remark in &table.remarks {
        out += &format!("<p class=\"note\">{}</p>\n", escape(remark));
    }
    for (index, note) in table.notes.iter().enumerate() {
        out += &format!("<p class=\"note\"><span class=\"mark\">!{}</span> {}</p>\n", index + 1, escape(note));
    }
    out
}
