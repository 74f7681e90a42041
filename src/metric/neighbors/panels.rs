//! Rows laid out for the kernels, and how far their arithmetic can be wrong.
//!
//! The kernels compute the *score* `⟨a, b⟩ − ‖a‖²/2 − ‖b‖²/2` of two rows, which is minus half their squared distance,
//! in `f32`. The distance itself stays what it was when a common centre is subtracted from all rows, but the norms, and
//! with them the rounding errors, shrink: embeddings crowded in a corner are screened as sharply as others.

use rayon::prelude::*;

/// Rows in a panel.
pub(super) const WIDTH: usize = 48;

/// Products that a kernel sums up in one go before it adds them to the rest: 32 + dim/32 roundings lie in the way of a
/// product then, instead of dim, and fewer items are too close to call.
pub(super) const RUN: usize = 32;

/// One entry of each row of a panel.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [f32; WIDTH]);

/// Centred rows in panels of [`WIDTH`]; within a panel entry after entry, each of all rows together.
///
/// The last panel is filled up with rows whose score with any row is −∞.
pub(super) struct Panels {
    lines: Vec<Line>,
    half_norms: Vec<f32>,
    rows: usize,
    dim: usize,
    /// Largest squared norm of a centred row.
    largest: f64,
}

impl Panels {
    /// `row(i)` for `i < rows`, each of `centre.len()` entries.
    pub(super) fn new<'a>(rows: usize, row: impl Fn(usize) -> &'a [f32] + Sync, centre: &[f64]) -> Self {
        let dim = centre.len();
        let count = rows.div_ceil(WIDTH);
        let mut lines = vec![Line([0.0; WIDTH]); count * dim];
        let mut half_norms = vec![f32::INFINITY; count * WIDTH];
        let fill = |panel: usize, lines: &mut [Line], half_norms: &mut [f32]| {
            let mut largest = 0.0f64;
            for (place, i) in (panel * WIDTH..rows.min((panel + 1) * WIDTH)).enumerate() {
                let mut norm = 0.0f64;
                for ((line, value), centre) in lines.iter_mut().zip(row(i)).zip(centre) {
                    let centred = (f64::from(*value) - centre) as f32;
                    norm += f64::from(centred) * f64::from(centred);
                    line.0[place] = centred;
                }
                half_norms[place] = (norm / 2.0) as f32;
                largest = largest.max(norm);
            }
            largest
        };
        let largest = if dim == 0 {
            half_norms[..rows].fill(0.0);
            0.0
        } else {
            let panels = lines.par_chunks_mut(dim).zip(half_norms.par_chunks_mut(WIDTH)).enumerate();
            panels.map(|(panel, (lines, half_norms))| fill(panel, lines, half_norms)).reduce(|| 0.0, f64::max)
        };
        Self { lines, half_norms, rows, dim, largest }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of panels.
    pub(super) fn count(&self) -> usize {
        self.half_norms.len() / WIDTH
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// Entries of a range of panels.
    pub(super) fn lines(&self, panels: std::ops::Range<usize>) -> &[Line] {
        &self.lines[panels.start * self.dim..panels.end * self.dim]
    }

    /// Halves of the squared norms of the rows of a range of panels.
    pub(super) fn half_norms(&self, panels: std::ops::Range<usize>) -> &[f32] {
        &self.half_norms[panels.start * WIDTH..panels.end * WIDTH]
    }

    /// How far minus two times a score of row `i` with any row of `others` may be from the canonical distance.
    ///
    /// With u = 2⁻²⁴ and n = ‖a‖² + ‖b‖² of the centred rows, in units of the distance: a product of rows of which no term
    /// is rounded more than k = [`RUN`] + dim / [`RUN`] times, fused or not, errs by at most γ Σ|a||b| ≤ γ n/2 with
    /// γ = k u/(1 − k u) (Higham 2002, section 3.1), which counts twice; centring by 4 u n, the halved norms by u n, the
    /// two subtractions by 1.5 u n and 2 u n, and the canonical distance, at most 2 n, by 2 u n through its rounding to
    /// `f32`. That is (γ + 10.5 u) n; 12 leaves room for products of errors. The last term is for underflow.
    pub(super) fn error(&self, i: usize, others: &Panels) -> f32 {
        let unit = f64::from(f32::EPSILON) / 2.0;
        let roundings = (self.dim.min(RUN) + self.dim.div_ceil(RUN)) as f64;
        let gamma = if roundings * unit < 0.5 { roundings * unit / (1.0 - roundings * unit) } else { f64::INFINITY };
        let norms = 2.0 * f64::from(self.half_norms[i]) * (1.0 + 4.0 * unit) + others.largest;
        let underflow = 8.0 * (self.dim as f64 + 16.0) * f64::from(f32::MIN_POSITIVE);
        let error = 1.01 * (gamma + 12.0 * unit) * norms + underflow;
        // Rounded up: the callers add and subtract it in f64.
        if error.is_nan() { f32::INFINITY } else { (error * (1.0 + 1e-6)) as f32 }
    }
}

/// The least score that an item not farther than `distance` can have, given the error of twice the score.
pub(super) fn least_score(distance: f32, error: f32) -> f32 {
    let score = -(f64::from(distance) + f64::from(error)) / 2.0;
    // Down to the next f32, and finite: the padding's scores are −∞ and must never reach a limit.
    ((score - score.abs() * 1e-6) as f32).clamp(f32::MIN, f32::MAX)
}

/// Scores above this belong only to items nearer than `distance`, given the error of twice the score.
pub(super) fn most_score(distance: f32, error: f32) -> f32 {
    let score = -(f64::from(distance) - f64::from(error)) / 2.0;
    ((score + score.abs() * 1e-6) as f32).clamp(f32::MIN, f32::MAX)
}

/// The mean of the rows: the centre of choice.
pub(super) fn mean<'a>(rows: usize, dim: usize, row: impl Fn(usize) -> &'a [f32]) -> Vec<f64> {
    let mut mean = vec![0.0f64; dim];
    for i in 0..rows {
        mean.iter_mut().zip(row(i)).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    mean.iter_mut().for_each(|sum| *sum /= rows.max(1) as f64);
    mean
}
