//! The scores of a ranking attack, per image and as metrics.

use super::attacked::Attacked;
use super::retrieval::Places;
use super::{AttackInput, TrialInput};
use crate::attack::ranking;
use crate::metric::ers;
use crate::metric::kind::Metric;
use crate::record::{Estimate, MetricEstimate, QueryOutcome};
use crate::score;
use crate::suite::attack::{Goal, RankingPart};

/// The part of RobRank that a trial is; `None` for every other trial.
pub(super) fn part_of(input: &TrialInput<'_>) -> Option<RankingPart> {
    match input.attack {
        Some(AttackInput { goal: Goal::Robrank(robrank), .. }) => robrank.part(),
        _ => None,
    }
}

/// Writes every image's score into its outcome and gives the part's metrics. Of an attacked candidate everything that a
/// query would have found is taken out.
pub(super) fn score(
    part: RankingPart,
    input: &TrialInput<'_>,
    attacked: &Attacked,
    places: &Places,
    queries: &mut [QueryOutcome],
) -> Vec<MetricEstimate> {
    let by_image: std::collections::HashMap<usize, usize> =
        input.gallery.iter().enumerate().map(|(place, &image)| (image, place)).collect();
    let place = |image: &usize| by_image.get(image).copied();
    let targets: Vec<Vec<usize>> =
        attacked.samples.iter().map(|s| s.targets.iter().filter_map(place).collect()).collect();
    let hits: Vec<bool> = queries.iter().map(|q| q.first_hit == 1).collect();
    let shifts: Vec<f32> = attacked.samples.iter().map(|s| s.shift).collect();
    let scores = ranking::scores(
        part,
        &ranking::Attacked {
            embeddings: &attacked.embeddings,
            targets: &targets,
            own: &places.own,
            hits: &hits,
            shifts: &shifts,
            gallery: input.gallery_embeddings,
        },
    );
    for (outcome, score) in queries.iter_mut().zip(&scores) {
        outcome.score = Some(*score);
        if part.perturbs_candidate() {
            outcome.first_hit = 0;
            outcome.neighbors.clear();
        }
    }
    let labels: Vec<u32> = queries.iter().map(|q| q.label).collect();
    let answer = |metric: Metric, values: &[f64]| match mean(metric, values, &labels, input.seed) {
        Some(estimate) => {
            let share = ers::rescaled(metric, estimate.value).unwrap_or_default();
            MetricEstimate { metric, estimate: Some(estimate), note: format!("{share:.1} of 100 in ERS") }
        }
        None => MetricEstimate::undefined(metric, "no image was attacked"),
    };
    let mut answers = vec![answer(metric_of(part), &scores)];
    if part == RankingPart::EmbeddingShift {
        let recall: Vec<f64> = hits.iter().map(|&hit| 100.0 * f64::from(u8::from(hit))).collect();
        answers.push(answer(Metric::EsR, &recall));
    }
    answers
}

/// The mean of a score. One that counts images is a share, in percent: where all agree it still has an interval.
fn mean(metric: Metric, values: &[f64], labels: &[u32], seed: u64) -> Option<Estimate> {
    if !matches!(metric, Metric::EsR | Metric::Ltm | Metric::Gtm | Metric::Gtt) {
        return score::mean(values, labels, metric.about().range, seed);
    }
    let shares: Vec<f64> = values.iter().map(|value| value / 100.0).collect();
    let share = score::mean(&shares, labels, (0.0, 1.0), seed)?;
    let percent = |value: f64| 100.0 * value;
    Some(Estimate { value: percent(share.value), low: percent(share.low), high: percent(share.high), ..share })
}

/// The metric of a part's score; embedding shift has a second one, recall@1.
pub fn metric_of(part: RankingPart) -> Metric {
    match part {
        RankingPart::CandidateRaise => Metric::CaPlus,
        RankingPart::CandidateLower => Metric::CaMinus,
        RankingPart::QueryRaise => Metric::QaPlus,
        RankingPart::QueryLower => Metric::QaMinus,
        RankingPart::TargetedMismatch => Metric::Tma,
        RankingPart::EmbeddingShift => Metric::EsD,
        RankingPart::LearningToMisrank => Metric::Ltm,
        RankingPart::GreedyMisrank => Metric::Gtm,
        RankingPart::GreedyTranslocation => Metric::Gtt,
    }
}
