//! Picture stories for the report: queries whose answer an attack changed first, then those that held.

use std::collections::BTreeMap;

use crate::dataset::ImageSet;
use crate::record::{GalleryItem, QueryOutcome, Thumbnail};

/// Adversarial pixels after rounding to 8 bits (`[3, size, size]`) by data-set index.
pub type AdversarialBytes = BTreeMap<usize, Vec<u8>>;

/// Neighbours shown per query.
const SHOWN: usize = 5;

/// Builds at most `wanted` stories of one trial out of the queries whose adversarial pixels were kept.
///
/// Queries that were right when clean and are wrong under attack come first, in index order.
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
    let mut candidates: Vec<(&QueryOutcome, &QueryOutcome, &Vec<u8>)> = attacked
        .iter()
        .filter_map(|after| Some((*clean.get(&after.query)?, after, kept.get(&(after.query as usize))?)))
        .collect();
    candidates.sort_by_key(|(before, after, _)| (!(before.first_hit == 1 && after.first_hit != 1), after.query));
    candidates
        .into_iter()
        .take(wanted)
        .map(|(before, after, pixels)| {
            let query = after.query as usize;
            let (perturbation, magnification) = magnify(images.bytes(query), pixels);
            let own = |pixels: Vec<u8>| Thumbnail { pixels, ..thumbnail(images, query, after.label) };
            GalleryItem {
                trial: after.trial.clone(),
                model: model.into(),
                attack: attack.into(),
                size: images.size as u32,
                clean: thumbnail(images, query, after.label),
                adversarial: own(pixels.clone()),
                perturbation: own(perturbation),
                magnification,
                clean_neighbors: neighbours(images, before),
                adversarial_neighbors: neighbours(images, after),
                targets: after.targets.iter().map(|&t| thumbnail(images, t as usize, after.label)).collect(),
            }
        })
        .collect()
}

fn neighbours(images: &ImageSet, outcome: &QueryOutcome) -> Vec<Thumbnail> {
    outcome.neighbors.iter().take(SHOWN).map(|&i| thumbnail(images, i as usize, outcome.label)).collect()
}

fn thumbnail(images: &ImageSet, index: usize, query_label: u32) -> Thumbnail {
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
    fn the_perturbation_is_magnified_without_clipping() {
        let (picture, factor) = magnify(&[10, 20, 30], &[18, 20, 22]);
        assert_eq!((picture, factor), (vec![128 + 64, 128, 128 - 64], 8));
        assert_eq!(magnify(&[5], &[5]), (vec![128], 1));
        assert_eq!(magnify(&[0], &[255]).0, vec![255]);
    }
}
