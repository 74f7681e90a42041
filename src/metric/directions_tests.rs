//! Densities, alignment, spectrum, clustering and hubness against loops and against stored values of other programs.

use super::*;
use crate::metric::clustering::Contingency;
use crate::metric::hubness::Occurrences;
use crate::metric::neighbors::{Depth, Distance, Search, search};
use crate::metric::recall::mean_pairwise_cosine;
use crate::metric::spectrum::Spectrum;
use crate::metric::uniformity::uniformity;
use crate::rng;

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

fn unit(row: &[f32]) -> Vec<f64> {
    let norm = norm(row);
    row.iter().map(|v| if norm > 0.0 { f64::from(*v) / norm } else { 0.0 }).collect()
}

/// π_intra, π_inter and alignment by loops over pairs.
fn naive(rows: &Embeddings, labels: &[u32]) -> (f64, f64, f64) {
    let mut names = labels.to_vec();
    names.sort_unstable();
    names.dedup();
    let (mut intra, mut square, mut pairs, mut means) = (vec![], 0.0, 0.0, vec![]);
    for name in &names {
        let members: Vec<Vec<f64>> =
            (0..labels.len()).filter(|&i| labels[i] == *name).map(|i| unit(rows.row(i))).collect();
        let mut mean = vec![0.0; rows.dim()];
        let (mut sum, mut count) = (0.0, 0.0);
        for (i, a) in members.iter().enumerate() {
            mean.iter_mut().zip(a).for_each(|(m, v)| *m += v);
            for b in &members[..i] {
                sum += 1.0 - cosine(a, b);
                square += 2.0 * (1.0 - cosine(a, b));
                count += 1.0;
            }
        }
        if count > 0.0 {
            intra.push(sum / count);
        }
        pairs += count;
        means.push(mean);
    }
    let (mut inter, mut count) = (0.0, 0.0);
    for (i, a) in means.iter().enumerate() {
        for b in &means[..i] {
            inter += 1.0 - cosine(a, b);
            count += 1.0;
        }
    }
    (intra.iter().sum::<f64>() / intra.len() as f64, inter / count, square / pairs)
}

fn random(n: usize, d: usize, classes: u32) -> (Embeddings, Vec<u32>) {
    let mut stream = rng::stream(6, "directions", &[n as u64]);
    let mut data: Vec<f32> = (0..n * d).map(|_| rng::normal(&mut stream) + 0.5).collect();
    data[..d].fill(0.0);
    (Embeddings::new([n, d], data).unwrap(), (0..n as u32).map(|i| 1000 + (i * i) % classes).collect())
}

#[test]
fn equal_the_loops_with_and_without_a_class() {
    let (rows, labels) = random(60, 6, 11);
    let groups = Groups::of_classes(&labels, 50);
    let directions = Directions::new(&rows, &labels, &groups);
    assert_eq!(directions.without_direction(), 1);
    let left_out = (0..groups.count()).map(Some).chain([None]);
    for out in left_out {
        let picked: Vec<usize> = (0..60).filter(|&i| Some(groups.of(labels[i])) != out).collect();
        let rest = rows.select(&picked);
        let rest_labels: Vec<u32> = picked.iter().map(|&i| labels[i]).collect();
        let (intra, inter, alignment) = naive(&rest, &rest_labels);
        for (ours, wanted) in [
            (directions.pi_intra(out), intra),
            (directions.pi_inter(out), inter),
            (directions.pi_ratio(out), intra / inter),
            (directions.alignment(out), alignment),
            (directions.mean_cosine(out), mean_pairwise_cosine(&rest).unwrap()),
        ] {
            approx::assert_abs_diff_eq!(ours.unwrap(), wanted, epsilon = 1e-12);
        }
    }
}

#[test]
fn equal_other_programs_on_the_same_embeddings() {
    let fixture: serde_json::Value = serde_json::from_str(include_str!("../../tests/data/metric/peers.json")).unwrap();
    let number = |pointer: &str| fixture.pointer(pointer).unwrap().as_f64().unwrap();
    let list = |pointer: &str| -> Vec<f64> {
        fixture.pointer(pointer).unwrap().as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let labels: Vec<u32> = list("/labels").into_iter().map(|v| v as u32).collect();
    let data: Vec<f32> = list("/rows").into_iter().map(|v| v as f32).collect();
    let rows = Embeddings::new([labels.len(), 16], data).unwrap();
    let equal = |name: &str, ours: Option<f64>, theirs: f64, tolerance: f64| {
        let ours = ours.unwrap();
        assert!((ours - theirs).abs() < tolerance, "{name}: ours {ours}, theirs {theirs}");
    };
    // The code divides unit rows stored in f32 by nothing; we divide by their norms, which are 1 to 1e-7.
    let directions = Directions::of(&rows, &labels);
    equal("pi_intra", directions.pi_intra(None), number("/official/pi_intra"), 1e-6);
    equal("pi_inter", directions.pi_inter(None), number("/official/pi_inter"), 1e-6);
    equal("pi_ratio", directions.pi_ratio(None), number("/official/pi_ratio"), 1e-6);
    equal("alignment", directions.alignment(None), number("/geometry/alignment"), 1e-6);
    equal("mean_cosine", directions.mean_cosine(None), number("/geometry/mean_cosine"), 1e-9);
    equal("uniformity", uniformity(&rows), number("/geometry/uniformity"), 1e-6);
    let spectrum = Spectrum::of(&rows);
    equal("effective_rank", spectrum.effective_rank(), number("/geometry/effective_rank"), 1e-9);
    for (ours, theirs) in spectrum.distribution().iter().zip(list("/official/spectrum")) {
        equal("spectrum", Some(*ours), theirs, 1e-12);
    }
    let truncated = spectrum.clone().leading(15);
    for mode in [-1, 1, 2, 10] {
        equal("rho", spectrum.rho(mode), number(&format!("/official/rho/{mode}")), 1e-9);
        equal("rho of d − 1", truncated.rho(mode), number(&format!("/official/rho_truncated/{mode}")), 1e-9);
    }
    let assigned = |pointer: &str| -> Vec<u32> { list(pointer).into_iter().map(|v| v as u32).collect() };
    let few = Contingency::new(&labels, &assigned("/clusters"));
    equal("f1", few.pairwise_f1(), number("/official/f1"), 1e-12);
    equal("nmi", few.nmi(), number("/official/nmi"), 1e-12);
    equal("nmi", few.nmi(), number("/pml/NMI"), 1e-12);
    equal("ami", few.ami(), number("/pml/AMI"), 1e-9);
    for (i, pointer) in ["/clusters", "/many_clusters"].into_iter().enumerate() {
        let table = Contingency::new(&labels, &assigned(pointer));
        equal("nmi", table.nmi(), number(&format!("/sklearn/{i}/0")), 1e-12);
        equal("ami", table.ami(), number(&format!("/sklearn/{i}/1")), 1e-9);
        equal("v-measure", table.nmi(), number(&format!("/sklearn/{i}/2")), 1e-12);
    }
    let own: Vec<_> = (0..labels.len()).map(Some).collect();
    let (queries, gallery) = (&rows, &rows);
    let found = search(Search {
        queries,
        query_labels: &labels,
        gallery,
        gallery_labels: &labels,
        excluded: &own,
        depth: Depth::Fixed(10),
        distance: Distance::Euclidean,
    })
    .unwrap();
    let occurrences = Occurrences::count(found.iter().map(|f| f.neighbors.as_slice()), labels.len());
    equal("hubness", occurrences.skewness(), number("/hubness/0"), 1e-9);
    equal("antihubs", occurrences.never(), number("/hubness/1"), 1e-12);
}

#[test]
fn a_class_with_one_image_counts_between_classes_only() {
    let rows = Embeddings::new([3, 2], vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0]).unwrap();
    let directions = Directions::of(&rows, &[0, 0, 9]);
    assert_eq!(directions.pi_intra(None), Some(1.0));
    approx::assert_abs_diff_eq!(directions.pi_inter(None).unwrap(), 1.0 + 0.5f64.sqrt(), epsilon = 1e-12);
    let singletons = Directions::of(&rows, &[0, 1, 2]);
    assert_eq!((singletons.pi_intra(None), singletons.pi_ratio(None), singletons.alignment(None)), (None, None, None));
}

#[test]
fn collapsed_lone_and_empty_sets_have_no_ratio() {
    let collapsed = Embeddings::new([4, 2], [1.0, 2.0].repeat(4)).unwrap();
    let directions = Directions::of(&collapsed, &[0, 0, 1, 1]);
    approx::assert_abs_diff_eq!(directions.pi_intra(None).unwrap(), 0.0, epsilon = 1e-12);
    assert_eq!(directions.pi_ratio(None), None);
    assert_eq!(Directions::of(&collapsed, &[5; 4]).pi_inter(None), None);
    let empty = Directions::of(&Embeddings::new([0, 2], vec![]).unwrap(), &[]);
    assert_eq!((empty.pi_intra(None), empty.pi_inter(None), empty.mean_cosine(None)), (None, None, None));
}
