//! What an attack did to retrieval: per query, over the attacks of a suite, and over budgets.

/// recall lost to an attack, per query: clean hit minus attacked hit, so 1, 0 or −1. Its mean is the drop in recall.
///
/// ```
/// use mdprop::metric::robustness::drop;
///
/// assert_eq!((drop(1, 7, 1), drop(1, 1, 1), drop(9, 1, 1)), (1.0, 0.0, -1.0));
/// ```
pub fn drop(clean_first_hit: u32, attacked_first_hit: u32, k: u32) -> f64 {
    f64::from(u8::from(hit(clean_first_hit, k))) - f64::from(u8::from(hit(attacked_first_hit, k)))
}

/// Whether a query counts as right at `k`: its first same-class item has rank 1 to `k` (0: it has none).
pub fn hit(first_hit: u32, k: u32) -> bool {
    (1..=k).contains(&first_hit)
}

/// The rank of the target as a share of the gallery: 0 if it is the nearest item, 1 if it is the farthest.
///
/// `rank` counts from 1 among `candidates` items (the gallery without the query's own image). `None` for rank 0 (no
/// target), and if the target is the only candidate. 0.5 is what a random ranking gives; the attacker wants 0.
///
/// ```
/// use mdprop::metric::robustness::percentile_rank;
///
/// assert_eq!(percentile_rank(1, 5), Some(0.0));
/// assert_eq!(percentile_rank(3, 5), Some(0.5));
/// assert_eq!((percentile_rank(0, 5), percentile_rank(1, 1)), (None, None));
/// ```
///
/// # Source
/// The score of the ranking attacks in Zhou et al. 2020, arXiv:2002.11293 (there in percent).
pub fn percentile_rank(rank: u32, candidates: usize) -> Option<f64> {
    (rank > 0 && candidates > 1).then(|| f64::from(rank - 1) / (candidates - 1) as f64)
}

/// Which queries stay right whatever is done to them: right under every one of several attacks.
///
/// Each attack's list is in the same order of queries. With no attack every query stays right, so an empty list of
/// attacks gives `None`, and so do lists of different lengths.
///
/// ```
/// use mdprop::metric::robustness::worst_case;
///
/// // Each attack alone leaves two of three right, together they leave one.
/// assert_eq!(worst_case(&[&[true, true, false], &[false, true, true]]), Some(vec![false, true, false]));
/// assert_eq!(worst_case(&[]), None);
/// ```
///
/// # Source
/// Croce & Hein 2020, arXiv:2003.01690 (AutoAttack): the worst case over an ensemble, per sample.
pub fn worst_case(attacks: &[&[bool]]) -> Option<Vec<bool>> {
    let queries = attacks.first()?.len();
    if attacks.iter().any(|a| a.len() != queries) {
        return None;
    }
    Some((0..queries).map(|q| attacks.iter().all(|a| a[q])).collect())
}

/// The weights that turn values at budgets into the area under their curve: `Σ w · value`.
///
/// Trapezoids between neighbouring budgets, divided by the largest budget, so that the weights sum to 1 and the area
/// has the values' unit: a model that no attack hurts has its clean recall as area. `budgets` ascend strictly and begin
/// with 0 (the clean images); otherwise, or with fewer than two, there is no area: `None`.
///
/// ```
/// use mdprop::metric::robustness::area_weights;
///
/// // Budgets 0, 2, 8: trapezoids of width 2 and 6 over 8.
/// assert_eq!(area_weights(&[0.0, 2.0, 8.0]), Some(vec![0.125, 0.5, 0.375]));
/// assert_eq!(area_weights(&[2.0, 8.0]), None);
/// ```
pub fn area_weights(budgets: &[f64]) -> Option<Vec<f64>> {
    let largest = *budgets.last()?;
    let ascends = budgets.windows(2).all(|pair| pair[0] < pair[1]);
    if budgets.len() < 2 || budgets[0] != 0.0 || !ascends || !largest.is_finite() {
        return None;
    }
    let mut weights = vec![0.0; budgets.len()];
    for (i, pair) in budgets.windows(2).enumerate() {
        let half = 0.5 * (pair[1] - pair[0]) / largest;
        weights[i] += half;
        weights[i + 1] += half;
    }
    Some(weights)
}

/// The area under a curve of values at budgets, see [`area_weights`].
///
/// ```
/// use mdprop::metric::robustness::area;
///
/// // Recall 0.8 clean, 0.4 at 4/255, 0 at 8/255: trapezoids 0.6 and 0.2 of equal width.
/// assert!((area(&[(0.0, 0.8), (4.0, 0.4), (8.0, 0.0)]).unwrap() - 0.4).abs() < 1e-12);
/// ```
pub fn area(curve: &[(f64, f64)]) -> Option<f64> {
    let budgets: Vec<f64> = curve.iter().map(|point| point.0).collect();
    let weights = area_weights(&budgets)?;
    Some(weights.iter().zip(curve).map(|(weight, point)| weight * point.1).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_worst_case_is_no_better_than_any_attack(flags in prop::collection::vec(any::<bool>(), 60)) {
            let attacks: Vec<&[bool]> = flags.chunks(20).collect();
            let worst = worst_case(&attacks).unwrap();
            for attack in attacks {
                prop_assert!(worst.iter().zip(attack).all(|(w, a)| !w || *a));
            }
        }

        #[test]
        fn a_flat_curve_has_its_height_as_area(height in 0.0f64..1.0, steps in prop::collection::vec(0.01f64..3.0, 1..6)) {
            let mut budget = 0.0;
            let mut curve = vec![(0.0, height)];
            for step in steps {
                budget += step;
                curve.push((budget, height));
            }
            prop_assert!((area(&curve).unwrap() - height).abs() < 1e-12);
        }
    }

    #[test]
    fn the_area_equals_numpy() {
        // numpy 2: numpy.trapezoid([.7, .5, .45, .1], [0, 1, 4, 16]) / 16
        let curve = [(0.0, 0.7), (1.0, 0.5), (4.0, 0.45), (16.0, 0.1)];
        approx::assert_abs_diff_eq!(area(&curve).unwrap(), 0.3328125, epsilon = 1e-12);
    }

    #[test]
    fn what_is_no_curve_has_no_area() {
        for budgets in [&[][..], &[0.0], &[0.0, 1.0, 1.0], &[0.0, 2.0, 1.0], &[0.0, f64::INFINITY], &[0.0, f64::NAN]] {
            assert_eq!(area_weights(budgets), None, "{budgets:?}");
        }
        assert_eq!(worst_case(&[&[true], &[true, false]]), None);
    }
}
