//! How the directions of the embeddings lie: density within and between classes, alignment, collapse.
//!
//! Only directions count: every row is divided by its norm first. A row of zeros has no direction; as in scikit-learn its
//! cosine with every other row is 0. Everything here is a closed form of the sums of unit rows, in `f64`: no loop over
//! pairs, and so exact at any size.
//!
//! # Source of the densities
//! Roth et al. 2020, arXiv:2002.08473, section 5; the official code's `dists@intra`, `dists@inter`,
//! `dists@intra_over_inter`.

use super::groups::Groups;
use crate::batch::Embeddings;

/// Sums of the unit rows of each class.
#[derive(Debug, Clone, PartialEq)]
pub struct Directions {
    dim: usize,
    classes: Vec<Class>,
}

#[derive(Debug, Clone, PartialEq)]
struct Class {
    group: usize,
    items: f64,
    /// Items that have a direction: `Σ ‖û‖²`.
    directed: f64,
    sum: Vec<f64>,
    /// `‖sum‖²`.
    square: f64,
}

impl Class {
    /// Sum of the cosines over ordered pairs of different rows.
    fn cosines(&self) -> f64 {
        self.square - self.directed
    }

    fn pairs(&self) -> f64 {
        self.items * (self.items - 1.0)
    }
}

/// Which group of classes a figure is computed without, for the jackknife.
pub type LeftOut = Option<usize>;

impl Directions {
    /// Sums up the rows of each class.
    ///
    /// # Shapes
    /// `embeddings`: `[n, d]`; `labels`: `[n]`; `groups` made of the same labels.
    /// # Panics
    /// If the lists differ in length.
    pub fn new(embeddings: &Embeddings, labels: &[u32], groups: &Groups) -> Self {
        assert_eq!(embeddings.len(), labels.len(), "one label for each embedding");
        let dim = embeddings.dim();
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by_key(|&i| (labels[i], i));
        let class = |members: &[usize]| {
            let mut class = Class {
                group: groups.of(labels[members[0]]),
                items: members.len() as f64,
                directed: 0.0,
                sum: vec![0.0; dim],
                square: 0.0,
            };
            for &i in members {
                let row = embeddings.row(i);
                let norm = norm(row);
                if norm > 0.0 {
                    class.directed += 1.0;
                    class.sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value) / norm);
                }
            }
            class.square = class.sum.iter().map(|v| v * v).sum();
            class
        };
        let classes = order.chunk_by(|&a, &b| labels[a] == labels[b]).map(class).collect();
        Self { dim, classes }
    }

    /// The directions of a set without a jackknife.
    pub fn of(embeddings: &Embeddings, labels: &[u32]) -> Self {
        Self::new(embeddings, labels, &Groups::of_classes(labels, 1))
    }

    fn classes(&self, left_out: LeftOut) -> impl Iterator<Item = &Class> {
        self.classes.iter().filter(move |class| Some(class.group) != left_out)
    }

    /// Rows of zeros.
    pub fn without_direction(&self) -> usize {
        self.classes.iter().map(|c| (c.items - c.directed) as usize).sum()
    }

    /// π_intra: the mean over classes of the mean cosine distance within the class; in `[0, 2]`, lower is denser.
    ///
    /// A class with one image has no pair and is left out (the official code fills it with the distance of class 0 or
    /// 1). `None` if no class has two images.
    ///
    /// ```
    /// use mdprop::batch::Embeddings;
    /// use mdprop::metric::directions::Directions;
    ///
    /// // Class 0: east and north, distance 1. Class 1: west twice, distance 0.
    /// let rows = Embeddings::new([4, 2], vec![3.0, 0.0, 0.0, 1.0, -1.0, 0.0, -2.0, 0.0])?;
    /// let directions = Directions::of(&rows, &[0, 0, 1, 1]);
    /// assert_eq!(directions.pi_intra(None), Some(0.5));
    /// // Class means: north-east and west, cosine −1/√2.
    /// assert!((directions.pi_inter(None).unwrap() - (1.0 + 0.5f64.sqrt())).abs() < 1e-12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pi_intra(&self, left_out: LeftOut) -> Option<f64> {
        let (mut sum, mut classes) = (0.0, 0.0);
        for class in self.classes(left_out).filter(|class| class.items > 1.0) {
            sum += 1.0 - class.cosines() / class.pairs();
            classes += 1.0;
        }
        (classes > 0.0).then(|| (sum / classes).clamp(0.0, 2.0))
    }

    /// π_inter: the mean cosine distance between the directions of the class means; in `[0, 2]`, higher is farther.
    ///
    /// A class with one image counts with that image. `None` with fewer than two classes.
    pub fn pi_inter(&self, left_out: LeftOut) -> Option<f64> {
        let (mut classes, mut own) = (0.0, 0.0);
        let mut sum = vec![0.0f64; self.dim];
        for class in self.classes(left_out) {
            classes += 1.0;
            // A mean that cancels to rounding has no direction.
            if class.square > 1e-24 * class.items * class.items {
                own += 1.0;
                let norm = class.square.sqrt();
                sum.iter_mut().zip(&class.sum).for_each(|(sum, value)| *sum += value / norm);
            }
        }
        let all: f64 = sum.iter().map(|v| v * v).sum();
        (classes > 1.0).then(|| (1.0 - (all - own) / (classes * (classes - 1.0))).clamp(0.0, 2.0))
    }

    /// π_ratio = π_intra / π_inter: small if classes are tight and far from each other.
    ///
    /// `None` where either is, and if the class means coincide (π_inter below 1e-12): a collapsed embedding has no
    /// ratio.
    pub fn pi_ratio(&self, left_out: LeftOut) -> Option<f64> {
        let (intra, inter) = (self.pi_intra(left_out)?, self.pi_inter(left_out)?);
        (inter > 1e-12).then_some(intra / inter)
    }

    /// Alignment: the mean squared distance of the unit rows of all same-class pairs, `mean 2 (1 − cos)`; in `[0, 4]`,
    /// lower is tighter.
    ///
    /// Every pair counts once, so large classes weigh more than in π_intra. `None` if no class has two images.
    ///
    /// ```
    /// use mdprop::batch::Embeddings;
    /// use mdprop::metric::directions::Directions;
    ///
    /// // Two pairs: at a right angle (distance² 2) and together (0).
    /// let rows = Embeddings::new([4, 2], vec![3.0, 0.0, 0.0, 1.0, -1.0, 0.0, -2.0, 0.0])?;
    /// assert_eq!(Directions::of(&rows, &[0, 0, 1, 1]).alignment(None), Some(1.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Source
    /// Wang & Isola 2020, arXiv:2005.10242, section 4.1, α = 2, positives being the images of one class.
    pub fn alignment(&self, left_out: LeftOut) -> Option<f64> {
        let (mut cosines, mut pairs) = (0.0, 0.0);
        for class in self.classes(left_out) {
            cosines += class.cosines();
            pairs += class.pairs();
        }
        (pairs > 0.0).then(|| (2.0 * (1.0 - cosines / pairs)).clamp(0.0, 4.0))
    }

    /// The mean cosine over all pairs of different rows, see [`super::recall::mean_pairwise_cosine`].
    pub fn mean_cosine(&self, left_out: LeftOut) -> Option<f64> {
        let (mut items, mut own) = (0.0, 0.0);
        let mut sum = vec![0.0f64; self.dim];
        for class in self.classes(left_out) {
            items += class.items;
            own += class.directed;
            sum.iter_mut().zip(&class.sum).for_each(|(sum, value)| *sum += value);
        }
        let all: f64 = sum.iter().map(|v| v * v).sum();
        (items > 1.0).then(|| ((all - own) / (items * (items - 1.0))).clamp(-1.0, 1.0))
    }
}

/// The Euclidean norm of a row.
pub(super) fn norm(row: &[f32]) -> f64 {
    row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
#[path = "directions_tests.rs"]
mod tests;
