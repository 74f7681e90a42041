//! Scores under all protocols, and of input as bad as it comes.

use super::*;
use crate::batch::Embeddings;
use crate::metric::kind::Scope;
use crate::metric::neighbors::Distance;
use crate::rng;

fn all_metrics() -> Vec<Metric> {
    Metric::all().into_iter().filter(|m| !matches!(m.scope(), Scope::Attack | Scope::Robrank | Scope::Suite)).collect()
}

/// Normal clusters; labels 10, 17, 24 ... so that they are not contiguous.
fn clusters(n: usize, classes: usize, spread: f32) -> (Embeddings, Vec<u32>) {
    let mut stream = rng::stream(1, "scores", &[n as u64]);
    let centres: Vec<f32> = (0..classes * 6).map(|_| rng::normal(&mut stream)).collect();
    let mut data = Vec::new();
    for i in 0..n {
        let centre = &centres[i % classes * 6..][..6];
        data.extend(centre.iter().map(|c| c + spread * rng::normal(&mut stream)));
    }
    (Embeddings::new([n, 6], data).unwrap(), (0..n).map(|i| 10 + 7 * (i % classes) as u32).collect())
}

fn alone<'a>(rows: &'a Embeddings, labels: &'a [u32]) -> Embedded<'a> {
    Embedded {
        queries: rows,
        query_labels: labels,
        gallery: rows,
        gallery_labels: labels,
        protocol: Protocol::LeaveOneOut,
        distance: Distance::Euclidean,
    }
}

fn measure(embedded: &Embedded<'_>) -> Scores {
    embedded.measure(&[1, 4, 500], &all_metrics(), Clustering::default(), 3).unwrap()
}

fn of(scores: &Scores, metric: Metric) -> &MetricEstimate {
    scores.metrics.iter().find(|m| m.metric == metric).unwrap()
}

fn value(scores: &Scores, metric: Metric) -> Option<f64> {
    of(scores, metric).estimate.map(|e| e.value)
}

/// Every number is within its range and its interval, and whatever is absent has a reason.
fn assert_sound(scores: &Scores) {
    let asked = all_metrics().into_iter().filter(|m| !matches!(m, Metric::RecallAt(_))).count();
    assert_eq!(scores.metrics.len(), asked);
    for found in &scores.metrics {
        let (low, high) = found.metric.about().range;
        match found.estimate {
            Some(e) => {
                assert!((low - 1e-9..=high + 1e-9).contains(&e.value), "{found:?}");
                assert!(e.low <= e.high && e.n > 0, "{found:?}");
                assert!(e.basis.is_some() || (e.low, e.high) == (e.value, e.value), "{found:?}");
            }
            None => assert!(!found.note.is_empty(), "{found:?}"),
        }
    }
}

#[test]
fn the_whole_set_against_itself_equals_queries_whose_own_image_is_excluded() {
    let (rows, labels) = clusters(90, 9, 0.8);
    let scores = measure(&alone(&rows, &labels));
    assert_sound(&scores);
    let own: Vec<_> = (0..90).map(Some).collect();
    let again = Embedded { protocol: Protocol::OwnExcluded(&own), ..alone(&rows, &labels) };
    assert_eq!(measure(&again), scores);
    assert_eq!(value(&scores, Metric::PrecisionAt1), Some(scores.recall[0].estimate.value));
    assert_eq!(of(&scores, Metric::MapAtR).estimate.unwrap().basis.unwrap().to_string(), "BCa over 9 classes");
    assert_eq!(of(&scores, Metric::PiRatio).estimate.unwrap().basis.unwrap().to_string(), "jackknife over 9 classes");
    // k beyond the gallery: everything that can be found is found.
    assert_eq!(scores.recall[2].estimate.value, 1.0);
    assert_eq!(scores.recall[2].estimate.basis.unwrap().to_string(), "Wilson over 9 classes");
    assert!(scores.recall[2].estimate.low < 0.8, "nine classes do not prove 100 %");
}

#[test]
fn nothing_is_excluded_between_disjoint_queries_and_gallery() {
    let (rows, labels) = clusters(90, 9, 0.8);
    let (asked, rest): (Vec<usize>, Vec<usize>) = (0..90).partition(|i| i % 5 == 2);
    let pick = |list: &[usize]| (rows.select(list), list.iter().map(|&i| labels[i]).collect::<Vec<u32>>());
    let ((queries, query_labels), (gallery, gallery_labels)) = (pick(&asked), pick(&rest));
    let protocol = Protocol::QueryGallery;
    let (queries, gallery) = (&queries, &gallery);
    let embedded = Embedded {
        queries,
        query_labels: &query_labels,
        gallery,
        gallery_labels: &gallery_labels,
        protocol,
        distance: Distance::Euclidean,
    };
    let scores = measure(&embedded);
    assert_sound(&scores);
    // The nearest gallery image by a plain loop.
    let right = (0..queries.len()).filter(|&q| {
        let distance = |g: &usize| {
            let pairs = queries.row(q).iter().zip(gallery.row(*g));
            pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>()
        };
        let nearest = (0..gallery.len()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap();
        gallery_labels[nearest] == query_labels[q]
    });
    let wanted = right.count() as f64 / queries.len() as f64;
    approx::assert_abs_diff_eq!(value(&scores, Metric::PrecisionAt1).unwrap(), wanted, epsilon = 1e-12);
    // An image that is both query and gallery item would find itself: that is what the protocol says.
    let same = Embedded { protocol, ..alone(&rows, &labels) };
    assert_eq!(value(&measure(&same), Metric::PrecisionAt1), Some(1.0));
}

#[test]
fn a_class_with_one_image_is_left_out_and_counted() {
    let (rows, mut labels) = clusters(30, 5, 0.5);
    labels[7] = 9999;
    let scores = measure(&alone(&rows, &labels));
    assert_sound(&scores);
    assert_eq!((scores.without_positive, scores.query_classes), (1, 6));
    assert_eq!(scores.recall[0].estimate.n, 29);
    assert_eq!(of(&scores, Metric::MapAtR).estimate.unwrap().n, 29);
    let singletons: Vec<u32> = (0..30).collect();
    let scores = measure(&alone(&rows, &singletons));
    assert_sound(&scores);
    assert_eq!((scores.recall.len(), scores.without_positive), (0, 30));
    for metric in [Metric::PrecisionAt1, Metric::Mrr, Metric::MacroRecallAt1, Metric::PiIntra, Metric::PairwiseF1] {
        assert_eq!(value(&scores, metric), None, "{metric}");
    }
    assert!(value(&scores, Metric::PiInter).is_some());
}

#[test]
fn one_class_only_is_no_success() {
    let (rows, _) = clusters(20, 2, 0.5);
    let scores = measure(&alone(&rows, &[4; 20]));
    assert_sound(&scores);
    for metric in [Metric::Nmi, Metric::Ami, Metric::PiInter, Metric::PiRatio] {
        assert_eq!(value(&scores, metric), None, "{metric}");
    }
    // Whatever is found is right; that it says little is what the unit and the interval say.
    let recall = scores.recall[0].estimate;
    assert_eq!((recall.value, recall.basis.unwrap().to_string().as_str()), (1.0, "Wilson over 20 queries"));
    assert!(recall.low < 0.9);
}

#[test]
fn a_collapsed_embedding_is_all_wrong_and_says_so() {
    let rows = Embeddings::new([40, 3], [0.6, 0.0, 0.8].repeat(40)).unwrap();
    let labels: Vec<u32> = (0..40).map(|i| i % 4).collect();
    let scores = measure(&alone(&rows, &labels));
    assert_sound(&scores);
    // Every distance is a tie, and ties count against the model.
    assert_eq!((scores.recall[0].estimate.value, value(&scores, Metric::MapAtR)), (0.0, Some(0.0)));
    assert!(scores.recall[0].estimate.high > 0.4, "four classes do not prove 0 %");
    for metric in [Metric::PiRatio, Metric::Rho(1)] {
        assert_eq!(value(&scores, metric), None, "{metric}");
    }
    assert!(of(&scores, Metric::Rho(1)).note.contains("1 of 3 singular values"), "{:?}", of(&scores, Metric::Rho(1)));
    approx::assert_abs_diff_eq!(value(&scores, Metric::EffectiveRank).unwrap(), 1.0, epsilon = 1e-6);
    approx::assert_abs_diff_eq!(value(&scores, Metric::MeanCosine).unwrap(), 1.0, epsilon = 1e-9);
}

#[test]
fn zero_embeddings_are_counted_and_what_is_not_finite_is_refused() {
    let (rows, labels) = clusters(30, 5, 0.5);
    let mut data = rows.as_slice().to_vec();
    data[..12].fill(0.0);
    let zero = Embeddings::new([30, 6], data.clone()).unwrap();
    let scores = measure(&alone(&zero, &labels));
    assert_sound(&scores);
    assert!(of(&scores, Metric::PiIntra).note.starts_with("2 embeddings are zero"));
    for bad in [f32::NAN, f32::INFINITY, 1e20] {
        data[13] = bad;
        let rows = Embeddings::new([30, 6], data.clone()).unwrap();
        let error =
            alone(&rows, &labels).measure(&[1], &all_metrics(), Clustering::default(), 0).unwrap_err().to_string();
        assert!(error.contains("embedding 2 holds"), "{error}");
    }
}

#[test]
fn empty_sets_and_lists_that_do_not_fit_are_refused_or_empty() {
    let (rows, labels) = clusters(6, 2, 0.5);
    let none = Embeddings::new([0, 6], vec![]).unwrap();
    let text = |embedded: Embedded<'_>| {
        embedded.measure(&[1], &all_metrics(), Clustering::default(), 0).unwrap_err().to_string()
    };
    assert!(text(alone(&none, &[])).contains("the gallery is empty"));
    assert!(text(alone(&rows, &labels[..5])).contains("got 5, wanted 6"));
    let own = vec![Some(6); 6];
    let wrong = Embedded { protocol: Protocol::OwnExcluded(&own), ..alone(&rows, &labels) };
    assert!(text(wrong).contains("query 0 excludes gallery item 6"));
    let no_queries =
        Embedded { queries: &none, query_labels: &[], protocol: Protocol::QueryGallery, ..alone(&rows, &labels) };
    let scores = measure(&no_queries);
    assert!(scores.recall.is_empty() && value(&scores, Metric::MapAtR).is_none());
}

#[test]
fn the_clustering_takes_the_clusters_that_it_is_told() {
    let (rows, labels) = clusters(60, 6, 0.05);
    let told = |clusters| {
        alone(&rows, &labels)
            .measure(&[1], &[Metric::Nmi, Metric::PairwiseF1], Clustering { clusters, restarts: 1 }, 3)
            .unwrap()
    };
    let own = told(0);
    assert!(own.metrics[0].note.contains("6 clusters") && value(&own, Metric::Nmi).unwrap() > 0.8);
    assert!(told(3).metrics[0].note.contains("3 clusters"));
    // More runs never fit worse; here they find another clustering than the first one, which the seed makes a bad one.
    let runs = |restarts, seed| {
        let clustering = Clustering { clusters: 0, restarts };
        value(&alone(&rows, &labels).measure(&[1], &[Metric::Nmi], clustering, seed).unwrap(), Metric::Nmi).unwrap()
    };
    let (once, often): (f64, f64) = (0..20)
        .map(|seed| (runs(1, seed), runs(10, seed)))
        .fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    assert!(often > once, "{often} {once}");
    let many = told(61);
    assert!(many.metrics[0].estimate.is_none() && many.metrics[0].note.contains("61 clusters of 60 points"));
}

#[test]
fn an_attack_is_measured_against_the_same_clean_queries() {
    let labels = [1, 1, 2, 2, 3];
    let attack = Attack {
        labels: &labels,
        clean_first_hits: &[1, 1, 1, 5, 0],
        first_hits: &[1, 4, 2, 9, 0],
        target_ranks: &[3, 1, 1, 2, 1],
        candidates: &[5; 5],
    };
    let found = of_attack(&[Metric::RetainedShare, Metric::RecallDrop, Metric::TargetRank, Metric::MapAtR], &attack, 1);
    let values: Vec<f64> = found.iter().map(|m| m.estimate.unwrap().value).collect();
    // 3 of 4 clean, 1 of 4 attacked; ranks 3 1 1 2 1 of 5.
    assert_eq!(values, [1.0 / 3.0, 0.5, 0.15]);
    assert_eq!(found.iter().map(|m| m.estimate.unwrap().n).collect::<Vec<_>>(), [4, 4, 5]);
    let hopeless = Attack { clean_first_hits: &[2, 2, 2, 2, 0], target_ranks: &[], ..attack };
    let found = of_attack(&[Metric::RetainedShare, Metric::TargetRank], &hopeless, 1);
    assert_eq!(found.len(), 1, "without targets there is no rank of a target");
    assert!(found[0].estimate.is_none() && found[0].note.contains("no query is right on clean images"));
}

#[test]
fn by_cosine_the_length_of_a_row_does_not_count() {
    let (rows, labels) = clusters(60, 6, 0.9);
    let ranking: Vec<Metric> = all_metrics().into_iter().filter(|m| m.scope() == Scope::Ranking).collect();
    let cosine = |rows: &Embeddings| {
        let embedded = Embedded { distance: Distance::Cosine, ..alone(rows, &labels) };
        embedded.measure(&[1, 4], &ranking, Clustering::default(), 3).unwrap()
    };
    // Powers of two change lengths and no rounding.
    let scale = |i: usize| [0.25, 1.0, 8.0][i / 6 % 3];
    let data = rows.as_slice().iter().enumerate().map(|(i, v)| v * scale(i)).collect();
    let scaled = Embeddings::new([60, 6], data).unwrap();
    assert_eq!(cosine(&rows), cosine(&scaled));
    assert_ne!(measure(&alone(&rows, &labels)).recall, measure(&alone(&scaled, &labels)).recall);
}

#[test]
fn the_same_numbers_whatever_the_threads() {
    let (rows, labels) = clusters(120, 12, 0.9);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| measure(&alone(&rows, &labels)))
    };
    assert_eq!(run(1), run(3));
}

/// 40 classes are drawn from a world in which a class of 6 is found whole with a chance of 0.6, and otherwise split in
/// halves; the F1 of a very large draw is the truth that 95 % of the intervals should hold.
#[test]
fn intervals_of_a_clustering_hold_the_truth_as_often_as_they_say() {
    use crate::metric::clustering::Contingency;
    use crate::metric::groups::Groups;
    use crate::stats::uncertainty;

    let draw = |classes: u32, seed: u64| {
        let mut stream = rng::stream(seed, "clustering", &[]);
        let (mut labels, mut clusters) = (vec![], vec![]);
        for class in 0..classes {
            let whole = rng::unit(&mut stream) < 0.6;
            for item in 0..6 {
                labels.push(class);
                clusters.push(2 * class + u32::from(!whole && item < 3));
            }
        }
        (labels, clusters)
    };
    let (labels, clusters) = draw(20_000, 0);
    let truth = Contingency::new(&labels, &clusters).pairwise_f1().unwrap();
    let held = (1..=300).filter(|&seed| {
        let (labels, clusters) = draw(40, seed);
        let groups = Groups::of_classes(&labels, 50);
        let tables = Contingency::by_group(&labels, &clusters, &groups);
        let values: Vec<_> = tables.iter().map(Contingency::pairwise_f1).collect();
        let (interval, _) = uncertainty::of_set(values[0].unwrap(), &values[1..], groups.classes()).unwrap();
        interval.low <= truth && truth <= interval.high
    });
    let held = held.count();
    assert!((270..=297).contains(&held), "{held} of 300");
}

#[test]
fn every_metric_that_is_a_number_has_an_interval() {
    let (rows, labels) = clusters(60, 6, 0.6);
    let scores = measure(&alone(&rows, &labels));
    for answer in &scores.metrics {
        let Some(estimate) = answer.estimate else { continue };
        assert!(estimate.basis.is_some(), "{} = {} has no interval", answer.metric, estimate.value);
    }
}
