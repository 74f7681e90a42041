//! Metrics of ranked lists.

use std::collections::HashMap;

use super::mean;
use crate::metric::breakdown::{by_class, macro_mean, worst};
use crate::metric::groups::Groups;
use crate::metric::hubness::Occurrences;
use crate::metric::kind::{Metric, Scope};
use crate::metric::neighbors::Found;
use crate::metric::ranking::{
    average_precision, map_at_r, official_average_precision, precision_at_1, r_precision, reciprocal_rank,
};
use crate::metric::recall::recall_at_k;
use crate::record::{Estimate, MetricEstimate, RecallAt};
use crate::stats::bootstrap::Resampling;
use crate::stats::uncertainty::{self, Basis, Method, Unit};
use crate::stats::wilson;

/// Neighbours that count as near for hubness, as in the source.
const HUB_K: usize = 10;

/// Groups of query classes that are left out one at a time for the interval of a hubness.
const HUB_GROUPS: usize = 50;

/// What faiss returns at most on a GPU, and so where the official code's `mAP_lim` ends.
const OFFICIAL_LIMIT: usize = 1023;

/// The value of one query: its number, the flags of its list, and R.
type OfQuery<'a> = &'a dyn Fn(usize, &[bool], usize) -> Option<f64>;

/// The ranked lists of all queries.
#[derive(Debug, Clone, Copy)]
pub struct Lists<'a> {
    /// What each query found, at least as deep as [`depths`] says.
    pub found: &'a [Found],
    /// Class of each query, `[n]`.
    pub query_labels: &'a [u32],
    /// Class of each gallery item, `[g]`.
    pub gallery_labels: &'a [u32],
    /// The gallery item that is the query itself, `[n]`; or empty.
    pub excluded: &'a [Option<usize>],
}

impl Lists<'_> {
    /// Whether each item that a query found has its class, best first.
    fn hits(&self, query: usize) -> Vec<bool> {
        let label = self.query_labels[query];
        self.found[query].neighbors.iter().map(|&item| self.gallery_labels[item as usize] == label).collect()
    }
}

/// MAP@R of each query, `[n]`; `None` where the gallery has no other image of its class.
///
/// # Panics
/// If the lists are not as deep as [`depths`] says for `map@r`.
pub fn map_at_r_of_each(lists: &Lists<'_>) -> Vec<Option<f64>> {
    let positives = positives(lists.query_labels, lists.gallery_labels, lists.excluded);
    positives.into_iter().enumerate().map(|(query, r)| map_at_r(&lists.hits(query), r)).collect()
}

/// How many other gallery items each query has of its class.
fn positives(query_labels: &[u32], gallery_labels: &[u32], excluded: &[Option<usize>]) -> Vec<usize> {
    let mut sizes: HashMap<u32, usize> = HashMap::new();
    for label in gallery_labels {
        *sizes.entry(*label).or_default() += 1;
    }
    let count = |(query, label): (usize, &u32)| {
        let own = excluded.get(query).copied().flatten().is_some_and(|item| gallery_labels[item] == *label);
        sizes.get(label).copied().unwrap_or(0) - usize::from(own)
    };
    query_labels.iter().enumerate().map(count).collect()
}

/// How many neighbours a search must return for each query: the largest k, and what the metrics need.
pub fn depths(
    ks: &[u32],
    metrics: &[Metric],
    query_labels: &[u32],
    gallery_labels: &[u32],
    excluded: &[Option<usize>],
) -> Vec<usize> {
    let least = ks.iter().copied().max().unwrap_or(1) as usize;
    let of = |metric: &Metric, positives: usize| match metric {
        Metric::RPrecision | Metric::MapAtR => positives,
        Metric::OfficialMapC => positives + 1,
        Metric::MapAt1000 | Metric::OfficialMap1000 => 1000,
        Metric::OfficialMapLim => OFFICIAL_LIMIT,
        Metric::HubSkewness | Metric::Antihubs => HUB_K,
        _ => 1,
    };
    let deepest = |positives: usize| metrics.iter().map(|metric| of(metric, positives)).fold(least, usize::max);
    positives(query_labels, gallery_labels, excluded).into_iter().map(deepest).collect()
}

/// recall@k at every k; empty if no query can have a hit. `first_hits` as in [`recall_at_k`].
///
/// # Panics
/// If the lists differ in length.
pub fn recall_at(ks: &[u32], first_hits: &[u32], labels: &[u32], seed: u64) -> Vec<RecallAt> {
    assert_eq!(first_hits.len(), labels.len(), "one label for each query");
    let counted: Vec<(u32, u32)> =
        first_hits.iter().copied().zip(labels.iter().copied()).filter(|(rank, _)| *rank > 0).collect();
    let labels: Vec<u32> = counted.iter().map(|query| query.1).collect();
    let at = |&k: &u32| {
        let point = recall_at_k(first_hits, k)?;
        let hits: Vec<f64> = counted.iter().map(|(rank, _)| f64::from(u8::from(*rank <= k))).collect();
        let estimate = Estimate { value: point.share, ..mean(&hits, &labels, (0.0, 1.0), seed)? };
        Some(RecallAt { k, estimate })
    };
    ks.iter().filter_map(at).collect()
}

/// The metrics of ranked lists among `metrics` (without recall@k, see [`recall_at`]).
///
/// # Panics
/// If the lists are not as deep as [`depths`] says.
pub fn of_lists(metrics: &[Metric], lists: &Lists<'_>, seed: u64) -> Vec<MetricEstimate> {
    let positives = positives(lists.query_labels, lists.gallery_labels, lists.excluded);
    let by_query = |metric: Metric, value: OfQuery<'_>| {
        let answers = positives.iter().enumerate().filter(|(_, r)| **r > 0);
        let answers = answers.filter_map(|(q, &r)| Some((value(q, &lists.hits(q), r)?, lists.query_labels[q])));
        let (values, labels): (Vec<f64>, Vec<u32>) = answers.unzip();
        match mean(&values, &labels, metric.about().range, seed) {
            Some(estimate) => MetricEstimate { metric, estimate: Some(estimate), note: String::new() },
            None => MetricEstimate::undefined(metric, "no query has another image of its class in the gallery"),
        }
    };
    let gallery = lists.gallery_labels.len();
    let wanted = metrics.iter().copied().filter(|metric| metric.scope() == Scope::Ranking);
    let answer = |metric: Metric| {
        Some(match metric {
            Metric::PrecisionAt1 => by_query(metric, &|_, hits, r| precision_at_1(hits, r)),
            Metric::RPrecision => by_query(metric, &|_, hits, r| r_precision(hits, r)),
            Metric::MapAtR => by_query(metric, &|_, hits, r| map_at_r(hits, r)),
            Metric::MapAt1000 => by_query(metric, &|_, hits, r| average_precision(hits, r, 1000)),
            Metric::Mrr => by_query(metric, &|q, _, _| reciprocal_rank(lists.found[q].first_hit)),
            Metric::OfficialMapC => by_query(metric, &|_, hits, r| official_average_precision(hits, r, r + 1)),
            Metric::OfficialMap1000 => by_query(metric, &|_, hits, r| official_average_precision(hits, r, 1000)),
            Metric::OfficialMapLim => {
                let limit = OFFICIAL_LIMIT.min(gallery);
                by_query(metric, &|_, hits, r| official_average_precision(hits, r, limit))
            }
            Metric::MacroRecallAt1 | Metric::WorstClassRecallAt1 => of_classes(metric, lists, seed),
            Metric::HubSkewness | Metric::Antihubs => of_hubs(metric, lists),
            _ => return None,
        })
    };
    wanted.filter_map(answer).collect()
}

fn of_classes(metric: Metric, lists: &Lists<'_>, seed: u64) -> MetricEstimate {
    let counted = lists.found.iter().zip(lists.query_labels).filter(|(found, _)| found.first_hit > 0);
    let (hits, labels): (Vec<f64>, Vec<u32>) =
        counted.map(|(found, label)| (f64::from(u8::from(found.first_hit == 1)), *label)).unzip();
    let classes = by_class(&hits, &labels);
    let Some(value) = macro_mean(&classes) else {
        return MetricEstimate::undefined(metric, "no query has another image of its class in the gallery");
    };
    if metric == Metric::WorstClassRecallAt1 {
        let class = worst(&classes, 1)[0];
        let basis = Basis { method: Method::Wilson, unit: Unit::Queries, units: class.queries as u32 };
        let interval = wilson::interval(class.mean, class.queries as f64).map(|interval| (interval, basis));
        return MetricEstimate {
            note: format!("class {}, {} queries", class.label, class.queries),
            ..MetricEstimate::new(metric, class.mean, interval, hits.len())
        };
    }
    let means: Vec<f64> = classes.iter().map(|class| class.mean).collect();
    let names: Vec<u32> = classes.iter().map(|class| class.label).collect();
    // With one class its mean is the only unit: there is no second one to draw.
    let drawn = (classes.len() > 1)
        .then(|| uncertainty::of_queries(&means, &vec![1.0; means.len()], &names, true, Resampling::new(seed)));
    MetricEstimate::new(metric, value, drawn.flatten().and_then(|(_, interval)| interval), hits.len())
}

fn of_hubs(metric: Metric, lists: &Lists<'_>) -> MetricEstimate {
    let gallery = lists.gallery_labels.len();
    if lists.found.is_empty() {
        return MetricEstimate::undefined(metric, "there is no query");
    }
    let groups = Groups::of_classes(lists.query_labels, HUB_GROUPS);
    let value = |left_out: Option<usize>| {
        let kept = lists.found.iter().zip(lists.query_labels);
        let kept = kept.filter(|(_, label)| left_out.is_none_or(|group| groups.of(**label) != group));
        let near = kept.map(|(found, _)| &found.neighbors[..found.neighbors.len().min(HUB_K)]);
        let occurrences = Occurrences::count(near, gallery);
        if metric == Metric::Antihubs { occurrences.never() } else { occurrences.skewness() }
    };
    let Some(all) = value(None) else {
        return MetricEstimate::undefined(metric, "every gallery image is found equally often");
    };
    let left_out: Vec<Option<f64>> = (0..groups.count()).map(|group| value(Some(group))).collect();
    MetricEstimate::new(metric, all, uncertainty::of_set(all, &left_out, groups.classes()), gallery)
}
