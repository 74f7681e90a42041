//! recall@1 as horizontal bars with whiskers, one block per condition, each bar with its name and its number.

use plotters::style::text_anchor::HPos;

use super::super::words::shorten;
use super::{ChartError, FAINT, INK, block, colour, line, picture, style, text, tick_text, ticks};

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Whose.
    pub label: String,
    /// Which colour: the model's place in the suite.
    pub style: usize,
    /// Value in percent.
    pub value: f64,
    /// Lower end of the whisker, percent.
    pub low: f64,
    /// Upper end of the whisker, percent.
    pub high: f64,
    /// Whether there is an interval.
    pub whisker: bool,
}

/// Bars of one condition.
#[derive(Debug, Clone, PartialEq)]
pub struct BarGroup {
    /// The condition.
    pub label: String,
    /// Its bars, in the suite's order.
    pub bars: Vec<Bar>,
}

const WIDTH: u32 = 860;
const GROUP_HEAD: i32 = 30;
const TOP: i32 = 44;
const BOTTOM: i32 = 54;

/// Draws the groups one below the other on a common axis from 0.
///
/// # Errors
/// [`ChartError`] if the drawing library refuses.
pub fn bars(title: &str, axis: &str, groups: &[BarGroup]) -> Result<String, ChartError> {
    let count: usize = groups.iter().map(|g| g.bars.len()).sum();
    // Many models get thinner bars.
    let bar_height = if count > 60 { 15 } else { 22 };
    let height = TOP + BOTTOM + GROUP_HEAD * groups.len() as i32 + bar_height * count as i32;
    let all = || groups.iter().flat_map(|g| &g.bars);
    let widest = all().map(|b| b.label.chars().count().min(28)).max().unwrap_or(0) as i32;
    let left = 24 + 7 * widest.max(8);
    let right = WIDTH as i32 - 64;
    let marks = ticks(0.0, all().map(|b| b.high.max(b.value)).fold(1.0, f64::max));
    let top_value = marks.last().copied().unwrap_or(1.0);
    let x = |value: f64| left + (f64::from(right - left) * (value / top_value).clamp(0.0, 1.0)).round() as i32;
    picture(title, (WIDTH, height as u32), |area| {
        text(area, (16, 20), title, style(15, INK, HPos::Left))?;
        let bottom = height - BOTTOM;
        for tick in &marks {
            text(area, (x(*tick), bottom + 14), &tick_text(*tick), style(12, INK, HPos::Center))?;
        }
        text(area, ((left + right) / 2, bottom + 36), axis, style(13, INK, HPos::Center))?;
        let mut y = TOP;
        for group in groups {
            text(area, (16, y + GROUP_HEAD - 12), &shorten(&group.label, 90), style(13, INK, HPos::Left))?;
            y += GROUP_HEAD;
            // Per group, so that no line runs through a group's name.
            let end = y + bar_height * group.bars.len() as i32;
            for tick in &marks {
                line(area, (x(*tick), y), (x(*tick), end), FAINT, 1)?;
            }
            line(area, (left, y), (left, end), INK, 1)?;
            for bar in &group.bars {
                let middle = y + bar_height / 2;
                text(area, (left - 8, middle), &shorten(&bar.label, 28), style(12, INK, HPos::Right))?;
                block(area, [(left, y + 3), (x(bar.value), y + bar_height - 3)], colour(bar.style))?;
                if bar.whisker {
                    line(area, (x(bar.low), middle), (x(bar.high), middle), INK, 1)?;
                    for end in [x(bar.low), x(bar.high)] {
                        line(area, (end, middle - 4), (end, middle + 4), INK, 1)?;
                    }
                }
                let interval = if bar.whisker { format!(" [{:.1}, {:.1}]", bar.low, bar.high) } else { String::new() };
                let words = format!("{}, {}: {:.1}{interval}", bar.label, group.label, bar.value);
                area.tip([(left, y), (right, y + bar_height)], &words);
                let after = x(bar.high).max(x(bar.value)) + 8;
                text(area, (after, middle), &format!("{:.1}", bar.value), style(12, INK, HPos::Left))?;
                y += bar_height;
            }
        }
        Ok(())
    })
}
