//! Paired differences of every metric that is an outcome per query.
//!
//! A hit (recall@k, the attacker's success) is tested with the exact McNemar test, a mean over queries (reciprocal rank)
//! with the sign-flip test over classes. The interval of the difference is the bootstrap over classes in either case.
//! p-values are corrected over the whole grid by Holm.

use serde::Serialize;

use super::pairing::Pair;
use crate::metric::kind::{Direction, Metric, Scope};
use crate::record::{Measurement, QueryOutcome};
use crate::rng;
use crate::stats::bootstrap::{Resampling, paired_difference};
use crate::stats::{holm, mcnemar::Discordance};

/// A difference is called supported below this, after correction.
pub const SIGNIFICANCE: f64 = 0.05;
/// Chance of seeing a true difference that "queries needed" is computed for.
const POWER: f64 = 0.8;
/// Random sign flips of the classes.
const FLIPS: u64 = 9999;

/// What the test says about one metric of one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A is better, supported after correction.
    ABetter,
    /// B is better, supported after correction.
    BBetter,
    /// Every query has the same outcome.
    Identical,
    /// A difference that chance would give too.
    NotShown,
}

/// One metric of one question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The question in words.
    pub question: String,
    /// `recall@1`, `mrr`, `success`.
    pub metric: String,
    /// Queries compared.
    pub queries: usize,
    /// Value of A.
    pub a: f64,
    /// Value of B.
    pub b: f64,
    /// B − A.
    pub difference: f64,
    /// Ends of its 95 % interval, classes drawn.
    pub interval: (f64, f64),
    /// Queries with an outcome in A's favour only, and in B's.
    pub only: (u64, u64),
    /// Of the test alone.
    pub p_value: f64,
    /// After Holm's correction over the grid.
    pub p_adjusted: f64,
    /// What follows.
    pub verdict: Verdict,
    /// Queries that would be needed to show a difference like this one (one test at 5 %, power 80 %), if it is not shown.
    pub queries_needed: Option<u64>,
    /// Images (index in the data set) whose outcome flipped, A's favour first; for hits only.
    pub flipped: (Vec<u32>, Vec<u32>),
}

/// All metrics of all questions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Name of the first: a model or a run folder.
    pub a: String,
    /// Name of the second.
    pub b: String,
    /// One per question and metric, in the order of the questions.
    pub differences: Vec<Difference>,
    /// Questions that only one of them answers.
    pub unmatched: Vec<String>,
}

/// A per-query outcome that can be compared.
struct Outcome {
    name: String,
    /// Whether a larger value is better for the model.
    higher_is_better: bool,
    /// Whether it is 0 or 1.
    hit: bool,
    /// Its value; `None` for a query that has none and is left out.
    value: Value,
}

type Value = Box<dyn Fn(&QueryOutcome) -> Option<f64>>;

/// The value of a query that something of its class can be found for.
fn ranked(of: impl Fn(&QueryOutcome) -> f64 + 'static) -> Value {
    Box::new(move |q| (q.first_hit > 0).then(|| of(q)))
}

/// The outcomes that both trials have.
fn outcomes(pair: &Pair<'_>) -> Vec<Outcome> {
    let ks = pair.a.recall.iter().map(|r| r.k).filter(|k| pair.b.recall.iter().any(|r| r.k == *k));
    let mut list: Vec<Outcome> = ks
        .map(|k| Outcome {
            name: format!("recall@{k}"),
            higher_is_better: true,
            hit: true,
            value: ranked(move |q| f64::from(u8::from((1..=k).contains(&q.first_hit)))),
        })
        .collect();
    if !list.is_empty() {
        list.push(Outcome {
            name: "mrr".into(),
            higher_is_better: true,
            hit: false,
            value: ranked(|q| 1.0 / f64::from(q.first_hit)),
        });
    }
    if let Some(metric) = score_of(pair.a).filter(|metric| score_of(pair.b) == Some(*metric)) {
        list.push(Outcome {
            name: metric.to_string(),
            higher_is_better: metric.direction() == Direction::Higher,
            hit: false,
            value: Box::new(|q| q.score),
        });
    }
    if pair.a.success.is_some() && pair.b.success.is_some() {
        list.push(Outcome {
            name: "success".into(),
            higher_is_better: false,
            hit: true,
            value: ranked(|q| f64::from(u8::from(q.success))),
        });
    }
    list
}

/// The metric that `score` holds in the outcomes of a trial of RobRank's attacks, or of the row of ERS.
fn score_of(m: &Measurement) -> Option<Metric> {
    let mut own = m.metrics.iter().map(|e| e.metric).filter(|metric| metric.scope() == Scope::Robrank);
    let has_ers = m.metrics.iter().any(|e| e.metric == Metric::Ers);
    if has_ers { Some(Metric::Ers) } else { own.next() }
}

/// Compares all pairs. `seed` names the draws of intervals and sign flips.
///
/// Queries without another image of their class (`first_hit` 0) are left out of what is about finding one.
pub fn compare(a: &str, b: &str, pairs: &[Pair<'_>], unmatched: Vec<String>, seed: u64) -> Comparison {
    let mut differences: Vec<(Difference, bool)> = Vec::new();
    for pair in pairs {
        for outcome in outcomes(pair) {
            let has = |q: &QueryOutcome| (outcome.value)(q).is_some();
            let both = pair.outcomes_a.iter().zip(&pair.outcomes_b).filter(|(x, y)| has(x) && has(y));
            let both: Vec<(&QueryOutcome, &QueryOutcome)> = both.map(|(x, y)| (*x, *y)).collect();
            let difference = difference(&pair.question.to_string(), &outcome, &both, seed);
            differences.push((difference, outcome.higher_is_better));
        }
    }
    let adjusted = holm::adjusted(&differences.iter().map(|(d, _)| d.p_value).collect::<Vec<_>>());
    for ((difference, higher_is_better), adjusted) in differences.iter_mut().zip(adjusted) {
        difference.p_adjusted = adjusted;
        difference.verdict = verdict(difference, *higher_is_better);
        if difference.verdict != Verdict::NotShown {
            difference.queries_needed = None;
        }
    }
    let differences = differences.into_iter().map(|(d, _)| d).collect();
    Comparison { a: a.into(), b: b.into(), differences, unmatched }
}

fn verdict(difference: &Difference, higher_is_better: bool) -> Verdict {
    if difference.only == (0, 0) {
        return Verdict::Identical;
    }
    if difference.p_adjusted.is_nan() || difference.p_adjusted >= SIGNIFICANCE {
        return Verdict::NotShown;
    }
    if (difference.difference > 0.0) == higher_is_better { Verdict::BBetter } else { Verdict::ABetter }
}

fn difference(question: &str, outcome: &Outcome, ranked: &[(&QueryOutcome, &QueryOutcome)], seed: u64) -> Difference {
    let values = |pick: &dyn Fn(&(&QueryOutcome, &QueryOutcome)) -> f64| ranked.iter().map(pick).collect::<Vec<f64>>();
    let value = |q: &QueryOutcome| (outcome.value)(q).unwrap_or_default();
    let (first, second) = (values(&|(x, _)| value(x)), values(&|(_, y)| value(y)));
    let classes: Vec<u32> = ranked.iter().map(|(x, _)| x.label).collect();
    let n = ranked.len();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n.max(1) as f64;
    let flips = |favoured: &[f64], other: &[f64]| -> Vec<u32> {
        let better = favoured.iter().zip(other).zip(ranked).filter(|((f, o), _)| f > o);
        better.map(|(_, (x, _))| x.query).collect()
    };
    let flipped = (flips(&first, &second), flips(&second, &first));
    let only = Discordance { only_a: flipped.0.len() as u64, only_b: flipped.1.len() as u64 };
    let p_value = match outcome.hit {
        _ if n == 0 => f64::NAN,
        true => only.p_value(),
        false => sign_flips(&first, &second, &classes, seed),
    };
    let interval = paired_difference(&first, &second, &classes, Resampling::new(seed));
    let (a, b) = (mean(&first), mean(&second));
    Difference {
        question: question.into(),
        metric: outcome.name.clone(),
        queries: n,
        a,
        b,
        difference: b - a,
        interval: interval.map_or((f64::NAN, f64::NAN), |i| (i.low, i.high)),
        only: (only.only_a, only.only_b),
        p_value,
        p_adjusted: p_value,
        verdict: Verdict::NotShown,
        queries_needed: outcome.hit.then(|| only.queries_needed(n, SIGNIFICANCE, POWER)).flatten(),
        flipped: if outcome.hit { flipped } else { (vec![], vec![]) },
    }
}

/// Two-sided p-value of the mean difference when whole classes change sign by a fair coin: `(1 + #{|flipped| ≥ |seen|}) /
/// (1 + flips)`.
///
/// # Source
/// Good 2005, "Permutation, Parametric and Bootstrap Tests of Hypotheses", section 3.2 (matched pairs); Phipson & Smyth
/// 2010 for the added ones.
fn sign_flips(a: &[f64], b: &[f64], classes: &[u32], seed: u64) -> f64 {
    let mut sums: std::collections::BTreeMap<u32, f64> = Default::default();
    for ((x, y), class) in a.iter().zip(b).zip(classes) {
        *sums.entry(*class).or_insert(0.0) += y - x;
    }
    let sums: Vec<f64> = sums.into_values().filter(|sum| *sum != 0.0).collect();
    let seen = sums.iter().sum::<f64>().abs();
    // Rounding of another order of summation is no difference.
    let reached = seen - 1e-12 * sums.iter().map(|s| s.abs()).sum::<f64>();
    let mut as_large = 0u64;
    for flip in 0..FLIPS {
        let mut stream = rng::stream(seed, "sign-flips", &[flip]);
        let mut total = 0.0;
        for chunk in sums.chunks(64) {
            let mut bits = rand::RngCore::next_u64(&mut stream);
            for sum in chunk {
                total += if bits & 1 == 0 { *sum } else { -sum };
                bits >>= 1;
            }
        }
        as_large += u64::from(total.abs() >= reached);
    }
    (1 + as_large) as f64 / (1 + FLIPS) as f64
}

#[cfg(test)]
mod tests;
