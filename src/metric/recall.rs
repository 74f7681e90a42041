//! recall@k as the field counts it, and a measure of collapse.

use crate::batch::Embeddings;

/// recall@k at one k.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recall {
    /// Neighbours looked at.
    pub k: u32,
    /// Share of the counted queries that have a same-class item among their `k` nearest.
    pub share: f64,
    /// Queries that could have a hit.
    pub counted: usize,
    /// Queries left out because the gallery holds no other item of their class.
    pub without_positive: usize,
}

/// The hit rate of retrieval: the share of queries whose first same-class item has rank at most `k`.
///
/// `first_hits`: rank from 1 of each query's first same-class item, 0 if it has none (such queries are left out and
/// counted). `None` if no query can have a hit.
///
/// ```
/// use mdprop::metric::recall::recall_at_k;
///
/// let recall = recall_at_k(&[1, 3, 0, 2], 2).unwrap();
/// assert_eq!(recall.share, 2.0 / 3.0);
/// assert_eq!((recall.counted, recall.without_positive), (3, 1));
/// assert_eq!(recall_at_k(&[0], 1), None);
/// ```
///
/// # Source
/// Jégou, Douze, Schmid 2011, "Product quantization for nearest neighbor search" (recall@R), as used since Oh Song et
/// al. 2016, arXiv:1511.06452.
pub fn recall_at_k(first_hits: &[u32], k: u32) -> Option<Recall> {
    let counted = first_hits.iter().filter(|&&rank| rank > 0).count();
    let hits = first_hits.iter().filter(|&&rank| (1..=k).contains(&rank)).count();
    (counted > 0).then(|| Recall {
        k,
        share: hits as f64 / counted as f64,
        counted,
        without_positive: first_hits.len() - counted,
    })
}

/// The mean cosine over all pairs of different rows: near 1 the embedding has collapsed to a point.
///
/// Closed form: `(‖Σ û‖² − Σ ‖û‖²) / (n (n − 1))`, in `f64`. A zero row has cosine 0 with every other. `None` below two
/// rows.
///
/// ```
/// use mdprop::batch::Embeddings;
/// use mdprop::metric::recall::mean_pairwise_cosine;
///
/// // East, north, west: the cosines are 0, 0 and −1.
/// let rows = Embeddings::new([3, 2], vec![2.0, 0.0, 0.0, 1.0, -1.0, 0.0])?;
/// assert!((mean_pairwise_cosine(&rows).unwrap() + 1.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn mean_pairwise_cosine(embeddings: &Embeddings) -> Option<f64> {
    let n = embeddings.len();
    if n < 2 {
        return None;
    }
    let mut sum = vec![0.0f64; embeddings.dim()];
    let mut own = 0.0;
    for i in 0..n {
        let row = embeddings.row(i);
        let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if norm > 0.0 {
            own += 1.0;
            for (total, value) in sum.iter_mut().zip(row) {
                *total += f64::from(*value) / norm;
            }
        }
    }
    let all: f64 = sum.iter().map(|v| v * v).sum();
    Some((all - own) / (n as f64 * (n as f64 - 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_grows_with_k_and_reaches_one() {
        let ranks = [4, 1, 9, 2, 2, 0];
        let shares: Vec<f64> = [1, 2, 4, 8, 9].iter().map(|&k| recall_at_k(&ranks, k).unwrap().share).collect();
        assert_eq!(shares, [0.2, 0.6, 0.8, 0.8, 1.0]);
    }

    #[test]
    fn mean_cosine_equals_the_double_loop_and_sees_a_collapse() {
        let mut rng = crate::rng::stream(3, "test", &[]);
        let data: Vec<f32> = (0..40 * 7).map(|_| crate::rng::normal(&mut rng) + 0.3).collect();
        let rows = Embeddings::new([40, 7], data).unwrap();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let mut wanted = 0.0;
        for i in 0..40 {
            for j in (0..40).filter(|&j| j != i) {
                let (a, b) = (rows.row(i), rows.row(j));
                wanted += dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
            }
        }
        approx::assert_abs_diff_eq!(mean_pairwise_cosine(&rows).unwrap(), wanted / (40.0 * 39.0), epsilon = 1e-12);
        let collapsed = Embeddings::new([3, 2], vec![1.0, 0.0, 2.0, 0.0, 5.0, 0.001]).unwrap();
        assert!(mean_pairwise_cosine(&collapsed).unwrap() > 0.999);
    }
}
