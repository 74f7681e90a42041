//! Which classes train, validate and test. A class is in exactly one part.

use std::collections::BTreeSet;

use super::Split;
use crate::digest::Digest;

/// The share of `[0, 1)` that a class name falls on, the same on every machine: the first 13 hex digits (52 bits) of
/// the SHA-256 of `purpose`, a zero byte and the name.
pub fn position(purpose: &str, name: &str) -> f64 {
    let digest = Digest::of_bytes(&[purpose.as_bytes(), &[0], name.as_bytes()].concat());
    let bits = u64::from_str_radix(&digest.as_str()[..13], 16).unwrap_or(0);
    bits as f64 / (1u64 << 52) as f64
}

/// Test classes by hash: those whose [`position`] is below `share`.
pub fn by_hash(classes: &[String], share: f64) -> BTreeSet<usize> {
    (0..classes.len()).filter(|&c| position("test", &classes[c]) < share).collect()
}

/// Test classes by order: all but the first `train` share (rounded down).
pub fn by_order(classes: &[String], train: f64) -> BTreeSet<usize> {
    let kept = (classes.len() as f64 * train).floor() as usize;
    (kept..classes.len()).collect()
}

/// Image lists from the set of test classes. Of the other classes, the `validation` share with the lowest [`position`]
/// is kept back: exactly `round(share × classes)`, at least one as soon as the share is above 0 and two can train.
pub fn split(classes: &[String], labels: &[u32], test: &BTreeSet<usize>, validation: f64) -> Split {
    let mut training: Vec<usize> = (0..classes.len()).filter(|c| !test.contains(c)).collect();
    let wanted = (training.len() as f64 * validation).round() as usize;
    let wanted = if validation > 0.0 && training.len() >= 3 { wanted.max(1) } else { wanted };
    // In [0, 1), so that the order of the bits is the order of the numbers. Cached: a hash per class, not per comparison.
    training.sort_by_cached_key(|&c| (position("validation", &classes[c]).to_bits(), c));
    let kept_back: BTreeSet<usize> = training.into_iter().take(wanted).collect();
    let mut parts = Split::default();
    for (i, &label) in labels.iter().enumerate() {
        let class = label as usize;
        if test.contains(&class) {
            parts.test.push(i);
        } else if kept_back.contains(&class) {
            parts.validation.push(i);
        } else {
            parts.train.push(i);
        }
    }
    parts
}

/// Few-shot training: of each class the `share` of its images with the lowest [`position`], at least one.
///
/// # Source
/// Supplement of arXiv:2211.16253: samples are dropped uniformly per class, 0.25, 0.5 or 0.75 of them stay.
pub fn few_shot(train: &[usize], labels: &[u32], sources: &[String], share: f64) -> Vec<usize> {
    let mut by_class: std::collections::BTreeMap<u32, Vec<usize>> = Default::default();
    train.iter().for_each(|&i| by_class.entry(labels[i]).or_default().push(i));
    let mut kept = Vec::new();
    for (_, mut members) in by_class {
        let wanted = ((members.len() as f64 * share).round() as usize).max(1);
        members.sort_by_cached_key(|&i| (position("few-shot", &sources[i]).to_bits(), i));
        kept.extend_from_slice(&members[..wanted.min(members.len())]);
    }
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("class-{i}")).collect()
    }

    #[test]
    fn parts_are_disjoint_by_class_and_cover_everything() {
        let classes = names(200);
        let labels: Vec<u32> = (0..1000).map(|i| (i * 7 % 200) as u32).collect();
        let parts = split(&classes, &labels, &by_hash(&classes, 0.5), 0.1);
        let classes_of = |part: &[usize]| part.iter().map(|&i| labels[i]).collect::<BTreeSet<_>>();
        let (a, b, c) = (classes_of(&parts.train), classes_of(&parts.validation), classes_of(&parts.test));
        assert!(a.is_disjoint(&b) && a.is_disjoint(&c) && b.is_disjoint(&c));
        assert_eq!(parts.train.len() + parts.validation.len() + parts.test.len(), 1000);
        assert!((70..130).contains(&c.len()), "{} test classes of 200", c.len());
        assert_eq!(b.len(), ((200 - c.len()) as f64 * 0.1).round() as usize);
    }

    #[test]
    fn adding_a_class_moves_no_other_between_train_and_test() {
        let few = by_hash(&names(50), 0.5);
        let many = by_hash(&names(60), 0.5);
        assert_eq!(few, many.into_iter().filter(|&c| c < 50).collect());
    }

    #[test]
    fn few_shots_are_nested_and_every_class_stays() {
        let labels: Vec<u32> = (0..120).map(|i| i % 7).collect();
        let sources: Vec<String> = (0..120).map(|i| format!("{i}.jpg")).collect();
        let train: Vec<usize> = (0..110).collect();
        let (quarter, half) = (few_shot(&train, &labels, &sources, 0.25), few_shot(&train, &labels, &sources, 0.5));
        assert!(quarter.iter().all(|i| half.contains(i)));
        assert!((25..=30).contains(&quarter.len()) && (52..=58).contains(&half.len()));
        assert_eq!(few_shot(&train, &labels, &sources, 1.0), train);
        let fewest = few_shot(&train, &labels, &sources, 1e-9);
        assert_eq!(fewest.iter().map(|&i| labels[i]).collect::<BTreeSet<_>>().len(), 7);
    }

    #[test]
    fn the_first_half_is_rounded_down() {
        assert_eq!(by_order(&names(5), 0.5), BTreeSet::from([2, 3, 4]));
        assert_eq!(by_order(&names(3), 0.0), BTreeSet::from([0, 1, 2]));
    }
}
