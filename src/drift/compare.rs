//! Paired differences of every metric that is an outcome per query.
//!
//! A hit (recall@k, the attacker's success) is tested with the exact McNemar test, a mean over queries (reciprocal rank)
//! with the sign-flip test over classes. The interval of the difference is the bootstrap over classes in either case.
//! p-values are corrected over the whole grid by Holm.

use rayon::prelude::*;
use serde::Serialize;

use super::outcome::{self, Outcome};
use super::pairing::Pair;
use crate::record::QueryOutcome;
use crate::stats::bootstrap::{Resampling, paired_difference};
use crate::stats::{holm, mcnemar::Discordance};

/// A difference is called supported below this, after correction.
pub const SIGNIFICANCE: f64 = 0.05;
/// Chance of seeing a true difference that "queries needed" is computed for.
const POWER: f64 = 0.8;
/// Classes beyond which an interval is computed, not drawn: a thousand are as good as normal, and a million rows would take
/// minutes.
const MANY_CLASSES: usize = 1000;

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

/// Compares all pairs. `seed` names the draws of intervals.
///
/// Queries without another image of their class (`first_hit` 0) are left out of what is about finding one.
pub fn compare(a: &str, b: &str, pairs: &[Pair<'_>], unmatched: Vec<String>, seed: u64) -> Comparison {
    let of_pair = |pair: &Pair<'_>| -> Vec<(Difference, bool)> {
        let question = pair.question.to_string();
        let of = |outcome: Outcome| {
            let answered = outcome::answered(pair, outcome);
            (difference(&question, outcome, &answered, seed), outcome.higher_is_better())
        };
        Outcome::of_pair(pair).into_iter().map(of).collect()
    };
    let mut differences: Vec<(Difference, bool)> = pairs.par_iter().map(of_pair).flatten_iter().collect();
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

fn difference(question: &str, outcome: Outcome, answered: &[(&QueryOutcome, &QueryOutcome)], seed: u64) -> Difference {
    let value = |q: &QueryOutcome| outcome.value(q).unwrap_or_default();
    let first: Vec<f64> = answered.iter().map(|(x, _)| value(x)).collect();
    let second: Vec<f64> = answered.iter().map(|(_, y)| value(y)).collect();
    let classes: Vec<u32> = answered.iter().map(|(x, _)| x.label).collect();
    let tested = outcome::test(&first, &second, &classes, outcome.is_hit());
    let flips = |favoured: &[f64], other: &[f64]| -> Vec<u32> {
        let better = favoured.iter().zip(other).zip(answered).filter(|((f, o), _)| f > o);
        better.map(|(_, (x, _))| x.query).collect()
    };
    let only = Discordance { only_a: tested.only.0, only_b: tested.only.1 };
    let p_value = tested.two_sided();
    Difference {
        question: question.into(),
        metric: outcome.metric().to_string(),
        queries: tested.queries,
        a: tested.means.0,
        b: tested.means.1,
        difference: tested.means.1 - tested.means.0,
        interval: interval(&tested, (&first, &second), &classes, seed),
        only: tested.only,
        p_value,
        p_adjusted: p_value,
        verdict: Verdict::NotShown,
        queries_needed: outcome.is_hit().then(|| only.queries_needed(tested.queries, SIGNIFICANCE, POWER)).flatten(),
        flipped: if outcome.is_hit() { (flips(&first, &second), flips(&second, &first)) } else { (vec![], vec![]) },
    }
}

/// The bootstrap over classes; beyond [`MANY_CLASSES`] the normal interval that it converges to.
fn interval(tested: &outcome::Tested, (a, b): (&[f64], &[f64]), classes: &[u32], seed: u64) -> (f64, f64) {
    let mut distinct: Vec<u32> = classes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() > MANY_CLASSES {
        return tested.interval();
    }
    let drawn = paired_difference(a, b, classes, Resampling::new(seed));
    drawn.map_or((f64::NAN, f64::NAN), |i| (i.low, i.high))
}

#[cfg(test)]
mod tests;
