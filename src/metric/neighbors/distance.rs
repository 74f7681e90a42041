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
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return wide_512(a, b);
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return wide_256(a, b);
        }
    }
    sum_squares(a, b)
}

/// [`sum_squares`] with eight sums in one register. Wider registers change no rounding: nothing is fused.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the instructions were found to exist")]
#[inline]
fn wide_512(a: &[f32], b: &[f32]) -> f32 {
    #[target_feature(enable = "avx512f")]
    fn wide(a: &[f32], b: &[f32]) -> f32 {
        sum_squares(a, b)
    }
    // SAFETY: the caller has looked.
    unsafe { wide(a, b) }
}

/// [`sum_squares`] with eight sums in two registers.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the instructions were found to exist")]
#[inline]
fn wide_256(a: &[f32], b: &[f32]) -> f32 {
    #[target_feature(enable = "avx2")]
    fn wide(a: &[f32], b: &[f32]) -> f32 {
        sum_squares(a, b)
    }
    // SAFETY: the caller has looked.
    unsafe { wide(a, b) }
}

#[inline(always)]
fn sum_squares(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f64; 8];
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..8 {
            let difference = f64::from(x[lane]) - f64::from(y[lane]);
            lanes[lane] += difference * difference;
        }
    }
    for (lane, (x, y)) in a_rest.iter().zip(b_rest).enumerate() {
        let difference = f64::from(*x) - f64::from(*y);
        lanes[lane] += difference * difference;
    }
    let half = [lanes[0] + lanes[4], lanes[1] + lanes[5], lanes[2] + lanes[6], lanes[3] + lanes[7]];
    ((half[0] + half[2]) + (half[1] + half[3])) as f32
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
