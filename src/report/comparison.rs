//! Is a difference more than chance? Paired per query: the same queries, the same training seed.

use std::collections::BTreeMap;

use super::material::Material;
use super::summary::Condition;
use crate::record::QueryOutcome;
use crate::stats::mcnemar::Discordance;

/// A difference is called supported below this, after correction for the number of comparisons.
pub const SIGNIFICANCE: f64 = 0.05;

/// Two models on the same queries with the same seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Largest exact McNemar p-value over the seeds that both have: each seed must support the difference by itself,
    /// because the same queries answer for every seed and must not be counted twice.
    pub p_value: f64,
    /// Seeds compared.
    pub seeds: usize,
    /// What the p-value must be below: [`SIGNIFICANCE`] divided by the number of comparisons (Bonferroni).
    pub threshold: f64,
    /// Whether all seeds point the same way and `p_value < threshold`.
    pub supported: bool,
}

/// Compares `model` with `baseline` under a condition. `None` if no seed has both on the same queries.
pub fn compare(
    material: &Material<'_>,
    condition: &Condition,
    model: &str,
    baseline: &str,
    comparisons: usize,
) -> Option<Comparison> {
    let trials = |id: &str| -> BTreeMap<u64, &str> {
        let rows = material.run.measurements.iter();
        let rows = rows.filter(|m| m.model == id && m.error.is_none() && condition.matches(m));
        rows.map(|m| (m.model_seed, m.trial.as_str())).collect()
    };
    let outcomes = |trial: &str| material.outcomes.of(trial).unwrap_or_default();
    let others = trials(baseline);
    let (mut p_value, mut seeds, mut up, mut down) = (0.0_f64, 0, 0, 0);
    for (seed, trial) in trials(model) {
        let Some(other) = others.get(&seed) else { continue };
        let (a, b) = (outcomes(trial), outcomes(other));
        if a.is_empty() || !a.iter().map(|o| o.query).eq(b.iter().map(|o| o.query)) {
            continue;
        }
        let hits = |list: &[&QueryOutcome]| list.iter().map(|o| o.first_hit == 1).collect::<Vec<bool>>();
        let (a, b) = (hits(a), hits(b));
        let found = Discordance::count(&a, &b);
        p_value = p_value.max(found.p_value());
        up += usize::from(found.only_a > found.only_b);
        down += usize::from(found.only_b > found.only_a);
        seeds += 1;
    }
    let threshold = SIGNIFICANCE / comparisons.max(1) as f64;
    (seeds > 0).then_some(Comparison {
        threshold,
        p_value,
        seeds,
        supported: (up == seeds || down == seeds) && p_value < threshold,
    })
}
