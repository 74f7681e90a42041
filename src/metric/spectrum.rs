//! The singular values of the embeddings: how many dimensions are used, and how evenly.

use rayon::prelude::*;

use crate::batch::Embeddings;
use crate::metric::eigenvalue::symmetric_eigenvalues;
use crate::metric::groups::Groups;

/// Singular values of the embedding matrix as it is: rows neither centred nor normalised.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    values: Vec<f64>,
}

impl Spectrum {
    /// The `min(n, d)` singular values of all rows, by the eigenvalues of the `d × d` Gram matrix in `f64`.
    ///
    /// Values below `√(d · 2⁻⁵⁰)` (3e-7 at d = 128) of the largest are beyond that method and set to 0; embeddings in
    /// `f32` hold nothing there anyway. Does not depend on the number of threads.
    pub fn of(embeddings: &Embeddings) -> Self {
        Self::of_rows(embeddings, &(0..embeddings.len()).collect::<Vec<_>>())
    }

    /// The same of the rows at `rows`.
    pub fn of_rows(embeddings: &Embeddings, rows: &[usize]) -> Self {
        Self::of_gram(gram(embeddings, rows), embeddings.dim(), rows.len())
    }

    /// The spectrum of all rows, and that without each group of classes: the Gram matrix is a sum over groups, so all of
    /// them together take one pass.
    ///
    /// # Panics
    /// If `labels` has another length than the embeddings.
    pub fn by_group(embeddings: &Embeddings, labels: &[u32], groups: &Groups) -> (Self, Vec<Self>) {
        assert_eq!(embeddings.len(), labels.len(), "one label for each embedding");
        let d = embeddings.dim();
        let mut members: Vec<Vec<usize>> = vec![vec![]; groups.count()];
        labels.iter().enumerate().for_each(|(row, label)| members[groups.of(*label)].push(row));
        let parts: Vec<Vec<f64>> = members.iter().map(|rows| gram(embeddings, rows)).collect();
        let mut all = vec![0.0; d * d];
        for part in &parts {
            all.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        let without = |(part, rows): (Vec<f64>, &Vec<usize>)| {
            let rest = all.iter().zip(part).map(|(all, part)| all - part).collect();
            Self::of_gram(rest, d, embeddings.len() - rows.len())
        };
        let left_out = parts.into_par_iter().zip(&members).map(without).collect();
        (Self::of_gram(all, d, embeddings.len()), left_out)
    }

    fn of_gram(gram: Vec<f64>, d: usize, rows: usize) -> Self {
        let squares = symmetric_eigenvalues(gram, d);
        let floor = squares.first().map_or(0.0, |largest| largest * d as f64 * 2f64.powi(-50));
        let value = |square: f64| if square > floor { square.sqrt() } else { 0.0 };
        Self { values: squares.into_iter().take(rows).map(value).collect() }
    }

    /// Descending.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Only the `count` largest: the official code's truncated decomposition on a CPU keeps `d − 1`.
    pub fn leading(mut self, count: usize) -> Self {
        self.values.truncate(count);
        self
    }

    /// The values divided by their sum: the official code's mode 0. Empty if all are 0.
    pub fn distribution(&self) -> Vec<f64> {
        distribution(&self.values).unwrap_or_default()
    }

    /// ρ, the spectral decay: how far the singular values are from being equal; at least 0, lower is flatter.
    ///
    /// `mode` k ≥ 1: the first k − 1 values are dropped, the rest divided by their sum, and compared by
    /// `KL(uniform ‖ values)`. `mode` −1: `KL(values ‖ uniform)` of all. `None` for other modes (0 is the spectrum
    /// itself, see [`Self::distribution`]), if nothing is left, and for k ≥ 1 if a value is 0: the divergence of a
    /// rank-deficient embedding is infinite.
    ///
    /// ```
    /// use mdprop::batch::Embeddings;
    /// use mdprop::metric::spectrum::Spectrum;
    ///
    /// // Singular values 3 and 1: p = (3/4, 1/4).
    /// let spectrum = Spectrum::of(&Embeddings::new([2, 2], vec![3.0, 0.0, 0.0, 1.0])?);
    /// let wanted = 0.5 * (0.5f64 / 0.75).ln() + 0.5 * (0.5f64 / 0.25).ln();
    /// assert!((spectrum.rho(1).unwrap() - wanted).abs() < 1e-12);
    /// let wanted = 0.75 * (0.75f64 / 0.5).ln() + 0.25 * (0.25f64 / 0.5).ln();
    /// assert!((spectrum.rho(-1).unwrap() - wanted).abs() < 1e-12);
    /// assert_eq!((spectrum.rho(2), spectrum.rho(3), spectrum.rho(0)), (Some(0.0), None, None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Source
    /// Roth et al. 2020, arXiv:2002.08473, section 5; the official code's `rho_spectrum@k`.
    pub fn rho(&self, mode: i32) -> Option<f64> {
        if mode == -1 {
            let shares = distribution(&self.values)?;
            let n = shares.len() as f64;
            return Some(shares.iter().filter(|p| **p > 0.0).map(|p| p * (p * n).ln()).sum::<f64>().max(0.0));
        }
        let dropped = usize::try_from(mode).ok()?.checked_sub(1)?;
        let shares = distribution(self.values.get(dropped..)?)?;
        let n = shares.len() as f64;
        let all_positive = shares.iter().all(|p| *p > 0.0);
        all_positive.then(|| (-shares.iter().map(|p| (p * n).ln()).sum::<f64>() / n).max(0.0))
    }

    /// The effective rank, `exp(H(p))` with p the singular values divided by their sum: from 1 (one direction) to
    /// `min(n, d)` (all alike). `None` if every embedding is zero.
    ///
    /// ```
    /// use mdprop::batch::Embeddings;
    /// use mdprop::metric::spectrum::Spectrum;
    ///
    /// let even = Spectrum::of(&Embeddings::new([2, 2], vec![0.0, 2.0, -2.0, 0.0])?);
    /// assert!((even.effective_rank().unwrap() - 2.0).abs() < 1e-12);
    /// let collapsed = Spectrum::of(&Embeddings::new([3, 2], vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0])?);
    /// assert!((collapsed.effective_rank().unwrap() - 1.0).abs() < 1e-12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Source
    /// Roy & Vetterli 2007, "The effective rank: a measure of effective dimensionality", definition 1.
    pub fn effective_rank(&self) -> Option<f64> {
        let shares = distribution(&self.values)?;
        let entropy: f64 = shares.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        Some(entropy.exp())
    }
}

/// Values over their sum; `None` if there is nothing or nothing above 0.
fn distribution(values: &[f64]) -> Option<Vec<f64>> {
    let sum: f64 = values.iter().sum();
    (sum > 0.0).then(|| values.iter().map(|v| v / sum).collect())
}

/// Rows of the Gram matrix that one task computes.
const STRIPE: usize = 8;

/// `Σ x xᵀ` over the rows, lower triangle, in a fixed order of additions whatever the threads.
fn gram(embeddings: &Embeddings, rows: &[usize]) -> Vec<f64> {
    let d = embeddings.dim();
    let mut gram = vec![0.0f64; d * d];
    gram.par_chunks_mut(STRIPE * d.max(1)).enumerate().for_each(|(stripe, part)| {
        let first = stripe * STRIPE;
        let width = (first + STRIPE).min(d);
        let mut four = vec![0.0f64; 4 * width];
        for chunk in rows.chunks(4) {
            four.fill(0.0);
            for (slot, &row) in four.chunks_exact_mut(width).zip(chunk) {
                slot.iter_mut().zip(embeddings.row(row)).for_each(|(to, from)| *to = f64::from(*from));
            }
            let (a, rest) = four.split_at(width);
            let (b, rest) = rest.split_at(width);
            let (c, e) = rest.split_at(width);
            for (offset, out) in part.chunks_exact_mut(d).enumerate() {
                let i = first + offset;
                let (xa, xb, xc, xe) = (a[i], b[i], c[i], e[i]);
                let columns = out[..=i].iter_mut().zip(a).zip(b).zip(c).zip(e);
                for ((((out, a), b), c), e) in columns {
                    *out += (xa * a + xb * b) + (xc * c + xe * e);
                }
            }
        }
    });
    gram
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    #[test]
    fn the_gram_matrix_equals_the_loop_whatever_the_threads() {
        let mut stream = rng::stream(4, "rows", &[]);
        let rows = Embeddings::new([37, 21], (0..37 * 21).map(|_| rng::normal(&mut stream)).collect()).unwrap();
        let picked: Vec<usize> = (0..37).filter(|i| i % 3 != 1).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| gram(&rows, &picked))
        };
        let ours = run(1);
        assert_eq!(ours, run(3));
        for i in 0..21 {
            for j in 0..=i {
                let wanted: f64 = picked.iter().map(|&r| f64::from(rows.row(r)[i]) * f64::from(rows.row(r)[j])).sum();
                approx::assert_abs_diff_eq!(ours[i * 21 + j], wanted, epsilon = 1e-12);
            }
        }
    }

    #[test]
    fn a_group_left_out_is_a_set_without_it() {
        let mut stream = rng::stream(5, "rows", &[]);
        let rows = Embeddings::new([60, 9], (0..540).map(|_| rng::normal(&mut stream)).collect()).unwrap();
        let labels: Vec<u32> = (0..60).map(|i| 5 * (i % 7)).collect();
        let groups = Groups::of_classes(&labels, 3);
        let (all, left_out) = Spectrum::by_group(&rows, &labels, &groups);
        approx::assert_relative_eq!(all.values(), Spectrum::of(&rows).values(), max_relative = 1e-12);
        for (group, found) in left_out.iter().enumerate() {
            let rest: Vec<usize> = (0..60).filter(|&i| groups.of(labels[i]) != group).collect();
            approx::assert_relative_eq!(found.values(), Spectrum::of_rows(&rows, &rest).values(), max_relative = 1e-12);
        }
    }

    #[test]
    fn a_collapsed_or_empty_embedding_has_no_decay() {
        let line = Spectrum::of(&Embeddings::new([3, 2], vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0]).unwrap());
        assert_eq!((line.rho(1), line.values().len()), (None, 2));
        approx::assert_abs_diff_eq!(line.rho(-1).unwrap(), 2f64.ln(), epsilon = 1e-12);
        for zero in
            [Embeddings::new([3, 2], vec![0.0; 6]), Embeddings::new([0, 2], vec![]), Embeddings::new([2, 0], vec![])]
        {
            let spectrum = Spectrum::of(&zero.unwrap());
            assert_eq!((spectrum.rho(1), spectrum.rho(-1), spectrum.effective_rank()), (None, None, None));
            assert!(spectrum.distribution().is_empty());
        }
        // Fewer rows than entries: as many values as rows.
        let few = Spectrum::of(&Embeddings::new([1, 3], vec![0.0, 3.0, 4.0]).unwrap());
        assert_eq!(few.values().len(), 1);
        approx::assert_abs_diff_eq!(few.values()[0], 5.0, epsilon = 1e-12);
    }

    #[test]
    fn rotating_the_embedding_changes_nothing() {
        let mut stream = rng::stream(9, "rows", &[]);
        let data: Vec<f32> = (0..50 * 2).map(|_| rng::normal(&mut stream)).collect();
        let (sin, cos) = 0.7f32.sin_cos();
        let turned = data.chunks(2).flat_map(|v| [cos * v[0] - sin * v[1], sin * v[0] + cos * v[1]]).collect();
        let a = Spectrum::of(&Embeddings::new([50, 2], data).unwrap());
        let b = Spectrum::of(&Embeddings::new([50, 2], turned).unwrap());
        approx::assert_relative_eq!(a.rho(1).unwrap(), b.rho(1).unwrap(), max_relative = 1e-4);
        approx::assert_relative_eq!(a.effective_rank().unwrap(), b.effective_rank().unwrap(), max_relative = 1e-6);
    }
}
