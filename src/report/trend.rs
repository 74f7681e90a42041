//! A run among the nights before it, beside what was accepted.

use std::collections::BTreeMap;

use super::chart::{Panel, Series};
use super::seed_mean::seed_mean;
use super::summary::{Condition, Summary};
use super::table::{Table, TableCell};
use crate::record::Measurement;

/// One night.
#[derive(Debug, Clone, PartialEq)]
pub struct TrendNight {
    /// Its number in the history, from 1.
    pub number: u32,
    /// What the check said: 0 is quiet.
    pub exit_code: u32,
    /// What was measured.
    pub measurements: Vec<Measurement>,
}

/// The nights of a suite.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trend {
    /// Oldest first.
    pub nights: Vec<TrendNight>,
    /// Rows of the accepted run; empty: none is accepted.
    pub accepted: Vec<Measurement>,
    /// By how much recall@1 may change before a night fails, in `[0, 1]`.
    pub floor: f64,
}

/// recall@1 of a model's rows under a condition, over its seeds.
fn recall(rows: &[Measurement], model: &str, condition: &Condition) -> Option<f64> {
    let own: Vec<&Measurement> = rows.iter().filter(|m| m.model == model && condition.matches(m)).collect();
    seed_mean(&own, (0.0, 1.0), |m| m.recall.iter().find(|r| r.k == 1).map(|r| r.estimate)).map(|r| r.value)
}

impl Trend {
    /// A panel for each of the headline's conditions: recall@1 of each model over the nights, the accepted band behind it.
    pub fn panels(&self, summary: &Summary) -> Vec<Panel> {
        let panel = |column: usize| {
            let condition = &summary.conditions[column];
            let series = summary.models.iter().filter_map(|m| {
                let point = |night: &TrendNight| {
                    let value = recall(&night.measurements, &m.model, condition)?;
                    Some((f64::from(night.number), 100.0 * value))
                };
                let line: Vec<(f64, f64)> = self.nights.iter().filter_map(point).collect();
                let accepted = recall(&self.accepted, &m.model, condition);
                let band = accepted.iter().flat_map(|value| {
                    let (low, high) = ((value - self.floor).max(0.0), (value + self.floor).min(1.0));
                    line.iter().map(move |p| (p.0, 100.0 * low, 100.0 * high))
                });
                let band = band.collect();
                let (label, style) = (m.model.clone(), m.style);
                (!line.is_empty()).then(|| Series { label, style, lines: vec![line], band, marked: true, dash: None })
            });
            Panel {
                title: condition.label(),
                x_axis: "night".into(),
                y_axis: "recall@1 in %".into(),
                series: series.collect(),
                common_range: false,
            }
        };
        // A line needs two nights.
        let columns = summary.headline().into_iter().filter(|_| self.nights.len() > 1);
        columns.map(panel).filter(|p| !p.series.is_empty()).collect()
    }

    /// What the checks of the nights said; `None` without a night.
    pub fn table(&self) -> Option<Table> {
        let words = |code: u32| match code {
            0 => "quiet",
            1 => "drift",
            3 => "a soundness check failed",
            4 => "coverage is missing",
            _ => "not judged",
        };
        let mut counts: BTreeMap<u32, (usize, u32)> = BTreeMap::new();
        for night in &self.nights {
            let entry = counts.entry(night.exit_code).or_default();
            *entry = (entry.0 + 1, night.number);
        }
        let row = |(code, (nights, last)): (&u32, &(usize, u32))| {
            [words(*code).to_string(), nights.to_string(), last.to_string()].map(TableCell::new).to_vec()
        };
        let accepted = if self.accepted.is_empty() {
            "No run of this suite is accepted."
        } else {
            "Bands: the accepted value and the smallest change that fails a night."
        };
        (!counts.is_empty()).then(|| Table {
            caption: format!("The checks of {} nights", self.nights.len()),
            head: ["what the check said", "nights", "last in night"].map(String::from).into(),
            words: 1,
            rows: counts.iter().map(row).collect(),
            remarks: vec![accepted.into()],
            ..Table::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn each_night_is_a_point_and_the_accepted_value_a_band() {
        let run = sample::run();
        let summary = Summary::of(&run);
        let night = |number: u32| {
            let mut measurements = run.measurements.clone();
            for m in &mut measurements {
                m.recall[0].estimate.value -= 0.01 * f64::from(number);
            }
            TrendNight { number, exit_code: number / 3, measurements }
        };
        let trend = Trend { nights: (1..=3).map(night).collect(), accepted: run.measurements.clone(), floor: 0.01 };
        let panels = trend.panels(&summary);
        assert_eq!(
            panels.iter().map(|p| p.title.as_str()).collect::<Vec<_>>(),
            ["clean", "single 24/255", "multi 24/255"]
        );
        let series = &panels[0].series[3];
        let accepted = 100.0 * summary.recall(3, 0).unwrap().value;
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert_eq!((series.label.as_str(), series.style), ("mdprop", 3));
        for (i, (x, y)) in series.lines[0].iter().enumerate() {
            assert!(near(*x, i as f64 + 1.0) && near(*y, accepted - (i as f64 + 1.0)), "{x} {y}");
        }
        let (_, low, high) = series.band[2];
        assert!(near(low, accepted - 1.0) && near(high, accepted + 1.0));
        let table = trend.table().unwrap();
        let rows: Vec<Vec<&str>> = table.rows.iter().map(|r| r.iter().map(|c| c.text.as_str()).collect()).collect();
        assert_eq!(rows, [["quiet", "2", "2"], ["drift", "1", "3"]]);
        let one = Trend { nights: vec![night(1)], ..Trend::default() };
        assert!(one.panels(&summary).is_empty() && Trend::default().table().is_none());
    }
}
