//! `report.html`: one file that opens offline, needs no script, light and dark, on paper and on a phone.
//!
//! What the page may do is in its own head: a content security policy that allows no request at all, the styles and the
//! one script by its digest. The script sorts, filters and switches light and dark; without it everything is there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::answer;
use super::chart::Chart;
use super::material::Material;
use super::summary::{Chapter, Summary};
use super::table::{self, Table};
use super::trend::Trend;
use super::words::escape;
use super::{ReportError, corruptions, ers, flips as contest, metrics, published, robustness, threat};

mod appendix;
mod board;
mod comparison;
mod flips;
mod gallery;
mod picture;
mod tables;

pub use board::leaderboard;
pub use comparison::{Compared, comparison};
use tables::{folded, rendered, unfolded};

/// Failed checks that are listed in the open; of more the list is folded.
const FAILED: usize = 12;

/// Questions about two models whose table is in the open; of more it is folded.
const CONTESTS: usize = 24;

/// Bytes that pictures of flipped queries may take of those of all pictures; stories have the rest.
const FLIPS: usize = 1_600_000;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The sections of a page, in order; empty ones never come in.
#[derive(Default)]
struct Sections(Vec<Section>);

struct Section {
    id: &'static str,
    heading: &'static str,
    content: String,
}

impl Sections {
    fn add(&mut self, id: &'static str, heading: &'static str, content: String) {
        if !content.is_empty() {
            self.0.push(Section { id, heading, content });
        }
    }

    fn contents(&self) -> String {
        let link = |s: &Section| format!("<a href=\"#{}\">{}</a>\n", s.id, escape(s.heading));
        let links: String = self.0.iter().map(link).collect();
        format!("<nav aria-label=\"Sections\">\n{links}</nav>\n")
    }

    fn html(&self) -> String {
        let one =
            |s: &Section| format!("<section id=\"{}\"><h2>{}</h2>\n{}</section>\n", s.id, escape(s.heading), s.content);
        self.0.iter().map(one).collect()
    }
}

/// The whole page.
///
/// # Errors
/// [`ReportError::Picture`] if a gallery picture has the wrong size.
pub fn page(material: &Material<'_>, charts: &[Chart]) -> Result<String, ReportError> {
    let run = material.run;
    let title = format!("{}: retrieval clean and under attack", run.manifest.suite);
    let sections = sections(material, charts)?;
    let mut body = format!("<header><h1>{}</h1>\n", escape(&title));
    for text in [&run.manifest.about, &run.manifest.dataset].into_iter().filter(|text| !text.is_empty()) {
        body += &format!("<p class=\"about\">{}</p>\n", escape(text));
    }
    body += "</header>\n";
    let mut sentences = answer::sentences(material).into_iter();
    if let Some(first) = sentences.next() {
        body += &format!("<div class=\"answer\" role=\"note\"><p class=\"first\">{}</p>\n", escape(&first));
        body += &sentences.map(|s| format!("<p>{}</p>\n", escape(&s))).collect::<String>();
        body += "</div>\n";
    }
    body += &sections.contents();
    body += &sections.html();
    body += &format!("<footer>Made by mdprop {}.</footer>\n", escape(&run.manifest.program));
    Ok(document(&title, &body))
}

/// Head and body; the policy in the head names the script by its digest, so that no other can run.
fn document(title: &str, body: &str) -> String {
    let digest = STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
    let policy = format!("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        escape(title)
    )
}

fn sections(material: &Material<'_>, charts: &[Chart]) -> Result<Sections, ReportError> {
    let Material { run, summary, .. } = material;
    let shown = |name: &str| {
        let of_that_name = charts.iter().filter(|c| c.name == name || c.name.starts_with(&format!("{name}-")));
        of_that_name.map(chart).collect::<String>()
    };
    let tables = |list: Vec<Option<Table>>| list.iter().flatten().map(rendered).collect::<String>();
    let mut out = Sections::default();
    if !summary.models.is_empty() {
        let more = [table::ratios(summary), robustness::worst_cases(material)];
        let more: String = more.iter().flatten().map(|t| folded(&t.caption, &rendered(t))).collect();
        let headline = rendered(&table::headline(summary));
        out.add("results", "Results", headline + &shown("recall") + &shown("pareto") + &more);
    }
    let training = table::training(run).map(|t| folded("Every training", &rendered(&t))).unwrap_or_default();
    let models = tables(vec![table::models(run)]) + &shown("training") + &training;
    out.add("models", "Models and training", models);
    for chapter in Chapter::ALL {
        let mut content = chapter_content(material, chapter);
        content += &shown(chapter.id());
        if chapter == Chapter::Clean {
            content += &tables(vec![robustness::classes(material)]);
        }
        if chapter == Chapter::Corruptions {
            content += &tables(vec![corruptions::table(material)]);
        }
        if chapter == Chapter::Ranking && !content.is_empty() {
            content = ers::tables(run, summary).iter().map(rendered).collect::<String>() + &content + &shown("ers");
        }
        out.add(chapter.id(), chapter.title(), content);
    }
    out.add("curves", "Budget curves", shown("epsilon") + &shown("steps") + &tables(vec![robustness::areas(material)]));
    let (counts, contests) = contest::counted(material);
    let flipped = flips::contests(&contests, &run.flips, FLIPS)?;
    out.add("pictures", "Pictures", gallery::stories(run, picture::BYTES.saturating_sub(flipped.len()))?);
    let counts = counts.map(|table| match table.rows.len() {
        0..=CONTESTS => rendered(&table),
        n => folded(&format!("All {n} questions: {}", table.caption), &rendered(&table)),
    });
    out.add("flips", contest::TITLE, counts.unwrap_or_default() + &flipped);
    let geometry = shown("map") + &shown("shift") + &shown("densities") + &shown("spectrum");
    out.add("geometry", "Geometry of the embeddings", geometry + &unfolded(&metrics::geometry(run, summary)));
    out.add("published", "Beside published numbers", tables(vec![published::table(run)]));
    let failed = table::failed_checks(run).map_or_else(String::new, |table| match table.rows.len() {
        0..=FAILED => rendered(&table),
        n => folded(&format!("All {n} of them: {}", table.caption), &rendered(&table)),
    });
    out.add("checks", "Checks", tables(vec![table::checks(run)]) + &failed);
    let nights = material.trend.and_then(Trend::table);
    out.add("history", "Drift and history", shown("history") + &tables(vec![nights]));
    out.add("trials", "Every trial", appendix::trials(material));
    let again = format!("<p>Make it again:</p><pre><code>{}</code></pre>\n", escape(&run.manifest.command));
    out.add("manifest", "How it was made", again + &rendered(&table::manifest(run)));
    Ok(out)
}

/// What was done, recall@1 at every budget, and every metric folded below.
fn chapter_content(material: &Material<'_>, chapter: Chapter) -> String {
    let Material { run, summary, .. } = material;
    let columns = summary.columns_of(chapter);
    if columns.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    let threats: String = threats(summary, chapter).iter().map(|s| format!("<li>{}</li>\n", escape(s))).collect();
    if !threats.is_empty() {
        out += &format!("<ul class=\"threat\">{threats}</ul>\n");
    }
    let own = metrics::retrieval(run, summary, Some(chapter));
    if chapter == Chapter::Clean {
        return out + &own.iter().map(rendered).collect::<String>();
    }
    out += &rendered(&table::chapter(summary, chapter, &columns));
    let joined = |t: &Table| {
        columns
            .iter()
            .map(|c| &summary.conditions[*c])
            .any(|c| c.goal == "robrank" && t.caption.starts_with(&c.label()))
    };
    let show = |t: &Table| if joined(t) { rendered(t) } else { folded(&t.caption, &rendered(t)) };
    out + &own.iter().map(show).collect::<String>()
}

fn threats(summary: &Summary, chapter: Chapter) -> Vec<String> {
    let families = summary.families();
    let own = families.iter().filter(|columns| summary.conditions[columns[0]].chapter() == chapter);
    own.map(|columns| threat::threat(summary, columns)).collect()
}

/// The picture is ours and already escaped; the XML head, if any, has no place inside a page.
fn chart(chart: &Chart) -> String {
    let svg = chart.svg.find("<svg").map_or("", |at| &chart.svg[at..]);
    let name = escape(&chart.name);
    format!(
        "<figure class=\"chart\" id=\"chart-{name}\"><div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-label=\"{caption}\">{svg}</div><figcaption>{caption} <span class=\"file\">charts/{name}.svg</span>\
         </figcaption></figure>\n",
        caption = escape(&chart.caption)
    )
}
