//! Many tests at once: Holm's correction.

/// p-values adjusted so that "adjusted < α" keeps the chance of any false claim below α, whatever the dependence.
///
/// The m-th smallest of n is multiplied by n − m + 1, never falls below the one before it, and stops at 1. The order of
/// the list stays. NaN (no test was possible) stays NaN and is not counted.
///
/// ```
/// use mdprop::stats::holm::adjusted;
///
/// assert_eq!(adjusted(&[0.01, 0.04, 0.03]), [0.03, 0.06, 0.06]);
/// ```
///
/// # Source
/// Holm 1979, "A simple sequentially rejective multiple test procedure".
pub fn adjusted(p_values: &[f64]) -> Vec<f64> {
    weighted(p_values, &vec![1.0; p_values.len()])
}

/// [`adjusted`] when some questions matter more: the ordering is by `p / weight`, and the chance of a false claim is
/// shared out in proportion to the weights. Equal weights are the plain correction.
///
/// ```
/// use mdprop::stats::holm::weighted;
///
/// // The first has half of everything: 0.02 · 3 / (3/2).
/// let found = weighted(&[0.02, 0.9, 0.9, 0.9], &[3.0, 1.0, 1.0, 1.0]);
/// assert!((found[0] - 0.04).abs() < 1e-15);
/// ```
///
/// # Panics
/// If the lists differ in length.
/// # Source
/// Holm 1979, the same paper, section 3 (test statistics of unequal importance).
pub fn weighted(p_values: &[f64], weights: &[f64]) -> Vec<f64> {
    assert_eq!(p_values.len(), weights.len(), "one weight for each p-value");
    let mut order: Vec<usize> = (0..p_values.len()).filter(|&i| !p_values[i].is_nan()).collect();
    let ratio = |i: usize| p_values[i] / weights[i];
    order.sort_by(|&a, &b| ratio(a).total_cmp(&ratio(b)));
    let mut left: f64 = order.iter().map(|&i| weights[i]).sum();
    let mut adjusted = p_values.to_vec();
    let mut largest = 0.0f64;
    for &i in &order {
        largest = largest.max(ratio(i) * left).min(1.0);
        adjusted[i] = largest;
        left -= weights[i];
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_statsmodels() {
        // statsmodels 0.14.6: multipletests([...], method="holm")[1]
        let p = [0.001, 0.2, 0.013, 0.04, 0.04, 0.9, 0.0125];
        let wanted = [0.007, 0.4, 0.075, 0.16, 0.16, 0.9, 0.075];
        for (got, wanted) in adjusted(&p).iter().zip(wanted) {
            assert!((got - wanted).abs() < 1e-12, "{got} {wanted}");
        }
    }

    #[test]
    fn weights_share_out_what_there_is() {
        // By hand: ratios 0.005, 0.03, 0.04; 0.005·4 = 0.02, then 0.03·2, then 0.04·1 held up by the one before.
        let found = weighted(&[0.01, 0.03, 0.04], &[2.0, 1.0, 1.0]);
        for (got, wanted) in found.iter().zip([0.02, 0.06, 0.06]) {
            assert!((got - wanted).abs() < 1e-12, "{found:?}");
        }
    }

    #[test]
    fn no_test_is_no_comparison() {
        let found = adjusted(&[f64::NAN, 0.03]);
        assert!(found[0].is_nan());
        assert_eq!(found[1], 0.03);
        assert!(adjusted(&[]).is_empty());
    }
}
