//! Picture stories for the report: queries whose answer an attack changed, the worst, the median, and those that held.

use std::collections::BTreeMap;

use crate::dataset::ImageSet;
use crate::record::{GalleryItem, QueryOutcome, Thumbnail};

/// Adversarial pixels after rounding to 8 bits (`[3, size, size]`) by data-set index.
pub type AdversarialBytes = BTreeMap<usize, Vec<u8>>;

/// Neighbours shown per query.
const SHOWN: usize = 5;

/// A query clean, attacked, and its attacked pixels.
type Candidate<'a> = (&'a QueryOutcome, &'a QueryOutcome, &'a Vec<u8>);

/// Builds at most `wanted` stories of one trial out of the queries whose adversarial pixels were kept.
///
/// First a query that was right and is wrong now, then the one thrown furthest back, then the one in the middle of all
/// ranks, then other flipped ones and at last those that held; the lowest index first among equals.
pub fn stories(
    images: &ImageSet,
    model: &str,
    attack: &str,
    clean: &[QueryOutcome],
    attacked: &[QueryOutcome],
    kept: &AdversarialBytes,
    wanted: usize,
) -> Vec<GalleryItem> {
    let clean: BTreeMap<u32, &QueryOutcome> = clean.iter().map(|o| (o.query, o)).collect();
    let candidates: Vec<Candidate<'_>> = attacked
        .iter()
        .filter_map(|after| Some((*clean.get(&after.query)?, after, kept.get(&(after.query as usize))?)))
        .collect();
    let ranks: Vec<(bool, u32)> = candidates.iter().map(|(b, a, _)| (b.first_hit == 1, a.first_hit)).collect();
    let told = choose(&ranks, wanted).into_iter();
    told.map(|(at, kind)| story(images, (model, attack, kind), candidates[at])).collect()
}

/// Which of some queries to tell of, and why. `ranks`: whether each was right before, and its first hit after.
fn choose(ranks: &[(bool, u32)], wanted: usize) -> Vec<(usize, &'static str)> {
    let mut order: Vec<usize> = (0..ranks.len()).filter(|at| ranks[*at].1 > 0).collect();
    let flipped = |at: usize| ranks[at].0 && ranks[at].1 > 1;
    let mut told: Vec<(usize, &'static str)> = Vec::new();
    let first = order.iter().copied().find(|at| flipped(*at)).map(|at| (at, "flipped"));
    order.sort_by_key(|at| (ranks[*at].1, std::cmp::Reverse(*at)));
    let worst = order.last().map(|at| (*at, "worst"));
    let median = order.get(order.len() / 2).map(|at| (*at, "median"));
    let mut rest: Vec<(usize, &'static str)> = order
        .iter()
        .map(|at| {
            (
                *at,
                if flipped(*at) {
                    "flipped"
                } else if ranks[*at].1 == 1 {
                    "held"
                } else {
                    ""
                },
            )
        })
        .collect();
    rest.sort_by_key(|(at, _)| (!flipped(*at), *at));
    for candidate in first.into_iter().chain(worst).chain(median).chain(rest) {
        if told.len() < wanted && told.iter().all(|(at, _)| *at != candidate.0) {
            told.push(candidate);
        }
    }
    told
}

fn story(
    images: &ImageSet,
    (model, attack, kind): (&str, &str, &str),
    (before, after, pixels): Candidate<'_>,
) -> GalleryItem {
    let query = after.query as usize;
    let (perturbation, magnification) = magnify(images.bytes(query), pixels);
    let own = |pixels: Vec<u8>| Thumbnail { pixels, ..thumbnail(images, query, after.label) };
    GalleryItem {
        trial: after.trial.clone(),
        model: model.into(),
        attack: attack.into(),
        kind: kind.into(),
        size: images.size as u32,
        clean: thumbnail(images, query, after.label),
        adversarial: own(pixels.clone()),
        perturbation: own(perturbation),
        magnification,
        clean_neighbors: neighbours(images, before),
        adversarial_neighbors: neighbours(images, after),
        targets: after.targets.iter().map(|&t| thumbnail(images, t as usize, after.label)).collect(),
    }
}

fn neighbours(images: &ImageSet, outcome: &QueryOutcome) -> Vec<Thumbnail> {
    outcome.neighbors.iter().take(SHOWN).map(|&i| thumbnail(images, i as usize, outcome.label)).collect()
}

/// The picture at `index`, which the images must have, beside a query of class `query_label`.
pub(super) fn thumbnail(images: &ImageSet, index: usize, query_label: u32) -> Thumbnail {
    let label = images.labels[index];
    Thumbnail {
        index: index as u32,
        class: images.classes.get(label as usize).cloned().unwrap_or_default(),
        same_class: label == query_label,
        pixels: images.bytes(index).to_vec(),
    }
}

/// The difference around mid-grey, magnified by the largest power of two that clips nothing.
fn magnify(clean: &[u8], adversarial: &[u8]) -> (Vec<u8>, u32) {
    let largest = clean.iter().zip(adversarial).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
    let mut factor = 1i32;
    while largest > 0 && i32::from(largest) * factor * 2 <= 127 {
        factor *= 2;
    }
    let picture = clean
        .iter()
        .zip(adversarial)
        .map(|(a, b)| (128 + (i32::from(*b) - i32::from(*a)) * factor).clamp(0, 255) as u8)
        .collect();
    (picture, factor as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flipped_worst_and_median_come_first() {
        // Query 0 held, 1 was wrong before, 2 and 4 flipped, 3 has no answer.
        let ranks = [(true, 1), (false, 9), (true, 3), (true, 0), (true, 5)];
        let told = choose(&ranks, 4);
        assert_eq!(told, [(2, "flipped"), (1, "worst"), (4, "median"), (0, "held")]);
        assert_eq!(choose(&ranks, 1), [(2, "flipped")]);
        assert_eq!(choose(&[(true, 1)], 3), [(0, "worst")]);
        assert!(choose(&[], 3).is_empty() && choose(&ranks, 0).is_empty());
    }

    #[test]
    fn the_perturbation_is_magnified_without_clipping() {
        let (picture, factor) = magnify(&[10, 20, 30], &[18, 20, 22]);
        assert_eq!((picture, factor), (vec![128 + 64, 128, 128 - 64], 8));
        assert_eq!(magnify(&[5], &[5]), (vec![128], 1));
        assert_eq!(magnify(&[0], &[255]).0, vec![255]);
    }
}
