//! The losses of [`LossHead`] outside any graph: value and gradient from an embedding, in `f64`.
//!
//! Encoders in closed form and methods without gradients use them; the graphs are tested against them.

use std::sync::Arc;

use rayon::prelude::*;

use crate::batch::{Embeddings, ShapeError};
use crate::onnx::loss_head::{LossDistance, LossHead, NEAR_SQUARED, Reach};

/// What is searched, as a loss sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Gallery {
    embeddings: Embeddings,
    labels: Vec<u32>,
}

impl Gallery {
    /// Joins embeddings `[N, d]` and labels `[N]`.
    ///
    /// # Errors
    /// [`ShapeError::Mismatch`] if their numbers differ.
    pub fn new(embeddings: Embeddings, labels: Vec<u32>) -> Result<Self, ShapeError> {
        if embeddings.len() == labels.len() {
            return Ok(Self { embeddings, labels });
        }
        let (got, wanted) = (vec![labels.len()], vec![embeddings.len()]);
        Err(ShapeError::Mismatch { what: "gallery labels", got, wanted })
    }

    /// The rows.
    pub fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }

    /// The classes.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Rows of [`crate::onnx::loss_head::GALLERY_MARKS`]: label, place, squared norm, `1 / N`; `[4, N]`.
    pub fn marks(&self) -> Vec<f32> {
        let n = self.labels.len();
        let labels = self.labels.iter().map(|&label| label as f32);
        let norm = |i: usize| self.embeddings.row(i).iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() as f32;
        let share = 1.0 / n.max(1) as f32;
        labels.chain((0..n).map(|i| i as f32)).chain((0..n).map(norm)).chain((0..n).map(|_| share)).collect()
    }
}

/// A per-sample loss to be minimised, for `n` samples. [`LossHead`] says what each part means.
#[derive(Debug, Clone, Copy)]
pub struct Loss<'a> {
    /// Its form.
    pub head: LossHead,
    /// Number of targets per sample, T.
    pub targets_per_sample: usize,
    /// Target embeddings, `[n, T, d]`.
    pub targets: &'a [f32],
    /// Weights, `[n, T]`.
    pub weights: &'a [f32],
    /// Further numbers of each sample, `[n, columns]`.
    pub table: &'a [f32],
    /// What is searched, for the heads that look at it.
    pub gallery: Option<&'a Arc<Gallery>>,
}

impl<'a> Loss<'a> {
    /// A loss of weighted distances.
    pub fn weighted(distance: LossDistance, targets_per_sample: usize, targets: &'a [f32], weights: &'a [f32]) -> Self {
        let head = LossHead::Weighted(distance);
        Self { head, targets_per_sample, targets, weights, table: &[], gallery: None }
    }

    /// Numbers of the table for each of `n` samples.
    pub fn table_columns(&self, n: usize) -> usize {
        self.head.table_columns(self.targets_per_sample).unwrap_or(self.table.len() / n.max(1))
    }

    /// Checks that there is a row for each of `n` samples, and a gallery where one is needed.
    ///
    /// # Errors
    /// [`ShapeError::Mismatch`] naming what does not fit.
    pub fn check(&self, n: usize, dim: usize) -> Result<(), ShapeError> {
        let (t, columns) = (self.targets_per_sample, self.table_columns(n));
        let mut wanted = vec![
            ("targets", self.targets.len(), vec![n, t, dim]),
            ("weights", self.weights.len(), vec![n, t]),
            ("table of the loss", self.table.len(), vec![n, columns]),
        ];
        let gallery = self.gallery.map_or([0, 0], |g| [g.embeddings.len(), g.embeddings.dim()]);
        match self.head {
            LossHead::Margin { items, .. } => {
                wanted.push(("gallery entries", gallery[1], vec![dim]));
                let enough = items >= 1 && items <= gallery[0];
                wanted.push((
                    "gallery items for the margin",
                    gallery[0],
                    vec![if enough { gallery[0] } else { items }],
                ));
            }
            LossHead::GalleryHinge => wanted.push(("gallery entries", gallery[1], vec![dim])),
            LossHead::FixedHinge if t > 0 && !columns.is_multiple_of(t) => {
                wanted.push(("table of the loss", columns, vec![t, columns.div_ceil(t)]));
            }
            _ => {}
        }
        match wanted.into_iter().find(|(_, got, wanted)| *got != wanted.iter().product::<usize>()) {
            None => Ok(()),
            Some((what, got, wanted)) => Err(ShapeError::Mismatch { what, got: vec![got], wanted }),
        }
    }

    /// The loss of one sample.
    pub fn value(&self, sample: usize, embedding: &[f32]) -> f64 {
        self.value_at(sample, &widen(embedding))
    }

    /// The losses of all samples, `[n]`.
    pub fn values(&self, embeddings: &Embeddings) -> Vec<f64> {
        (0..embeddings.len()).into_par_iter().map(|i| self.value(i, embeddings.row(i))).collect()
    }

    /// The loss of one sample at an `f64` embedding.
    pub fn value_at(&self, sample: usize, e: &[f64]) -> f64 {
        match self.head {
            LossHead::Weighted(distance) => {
                self.targets(sample, e.len()).map(|(w, r)| w * between(distance, e, r)).sum()
            }
            LossHead::SoftMin => {
                let (tau, logits) = self.logits(sample, e);
                let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                -tau * (largest + logits.iter().map(|z| (z - largest).exp()).sum::<f64>().ln())
            }
            LossHead::Margin { distance, clamped, .. } => {
                let loss: f64 = self.chosen(sample, e).iter().map(|(w, r)| w * between(distance, e, r)).sum();
                if clamped { loss.max(0.0) } else { loss }
            }
            LossHead::GalleryHinge | LossHead::FixedHinge => {
                let hinges = self.targets(sample, e.len()).enumerate();
                hinges.map(|(t, (w, r))| self.hinge(sample, t, w, (e, squared(e, r).sqrt())).0).sum()
            }
        }
    }

    /// Gradient of [`Loss::value_at`] by the embedding, `[d]`.
    pub fn gradient(&self, sample: usize, e: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; e.len()];
        match self.head {
            LossHead::Weighted(distance) => {
                self.targets(sample, e.len()).for_each(|(w, r)| add_gradient(&mut sum, distance, w, e, r));
            }
            LossHead::SoftMin => {
                let (_, logits) = self.logits(sample, e);
                let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let powers: Vec<f64> = logits.iter().map(|z| (z - largest).exp()).collect();
                let total: f64 = powers.iter().sum();
                for (power, (_, r)) in powers.iter().zip(self.targets(sample, e.len())) {
                    add_gradient(&mut sum, LossDistance::SquaredEuclidean, power / total, e, r);
                }
            }
            LossHead::Margin { distance, clamped, .. } => {
                if !clamped || self.value_at(sample, e) > 0.0 {
                    self.chosen(sample, e).iter().for_each(|(w, r)| add_gradient(&mut sum, distance, *w, e, r));
                }
            }
            LossHead::GalleryHinge | LossHead::FixedHinge => {
                for (t, (w, r)) in self.targets(sample, e.len()).enumerate() {
                    let (_, share, below) = self.hinge(sample, t, w, (e, squared(e, r).sqrt()));
                    add_gradient(&mut sum, LossDistance::Euclidean, w * share, e, r);
                    for item in below {
                        let (g, n) = self.item(item);
                        // As in the graph: an item that near has a slope, but hardly a direction.
                        let length = squared(e, g).max(f64::from(NEAR_SQUARED)).sqrt();
                        let slope = w / (n as f64 * length);
                        sum.iter_mut().zip(e).zip(g).for_each(|((s, e), g)| *s -= slope * (e - f64::from(*g)));
                    }
                }
            }
        }
        sum
    }

    /// Weight and embedding of each target of a sample.
    fn targets(&self, sample: usize, d: usize) -> impl Iterator<Item = (f64, &'a [f32])> + use<'a> {
        let (targets, weights) = (self.targets, self.weights);
        let t = self.targets_per_sample;
        (sample * t..(sample + 1) * t).map(move |i| (f64::from(weights[i]), &targets[i * d..(i + 1) * d]))
    }

    fn logits(&self, sample: usize, e: &[f64]) -> (f64, Vec<f64>) {
        let tau = f64::from(self.table[sample]);
        (tau, self.targets(sample, e.len()).map(|(w, r)| w.ln() - squared(e, r) / tau).collect())
    }

    fn item(&self, item: usize) -> (&'a [f32], usize) {
        self.gallery.map_or((&[], 1), |g| (g.embeddings.row(item), g.embeddings.len()))
    }

    /// The gallery items that a margin looks at, with their weights.
    fn chosen(&self, sample: usize, e: &[f64]) -> Vec<(f64, &'a [f32])> {
        let (LossHead::Margin { other, items, .. }, Some(gallery)) = (self.head, self.gallery) else { return vec![] };
        let [label, own] = [self.table[2 * sample], self.table[2 * sample + 1]];
        let mut sides: [Vec<(f64, usize)>; 2] = [vec![], vec![]];
        for (place, item_label) in gallery.labels.iter().enumerate() {
            let same = *item_label as f32 == label;
            if !same || place as f32 != own {
                sides[usize::from(same)].push((squared(e, gallery.embeddings.row(place)), place));
            }
        }
        let mut chosen = Vec::with_capacity(2 * items);
        for (side, (mut found, total)) in sides.into_iter().zip([1.0, -1.0]).enumerate() {
            let sign = if side == 0 && other == Reach::Farthest { -1.0 } else { 1.0 };
            found.sort_by(|a, b| (sign * a.0).total_cmp(&(sign * b.0)).then(a.1.cmp(&b.1)));
            found.truncate(items);
            let weight = total / found.len().max(1) as f64;
            chosen.extend(found.iter().map(|&(_, place)| (weight, gallery.embeddings.row(place))));
        }
        chosen
    }

    /// The hinge of target `t` at distance `at`: its loss, the share of levels that count, and those items.
    fn hinge(&self, sample: usize, t: usize, weight: f64, (e, at): (&[f64], f64)) -> (f64, f64, Vec<usize>) {
        let mut below = vec![];
        let (mut loss, mut count, mut levels) = (0.0, 0usize, 0usize);
        let mut see = |level: f64, item: Option<usize>| {
            let gap = weight * (at - level);
            levels += 1;
            if gap > 0.0 {
                loss += gap;
                count += 1;
                below.extend(item);
            }
        };
        match (self.head, self.gallery) {
            (LossHead::GalleryHinge, Some(gallery)) => {
                let level = |i: usize| squared(e, gallery.embeddings.row(i)).max(f64::from(NEAR_SQUARED)).sqrt();
                (0..gallery.labels.len()).for_each(|i| see(level(i), Some(i)));
            }
            _ => {
                let samples = self.weights.len() / self.targets_per_sample.max(1);
                let rows = self.table_columns(samples) / self.targets_per_sample.max(1);
                let start = (sample * self.targets_per_sample + t) * rows;
                self.table[start..start + rows].iter().for_each(|level| see(f64::from(*level), None));
            }
        }
        let n = levels.max(1) as f64;
        (loss / n, count as f64 / n, below)
    }
}

fn widen(row: &[f32]) -> Vec<f64> {
    row.iter().map(|v| f64::from(*v)).collect()
}

/// `‖e − r‖²`; four sums, so that they can run side by side.
fn squared(e: &[f64], r: &[f32]) -> f64 {
    let mut sums = [0.0f64; 4];
    let (heads, tails) = (e.chunks_exact(4), r.chunks_exact(4));
    for (a, b) in heads.remainder().iter().zip(tails.remainder()) {
        sums[0] += (a - f64::from(*b)).powi(2);
    }
    for (a, b) in heads.zip(tails) {
        for lane in 0..4 {
            let difference = a[lane] - f64::from(b[lane]);
            sums[lane] += difference * difference;
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// `(e·r, ‖e‖, ‖r‖)`.
fn angle(e: &[f64], r: &[f32]) -> (f64, f64, f64) {
    let dot = e.iter().zip(r).map(|(a, b)| a * f64::from(*b)).sum();
    let norm = e.iter().map(|a| a * a).sum::<f64>().sqrt();
    (dot, norm, r.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>().sqrt())
}

fn between(distance: LossDistance, e: &[f64], r: &[f32]) -> f64 {
    match distance {
        LossDistance::SquaredEuclidean => squared(e, r),
        LossDistance::Euclidean => squared(e, r).sqrt(),
        LossDistance::Cosine => {
            let (dot, a, b) = angle(e, r);
            if a > 0.0 && b > 0.0 { 1.0 - dot / (a * b) } else { 1.0 }
        }
    }
}

/// Adds `weight · d distance(e, r) / de`.
fn add_gradient(sum: &mut [f64], distance: LossDistance, weight: f64, e: &[f64], r: &[f32]) {
    if distance == LossDistance::Cosine {
        let (dot, a, b) = angle(e, r);
        if a > 0.0 && b > 0.0 {
            let cosine = dot / (a * b);
            let turned = e.iter().zip(r).map(|(e, r)| (cosine * e / a - f64::from(*r) / b) / a);
            sum.iter_mut().zip(turned).for_each(|(s, v)| *s += weight * v);
        }
        return;
    }
    let slope = match (distance, squared(e, r).sqrt()) {
        (LossDistance::Euclidean, length) if length > 0.0 => weight / length,
        (LossDistance::Euclidean, _) => 0.0,
        _ => 2.0 * weight,
    };
    sum.iter_mut().zip(e).zip(r).for_each(|((s, e), r)| *s += slope * (e - f64::from(*r)));
}

/// A loss that a running descent owns, so that single samples can be exchanged.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    head: LossHead,
    targets_per_sample: usize,
    targets: Vec<f32>,
    weights: Vec<f32>,
    table: Vec<f32>,
    columns: usize,
    gallery: Option<Arc<Gallery>>,
}

impl Terms {
    /// Copies the rows of `n` samples.
    pub(super) fn of(loss: &Loss<'_>, n: usize) -> Self {
        Self {
            head: loss.head,
            targets_per_sample: loss.targets_per_sample,
            targets: loss.targets.to_vec(),
            weights: loss.weights.to_vec(),
            table: loss.table.to_vec(),
            columns: loss.table_columns(n),
            gallery: loss.gallery.cloned(),
        }
    }

    pub(super) fn loss(&self) -> Loss<'_> {
        Loss {
            head: self.head,
            targets_per_sample: self.targets_per_sample,
            targets: &self.targets,
            weights: &self.weights,
            table: &self.table,
            gallery: self.gallery.as_ref(),
        }
    }

    /// Targets, entries of an embedding, and columns of one sample.
    pub(super) fn row(&self, dim: usize) -> [usize; 3] {
        [self.targets_per_sample, dim, self.columns]
    }

    /// Puts another sample in the place of sample `i`; its lengths were checked.
    pub(super) fn exchange(&mut self, i: usize, sample: &super::Sample<'_>) {
        let put = |rows: &mut [f32], row: &[f32]| rows[i * row.len()..][..row.len()].copy_from_slice(row);
        put(&mut self.targets, sample.targets);
        put(&mut self.weights, sample.weights);
        put(&mut self.table, sample.table);
    }
}

#[cfg(test)]
pub(crate) mod tests;
