//! Two models trained with the same seeds: a difference counts if every seed shows it by itself. The same queries answer for
//! every seed and must not be counted twice.

use super::compare::SIGNIFICANCE;
use super::outcome::{self, Outcome};
use crate::record::QueryOutcome;
use crate::stats::holm;

/// Outcomes of the same queries in the same order, by two models of one seed.
pub type Answers<'a> = (&'a [&'a QueryOutcome], &'a [&'a QueryOutcome]);

/// recall@1 of two models under one condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OverSeeds {
    /// Seeds compared.
    pub seeds: usize,
    /// Largest two-sided exact McNemar p-value over the seeds.
    pub p_value: f64,
    /// The same after Holm's correction over all conditions.
    pub p_adjusted: f64,
    /// Whether all seeds point the same way and the corrected p-value is below [`SIGNIFICANCE`].
    pub supported: bool,
}

/// Compares two models under several conditions: for each condition one pair of answers a seed. Seeds without a query, or
/// with other queries, are left out; `None` if none is left.
pub fn over_seeds(conditions: &[Vec<Answers<'_>>]) -> Vec<Option<OverSeeds>> {
    let tested: Vec<_> = conditions.iter().map(|seeds| seeds.iter().filter_map(test).collect::<Vec<_>>()).collect();
    let largest = |found: &Vec<outcome::Tested>| found.iter().map(|t| t.two_sided()).reduce(f64::max);
    // Not tested is not corrected for.
    let p_values: Vec<f64> = tested.iter().map(|found| largest(found).unwrap_or(f64::NAN)).collect();
    let adjusted = holm::adjusted(&p_values);
    let of = |((found, p_value), p_adjusted): ((Vec<outcome::Tested>, f64), f64)| {
        let one_way = found.iter().all(|t| t.only.0 > t.only.1) || found.iter().all(|t| t.only.1 > t.only.0);
        let supported = one_way && p_adjusted < SIGNIFICANCE;
        (!found.is_empty()).then_some(OverSeeds { seeds: found.len(), p_value, p_adjusted, supported })
    };
    tested.into_iter().zip(p_values).zip(adjusted).map(of).collect()
}

fn test((a, b): &Answers<'_>) -> Option<outcome::Tested> {
    if a.is_empty() || !a.iter().map(|q| q.query).eq(b.iter().map(|q| q.query)) {
        return None;
    }
    let hit = |q: &QueryOutcome| Outcome::HitWithin(1).value(q);
    let (mut first, mut second, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for (x, y) in a.iter().zip(*b) {
        if let Some((x_hit, y_hit)) = hit(x).zip(hit(y)) {
            first.push(x_hit);
            second.push(y_hit);
            classes.push(x.label);
        }
    }
    (!first.is_empty()).then(|| outcome::test(&first, &second, &classes, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(hits: &[u32]) -> Vec<QueryOutcome> {
        let outcome = |(query, &first_hit): (usize, &u32)| QueryOutcome {
            query: query as u32,
            label: query as u32 / 2,
            first_hit,
            ..QueryOutcome::default()
        };
        hits.iter().enumerate().map(outcome).collect()
    }

    /// A pair in which B alone hits the first `gained` of 40 queries, A alone the next `lost`.
    fn pair(gained: usize, lost: usize) -> (Vec<QueryOutcome>, Vec<QueryOutcome>) {
        let ranks = |hit: std::ops::Range<usize>| (0..40).map(|q| if hit.contains(&q) { 1 } else { 3 }).collect();
        let (a, b): (Vec<u32>, Vec<u32>) = (ranks(gained..gained + lost), ranks(0..gained));
        (answers(&a), answers(&b))
    }

    fn compared(conditions: &[&[(usize, usize)]]) -> Vec<Option<OverSeeds>> {
        let made: Vec<Vec<_>> = conditions.iter().map(|c| c.iter().map(|&(g, l)| pair(g, l)).collect()).collect();
        let lists: Vec<Vec<(Vec<&QueryOutcome>, Vec<&QueryOutcome>)>> =
            made.iter().map(|c| c.iter().map(|(a, b)| (a.iter().collect(), b.iter().collect())).collect()).collect();
        let borrowed: Vec<Vec<Answers<'_>>> =
            lists.iter().map(|c| c.iter().map(|(a, b)| (a.as_slice(), b.as_slice())).collect()).collect();
        over_seeds(&borrowed)
    }

    #[test]
    fn each_seed_must_show_it_the_same_way() {
        // 2 · (1 + 9) / 2^9 for one lost of nine.
        let alone = compared(&[&[(8, 1)]])[0].unwrap();
        assert!((alone.p_value - 20.0 / 512.0).abs() < 1e-12 && alone.supported, "{alone:?}");
        let two = compared(&[&[(8, 1), (9, 0)]])[0].unwrap();
        assert_eq!((two.seeds, two.p_value, two.supported), (2, alone.p_value, true));
        assert!(!compared(&[&[(8, 1), (1, 8)]])[0].unwrap().supported, "seeds that disagree");
        assert!(!compared(&[&[(8, 1), (2, 2)]])[0].unwrap().supported, "one seed that shows nothing");
    }

    #[test]
    fn several_conditions_are_corrected_and_what_is_not_tested_is_no_condition() {
        // Of two conditions the smaller p is doubled: 2 · 20/512 > 5 %. An untested one costs nothing.
        let found = compared(&[&[(8, 1)], &[(3, 3)]]);
        let first = found[0].unwrap();
        assert!((first.p_adjusted - 40.0 / 512.0).abs() < 1e-12 && !first.supported, "{first:?}");
        let found = compared(&[&[(8, 1)], &[]]);
        assert!(found[0].unwrap().supported && found[1].is_none());
    }

    #[test]
    fn a_model_is_never_called_different_from_itself() {
        let same = compared(&[&[(0, 0)]])[0].unwrap();
        assert_eq!((same.p_value, same.supported), (1.0, false));
    }

    #[test]
    fn other_queries_are_not_compared() {
        let (a, mut b) = pair(8, 1);
        b[3].query = 99;
        let (a, b): (Vec<&QueryOutcome>, Vec<&QueryOutcome>) = (a.iter().collect(), b.iter().collect());
        assert_eq!(over_seeds(&[vec![(a.as_slice(), b.as_slice())]]), [None]);
    }
}
