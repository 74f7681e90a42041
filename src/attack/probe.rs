//! Whether a model's gradient can be followed at all: a few images, before any number is believed.
//!
//! The checks look at what masks a gradient: answers that are drawn at random, slopes that are not what the gradient says
//! (quantised inputs, straight-through estimates), gradients that are zero (saturation, plateaus), and a search that fails
//! even where nothing holds it back. The list of symptoms is that of Athalye et al. 2018, arXiv:1802.00420, section 3.1,
//! and Carlini et al. 2019, arXiv:1902.06705.

use super::AttackError;
use super::checks;
use super::goal::Objective;
use super::targets::TargetPool;
use crate::batch::{Embeddings, Images};
use crate::dataset::ImageSet;
use crate::encoder::{Encoder, EncoderError};
use crate::metric::neighbors::{Depth, Distance, Search, search};
use crate::progress::Cancel;
use crate::record::Check;
use crate::rng;
use crate::suite::attack::Goal;

/// Images whose answers and gradients are looked at.
const IMAGES: usize = 16;
/// Queries that the unbounded attack is tried on.
const QUERIES: usize = 32;
/// Steps of the unbounded attack, and their length: twice the whole range of a pixel in all.
const STEPS: usize = 32;
const STEP: f32 = 16.0 / 255.0;
/// How far along the gradient's sign the loss is looked at, in both directions, pixel units; each is half of the one
/// before.
const DISTANCES: [f32; 5] = [2e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4];
/// How far from an image its slope is looked at, at most, pixel units. The white ground of a drawing lies exactly where
/// every max pooling has its kink, so that a slope there is that of no gradient; a step beside it there are no ties.
const BESIDE: f32 = 4.0 / 255.0;

/// What is probed, with its clean embeddings by the model itself.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Pixels and labels.
    pub images: &'a ImageSet,
    /// Queries, by index.
    pub queries: &'a [usize],
    /// Their embeddings, `[q, d]`.
    pub query_embeddings: &'a Embeddings,
    /// Gallery, by index.
    pub gallery: &'a [usize],
    /// Its embeddings, `[g, d]`.
    pub gallery_embeddings: &'a Embeddings,
    /// Suite seed: names the draws of targets.
    pub seed: u64,
    /// Looked at between steps.
    pub cancel: &'a Cancel,
}

/// Whether the same images give the same embeddings twice.
///
/// # Errors
/// The encoder's errors.
pub fn stability(encoder: &mut dyn Encoder, subject: &Subject<'_>) -> Result<Check, AttackError> {
    let list = &subject.queries[..subject.queries.len().min(IMAGES)];
    let pixels = subject.images.images(list);
    let (first, second) = (encoder.embed(&pixels)?, encoder.embed(&pixels)?);
    let difference = |i: usize| {
        let (a, b) = (first.row(i), second.row(i));
        let apart = crate::encoder::Distance::Euclidean.between(a, b);
        let length = crate::encoder::Distance::Euclidean.between(a, &vec![0.0; a.len()]);
        if apart == 0.0 { 0.0 } else { apart / length.max(f64::MIN_POSITIVE) }
    };
    Ok(checks::two_runs_equal((0..list.len()).map(difference).fold(0.0, f64::max), list.len()))
}

/// Whether the gradient is finite, not zero, what differences say, and leads anywhere.
///
/// A model without gradient gives no check: the attack that needs one says so itself. Nor does a gallery of one class,
/// where there is nothing to aim at.
///
/// # Errors
/// The encoder's errors, a stop by the user.
pub fn gradient(encoder: &mut dyn Encoder, subject: &Subject<'_>) -> Result<Vec<Check>, AttackError> {
    let pool = TargetPool::new(&subject.images.labels_of(subject.gallery));
    let list: Vec<usize> = (0..subject.queries.len().min(IMAGES)).collect();
    let Some(objective) = subject.objective(&pool, &list) else { return Ok(vec![]) };
    let pixels = subject.pixels(&list);
    let found = match encoder.gradient(&objective.descent(&pixels, &pixels, &pixels)) {
        Err(EncoderError::NoGradient { .. }) => return Ok(vec![]),
        Err(error @ EncoderError::NotFinite { .. }) => {
            return Ok(vec![checks::gradient_finite(Some(&error.to_string()), list.len())]);
        }
        found => found?.pixels,
    };
    let stride = pixels.stride();
    let zero = |gradient: &[f32]| gradient.iter().filter(|g| **g == 0.0).count();
    let flat: Vec<usize> = found.chunks_exact(stride).map(zero).collect();
    let flat_images = flat.iter().filter(|&&n| n == stride).count();
    let flat_pixels = flat.iter().sum::<usize>() as f64 / found.len().max(1) as f64;
    let mut list_of_checks = vec![
        checks::gradient_finite(None, list.len()),
        checks::gradient_not_zero(flat_images, list.len(), flat_pixels),
    ];
    if flat_images < list.len() {
        list_of_checks.push(slopes(encoder, &objective, &subject.beside(&list))?);
    }
    list_of_checks.extend(unbounded(encoder, subject, &pool)?);
    Ok(list_of_checks)
}

impl Subject<'_> {
    fn pixels(&self, places: &[usize]) -> Images {
        let images: Vec<usize> = places.iter().map(|&place| self.queries[place]).collect();
        self.images.images(&images)
    }

    /// These queries with noise of at most [`BESIDE`], inside `[0, 1]`.
    fn beside(&self, places: &[usize]) -> Images {
        let mut pixels = self.pixels(places);
        let stride = pixels.stride();
        for (row, &place) in pixels.as_mut_slice().chunks_exact_mut(stride).zip(places) {
            let mut stream = rng::stream(self.seed, "probe-beside", &[self.queries[place] as u64]);
            for x in row {
                *x = BESIDE + (1.0 - 2.0 * BESIDE) * *x + BESIDE * (2.0 * rng::unit(&mut stream) - 1.0);
            }
        }
        pixels
    }

    /// One target of another class for each of these queries; none if there is no other class.
    fn objective(&self, pool: &TargetPool, places: &[usize]) -> Option<Objective> {
        let mut targets = Vec::new();
        for &place in places {
            let image = self.queries[place];
            let drawn = pool.draw(self.seed, "probe", image, self.images.labels[image], 1).ok()?;
            targets.extend_from_slice(self.gallery_embeddings.row(drawn[0]));
        }
        Some(Objective::new(&Goal::SingleTarget {}, places.len(), targets))
    }
}

/// The slope of the loss along the sign of its gradient, by differences, against the sum of the gradient's magnitudes.
///
/// Of all distances the pair whose two slopes agree best is taken, so that neither curvature nor rounding is mistaken for a
/// wrong gradient: a jump agrees with itself at no distance, or at zero.
fn slopes(encoder: &mut dyn Encoder, objective: &Objective, pixels: &Images) -> Result<Check, AttackError> {
    let gradient = encoder.gradient(&objective.descent(pixels, pixels, pixels))?.pixels;
    let stride = pixels.stride();
    let mut measured: Vec<Vec<f64>> = Vec::new();
    for distance in DISTANCES {
        let mut loss_at = |sign: f32| -> Result<Vec<f64>, EncoderError> {
            let mut moved = pixels.clone();
            for (x, g) in moved.as_mut_slice().iter_mut().zip(&gradient) {
                if *g != 0.0 {
                    *x += sign * distance * g.signum();
                }
            }
            let embeddings = encoder.embed(&moved)?;
            Ok((0..pixels.len()).map(|i| objective.loss(i, embeddings.row(i))).collect())
        };
        let (ahead, behind) = (loss_at(1.0)?, loss_at(-1.0)?);
        measured.push(ahead.iter().zip(behind).map(|(a, b)| (a - b) / (2.0 * f64::from(distance))).collect());
    }
    let mut errors = Vec::new();
    for i in 0..pixels.len() {
        let expected: f64 = gradient[i * stride..][..stride].iter().map(|g| f64::from(g.abs())).sum();
        if expected == 0.0 {
            continue;
        }
        let pair = measured.windows(2).min_by(|a, b| (a[0][i] - a[1][i]).abs().total_cmp(&(b[0][i] - b[1][i]).abs()));
        errors.extend(pair.map(|pair| (pair[1][i] / expected - 1.0).abs()));
    }
    errors.sort_by(f64::total_cmp);
    let median = errors.get(errors.len() / 2).copied().unwrap_or(f64::NAN);
    Ok(checks::gradient_matches_differences(median, errors.len()))
}

/// Pulls queries that are right towards another class, from the clean image, with nothing but `[0, 1]` to hold them; counts
/// those that still find their class first. None if no query is right.
fn unbounded(
    encoder: &mut dyn Encoder,
    subject: &Subject<'_>,
    pool: &TargetPool,
) -> Result<Option<Check>, AttackError> {
    let all: Vec<usize> = (0..subject.queries.len()).collect();
    let ranks = first_hits(subject, &all, subject.query_embeddings)?;
    let right: Vec<usize> = all.into_iter().filter(|&place| ranks[place] == 1).take(QUERIES).collect();
    let Some(objective) = subject.objective(pool, &right).filter(|_| !right.is_empty()) else { return Ok(None) };
    let pixels = subject.pixels(&right);
    let bound = |value: f32| Images::new(pixels.shape(), vec![value; pixels.as_slice().len()]);
    let (Ok(lower), Ok(upper)) = (bound(0.0), bound(1.0)) else { return Ok(None) };
    let mut unbroken = vec![true; right.len()];
    let mut steps = encoder.descend(&objective.descent(&pixels, &lower, &upper))?;
    let size = vec![STEP; right.len() * pixels.shape()[1]];
    for step in 0..=STEPS {
        subject.cancel.check()?;
        let found = if step < STEPS { steps.step(&size)? } else { steps.evaluate()? };
        if step > 0 {
            let ranks = first_hits(subject, &right, &found.embeddings)?;
            unbroken.iter_mut().zip(ranks).for_each(|(unbroken, rank)| *unbroken &= rank == 1);
        }
        if !unbroken.contains(&true) {
            break;
        }
    }
    Ok(Some(checks::huge_budget_breaks(unbroken.iter().filter(|u| **u).count(), right.len())))
}

/// Rank of the first image of its class for each of these queries, embedded so.
fn first_hits(subject: &Subject<'_>, places: &[usize], embeddings: &Embeddings) -> Result<Vec<u32>, AttackError> {
    let images: Vec<usize> = places.iter().map(|&place| subject.queries[place]).collect();
    let own = |image: &usize| subject.gallery.iter().position(|other| other == image);
    let excluded: Vec<Option<usize>> = images.iter().map(own).collect();
    let found = search(Search {
        queries: embeddings,
        query_labels: &subject.images.labels_of(&images),
        gallery: subject.gallery_embeddings,
        gallery_labels: &subject.images.labels_of(subject.gallery),
        excluded: &excluded,
        depth: Depth::Fixed(0),
        distance: Distance::Euclidean,
    })?;
    Ok(found.iter().map(|f| f.first_hit).collect())
}

#[cfg(test)]
mod tests;
