//! The checks of a run that are more than one trial's: of a model before its numbers are believed, of a trial repeated in
//! another way, and of rows against each other. What they mean is in [`soundness`](crate::suite::soundness).

use std::collections::BTreeMap;

use super::RunError;
use crate::attack::checks;
use crate::attack::evaluate::{TrialInput, run_trial};
use crate::attack::probe::{self, Subject};
use crate::batch::Images;
use crate::encoder::Encoder;
use crate::metric::neighbors::{Depth, Distance, Search, search};
use crate::progress::Silent;
use crate::record::{Check, QueryOutcome, Run};
use crate::suite::attack::{Method, Side};
use crate::suite::repeats::MORE_STEPS_QUERIES;

/// What was found about one branch of a model, found when first asked for.
#[derive(Debug, Clone, Default)]
pub struct Probed {
    stability: Option<Check>,
    gradient: Option<Vec<Check>>,
}

impl Probed {
    /// The checks that a number made with this model carries: the gradient's only where the number follows it.
    ///
    /// # Errors
    /// [`RunError`] if the model fails or the user stops.
    pub fn checks(
        &mut self,
        encoder: &mut dyn Encoder,
        subject: &Subject<'_>,
        follows_gradient: bool,
    ) -> Result<Vec<Check>, RunError> {
        if self.stability.is_none() {
            self.stability = Some(probe::stability(encoder, subject)?);
        }
        if follows_gradient && self.gradient.is_none() {
            self.gradient = Some(probe::gradient(encoder, subject)?);
        }
        let gradient = self.gradient.iter().flatten().filter(|_| follows_gradient);
        Ok(self.stability.iter().chain(gradient).cloned().collect())
    }
}

/// Whether a query is right at k = 1.
fn right(outcome: &QueryOutcome) -> bool {
    outcome.first_hit == 1
}

/// Attacks the first queries again, by `method`, which has twice the steps; `None` for a clean trial. `outcomes`: of the
/// trial, in the order of its queries.
///
/// # Errors
/// [`RunError`] if the model fails or the user stops.
pub fn more_steps(
    crafter: &mut dyn Encoder,
    input: &TrialInput<'_>,
    method: &Method,
    outcomes: &[QueryOutcome],
) -> Result<Option<Check>, RunError> {
    let Some(attack) = input.attack else { return Ok(None) };
    let count = input.queries.len().min(MORE_STEPS_QUERIES);
    let rows: Vec<usize> = (0..count).collect();
    let (own, silent) = (input.query_embeddings.select(&rows), Silent);
    let mut again = *input;
    again.queries = &input.queries[..count];
    again.query_embeddings = &own;
    again.metrics = &[];
    again.keep = &[];
    again.observer = &silent;
    again.attack = Some(crate::attack::evaluate::AttackInput { method, ..attack });
    let longer = run_trial(crafter, None, &again)?;
    let pairs = || longer.queries.iter().zip(outcomes);
    let further = pairs().filter(|(long, short)| right(short) && !right(long)).count();
    let fewer = pairs().filter(|(long, short)| !right(short) && right(long)).count();
    Ok(Some(checks::more_steps_change_little(further, fewer, count, method.steps())))
}

/// Embeds the kept pictures (bytes) and asks the gallery again; `None` if none was kept that had
/// searched for anything.
///
/// # Errors
/// [`RunError`] if the model fails.
pub fn saved_pictures(
    answerer: &mut dyn Encoder,
    input: &TrialInput<'_>,
    kept: &[(usize, Vec<u8>)],
    outcomes: &[QueryOutcome],
) -> Result<Option<Check>, RunError> {
    let queried = matches!(&input.attack, Some(attack) if attack.side == Side::Query && !matches!(attack.method, Method::None {}));
    // An attacked candidate searches for nothing: it has no first hit that could be compared.
    let searched: BTreeMap<u32, bool> = outcomes
        .iter()
        .filter(|outcome| outcome.first_hit > 0)
        .map(|outcome| (outcome.query, right(outcome)))
        .collect();
    let compared = kept.iter().filter(|(image, _)| searched.contains_key(&(*image as u32))).count();
    if !queried || compared == 0 {
        return Ok(None);
    }
    let [c, h, w] = answerer.spec().input;
    let pixels: Vec<f32> = kept.iter().flat_map(|(_, bytes)| bytes).map(|&b| f32::from(b) / 255.0).collect();
    let Ok(pixels) = Images::new([kept.len(), c, h, w], pixels) else { return Ok(None) };
    let embeddings = answerer.embed(&pixels)?;
    let images: Vec<usize> = kept.iter().map(|(image, _)| *image).collect();
    let places: BTreeMap<usize, usize> =
        input.gallery.iter().enumerate().map(|(place, &image)| (image, place)).collect();
    let excluded: Vec<Option<usize>> = images.iter().map(|image| places.get(image).copied()).collect();
    let found = search(Search {
        queries: &embeddings,
        query_labels: &input.images.labels_of(&images),
        gallery: input.gallery_embeddings,
        gallery_labels: &input.images.labels_of(input.gallery),
        excluded: &excluded,
        depth: Depth::Fixed(0),
        distance: Distance::Euclidean,
    })
    .map_err(crate::attack::AttackError::from)?;
    let again = images.iter().zip(&found).filter_map(|(image, found)| Some((searched.get(&(*image as u32))?, found)));
    let differing = again.filter(|(was, found)| **was != (found.first_hit == 1)).count();
    Ok(Some(checks::saved_pictures_agree(differing, compared)))
}

/// Adds to every row what the other rows say about it.
pub fn compare_rows(run: &mut Run) {
    let mut sums: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for outcome in &run.queries {
        let sum = sums.entry(&outcome.trial).or_default();
        *sum = (sum.0 + f64::from(outcome.loss), sum.1 + 1);
    }
    let mean = |trial: &str| sums.get(trial).map(|(sum, n)| sum / *n as f64);
    let found = checks::across(&run.measurements, &mean);
    for (row, found) in run.measurements.iter_mut().zip(found) {
        row.checks.extend(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::evaluate::{AttackInput, embed_all};
    use crate::dataset::{ImageSet, Pixels, Split};
    use crate::digest::Digest;
    use crate::encoder::fake::LinearEncoder;
    use crate::progress::Cancel;
    use crate::rng;
    use crate::suite::attack::{EpsilonList, Goal, RandomStart, Stop};
    use crate::units::{Epsilon, PixelAmount};

    /// Twelve classes of three 4 × 4 images.
    fn set() -> ImageSet {
        let mut stream = rng::stream(5, "set", &[]);
        let patterns: Vec<u8> = (0..12 * 48).map(|_| 60 + rng::below(&mut stream, 130) as u8).collect();
        let noisy = |i: usize, stream: &mut rng::Stream| -> Vec<u8> {
            patterns[i / 3 * 48..][..48].iter().map(|&p| p - 20 + rng::below(stream, 40) as u8).collect()
        };
        let pixels: Vec<u8> = (0..36).flat_map(|i| noisy(i, &mut stream)).collect();
        ImageSet {
            id: "patterns".into(),
            originals: crate::dataset::Originals::default(),
            size: 4,
            digest: Digest::of_bytes(&pixels),
            pixels: Pixels::Owned(std::sync::Arc::new(pixels)),
            labels: (0..36).map(|i| i / 3).collect(),
            classes: (0..12).map(|c| c.to_string()).collect(),
            sources: vec![String::new(); 36],
            split: Split::default(),
        }
    }

    /// The attack of so many steps, repeated with twice as many; and its saved pictures, of which `spoiled` are others.
    fn again(steps: usize, step: u32, spoiled: usize) -> (Check, Check) {
        let (images, all, cancel) = (set(), (0..36).collect::<Vec<usize>>(), Cancel::default());
        let mut encoder = LinearEncoder::random([3, 4, 4], 8, true, 3).unwrap();
        let clean = embed_all(&mut encoder, &images, &all, 9, &Silent, &cancel).unwrap();
        let epsilon = Epsilon::Pixels(PixelAmount::grey_levels(60));
        let method = Method::Pgd {
            epsilon: EpsilonList(vec![epsilon.clone()]),
            step_size: Some(Epsilon::Pixels(PixelAmount::grey_levels(step))),
            steps,
            restarts: 1,
            random_start: RandomStart::None,
            allow_overshoot: false,
            stop: Stop::Never,
        };
        let goal = Goal::SingleTarget {};
        let attack = AttackInput { name: "a", goal: &goal, method: &method, epsilon: &epsilon, side: Side::Query };
        let input = TrialInput {
            trial: "t",
            images: &images,
            queries: &all,
            queries_available: 36,
            gallery: &all,
            query_embeddings: &clean,
            gallery_embeddings: &clean,
            crafter_embeddings: None,
            attack: Some(attack),
            batch_size: 9,
            seed: 7,
            ks: &[1],
            metrics: &[],
            clustering: Default::default(),
            keep: &all,
            observer: &Silent,
            cancel: &cancel,
        };
        let mut outcome = run_trial(&mut encoder, None, &input).unwrap();
        for (image, bytes) in outcome.kept.iter_mut().take(spoiled) {
            *bytes = images.bytes(*image).to_vec();
        }
        let more = more_steps(&mut encoder, &input, &method.with_twice_the_steps().unwrap(), &outcome.queries)
            .unwrap()
            .unwrap();
        let saved = saved_pictures(&mut encoder, &input, &outcome.kept, &outcome.queries).unwrap().unwrap();
        // What has found nothing, as an attacked candidate, is not compared with what its picture finds.
        outcome.queries.iter_mut().for_each(|query| query.first_hit = 0);
        assert_eq!(saved_pictures(&mut encoder, &input, &outcome.kept, &outcome.queries).unwrap(), None);
        (more, saved)
    }

    #[test]
    fn a_search_that_had_not_ended_is_told_from_one_that_had() {
        assert!(again(40, 3, 0).0.passed);
        let (early, _) = again(2, 6, 0);
        assert!(!early.passed, "{early:?}");
        assert!(early.detail.contains("4 steps"), "{early:?}");
    }

    #[test]
    fn saved_pictures_that_are_not_the_attacked_ones_are_found() {
        assert!(again(40, 3, 0).1.passed);
        assert!(!again(40, 3, 30).1.passed);
    }
}
