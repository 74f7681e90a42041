//! Wilson's interval of a proportion: analytic, and honest at 0 and 1 where every bootstrap gives a point.

use super::{CONFIDENCE, Interval, normal};

/// The 95 % interval of `share` seen in `n` independent trials. `None` if `n` is not positive or the share not in
/// `[0, 1]`.
///
/// ```
/// use mdprop::stats::wilson::interval;
///
/// // None of 10: up to 27.8 % is not excluded. z² / (n + z²).
/// let found = interval(0.0, 10.0).unwrap();
/// assert_eq!(found.low, 0.0);
/// assert!((found.high - 0.277532799862889).abs() < 1e-12);
/// ```
///
/// # Source
/// Wilson 1927, "Probable inference, the law of succession, and statistical inference".
pub fn interval(share: f64, n: f64) -> Option<Interval> {
    if n <= 0.0 || n.is_nan() || !(0.0..=1.0).contains(&share) {
        return None;
    }
    let z = normal::quantile((1.0 + CONFIDENCE) / 2.0);
    let weight = z * z / n;
    let centre = (share + 0.5 * weight) / (1.0 + weight);
    let half = (share * (1.0 - share) * weight + 0.25 * weight * weight).sqrt() / (1.0 + weight);
    // The ends are exactly 0 and 1 where the share is.
    let low = if share == 0.0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if share == 1.0 { 1.0 } else { (centre + half).min(1.0) };
    Some(Interval { value: share, low, high })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_statsmodels() {
        // statsmodels 0.15.0: proportion_confint(count, n, alpha=.05, method="wilson"), tests/data/stats/intervals.py
        let fixture: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/data/stats/intervals.json")).unwrap();
        let rows = fixture["wilson"].as_array().unwrap();
        assert!(rows.len() >= 6);
        for row in rows {
            let v: Vec<f64> = row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            let found = interval(v[0] / v[1], v[1]).unwrap();
            approx::assert_abs_diff_eq!(found.low, v[2], epsilon = 1e-12);
            approx::assert_abs_diff_eq!(found.high, v[3], epsilon = 1e-12);
        }
    }

    #[test]
    fn what_is_no_proportion_has_no_interval() {
        for (share, n) in [(0.5, 0.0), (0.5, f64::NAN), (-0.1, 5.0), (1.1, 5.0), (f64::NAN, 5.0)] {
            assert_eq!(interval(share, n), None);
        }
    }
}
