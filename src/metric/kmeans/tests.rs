use proptest::prelude::*;

use super::*;
use crate::rng;

fn embeddings(n: usize, d: usize, data: Vec<f32>) -> Embeddings {
    Embeddings::new([n, d], data).unwrap()
}

fn normal(seed: u64, n: usize, d: usize) -> Embeddings {
    let mut stream = rng::stream(seed, "points", &[]);
    embeddings(n, d, (0..n * d).map(|_| rng::normal(&mut stream)).collect())
}

/// `classes` tight groups around well separated centres; point `i` belongs to group `i % classes`.
fn groups(seed: u64, n: usize, d: usize, classes: usize) -> Embeddings {
    let (centres, noise) = (normal(seed, classes, d), normal(seed + 1, n, d));
    let value = |i: usize, j: usize| 10.0 * centres.row(i % classes)[j] + 0.1 * noise.row(i)[j];
    embeddings(n, d, (0..n * d).map(|at| value(at / d, at % d)).collect())
}

fn nearest_by_loop(point: &[f32], centroids: &Embeddings) -> (u32, f32) {
    let distances = (0..centroids.len()).map(|c| (c as u32, canonical_distance(point, centroids.row(c))));
    distances.reduce(|best, next| if next.1 < best.1 { next } else { best }).unwrap()
}

/// [`lloyd`] from given centroids.
fn from_seeds(points: &Embeddings, seeds: Embeddings, iterations: usize) -> Clustering {
    let cloud = Cloud::new(points);
    let mut nearest = vec![Nearest::NONE; points.len()];
    cloud.improve(&mut nearest, None, &seeds, &(0..seeds.len() as u32).collect::<Vec<_>>());
    lloyd(&cloud, seeds, nearest, iterations)
}

/// What the documentation promises of any result.
fn check(points: &Embeddings, found: &Clustering) {
    let mut inertia = 0.0;
    for (i, &cluster) in found.assignments.iter().enumerate() {
        let (wanted, distance) = nearest_by_loop(points.row(i), &found.centroids);
        assert_eq!(cluster, wanted, "point {i}");
        inertia += f64::from(distance);
    }
    assert_eq!(found.inertia, inertia);
}

proptest! {
    #[test]
    fn every_point_goes_to_its_nearest_centroid_also_among_ties(
        cells in prop::collection::vec(-2i8..=2, 40 * 3), clusters in 1usize..=40, iterations in 0usize..6, seed: u64,
    ) {
        let points = embeddings(40, 3, cells.iter().map(|&c| f32::from(c)).collect());
        let options = KMeans { iterations, ..KMeans::new(clusters, seed) };
        let found = kmeans(&points, &options).unwrap();
        check(&points, &found);
        prop_assert_eq!(found.centroids.len(), clusters);
        prop_assert_eq!(kmeans(&points, &options).unwrap(), found);
    }
}

#[test]
fn separated_groups_are_found_and_a_converged_centroid_is_its_groups_mean() {
    let points = groups(3, 300, 5, 12);
    let found = kmeans(&points, &KMeans { restarts: 10, ..KMeans::new(12, 4) }).unwrap();
    check(&points, &found);
    for i in 12..300 {
        assert_eq!(found.assignments[i], found.assignments[i % 12]);
    }
    assert!(found.iterations < 20, "converged after {}", found.iterations);
    for c in 0..12 {
        let members: Vec<usize> = (0..300).filter(|&i| found.assignments[i] == c).collect();
        for j in 0..5 {
            let mean = members.iter().map(|&i| f64::from(points.row(i)[j])).sum::<f64>() / members.len() as f64;
            assert_eq!(found.centroids.row(c as usize)[j], mean as f32);
        }
    }
}

#[test]
fn neither_threads_nor_chance_change_the_result_and_restarts_never_make_it_worse() {
    let points = normal(9, 700, 17);
    let run = |threads, options: KMeans| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| kmeans(&points, &options)).unwrap()
    };
    let options = KMeans::new(60, 5);
    let one = run(1, options);
    check(&points, &one);
    assert_eq!(run(5, options), one);
    assert_ne!(run(2, KMeans::new(60, 6)).assignments, one.assignments);
    let more = run(2, KMeans { restarts: 6, ..options });
    assert!(more.inertia <= one.inertia);
    let longer = run(2, KMeans { iterations: 3, ..options });
    assert!(longer.inertia >= one.inertia);
}

/// The law of k-means++ for three seeds of five points on a line, by enumeration.
fn law(points: &Embeddings) -> Vec<([usize; 3], f64)> {
    let n = points.len();
    let weight = |i: usize, seeds: &[usize]| {
        let distances = seeds.iter().map(|&s| f64::from(points.row(i)[0] - points.row(s)[0]).powi(2));
        distances.fold(f64::INFINITY, f64::min)
    };
    let share = |i: usize, seeds: &[usize]| weight(i, seeds) / (0..n).map(|j| weight(j, seeds)).sum::<f64>();
    let mut all = vec![];
    for a in 0..n {
        for b in 0..n {
            for c in 0..n {
                let chance = share(b, &[a]) * share(c, &[a, b]) / n as f64;
                if chance > 0.0 {
                    all.push(([a, b, c], chance));
                }
            }
        }
    }
    all
}

#[test]
fn seeds_follow_the_law_of_plus_plus() {
    let points = embeddings(5, 1, vec![0.0, 1.0, 1.5, 4.0, 9.0]);
    let cloud = Cloud::new(&points);
    let draws = 40_000;
    let mut counts = std::collections::HashMap::new();
    let mut stream = rng::stream(11, "law", &[]);
    for _ in 0..draws {
        *counts.entry(seeding::plus_plus(&cloud, 3, &mut stream).0).or_insert(0u32) += 1;
    }
    let law = law(&points);
    assert!((law.iter().map(|l| l.1).sum::<f64>() - 1.0).abs() < 1e-12);
    for (seeds, chance) in law {
        let got = f64::from(counts.remove(seeds.as_slice()).unwrap_or(0));
        let wanted = chance * f64::from(draws);
        // Five standard deviations of a binomial count: one wrong alarm in a million for each of the 60 triples.
        let spread = 5.0 * (wanted * (1.0 - chance)).sqrt() + 1.0;
        assert!((got - wanted).abs() < spread, "{seeds:?}: {got} draws, expected {wanted}");
    }
    assert!(counts.is_empty(), "impossible seeds {counts:?}");
}

#[test]
fn as_many_clusters_as_points_leave_no_inertia() {
    let points = normal(2, 50, 3);
    let found = kmeans(&points, &KMeans::new(50, 1)).unwrap();
    assert_eq!(found.inertia, 0.0);
    let mut clusters = found.assignments;
    clusters.sort_unstable();
    assert_eq!(clusters, (0..50).collect::<Vec<_>>());
}

#[test]
fn collapsed_points_fill_one_cluster_and_leave_the_others_empty() {
    for value in [0.0, 1.5, -3e14] {
        let found = kmeans(&embeddings(40, 2, vec![value; 80]), &KMeans::new(7, 1)).unwrap();
        assert_eq!(found.inertia, 0.0);
        assert!(found.assignments.iter().all(|&c| c == 0));
    }
    let two = embeddings(6, 1, vec![1.0, 5.0, 1.0, 1.0, 5.0, 5.0]);
    let found = kmeans(&two, &KMeans::new(4, 1)).unwrap();
    assert_eq!(found.inertia, 0.0);
    assert_ne!(found.assignments[0], found.assignments[1]);
}

#[test]
fn an_empty_cluster_takes_the_farthest_point() {
    // Both seeds lie left of all points: the second never wins, and takes the point at 9 instead.
    let points = embeddings(4, 1, vec![1.0, 2.0, 3.0, 9.0]);
    let found = from_seeds(&points, embeddings(2, 1, vec![0.0, -50.0]), 1);
    assert_eq!(found.centroids.as_slice(), [2.0, 9.0]);
    assert_eq!(found.assignments, [0, 0, 0, 1]);
    // A cluster of one is not robbed, however far its point is.
    let found = from_seeds(&points, embeddings(3, 1, vec![20.0, 2.0, -50.0]), 1);
    assert_eq!(found.centroids.as_slice(), [9.0, 2.5, 1.0]);
}

#[test]
fn bad_options_and_bad_values_are_named() {
    let points = normal(1, 4, 2);
    let text = |points: &Embeddings, options| kmeans(points, &options).unwrap_err().to_string();
    assert!(text(&points, KMeans::new(0, 1)).starts_with("0 clusters of 4 points"));
    assert!(text(&points, KMeans::new(5, 1)).starts_with("5 clusters of 4 points"));
    assert!(text(&embeddings(0, 2, vec![]), KMeans::new(1, 1)).starts_with("1 clusters of 0 points"));
    assert!(text(&points, KMeans { restarts: 0, ..KMeans::new(1, 1) }).starts_with("0 restarts"));
    for value in [f32::NAN, f32::NEG_INFINITY, 1e20] {
        let mut data = points.as_slice().to_vec();
        data[5] = value;
        assert!(text(&embeddings(4, 2, data), KMeans::new(2, 1)).starts_with("embedding 2 holds"));
    }
    assert_eq!(kmeans(&embeddings(3, 0, vec![]), &KMeans::new(2, 1)).unwrap().inertia, 0.0);
    let tiny = embeddings(3, 1, vec![1e-42, 2e-42, -1e-42]);
    check(&tiny, &kmeans(&tiny, &KMeans::new(2, 1)).unwrap());
}

#[test]
fn iterations_from_given_seeds_end_where_scikit_learns_do() {
    let fixture: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/data/metric/kmeans.json")).unwrap();
    let floats = |key: &str| -> Vec<f32> {
        fixture[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
    };
    let points = embeddings(120, 4, floats("points"));
    let found = from_seeds(&points, embeddings(9, 4, floats("seeds")), 100);
    let wanted: Vec<u32> =
        fixture["assignments"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect();
    assert_eq!(found.assignments, wanted);
    for (got, wanted) in found.centroids.as_slice().iter().zip(floats("centroids")) {
        approx::assert_abs_diff_eq!(*got, wanted, epsilon = 1e-6);
    }
    // Our centroids are rounded to f32, the peer's are f64.
    approx::assert_relative_eq!(found.inertia, fixture["inertia"].as_f64().unwrap(), max_relative = 1e-6);
}
