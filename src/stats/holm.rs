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
    let mut order: Vec<usize> = (0..p_values.len()).filter(|&i| !p_values[i].is_nan()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = p_values.to_vec();
    let mut largest = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max(p_values[i] * (order.len() - rank) as f64).min(1.0);
        adjusted[i] = largest;
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
    fn no_test_is_no_comparison() {
        let found = adjusted(&[f64::NAN, 0.03]);
        assert!(found[0].is_nan());
        assert_eq!(found[1], 0.03);
        assert!(adjusted(&[]).is_empty());
    }
}
