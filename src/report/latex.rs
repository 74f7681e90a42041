//! Tables for papers: LaTeX with booktabs, the best in bold, intervals below the numbers.

use super::material::Material;
use super::summary::{Chapter, Summary};
use super::table::{self, Table, TableCell};

/// Columns of numbers that fit on a page of a paper in one column.
const WIDE: usize = 4;

/// File name without ending, and text, of each table: the headline and every chapter that has attacks.
pub fn tables(material: &Material<'_>) -> Vec<(String, String)> {
    let summary = &material.summary;
    if summary.models.is_empty() {
        return vec![];
    }
    let mut out = vec![("headline".to_string(), document(&upright(table::headline(summary)), "headline", material))];
    for chapter in Chapter::ALL.into_iter().filter(|c| *c != Chapter::Clean) {
        let columns = summary.columns_of(chapter);
        if !columns.is_empty() {
            let table = upright(with_clean(summary, chapter, &columns));
            out.push((chapter.id().to_string(), document(&table, chapter.id(), material)));
        }
    }
    out
}

/// The chapter's columns beside the clean one.
fn with_clean(summary: &Summary, chapter: Chapter, columns: &[usize]) -> Table {
    let columns: Vec<usize> = summary.clean().into_iter().chain(columns.iter().copied()).collect();
    table::chapter(summary, chapter, &columns)
}

/// The table on its side if it has more columns than a page has room for and fewer rows.
fn upright(table: Table) -> Table {
    let columns = table.head.len() - 1;
    if columns <= WIDE || table.rows.len() >= columns {
        return table;
    }
    let first = |row: &Vec<TableCell>| row[0].text.clone();
    let turned = |column: usize| {
        let name = TableCell::new(&table.head[column]);
        std::iter::once(name).chain(table.rows.iter().map(|row| row[column].clone())).collect()
    };
    Table {
        head: std::iter::once("attack".to_string()).chain(table.rows.iter().map(first)).collect(),
        rows: (1..table.head.len()).map(turned).collect(),
        ..table
    }
}

fn document(table: &Table, name: &str, material: &Material<'_>) -> String {
    let suite = &material.run.manifest.suite;
    let mut out = format!(
        "% {}\n% Needs \\usepackage{{booktabs}}. Made from plan {}.\n",
        comment(&material.run.manifest.command),
        comment(&material.run.manifest.plan)
    );
    out += "\\begin{table}\n\\centering\n";
    out += &format!("\\caption{{{}. {}}}\n", escape(suite), escape(&table.caption));
    let label: String = suite.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    out += &format!("\\label{{tab:{label}-{name}}}\n");
    let align: String = (0..table.head.len()).map(|c| if c < table.words { 'l' } else { 'r' }).collect();
    out += &format!("\\begin{{tabular}}{{{align}}}\n\\toprule\n");
    out += &line(table.head.iter().enumerate().map(|(c, head)| if c == 0 { escape(head) } else { stacked_head(head) }));
    out += "\\midrule\n";
    for (index, row) in table.rows.iter().enumerate() {
        if index > 0 {
            out += "\\addlinespace\n";
        }
        out += &line(row.iter().map(cell));
    }
    out += "\\bottomrule\n\\end{tabular}\n\\end{table}\n";
    for (index, note) in table.notes.iter().enumerate() {
        out += &format!("% note {}: {}\n", index + 1, comment(note));
    }
    for remark in &table.remarks {
        out += &format!("% {}\n", comment(remark));
    }
    out
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("{} \\\\\n", cells.collect::<Vec<_>>().join(" & "))
}

fn cell(cell: &TableCell) -> String {
    let mut text = escape(&cell.text);
    if cell.best {
        text = format!("\\textbf{{{text}}}");
    }
    let marks: Vec<String> = cell.marks.iter().map(usize::to_string).collect();
    if !marks.is_empty() {
        text += &format!("$^{{{}}}$", marks.join(","));
    }
    match &cell.detail {
        Some(detail) => stack('t', &text, &format!("{{\\scriptsize {}}}", escape(detail))),
        None => text,
    }
}

/// Two lines in one cell, of which the first (`t`) or the last (`b`) stands on the row's line.
fn stack(place: char, above: &str, below: &str) -> String {
    format!("\\begin{{tabular}}[{place}]{{@{{}}r@{{}}}}{above}\\\\ {below}\\end{{tabular}}")
}

/// A head in two lines of about the same length.
fn stacked_head(head: &str) -> String {
    let longer = |at: &usize| (*at).max(head.len() - at);
    match head.match_indices(' ').map(|(at, _)| at).min_by_key(longer) {
        Some(at) => stack('b', &escape(&head[..at]), &escape(&head[at + 1..])),
        None => escape(head),
    }
}

/// One line of a comment, whatever the text.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '\u{2028}' || c == '\u{2029}' { ' ' } else { c }).collect()
}

/// Text that LaTeX prints as it is.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                out.push('\\');
                out.push(c);
            }
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '<' => out += "\\textless{}",
            '>' => out += "\\textgreater{}",
            '"' => out += "\\textquotedbl{}",
            // A bracket at the start of a cell would be read as the option of the line break before it.
            '[' => out += "{[}",
            ']' => out += "{]}",
            '–' => out += "--",
            '×' => out += "$\\times$",
            '→' => out += "$\\rightarrow$",
            '∞' => out += "$\\infty$",
            'ε' => out += "$\\epsilon$",
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample::{self, Shape};

    #[test]
    fn the_headline_is_as_it_was() {
        let shape = Shape { queries: 60, levels: vec![8], ..Shape::default() };
        let run = sample::make(&shape);
        let text = &tables(&Material::of(&run))[0].1;
        crate::report::tests::assert_snapshot("headline.tex", text);
    }

    #[test]
    fn every_row_has_the_cells_of_its_head_and_braces_close() {
        let mut shape = Shape::default();
        shape.models[1].0 = "evil_&%$#{}\\~^<\"[x]\n".into();
        let run = sample::make(&shape);
        let all = tables(&Material::of(&run));
        let names: Vec<&str> = all.iter().map(|t| t.0.as_str()).collect();
        assert_eq!(names, ["headline", "single-target", "multi-target"]);
        for (_, text) in &all {
            let code: String = text.lines().filter(|l| !l.starts_with('%')).map(|l| format!("{l}\n")).collect();
            let bare = code.replace("\\{", "").replace("\\}", "").replace("\\&", "");
            assert_eq!(bare.matches('{').count(), bare.matches('}').count());
            let columns: Vec<usize> =
                bare.lines().filter(|l| l.ends_with("\\\\")).map(|l| l.matches(" & ").count()).collect();
            assert_eq!(columns.len(), 5);
            assert!(columns.windows(2).all(|w| w[0] == w[1]), "{columns:?}");
            assert!(code.contains("\\textbf{"));
        }
        assert!(all[0].1.contains("evil\\_\\&\\%\\$\\#\\{\\}\\textbackslash{}"));
    }
}
