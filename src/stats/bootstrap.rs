//! Percentile bootstrap of means: over queries, over classes (clusters), and of paired differences.
//!
//! Queries of one class are not independent, so the honest unit is the class: [`cluster_mean`] draws whole classes.
//! Drawing goes by resample index through [`crate::rng`], so that threads do not matter.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{CONFIDENCE, Interval};
use crate::rng;

/// How often and from which stream to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampling {
    /// Number of resamples.
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Resampling {
    /// 2,000 resamples: the ends of a 95 % interval then wander by about a twentieth of its width.
    pub fn new(seed: u64) -> Self {
        Self { resamples: 2000, seed }
    }
}

/// Interval of the mean of independent `values`. `None` for an empty list; a point for a single value.
///
/// # Source
/// Efron 1979, "Bootstrap methods: another look at the jackknife"; the percentile interval.
pub fn mean(values: &[f64], resampling: Resampling) -> Option<Interval> {
    let units: Vec<(f64, f64)> = values.iter().map(|&v| (v, 1.0)).collect();
    ratio(&units, resampling)
}

/// Interval of the mean of `values` when whole clusters (classes) are drawn; the point is the plain mean.
///
/// `clusters`: the cluster of each value. Classes of different sizes keep their weight. `None` for an empty list.
///
/// ```
/// use mdprop::stats::bootstrap::{Resampling, cluster_mean};
///
/// // Two classes that agree within themselves: the unit is the class, so the interval spans everything.
/// let interval = cluster_mean(&[1.0, 1.0, 0.0, 0.0], &[5, 5, 9, 9], Resampling::new(1)).unwrap();
/// assert_eq!((interval.value, interval.low, interval.high), (0.5, 0.0, 1.0));
/// ```
///
/// # Panics
/// If the lists differ in length.
/// # Source
/// Davison & Hinkley 1997, "Bootstrap methods and their application", section 3.8 (resampling whole groups).
pub fn cluster_mean(values: &[f64], clusters: &[u32], resampling: Resampling) -> Option<Interval> {
    assert_eq!(values.len(), clusters.len(), "one cluster for each value");
    let mut sums: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for (value, cluster) in values.iter().zip(clusters) {
        let sum = sums.entry(*cluster).or_default();
        sum.0 += value;
        sum.1 += 1.0;
    }
    ratio(&sums.into_values().collect::<Vec<_>>(), resampling)
}

/// Interval of `mean(b − a)` over the same queries, whole classes drawn.
///
/// # Panics
/// If the lists differ in length.
pub fn paired_difference(a: &[f64], b: &[f64], clusters: &[u32], resampling: Resampling) -> Option<Interval> {
    assert_eq!(a.len(), b.len(), "the same queries in both");
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
    cluster_mean(&differences, clusters, resampling)
}

/// `Σ sums / Σ counts` over units drawn with replacement.
fn ratio(units: &[(f64, f64)], resampling: Resampling) -> Option<Interval> {
    if units.is_empty() || resampling.resamples == 0 {
        return None;
    }
    let total = |picked: &mut dyn Iterator<Item = (f64, f64)>| {
        let (sum, count) = picked.fold((0.0, 0.0), |all, unit| (all.0 + unit.0, all.1 + unit.1));
        sum / count
    };
    let value = total(&mut units.iter().copied());
    let mut means: Vec<f64> = (0..resampling.resamples as u64)
        .into_par_iter()
        .map(|resample| {
            let mut stream = rng::stream(resampling.seed, "bootstrap", &[resample]);
            let (mut sum, mut count) = (0.0, 0.0);
            for _ in 0..units.len() {
                let unit = units[rng::below(&mut stream, units.len() as u64) as usize];
                sum += unit.0;
                count += unit.1;
            }
            sum / count
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Some(Interval { value, low: quantile(&means, tail), high: quantile(&means, 1.0 - tail) })
}

/// Quantile of sorted values with linear interpolation (Hyndman & Fan 1996, type 7).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    #[test]
    fn quantiles_interpolate_like_numpy() {
        // numpy.quantile([1, 2, 4, 8], [0, 0.1, 0.5, 0.95, 1])
        for (q, wanted) in [(0.0, 1.0), (0.1, 1.3), (0.5, 3.0), (0.95, 7.4), (1.0, 8.0)] {
            assert_abs_diff_eq!(quantile(&[1.0, 2.0, 4.0, 8.0], q), wanted, epsilon = 1e-12);
        }
    }

    #[test]
    fn a_share_gets_the_binomial_interval() {
        // 120 hits of 400: resampled means are Binomial(400, 0.3)/400, whose 2.5 % and 97.5 % points are 0.255 and
        // 0.345 (scipy.stats.binom.ppf([.025, .975], 400, .3) / 400). 2,000 draws move an end by about 0.0015.
        let values: Vec<f64> = (0..400).map(|i| f64::from(i < 120)).collect();
        let interval = mean(&values, Resampling::new(11)).unwrap();
        assert_abs_diff_eq!(interval.value, 0.3, epsilon = 1e-12);
        assert_abs_diff_eq!(interval.low, 0.255, epsilon = 0.006);
        assert_abs_diff_eq!(interval.high, 0.345, epsilon = 0.006);
    }

    #[test]
    fn agrees_with_scipy_on_unequal_classes() {
        // tests/data/stats/bootstrap.py: 60 classes of 1 to 9 queries, 200,000 resamples by numpy.
        let fixture: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/data/stats/bootstrap.json")).unwrap();
        let values: Vec<f64> = fixture["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let clusters: Vec<u32> =
            fixture["clusters"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect();
        let ours = Resampling { resamples: 20_000, seed: 5 };
        for (interval, key) in
            [(cluster_mean(&values, &clusters, ours).unwrap(), "cluster"), (mean(&values, ours).unwrap(), "plain")]
        {
            let wanted: Vec<f64> = fixture[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            assert_abs_diff_eq!(interval.value, wanted[0], epsilon = 1e-12);
            assert_abs_diff_eq!(interval.low, wanted[1], epsilon = 0.004);
            assert_abs_diff_eq!(interval.high, wanted[2], epsilon = 0.004);
        }
    }

    #[test]
    fn pairing_cancels_what_both_share() {
        let a: Vec<f64> = (0..50).map(|i| f64::from(i % 7)).collect();
        let b: Vec<f64> = a.iter().map(|v| v + 0.25).collect();
        let clusters: Vec<u32> = (0..50).map(|i| i / 5).collect();
        let interval = paired_difference(&a, &b, &clusters, Resampling::new(2)).unwrap();
        assert_eq!((interval.value, interval.low, interval.high), (0.25, 0.25, 0.25));
    }

    #[test]
    fn the_seed_decides_and_threads_do_not() {
        let values: Vec<f64> = (0..200).map(|i| f64::from(i * i % 31)).collect();
        let run = |threads, seed| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| mean(&values, Resampling::new(seed))).unwrap()
        };
        assert_eq!(run(1, 3), run(3, 3));
        assert_ne!(run(1, 3), run(1, 4));
        assert_eq!(mean(&[], Resampling::new(1)), None);
        assert_eq!(mean(&[2.0], Resampling::new(1)).unwrap(), Interval { value: 2.0, low: 2.0, high: 2.0 });
    }
}
