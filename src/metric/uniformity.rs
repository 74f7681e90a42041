//! Uniformity: how evenly the directions fill the sphere.

use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};
use rayon::prelude::*;

use super::directions::norm;
use super::groups::Groups;
use crate::batch::Embeddings;

/// The exponent's factor in Wang & Isola's experiments.
const T: f64 = 2.0;

/// Rows on each side of a tile: 256 × 256 products of `f64` are 512 KiB.
const TILE: usize = 256;

/// `ln mean exp(−2 ‖û − v̂‖²)` over all pairs of different rows: from −8 (all pairs opposite, impossible beyond two rows)
/// to 0 (all directions equal); lower is more even.
///
/// Exact, in tiles: `n² d / 2` products in `f64` and bounded memory. A row of zeros has cosine 0 with every other. `None`
/// below two rows.
///
/// ```
/// use mdprop::batch::Embeddings;
/// use mdprop::metric::uniformity::uniformity;
///
/// // One pair at a right angle: ‖û − v̂‖² = 2.
/// let rows = Embeddings::new([2, 2], vec![5.0, 0.0, 0.0, 1.0])?;
/// assert!((uniformity(&rows).unwrap() + 4.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
/// Wang & Isola 2020, arXiv:2005.10242, section 4.1, t = 2.
pub fn uniformity(embeddings: &Embeddings) -> Option<f64> {
    let alone = vec![0; embeddings.len()];
    by_group(embeddings, &alone, 1).map(|(value, _)| value)
}

/// Uniformity and what it is with each group of classes left out (`None` where fewer than two rows are left).
///
/// # Panics
/// If `labels` has another length than the embeddings.
pub fn uniformity_by_group(
    embeddings: &Embeddings,
    labels: &[u32],
    groups: &Groups,
) -> Option<(f64, Vec<Option<f64>>)> {
    assert_eq!(embeddings.len(), labels.len(), "one label for each embedding");
    let of: Vec<usize> = labels.iter().map(|&label| groups.of(label)).collect();
    by_group(embeddings, &of, groups.count())
}

fn by_group(embeddings: &Embeddings, of: &[usize], groups: usize) -> Option<(f64, Vec<Option<f64>>)> {
    let n = embeddings.len();
    if n < 2 {
        return None;
    }
    // Per row, over all other rows: everything, and what lies in its own group.
    let rows = row_sums(embeddings, of);
    let (mut all, mut own, mut touching) = (0.0, vec![0.0; groups], vec![0.0; groups]);
    let mut sizes = vec![0.0; groups];
    for (&group, (everything, inside)) in of.iter().zip(&rows) {
        all += everything;
        touching[group] += everything;
        own[group] += inside;
        sizes[group] += 1.0;
    }
    let mean = |sum: f64, n: f64| (n > 1.0).then(|| (sum / (n * (n - 1.0))).ln().min(0.0));
    // Ordered pairs with an end in the group: both directions of those that leave it, and those inside once.
    let without = |g: usize| mean(all - (2.0 * touching[g] - own[g]), n as f64 - sizes[g]);
    Some((mean(all, n as f64)?, (0..groups).map(without).collect()))
}

fn row_sums(embeddings: &Embeddings, of: &[usize]) -> Vec<(f64, f64)> {
    let (n, d) = (embeddings.len(), embeddings.dim());
    let mut unit = Vec::with_capacity(n * d);
    for i in 0..n {
        let norm = norm(embeddings.row(i)).max(f64::MIN_POSITIVE);
        unit.extend(embeddings.row(i).iter().map(|v| f64::from(*v) / norm));
    }
    let view = |range: std::ops::Range<usize>| {
        ArrayView2::from_shape((range.len(), d), &unit[range.start * d..range.end * d]).expect("whole rows")
    };
    let starts: Vec<usize> = (0..n).step_by(TILE).collect();
    let parts: Vec<Vec<(f64, f64)>> = starts
        .into_par_iter()
        .map(|start| {
            let rows = start..(start + TILE).min(n);
            let mut sums = vec![(0.0, 0.0); rows.len()];
            let mut products = vec![0.0f64; rows.len() * TILE.min(n)];
            for other in (0..n).step_by(TILE) {
                let columns = other..(other + TILE).min(n);
                let products = &mut products[..rows.len() * columns.len()];
                let mut out = ArrayViewMut2::from_shape((rows.len(), columns.len()), &mut *products)
                    .expect("sized for exactly this tile");
                general_mat_mul(1.0, &view(rows.clone()), &view(columns.clone()).t(), 0.0, &mut out);
                for (i, cosines) in products.chunks_exact(columns.len()).enumerate() {
                    for (j, cosine) in cosines.iter().enumerate().filter(|(j, _)| other + j != start + i) {
                        let part = (-2.0 * T * (1.0 - cosine)).exp();
                        sums[i].0 += part;
                        sums[i].1 += if of[other + j] == of[start + i] { part } else { 0.0 };
                    }
                }
            }
            sums
        })
        .collect();
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    fn naive(rows: &Embeddings, picked: &[usize]) -> f64 {
        let (mut sum, mut pairs) = (0.0, 0.0);
        for &i in picked {
            for &j in picked.iter().filter(|&&j| j != i) {
                let (a, b) = (rows.row(i), rows.row(j));
                let scale = |row: &[f32]| row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
                let (p, q) = (scale(a), scale(b));
                let square: f64 = a.iter().zip(b).map(|(x, y)| (f64::from(*x) / p - f64::from(*y) / q).powi(2)).sum();
                sum += (-2.0 * square).exp();
                pairs += 1.0;
            }
        }
        (sum / pairs).ln()
    }

    #[test]
    fn equals_the_double_loop_with_and_without_a_group() {
        let mut stream = rng::stream(2, "rows", &[]);
        let n = TILE + 40;
        let rows = Embeddings::new([n, 5], (0..n * 5).map(|_| rng::normal(&mut stream) + 0.4).collect()).unwrap();
        let labels: Vec<u32> = (0..n as u32).map(|i| 3 * (i % 4)).collect();
        let all: Vec<usize> = (0..n).collect();
        let (value, left_out) = uniformity_by_group(&rows, &labels, &Groups::of_classes(&labels, 50)).unwrap();
        approx::assert_abs_diff_eq!(value, naive(&rows, &all), epsilon = 1e-11);
        approx::assert_abs_diff_eq!(uniformity(&rows).unwrap(), value, epsilon = 1e-13);
        for (class, got) in left_out.iter().enumerate() {
            let rest: Vec<usize> = all.iter().copied().filter(|i| i % 4 != class).collect();
            approx::assert_abs_diff_eq!(got.unwrap(), naive(&rows, &rest), epsilon = 1e-11);
        }
    }

    #[test]
    fn a_collapse_is_zero_and_a_lone_row_nothing() {
        let collapsed = Embeddings::new([3, 2], vec![1.0, 1.0, 2.0, 2.0, 0.5, 0.5]).unwrap();
        approx::assert_abs_diff_eq!(uniformity(&collapsed).unwrap(), 0.0, epsilon = 1e-12);
        assert_eq!(uniformity(&Embeddings::new([1, 2], vec![1.0, 1.0]).unwrap()), None);
        let zero = Embeddings::new([2, 2], vec![0.0, 0.0, 1.0, 0.0]).unwrap();
        approx::assert_abs_diff_eq!(uniformity(&zero).unwrap(), -4.0, epsilon = 1e-12);
    }
}
