//! The jackknife: the interval of a figure that belongs to a whole set and is no mean over queries.

use super::seeds::t_quantile;
use super::{CONFIDENCE, Interval};

/// The 95 % interval of `value`, from the values that the set gives with each group left out.
///
/// `value ± t · √((G − 1)/G · Σ (left_outᵢ − mean)²)` with G − 1 degrees of freedom. `None` below two groups, or if a
/// value is not finite.
///
/// ```
/// use mdprop::stats::jackknife::interval;
///
/// // The mean of 1, 2, 6: left out one at a time 4, 3.5, 1.5; the jackknife is then Student's interval.
/// let found = interval(3.0, &[4.0, 3.5, 1.5]).unwrap();
/// let half = 4.302652729749462 * (7.0f64 / 3.0).sqrt();
/// assert!((found.high - 3.0 - half).abs() < 1e-9);
/// ```
///
/// # Source
/// Tukey 1958, "Bias and confidence in not quite large samples"; with groups Kott 2001, "The delete-a-group jackknife".
pub fn interval(value: f64, left_out: &[f64]) -> Option<Interval> {
    let groups = left_out.len() as f64;
    if left_out.len() < 2 || !value.is_finite() || left_out.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let mean = left_out.iter().sum::<f64>() / groups;
    let spread: f64 = left_out.iter().map(|v| (v - mean).powi(2)).sum();
    let half = t_quantile((1.0 + CONFIDENCE) / 2.0, groups - 1.0) * ((groups - 1.0) / groups * spread).sqrt();
    Some(Interval { value, low: value - half, high: value + half })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::seeds::summarise;

    #[test]
    fn of_a_mean_it_is_students_interval() {
        let values = [0.3, 0.9, 0.4, 0.8, 0.75];
        let total: f64 = values.iter().sum();
        let left_out: Vec<f64> = values.iter().map(|v| (total - v) / 4.0).collect();
        let (ours, wanted) = (interval(total / 5.0, &left_out).unwrap(), summarise(&values).unwrap().interval.unwrap());
        approx::assert_abs_diff_eq!(ours.low, wanted.low, epsilon = 1e-12);
        approx::assert_abs_diff_eq!(ours.high, wanted.high, epsilon = 1e-12);
    }

    #[test]
    fn too_little_or_nothing_finite_gives_nothing() {
        assert_eq!(interval(1.0, &[1.0]), None);
        assert_eq!(interval(1.0, &[1.0, f64::INFINITY]), None);
        assert_eq!(interval(f64::NAN, &[1.0, 2.0]), None);
    }
}
