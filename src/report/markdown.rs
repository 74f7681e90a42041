//! `report.md`: the same tables for GitHub; charts are linked as files.

use super::answer;
use super::chart::Chart;
use super::leaderboard::{self, Board};
use super::material::Material;
use super::summary::Chapter;
use super::table::{self, Table, TableCell};
use super::words::escape_markdown as escape;
use super::{corruptions, ers, flips, metrics, published, robustness, threat};

/// The whole document. Pictures of the gallery are in the HTML report only.
pub fn page(material: &Material<'_>, charts: &[Chart]) -> String {
    let Material { run, summary, .. } = material;
    let mut out = format!("# {}: retrieval clean and under attack\n\n", escape(&run.manifest.suite));
    for text in [&run.manifest.about, &run.manifest.dataset].into_iter().filter(|t| !t.is_empty()) {
        out += &format!("{}\n\n", escape(text));
    }
    for (index, sentence) in answer::sentences(material).iter().enumerate() {
        out += &if index == 0 { format!("**{}**\n\n", escape(sentence)) } else { format!("{}\n\n", escape(sentence)) };
    }
    let shown = |names: &[&str]| -> String {
        let list = charts.iter().filter(|chart| names.contains(&chart.name.as_str()));
        list.map(|chart| format!("![{}](charts/{}.svg)\n\n", escape(&chart.caption), chart.name)).collect()
    };
    if !summary.models.is_empty() {
        out += "## Results\n\n";
        out += &rendered(&table::headline(summary));
        out += &shown(&["recall", "pareto"]);
        let more = [table::ratios(summary), robustness::worst_cases(material), robustness::areas(material)];
        out += &more.iter().flatten().map(rendered).collect::<String>();
    }
    if let Some(table) = published::table(run) {
        out += &format!("## Beside published numbers\n\n{}", rendered(&table));
    }
    for chapter in Chapter::ALL.into_iter().filter(|c| *c != Chapter::Clean) {
        let columns = summary.columns_of(chapter);
        if !columns.is_empty() {
            out += &format!("## {}\n\n", chapter.title());
            if chapter == Chapter::Ranking {
                out += &ers::tables(run, summary).iter().map(rendered).collect::<String>();
            }
            out += &rendered(&table::chapter(summary, chapter, &columns));
            if chapter == Chapter::Corruptions {
                out += &corruptions::table(material).iter().map(rendered).collect::<String>();
            }
            out += &shown(&[chapter.id(), &format!("{}-loss", chapter.id())]);
        }
    }
    let rest = shown(&["epsilon", "map", "shift", "densities", "spectrum", "training", "history"]);
    if !rest.is_empty() {
        out += &format!("## Charts\n\n{rest}");
    }
    let classes = robustness::classes(material).into_iter().collect();
    let sections = [
        ("Retrieval", metrics::retrieval(run, summary, None)),
        ("Geometry of the embeddings", metrics::geometry(run, summary)),
        ("Classes", classes),
    ];
    for (heading, tables) in sections.iter().filter(|(_, tables)| !tables.is_empty()) {
        out += &format!("## {heading}\n\n{}", tables.iter().map(rendered).collect::<String>());
    }
    let (table, contests) = flips::counted(material);
    if let Some(table) = table {
        out += &format!("## {}\n\n{}", flips::TITLE, rendered(&table));
        let lines = flips::lines(&contests);
        out += &lines.iter().map(|line| format!("- {}\n", escape(line))).collect::<String>();
        out.push('\n');
    }
    let threat = threat::threat_model(summary);
    if !threat.is_empty() {
        out += "## What was attacked, and how\n\n";
        out += &threat.iter().map(|s| format!("- {}\n", escape(s))).collect::<String>();
        out.push('\n');
    }
    for (heading, table) in [("Training", table::training(run)), ("Checks", table::checks(run))] {
        if let Some(table) = table {
            out += &format!("## {heading}\n\n{}", rendered(&table));
        }
    }
    if !run.measurements.is_empty() {
        out += &format!("## Every trial\n\n{}", rendered(&table::trials(run)));
    }
    let command: String = run.manifest.command.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    out += &format!("## How it was made\n\n    {command}\n\n{}", rendered(&table::manifest(run)));
    out
}

/// A leaderboard.
pub fn leaderboard(boards: &[Board], runs: &[String]) -> String {
    let runs = runs.iter().map(|r| escape(r)).collect::<Vec<_>>().join(", ");
    let mut out = format!("# Leaderboard\n\nOf {runs}.\n\n");
    if boards.is_empty() {
        out += "No result fits.\n";
    }
    out + &boards.iter().map(|board| rendered(&leaderboard::table(board))).collect::<String>()
}

fn rendered(table: &Table) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = format!("{}\n\n", escape(&table.caption));
    out += &line(table.head.iter().map(|h| escape(h)).collect());
    out += &line((0..table.head.len()).map(|c| if c < table.words { ":--" } else { "--:" }.to_string()).collect());
    for row in &table.rows {
        out += &line(row.iter().map(cell).collect());
    }
    out.push('\n');
    for remark in &table.remarks {
        out += &format!("{}\n\n", escape(remark));
    }
    for (index, note) in table.notes.iter().enumerate() {
        out += &format!("**!{}** {}\n\n", index + 1, escape(note));
    }
    out
}

fn cell(cell: &TableCell) -> String {
    let marks: String = cell.marks.iter().map(|m| format!(" **!{m}**")).collect();
    let detail = cell.detail.as_ref().map(|d| format!(" {}", escape(d))).unwrap_or_default();
    let text = if cell.best { format!("**{}**", escape(&cell.text)) } else { escape(&cell.text) };
    format!("{text}{detail}{marks}")
}
