//! Which images make each batch of an epoch.

use std::collections::BTreeMap;

use rand::RngCore;

use crate::rng;
use crate::suite::recipe::{Quirks, Recipe, Sampling};

/// Why no batches can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// Classes would not be equally large.
    #[error(
        "batch_size = {batch_size} is no multiple of per_class = {per_class}; a batch holds whole groups of a class"
    )]
    Uneven {
        /// Images per batch.
        batch_size: usize,
        /// Images per class.
        per_class: usize,
    },
    /// Fewer than two classes.
    #[error("the training split has {classes} class(es) in {images} image(s); at least 2 classes are needed")]
    TooFewClasses {
        /// Classes found.
        classes: usize,
        /// Images found.
        images: usize,
    },
    /// A class cannot fill its place in a batch without coming twice.
    #[error(
        "class {class} has {images} training image(s), fewer than per_class = {per_class} ({short} such class(es)); lower \
         per_class, or set quirks.sampling = \"with-replacement\" to draw images repeatedly"
    )]
    TooFewImages {
        /// Label of the smallest such class.
        class: u32,
        /// Its images.
        images: usize,
        /// Images per class.
        per_class: usize,
        /// Classes with too few.
        short: usize,
    },
    /// A batch of one class has no negatives.
    #[error("batch_size = {batch_size} with per_class = {per_class} puts one class in a batch; at least 2 are needed")]
    OneClass {
        /// Images per batch.
        batch_size: usize,
        /// Images per class.
        per_class: usize,
    },
}

/// Draws class-balanced batches: `batch_size / per_class` classes, `per_class` images of each, grouped by class.
///
/// An epoch has `⌊images / batch_size⌋` batches, at least one. Every batch is drawn from its own stream, named by
/// (seed, epoch, batch): nothing depends on the batches before it.
#[derive(Debug, Clone)]
pub struct Sampler {
    /// Image indices of each class, ascending by label.
    classes: Vec<Vec<usize>>,
    classes_per_batch: usize,
    per_class: usize,
    batches: usize,
    sampling: Sampling,
    seed: u64,
}

impl Sampler {
    /// Groups the images `train` (indices into `labels`) by class.
    ///
    /// # Errors
    /// [`SamplerError`] if no balanced batch with a negative exists, or a class has fewer images than a batch takes of it
    /// and none may come twice.
    pub fn new(recipe: &Recipe, train: &[usize], labels: &[u32], seed: u64) -> Result<Self, SamplerError> {
        let (batch_size, per_class) = (recipe.batch_size, recipe.per_class);
        if per_class == 0 || batch_size == 0 || batch_size % per_class != 0 {
            return Err(SamplerError::Uneven { batch_size, per_class });
        }
        if batch_size / per_class < 2 {
            return Err(SamplerError::OneClass { batch_size, per_class });
        }
        let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for &image in train {
            groups.entry(labels[image]).or_default().push(image);
        }
        if groups.len() < 2 {
            return Err(SamplerError::TooFewClasses { classes: groups.len(), images: train.len() });
        }
        let sampling = Quirks::resolve(recipe.preset, &recipe.quirks).sampling;
        let short = groups.iter().filter(|(_, members)| members.len() < per_class);
        let smallest = short.clone().min_by_key(|(label, members)| (members.len(), **label));
        if let (Sampling::WithoutReplacement, Some((&class, members))) = (sampling, smallest) {
            return Err(SamplerError::TooFewImages { class, images: members.len(), per_class, short: short.count() });
        }
        Ok(Self {
            classes: groups.into_values().collect(),
            classes_per_batch: batch_size / per_class,
            per_class,
            batches: (train.len() / batch_size).max(1),
            sampling,
            seed,
        })
    }

    /// Batches in an epoch.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// The image indices of every batch of `epoch` (from 0).
    pub fn epoch(&self, epoch: usize) -> Vec<Vec<usize>> {
        (0..self.batches).map(|batch| self.batch(epoch, batch)).collect()
    }

    fn batch(&self, epoch: usize, batch: usize) -> Vec<usize> {
        let mut rng = rng::stream(self.seed, "training-sampler", &[epoch as u64, batch as u64]);
        let classes = self.draw(&mut rng, self.classes.len(), self.classes_per_batch);
        let mut images = Vec::with_capacity(self.classes_per_batch * self.per_class);
        for class in classes {
            let members = &self.classes[class];
            images.extend(self.draw(&mut rng, members.len(), self.per_class).into_iter().map(|i| members[i]));
        }
        images
    }

    /// `count` indices below `bound`.
    fn draw(&self, rng: &mut impl RngCore, bound: usize, count: usize) -> Vec<usize> {
        match self.sampling {
            Sampling::WithReplacement => (0..count).map(|_| rng::below(rng, bound as u64) as usize).collect(),
            Sampling::WithoutReplacement => {
                let mut drawn = Vec::with_capacity(count);
                let mut deck: Vec<usize> = (0..bound).collect();
                while drawn.len() < count {
                    rng::shuffle(rng, &mut deck);
                    drawn.extend(deck.iter().take(count - drawn.len()));
                }
                drawn
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::recipe::Preset;
    use crate::train::fixture::recipe;

    fn sampler(preset: &str, classes: u32, per_class: u32, batch: usize, group: usize) -> (Sampler, Vec<u32>) {
        let mut recipe = recipe("standard = {}");
        recipe.preset = if preset == "code" { Preset::Code } else { Preset::Paper };
        (recipe.batch_size, recipe.per_class) = (batch, group);
        let labels: Vec<u32> = (0..classes * per_class).map(|i| i % classes).collect();
        let train: Vec<usize> = (0..labels.len()).collect();
        (Sampler::new(&recipe, &train, &labels, 5).unwrap(), labels)
    }

    /// How often each value comes, in ascending order of the value.
    fn counts<T: Ord>(items: impl Iterator<Item = T>) -> Vec<usize> {
        let mut map = BTreeMap::new();
        for item in items {
            *map.entry(item).or_insert(0) += 1;
        }
        map.into_values().collect()
    }

    #[test]
    fn batches_of_the_paper_hold_whole_distinct_groups() {
        let (sampler, labels) = sampler("paper", 20, 7, 32, 4);
        assert_eq!(sampler.batches(), 140 / 32);
        for batch in sampler.epoch(3) {
            assert_eq!(counts(batch.iter().map(|&i| labels[i])), [4; 8]);
            assert_eq!(counts(batch.iter()), [1; 32]);
        }
    }

    #[test]
    fn batches_of_the_code_repeat_classes_and_images() {
        let (sampler, labels) = sampler("code", 10, 3, 20, 2);
        let batches: Vec<_> = (0..40).flat_map(|epoch| sampler.epoch(epoch)).collect();
        let classes: Vec<_> = batches.iter().map(|batch| counts(batch.iter().map(|&i| labels[i])).len()).collect();
        // 10 draws of 10 classes leave 10·(1 − 0.9^10) = 6.5 different ones.
        let mean = classes.iter().sum::<usize>() as f64 / classes.len() as f64;
        assert!((mean - 6.51).abs() < 0.6, "{mean} classes in a batch");
        assert!(batches.iter().any(|batch| counts(batch.iter()).iter().any(|&n| n > 1)));
    }

    #[test]
    fn too_few_classes_repeat_evenly() {
        let (sampler, labels) = sampler("paper", 3, 4, 20, 4);
        assert_eq!(sampler.batches(), 1);
        let batch = &sampler.epoch(0)[0];
        let mut classes = counts(batch.iter().map(|&i| labels[i]));
        classes.sort_unstable();
        assert_eq!(classes, [4, 8, 8]);
        assert!(counts(batch.iter()).iter().all(|&n| n == 1 || n == 2));
    }

    #[test]
    fn every_batch_and_epoch_has_its_own_draw_and_repeats_exactly() {
        let (sampler, _) = sampler("paper", 20, 7, 32, 4);
        let epoch = sampler.epoch(1);
        assert_eq!(epoch, sampler.epoch(1));
        assert_ne!(epoch, sampler.epoch(2));
        assert_ne!(epoch[0], epoch[1]);
    }

    #[test]
    fn refuses_what_makes_no_balanced_batch() {
        let mut recipe = recipe("standard = {}");
        let new = |recipe: &Recipe, labels: &[u32]| {
            Sampler::new(recipe, &(0..labels.len()).collect::<Vec<_>>(), labels, 0).unwrap_err().to_string()
        };
        (recipe.batch_size, recipe.per_class) = (10, 4);
        assert!(new(&recipe, &[0, 1]).contains("no multiple of per_class = 4"));
        (recipe.batch_size, recipe.per_class) = (4, 4);
        assert!(new(&recipe, &[0, 1]).contains("at least 2 are needed"));
        (recipe.batch_size, recipe.per_class) = (8, 4);
        assert!(new(&recipe, &[3, 3]).contains("1 class(es)"));
        (recipe.batch_size, recipe.per_class) = (4, 2);
        let said = new(&recipe, &[0, 0, 5, 7, 7, 9]);
        assert!(said.contains("class 5 has 1 training image(s)") && said.contains("(2 such"), "{said}");
        recipe.quirks.sampling = Some(Sampling::WithReplacement);
        Sampler::new(&recipe, &[0, 1, 2], &[0, 0, 5], 0).unwrap();
    }
}
