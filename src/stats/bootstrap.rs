//! Bootstrap intervals of means and ratios: over queries, over classes (clusters), and of paired differences.
//!
//! Queries of one class are not independent, so the honest unit is the class: [`cluster_mean`] draws whole classes. Two
//! kinds: percentile ([`mean`], [`cluster_mean`], [`paired_difference`]) and BCa ([`bca`]), which corrects bias and skew
//! and is what the record holds. Drawing goes by resample index through [`crate::rng`], so that threads do not matter.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{CONFIDENCE, Interval, normal};
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
    percentile(&Units::of_values(values), resampling)
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
    percentile(&Units::of_classes(values, clusters), resampling)
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

/// Independent units with what each adds above and below the line of `Σ above / Σ below`: a mean has ones below.
#[derive(Debug, Clone, PartialEq)]
pub struct Units(Vec<(f64, f64)>);

impl Units {
    /// Every value is a unit of its own.
    pub fn of_values(values: &[f64]) -> Self {
        Self(values.iter().map(|&v| (v, 1.0)).collect())
    }

    /// Whole classes are units; the figure stays the plain mean of the values.
    ///
    /// # Panics
    /// If the lists differ in length.
    pub fn of_classes(values: &[f64], classes: &[u32]) -> Self {
        Self::ratio_of_classes(values, &vec![1.0; values.len()], classes)
    }

    /// Whole classes are units of `Σ above / Σ below`.
    ///
    /// # Panics
    /// If the lists differ in length.
    pub fn ratio_of_classes(above: &[f64], below: &[f64], classes: &[u32]) -> Self {
        assert_eq!(above.len(), classes.len(), "one class for each value");
        assert_eq!(below.len(), classes.len(), "one class for each value");
        let mut sums: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        for ((above, below), class) in above.iter().zip(below).zip(classes) {
            let sum = sums.entry(*class).or_default();
            sum.0 += above;
            sum.1 += below;
        }
        Self(sums.into_values().collect())
    }

    /// Number of units.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The figure. `None` if there is nothing below the line.
    pub fn value(&self) -> Option<f64> {
        quotient(self.0.iter().fold((0.0, 0.0), add))
    }

    /// Whether every unit has the same quotient, so that drawing cannot show any spread.
    pub fn agree(&self) -> bool {
        let mut values = self.0.iter().filter_map(|&unit| quotient(unit));
        let first = values.next();
        values.all(|value| Some(value) == first)
    }

    /// The figure in each resample, sorted; resamples with nothing below the line are left out.
    fn resampled(&self, resampling: Resampling) -> Vec<f64> {
        let n = self.0.len() as u64;
        let mut figures: Vec<f64> = (0..resampling.resamples as u64)
            .into_par_iter()
            .filter_map(|resample| {
                let mut stream = rng::stream(resampling.seed, "bootstrap", &[resample]);
                let draw = |all, _| add(all, &self.0[rng::below(&mut stream, n) as usize]);
                quotient((0..n).fold((0.0, 0.0), draw))
            })
            .collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures
    }

    /// The figure with each unit left out.
    fn left_out(&self) -> Vec<f64> {
        let all = self.0.iter().fold((0.0, 0.0), add);
        self.0.iter().filter_map(|unit| quotient((all.0 - unit.0, all.1 - unit.1))).collect()
    }
}

fn add(all: (f64, f64), unit: &(f64, f64)) -> (f64, f64) {
    (all.0 + unit.0, all.1 + unit.1)
}

fn quotient(unit: (f64, f64)) -> Option<f64> {
    (unit.1 > 0.0).then(|| unit.0 / unit.1)
}

/// The bias-corrected and accelerated interval. `None` for no unit; a point for one, or if all agree.
///
/// The acceleration is that of the jackknife over the same units. If the figure lies outside all its resamples, so
/// that there is no correction to compute, the percentile interval is returned.
///
/// ```
/// use mdprop::stats::bootstrap::{Resampling, Units, bca, cluster_mean};
///
/// // Skewed values: the upper end moves away from the percentile interval's.
/// let values = [0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 3.0];
/// let ours = bca(&Units::of_values(&values), Resampling::new(1)).unwrap();
/// let plain = cluster_mean(&values, &[0, 1, 2, 3, 4, 5, 6, 7], Resampling::new(1)).unwrap();
/// assert!(ours.high > plain.high && ours.low > plain.low);
/// ```
///
/// # Source
/// Efron 1987, "Better bootstrap confidence intervals"; the formulas of Efron & Tibshirani 1993, section 14.3.
pub fn bca(units: &Units, resampling: Resampling) -> Option<Interval> {
    let value = units.value()?;
    let resampled = units.resampled(resampling);
    (!resampled.is_empty()).then(|| corrected(value, &resampled, &units.left_out()))
}

/// The BCa interval from sorted resampled figures and those with each unit left out.
fn corrected(value: f64, resampled: &[f64], left_out: &[f64]) -> Interval {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    // Half of the ties count as below, as in scipy.
    let below = resampled.partition_point(|v| *v < value) + resampled.partition_point(|v| *v <= value);
    let bias = normal::quantile(below as f64 / (2 * resampled.len()) as f64);
    if !bias.is_finite() {
        return Interval { value, low: quantile(resampled, tail), high: quantile(resampled, 1.0 - tail) };
    }
    let mean = left_out.iter().sum::<f64>() / left_out.len() as f64;
    let moment = |power| left_out.iter().map(|v| (mean - v).powi(power)).sum::<f64>();
    let spread = moment(2);
    let acceleration = if spread > 0.0 { moment(3) / (6.0 * spread.powf(1.5)) } else { 0.0 };
    let end = |q: f64| {
        let z = bias + normal::quantile(q);
        let place = normal::cdf(bias + z / (1.0 - acceleration * z));
        quantile(resampled, if place.is_nan() { q } else { place })
    };
    Interval { value, low: end(tail), high: end(1.0 - tail) }
}

/// The percentile interval.
fn percentile(units: &Units, resampling: Resampling) -> Option<Interval> {
    let value = units.value()?;
    let figures = units.resampled(resampling);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let end = |q| quantile(&figures, q);
    (!figures.is_empty()).then(|| Interval { value, low: end(tail), high: end(1.0 - tail) })
}

/// Quantile of sorted values, at least one, with linear interpolation (Hyndman & Fan 1996, type 7).
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
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
    fn bca_equals_scipy_on_its_own_resamples() {
        // tests/data/stats/intervals.py: 12 values, scipy.stats.bootstrap(method="BCa") with its 999 resampled means.
        let fixture: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/data/stats/intervals.json")).unwrap();
        let list = |value: &serde_json::Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        for case in fixture["bca"].as_array().unwrap() {
            let units = Units::of_values(&list(&case["values"]));
            let (resampled, wanted) = (list(&case["resampled"]), list(&case["interval"]));
            let ours = corrected(units.value().unwrap(), &resampled, &units.left_out());
            assert_abs_diff_eq!(ours.low, wanted[0], epsilon = 1e-12);
            assert_abs_diff_eq!(ours.high, wanted[1], epsilon = 1e-12);
            // And drawn here: the same up to what 20,000 draws leave.
            let drawn = bca(&units, Resampling { resamples: 20_000, seed: 8 }).unwrap();
            let many = list(&case["interval_of_many"]);
            let width = many[1] - many[0];
            assert_abs_diff_eq!(drawn.low, many[0], epsilon = 0.03 * width);
            assert_abs_diff_eq!(drawn.high, many[1], epsilon = 0.03 * width);
        }
    }

    #[test]
    fn bca_over_few_classes_covers_about_what_it_says() {
        // Shares of 24 classes with 5 queries each whose class effect is strong: an interval over queries would be far
        // too narrow. 400 worlds: the share covered has a standard error of 1.1 points.
        let (mut by_class, mut by_query, truth) = (0, 0, 0.3);
        for world in 0..400 {
            let mut stream = rng::stream(77, "world", &[world]);
            let mut uniform = || f64::from(rng::unit(&mut stream));
            let (mut values, mut classes) = (vec![], vec![]);
            for class in 0..24 {
                let p = if uniform() < 0.5 { 0.05 } else { 0.55 };
                for _ in 0..5 {
                    values.push(f64::from(u8::from(uniform() < p)));
                    classes.push(class);
                }
            }
            let draws = Resampling { resamples: 400, seed: world };
            let covers = |i: Interval| usize::from(i.low <= truth && truth <= i.high);
            by_class += covers(bca(&Units::of_classes(&values, &classes), draws).unwrap());
            by_query += covers(bca(&Units::of_values(&values), draws).unwrap());
        }
        let (by_class, by_query) = (by_class as f64 / 400.0, by_query as f64 / 400.0);
        assert!((0.90..=0.98).contains(&by_class), "{by_class}");
        assert!(by_query < by_class - 0.03, "{by_query} beside {by_class}");
    }

    #[test]
    fn a_ratio_is_drawn_with_both_its_parts() {
        // Above is always half of below: whatever is drawn, the ratio is 1/2. Nothing below: no figure.
        let below = [2.0, 4.0, 0.0, 8.0];
        let above = below.map(|v| v / 2.0);
        let units = Units::ratio_of_classes(&above, &below, &[0, 1, 2, 3]);
        assert!(units.agree());
        let interval = bca(&units, Resampling::new(3)).unwrap();
        assert_eq!((interval.value, interval.low, interval.high), (0.5, 0.5, 0.5));
        assert_eq!(bca(&Units::ratio_of_classes(&[1.0], &[0.0], &[0]), Resampling::new(3)), None);
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
