//! The distance that decides, and rows for which it is the cosine's.

use crate::batch::Embeddings;

/// The canonical distance (see the head of [`crate::metric::neighbors`]): eight `f64` sums in a fixed order, rounded to
/// `f32`.
///
/// ```
/// use mdprop::metric::neighbors::canonical_distance;
///
/// assert_eq!(canonical_distance(&[0.0, 3.0], &[4.0, 0.0]), 25.0);
/// ```
pub fn canonical_distance(a: &[f32], b: &[f32]) -> f32 {
    let b = &b[..a.len().min(b.len())];
    let a = &a[..b.len()];
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return wide_512(a, [b])[0];
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return wide_256(a, [b])[0];
        }
    }
    sum_squares(a, [b])[0]
}

/// [`canonical_distance`] from `a` to each of four rows: the same numbers, sooner, because the sums of one row need not
/// wait for each other and `a` is read once.
pub(super) fn canonical_distances(a: &[f32], rows: [&[f32]; 4]) -> [f32; 4] {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return wide_512(a, rows);
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return wide_256(a, rows);
        }
    }
    sum_squares(a, rows)
}

/// [`sum_squares`] with eight sums in one register. Wider registers change no rounding: nothing is fused.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the instructions were found to exist")]
#[inline]
fn wide_512<const N: usize>(a: &[f32], rows: [&[f32]; N]) -> [f32; N] {
    #[target_feature(enable = "avx512f")]
    fn wide<const N: usize>(a: &[f32], rows: [&[f32]; N]) -> [f32; N] {
        sum_squares(a, rows)
    }
    // SAFETY: the caller has looked.
    unsafe { wide(a, rows) }
}

/// [`sum_squares`] with eight sums in two registers.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the instructions were found to exist")]
#[inline]
fn wide_256<const N: usize>(a: &[f32], rows: [&[f32]; N]) -> [f32; N] {
    #[target_feature(enable = "avx2")]
    fn wide<const N: usize>(a: &[f32], rows: [&[f32]; N]) -> [f32; N] {
        sum_squares(a, rows)
    }
    // SAFETY: the caller has looked.
    unsafe { wide(a, rows) }
}

#[inline(always)]
fn sum_squares<const N: usize>(a: &[f32], rows: [&[f32]; N]) -> [f32; N] {
    let mut lanes = [[0.0f64; 8]; N];
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let parts = rows.map(|row| row[..a.len()].as_chunks::<8>());
    for (at, x) in a_chunks.iter().enumerate() {
        for (lanes, (chunks, _)) in lanes.iter_mut().zip(parts) {
            let y = &chunks[at];
            for lane in 0..8 {
                let difference = f64::from(x[lane]) - f64::from(y[lane]);
                lanes[lane] += difference * difference;
            }
        }
    }
    for (lanes, (_, rest)) in lanes.iter_mut().zip(parts) {
        for (lane, (x, y)) in lanes.iter_mut().zip(a_rest.iter().zip(rest)) {
            let difference = f64::from(*x) - f64::from(*y);
            *lane += difference * difference;
        }
    }
    lanes.map(|lanes| {
        let half = [lanes[0] + lanes[4], lanes[1] + lanes[5], lanes[2] + lanes[6], lanes[3] + lanes[7]];
        ((half[0] + half[2]) + (half[1] + half[3])) as f32
    })
}

/// Rows for which the squared Euclidean distance is `2 − 2 cos`.
pub(super) struct Directions {
    /// Rows of length 1 and one more entry: 0, or 1 for a zero row, whose other entries stay 0. So a zero row lies at
    /// distance 2, cosine 0, from every direction.
    pub(super) rows: Embeddings,
    /// Whether a row is zero.
    pub(super) zero: Vec<bool>,
}

impl Directions {
    /// Each row divided by its length, in `f64`, then rounded.
    pub(super) fn new(embeddings: &Embeddings) -> Self {
        let (n, dim) = (embeddings.len(), embeddings.dim());
        let mut data = Vec::with_capacity(n * (dim + 1));
        let mut zero = Vec::with_capacity(n);
        for i in 0..n {
            let row = embeddings.row(i);
            let length = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
            zero.push(length == 0.0);
            let unit = |value: &f32| if length == 0.0 { 0.0 } else { (f64::from(*value) / length) as f32 };
            data.extend(row.iter().map(unit));
            data.push(if length == 0.0 { 1.0 } else { 0.0 });
        }
        Self { rows: Embeddings::new([n, dim + 1], data).expect("one more entry in each row"), zero }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    #[test]
    fn four_at_once_are_the_same_four() {
        let mut stream = rng::stream(8, "rows", &[]);
        for dim in [0, 1, 7, 8, 23, 128, 515] {
            let rows: Vec<Vec<f32>> =
                (0..5).map(|_| (0..dim).map(|_| 3.0 * rng::normal(&mut stream)).collect()).collect();
            let four = canonical_distances(&rows[0], [&rows[1], &rows[2], &rows[3], &rows[4]]);
            let single = [1, 2, 3, 4].map(|i| canonical_distance(&rows[0], &rows[i]));
            assert_eq!(four.map(f32::to_bits), single.map(f32::to_bits), "{dim} entries");
            let naive: f64 = rows[0].iter().zip(&rows[1]).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
            approx::assert_relative_eq!(f64::from(four[0]), naive, max_relative = 1e-6);
        }
    }
}
