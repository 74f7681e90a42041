//! Which test images are queries: all, or a seeded sample that is the same for every model and attack.

use crate::dataset::ImageSet;
use crate::rng;

/// The queries of a run and how many there could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queries {
    /// Indices into the image set, ascending.
    pub chosen: Vec<usize>,
    /// Test images that have a same-class partner, and so an answer to be found.
    pub available: usize,
}

/// Chooses at most `wanted` queries among the test images that have a same-class partner.
///
/// The sample is stratified: classes are visited in a random order, one image of each per round, so that few queries
/// cover many classes.
pub fn choose(images: &ImageSet, wanted: Option<usize>, seed: u64) -> Queries {
    let mut by_class: std::collections::BTreeMap<u32, Vec<usize>> = Default::default();
    let apart = !images.split.queries.is_empty();
    for &i in if apart { &images.split.queries } else { &images.split.test } {
        by_class.entry(images.labels[i]).or_default().push(i);
    }
    // A query of a set whose gallery is apart needs one partner there; any other needs one besides itself.
    let partners = by_class_size(images);
    let needed = if apart { 1 } else { 2 };
    by_class.retain(|class, _| partners.get(class).is_some_and(|&n| n >= needed));
    let available = by_class.values().map(Vec::len).sum();
    let Some(wanted) = wanted.filter(|&wanted| wanted < available) else {
        let mut chosen: Vec<usize> = by_class.into_values().flatten().collect();
        chosen.sort_unstable();
        return Queries { chosen, available };
    };
    let mut classes: Vec<(u32, Vec<usize>)> = by_class.into_iter().collect();
    rng::shuffle(&mut rng::stream(seed, "query-classes", &[]), &mut classes);
    for (class, members) in &mut classes {
        rng::shuffle(&mut rng::stream(seed, "query-images", &[u64::from(*class)]), members);
    }
    let mut chosen = Vec::with_capacity(wanted);
    for round in 0.. {
        for (_, members) in &classes {
            if chosen.len() < wanted
                && let Some(&image) = members.get(round)
            {
                chosen.push(image);
            }
        }
        if chosen.len() == wanted {
            break;
        }
    }
    chosen.sort_unstable();
    Queries { chosen, available }
}

/// Images of each class in the gallery.
fn by_class_size(images: &ImageSet) -> std::collections::BTreeMap<u32, usize> {
    let mut sizes = std::collections::BTreeMap::new();
    images.split.test.iter().for_each(|&i| *sizes.entry(images.labels[i]).or_insert(0) += 1);
    sizes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dataset::{Pixels, Split};
    use crate::digest::Digest;

    /// Classes 0, 1, 2 with 4 test images each, class 3 with a single one.
    fn images() -> ImageSet {
        let labels = vec![0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3];
        ImageSet {
            id: "test".into(),
            originals: crate::dataset::Originals::default(),
            size: 1,
            pixels: Pixels::Owned(Arc::new(vec![0; labels.len() * 3])),
            classes: (0..4).map(|c| c.to_string()).collect(),
            sources: labels.iter().map(ToString::to_string).collect(),
            split: Split { test: (0..labels.len()).collect(), ..Split::default() },
            labels,
            digest: Digest::of_bytes(b""),
        }
    }

    #[test]
    fn an_image_without_partner_is_no_query() {
        let queries = choose(&images(), None, 0);
        assert_eq!(queries, Queries { chosen: (0..12).collect(), available: 12 });
    }

    #[test]
    fn a_sample_covers_the_classes_and_depends_on_the_seed_alone() {
        let first = choose(&images(), Some(3), 5);
        assert_eq!(first, choose(&images(), Some(3), 5));
        let classes: std::collections::BTreeSet<u32> = first.chosen.iter().map(|&i| images().labels[i]).collect();
        assert_eq!(classes.len(), 3);
        assert!((0..20).any(|seed| choose(&images(), Some(3), seed) != first));
    }

    #[test]
    fn the_interval_of_a_sample_covers_the_value_of_all_queries() {
        // Sixty classes of eight images; how often a class is found differs from class to class.
        let labels: Vec<u32> = (0..480).map(|i| i / 8).collect();
        let mut stream = rng::stream(3, "hits", &[]);
        let rates: Vec<f32> = (0..60).map(|_| rng::unit(&mut stream)).collect();
        let hits: Vec<f64> =
            labels.iter().map(|&label| f64::from(u8::from(rng::unit(&mut stream) < rates[label as usize]))).collect();
        let set = ImageSet {
            pixels: Pixels::Owned(Arc::new(vec![0; labels.len() * 3])),
            classes: (0..60).map(|c| c.to_string()).collect(),
            sources: vec![String::new(); labels.len()],
            split: Split { test: (0..labels.len()).collect(), ..Split::default() },
            labels,
            ..images()
        };
        let all = hits.iter().sum::<f64>() / hits.len() as f64;
        let covers = |seed: &u64| {
            let chosen = choose(&set, Some(120), *seed).chosen;
            let values: Vec<f64> = chosen.iter().map(|&i| hits[i]).collect();
            let estimate = crate::score::mean(&values, &set.labels_of(&chosen), (0.0, 1.0), *seed).unwrap();
            assert!(estimate.high - estimate.low < 0.3, "{estimate:?}");
            (estimate.low..=estimate.high).contains(&all)
        };
        let covered = (0..40).filter(covers).count();
        assert!(covered >= 36, "{covered} of 40 intervals of 95 % hold the value of all queries");
    }
}
