//! Which images an attack aims at: drawn per query, the same for every model.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::rng;

/// Why targets cannot be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// More targets wanted than there are other identities.
    #[error(
        "image {image}: the attack wants {wanted} targets of distinct other identities, the gallery has {available}; lower `targets`"
    )]
    TooFew {
        /// Index in the data set.
        image: usize,
        /// Targets wanted.
        wanted: usize,
        /// Other identities in the gallery.
        available: usize,
    },
}

/// Gallery images by identity.
#[derive(Debug, Clone)]
pub struct TargetPool {
    /// Positions in the gallery, sorted by identity.
    order: Vec<usize>,
    ranges: BTreeMap<u32, Range<usize>>,
}

impl TargetPool {
    /// Groups a gallery, given the identity at each of its positions.
    pub fn new(gallery_labels: &[u32]) -> Self {
        let mut order: Vec<usize> = (0..gallery_labels.len()).collect();
        order.sort_by_key(|&i| (gallery_labels[i], i));
        let mut ranges = BTreeMap::new();
        let mut start = 0;
        for group in order.chunk_by(|&a, &b| gallery_labels[a] == gallery_labels[b]) {
            ranges.insert(gallery_labels[group[0]], start..start + group.len());
            start += group.len();
        }
        Self { order, ranges }
    }

    /// Gallery positions of an identity, ascending.
    pub fn members(&self, label: u32) -> impl Iterator<Item = usize> {
        self.ranges.get(&label).map_or(&[][..], |range| &self.order[range.clone()]).iter().copied()
    }

    /// Draws `count` gallery positions of distinct identities, none of them `label`: each uniform over the images that
    /// remain.
    ///
    /// The draw depends on `seed`, `attack` and `image` (the query's data-set index) alone.
    ///
    /// # Errors
    /// [`TargetError::TooFew`] if there are fewer other identities than `count`.
    pub fn draw(
        &self,
        seed: u64,
        attack: &str,
        image: usize,
        label: u32,
        count: usize,
    ) -> Result<Vec<usize>, TargetError> {
        let available = self.ranges.len() - usize::from(self.ranges.contains_key(&label));
        if count > available {
            return Err(TargetError::TooFew { image, wanted: count, available });
        }
        let mut stream = rng::stream(seed, &format!("target/{attack}"), &[image as u64]);
        let mut closed: Vec<Range<usize>> = self.ranges.get(&label).cloned().into_iter().collect();
        let mut targets = Vec::with_capacity(count);
        for _ in 0..count {
            let open = self.order.len() - closed.iter().map(ExactSizeIterator::len).sum::<usize>();
            let mut place = rng::below(&mut stream, open as u64) as usize;
            for range in &closed {
                if range.start <= place {
                    place += range.len();
                }
            }
            targets.push(self.order[place]);
            let found = self.ranges.values().find(|range| range.contains(&place));
            closed.push(found.expect("every position lies in one identity's range").clone());
            closed.sort_by_key(|range| range.start);
        }
        Ok(targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn targets_are_of_distinct_other_identities(
            labels in prop::collection::vec(0u32..6, 1..40), own in 0u32..7, seed in any::<u64>(), count in 0usize..7,
        ) {
            let pool = TargetPool::new(&labels);
            let others: std::collections::BTreeSet<u32> = labels.iter().copied().filter(|&l| l != own).collect();
            match pool.draw(seed, "a", 3, own, count) {
                Err(TargetError::TooFew { wanted, available, .. }) => {
                    prop_assert!(wanted > available && available == others.len());
                }
                Ok(targets) => {
                    let drawn: std::collections::BTreeSet<u32> = targets.iter().map(|&t| labels[t]).collect();
                    prop_assert_eq!(drawn.len(), count);
                    prop_assert!(!drawn.contains(&own));
                }
            }
        }
    }

    #[test]
    fn draws_are_uniform_over_images_and_named() {
        // Identity 0 asks; identity 1 has one image, identity 2 three: each of the four a quarter of the draws.
        let pool = TargetPool::new(&[0, 1, 2, 2, 2, 0]);
        let mut seen = [0u32; 6];
        for image in 0..8000 {
            seen[pool.draw(1, "a", image, 0, 1).unwrap()[0]] += 1;
        }
        assert_eq!((seen[0], seen[5]), (0, 0));
        // 8,000 draws at a quarter: sd 39.
        assert!(seen[1..5].iter().all(|&n| (1840..2160).contains(&n)), "{seen:?}");
        let list = |seed, attack| (0..50).map(|i| pool.draw(seed, attack, i, 0, 1).unwrap()).collect::<Vec<_>>();
        assert_eq!(list(1, "a"), list(1, "a"));
        assert_ne!(list(1, "a"), list(2, "a"));
        assert_ne!(list(1, "a"), list(1, "b"));
        let message = pool.draw(1, "a", 7, 0, 3).unwrap_err().to_string();
        assert!(message.contains("image 7") && message.contains("3 targets") && message.contains("has 2"), "{message}");
    }
}
