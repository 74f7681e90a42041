//! One perturbation for all images: made on one half of them, measured on the other, and the other way round.
//!
//! Signed gradient steps on the mean loss of mini-batches, as in Shafahi et al. 2020, arXiv:1811.11304 (section 3), after
//! the universal perturbations of Moosavi-Dezfooli et al. 2017, arXiv:1610.08401.

use super::AttackError;
use super::budget::Budget;
use super::evaluate::AttackInput;
use super::goal::Objective;
use crate::batch::{Embeddings, Images};
use crate::dataset::ImageSet;
use crate::encoder::Encoder;
use crate::progress::Cancel;
use crate::rng;
use crate::suite::attack::Universal as Spec;

/// What is perturbed.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// Pixels.
    pub images: &'a ImageSet,
    /// Data-set index of each image.
    pub list: &'a [usize],
    /// Clean embeddings of the list by the crafting model.
    pub clean: &'a Embeddings,
    /// Goal and name.
    pub attack: &'a AttackInput<'a>,
    /// How far a pixel may move.
    pub budget: &'a Budget,
}

/// How it is made.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Images of one step.
    pub batch: usize,
    /// Suite seed.
    pub seed: u64,
    /// Looked at between steps.
    pub cancel: &'a Cancel,
}

/// Both perturbations, and which image gets which.
#[derive(Debug, Clone, PartialEq)]
pub struct Universal {
    /// `[c, h, w]` each; the first was made without the images of half 0.
    perturbations: [Vec<f32>; 2],
    /// 0 or 1 for each image of the list.
    half: Vec<usize>,
}

impl Universal {
    /// Makes both. With a single image there is nothing to make its perturbation with: it stays clean.
    ///
    /// # Errors
    /// The encoder's errors, a stop by the user.
    pub fn craft(encoder: &mut dyn Encoder, spec: &Spec, task: &Task<'_>, run: &Run<'_>) -> Result<Self, AttackError> {
        let mut order: Vec<usize> = (0..task.list.len()).collect();
        let mut stream = rng::stream(run.seed, &format!("universal/{}", task.attack.name), &[]);
        rng::shuffle(&mut stream, &mut order);
        let middle = order.len() / 2;
        let mut half = vec![1; order.len()];
        order[..middle].iter().for_each(|&i| half[i] = 0);
        let (first, second) = order.split_at(middle);
        let first = &first[..first.len().min(spec.training)];
        let second = &second[..second.len().min(spec.training)];
        let perturbations =
            [made_with(encoder, spec, task, run, (second, 0))?, made_with(encoder, spec, task, run, (first, 1))?];
        Ok(Self { perturbations, half })
    }

    /// Images `first..` of the list, perturbed.
    ///
    /// # Errors
    /// [`AttackError::Budget`] if the images have other channels than the budget.
    pub fn apply(&self, clean: &Images, budget: &Budget, first: usize) -> Result<Images, AttackError> {
        let (lower, upper) = budget.bounds(clean)?;
        let mut moved = clean.clone();
        for i in 0..clean.len() {
            let (lower, upper) = (lower.image(i), upper.image(i));
            let perturbation = &self.perturbations[self.half[first + i]];
            for (at, x) in moved.image_mut(i).iter_mut().enumerate() {
                *x = (*x + perturbation[at]).clamp(lower[at], upper[at]);
            }
        }
        Ok(moved)
    }
}

/// The perturbation for half `number`, made with these places of the list.
fn made_with(
    encoder: &mut dyn Encoder,
    spec: &Spec,
    task: &Task<'_>,
    run: &Run<'_>,
    (training, number): (&[usize], u64),
) -> Result<Vec<f32>, AttackError> {
    let [c, h, w] = encoder.spec().input;
    let radius = |at: usize| task.budget.radii()[at / (h * w)];
    let mut stream = rng::stream(run.seed, &format!("universal-start/{}", task.attack.name), &[number]);
    // The loss of an untargeted goal is flat at the clean image: half of the radius away it is not.
    let mut delta: Vec<f32> = (0..c * h * w).map(|at| radius(at) * (rng::unit(&mut stream) - 0.5)).collect();
    if training.is_empty() || task.budget.is_zero() {
        return Ok(vec![0.0; c * h * w]);
    }
    let std = encoder.spec().std.clone();
    let lengths = spec.step_size.as_ref().map(|step| step.per_channel(&std));
    let length =
        |at: usize| lengths.as_ref().map_or(4.0 * radius(at) / spec.steps as f32, |lengths| lengths[at / (h * w)]);
    let size = run.batch.min(training.len());
    for step in 0..spec.steps {
        run.cancel.check()?;
        let batch: Vec<usize> = (0..size).map(|i| training[(step * size + i) % training.len()]).collect();
        let images: Vec<usize> = batch.iter().map(|&place| task.list[place]).collect();
        let mut moved = task.images.images(&images);
        for i in 0..moved.len() {
            moved.image_mut(i).iter_mut().zip(&delta).for_each(|(x, d)| *x = (*x + d).clamp(0.0, 1.0));
        }
        let own: Vec<f32> = batch.iter().flat_map(|&place| task.clean.row(place)).copied().collect();
        let objective = Objective::new(task.attack.goal, batch.len(), own);
        let gradient = encoder.gradient(&objective.descent(&moved, &moved, &moved))?.pixels;
        let mut sum = vec![0.0f64; delta.len()];
        for image in gradient.chunks_exact(delta.len()) {
            // Each image has one vote of length 1, so that none with a steep loss decides alone.
            let norm = image.iter().map(|g| f64::from(g.abs())).sum::<f64>().max(f64::MIN_POSITIVE);
            sum.iter_mut().zip(image).for_each(|(sum, g)| *sum += f64::from(*g) / norm);
        }
        for (at, d) in delta.iter_mut().enumerate() {
            let towards = if sum[at] == 0.0 { 0.0 } else { sum[at].signum() as f32 };
            *d = (*d - length(at) * towards).clamp(-radius(at), radius(at));
        }
    }
    Ok(delta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Pixels, Split};
    use crate::digest::Digest;
    use crate::encoder::fake::LinearEncoder;
    use crate::suite::attack::{EpsilonList, Goal, Method, Side};
    use crate::units::{Epsilon, PixelAmount};

    #[test]
    fn a_linear_model_gets_the_best_perturbation_and_each_half_that_of_the_other() {
        // One output w · x: whatever the image, the largest shift is ε Σ|w|.
        let weight: Vec<f32> = (0..12).map(|i| if i % 2 == 0 { 1.0 } else { -2.0 }).collect();
        let mut encoder = LinearEncoder::new([3, 2, 2], weight.clone(), false).unwrap();
        let pixels: Vec<u8> = (0..10 * 12).map(|i| 100 + (i % 50) as u8).collect();
        let images = ImageSet {
            id: "t".into(),
            size: 2,
            digest: Digest::of_bytes(&pixels),
            pixels: Pixels::Owned(std::sync::Arc::new(pixels)),
            labels: vec![0; 10],
            classes: vec!["a".into()],
            sources: vec![String::new(); 10],
            split: Split::default(),
            originals: crate::dataset::Originals::default(),
        };
        let epsilon = Epsilon::Pixels(PixelAmount::grey_levels(8));
        let spec = Spec { epsilon: EpsilonList(vec![epsilon.clone()]), steps: 40, step_size: None, training: 3 };
        let (goal, method) = (Goal::Untargeted {}, Method::Universal(spec.clone()));
        let attack = AttackInput { name: "u", goal: &goal, method: &method, epsilon: &epsilon, side: Side::Query };
        let list: Vec<usize> = (0..10).collect();
        let clean = encoder.embed(&images.images(&list)).unwrap();
        let budget = Budget::new(&epsilon, &[1.0; 3]);
        let cancel = Cancel::default();
        let run = Run { batch: 2, seed: 4, cancel: &cancel };
        let task = Task { images: &images, list: &list, clean: &clean, attack: &attack, budget: &budget };
        let found = Universal::craft(&mut encoder, &spec, &task, &run).unwrap();
        assert_eq!(found.half.iter().filter(|h| **h == 0).count(), 5);
        let moved = found.apply(&images.images(&list), &budget, 0).unwrap();
        let after = encoder.embed(&moved).unwrap();
        let most = 8.0 / 255.0 * weight.iter().map(|w| w.abs()).sum::<f32>();
        for i in 0..10 {
            let shift = (after.row(i)[0] - clean.row(i)[0]).abs();
            assert!((shift / most - 1.0).abs() < 1e-3, "{shift} of {most}");
        }
        assert_eq!(found, Universal::craft(&mut encoder, &spec, &task, &run).unwrap());
    }
}
