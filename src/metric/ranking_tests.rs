//! Ranking metrics against naive definitions and against stored values of other programs.

use super::*;
use crate::batch::Embeddings;
use crate::metric::neighbors::{Depth, Distance, Search, search};
use crate::metric::recall::recall_at_k;
use proptest::prelude::*;

/// Precision of the first `i` items, counted afresh.
fn precision(hits: &[bool], i: usize) -> f64 {
    hits[..i].iter().filter(|hit| **hit).count() as f64 / i as f64
}

proptest! {
    #[test]
    fn equal_the_definitions(hits in prop::collection::vec(any::<bool>(), 1..50), more in 0usize..5, depth in 1usize..60) {
        // A whole ranking: every positive is in the list.
        let found = hits.iter().filter(|hit| **hit).count();
        let r = found + if hits.len() >= found + more { more } else { 0 };
        if r == 0 {
            prop_assert_eq!((precision_at_1(&hits, 0), r_precision(&hits, 0), map_at_r(&hits, 0)), (None, None, None));
            prop_assert_eq!(average_precision(&hits, 0, depth), None);
            prop_assert_eq!(official_average_precision(&hits, 0, depth), None);
        } else {
            let sum = |depth: usize| -> f64 {
                (1..=depth.min(hits.len())).filter(|i| hits[i - 1]).map(|i| precision(&hits, i)).sum()
            };
            prop_assert_eq!(precision_at_1(&hits, r), Some(precision(&hits, 1)));
            prop_assert!((r_precision(&hits, r).unwrap() - precision(&hits, r)).abs() < 1e-12);
            prop_assert!((map_at_r(&hits, r).unwrap() - sum(r) / r as f64).abs() < 1e-12);
            let wanted = sum(depth) / r.min(depth) as f64;
            prop_assert!((average_precision(&hits, r, depth).unwrap() - wanted).abs() < 1e-12);
            let wanted = sum(depth) / (r + 1) as f64;
            prop_assert!((official_average_precision(&hits, r, depth).unwrap() - wanted).abs() < 1e-12);
            // Order within the first R matters to MAP@R alone, so it never exceeds R-precision.
            prop_assert!(map_at_r(&hits, r) <= r_precision(&hits, r));
        }
    }
}

struct Fixture(serde_json::Value);

impl Fixture {
    fn read() -> Self {
        Self(serde_json::from_str(include_str!("../../tests/data/metric/peers.json")).unwrap())
    }

    fn number(&self, pointer: &str) -> f64 {
        self.0.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).as_f64().unwrap()
    }

    fn list(&self, pointer: &str) -> Vec<f64> {
        self.0.pointer(pointer).unwrap().as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    fn labels(&self, pointer: &str) -> Vec<u32> {
        self.list(pointer).into_iter().map(|v| v as u32).collect()
    }

    fn rows(&self, pointer: &str, dim: usize) -> Embeddings {
        let data: Vec<f32> = self.list(pointer).into_iter().map(|v| v as f32).collect();
        Embeddings::new([data.len() / dim, dim], data).unwrap()
    }
}

/// Whole ranked lists of every query: flags, number of positives, rank of the first.
fn ranked(
    (queries, query_labels): (&Embeddings, &[u32]),
    (gallery, gallery_labels): (&Embeddings, &[u32]),
    own: bool,
) -> Vec<(Vec<bool>, usize, u32)> {
    let excluded: Vec<_> = if own { (0..queries.len()).map(Some).collect() } else { vec![] };
    let found = search(Search {
        queries,
        query_labels,
        gallery,
        gallery_labels,
        excluded: &excluded,
        depth: Depth::Fixed(gallery.len()),
        distance: Distance::Euclidean,
    });
    let list = |(found, label): (crate::metric::neighbors::Found, &u32)| {
        let hits: Vec<bool> = found.neighbors.iter().map(|&i| gallery_labels[i as usize] == *label).collect();
        let positives = hits.iter().filter(|hit| **hit).count();
        (hits, positives, found.first_hit)
    };
    found.unwrap().into_iter().zip(query_labels).map(list).collect()
}

fn mean(lists: &[(Vec<bool>, usize, u32)], metric: impl Fn(&[bool], usize, u32) -> Option<f64>) -> f64 {
    let values: Vec<f64> =
        lists.iter().filter_map(|(hits, positives, first)| metric(hits, *positives, *first)).collect();
    values.iter().sum::<f64>() / values.len() as f64
}

fn assert_pml(fixture: &Fixture, lists: &[(Vec<bool>, usize, u32)], key: &str) {
    let equal = |name: &str, ours: f64, tolerance: f64| {
        let theirs = fixture.number(&format!("/{key}/{name}"));
        assert!((ours - theirs).abs() < tolerance, "{key} {name}: ours {ours}, theirs {theirs}");
    };
    // Theirs are means in f32 in part: 1e-6.
    equal("precision_at_1", mean(lists, |h, r, _| precision_at_1(h, r)), 1e-6);
    equal("r_precision", mean(lists, |h, r, _| r_precision(h, r)), 1e-6);
    equal("mean_average_precision_at_r", mean(lists, |h, r, _| map_at_r(h, r)), 1e-6);
    equal("mean_average_precision", mean(lists, |h, r, _| average_precision(h, r, usize::MAX)), 1e-6);
    equal("mean_reciprocal_rank", mean(lists, |_, _, first| reciprocal_rank(first)), 1e-6);
}

#[test]
fn equal_pytorch_metric_learning() {
    let fixture = Fixture::read();
    let (rows, labels) = (fixture.rows("/rows", 16), fixture.labels("/labels"));
    assert_pml(&fixture, &ranked((&rows, &labels), (&rows, &labels), true), "pml");
    // In-shop style: queries that are not in the gallery.
    let (queries, asked) = (fixture.rows("/queries", 16), fixture.labels("/query_labels"));
    assert_pml(&fixture, &ranked((&queries, &asked), (&rows, &labels), false), "pml_query_gallery");
}

#[test]
fn equal_the_official_code_under_its_own_definitions() {
    let fixture = Fixture::read();
    let (rows, labels) = (fixture.rows("/rows", 16), fixture.labels("/labels"));
    let lists = ranked((&rows, &labels), (&rows, &labels), true);
    let official = |depth: &dyn Fn(usize) -> usize| {
        mean(&lists, |hits, positives, _| official_average_precision(hits, positives, depth(positives)))
    };
    for (name, ours) in [
        ("map_c", official(&|positives| positives + 1)),
        ("map_1000", official(&|_| 1000)),
        ("map_lim", official(&|_| 1023.min(labels.len()))),
    ] {
        let theirs = fixture.number(&format!("/official/{name}"));
        assert!((ours - theirs).abs() < 1e-9, "{name}: ours {ours}, theirs {theirs}");
    }
    let ranks: Vec<u32> = lists.iter().map(|list| list.2).collect();
    for (k, theirs) in [1, 2, 4].into_iter().zip(fixture.list("/official/recall")) {
        approx::assert_abs_diff_eq!(recall_at_k(&ranks, k).unwrap().share, theirs, epsilon = 1e-12);
    }
}

#[test]
fn dropping_the_first_neighbour_drops_the_wrong_one_among_duplicates() {
    // Twenty pairs of equal rows, the two of a pair from different classes. Whoever drops the first neighbour as
    // "itself" leaves half of the queries in their own lists and counts them as right. Nobody is: the nearest other row
    // of each query is its twin, at distance 0, of another class.
    let fixture = Fixture::read();
    let (rows, labels) = (fixture.rows("/twins/rows", 8), fixture.labels("/twins/labels"));
    let lists = ranked((&rows, &labels), (&rows, &labels), true);
    assert_eq!(mean(&lists, |h, r, _| precision_at_1(h, r)), 0.0);
    // The official code's way says 50 %; pytorch-metric-learning 2.9 excludes by index as we do and says 0.
    assert_eq!(fixture.number("/twins/official/recall/0"), 0.5);
    assert_eq!(fixture.number("/twins/pml/precision_at_1"), 0.0);
}

#[test]
#[should_panic(expected = "needs the first 3 items, got 2")]
fn a_list_that_is_too_short_is_a_mistake_of_the_caller() {
    map_at_r(&[true, true], 3);
}
