//! The plane in which embeddings vary most: principal component analysis, two components.

use crate::batch::Embeddings;

/// Rounds after which the iteration ends even if the directions still turn.
const ROUNDS: usize = 500;

/// A turn below this (one minus the cosine) is none.
const TURN: f64 = 1e-13;

/// Two principal directions and the mean that they go through.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    mean: Vec<f64>,
    axes: [Vec<f64>; 2],
    shares: [f64; 2],
}

impl Plane {
    /// The plane of the rows at `rows`, `[n, d]`. `None` for fewer than three rows, fewer than two dimensions, or rows that
    /// are all alike.
    ///
    /// Power iteration on the covariance in `f64`, the first direction taken out before the second is sought; signs are
    /// chosen so that the largest entry of a direction is positive. Depends on nothing but the numbers.
    ///
    /// ```
    /// use mdprop::batch::Embeddings;
    /// use mdprop::metric::projection::Plane;
    ///
    /// // Four points, spread 2 along the first axis and 1 along the second.
    /// let points = vec![2.0, 0.0, -2.0, 0.0, 0.0, 1.0, 0.0, -1.0];
    /// let plane = Plane::of(&Embeddings::new([4, 2], points)?, &[0, 1, 2, 3]).unwrap();
    /// assert!((plane.shares()[0] - 0.8).abs() < 1e-9 && (plane.shares()[1] - 0.2).abs() < 1e-9);
    /// let [x, y] = plane.place(&[2.0, 1.0]);
    /// assert!((x - 2.0).abs() < 1e-6 && (y - 1.0).abs() < 1e-6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Source
    /// Pearson 1901, "On lines and planes of closest fit to systems of points in space".
    pub fn of(embeddings: &Embeddings, rows: &[usize]) -> Option<Self> {
        let d = embeddings.dim();
        if rows.len() < 3 || d < 2 {
            return None;
        }
        let n = rows.len() as f64;
        let mut mean = vec![0.0; d];
        for &row in rows {
            mean.iter_mut().zip(embeddings.row(row)).for_each(|(sum, x)| *sum += f64::from(*x) / n);
        }
        let mut covariance = covariance(embeddings, rows, &mean);
        let total: f64 = (0..d).map(|i| covariance[i * d + i]).sum();
        if total.is_nan() || total <= 1e-30 {
            return None;
        }
        let mut axes = [vec![], vec![]];
        let mut shares = [0.0; 2];
        for (axis, share) in axes.iter_mut().zip(&mut shares) {
            let (value, direction) = leading(&covariance, d);
            for i in 0..d {
                for j in 0..d {
                    covariance[i * d + j] -= value * direction[i] * direction[j];
                }
            }
            (*axis, *share) = (direction, (value / total).clamp(0.0, 1.0));
        }
        Some(Self { mean, axes, shares })
    }

    /// Share of the variance along each direction.
    pub fn shares(&self) -> [f64; 2] {
        self.shares
    }

    /// Where an embedding `[d]` falls.
    ///
    /// # Panics
    /// If it has fewer entries than the plane's embeddings had.
    pub fn place(&self, embedding: &[f32]) -> [f64; 2] {
        let along = |axis: &[f64]| (0..axis.len()).map(|i| axis[i] * (f64::from(embedding[i]) - self.mean[i])).sum();
        [along(&self.axes[0]), along(&self.axes[1])]
    }
}

/// `[d, d]`, divided by the number of rows.
fn covariance(embeddings: &Embeddings, rows: &[usize], mean: &[f64]) -> Vec<f64> {
    let d = mean.len();
    let mut sums = vec![0.0; d * d];
    let mut centred = vec![0.0; d];
    for &row in rows {
        for ((c, x), m) in centred.iter_mut().zip(embeddings.row(row)).zip(mean) {
            *c = f64::from(*x) - m;
        }
        for i in 0..d {
            let factor = centred[i];
            let line = &mut sums[i * d..(i + 1) * d];
            line.iter_mut().zip(&centred).for_each(|(sum, c)| *sum += factor * c);
        }
    }
    let n = rows.len() as f64;
    sums.iter_mut().for_each(|sum| *sum /= n);
    sums
}

/// The largest eigenvalue and its direction.
fn leading(matrix: &[f64], d: usize) -> (f64, Vec<f64>) {
    // No round numbers, so that no direction of a made-up set is orthogonal to the start.
    let mut direction: Vec<f64> = (0..d).map(|i| 1.0 + 0.1 * ((i + 1) as f64 * 0.737).sin()).collect();
    normalise(&mut direction);
    let mut value = 0.0;
    for _ in 0..ROUNDS {
        let mut next: Vec<f64> = (0..d).map(|i| dot(&matrix[i * d..(i + 1) * d], &direction)).collect();
        value = normalise(&mut next);
        if value == 0.0 {
            break;
        }
        let turn = 1.0 - dot(&next, &direction).abs();
        direction = next;
        if turn < TURN {
            break;
        }
    }
    let largest = direction.iter().copied().fold(0.0, |m: f64, x| if x.abs() > m.abs() + 1e-9 { x } else { m });
    if largest < 0.0 {
        direction.iter_mut().for_each(|x| *x = -*x);
    }
    (value, direction)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Divides by the length and gives it.
fn normalise(vector: &mut [f64]) -> f64 {
    let length = dot(vector, vector).sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::eigenvalue::symmetric_eigenvalues;

    #[test]
    fn the_shares_are_the_two_largest_eigenvalues() {
        let (n, d) = (40, 6);
        let data: Vec<f32> = (0..n * d).map(|i| ((i * i * 31 + i * 7) % 101) as f32 / (1 + i % d) as f32).collect();
        let embeddings = Embeddings::new([n, d], data).unwrap();
        let rows: Vec<usize> = (0..n).collect();
        let mut mean = vec![0.0; d];
        rows.iter().for_each(|r| (0..d).for_each(|i| mean[i] += f64::from(embeddings.row(*r)[i]) / n as f64));
        let values = symmetric_eigenvalues(covariance(&embeddings, &rows, &mean), d);
        let plane = Plane::of(&embeddings, &rows).unwrap();
        let total: f64 = values.iter().sum();
        for (share, value) in plane.shares().iter().zip(&values) {
            assert!((share - value / total).abs() < 1e-7, "{share} {}", value / total);
        }
        assert!(dot(&plane.axes[0], &plane.axes[1]).abs() < 1e-6);
        // Variance along an axis is its eigenvalue.
        let along: Vec<f64> = rows.iter().map(|r| plane.place(embeddings.row(*r))[0]).collect();
        let variance = along.iter().map(|x| x * x).sum::<f64>() / n as f64;
        assert!((variance - values[0]).abs() < 1e-6 * values[0]);
    }

    #[test]
    fn points_without_a_plane_have_none() {
        let same = Embeddings::new([4, 3], vec![0.5; 12]).unwrap();
        assert_eq!(Plane::of(&same, &[0, 1, 2, 3]), None);
        assert_eq!(Plane::of(&same, &[0, 1]), None);
        let line = Embeddings::new([3, 1], vec![1.0, 2.0, 3.0]).unwrap();
        assert_eq!(Plane::of(&line, &[0, 1, 2]), None);
    }
}
