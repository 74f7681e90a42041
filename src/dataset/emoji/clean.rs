//! What is left of the drawings once copies and small classes are gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::digest::Digest;

/// A class needs this many drawings.
const FEWEST: usize = 4;

/// One drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawing {
    /// Its emoji.
    pub class: String,
    /// `artist/icon-name`.
    pub source: String,
    /// `[3, size, size]` bytes.
    pub pixels: Vec<u8>,
}

/// Drops pictures that appear, pixel for pixel, in more than one class (every copy), then repeats inside a class (the
/// first stays), then classes with fewer than four drawings.
///
/// Returns the class names, sorted, and the drawings with their label, in order of class and of appearance.
pub fn clean(drawings: Vec<Drawing>) -> (Vec<String>, Vec<(u32, Drawing)>) {
    let digests: Vec<Digest> = drawings.iter().map(|drawing| Digest::of_bytes(&drawing.pixels)).collect();
    let mut owners: HashMap<&Digest, BTreeSet<&str>> = HashMap::new();
    for (digest, drawing) in digests.iter().zip(&drawings) {
        owners.entry(digest).or_default().insert(&drawing.class);
    }
    let mut seen = BTreeSet::new();
    let keep: Vec<bool> = digests.iter().map(|digest| owners[digest].len() == 1 && seen.insert(digest)).collect();
    let mut by_class: BTreeMap<String, Vec<Drawing>> = BTreeMap::new();
    for (drawing, keep) in drawings.into_iter().zip(keep) {
        if keep {
            by_class.entry(drawing.class.clone()).or_default().push(drawing);
        }
    }
    by_class.retain(|_, drawings| drawings.len() >= FEWEST);
    let classes = by_class.keys().cloned().collect();
    let kept = by_class
        .into_values()
        .enumerate()
        .flat_map(|(label, drawings)| drawings.into_iter().map(move |drawing| (label as u32, drawing)))
        .collect();
    (classes, kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing(class: &str, source: &str, value: u8) -> Drawing {
        Drawing { class: class.into(), source: source.into(), pixels: vec![value; 3] }
    }

    #[test]
    fn copies_across_classes_repeats_and_small_classes_go() {
        let mut all: Vec<Drawing> = (0..5).map(|i| drawing("b", &format!("b{i}"), i)).collect();
        all.push(drawing("b", "again", 0)); // a repeat of b0
        all.push(drawing("a", "shared", 4)); // the same picture as b4: both go
        all.extend((10..13).map(|i| drawing("a", "a", i))); // only three left
        let (classes, kept) = clean(all);
        assert_eq!(classes, ["b"]);
        let sources: Vec<&str> = kept.iter().map(|(_, d)| d.source.as_str()).collect();
        assert_eq!(sources, ["b0", "b1", "b2", "b3"]);
    }
}
