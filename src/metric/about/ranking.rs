//! The scores of RobRank's attacks and ERS, in words.

use super::{About, Direction, Scope, entry};
use crate::metric::kind::Metric;

const PERCENT: (f64, f64) = (0.0, 100.0);
const ATTACKS: &str = "Zhou et al. 2020, arXiv:2002.11293";
const OTHERS: &str = "Zhou et al., arXiv:2106.03614, section 5";
const RANK_EDGES: &str = "strictly nearer items count, the image's own clean copy among them, as published; images drawn are never the own one";

pub(super) fn robrank(metric: Metric) -> About {
    let of = |direction, range, words| entry(Scope::Robrank, direction, range, words);
    let raised = |definition| {
        let formula = "mean over W (M) of #{g nearer} / N, in percent; in ERS 2 × value";
        of(
            Direction::Higher,
            PERCENT,
            [definition, formula, RANK_EDGES, ATTACKS, "50 is chance and what it starts from"],
        )
    };
    let lowered = |definition| {
        let formula = "mean over W (M) of #{g nearer} / N, in percent; in ERS 100 − value";
        let edges = "as ca-plus; drawn from the nearest hundredth of the gallery, or as many as are needed";
        of(Direction::Lower, PERCENT, [definition, formula, edges, ATTACKS, "about 0 to 1 is what it starts from"])
    };
    let recall =
        |definition, formula, source| of(Direction::Higher, PERCENT, [definition, formula, "as recall@1", source, ""]);
    match metric {
        Metric::CaPlus => raised(
            "rank of a perturbed candidate, in percent of the gallery, for random queries that it tries to please",
        ),
        Metric::CaMinus => lowered(
            "rank of a perturbed candidate, in percent of the gallery, for near queries that it tries to escape",
        ),
        Metric::QaPlus => {
            raised("rank, in percent of the gallery, of random candidates that a perturbed query tries to find")
        }
        Metric::QaMinus => {
            lowered("rank, in percent of the gallery, of near candidates that a perturbed query tries to lose")
        }
        Metric::Tma => of(
            Direction::Lower,
            (-1.0, 1.0),
            [
                "cosine of a perturbed query's embedding and that of a random image that it tries to match",
                "mean of cos(f(x′), f(c)); in ERS 100 (1 − value)",
                "the image drawn may be of the query's class",
                "Tolias et al. 2019, arXiv:1908.09163; Zhou et al., arXiv:2106.03614",
                "",
            ],
        ),
        Metric::EsD => of(
            Direction::Lower,
            (0.0, f64::INFINITY),
            [
                "distance by which a perturbed query's embedding moved from its clean one",
                "mean of ‖f(x′) − f(x)‖; in ERS 50 (2 − value)",
                "at most 2 for unit rows; other models have no meaningful ERS",
                OTHERS,
                "the same as shift, but for the quirk penultimate_shift",
            ],
        ),
        Metric::EsR => recall(
            "recall@1 in percent of queries whose embedding moved as far as it could",
            "100 × recall@1 under `es`",
            OTHERS,
        ),
        Metric::Ltm => recall(
            "recall@1 in percent after learning-to-misrank: the farthest of another class pulled in, the nearest of the own pushed away",
            "100 × recall@1 under max(0, max d(other) − min d(own))",
            "Wang et al. 2020, arXiv:2004.04199, as in arXiv:2106.03614",
        ),
        Metric::Gtm => recall(
            "recall@1 in percent after the nearest image of another class was pulled in",
            "100 × recall@1 under d(f(x′), nearest of another class)",
            OTHERS,
        ),
        Metric::Gtt => recall(
            "share in percent of queries whose nearest image is still among the first four after it was pushed away",
            "100 × mean of [rank of the clean nearest image ≤ 4]",
            OTHERS,
        ),
        _ => of(
            Direction::Higher,
            PERCENT,
            [
                "empirical robustness score: the mean of the ten scores on a common scale from 0 (broken) to 100",
                "(2 ca-plus + 100 − ca-minus + 2 qa-plus + 100 − qa-minus + 100 (1 − tma) + 50 (2 − es-d) + es-r + ltm + gtm + gtt) / 10",
                "only if all ten were measured on the same images with the same budget; published for ε = 8/255, 32 steps of 3/255, unit rows",
                OTHERS,
                "published numbers have the quirks of the program: preset = \"code\"",
            ],
        ),
    }
}
