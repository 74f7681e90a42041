//! A heat map whose cells also say their number, so that it needs no colour.

use plotters::prelude::RGBColor;
use plotters::style::text_anchor::HPos;

use super::super::words::shorten;
use super::{ChartError, INK, block, picture, style, text};

/// A table of shares in percent.
#[derive(Debug, Clone, PartialEq)]
pub struct Heat {
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// What the rows are, and the columns.
    pub axes: (String, String),
    /// Row by row; `None` where nothing was measured.
    pub values: Vec<Vec<Option<f64>>>,
}

const CELL: (i32, i32) = (84, 34);
const LOW: RGBColor = RGBColor(240, 246, 250);
const HIGH: RGBColor = RGBColor(0, 90, 145);
const DARK: RGBColor = RGBColor(20, 24, 28);
const LIGHT: RGBColor = RGBColor(250, 250, 250);

fn shade(part: f64) -> RGBColor {
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * part.clamp(0.0, 1.0)).round() as u8;
    RGBColor(mix(LOW.0, HIGH.0), mix(LOW.1, HIGH.1), mix(LOW.2, HIGH.2))
}

/// Draws the table; dark is high.
///
/// # Errors
/// [`ChartError`] if the drawing library refuses.
pub fn heat(title: &str, map: &Heat) -> Result<String, ChartError> {
    let widest = map.rows.iter().map(|r| r.chars().count().min(24)).max().unwrap_or(0) as i32;
    let (left, top) = (34 + 7 * widest.max(8), 92);
    let width = (left + CELL.0 * map.columns.len() as i32 + 24).max(420);
    let height = top + CELL.1 * map.rows.len() as i32 + 20;
    let all = || map.values.iter().flatten().flatten().copied().filter(|v| v.is_finite());
    let most = all().fold(1e-9, f64::max);
    picture(title, (width as u32, height as u32), |area| {
        text(area, (16, 20), title, style(15, INK, HPos::Left))?;
        text(area, (left, 44), &format!("{} →", map.axes.1), style(12, INK, HPos::Left))?;
        text(area, (left - 10, top - 16), &format!("{} ↓", map.axes.0), style(12, INK, HPos::Right))?;
        for (c, name) in map.columns.iter().enumerate() {
            // Names take turns in two rows, so that neighbours do not touch.
            let at = (left + CELL.0 * c as i32 + CELL.0 / 2, top - 12 - 16 * (c as i32 % 2));
            text(area, at, &shorten(name, 20), style(11, INK, HPos::Center))?;
        }
        for (r, (name, values)) in map.rows.iter().zip(&map.values).enumerate() {
            let y = top + CELL.1 * r as i32;
            text(area, (left - 10, y + CELL.1 / 2), &shorten(name, 24), style(12, INK, HPos::Right))?;
            for (c, value) in values.iter().enumerate() {
                let x = left + CELL.0 * c as i32;
                let Some(value) = value.filter(|v| v.is_finite()) else { continue };
                block(area, [(x + 1, y + 1), (x + CELL.0 - 1, y + CELL.1 - 1)], shade(value / most))?;
                let ink = if value / most > 0.5 { LIGHT } else { DARK };
                let at = (x + CELL.0 / 2, y + CELL.1 / 2);
                text(area, at, &format!("{value:.1}"), style(12, ink, HPos::Center))?;
                let column = map.columns.get(c).map_or("", String::as_str);
                area.tip([(x, y), (x + CELL.0, y + CELL.1)], &format!("{name}, {column}: {value:.1}"));
            }
        }
        Ok(())
    })
}
