//! Ties, duplicates, degenerate sets and sizes, directions: against the full sort.

use super::*;

fn own(n: usize) -> Vec<Option<usize>> {
    (0..n).map(Some).collect()
}

/// A search of a set in itself.
fn within<'a>(rows: &'a Embeddings, labels: &'a [u32], excluded: &'a [Option<usize>], depth: usize) -> Search<'a> {
    Search {
        queries: rows,
        query_labels: labels,
        gallery: rows,
        gallery_labels: labels,
        excluded,
        depth: Depth::Fixed(depth),
        distance: Distance::Euclidean,
    }
}

proptest! {
    #[test]
    fn equal_rows_a_depth_for_each_query_and_any_exclusion(
        kinds in prop::collection::vec(0usize..5, 120), labels in prop::collection::vec(0u32..3, 120),
        depths in prop::collection::vec(0usize..50, 120), excluded in prop::collection::vec(prop::option::of(0usize..120), 120),
        some in 1usize..120, mutual: bool,
    ) {
        let distinct = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-0.0, 3.0], [1.0, 1.0]];
        let rows = embeddings(120, 2, kinds.iter().flat_map(|&kind| distinct[kind]).collect());
        let first = rows.select(&(0..some).collect::<Vec<_>>());
        let n = if mutual { 120 } else { some };
        let search = Search {
            queries: if mutual { &rows } else { &first }, query_labels: &labels[..n], gallery: &rows,
            gallery_labels: &labels, excluded: &excluded[..n], depth: Depth::PerQuery(&depths[..n]),
            distance: Distance::Euclidean,
        };
        let wanted = naive(&search);
        for layout in layouts(1, 4) {
            prop_assert_eq!(&search_tiled(search, layout), &wanted);
        }
    }

    #[test]
    fn cosine_is_the_order_of_directions(
        cells in prop::collection::vec(-2i8..=2, 40 * 3), lengths in prop::collection::vec(1u8..=9, 40),
        labels in prop::collection::vec(0u32..4, 40), mutual: bool,
    ) {
        let data = cells.iter().enumerate().map(|(at, &c)| f32::from(c) * f32::from(lengths[at / 3]));
        let rows = embeddings(40, 3, data.collect());
        let mut query_labels = labels.clone();
        query_labels[0] = if mutual { labels[0] } else { 7 };
        let search = Search { query_labels: &query_labels, distance: Distance::Cosine, ..within(&rows, &labels, &[], 12) };
        prop_assert_eq!(super::super::search(search).unwrap(), naive_cosine(&search));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn large_classes_and_lists_that_end_before_the_first_hit(
        cells in prop::collection::vec(-9i8..=9, 700 * 2), second in prop::collection::btree_set(0usize..700, 1..4),
    ) {
        let rows = embeddings(700, 2, cells.iter().map(|&c| f32::from(c)).collect());
        // Two classes: nearly all, and one to three items; the other way round for the queries.
        let labels: Vec<u32> = (0..700).map(|i| u32::from(second.contains(&i))).collect();
        let query_labels: Vec<u32> = labels.iter().map(|&label| 1 - label).collect();
        let own = own(700);
        for query_labels in [&labels, &query_labels] {
            let search = Search { query_labels, ..within(&rows, &labels, &own, 0) };
            let wanted = naive(&search);
            for layout in layouts(3, 0) {
                prop_assert_eq!(&search_tiled(search, layout), &wanted);
            }
        }
    }
}

/// The full sort by `2 − 2 cos`; a zero row is at 2 from everything.
fn naive_cosine(search: &Search<'_>) -> Vec<Found> {
    let direction = |row: &[f32]| -> Option<Vec<f32>> {
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        (length > 0.0).then(|| row.iter().map(|v| (f64::from(*v) / length) as f32).collect())
    };
    let query = |q: usize| {
        let item = |g: usize| {
            let (a, b) = (direction(search.queries.row(q)), direction(search.gallery.row(g)));
            let distance = match (a, b) {
                (Some(a), Some(b)) => canonical_distance(&a, &b),
                // A row of length 1 up to rounding, and one entry more.
                (Some(a), None) => (1.0 + a.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>()) as f32,
                (None, _) => 2.0,
            };
            (distance, search.gallery_labels[g] == search.query_labels[q], g as u32)
        };
        let excluded = search.excluded(q);
        let mut all: Vec<_> = (0..search.gallery.len()).filter(|&g| Some(g) != excluded).map(item).collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let first_hit = all.iter().position(|item| item.1).map_or(0, |at| at as u32 + 1);
        all.truncate(search.depth.of(q));
        let (distances, neighbors) = all.iter().map(|item| (item.0, item.2)).unzip();
        Found { neighbors, distances, first_hit }
    };
    (0..search.queries.len()).map(query).collect()
}

#[test]
fn a_zero_row_finds_its_own_class_last_and_is_found_at_a_right_angle() {
    // East, nothing, north-east, west, nothing.
    let rows = embeddings(5, 2, vec![2.0, 0.0, 0.0, 0.0, 1.0, 1.0, -3.0, 0.0, 0.0, 0.0]);
    let labels = [0, 0, 1, 0, 0];
    let found = super::super::search(Search { distance: Distance::Cosine, ..within(&rows, &labels, &own(5), 9) });
    let found = found.unwrap();
    assert_eq!((&found[1].neighbors[..], found[1].first_hit), (&[2, 0, 3, 4][..], 2));
    assert_eq!(found[1].distances, [2.0; 4]);
    assert_eq!((&found[0].neighbors[..], found[0].first_hit), (&[2, 1, 4, 3][..], 2));
    assert_eq!(found[0].distances[1..], [2.0, 2.0, 4.0]);
}

#[test]
fn thousands_of_equal_rows_are_a_few_points() {
    let n = 20_000;
    let rows = embeddings(n, 3, (0..n).flat_map(|i| [(i % 2) as f32, 1.5, -2.0]).collect());
    let labels: Vec<u32> = (0..n).map(|i| (i % 5) as u32).collect();
    assert_eq!(points::Points::together(&rows, &labels).len(), 10);
    let found = super::super::search(within(&rows, &labels, &own(n), 3)).unwrap();
    // Query 0: 8,000 items of other classes are equally near and come first, 2, 4, 6 and so on.
    assert_eq!((&found[0].neighbors[..], found[0].first_hit), (&[2, 4, 6][..], 8001));
    assert_eq!(found[0].distances, [0.0; 3]);
    assert_eq!((&found[12_345].neighbors[..], found[12_345].first_hit), (&[1, 3, 7][..], 8001));
}

#[test]
fn collapsed_embeddings_of_many_classes_hit_nothing_first() {
    let n = 3000;
    let rows = embeddings(n, 4, vec![0.25; 4 * n]);
    let labels: Vec<u32> = (0..n as u32).map(|i| i / 2).collect();
    let visited = visit(&within(&rows, &labels, &own(n), 20), |list| list.hits.contains(&true)).unwrap();
    assert!(visited.values.iter().all(|hit| !hit));
    assert!(visited.first_hits.iter().all(|&rank| rank == 2999));
}

#[test]
fn one_class_lonely_classes_and_any_labels() {
    let rows = embeddings(3, 1, vec![0.0, 1.0, 5.0]);
    let own = own(3);
    let first_hits = |labels: &[u32]| visit(&within(&rows, labels, &own, 1), |_| ()).unwrap().first_hits;
    assert_eq!(first_hits(&[4, 4, 4]), [1, 1, 1]);
    assert_eq!(first_hits(&[u32::MAX, 0, u32::MAX]), [2, 0, 2]);
    assert_eq!(first_hits(&[0, 1, 2]), [0, 0, 0]);
    let lists = visit_lists(&within(&rows, &[0, 1, 0], &own, 1), |list| list.neighbors.to_vec()).unwrap();
    assert_eq!(lists, [[1], [0], [1]]);
    let search = within(&rows, &[u32::MAX, 0, u32::MAX], &own, usize::MAX);
    assert_eq!(search.positives().unwrap(), [1, 0, 1]);
    let found = super::super::search(search).unwrap();
    assert_eq!(found[1].neighbors, [0, 2]);
    let short = Search { depth: Depth::PerQuery(&[1, 2]), ..search };
    assert_eq!(visit(&short, |_| ()).unwrap_err().to_string(), "depths of the queries: got 2, wanted 3");
}

#[test]
fn one_entry_no_entry_many_entries_and_tiny_ones() {
    let labels: Vec<u32> = (0..60).map(|i| i % 7).collect();
    let own = own(60);
    let mut stream = crate::rng::stream(2, "sizes", &[]);
    for (d, scale) in [(0, 1.0), (1, 1.0), (1, 1e-42), (3, 1e-44), (5, 1e14), (70_001, 1.0), (31, 1e-20)] {
        let data = (0..60 * d).map(|_| scale * crate::rng::normal(&mut stream));
        let rows = embeddings(60, d, data.collect());
        let search = within(&rows, &labels, &own, 6);
        let wanted = naive_canonical(&search);
        for layout in layouts(1, 3) {
            assert_eq!(search_tiled(search, layout), wanted, "{d} entries times {scale}");
        }
    }
}

/// [`naive`] by the canonical distance itself: the order of its sum matters at these sizes.
fn naive_canonical(search: &Search<'_>) -> Vec<Found> {
    let key = |q: usize, g: usize| {
        let distance = canonical_distance(search.queries.row(q), search.gallery.row(g));
        (distance, search.gallery_labels[g] == search.query_labels[q], g as u32)
    };
    let query = |q: usize| {
        let others = (0..search.gallery.len()).filter(|&g| Some(g) != search.excluded(q));
        let mut all: Vec<_> = others.map(|g| key(q, g)).collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let first_hit = all.iter().position(|item| item.1).map_or(0, |at| at as u32 + 1);
        all.truncate(search.depth.of(q));
        let (distances, neighbors) = all.iter().map(|item| (item.0, item.2)).unzip();
        Found { neighbors, distances, first_hit }
    };
    (0..search.queries.len()).map(query).collect()
}

#[test]
fn a_thousand_of_many_with_guessed_bounds() {
    let (rows, labels) = clusters(6, 3000, 16, 40);
    let own = own(3000);
    let search = within(&rows, &labels, &own, 500);
    let wanted = naive_canonical(&search);
    for layout in layouts(5, 300) {
        assert!(search_tiled(search, layout) == wanted);
    }
}

#[test]
fn dropping_the_first_neighbour_of_faiss_keeps_the_query_among_its_own_neighbours() {
    let fixture: serde_json::Value =
        serde_json::from_str(include_str!("../../../../tests/data/metric/duplicates.json")).unwrap();
    let list = |key: &str| -> Vec<f32> {
        fixture[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
    };
    let rows = embeddings(40, 5, list("rows"));
    let (theirs, distances) = (list("found"), list("distances"));
    let labels: Vec<u32> = (0..40).collect();
    let ours = super::super::search(within(&rows, &labels, &own(40), 5)).unwrap();
    let mut wrong = 0;
    for (i, ours) in ours.iter().enumerate() {
        let (found, distances) = (&theirs[6 * i..6 * (i + 1)], &distances[6 * i..6 * (i + 1)]);
        wrong += usize::from(found[1..].contains(&(i as f32)));
        assert!(!ours.neighbors.contains(&(i as u32)));
        // By the index: the distances are ours. (Should more than six be equal, the query may not be in its list at all;
        // the last one is left out then.)
        let own = found.iter().position(|&item| item == i as f32).unwrap_or(5);
        let others: Vec<f32> = distances.iter().enumerate().filter(|(at, _)| *at != own).map(|(_, d)| *d).collect();
        assert_eq!(ours.distances, others);
    }
    assert!(wrong > 20, "the peer is wrong for {wrong} of 40 queries");
}
