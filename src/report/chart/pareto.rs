//! One number against another over all models, with the front of those that no other beats in both.

use plotters::style::text_anchor::HPos;

use super::super::words::shorten;
use super::spread::{LABEL, spread};
use super::{ChartError, FAINT, INK, colour, line, mark, picture, style, text, tick_text, ticks, upright};

/// One model.
#[derive(Debug, Clone, PartialEq)]
pub struct ParetoPoint {
    /// Its name.
    pub label: String,
    /// Colour and mark: the model's place in the suite.
    pub style: usize,
    /// Both numbers, percent.
    pub at: (f64, f64),
    /// Their intervals, where there are any.
    pub intervals: [Option<(f64, f64)>; 2],
}

const SIZE: (u32, u32) = (680, 470);
const FRAME: [i32; 4] = [66, 500, 54, 410];

/// Names are written beside all points up to this many, beyond it only beside those of the front.
const NAMED: usize = 14;

/// Whether no other point is at least as good in both and better in one.
pub(super) fn on_front(points: &[ParetoPoint], index: usize) -> bool {
    let own = points[index].at;
    !points.iter().any(|p| p.at.0 >= own.0 && p.at.1 >= own.1 && (p.at.0 > own.0 || p.at.1 > own.1))
}

/// Draws the points, their whiskers and the front.
///
/// # Errors
/// [`ChartError`] if the drawing library refuses.
pub fn pareto(title: &str, axes: (&str, &str), points: &[ParetoPoint]) -> Result<String, ChartError> {
    let [left, right, top, bottom] = FRAME;
    let ends = |get: fn(&ParetoPoint) -> f64, which: usize| {
        let values = points.iter().flat_map(|p| {
            let (low, high) = p.intervals[which].unwrap_or((get(p), get(p)));
            [low, high, get(p)]
        });
        let values = values.filter(|v| v.is_finite());
        let (low, high) = values.fold((f64::INFINITY, 0.0), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
        ticks(if low > 0.5 * high { low } else { 0.0 }, high.max(1.0))
    };
    let (x_marks, y_marks) = (ends(|p| p.at.0, 0), ends(|p| p.at.1, 1));
    let part = |v: f64, marks: &[f64]| ((v - marks[0]) / (marks[marks.len() - 1] - marks[0])).clamp(0.0, 1.0);
    let x = |v: f64| left + (f64::from(right - left) * part(v, &x_marks)).round() as i32;
    let y = |v: f64| bottom - (f64::from(bottom - top) * part(v, &y_marks)).round() as i32;
    picture(title, SIZE, |area| {
        text(area, (16, 20), title, style(15, INK, HPos::Left))?;
        for tick in &x_marks {
            line(area, (x(*tick), top), (x(*tick), bottom), FAINT, 1)?;
            text(area, (x(*tick), bottom + 15), &tick_text(*tick), style(12, INK, HPos::Center))?;
        }
        for tick in &y_marks {
            line(area, (left, y(*tick)), (right, y(*tick)), FAINT, 1)?;
            text(area, (left - 7, y(*tick)), &tick_text(*tick), style(12, INK, HPos::Right))?;
        }
        text(area, ((left + right) / 2, bottom + 38), axes.0, style(13, INK, HPos::Center))?;
        upright(area, (18, (top + bottom) / 2), axes.1)?;
        let mut front: Vec<&ParetoPoint> =
            (0..points.len()).filter(|i| on_front(points, *i)).map(|i| &points[i]).collect();
        front.sort_by(|a, b| a.at.0.total_cmp(&b.at.0));
        for pair in front.windows(2) {
            let corner = (x(pair[0].at.0), y(pair[1].at.1));
            line(area, (x(pair[0].at.0), y(pair[0].at.1)), corner, INK, 1)?;
            line(area, corner, (x(pair[1].at.0), y(pair[1].at.1)), INK, 1)?;
        }
        for p in points {
            let at = (x(p.at.0), y(p.at.1));
            if let Some((low, high)) = p.intervals[0] {
                line(area, (x(low), at.1), (x(high), at.1), colour(p.style), 1)?;
            }
            if let Some((low, high)) = p.intervals[1] {
                line(area, (at.0, y(low)), (at.0, y(high)), colour(p.style), 1)?;
            }
            mark(area, at, p.style)?;
            let words = format!("{}: {:.1} and {:.1}", p.label, p.at.0, p.at.1);
            area.tip([(at.0 - 8, at.1 - 8), (at.0 + 8, at.1 + 8)], &words);
        }
        let named = |i: &usize| points.len() <= NAMED || on_front(points, *i);
        let mut labels: Vec<(i32, &ParetoPoint)> =
            (0..points.len()).filter(named).map(|i| (y(points[i].at.1), &points[i])).collect();
        labels.sort_by_key(|(y, p)| (*y, p.style));
        labels.truncate(((bottom - top) / LABEL) as usize);
        let wanted: Vec<i32> = labels.iter().map(|(y, _)| *y).collect();
        for (at, (own, p)) in spread(&wanted, top, bottom).into_iter().zip(&labels) {
            line(area, (x(p.at.0) + 8, *own), (right + 6, at), FAINT, 1)?;
            mark(area, (right + 14, at), p.style)?;
            text(area, (right + 24, at), &shorten(&p.label, 21), style(12, INK, HPos::Left))?;
        }
        Ok(())
    })
}
