//! Metrics of a set of embeddings: its geometry, and how well a clustering of it finds the classes.

use crate::batch::Embeddings;
use crate::metric::clustering::Contingency;
use crate::metric::directions::{Directions, LeftOut};
use crate::metric::groups::Groups;
use crate::metric::kind::{Metric, Scope};
use crate::metric::kmeans::{KMeans, kmeans};
use crate::metric::spectrum::Spectrum;
use crate::metric::uniformity::uniformity_by_group;
use crate::record::MetricEstimate;
use crate::stats::uncertainty;

/// Groups of classes that are left out one at a time: every class by itself up to here.
const GROUPS: usize = 50;

/// How k-means is run for the metrics that need a clustering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clustering {
    /// Clusters that k-means makes; 0: as many as there are classes.
    pub clusters: usize,
    /// Independent runs, of which the one with the least inertia counts.
    pub restarts: usize,
}

impl Default for Clustering {
    fn default() -> Self {
        Self { clusters: 0, restarts: 1 }
    }
}

/// A set of embeddings.
#[derive(Debug, Clone, Copy)]
pub struct Set<'a> {
    /// `[n, d]`.
    pub embeddings: &'a Embeddings,
    /// Class of each, `[n]`.
    pub labels: &'a [u32],
    /// How k-means is run.
    pub clustering: Clustering,
    /// Names the draws of k-means.
    pub seed: u64,
}

/// The metrics of a set among `metrics`.
///
/// # Panics
/// If `labels` has another length than the embeddings.
pub fn of_set(metrics: &[Metric], set: &Set<'_>) -> Vec<MetricEstimate> {
    let of = |wanted: &dyn Fn(&Metric) -> bool| metrics.iter().copied().filter(|m| wanted(m)).collect::<Vec<_>>();
    let clustering = of(&|m| m.scope() == Scope::Clustering);
    let spectral = of(&|m| matches!(m, Metric::Rho(_) | Metric::EffectiveRank));
    let angular = of(&|m| m.scope() == Scope::Geometry && !spectral.contains(m));
    let mut answers = Vec::new();
    if !angular.is_empty() {
        answers.extend(of_directions(&angular, set));
    }
    if !spectral.is_empty() {
        answers.extend(of_spectrum(&spectral, set));
    }
    if !clustering.is_empty() {
        answers.extend(of_clustering(&clustering, set));
    }
    answers
}

/// A figure with its jackknife, or the reason why there is none.
fn figure(
    metric: Metric,
    set: &Set<'_>,
    groups: &Groups,
    of: impl Fn(LeftOut) -> Option<f64>,
    why: &str,
) -> MetricEstimate {
    let Some(value) = of(None) else { return MetricEstimate::undefined(metric, why) };
    let left_out: Vec<Option<f64>> = (0..groups.count()).map(|group| of(Some(group))).collect();
    let interval = uncertainty::of_set(value, &left_out, groups.classes());
    MetricEstimate::new(metric, value, interval, set.labels.len())
}

fn of_directions(metrics: &[Metric], set: &Set<'_>) -> Vec<MetricEstimate> {
    let groups = Groups::of_classes(set.labels, GROUPS);
    let directions = Directions::new(set.embeddings, set.labels, &groups);
    let zero = directions.without_direction();
    let answer = |&metric: &Metric| {
        let of = |value: &dyn Fn(LeftOut) -> Option<f64>, why: &str| figure(metric, set, &groups, value, why);
        let mut answer = match metric {
            Metric::PiIntra => of(&|out| directions.pi_intra(out), "no class has two images"),
            Metric::PiInter => of(&|out| directions.pi_inter(out), "there is only one class"),
            Metric::PiRatio => of(
                &|out| directions.pi_ratio(out),
                "no class has two images, there is only one class, or all class means coincide",
            ),
            Metric::Alignment => of(&|out| directions.alignment(out), "no class has two images"),
            Metric::MeanCosine => of(&|out| directions.mean_cosine(out), "there are fewer than two images"),
            _ => {
                let found = uniformity_by_group(set.embeddings, set.labels, &groups);
                let (value, left_out) = found.map_or((None, vec![]), |(value, rest)| (Some(value), rest));
                of(&|out| out.map_or(value, |group| left_out[group]), "there are fewer than two images")
            }
        };
        if zero > 0 && answer.note.is_empty() {
            answer.note = format!("{zero} embeddings are zero: their cosine with every other counts as 0");
        }
        answer
    };
    metrics.iter().map(answer).collect()
}

/// Eigenvalues take `d³`, so fewer groups are left out of wide embeddings, and none of very wide ones.
fn spectral_groups(labels: &[u32], dim: usize) -> Option<Groups> {
    match dim {
        0..=256 => Some(Groups::of_classes(labels, GROUPS)),
        257..=1024 => Some(Groups::of_classes(labels, 10)),
        _ => None,
    }
}

fn of_spectrum(metrics: &[Metric], set: &Set<'_>) -> Vec<MetricEstimate> {
    let groups = spectral_groups(set.labels, set.embeddings.dim());
    let (all, left_out) = match &groups {
        Some(groups) => Spectrum::by_group(set.embeddings, set.labels, groups),
        None => (Spectrum::of(set.embeddings), vec![]),
    };
    let answer = |&metric: &Metric| {
        let of = |spectrum: &Spectrum| match metric {
            Metric::Rho(mode) => spectrum.rho(mode),
            _ => spectrum.effective_rank(),
        };
        let Some(value) = of(&all) else {
            let kept = all.values().iter().filter(|v| **v > 0.0).count();
            let why = format!("{kept} of {} singular values are above zero", all.values().len());
            return MetricEstimate::undefined(metric, why);
        };
        let values: Vec<Option<f64>> = left_out.iter().map(of).collect();
        let classes = groups.as_ref().map_or(0, Groups::classes);
        let interval = uncertainty::of_set(value, &values, classes);
        let answer = MetricEstimate::new(metric, value, interval, set.labels.len());
        let wide = "no interval: the embedding is too wide for a jackknife of its spectrum";
        MetricEstimate { note: if groups.is_none() { wide.into() } else { String::new() }, ..answer }
    };
    metrics.iter().map(answer).collect()
}

/// Classes up to which each is left out by itself; the expectation in AMI makes more of them slow.
const FEW_CLASSES: usize = 1000;

fn of_clustering(metrics: &[Metric], set: &Set<'_>) -> Vec<MetricEstimate> {
    let classes = Groups::of_classes(set.labels, GROUPS).classes();
    let groups = Groups::of_classes(set.labels, if classes > FEW_CLASSES { 10 } else { GROUPS });
    let clusters = if set.clustering.clusters == 0 { classes } else { set.clustering.clusters };
    let options = KMeans { restarts: set.clustering.restarts, ..KMeans::new(clusters, set.seed) };
    let clustering = match kmeans(set.embeddings, &options) {
        Ok(clustering) => clustering,
        Err(error) => {
            return metrics.iter().map(|&m| MetricEstimate::undefined(m, error.to_string())).collect();
        }
    };
    // The clustering stays as it is and classes leave the table: what another clustering would change is not in the
    // interval, and the note says so.
    let tables = Contingency::by_group(set.labels, &clustering.assignments, &groups);
    let answer = |&metric: &Metric| {
        let (of, why): (fn(&Contingency) -> Option<f64>, _) = match metric {
            Metric::Nmi => (Contingency::nmi, "there is only one class, or every image is a class of its own"),
            Metric::Ami => (Contingency::ami, "there is only one class, or sizes alone fix the clustering"),
            _ => (Contingency::pairwise_f1, "no class has two images"),
        };
        let answer = figure(metric, set, &groups, |out| of(&tables[out.map_or(0, |group| group + 1)]), why);
        if answer.estimate.is_none() {
            return answer;
        }
        MetricEstimate { note: format!("k-means with {clusters} clusters, held fixed for the interval"), ..answer }
    };
    metrics.iter().map(answer).collect()
}
