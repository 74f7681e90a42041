//! Spread over training seeds: mean, standard deviation and Student's interval.

use super::{CONFIDENCE, Interval};

/// Summary of one number over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeedSummary {
    /// Number of seeds.
    pub seeds: usize,
    /// Mean over them.
    pub mean: f64,
    /// Standard deviation with `n − 1`; `None` for one seed.
    pub sd: Option<f64>,
    /// 95 % interval of the mean by Student's t with `n − 1` degrees of freedom; `None` for one seed.
    pub interval: Option<Interval>,
}

/// Summarises one value per seed. `None` for an empty list.
///
/// ```
/// use mdprop::stats::seeds::summarise;
///
/// let summary = summarise(&[0.41, 0.47, 0.44]).unwrap();
/// assert!((summary.mean - 0.44).abs() < 1e-12 && (summary.sd.unwrap() - 0.03).abs() < 1e-12);
/// assert_eq!(summarise(&[0.4]).unwrap().sd, None); // one seed says nothing about spread
/// ```
///
/// # Source
/// Student 1908, "The probable error of a mean".
pub fn summarise(values: &[f64]) -> Option<SeedSummary> {
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() == 1 {
        return Some(SeedSummary { seeds: 1, mean, sd: None, interval: None });
    }
    let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let half = t_quantile((1.0 + CONFIDENCE) / 2.0, n - 1.0) * sd / n.sqrt();
    let interval = Some(Interval { value: mean, low: mean - half, high: mean + half });
    Some(SeedSummary { seeds: values.len(), mean, sd: Some(sd), interval })
}

/// `P(T ≥ t)` of Student's t; 0.5 at 0.
///
/// ```
/// use mdprop::stats::seeds::t_tail;
///
/// assert!((t_tail(2.776445105, 4.0) - 0.025).abs() < 1e-9);
/// ```
pub fn t_tail(t: f64, freedom: f64) -> f64 {
    let tail = 0.5 * incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5);
    if t < 0.0 { 1.0 - tail } else { tail }
}

/// `P` of a mean of `tonight` this much below that of `accepted`, if both were drawn alike: Welch's one-sided t-test.
/// `None` with fewer than two values on either side. Without any spread: 0 if it is below, else 1.
///
/// # Source
/// Welch 1947, "The generalization of 'Student's' problem when several different population variances are involved".
pub fn welch_below(accepted: &[f64], tonight: &[f64]) -> Option<f64> {
    let (a, b) = (summarise(accepted)?, summarise(tonight)?);
    let part = |s: SeedSummary| s.sd.map(|sd| sd * sd / s.seeds as f64);
    let (va, vb) = (part(a)?, part(b)?);
    let difference = a.mean - b.mean;
    if va + vb == 0.0 {
        return Some(if difference > 0.0 { 0.0 } else { 1.0 });
    }
    let free = |v: f64, s: SeedSummary| v * v / (s.seeds as f64 - 1.0);
    Some(t_tail(difference / (va + vb).sqrt(), (va + vb).powi(2) / (free(va, a) + free(vb, b))))
}

/// Quantile of Student's t for `0.5 <= p < 1`, by bisection of the distribution function.
pub(super) fn t_quantile(p: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0f64, 1e6f64);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if 1.0 - 0.5 * incomplete_beta(freedom / (freedom + middle * middle), freedom / 2.0, 0.5) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function `I_x(a, b)`, by its continued fraction.
///
/// Abramowitz & Stegun 1964, 26.5.8, evaluated by Lentz's method.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on this side of the mean only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    let tiny = 1e-300;
    let keep = |v: f64| if v.abs() < tiny { tiny } else { v };
    let (mut c, mut d) = (1.0, 1.0 / keep(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        for term in [even, odd] {
            d = 1.0 / keep(1.0 + term * d);
            c = keep(1.0 + term / c);
            fraction *= d * c;
        }
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front * fraction
}

/// `ln Γ(x)` for `x > 0`: Stirling's series after moving the argument above 10 (Abramowitz & Stegun 6.1.41).
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift -= x.ln();
        x += 1.0;
    }
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5)) - 1.0 / (1680.0 * x.powi(7));
    shift + (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn welch_equals_scipy() {
        // scipy.stats.ttest_ind([.41, .47, .44], [.36, .40, .35, .39], equal_var=False, alternative="greater").pvalue
        let p = welch_below(&[0.41, 0.47, 0.44], &[0.36, 0.40, 0.35, 0.39]).unwrap();
        assert!((p - 0.01971701294395646).abs() < 1e-9, "{p}");
        assert_eq!(welch_below(&[0.4], &[0.3, 0.2]), None);
        assert_eq!(welch_below(&[0.4, 0.4], &[0.3, 0.3]), Some(0.0));
        assert_eq!(welch_below(&[0.4, 0.4], &[0.4, 0.4]), Some(1.0));
    }
    use approx::assert_relative_eq;

    #[test]
    fn t_quantiles_equal_scipy() {
        // scipy 1.17.1: scipy.stats.t.ppf(0.975, df)
        for (freedom, wanted) in [
            (1.0, 12.706204736174694),
            (2.0, 4.302652729749462),
            (4.0, 2.7764451051977934),
            (9.0, 2.262157162798205),
            (30.0, 2.0422724563012378),
            (1000.0, 1.9623390808264083),
        ] {
            assert_relative_eq!(t_quantile(0.975, freedom), wanted, max_relative = 1e-9);
        }
    }

    #[test]
    fn the_interval_equals_scipy() {
        // scipy.stats.t.interval(.95, 2, mean, sd / sqrt(3)) of these three
        let interval = summarise(&[0.41, 0.47, 0.44]).unwrap().interval.unwrap();
        assert_relative_eq!(interval.low, 0.36547586864749004, max_relative = 1e-9);
        assert_relative_eq!(interval.high, 0.5145241313525099, max_relative = 1e-9);
        assert_eq!(summarise(&[]), None);
    }
}
