//! Eigenvalues of a small symmetric matrix, in `f64`.

/// The eigenvalues of a symmetric matrix, descending.
///
/// Householder reflections to tridiagonal form, then the implicit QL iteration: `O(d³)`, a few milliseconds at d = 128.
/// Each eigenvalue is right to about `d · 2⁻⁵³` of the largest one's size. Only the lower triangle is read.
///
/// ```
/// use mdprop::metric::eigenvalue::symmetric_eigenvalues;
///
/// // [[2, 1], [1, 2]] has 3 and 1.
/// let values = symmetric_eigenvalues(vec![2.0, 1.0, 1.0, 2.0], 2);
/// assert!((values[0] - 3.0).abs() < 1e-15 && (values[1] - 1.0).abs() < 1e-15);
/// ```
///
/// # Shapes
/// `matrix`: `[d, d]`, rows one after another.
/// # Panics
/// If the buffer is not `d × d`.
/// # Source
/// Martin, Reinsch, Wilkinson 1968, "Householder's tridiagonalization of a symmetric matrix"; Dubrulle, Martin,
/// Wilkinson 1968, "The implicit QL algorithm".
pub fn symmetric_eigenvalues(mut matrix: Vec<f64>, d: usize) -> Vec<f64> {
    assert_eq!(matrix.len(), d * d, "a {d} × {d} matrix");
    let (mut diagonal, mut off) = tridiagonal(&mut matrix, d);
    implicit_ql(&mut diagonal, &mut off);
    diagonal.sort_unstable_by(|a, b| b.total_cmp(a));
    diagonal
}

/// The diagonal and the off-diagonal (`off[i]` couples i and i + 1; the last is 0) of a similar tridiagonal matrix.
fn tridiagonal(a: &mut [f64], d: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut diagonal, mut off) = (vec![0.0; d], vec![0.0; d]);
    let mut p = vec![0.0; d];
    for k in 0..d {
        diagonal[k] = a[k * d + k];
        if k + 1 == d {
            break;
        }
        // Reflect column k below the diagonal onto its first entry.
        let below = k + 1..d;
        let scale = below.clone().map(|i| a[i * d + k].abs()).fold(0.0, f64::max);
        if scale == 0.0 {
            continue;
        }
        let norm = scale * below.clone().map(|i| (a[i * d + k] / scale).powi(2)).sum::<f64>().sqrt();
        let first = a[(k + 1) * d + k];
        let alpha = if first > 0.0 { -norm } else { norm };
        off[k] = alpha;
        // v = x − α e₁, H = I − β v vᵀ with β = 1 / (α² − α x₁) = 2 / vᵀv.
        let mut v: Vec<f64> = below.clone().map(|i| a[i * d + k]).collect();
        v[0] -= alpha;
        let half_square = alpha * alpha - alpha * first;
        if half_square == 0.0 {
            continue;
        }
        // p = A v · β; then A ← A − v wᵀ − w vᵀ with w = p − (β/2)(pᵀv) v.
        let m = d - k - 1;
        let p = &mut p[..m];
        p.fill(0.0);
        for i in 0..m {
            let row = &a[(k + 1 + i) * d + k + 1..][..i + 1];
            let mut sum = row[i] * v[i];
            for j in 0..i {
                sum += row[j] * v[j];
                p[j] += row[j] * v[i];
            }
            p[i] += sum;
        }
        let mut dot = 0.0;
        for i in 0..m {
            p[i] /= half_square;
            dot += p[i] * v[i];
        }
        let shift = dot / (2.0 * half_square);
        for i in 0..m {
            p[i] -= shift * v[i];
        }
        for i in 0..m {
            let row = &mut a[(k + 1 + i) * d + k + 1..][..i + 1];
            for j in 0..=i {
                row[j] -= v[i] * p[j] + p[i] * v[j];
            }
        }
    }
    (diagonal, off)
}

/// Turns the diagonal into the eigenvalues.
fn implicit_ql(diagonal: &mut [f64], off: &mut [f64]) {
    let d = diagonal.len();
    // The size below which an off-diagonal entry is rounding of the whole matrix.
    let size = (0..d).map(|i| diagonal[i].abs() + off[i].abs()).fold(0.0, f64::max);
    for l in 0..d {
        // 30 sweeps are the customary limit; it takes two or three. What is left then is at rounding size anyway.
        for _ in 0..60 {
            let end = (l..d - 1).find(|&m| {
                off[m].abs() <= f64::EPSILON * (diagonal[m].abs() + diagonal[m + 1].abs()).max(size * f64::EPSILON)
            });
            let m = end.unwrap_or(d - 1);
            if m == l {
                break;
            }
            let g = (diagonal[l + 1] - diagonal[l]) / (2.0 * off[l]);
            let r = g.hypot(1.0);
            let mut g = diagonal[m] - diagonal[l] + off[l] / (g + r.copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut split = false;
            for i in (l..m).rev() {
                let (f, b) = (s * off[i], c * off[i]);
                let r = f.hypot(g);
                off[i + 1] = r;
                if r == 0.0 {
                    diagonal[i + 1] -= p;
                    off[m] = 0.0;
                    split = true;
                    break;
                }
                s = f / r;
                c = g / r;
                g = diagonal[i + 1] - p;
                let t = (diagonal[i] - g) * s + 2.0 * c * b;
                p = s * t;
                diagonal[i + 1] = g + p;
                g = c * t - b;
            }
            if !split {
                diagonal[l] -= p;
                off[l] = g;
                off[m] = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    fn random(d: usize, seed: u64) -> Vec<f64> {
        let mut stream = rng::stream(seed, "matrix", &[]);
        let mut a = vec![0.0; d * d];
        for i in 0..d {
            for j in 0..=i {
                a[i * d + j] = f64::from(rng::normal(&mut stream));
                a[j * d + i] = a[i * d + j];
            }
        }
        a
    }

    /// Classical Jacobi rotations: slow, simple and of another kind.
    fn jacobi(mut a: Vec<f64>, d: usize) -> Vec<f64> {
        for _ in 0..60 {
            for p in 0..d {
                for q in p + 1..d {
                    if a[p * d + q] == 0.0 {
                        continue;
                    }
                    let theta = (a[q * d + q] - a[p * d + p]) / (2.0 * a[p * d + q]);
                    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                    let t = if theta == 0.0 { 1.0 } else { t };
                    let c = 1.0 / t.hypot(1.0);
                    let s = t * c;
                    for i in 0..d {
                        let (x, y) = (a[i * d + p], a[i * d + q]);
                        (a[i * d + p], a[i * d + q]) = (c * x - s * y, s * x + c * y);
                    }
                    for i in 0..d {
                        let (x, y) = (a[p * d + i], a[q * d + i]);
                        (a[p * d + i], a[q * d + i]) = (c * x - s * y, s * x + c * y);
                    }
                }
            }
        }
        let mut values: Vec<f64> = (0..d).map(|i| a[i * d + i]).collect();
        values.sort_unstable_by(|a, b| b.total_cmp(a));
        values
    }

    #[test]
    fn equals_jacobi_and_keeps_trace_and_norm() {
        for (d, seed) in [(1, 1), (2, 2), (3, 3), (7, 4), (24, 5), (40, 6)] {
            let a = random(d, seed);
            let values = symmetric_eigenvalues(a.clone(), d);
            for (x, y) in values.iter().zip(jacobi(a.clone(), d)) {
                approx::assert_abs_diff_eq!(*x, y, epsilon = 1e-12 * d as f64);
            }
            let trace: f64 = (0..d).map(|i| a[i * d + i]).sum();
            let square: f64 = a.iter().map(|v| v * v).sum();
            approx::assert_abs_diff_eq!(values.iter().sum::<f64>(), trace, epsilon = 1e-11);
            approx::assert_relative_eq!(values.iter().map(|v| v * v).sum::<f64>(), square, max_relative = 1e-12);
        }
    }

    #[test]
    fn special_matrices() {
        assert_eq!(symmetric_eigenvalues(vec![], 0), Vec::<f64>::new());
        assert_eq!(symmetric_eigenvalues(vec![0.0; 9], 3), [0.0; 3]);
        let diagonal = symmetric_eigenvalues(vec![1.0, 0.0, 0.0, 0.0, -5.0, 0.0, 0.0, 0.0, 3.0], 3);
        assert_eq!(diagonal, [3.0, 1.0, -5.0]);
        // The second difference: 2 − 2 cos(π k / (d + 1)).
        let d = 30;
        let mut a = vec![0.0; d * d];
        for i in 0..d {
            a[i * d + i] = 2.0;
            if i > 0 {
                (a[i * d + i - 1], a[(i - 1) * d + i]) = (-1.0, -1.0);
            }
        }
        for (k, value) in symmetric_eigenvalues(a, d).iter().rev().enumerate() {
            let wanted = 2.0 - 2.0 * (std::f64::consts::PI * (k + 1) as f64 / (d + 1) as f64).cos();
            approx::assert_abs_diff_eq!(*value, wanted, epsilon = 1e-13);
        }
        // Rank one.
        let v: Vec<f64> = (1..=6).map(f64::from).collect();
        let outer: Vec<f64> = v.iter().flat_map(|a| v.iter().map(move |b| a * b)).collect();
        let values = symmetric_eigenvalues(outer, 6);
        approx::assert_relative_eq!(values[0], 91.0, max_relative = 1e-14);
        assert!(values[1..].iter().all(|v| v.abs() < 1e-13));
    }
}
