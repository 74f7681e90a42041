//! Charts as SVG text: plain data in, a string out, the same data the same bytes.
//!
//! Colours are Okabe & Ito's (2008, "Color universal design"), safe for colour-blind readers, with a mark and a dash of
//! their own; a model has the same ones in every chart. Every picture brings its own white card for dark pages.

use std::cell::RefCell;

use plotters::coord::Shift;
use plotters::element::{CoordMapper, Drawable, PointCollection};
use plotters::prelude::{
    Circle, Cross, DrawingArea, FontTransform, IntoFont as _, Polygon, RGBColor, Rectangle, SVGBackend, Text,
    TextStyle, TriangleMarker,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, ShapeStyle};

use super::words::escape;

mod bars;
mod curves;
mod data;
mod dots;
mod heat;
mod map;
mod pareto;
mod ranking;
mod space;
mod spread;
mod steps;

pub use bars::{Bar, BarGroup, bars};
pub use curves::{BandPoint, Panel, Series, curves};
pub use data::{Chart, charts};
pub use dots::{DotRow, dots};
pub use heat::{Heat, heat};
pub use map::{MapArrow, MapPanel, maps};
pub use pareto::{ParetoPoint, pareto};

/// A chart could not be drawn.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("cannot draw the chart `{title}`: {why}")]
pub struct ChartError {
    /// Which chart.
    pub title: String,
    /// What the drawing library said.
    pub why: String,
}

/// What is drawn on, and the values that a reader sees when pointing at a mark.
struct Area<'a> {
    sheet: DrawingArea<SVGBackend<'a>, Shift>,
    tips: RefCell<String>,
}

impl<'a> Area<'a> {
    fn draw<'e, E, B>(&self, element: &'e E) -> Result<(), String>
    where
        B: CoordMapper,
        &'e E: PointCollection<'e, (i32, i32), B>,
        E: Drawable<SVGBackend<'a>, B>,
    {
        self.sheet.draw(element).map_err(|e| e.to_string())
    }

    /// Text for whoever points at the rectangle between two corners.
    fn tip(&self, [(left, top), (right, bottom)]: [(i32, i32); 2], words: &str) {
        let (width, height) = ((right - left).max(1), (bottom - top).max(1));
        let words = escape(words);
        self.tips.borrow_mut().push_str(&format!(
            "<rect class=\"tip\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" \
             fill=\"#000000\" fill-opacity=\"0\"><title>{words}</title></rect>\n"
        ));
    }
}

/// Dark enough on white for text and lines; yellow is left out, it is not.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(85, 85, 85),
];

/// Length of dash and gap in pixels; no gap is a solid line.
const DASHES: [(i32, i32); 4] = [(1, 0), (9, 4), (2, 4), (14, 6)];

pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const FAINT: RGBColor = RGBColor(221, 221, 221);
const GREY: RGBColor = RGBColor(128, 136, 144);
const FONT: &str = "system-ui, sans-serif";

/// The colour of the n-th model of a suite.
pub(super) fn colour(style: usize) -> RGBColor {
    PALETTE[style % PALETTE.len()]
}

/// The dash of the n-th model: another one each time, so that equal colours (7 apart) differ.
pub(super) fn dash(style: usize) -> (i32, i32) {
    DASHES[style % DASHES.len()]
}

/// Draws into a string and makes a card with a title for screen readers of it.
fn picture(
    title: &str,
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), String>,
) -> Result<String, ChartError> {
    let fail = |why: String| ChartError { title: title.to_string(), why };
    let mut svg = String::new();
    let tips = {
        use plotters::prelude::IntoDrawingArea as _;
        let sheet = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let area = Area { sheet, tips: RefCell::default() };
        area.sheet.fill(&RGBColor(255, 255, 255)).map_err(|e| fail(e.to_string()))?;
        draw(&area).map_err(fail)?;
        area.sheet.present().map_err(|e| fail(e.to_string()))?;
        area.tips.into_inner()
    };
    if let Some(end) = svg.rfind("</svg>") {
        svg.insert_str(end, &tips);
    }
    let Some(end) = svg.find("<svg").and_then(|at| svg[at..].find('>').map(|e| at + e)) else {
        return Err(fail("no picture came back".into()));
    };
    let name = escape(title);
    let class = if size.0 < 700 { " class=\"narrow\"" } else { "" };
    Ok(format!("{}{class} role=\"img\" aria-label=\"{name}\">\n<title>{name}</title>{}", &svg[..end], &svg[end + 1..]))
}

fn style(size: u32, ink: RGBColor, anchor: HPos) -> TextStyle<'static> {
    // plotters divides sizes by 1.24 when it writes SVG.
    (FONT, f64::from(size) * 1.24).into_font().color(&ink).pos(Pos::new(anchor, VPos::Center))
}

fn text(area: &Area<'_>, at: (i32, i32), words: &str, style: TextStyle<'static>) -> Result<(), String> {
    // Control characters are forbidden in XML and the backend does not know that.
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    area.draw(&Text::new(words, at, style))
}

fn upright(area: &Area<'_>, at: (i32, i32), words: &str) -> Result<(), String> {
    text(area, at, words, style(13, INK, HPos::Center).transform(FontTransform::Rotate270))
}

fn line(area: &Area<'_>, from: (i32, i32), to: (i32, i32), ink: RGBColor, width: u32) -> Result<(), String> {
    let path = plotters::element::PathElement::new(vec![from, to], ShapeStyle::from(ink).stroke_width(width));
    area.draw(&path)
}

fn block(area: &Area<'_>, corners: [(i32, i32); 2], ink: RGBColor) -> Result<(), String> {
    area.draw(&Rectangle::new(corners, ink.filled()))
}

fn polygon(area: &Area<'_>, points: Vec<(i32, i32)>, ink: RGBColor, alpha: f64) -> Result<(), String> {
    area.draw(&Polygon::new(points, ink.mix(alpha).filled()))
}

/// A line in the model's colour and in a dash, its own or another, through `points`.
fn path(area: &Area<'_>, points: Vec<(i32, i32)>, of: usize, dashed: (i32, i32)) -> Result<(), String> {
    use plotters::element::{DashedPathElement, PathElement};
    let pen = ShapeStyle::from(colour(of)).stroke_width(2);
    match dashed {
        (_, 0) => area.draw(&PathElement::new(points, pen)),
        (length, gap) => area.draw(&DashedPathElement::new(points, length, gap, pen)),
    }
}

/// The model's mark: disc, triangle, square, cross, by turns.
fn mark(area: &Area<'_>, (x, y): (i32, i32), of: usize) -> Result<(), String> {
    let ink = colour(of);
    match of % 4 {
        0 => area.draw(&Circle::new((x, y), 4, ink.filled())),
        1 => area.draw(&TriangleMarker::new((x, y), 5, ink.filled())),
        2 => area.draw(&Rectangle::new([(x - 4, y - 4), (x + 4, y + 4)], ink.filled())),
        _ => area.draw(&Cross::new((x, y), 4, ShapeStyle::from(ink).stroke_width(2))),
    }
}

/// Round ticks from 0 or below to at least `high`: about five steps of 1, 2 or 5 times a power of ten.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let range = (high - low).max(1e-9);
    let raw = range / 5.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|s| *s >= raw * 0.999).unwrap_or(raw);
    let (first, last) = ((low / step).floor() as i64, (high / step - 1e-9).ceil() as i64);
    (first..=last.max(first + 1)).map(|i| i as f64 * step).collect()
}

/// A tick without needless digits.
fn tick_text(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests;
