//! From a goal to the losses of a trial's images: whom each one is about, and what its loss is measured against.
//!
//! Everything is drawn per image, named by (suite seed, attack, data-set index), and measured on the clean embeddings of
//! the crafting model.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::AttackError;
use super::goal::Objective;
use super::targets::TargetPool;
use crate::batch::Embeddings;
use crate::encoder::{Distance, Gallery, LossHead, Reach};
use crate::rng;
use crate::suite::attack::{Goal, RankingPart, Robrank, TargetChoice, TargetLoss};

/// Share of the gallery from which the nearest candidates and queries of RobRank's lowering attacks are drawn.
const TOP_SHARE: f64 = 0.01;

/// By how much the clean embedding is moved in every entry before an embedding shift is measured from it, so that there
/// is a direction to begin with. RobRank has such a shift too, in the same direction but of about 1e-6, where half of what
/// float32 then sees is rounding.
const SHIFT_FROM: f32 = 1e-4;

/// What a trial knows about its images.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// Suite seed.
    pub seed: u64,
    /// The suite's name of the attack.
    pub attack: &'a str,
    /// Class of every image of the data set.
    pub labels: &'a [u32],
    /// Data-set indices of the images that are attacked.
    pub list: &'a [usize],
    /// Data-set indices of the gallery.
    pub gallery: &'a [usize],
    /// Clean embeddings of `list` by the crafting model.
    pub own: &'a Embeddings,
    /// Clean embeddings of the gallery by the crafting model.
    pub gallery_embeddings: &'a Embeddings,
}

/// Draws targets and makes objectives. An image is named by its place in the scene's list, a target by its place in the
/// gallery.
#[derive(Debug)]
pub struct Aim<'a> {
    scene: Scene<'a>,
    gallery_labels: Vec<u32>,
    /// Own place in the gallery.
    places: Vec<Option<usize>>,
    pool: TargetPool,
    searched: OnceLock<Arc<Gallery>>,
    permutations: OnceLock<Vec<Vec<usize>>>,
}

impl<'a> Aim<'a> {
    /// Looks at a scene.
    pub fn new(scene: Scene<'a>) -> Self {
        let by_image: HashMap<usize, usize> =
            scene.gallery.iter().enumerate().map(|(place, &image)| (image, place)).collect();
        let gallery_labels: Vec<u32> = scene.gallery.iter().map(|&image| scene.labels[image]).collect();
        Self {
            places: scene.list.iter().map(|image| by_image.get(image).copied()).collect(),
            pool: TargetPool::new(&gallery_labels),
            gallery_labels,
            scene,
            searched: OnceLock::new(),
            permutations: OnceLock::new(),
        }
    }

    /// Gallery places of the images that image `i` is aimed at, or, for RobRank's attacks, of those that its score is
    /// about. Empty if there is none.
    ///
    /// # Errors
    /// [`AttackError::Targets`] if the gallery has too few identities; [`AttackError::Input`] if it is too small.
    pub fn targets(&self, i: usize, goal: &Goal) -> Result<Vec<usize>, AttackError> {
        let Scene { seed, attack, labels, list, .. } = self.scene;
        let label = labels[list[i]];
        match goal {
            Goal::Untargeted {} | Goal::Misrank {} => Ok(vec![]),
            Goal::MultiTarget { targets, choice: TargetChoice::Permutation, .. } => {
                let at = self.places[i].unwrap_or(i % self.gallery_labels.len().max(1));
                Ok(self.permutations(*targets).iter().take(*targets).map(|one| one[at]).collect())
            }
            Goal::SingleTarget {} => Ok(self.pool.draw(seed, attack, list[i], label, 1)?),
            Goal::MultiTarget { targets, .. } => Ok(self.pool.draw(seed, attack, list[i], label, *targets)?),
            Goal::SameIdentity { targets } => self.companions(i, *targets),
            Goal::Robrank(robrank) => self.ranked(i, robrank),
        }
    }

    /// The losses of images `first..first + targets.len()`, whose targets are these.
    ///
    /// # Errors
    /// [`AttackError::Input`] if the gallery is too large for the labels to be told apart in the loss.
    pub fn objective(&self, first: usize, targets: &[Vec<usize>], goal: &Goal) -> Result<Objective, AttackError> {
        let rows = || self.rows(targets);
        Ok(match goal {
            Goal::Misrank {} => self.misrank(first, targets.len())?,
            Goal::MultiTarget { loss, .. } => self.joint(*loss, first, targets),
            Goal::SingleTarget {} => self.sum(Distance::SquaredEuclidean, targets.len(), rows(), 1.0),
            Goal::SameIdentity { targets: count } => {
                // A class with fewer images has them repeated.
                let weight = 1.0 / (*count).max(1) as f32;
                self.sum(Distance::SquaredEuclidean, targets.len(), rows(), weight)
            }
            Goal::Untargeted {} => {
                let own = self.own(first, targets.len(), 0.0);
                self.sum(Distance::SquaredEuclidean, targets.len(), own, -1.0)
            }
            Goal::Robrank(robrank) => self.robrank(robrank, first, targets)?,
        })
    }

    /// [`Aim::objective`] of one image.
    ///
    /// # Errors
    /// Those of [`Aim::targets`] and [`Aim::objective`].
    pub fn objective_of(&self, i: usize, goal: &Goal) -> Result<Objective, AttackError> {
        self.objective(i, &[self.targets(i, goal)?], goal)
    }

    /// A sum of distances from as many rows each as `rows` holds, with equal weights.
    fn sum(&self, distance: Distance, n: usize, rows: Vec<f32>, weight: f32) -> Objective {
        let count = rows.len() / (n * self.scene.gallery_embeddings.dim()).max(1);
        Objective {
            head: LossHead::Weighted(distance),
            targets_per_sample: count,
            weights: vec![weight; n * count],
            targets: rows,
            table: vec![],
            gallery: None,
        }
    }

    fn rows(&self, targets: &[Vec<usize>]) -> Vec<f32> {
        targets.iter().flatten().flat_map(|&place| self.scene.gallery_embeddings.row(place)).copied().collect()
    }

    fn own(&self, first: usize, n: usize, moved: f32) -> Vec<f32> {
        (first..first + n).flat_map(|i| self.scene.own.row(i)).map(|v| v - moved).collect()
    }

    fn permutations(&self, count: usize) -> &[Vec<usize>] {
        self.permutations.get_or_init(|| {
            let one = |t: usize| {
                let mut order: Vec<usize> = (0..self.gallery_labels.len()).collect();
                let purpose = format!("permutation/{}", self.scene.attack);
                rng::shuffle(&mut rng::stream(self.scene.seed, &purpose, &[t as u64]), &mut order);
                order
            };
            (0..count).map(one).collect()
        })
    }

    /// `count` other gallery images of the own class, each class member once before any twice.
    fn companions(&self, i: usize, count: usize) -> Result<Vec<usize>, AttackError> {
        let Scene { seed, attack, labels, list, .. } = self.scene;
        let mut others: Vec<usize> = self.pool.members(labels[list[i]]).collect();
        others.retain(|place| Some(*place) != self.places[i]);
        if others.is_empty() {
            return Err(AttackError::Input {
                what: "other gallery images of an attacked image's class, for goal `same-identity`",
                got: format!("0 for image {}", list[i]),
                wanted: "at least 1".into(),
            });
        }
        let purpose = format!("companion/{attack}");
        rng::shuffle(&mut rng::stream(seed, &purpose, &[list[i] as u64]), &mut others);
        Ok((0..count).map(|k| others[k % others.len()]).collect())
    }

    fn joint(&self, loss: TargetLoss, first: usize, targets: &[Vec<usize>]) -> Objective {
        let (n, rows) = (targets.len(), self.rows(targets));
        let weight = 1.0 / targets.first().map_or(1, Vec::len).max(1) as f32;
        match loss {
            TargetLoss::MeanSquaredDistance => self.sum(Distance::SquaredEuclidean, n, rows, weight),
            TargetLoss::MeanDistance => self.sum(Distance::Euclidean, n, rows, weight),
            TargetLoss::SquaredDistanceToMean => {
                let dim = self.scene.gallery_embeddings.dim();
                let mean = |of: &Vec<usize>| -> Vec<f32> {
                    let sum =
                        |k: usize| of.iter().map(|&p| f64::from(self.scene.gallery_embeddings.row(p)[k])).sum::<f64>();
                    (0..dim).map(|k| (sum(k) / of.len().max(1) as f64) as f32).collect()
                };
                let means = targets.iter().flat_map(mean).collect();
                self.sum(Distance::SquaredEuclidean, n, means, 1.0)
            }
            TargetLoss::SoftMin => {
                let mut objective = self.sum(Distance::SquaredEuclidean, n, rows, weight);
                objective.head = LossHead::SoftMin;
                let softness = |(i, of): (usize, &Vec<usize>)| {
                    let own = self.scene.own.row(first + i);
                    let squared =
                        |&p: &usize| Distance::SquaredEuclidean.between(own, self.scene.gallery_embeddings.row(p));
                    let mean = of.iter().map(squared).sum::<f64>() / of.len().max(1) as f64;
                    // Never 0: the targets may lie on the image.
                    (TargetLoss::SOFTNESS * mean).max(1e-6) as f32
                };
                objective.table = targets.iter().enumerate().map(softness).collect();
                objective
            }
        }
    }

    /// What is searched, made when a loss first looks at it.
    fn searched(&self) -> Result<&Arc<Gallery>, AttackError> {
        // Labels and places are compared as float32.
        let largest = self.gallery_labels.iter().map(|&label| label as usize).max().unwrap_or(0);
        if largest.max(self.gallery_labels.len()) >= 1 << 24 {
            return Err(AttackError::Input {
                what: "gallery items or class numbers of a goal that looks at the whole gallery",
                got: largest.max(self.gallery_labels.len()).to_string(),
                wanted: format!("below {}", 1 << 24),
            });
        }
        let make = || Gallery::new(self.scene.gallery_embeddings.clone(), self.gallery_labels.clone()).map(Arc::new);
        if let Some(made) = self.searched.get() {
            return Ok(made);
        }
        let made = make().map_err(|error| AttackError::Input {
            what: "gallery embeddings",
            got: error.to_string(),
            wanted: "one for each image".into(),
        })?;
        Ok(self.searched.get_or_init(|| made))
    }

    fn margin(&self, head: LossHead, first: usize, n: usize, own_is_out: bool) -> Result<Objective, AttackError> {
        let row = |i: usize| {
            let place = self.places[i].filter(|_| own_is_out).map_or(-1.0, |place| place as f32);
            [self.scene.labels[self.scene.list[i]] as f32, place]
        };
        Ok(Objective {
            head,
            targets_per_sample: 0,
            targets: vec![],
            weights: vec![],
            table: (first..first + n).flat_map(row).collect(),
            gallery: Some(self.searched()?.clone()),
        })
    }

    fn misrank(&self, first: usize, n: usize) -> Result<Objective, AttackError> {
        let head =
            LossHead::Margin { distance: Distance::SquaredEuclidean, other: Reach::Nearest, items: 1, clamped: false };
        self.margin(head, first, n, true)
    }

    /// Places of the gallery from the nearest to image `i` on, itself left out, as many as asked for.
    fn nearest(&self, i: usize, count: usize) -> Vec<usize> {
        let own = self.scene.own.row(i);
        let distance = |p: usize| Distance::SquaredEuclidean.between(own, self.scene.gallery_embeddings.row(p));
        let mut found: Vec<(f64, usize)> = (0..self.gallery_labels.len())
            .filter(|place| Some(*place) != self.places[i])
            .map(|place| (distance(place), place))
            .collect();
        let count = count.min(found.len());
        if count < found.len() && count > 0 {
            found.select_nth_unstable_by(count - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        }
        found.truncate(count);
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        found.into_iter().map(|(_, place)| place).collect()
    }

    /// Gallery items without image `i` itself.
    fn candidates(&self, i: usize) -> usize {
        self.gallery_labels.len() - usize::from(self.places[i].is_some())
    }

    fn ranked(&self, i: usize, robrank: &Robrank) -> Result<Vec<usize>, AttackError> {
        let Scene { seed, attack, list, .. } = self.scene;
        let (count, candidates) = (robrank.count(), self.candidates(i));
        if count > candidates || candidates == 0 {
            return Err(AttackError::Input {
                what: "gallery images that a ranking attack can be about (W or M of them)",
                got: candidates.to_string(),
                wanted: format!("at least {}", count.max(1)),
            });
        }
        let mut stream = rng::stream(seed, &format!("target/{attack}"), &[list[i] as u64]);
        let mut below = |bound: usize| rng::below(&mut stream, bound as u64) as usize;
        // RobRank: the nearest hundredth. A small gallery has no hundredth: as many as are needed.
        let top = ((self.gallery_labels.len() as f64 * TOP_SHARE) as usize).max(count).min(candidates);
        let skip_own = |place: usize| place + usize::from(self.places[i].is_some_and(|own| own <= place));
        Ok(match robrank.part() {
            Some(RankingPart::CandidateRaise | RankingPart::QueryRaise | RankingPart::TargetedMismatch) => {
                (0..count).map(|_| skip_own(below(candidates))).collect()
            }
            Some(RankingPart::CandidateLower) => {
                let near = self.nearest(i, top);
                (0..count).map(|_| near[below(near.len())]).collect()
            }
            Some(RankingPart::QueryLower) => {
                let mut near = self.nearest(i, top);
                (0..count).map(|_| near.swap_remove(below(near.len()))).collect()
            }
            Some(RankingPart::GreedyMisrank) => vec![self.nearest_other(i, robrank.quirks().masked_index)?],
            Some(RankingPart::GreedyTranslocation) => self.nearest(i, 1),
            _ => vec![],
        })
    }

    /// The nearest gallery image of another class.
    fn nearest_other(&self, i: usize, masked_index: bool) -> Result<usize, AttackError> {
        let order = self.nearest(i, self.gallery_labels.len());
        let label = if masked_index {
            order.first().map_or(0, |&place| self.gallery_labels[place])
        } else {
            self.scene.labels[self.scene.list[i]]
        };
        let Some(&found) = order.iter().find(|&&place| self.gallery_labels[place] != label) else {
            return Err(AttackError::Input {
                what: "classes of the gallery, for a goal that needs another one",
                got: "1".into(),
                wanted: "at least 2".into(),
            });
        };
        if !masked_index {
            return Ok(found);
        }
        Ok(self.gallery_labels[..found].iter().filter(|&&other| other != label).count())
    }

    fn robrank(&self, robrank: &Robrank, first: usize, targets: &[Vec<usize>]) -> Result<Objective, AttackError> {
        let n = targets.len();
        let weight = 1.0 / robrank.count().max(1) as f32;
        let hinge = |head: LossHead, weight: f32| -> Result<Objective, AttackError> {
            let mut objective = self.sum(Distance::Euclidean, n, self.rows(targets), weight);
            objective.head = head;
            if head.needs_gallery() {
                objective.gallery = Some(self.searched()?.clone());
            } else {
                objective.table = targets.iter().flatten().flat_map(|&place| self.levels(place)).collect();
            }
            Ok(objective)
        };
        let part = robrank.part().ok_or_else(|| AttackError::Input {
            what: "parts of a single ranking attack",
            got: robrank.parts.len().to_string(),
            wanted: "1".into(),
        })?;
        Ok(match part {
            RankingPart::CandidateRaise => hinge(LossHead::FixedHinge, weight)?,
            RankingPart::CandidateLower => hinge(LossHead::FixedHinge, -weight)?,
            RankingPart::QueryRaise => hinge(LossHead::GalleryHinge, weight)?,
            RankingPart::QueryLower => hinge(LossHead::GalleryHinge, -weight)?,
            RankingPart::GreedyTranslocation => hinge(LossHead::GalleryHinge, -1.0)?,
            RankingPart::TargetedMismatch => self.sum(Distance::Cosine, n, self.rows(targets), 1.0),
            RankingPart::GreedyMisrank => self.sum(Distance::Euclidean, n, self.rows(targets), 1.0),
            RankingPart::EmbeddingShift => self.sum(Distance::Euclidean, n, self.own(first, n, SHIFT_FROM), -1.0),
            RankingPart::LearningToMisrank => {
                let head =
                    LossHead::Margin { distance: Distance::Euclidean, other: Reach::Farthest, items: 1, clamped: true };
                self.margin(head, first, n, !robrank.quirks().self_is_positive)?
            }
        })
    }

    /// Distances of a query (a gallery item) from every gallery item.
    fn levels(&self, place: usize) -> Vec<f32> {
        let gallery = self.scene.gallery_embeddings;
        let query = gallery.row(place);
        (0..gallery.len()).map(|other| Distance::Euclidean.between(query, gallery.row(other)) as f32).collect()
    }
}

#[cfg(test)]
mod tests;
