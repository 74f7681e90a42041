//! Metrics of one query's ranked list; the figure of a set is the mean over the queries that count.
//!
//! A list is `hits`: for each retrieved item, nearest first, whether it has the query's class. The query's own image is
//! not in it (excluded by index, never by dropping the first item: with duplicates that drops the wrong one), and ties
//! stand as [`super::neighbors`] decides them, against the model. `positives` is R: how many items of the query's class
//! the gallery holds without the query itself. A query with R = 0 has no right answer: every function gives `None`, the
//! query is left out of the mean and counted as `without_positive`.

/// Whether the nearest item has the query's class: 1 or 0.
///
/// Its mean is recall@1, the two names say the same as long as the query itself is excluded.
///
/// ```
/// use mdprop::metric::ranking::precision_at_1;
///
/// assert_eq!(precision_at_1(&[true, false], 3), Some(1.0));
/// assert_eq!(precision_at_1(&[false, true], 3), Some(0.0));
/// assert_eq!(precision_at_1(&[false, false], 0), None); // nothing right could be found
/// ```
///
/// # Source
/// Manning, Raghavan, Schütze 2008, "Introduction to information retrieval", section 8.4.
pub fn precision_at_1(hits: &[bool], positives: usize) -> Option<f64> {
    (positives > 0).then(|| f64::from(u8::from(hits.first() == Some(&true))))
}

/// The share of the first R items that have the query's class, R being how many there are.
///
/// ```
/// use mdprop::metric::ranking::r_precision;
///
/// // R = 3: two of the first three.
/// assert_eq!(r_precision(&[true, false, true, true], 3), Some(2.0 / 3.0));
/// ```
///
/// # Panics
/// If the list is shorter than R: the search was not deep enough.
/// # Source
/// Manning, Raghavan, Schütze 2008, section 8.4; Musgrave, Belongie, Lim 2020, arXiv:2003.08505, section 4.3.
pub fn r_precision(hits: &[bool], positives: usize) -> Option<f64> {
    assert!(hits.len() >= positives, "R-precision needs the first {positives} items, got {}", hits.len());
    let found = hits[..positives].iter().filter(|&&hit| hit).count();
    (positives > 0).then(|| found as f64 / positives as f64)
}

/// MAP@R of one query: `(1/R) Σ_{i ≤ R} P(i) · hit(i)`, P(i) the precision of the first i items.
///
/// 1 only if the first R items are all right; unlike R-precision it also looks at their order.
///
/// ```
/// use mdprop::metric::ranking::map_at_r;
///
/// // R = 3, hits at 1 and 3: (1/1 + 2/3) / 3.
/// assert!((map_at_r(&[true, false, true, true], 3).unwrap() - 5.0 / 9.0).abs() < 1e-15);
/// ```
///
/// # Panics
/// If the list is shorter than R: the search was not deep enough.
/// # Source
/// Musgrave, Belongie, Lim 2020, arXiv:2003.08505, section 4.3.
pub fn map_at_r(hits: &[bool], positives: usize) -> Option<f64> {
    assert!(hits.len() >= positives, "MAP@R needs the first {positives} items, got {}", hits.len());
    (positives > 0).then(|| precision_sum(&hits[..positives]) / positives as f64)
}

/// Average precision within the first `depth` items: `Σ_{i ≤ depth} P(i) · hit(i) / min(R, depth)`.
///
/// With the whole gallery as depth it is plain average precision. A gallery smaller than `depth` is simply used up.
///
/// ```
/// use mdprop::metric::ranking::average_precision;
///
/// // R = 2, hits at 1 and 4: (1/1 + 2/4) / 2.
/// assert_eq!(average_precision(&[true, false, false, true], 2, 1000), Some(0.75));
/// assert_eq!(average_precision(&[true, false, false, true], 2, 1), Some(1.0));
/// ```
///
/// # Source
/// Manning, Raghavan, Schütze 2008, section 8.4, cut at a depth.
pub fn average_precision(hits: &[bool], positives: usize, depth: usize) -> Option<f64> {
    let denominator = positives.min(depth);
    (denominator > 0).then(|| precision_sum(&hits[..depth.min(hits.len())]) / denominator as f64)
}

/// The official code's average precision: the sum within the first `depth` items divided by the class size with the
/// query in it, `R + 1`.
///
/// So its largest value is `R / (R + 1)`: 0.5 for pairs. `depth = R + 1` is the code's `mAP_c`, 1,000 its `mAP_1000`
/// (what its papers call mAP@1000), `min(1023, N)` its `mAP_lim`.
///
/// ```
/// use mdprop::metric::ranking::official_average_precision;
///
/// // Class of 3 images, query included; hits at 1 and 3 within the first three: (1/1 + 2/3) / 3.
/// let ap = official_average_precision(&[true, false, true, false], 2, 3).unwrap();
/// assert!((ap - 5.0 / 9.0).abs() < 1e-15);
/// // A perfect ranking of a pair: 1/2.
/// assert_eq!(official_average_precision(&[true, false], 1, 2), Some(0.5));
/// ```
///
/// # Source
/// Singh, Kakizaki, Araki 2022, arXiv:2211.16253, the official code's metrics `mAP_c`, `mAP_1000`, `mAP_lim`.
pub fn official_average_precision(hits: &[bool], positives: usize, depth: usize) -> Option<f64> {
    (positives > 0).then(|| precision_sum(&hits[..depth.min(hits.len())]) / (positives + 1) as f64)
}

/// `1 / rank` of the first item of the query's class in the whole gallery; `first_hit` is 0 if there is none.
///
/// ```
/// use mdprop::metric::ranking::reciprocal_rank;
///
/// assert_eq!(reciprocal_rank(4), Some(0.25));
/// assert_eq!(reciprocal_rank(0), None);
/// ```
///
/// # Source
/// Voorhees 1999, "The TREC-8 question answering track report".
pub fn reciprocal_rank(first_hit: u32) -> Option<f64> {
    (first_hit > 0).then(|| 1.0 / f64::from(first_hit))
}

/// `Σ P(i) · hit(i)` over the list.
fn precision_sum(hits: &[bool]) -> f64 {
    let (mut found, mut sum) = (0u32, 0.0);
    for (place, _) in hits.iter().enumerate().filter(|(_, hit)| **hit) {
        found += 1;
        sum += f64::from(found) / (place + 1) as f64;
    }
    sum
}

#[cfg(test)]
#[path = "ranking_tests.rs"]
mod tests;
