//! Slow drift: steps too small for any night to fail, in one direction.
//!
//! A self-starting CUSUM over the nights since the acceptance. Each new value is compared with the mean and the spread of
//! those before it and turned into a standard normal deviate; those deviates are exactly independent and standard normal
//! while nothing changes, whatever the true mean and spread are, so that nothing has to be known or tuned beforehand. They
//! are summed on the worse side, less half a standard deviation a night; the sum alarms beyond a limit chosen so that the
//! whole grid gives one false alarm in [`NIGHTS`] nights. An alarm also needs the mean of the last [`WINDOW`] values to lie
//! beyond the metric's floor below the accepted value.
//!
//! A night that measures a file that was measured the night before says nothing new and is left out: the series has one
//! value per file.
//!
//! # Source
//! Page 1954, "Continuous inspection schemes"; Hawkins 1987, "Self-starting CUSUM charts for location and scale"; the limit
//! by Siegmund 1985, "Sequential Analysis", (2.57).

use std::collections::BTreeMap;

use serde::Serialize;

use super::baseline::{Baseline, values};
use super::cell_number;
use super::gate::{floor, is_derived};
use super::pairing::Question;
use crate::metric::kind::{Direction, Metric};
use crate::record::Measurement;
use crate::stats::{normal, seeds};

/// Nights of the whole grid per false alarm.
pub const NIGHTS: f64 = 400.0;

/// Values whose mean must lie beyond the floor.
pub const WINDOW: usize = 7;

/// Values before the first deviate: with fewer the spread is hardly known.
const LEAST: usize = 3;

/// Half the smallest shift, in standard deviations, that the sum is best at.
const SLACK: f64 = 0.5;

/// The course of one metric of one question since the acceptance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slow {
    /// The question in words.
    pub question: String,
    /// The metric.
    pub metric: Metric,
    /// The accepted value.
    pub accepted: f64,
    /// One value per file, oldest first; the accepted one is the first.
    pub values: Vec<f64>,
    /// Mean of the last [`WINDOW`].
    pub recent: f64,
    /// The sum on the worse side.
    pub sum: f64,
    /// Where it alarms.
    pub limit: f64,
    /// Smallest drift that counts.
    pub floor: f64,
    /// Whether it does.
    pub alarm: bool,
}

impl Slow {
    /// In words and numbers.
    pub fn in_words(&self) -> String {
        let number = |value| cell_number(self.metric, value);
        format!(
            "{} was accepted at {}, the last {} files have {} on average: a drift too slow for any night (CUSUM {:.1}, limit {:.1})",
            self.metric,
            number(self.accepted),
            self.values.len().min(WINDOW),
            number(self.recent),
            self.sum,
            self.limit
        )
    }
}

/// The limit at which `family` sums together give one false alarm in [`NIGHTS`] nights.
///
/// Average run length of one sum: `(e^{2kb} − 2kb − 1) / 2k²`, `b = h + 1.166`, k being the slack.
pub fn limit(family: usize) -> f64 {
    let wanted = NIGHTS * family.max(1) as f64;
    let length = |h: f64| {
        let x = 2.0 * SLACK * (h + 1.166);
        (x.exp() - x - 1.0) / (2.0 * SLACK * SLACK)
    };
    let (mut low, mut high) = (0.0, 60.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if length(middle) < wanted { low = middle } else { high = middle }
    }
    high
}

/// The sum after the last of `values`, on the side of smaller values; `step` is the smallest spread that can be seen (one
/// query of n).
pub fn cusum(values: &[f64], step: f64) -> f64 {
    let (mut sum, mut mean, mut squares) = (0.0f64, 0.0f64, 0.0f64);
    for (i, &value) in values.iter().enumerate() {
        let before = i as f64;
        if i >= LEAST {
            let spread = (squares / (before - 1.0)).sqrt().max(step);
            let t = (before / (before + 1.0)).sqrt() * (value - mean) / spread;
            // The same place in the normal as t has in Student's distribution.
            let tail = seeds::t_tail(t.abs(), before - 1.0).max(1e-300);
            let deviate = -normal::quantile(tail) * t.signum();
            sum = (sum - deviate - SLACK).max(0.0);
        }
        let moved = value - mean;
        mean += moved / (before + 1.0);
        squares += moved * (value - mean);
    }
    sum
}

/// Follows every metric that has a direction: `nights` are the rows of each night since the acceptance, oldest first,
/// tonight's last.
pub fn follow(baseline: &Baseline, nights: &[Vec<Measurement>]) -> Vec<Slow> {
    let mut followed: Vec<(Slow, f64, Direction)> = Vec::new();
    let by_night: Vec<BTreeMap<Question, &Measurement>> = nights
        .iter()
        .map(|rows| rows.iter().filter(|m| m.error.is_none()).map(|m| (Question::of(m, true), m)).collect())
        .collect();
    for accepted in &baseline.run.measurements {
        let question = Question::of(accepted, true);
        let mut rows: Vec<&Measurement> = vec![accepted];
        for m in by_night.iter().filter_map(|night| night.get(&question)) {
            if rows.last().is_some_and(|last| (&last.artefact, &last.crafter) != (&m.artefact, &m.crafter)) {
                rows.push(m);
            }
        }
        for (metric, estimate) in values(accepted) {
            let direction = metric.direction();
            if direction == Direction::Neutral || is_derived(metric) {
                continue;
            }
            let series: Vec<f64> = rows.iter().filter_map(|m| values(m).get(&metric).map(|e| e.value)).collect();
            let slow = Slow {
                question: question.to_string(),
                metric,
                accepted: estimate.value,
                recent: mean_of_last(&series),
                values: series,
                sum: 0.0,
                limit: 0.0,
                floor: floor(metric, estimate.value, &baseline.floors),
                alarm: false,
            };
            let scale = if metric.about().percent { 1.0 } else { estimate.value.abs().max(1e-9) };
            followed.push((slow, scale / f64::from(estimate.n.max(1)), direction));
        }
    }
    let limit = limit(followed.len());
    let finish = |(mut slow, step, direction): (Slow, f64, Direction)| {
        let sign = if direction == Direction::Higher { 1.0 } else { -1.0 };
        let signed: Vec<f64> = slow.values.iter().map(|v| sign * v).collect();
        (slow.sum, slow.limit) = (cusum(&signed, step), limit);
        let lost = sign * (slow.accepted - slow.recent);
        slow.alarm = slow.values.len() > LEAST && slow.sum > limit && lost > slow.floor;
        slow
    };
    followed.into_iter().map(finish).collect()
}

fn mean_of_last(values: &[f64]) -> f64 {
    let last = &values[values.len().saturating_sub(WINDOW)..];
    last.iter().sum::<f64>() / last.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    #[test]
    fn the_limit_is_siegmunds() {
        // Run length of k = 0.5, h = 5: about 930 by Siegmund's formula (938.2).
        let length = |h: f64| {
            let x = h + 1.166;
            (x.exp() - x - 1.0) / 0.5
        };
        assert!((length(5.0) - 938.2).abs() < 1.0, "{}", length(5.0));
        assert!((length(limit(50)) / (NIGHTS * 50.0) - 1.0).abs() < 1e-6);
        assert!(limit(50) > limit(1));
    }

    #[test]
    fn noise_stays_below_the_limit_and_a_trend_passes_it() {
        let normal = |night: u64, series: u64| f64::from(rng::normal(&mut rng::stream(5, "slow", &[series, night])));
        // 300 series of 60 nights, one sum each: 18,000 nights of one sum, and 400 nights are wanted per false alarm.
        let limit = limit(1);
        let alarms = |trend: f64| {
            let of = |series: u64| {
                let values: Vec<f64> =
                    (0..60).map(|night| 0.4 + 0.007 * normal(night, series) - trend * night as f64).collect();
                (LEAST + 1..=60).any(|n| cusum(&values[..n], 1e-4) > limit)
            };
            (0..300).filter(|&series| of(series)).count()
        };
        // 60 nights of 400: one series in seven.
        assert!((15..=70).contains(&alarms(0.0)), "{}", alarms(0.0));
        // Half a standard deviation a night is found in every series.
        assert!(alarms(0.0035) > 290, "{}", alarms(0.0035));
    }

    #[test]
    fn equal_values_sum_to_nothing_and_better_ones_too() {
        assert_eq!(cusum(&[0.5; 30], 1e-3), 0.0);
        let better: Vec<f64> = (0..30).map(|i| 0.5 + 0.01 * f64::from(i)).collect();
        assert_eq!(cusum(&better, 1e-3), 0.0);
    }
}
