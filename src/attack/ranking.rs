//! What RobRank's attacks did, per image, in the units of its tables.
//!
//! Ranks are shares of the gallery in percent: how many of its items are strictly nearer. As published, the image's own
//! clean copy is one of the gallery's items there. For recall and for the first four it is left out by its index.

use rayon::prelude::*;

use crate::batch::Embeddings;
use crate::encoder::Distance;
use crate::suite::attack::RankingPart;

/// First places out of which `gtt` pushes the nearest image.
const RETAINED: usize = 4;

/// The attacked images of one part, as the answering model sees them.
#[derive(Debug, Clone, Copy)]
pub struct Attacked<'a> {
    /// Attacked images, `[n, d]`.
    pub embeddings: &'a Embeddings,
    /// Gallery places that each is about, `[n]`.
    pub targets: &'a [Vec<usize>],
    /// Own place of each in the gallery, `[n]`.
    pub own: &'a [Option<usize>],
    /// Whether the nearest image is of the own class, `[n]`.
    pub hits: &'a [bool],
    /// Distance from the clean embedding, `[n]`.
    pub shifts: &'a [f32],
    /// Clean gallery, `[N, d]`.
    pub gallery: &'a Embeddings,
}

/// The score of every image: percent for ranks, recall and retention, a cosine for `tma`, a distance for `es`.
///
/// # Panics
/// If the lists differ in length.
pub fn scores(part: RankingPart, attacked: &Attacked<'_>) -> Vec<f64> {
    let n = attacked.embeddings.len();
    let lists = [attacked.targets.len(), attacked.own.len(), attacked.hits.len(), attacked.shifts.len()];
    assert!(lists.iter().all(|list| *list == n), "one entry for each image");
    (0..n).into_par_iter().map(|i| score(part, attacked, i)).collect()
}

fn score(part: RankingPart, attacked: &Attacked<'_>, i: usize) -> f64 {
    let (row, gallery, targets) = (attacked.embeddings.row(i), attacked.gallery, &attacked.targets[i]);
    let between = |a: &[f32], b: &[f32]| Distance::Euclidean.between(a, b);
    let mean =
        |of: &dyn Fn(usize) -> f64| targets.iter().map(|&target| of(target)).sum::<f64>() / targets.len().max(1) as f64;
    // Gallery items nearer to `from` than `limit`.
    let nearer = |from: &[f32], limit: f64, without: Option<usize>| {
        (0..gallery.len()).filter(|&g| Some(g) != without && between(from, gallery.row(g)) < limit).count()
    };
    let percent = |count: usize| 100.0 * count as f64 / gallery.len().max(1) as f64;
    match part {
        RankingPart::CandidateRaise | RankingPart::CandidateLower => mean(&|query| {
            let query = gallery.row(query);
            percent(nearer(query, between(query, row), None))
        }),
        RankingPart::QueryRaise | RankingPart::QueryLower => {
            mean(&|candidate| percent(nearer(row, between(row, gallery.row(candidate)), None)))
        }
        RankingPart::TargetedMismatch => mean(&|target| 1.0 - Distance::Cosine.between(row, gallery.row(target))),
        RankingPart::EmbeddingShift => f64::from(attacked.shifts[i]),
        RankingPart::LearningToMisrank | RankingPart::GreedyMisrank => 100.0 * f64::from(u8::from(attacked.hits[i])),
        RankingPart::GreedyTranslocation => mean(&|first| {
            let before = nearer(row, between(row, gallery.row(first)), attacked.own[i]);
            100.0 * f64::from(u8::from(before < RETAINED))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_by_hand() {
        // A gallery on a line at 0, 1, 2, ... 9; the image was item 0 and now lies at 2.4.
        let gallery = Embeddings::new([10, 1], (0..10).map(|i| i as f32).collect()).unwrap();
        let moved = Embeddings::new([1, 1], vec![2.4]).unwrap();
        let of = |part, targets: &[usize]| {
            let attacked = Attacked {
                embeddings: &moved,
                targets: &[targets.to_vec()],
                own: &[Some(0)],
                hits: &[true],
                shifts: &[2.4],
                gallery: &gallery,
            };
            scores(part, &attacked)[0]
        };
        // Nearer to 2.4 than item 5 (2.6 away): 0 (2.4), 1, 2, 3, 4.
        assert_eq!(of(RankingPart::QueryRaise, &[5]), 50.0);
        // Item 2 is the nearest: nobody before it.
        assert_eq!(of(RankingPart::QueryLower, &[5, 2]), 25.0);
        // Nearer to query 4 than the image (1.6 away): 3, 4, 5.
        assert_eq!(of(RankingPart::CandidateRaise, &[4]), 30.0);
        // Before item 5 without the own copy: 1, 2, 3, 4, so it is out of the first four; item 4 has 1, 2, 3 before it.
        assert_eq!(
            (of(RankingPart::GreedyTranslocation, &[5]), of(RankingPart::GreedyTranslocation, &[4])),
            (0.0, 100.0)
        );
        assert_eq!((of(RankingPart::LearningToMisrank, &[]), of(RankingPart::GreedyMisrank, &[3])), (100.0, 100.0));
        assert_eq!(of(RankingPart::TargetedMismatch, &[3]), 1.0);
        assert!((of(RankingPart::EmbeddingShift, &[]) - 2.4).abs() < 1e-6);
    }
}
