//! Lines over a number, side by side panels, each line named at its right end.

use plotters::style::text_anchor::HPos;

use super::super::words::shorten;
use super::spread::{LABEL, spread};
use super::{
    ChartError, FAINT, INK, colour, dash, line, mark, path, picture, polygon, style, text, tick_text, ticks, upright,
};

/// A point of a band: x, lower end, upper end.
pub type BandPoint = (f64, f64, f64);

/// The lines of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name at the right end.
    pub label: String,
    /// Colour, dash and mark: the model's place in the suite.
    pub style: usize,
    /// One line per training seed, or the mean alone.
    pub lines: Vec<Vec<(f64, f64)>>,
    /// Interval around the mean.
    pub band: Vec<BandPoint>,
    /// Whether points are marked.
    pub marked: bool,
    /// Another dash than the model's own: 0 is a solid line.
    pub dash: Option<usize>,
}

/// One pair of axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// Horizontal axis with its unit.
    pub x_axis: String,
    /// Vertical axis with its unit.
    pub y_axis: String,
    /// Lines.
    pub series: Vec<Series>,
    /// Panels of one chart with this set have one common vertical range from 0.
    pub common_range: bool,
}

const PANEL_WIDTH: i32 = 430;
const LEFT: i32 = 58;
const TOP: i32 = 66;
const BOTTOM: i32 = 54;

struct Frame {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn place(&self, (x, y): (f64, f64)) -> (i32, i32) {
        let part = |v: f64, (low, high): (f64, f64)| ((v - low) / (high - low).max(1e-12)).clamp(0.0, 1.0);
        (
            self.left + (f64::from(self.right - self.left) * part(x, self.x)).round() as i32,
            self.bottom - (f64::from(self.bottom - self.top) * part(y, self.y)).round() as i32,
        )
    }
}

fn range(panel: &Panel) -> Option<[(f64, f64); 2]> {
    let lines = || panel.series.iter().flat_map(|s| s.lines.iter().flatten().copied());
    let bands = || panel.series.iter().flat_map(|s| s.band.iter().flat_map(|(x, l, h)| [(*x, *l), (*x, *h)]));
    let fold = |get: fn(&(f64, f64)) -> f64| {
        let all = lines().chain(bands()).map(|p| get(&p)).filter(|v| v.is_finite());
        all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (x, y) = (fold(|p| p.0), fold(|p| p.1));
    (x.0.is_finite() && y.0.is_finite()).then_some([x, y])
}

/// Draws the panels in rows of two. Panels without a point do not appear.
///
/// # Errors
/// [`ChartError`] if the drawing library refuses.
pub fn curves(title: &str, panels: &[Panel]) -> Result<String, ChartError> {
    let shown: Vec<(&Panel, [(f64, f64); 2])> = panels.iter().filter_map(|p| Some((p, range(p)?))).collect();
    let most = shown.iter().map(|(p, _)| p.series.len()).max().unwrap_or(0) as i32;
    let height = TOP + BOTTOM + 240.max(LABEL * most);
    let columns = shown.len().clamp(1, 2) as i32;
    let rows = (shown.len() as i32 + columns - 1) / columns;
    let common = shown.iter().filter(|(p, _)| p.common_range).map(|(_, r)| r[1].1).fold(0.0, f64::max);
    // A lone panel gets some more room.
    let width = if columns == 1 { PANEL_WIDTH + 170 } else { PANEL_WIDTH };
    let size = ((width * columns) as u32, (height * rows.max(1)) as u32);
    picture(title, size, |area| {
        for (index, (panel, [x, y])) in shown.iter().enumerate() {
            let corner = (width * (index as i32 % columns), height * (index as i32 / columns));
            let y = if panel.common_range { (0.0, common) } else { *y };
            draw_panel(area, corner, (width, height), panel, *x, y)?;
        }
        text(area, (16, 20), title, style(15, INK, HPos::Left))
    })
}

fn draw_panel(
    area: &super::Area<'_>,
    (left, top): (i32, i32),
    (width, height): (i32, i32),
    panel: &Panel,
    x: (f64, f64),
    y: (f64, f64),
) -> Result<(), String> {
    let (x_marks, y_marks) = (ticks(x.0, x.1), ticks(y.0, y.1));
    let ends = |marks: &[f64]| (marks[0], marks[marks.len() - 1]);
    let names = panel.series.iter().map(|s| s.label.chars().count().min(20)).max().unwrap_or(0) as i32;
    // Long numbers need room between them and the axis's name.
    let digits = y_marks.iter().map(|tick| tick_text(*tick).chars().count()).max().unwrap_or(0) as i32;
    let frame = Frame {
        left: left + LEFT + 7 * (digits - 4).max(0),
        right: left + width - 24 - 7 * names.max(4),
        top: top + TOP,
        bottom: top + height - BOTTOM,
        x: (x.0.min(x_marks[0]).max(0.0), if x.1 > x.0 { x.1 } else { ends(&x_marks).1 }),
        y: ends(&y_marks),
    };
    text(area, (frame.left, frame.top - 16), &shorten(&panel.title, 48), style(13, INK, HPos::Left))?;
    for tick in &y_marks {
        let (_, at) = frame.place((x.0, *tick));
        line(area, (frame.left, at), (frame.right, at), FAINT, 1)?;
        text(area, (frame.left - 6, at), &tick_text(*tick), style(12, INK, HPos::Right))?;
    }
    for tick in x_marks.iter().filter(|t| **t <= frame.x.1 + 1e-9 && **t >= frame.x.0 - 1e-9) {
        let (at, _) = frame.place((*tick, y.0));
        line(area, (at, frame.bottom), (at, frame.bottom + 4), INK, 1)?;
        text(area, (at, frame.bottom + 15), &tick_text(*tick), style(12, INK, HPos::Center))?;
    }
    line(area, (frame.left, frame.bottom), (frame.right, frame.bottom), INK, 1)?;
    let middle = ((frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2);
    text(area, (middle.0, frame.bottom + 36), &panel.x_axis, style(13, INK, HPos::Center))?;
    upright(area, (left + 14, middle.1), &panel.y_axis)?;
    for series in panel.series.iter().filter(|s| s.band.len() > 1) {
        let below = series.band.iter().map(|(x, low, _)| frame.place((*x, *low)));
        let above = series.band.iter().rev().map(|(x, _, high)| frame.place((*x, *high)));
        polygon(area, below.chain(above).collect(), colour(series.style), 0.12)?;
    }
    let mut labels = Vec::new();
    for series in &panel.series {
        let mut last = Vec::new();
        for points in series.lines.iter().filter(|l| !l.is_empty()) {
            let placed: Vec<(i32, i32)> = points.iter().map(|p| frame.place(*p)).collect();
            last.extend(placed.last().copied());
            if series.marked {
                for (place, (x, y)) in placed.iter().zip(points) {
                    mark(area, *place, series.style)?;
                    let words = format!("{}: {} at {}", series.label, tick_text(*y), tick_text(*x));
                    area.tip([(place.0 - 7, place.1 - 7), (place.0 + 7, place.1 + 7)], &words);
                }
            }
            path(area, placed, series.style, series.dash.map_or(dash(series.style), dash))?;
        }
        if !last.is_empty() {
            let mean = last.iter().map(|p| p.1).sum::<i32>() / last.len() as i32;
            labels.push((mean, series));
        }
    }
    labels.sort_by_key(|(y, series)| (*y, series.style));
    let wanted: Vec<i32> = labels.iter().map(|(y, _)| *y).collect();
    for (y, (at, series)) in spread(&wanted, frame.top, frame.bottom).into_iter().zip(&labels) {
        line(area, (frame.right + 2, *at), (frame.right + 12, y), colour(series.style), 1)?;
        let name = shorten(&series.label, 20);
        text(area, (frame.right + 15, y), &name, style(12, INK, HPos::Left))?;
    }
    Ok(())
}
