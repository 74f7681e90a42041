//! Tables of the page: sortable by the script, each number a link to its trials.

use super::super::table::{Table, TableCell};
use super::super::words::escape;

/// From so many characters on, a column of words is prose and wants width.
const LONG: usize = 40;

/// Content that is closed until asked for; paper has it only if it is open.
pub(super) fn folded(summary: &str, content: &str) -> String {
    format!("<details><summary>{}</summary>\n{content}</details>\n", escape(summary))
}

/// The first table open, the others folded under their captions.
pub(super) fn unfolded(tables: &[Table]) -> String {
    let show = |(index, table): (usize, &Table)| match index {
        0 => rendered(table),
        _ => folded(&table.caption, &rendered(table)),
    };
    tables.iter().enumerate().map(show).collect()
}

/// A table that scrolls by itself where it is wider than the page, with its notes below.
pub(super) fn rendered(table: &Table) -> String {
    let caption = escape(&table.caption);
    let sortable = if table.rows.len() > 1 { " class=\"sortable\"" } else { "" };
    let mut out = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table{sortable}>\n\
         <caption><span>{caption}</span></caption>\n<thead><tr>"
    );
    for (column, head) in table.head.iter().enumerate() {
        let class = if column >= table.words { " class=\"number\"" } else { "" };
        out += &format!("<th scope=\"col\"{class}>{}</th>", escape(head));
    }
    out += "</tr></thead>\n<tbody>\n";
    let long = |column: usize| table.rows.iter().any(|row| row[column].text.chars().count() > LONG);
    let long: Vec<bool> = (0..table.head.len()).map(long).collect();
    for row in &table.rows {
        out += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let content = content(cell);
            out += &match (column, column >= table.words) {
                (0, _) => format!("<th scope=\"row\">{content}</th>"),
                (_, true) => format!("<td class=\"number\">{content}</td>"),
                _ if long[column] => format!("<td class=\"long\">{content}</td>"),
                (_, false) => format!("<td>{content}</td>"),
            };
        }
        out += "</tr>\n";
    }
    out += "</tbody></table></div>\n";
    for (index, note) in table.notes.iter().enumerate() {
        out += &format!("<p class=\"note\"><span class=\"mark\">!{}</span> {}</p>\n", index + 1, escape(note));
    }
    for remark in &table.remarks {
        out += &format!("<p class=\"note\">{}</p>\n", escape(remark));
    }
    out
}

fn content(cell: &TableCell) -> String {
    let marks: String =
        cell.marks.iter().map(|m| format!("<sup class=\"mark\" title=\"see note {m}\">!{m}</sup>")).collect();
    // An interval stays whole; what follows it may go to the next line.
    let joined = |d: &String| escape(d).replace(", ", ",\u{a0}").replace("sd ", "sd\u{a0}");
    let detail =
        cell.detail.as_ref().map(|d| format!("<span class=\"detail\">{}</span>", joined(d))).unwrap_or_default();
    let mut text = escape(&cell.text);
    if cell.best {
        text = format!("<b>{text}</b>");
    }
    if let Some(link) = &cell.link {
        text = format!("<a href=\"#{link}\">{text}</a>");
    }
    format!("{text}{marks}{detail}")
}
