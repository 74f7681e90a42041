//! A dot plot: one row a part, one mark a model.

use plotters::style::text_anchor::HPos;

use super::super::words::shorten;
use super::{ChartError, FAINT, INK, line, mark, picture, style, text, tick_text, ticks};

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct DotRow {
    /// What it is.
    pub label: String,
    /// One value a model, in the order of the names; `None` where there is none.
    pub values: Vec<Option<f64>>,
}

const WIDTH: i32 = 860;
const ROW: i32 = 26;

/// Draws the rows on a common axis from 0; `names`: each model with its style.
///
/// # Errors
/// [`ChartError`] if the drawing library refuses.
pub fn dots(title: &str, axis: &str, names: &[(String, usize)], rows: &[DotRow]) -> Result<String, ChartError> {
    let legend_rows = names.len().div_ceil(4) as i32;
    let top = 44 + 20 * legend_rows + 10;
    let bottom = top + ROW * rows.len() as i32;
    let widest = rows.iter().map(|r| r.label.chars().count().min(30)).max().unwrap_or(0) as i32;
    let (left, right) = (30 + 7 * widest.max(6), WIDTH - 40);
    let all = rows.iter().flat_map(|r| r.values.iter().flatten().copied());
    let marks = ticks(0.0, all.filter(|v| v.is_finite()).fold(1.0, f64::max));
    let last = marks[marks.len() - 1];
    let x = |v: f64| left + (f64::from(right - left) * (v / last).clamp(0.0, 1.0)).round() as i32;
    picture(title, (WIDTH as u32, (bottom + 58) as u32), |area| {
        text(area, (16, 20), title, style(15, INK, HPos::Left))?;
        for (i, (name, of)) in names.iter().enumerate() {
            let at = (28 + 205 * (i as i32 % 4), 46 + 20 * (i as i32 / 4));
            mark(area, at, *of)?;
            text(area, (at.0 + 11, at.1), &shorten(name, 24), style(12, INK, HPos::Left))?;
        }
        for tick in &marks {
            line(area, (x(*tick), top), (x(*tick), bottom), FAINT, 1)?;
            text(area, (x(*tick), bottom + 14), &tick_text(*tick), style(12, INK, HPos::Center))?;
        }
        text(area, ((left + right) / 2, bottom + 38), axis, style(13, INK, HPos::Center))?;
        for (i, row) in rows.iter().enumerate() {
            let y = top + ROW * i as i32 + ROW / 2;
            text(area, (left - 10, y), &shorten(&row.label, 30), style(12, INK, HPos::Right))?;
            line(area, (left, y), (right, y), FAINT, 1)?;
            for ((name, of), value) in names.iter().zip(&row.values) {
                let Some(value) = value.filter(|v| v.is_finite()) else { continue };
                mark(area, (x(value), y), *of)?;
                let words = format!("{name}, {}: {value:.1}", row.label);
                area.tip([(x(value) - 8, y - 8), (x(value) + 8, y + 8)], &words);
            }
        }
        Ok(())
    })
}
