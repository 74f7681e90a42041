mod hostile;

use super::*;
use crate::metric::recall::recall_at_k;
use proptest::prelude::*;

/// Sorts the whole gallery by the documented key; no screening, no tiles.
fn naive(search: &Search<'_>) -> Vec<Found> {
    (0..search.queries.len())
        .map(|q| {
            let excluded = search.excluded.get(q).copied().flatten();
            let label = search.query_labels[q];
            let mut all: Vec<(f32, bool, u32)> = (0..search.gallery.len())
                .filter(|&g| Some(g) != excluded)
                .map(|g| {
                    let pairs = search.queries.row(q).iter().zip(search.gallery.row(g));
                    let squared: f64 = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
                    (squared as f32, search.gallery_labels[g] == label, g as u32)
                })
                .collect();
            all.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let first_hit = all.iter().position(|item| item.1).map_or(0, |at| at as u32 + 1);
            all.truncate(search.depth.of(q));
            let (distances, neighbors) = all.iter().map(|item| (item.0, item.2)).unzip();
            Found { neighbors, distances, first_hit }
        })
        .collect()
}

/// [`super::search`] with the work cut in a given way.
fn search_tiled(search: Search<'_>, layout: Layout) -> Vec<Found> {
    check(&search).unwrap();
    let keep = |list: List<'_>| {
        (list.neighbors.to_vec(), (0..list.neighbors.len()).map(|place| list.distance(place)).collect())
    };
    let visited = visit_tiled(&search, layout, Ranks::All, &keep);
    let found = visited.values.into_iter().zip(visited.first_hits);
    found.map(|((neighbors, distances), first_hit)| Found { neighbors, distances, first_hit }).collect()
}

/// Every kernel of this machine with a given cut.
fn layouts(block: usize, sample: usize) -> Vec<Layout> {
    kernel::Kernel::available().into_iter().map(|kernel| Layout { kernel, block, sample }).collect()
}

fn embeddings(n: usize, d: usize, data: Vec<f32>) -> Embeddings {
    Embeddings::new([n, d], data).unwrap()
}

/// Values on a coarse grid: sums are exact in any order, and ties are everywhere.
fn grid(n: usize, d: usize) -> impl Strategy<Value = Embeddings> {
    prop::collection::vec(-2i8..=2, n * d)
        .prop_map(move |v| embeddings(n, d, v.iter().map(|&x| f32::from(x)).collect()))
}

proptest! {
    #[test]
    fn equals_the_full_sort_on_tied_data(
        rows in grid(30, 3), labels in prop::collection::vec(0u32..4, 30), k in 0usize..40,
        sample in 0usize..4, exclude in any::<bool>(), mutual in any::<bool>(),
    ) {
        let excluded: Vec<_> = if exclude { (0..30).map(Some).collect() } else { vec![] };
        // One label changed among the queries: they are no longer the gallery.
        let mut query_labels = labels.clone();
        query_labels[7] = if mutual { labels[7] } else { 9 };
        let search = Search {
            queries: &rows, query_labels: &query_labels, gallery: &rows, gallery_labels: &labels, excluded: &excluded,
            depth: Depth::Fixed(k), distance: Distance::Euclidean,
        };
        let wanted = naive(&search);
        for layout in layouts(1, sample) {
            prop_assert_eq!(&search_tiled(search, layout), &wanted);
        }
    }

    #[test]
    fn near_ties_below_the_screening_error_are_decided_exactly(
        bits in prop::collection::vec(0u32..3, 40 * 8), labels in prop::collection::vec(0u32..3, 40), offset in -1e3f32..1e3,
    ) {
        // Rows that differ by a few units in the last place around a large offset: a bare matrix product cannot tell them.
        let data = bits.iter().map(|b| f32::from_bits(offset.to_bits() + b)).collect();
        let rows = embeddings(40, 8, data);
        let excluded: Vec<_> = (0..40).map(Some).collect();
        let search = Search {
            queries: &rows, query_labels: &labels, gallery: &rows, gallery_labels: &labels, excluded: &excluded, depth: Depth::Fixed(5), distance: Distance::Euclidean,
        };
        prop_assert_eq!(super::search(search).unwrap(), naive(&search));
    }

    #[test]
    fn permuting_the_gallery_permutes_nothing_but_indices(seed in any::<u64>()) {
        let (rows, labels) = clusters(seed, 60, 5, 6);
        let mut order: Vec<usize> = (0..60).collect();
        crate::rng::shuffle(&mut crate::rng::stream(seed, "order", &[]), &mut order);
        let shuffled = rows.select(&order);
        let shuffled_labels: Vec<u32> = order.iter().map(|&i| labels[i]).collect();
        let place: Vec<_> = (0..60).map(|i| order.iter().position(|&o| o == i)).collect();
        let own: Vec<_> = (0..60).map(Some).collect();
        let run = |gallery: &Embeddings, gallery_labels: &[u32], excluded: &[Option<usize>]| {
            super::search(Search { queries: &rows, query_labels: &labels, gallery, gallery_labels, excluded, depth: Depth::Fixed(8), distance: Distance::Euclidean })
                .unwrap()
        };
        let (a, b) = (run(&rows, &labels, &own), run(&shuffled, &shuffled_labels, &place));
        for (x, y) in a.iter().zip(&b) {
            prop_assert_eq!(x.first_hit, y.first_hit);
            let back: Vec<u32> = y.neighbors.iter().map(|&i| order[i as usize] as u32).collect();
            prop_assert_eq!(&x.neighbors, &back);
        }
    }
}

/// Normal clusters, unit rows.
fn clusters(seed: u64, n: usize, d: usize, classes: u32) -> (Embeddings, Vec<u32>) {
    let mut rng = crate::rng::stream(seed, "clusters", &[]);
    let centres: Vec<f32> = (0..classes as usize * d).map(|_| crate::rng::normal(&mut rng)).collect();
    let labels: Vec<u32> = (0..n).map(|i| i as u32 % classes).collect();
    let mut data = Vec::new();
    for &label in &labels {
        let centre = &centres[label as usize * d..][..d];
        let row: Vec<f32> = centre.iter().map(|c| c + crate::rng::normal(&mut rng)).collect();
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        data.extend(row.iter().map(|v| v / norm));
    }
    (embeddings(n, d, data), labels)
}

#[test]
fn equals_the_full_sort_on_realistic_data_whatever_threads_and_tiles() {
    let (rows, labels) = clusters(5, 700, 37, 25);
    let excluded: Vec<_> = (0..700).map(Some).collect();
    let search = Search {
        queries: &rows,
        query_labels: &labels,
        gallery: &rows,
        gallery_labels: &labels,
        excluded: &excluded,
        depth: Depth::Fixed(8),
        distance: Distance::Euclidean,
    };
    let wanted = naive(&search);
    for (threads, block, sample) in [(1, 15, 0), (3, 1, 60), (2, 4, 10), (5, 2, 1)] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for layout in layouts(block, sample) {
            assert_eq!(pool.install(|| search_tiled(search, layout)), wanted);
        }
    }
}

#[test]
fn agrees_with_scikit_learn() {
    let fixture: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/data/metric/neighbors.json")).unwrap();
    let floats = |key: &str| -> Vec<f32> {
        fixture[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
    };
    let whole = |key: &str| -> Vec<u32> {
        fixture[key].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
    };
    let labels = whole("labels");
    let rows = embeddings(labels.len(), 6, floats("rows"));
    let excluded: Vec<_> = (0..labels.len()).map(Some).collect();
    let found = super::search(Search {
        queries: &rows,
        query_labels: &labels,
        gallery: &rows,
        gallery_labels: &labels,
        excluded: &excluded,
        depth: Depth::Fixed(8),
        distance: Distance::Euclidean,
    })
    .unwrap();
    let neighbors: Vec<u32> = found.iter().flat_map(|f| f.neighbors.clone()).collect();
    assert_eq!(neighbors, whole("neighbors"));
    let first_hits: Vec<u32> = found.iter().map(|f| f.first_hit).collect();
    for (k, wanted) in [1u32, 2, 4, 8].iter().zip(floats("recall")) {
        approx::assert_abs_diff_eq!(recall_at_k(&first_hits, *k).unwrap().share as f32, wanted, epsilon = 1e-6);
    }
}

#[test]
fn a_query_whose_class_is_absent_has_no_rank() {
    let (queries, gallery) = (embeddings(1, 1, vec![0.0]), embeddings(2, 1, vec![1.0, 2.0]));
    let base = Search {
        queries: &queries,
        query_labels: &[0],
        gallery: &gallery,
        gallery_labels: &[0, 1],
        excluded: &[Some(0)],
        depth: Depth::Fixed(9),
        distance: Distance::Euclidean,
    };
    assert_eq!(super::search(base).unwrap(), [Found { neighbors: vec![1], distances: vec![4.0], first_hit: 0 }]);
    let found = super::search(Search { excluded: &[], ..base }).unwrap();
    assert_eq!((found[0].neighbors.clone(), found[0].first_hit), (vec![0, 1], 1));
}

#[test]
fn refuses_bad_input_by_name() {
    let good = embeddings(2, 2, vec![0.0, 1.0, 1.0, 0.0]);
    let base = Search {
        queries: &good,
        query_labels: &[0, 1],
        gallery: &good,
        gallery_labels: &[0, 1],
        excluded: &[],
        depth: Depth::Fixed(1),
        distance: Distance::Euclidean,
    };
    fn text(search: Search<'_>) -> String {
        super::search(search).unwrap_err().to_string()
    }
    for value in [f32::NAN, f32::INFINITY, 1e20] {
        let bad = embeddings(2, 2, vec![0.0, 1.0, 1.0, value]);
        assert!(text(Search { gallery: &bad, ..base }).starts_with("gallery embedding 1 holds"));
        assert!(text(Search { queries: &bad, ..base }).starts_with("query embedding 1 holds"));
    }
    let none = embeddings(0, 2, vec![]);
    assert!(text(Search { gallery: &none, gallery_labels: &[], ..base }).contains("gallery is empty"));
    assert!(super::search(Search { queries: &none, query_labels: &[], ..base }).unwrap().is_empty());
    assert!(text(Search { query_labels: &[0], ..base }).contains("labels of the queries: got 1, wanted 2"));
    assert!(text(Search { excluded: &[None, Some(2)], ..base }).contains("query 1 excludes gallery item 2"));
    let wide = embeddings(2, 3, vec![0.0; 6]);
    assert!(text(Search { queries: &wide, ..base }).contains("entries of a query embedding: got 3, wanted 2"));
}

#[test]
fn crowded_rows_far_from_the_mean_are_ranked_beyond_the_precision_of_the_product() {
    // Two crowds at ±v: centring cannot help, and distances within a crowd (about 1e-6) drown in the rounding of
    // ‖a‖² + ‖b‖² − 2⟨a, b⟩ (about 1e-5).
    let mut stream = crate::rng::stream(8, "crowds", &[]);
    let centre: Vec<f32> = (0..64).map(|_| crate::rng::normal(&mut stream)).collect();
    let data: Vec<f32> = (0..200)
        .flat_map(|i| centre.iter().map(move |c| if i % 2 == 0 { *c } else { -*c }))
        .map(|c| c + 1e-4 * crate::rng::normal(&mut stream))
        .collect();
    let rows = embeddings(200, 64, data);
    let labels: Vec<u32> = (0..200).map(|i| i / 2 % 20).collect();
    let excluded: Vec<_> = (0..200).map(Some).collect();
    let search = Search {
        queries: &rows,
        query_labels: &labels,
        gallery: &rows,
        gallery_labels: &labels,
        excluded: &excluded,
        depth: Depth::Fixed(8),
        distance: Distance::Euclidean,
    };
    assert_eq!(super::search(search).unwrap(), naive(&search));
}
