//! What one query can tell: a hit, an attacker's success, a reciprocal rank; and the paired test of each.

use std::collections::BTreeMap;

use super::pairing::Pair;
use crate::metric::kind::{Direction, Metric, Scope};
use crate::record::{Measurement, QueryOutcome};
use crate::stats::mcnemar::Discordance;
use crate::stats::{normal, signs};

/// A per-query outcome that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Whether a same-class image is among the k nearest.
    HitWithin(u32),
    /// One over the rank of the first same-class image.
    ReciprocalRank,
    /// MAP@R of the query, at the four decimals that a baseline keeps.
    MapAtR,
    /// Whether the attacker succeeded.
    Success,
    /// The score of a ranking attack, or of ERS: this metric is its mean.
    Score(Metric),
}

/// Parts of one in which MAP@R of a query is kept and compared.
pub(super) const MAP_UNITS: f64 = 1e4;

/// The metric that `score` holds in the outcomes of a trial of RobRank's attacks, or of the row of ERS.
fn score_of(m: &Measurement) -> Option<Metric> {
    let mut own = m.metrics.iter().map(|e| e.metric).filter(|metric| metric.scope() == Scope::Robrank);
    let has_ers = m.metrics.iter().any(|e| e.metric == Metric::Ers);
    if has_ers { Some(Metric::Ers) } else { own.next() }
}

impl Outcome {
    /// The outcomes that both trials have: every recall@k and the reciprocal rank (not where broken queries are
    /// left alone), MAP@R where each query has it (older
    /// records have none), the score of a ranking attack, the attacker's success.
    pub fn of_pair(pair: &Pair<'_>) -> Vec<Self> {
        let (a, b) = (pair.a, pair.b);
        let ks = a.recall.iter().map(|r| r.k).filter(|k| b.recall.iter().any(|r| r.k == *k));
        let mut list: Vec<Self> = ks.map(Self::HitWithin).collect();
        // Where recall@1 alone is told, ranks beyond it say nothing: broken queries were left alone.
        let ranks = |m: &Measurement| !m.method.ends_with("-until-broken");
        if !list.is_empty() && ranks(a) && ranks(b) {
            list.push(Self::ReciprocalRank);
        }
        let measured = |m: &Measurement| m.metrics.iter().any(|e| e.metric == Metric::MapAtR && e.estimate.is_some());
        let each = |outcomes: &[&QueryOutcome]| outcomes.iter().all(|q| q.first_hit == 0 || q.map_at_r.is_some());
        if measured(a) && measured(b) && each(&pair.outcomes_a) && each(&pair.outcomes_b) {
            list.push(Self::MapAtR);
        }
        list.extend(score_of(a).filter(|metric| score_of(b) == Some(*metric)).map(Self::Score));
        list.extend((a.success.is_some() && b.success.is_some()).then_some(Self::Success));
        list
    }

    /// The metric that is the mean of it.
    pub fn metric(self) -> Metric {
        match self {
            Self::HitWithin(k) => Metric::RecallAt(k),
            Self::ReciprocalRank => Metric::Mrr,
            Self::MapAtR => Metric::MapAtR,
            Self::Success => Metric::Success,
            Self::Score(metric) => metric,
        }
    }

    /// Whether a larger value is better for the model.
    pub fn higher_is_better(self) -> bool {
        self.metric().direction() == Direction::Higher
    }

    /// Whether it is 0 or 1.
    pub fn is_hit(self) -> bool {
        matches!(self, Self::HitWithin(_) | Self::Success)
    }

    /// Its value for one query; `None` for a query that has none: nothing of its class to be found, or no score.
    pub fn value(self, query: &QueryOutcome) -> Option<f64> {
        let flag = |yes: bool| f64::from(u8::from(yes));
        match self {
            Self::Score(_) => query.score,
            _ if query.first_hit == 0 => None,
            Self::HitWithin(k) => Some(flag(query.first_hit <= k)),
            Self::ReciprocalRank => Some(1.0 / f64::from(query.first_hit)),
            Self::MapAtR => Some((query.map_at_r? * MAP_UNITS).round() / MAP_UNITS),
            Self::Success => Some(flag(query.success)),
        }
    }
}

/// The queries of a pair that have a value in both; the others are left out.
pub fn answered<'a>(pair: &Pair<'a>, outcome: Outcome) -> Vec<(&'a QueryOutcome, &'a QueryOutcome)> {
    let has = |q: &QueryOutcome| outcome.value(q).is_some();
    let both = pair.outcomes_a.iter().zip(&pair.outcomes_b);
    both.filter(|(a, b)| has(a) && has(b)).map(|(a, b)| (*a, *b)).collect()
}

/// A paired test of B against A.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tested {
    /// Queries compared.
    pub queries: usize,
    /// Mean of A and of B.
    pub means: (f64, f64),
    /// Queries with a larger value in A, and in B.
    pub only: (u64, u64),
    /// One-sided p-values of "B is smaller" and "B is larger"; NaN without a query.
    pub p: (f64, f64),
    /// Standard error of `mean(B) − mean(A)` when whole classes are drawn.
    pub error: f64,
}

impl Tested {
    /// 95 % interval of the difference: normal, classes as units.
    pub fn interval(&self) -> (f64, f64) {
        let (difference, half) = (self.means.1 - self.means.0, normal::quantile(0.975) * self.error);
        (difference - half, difference + half)
    }

    /// Two-sided p-value.
    pub fn two_sided(&self) -> f64 {
        (2.0 * self.p.0.min(self.p.1)).min(1.0)
    }
}

/// Tests B against A. Hits: exact McNemar. Anything else: sign flips of whole classes.
///
/// # Panics
/// If the lists differ in length.
pub fn test(a: &[f64], b: &[f64], classes: &[u32], hits: bool) -> Tested {
    assert!(a.len() == b.len() && a.len() == classes.len(), "the same queries in both");
    let n = a.len().max(1) as f64;
    let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
    let mut only = (0u64, 0u64);
    for ((x, y), class) in a.iter().zip(b).zip(classes) {
        if x != y {
            *sums.entry(*class).or_insert(0.0) += y - x;
            only = if x > y { (only.0 + 1, only.1) } else { (only.0, only.1 + 1) };
        }
    }
    let sums: Vec<f64> = sums.into_values().collect();
    let discordance = Discordance { only_a: only.0, only_b: only.1 };
    let p = match hits {
        _ if a.is_empty() => (f64::NAN, f64::NAN),
        true => {
            let swapped = Discordance { only_a: only.1, only_b: only.0 };
            (discordance.p_worse(), swapped.p_worse())
        }
        false => {
            let negated: Vec<f64> = sums.iter().map(|s| -s).collect();
            (signs::p_value(&negated), signs::p_value(&sums))
        }
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n;
    let error = sums.iter().map(|s| s * s).sum::<f64>().sqrt() / n;
    Tested { queries: a.len(), means: (mean(a), mean(b)), only, p, error }
}
