//! The headline table for a terminal: aligned, within a width, colour only when asked.

use super::summary::Summary;
use super::table::{self, Table, TableCell};
use super::words::shorten;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; wider tables are cut into blocks.
    pub width: usize,
    /// Whether ANSI colours are wanted.
    pub colour: bool,
}

/// recall@1 per model and condition. Every line fits into the width (at least 40).
pub fn headline(summary: &Summary, style: Style) -> String {
    table(&table::headline(summary), style)
}

/// Any table, its first column repeated where it must be cut into blocks. Every line fits into the width (at least 40).
pub fn table(table: &Table, style: Style) -> String {
    let width = style.width.max(40);
    let text = |cell: &TableCell| {
        let marks: String = cell.marks.iter().map(|m| format!(" !{m}")).collect();
        let detail = cell.detail.as_ref().map(|d| format!(" {d}")).unwrap_or_default();
        (format!("{}{detail}{marks}", clean_text(&cell.text)), !cell.marks.is_empty())
    };
    let names: Vec<String> = table.rows.iter().map(|row| shorten(&clean_text(&row[0].text), width / 3)).collect();
    let first = names
        .iter()
        .map(|n| n.chars().count())
        .max()
        .unwrap_or(0)
        .max(clean_text(&table.head[0]).chars().count().min(width / 3));
    let room = width - first - 2;
    let cells: Vec<Vec<(String, bool)>> = table.rows.iter().map(|row| row[1..].iter().map(text).collect()).collect();
    let widths: Vec<usize> = (0..table.head.len() - 1)
        .map(|c| cells.iter().map(|row| row[c].0.chars().count()).max().unwrap_or(0))
        .zip(&table.head[1..])
        .map(|(widest, head)| widest.max(head.chars().count()).min(room))
        .collect();
    let paint = |text: String, code: &str| if style.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text };
    let mut out = String::new();
    let mut start = 0;
    while start < widths.len() {
        let mut end = start + 1;
        let mut used = widths[start];
        while end < widths.len() && used + 2 + widths[end] <= room {
            used += 2 + widths[end];
            end += 1;
        }
        if start > 0 {
            out.push('\n');
        }
        let mut line = format!("{:first$}", shorten(&clean_text(&table.head[0]), first));
        for (head, w) in table.head[1..].iter().zip(&widths).take(end).skip(start) {
            line += &format!("  {:>w$}", shorten(&clean_text(head), *w), w = *w);
        }
        out += &paint(line, "1");
        out.push('\n');
        for (name, row) in names.iter().zip(&cells) {
            out += &format!("{name:first$}");
            for ((text, marked), w) in row.iter().zip(&widths).take(end).skip(start) {
                let padded = format!("  {:>w$}", shorten(text, *w), w = *w);
                out += &if *marked { paint(padded, "31") } else { padded };
            }
            out.push('\n');
        }
        start = end;
    }
    let numbered = table.notes.iter().enumerate().map(|(i, note)| format!("!{} {note}", i + 1));
    for note in std::iter::once(table.caption.clone()).chain(table.remarks.clone()).chain(numbered) {
        out += &wrap(&clean_text(&note), width);
    }
    out
}

const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// recall@1 from clean to the largest budget of each attack that has several: a bar a budget, and the numbers at both
/// ends. Empty if no attack has; every line fits into the width (at least 40).
pub fn curves(summary: &Summary, style: Style) -> String {
    let width = style.width.max(40);
    let Some(clean) = summary.clean() else { return String::new() };
    let families: Vec<Vec<usize>> = summary.families().into_iter().filter(|f| f.len() > 1).collect();
    let value = |m: usize, c: usize| summary.recall(m, c).map(|r| r.value);
    let all = |c: usize| (0..summary.models.len()).filter_map(move |m| value(m, c));
    let most = families.iter().flatten().chain([&clean]).flat_map(|c| all(*c)).fold(1e-9, f64::max);
    let names: Vec<String> = summary.models.iter().map(|m| shorten(&clean_text(&m.model), width / 3)).collect();
    let first = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for family in &families {
        let last = &summary.conditions[family[family.len() - 1]];
        let title = format!("recall@1 %, from clean to {} {}", last.attack, last.epsilon);
        let mut lines = String::new();
        for (m, name) in names.iter().enumerate() {
            let points: Vec<f64> = [&clean].into_iter().chain(family).filter_map(|c| value(m, *c)).collect();
            if points.len() < 2 {
                continue;
            }
            let room = width.saturating_sub(first + 18).max(1);
            let step = |v: &f64| STEPS[((v / most * 8.0) as usize).min(7)];
            let bars: String = points.iter().take(room).map(step).collect();
            let bars = if style.colour { format!("\x1b[36m{bars}\x1b[0m") } else { bars };
            let ends = (100.0 * points[0], 100.0 * points[points.len() - 1]);
            lines += &format!("{name:first$}  {bars}  {:.1} → {:.1}\n", ends.0, ends.1);
        }
        if !lines.is_empty() {
            out += &format!("\n{}\n{lines}", shorten(&clean_text(&title), width));
        }
    }
    out
}

/// Without control characters: a model id must not move the cursor.
fn clean_text(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn wrap(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let word = shorten(word, width);
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push('\n');
            column = 0;
        }
        if column > 0 {
            out.push(' ');
            column += 1;
        }
        out += &word;
        column += length;
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample::{self, Shape};

    #[test]
    fn every_line_fits_and_every_number_is_there() {
        let mut shape = Shape::default();
        shape.models[3].0 = "a-very-long-model-name-".repeat(6);
        let summary = Summary::of(&sample::make(&shape));
        for width in [40, 80, 120, 400] {
            let text = headline(&summary, Style { width, colour: false });
            assert!(text.lines().all(|l| l.chars().count() <= width), "width {width}:\n{text}");
            for model in 0..4 {
                let wanted = format!("{:.1} [", 100.0 * summary.recall(model, 3).unwrap().value);
                assert!(text.contains(&wanted), "{wanted} not in\n{text}");
            }
        }
    }

    #[test]
    fn curves_are_bars_with_the_numbers_at_both_ends() {
        let mut shape = Shape::default();
        shape.models[3].0 = "a-very-long-model-name-".repeat(6);
        let summary = Summary::of(&sample::make(&shape));
        for width in [40, 80, 200] {
            let text = curves(&summary, Style { width, colour: false });
            assert!(text.lines().all(|l| l.chars().count() <= width), "width {width}:\n{text}");
            let percent = |c: usize| format!("{:.1}", 100.0 * summary.recall(1, c).unwrap().value);
            assert!(text.contains(&format!("{} → {}", percent(0), percent(3))), "{text}");
            assert_eq!(text.matches("recall@1 %, from clean to").count(), 2);
        }
        let line = |text: &str| text.lines().nth(2).unwrap().to_string();
        let plain = line(&curves(&summary, Style { width: 80, colour: false }));
        let bars: Vec<char> = plain.chars().filter(|c| STEPS.contains(c)).collect();
        assert_eq!(bars.len(), 4);
        assert!(bars.windows(2).all(|w| w[0] >= w[1]), "{bars:?}");
        assert!(curves(&summary, Style { width: 80, colour: true }).contains("\x1b[36m"));
        let clean_only = Shape { levels: vec![], ..Shape::default() };
        assert_eq!(curves(&Summary::of(&sample::make(&clean_only)), Style { width: 80, colour: false }), "");
    }

    #[test]
    fn failed_checks_are_marked_and_explained() {
        let summary = Summary::of(&sample::run());
        let plain = headline(&summary, Style { width: 200, colour: false });
        assert!(plain.contains(" !1") && plain.contains("!1 standard, multi 24/255, seed 0: check zero-gradients"));
        assert!(!plain.contains('\x1b'));
        assert!(headline(&summary, Style { width: 200, colour: true }).contains("\x1b[31m"));
    }
}
