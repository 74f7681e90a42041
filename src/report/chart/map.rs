//! Maps of embeddings: gallery images as dots, attacked queries as arrows, one panel a model.

use plotters::prelude::Circle;
use plotters::style::text_anchor::HPos;
use plotters::style::{Color as _, ShapeStyle};

use super::super::words::shorten;
use super::{Area, ChartError, FAINT, INK, colour, line, path, picture, style, text};

/// A query that moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapArrow {
    /// Clean.
    pub from: (f64, f64),
    /// Attacked.
    pub to: (f64, f64),
    /// Right before and wrong after: a solid line with a full head; else dashed with an empty one.
    pub flipped: bool,
}

/// One model.
#[derive(Debug, Clone, PartialEq)]
pub struct MapPanel {
    /// Above it.
    pub title: String,
    /// The model's place in the suite.
    pub style: usize,
    /// What the two axes hold.
    pub axes: String,
    /// Gallery images.
    pub points: Vec<(f64, f64)>,
    /// Attacked queries.
    pub arrows: Vec<MapArrow>,
}

const PANEL: (i32, i32) = (430, 400);
const SIDE: i32 = 330;
const TOP: i32 = 56;
const LEFT: i32 = 40;

/// Draws the panels in rows of two; both axes of a panel have the same scale.
///
/// # Errors
/// [`ChartError`] if the drawing library refuses.
pub fn maps(title: &str, panels: &[MapPanel]) -> Result<String, ChartError> {
    let columns = panels.len().clamp(1, 2) as i32;
    let rows = (panels.len() as i32 + columns - 1) / columns;
    let size = ((PANEL.0 * columns) as u32, (PANEL.1 * rows.max(1) + 24) as u32);
    picture(title, size, |area| {
        text(area, (16, 20), title, style(15, INK, HPos::Left))?;
        for (index, panel) in panels.iter().enumerate() {
            let corner = (PANEL.0 * (index as i32 % columns), 24 + PANEL.1 * (index as i32 / columns));
            draw(area, corner, panel)?;
        }
        Ok(())
    })
}

fn draw(area: &Area<'_>, (left, top): (i32, i32), panel: &MapPanel) -> Result<(), String> {
    let ends = panel.arrows.iter().flat_map(|a| [a.from, a.to]);
    let all: Vec<(f64, f64)> = panel.points.iter().copied().chain(ends).collect();
    let range = |get: fn(&(f64, f64)) -> f64| {
        let values = all.iter().map(get).filter(|v| v.is_finite());
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)))
    };
    let (x, y) = (range(|p| p.0), range(|p| p.1));
    let (corner, far) = ((left + LEFT, top + TOP), (left + LEFT + SIDE, top + TOP + SIDE));
    text(area, (corner.0, top + TOP - 30), &shorten(&panel.title, 52), style(13, INK, HPos::Left))?;
    text(area, (corner.0, top + TOP - 12), &shorten(&panel.axes, 68), style(11, INK, HPos::Left))?;
    for (from, to) in
        [(corner, (far.0, corner.1)), ((far.0, corner.1), far), (far, (corner.0, far.1)), ((corner.0, far.1), corner)]
    {
        line(area, from, to, FAINT, 1)?;
    }
    let span = (x.1 - x.0).max(y.1 - y.0).max(1e-12) * 1.06;
    let middle = ((x.0 + x.1) / 2.0, (y.0 + y.1) / 2.0);
    let place = |p: (f64, f64)| {
        let along = |v: f64, m: f64| (f64::from(SIDE) * ((v - m) / span + 0.5)).round() as i32;
        (corner.0 + along(p.0, middle.0), far.1 - along(p.1, middle.1))
    };
    let grey = ShapeStyle::from(super::GREY.mix(0.55)).filled();
    for point in &panel.points {
        area.draw(&Circle::new(place(*point), 2, grey))?;
    }
    let ink = colour(panel.style);
    for arrow in &panel.arrows {
        let (from, to) = (place(arrow.from), place(arrow.to));
        let dashed = if arrow.flipped { (1, 0) } else { (3, 3) };
        path(area, vec![from, to], panel.style, dashed)?;
        area.draw(&Circle::new(from, 3, ShapeStyle::from(ink).stroke_width(1)))?;
        let head = ShapeStyle::from(ink).stroke_width(2);
        area.draw(&Circle::new(to, 4, if arrow.flipped { head.filled() } else { head }))?;
    }
    Ok(())
}
