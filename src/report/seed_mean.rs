//! A figure over training seeds, and what its interval is an interval of.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Estimate, Measurement};
use crate::stats::seeds;
use crate::stats::uncertainty::Basis;

/// What an interval is an interval of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IntervalKind {
    /// One seed: uncertainty from the queries (whole classes drawn) alone.
    Queries,
    /// Two seeds: from the lower end of the lower seed's query interval to the upper end of the upper one's.
    Envelope,
    /// Three seeds or more: Student's interval of the mean, never narrower than the mean query interval.
    Mean,
}

impl IntervalKind {
    /// For a footnote.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Queries => {
                "one seed: 95 % interval from the queries, whole classes drawn; it says nothing about training again"
            }
            Self::Envelope => {
                "two seeds: the range that covers both seeds' 95 % query intervals; two seeds are too few for an \
                 interval of the mean"
            }
            Self::Mean => {
                "three seeds or more: 95 % Student interval of the mean over seeds, never narrower than the mean query \
                 interval"
            }
        }
    }
}

/// A mean over seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedMean {
    /// Mean share.
    pub value: f64,
    /// Lower end, in `[0, 1]`.
    pub low: f64,
    /// Upper end, in `[0, 1]`.
    pub high: f64,
    /// What the interval is.
    pub kind: IntervalKind,
    /// Number of seeds.
    pub seeds: usize,
    /// Standard deviation over them; `None` for one.
    pub sd: Option<f64>,
    /// Fewest queries (images, for figures of a set) of its trials.
    pub queries: u32,
    /// Where the intervals of its trials come from; empty: they have none.
    pub bases: BTreeSet<Basis>,
}

impl SeedMean {
    /// Whether there is an interval to show: that of its trials, or that of the mean over three seeds or more. Never one
    /// with an end that is no number.
    pub fn has_interval(&self) -> bool {
        let finite = self.low.is_finite() && self.high.is_finite();
        finite && (!self.bases.is_empty() || self.kind == IntervalKind::Mean)
    }
}

/// The mean over seeds of a figure that `get` finds in a row, its interval kept within `range`.
///
/// Rows of one seed (another suite seed, say) are averaged first, so that each training counts once. Failed trials and
/// figures that are no number do not count; `None` if no row has the figure.
pub(super) fn seed_mean(
    rows: &[&Measurement],
    range: (f64, f64),
    get: impl Fn(&Measurement) -> Option<Estimate>,
) -> Option<SeedMean> {
    let mut by_seed: BTreeMap<u64, Vec<Estimate>> = BTreeMap::new();
    for m in rows.iter().filter(|m| m.error.is_none()) {
        if let Some(estimate) = get(m).filter(|e| e.value.is_finite()) {
            by_seed.entry(m.model_seed).or_default().push(estimate);
        }
    }
    of_seeds(by_seed.into_values().collect(), range)
}

/// The mean over seeds, one list of estimates a seed.
pub(super) fn of_seeds(by_seed: Vec<Vec<Estimate>>, range: (f64, f64)) -> Option<SeedMean> {
    let average = |list: &[Estimate], get: fn(&Estimate) -> f64| list.iter().map(get).sum::<f64>() / list.len() as f64;
    let column = |get: fn(&Estimate) -> f64| by_seed.iter().map(|l| average(l, get)).collect();
    let (values, lows, highs): (Vec<f64>, Vec<f64>, Vec<f64>) =
        (column(|e| e.value), column(|e| e.low), column(|e| e.high));
    let n = values.len() as f64;
    let summary = seeds::summarise(&values)?;
    let (low, high) = (lows.iter().sum::<f64>() / n, highs.iter().sum::<f64>() / n);
    let (kind, low, high) = match (summary.seeds, summary.interval) {
        (3.., Some(t)) => (IntervalKind::Mean, low.min(t.low), high.max(t.high)),
        (2, _) => {
            let low = lows.iter().copied().fold(f64::INFINITY, f64::min);
            (IntervalKind::Envelope, low, highs.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        }
        _ => (IntervalKind::Queries, low, high),
    };
    let all = || by_seed.iter().flatten();
    Some(SeedMean {
        value: summary.mean,
        low: low.max(range.0),
        high: high.min(range.1),
        kind,
        seeds: summary.seeds,
        sd: summary.sd,
        queries: all().map(|e| e.n).min().unwrap_or(0),
        bases: all().filter_map(|e| e.basis).collect(),
    })
}
