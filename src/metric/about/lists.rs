//! The words of metrics of ranked lists, of attacks and of suites.

use super::{About, SHARE, entry};
use crate::metric::kind::{Direction, Metric, Scope};

const LEFT_OUT: &str = "a query without another image of its class in the gallery is left out and counted";

pub(super) fn ranking(metric: Metric) -> About {
    let entry = |direction, range, words| entry(Scope::Ranking, direction, range, words);
    let higher = |words| entry(Direction::Higher, SHARE, words);
    match metric {
        Metric::PrecisionAt1 => higher([
            "share of queries whose nearest other image has their class",
            "mean of hit(1)",
            LEFT_OUT,
            "Manning, Raghavan, Schütze 2008, 8.4",
            "equal to recall@1 as long as the query itself is excluded; pytorch-metric-learning's name",
        ]),
        Metric::RPrecision => higher([
            "share of the nearest R images that have the query's class, R being how many others there are",
            "mean of (hits among the first R) / R",
            LEFT_OUT,
            "Manning, Raghavan, Schütze 2008, 8.4; Musgrave et al. 2020, arXiv:2003.08505",
            "",
        ]),
        Metric::MapAtR => higher([
            "average precision within the nearest R images, R being how many others of the class there are",
            "mean of (1/R) Σ_{i ≤ R} P(i)·hit(i)",
            LEFT_OUT,
            "Musgrave et al. 2020, arXiv:2003.08505, 4.3",
            "R leaves the query out; the official code's mAP_c divides by R + 1 (official-map-c)",
        ]),
        Metric::MapAt1000 => higher([
            "average precision within the nearest 1,000 images",
            "mean of Σ_{i ≤ 1000} P(i)·hit(i) / min(R, 1000)",
            "a smaller gallery is used up",
            "Manning, Raghavan, Schütze 2008, 8.4, cut at 1,000",
            "papers after Roth et al. print the official code's mAP_1000, which divides by R + 1 (official-map-1000)",
        ]),
        Metric::Mrr => higher([
            "mean of 1 / rank of the first image of the query's class",
            "mean of 1 / rank",
            LEFT_OUT,
            "Voorhees 1999, TREC-8",
            "the rank is that in the whole gallery, not cut at k",
        ]),
        Metric::OfficialMapC => higher([
            "the official code's mAP_c: average precision within the class size, divided by the class size with the query",
            "mean of 1/(R+1) Σ_{i ≤ R+1} P(i)·hit(i)",
            "at most R/(R+1): 0.5 for pairs",
            "the official code of arXiv:2211.16253",
            "not Musgrave's MAP@R",
        ]),
        Metric::OfficialMap1000 => higher([
            "the official code's mAP_1000, printed as mAP@1000 by its family of papers",
            "mean of 1/(R+1) Σ_{i ≤ 1000} P(i)·hit(i)",
            "at most R/(R+1); a smaller gallery is used up",
            "the official code of arXiv:2211.16253; Roth et al. 2020, arXiv:2002.08473",
            "map@1000 divides by min(R, 1000)",
        ]),
        Metric::OfficialMapLim => higher([
            "the official code's mAP_lim: as mAP_1000, within the nearest min(1023, N)",
            "mean of 1/(R+1) Σ_{i ≤ min(1023, N)} P(i)·hit(i)",
            "at most R/(R+1); 1,023 is what faiss can return on a GPU",
            "the official code of arXiv:2211.16253",
            "",
        ]),
        Metric::MacroRecallAt1 => higher([
            "recall@1 of each class, averaged over classes: large classes do not hide small ones",
            "mean over classes of the class's recall@1",
            LEFT_OUT,
            "the macro average of Manning, Raghavan, Schütze 2008, 13.6",
            "plain recall@1 is the micro average",
        ]),
        Metric::WorstClassRecallAt1 => higher([
            "recall@1 of the class that is served worst",
            "minimum over classes of the class's recall@1",
            "with few queries a class the minimum of many classes is partly bad luck; the interval is Wilson's for that class's queries and does not know that the class was chosen",
            "",
            "",
        ]),
        Metric::HubSkewness => entry(
            Direction::Lower,
            (f64::NEG_INFINITY, f64::INFINITY),
            [
                "skewness of how often each gallery image is among the 10 nearest of a query: large if a few hubs are near to everything",
                "m₃ / m₂^1.5 of the counts N₁₀",
                "undefined if all counts are equal; k is the gallery if that holds fewer than 10 others; the interval leaves out the queries of one class at a time",
                "Radovanović et al. 2010, JMLR 11, eq. 1",
                "",
            ],
        ),
        Metric::Antihubs => entry(
            Direction::Lower,
            SHARE,
            [
                "share of gallery images that are among the 10 nearest of no query",
                "share of N₁₀ = 0",
                "grows if there are fewer queries than gallery images; the interval leaves out the queries of one class at a time",
                "Radovanović et al. 2010, JMLR 11, 4.2",
                "",
            ],
        ),
        _ => higher([
            "share of queries with an image of their class among the k nearest, the query itself excluded by index",
            "mean of [rank of the first hit ≤ k]",
            LEFT_OUT,
            "Jégou et al. 2011; Oh Song et al. 2016, arXiv:1511.06452",
            "a hit rate: information retrieval's recall is the share of all relevant items; ties count against the model",
        ]),
    }
}

pub(super) fn attack(metric: Metric) -> About {
    let of = |direction, range, words| entry(metric.scope(), direction, range, words);
    match metric {
        Metric::Success => of(
            Direction::Lower,
            SHARE,
            [
                "share of attacked queries whose nearest image has a target's identity",
                "mean of [class of the nearest is a target's]",
                "targeted attacks and their noise control only",
                "",
                "some papers count any change of the nearest image",
            ],
        ),
        Metric::TargetRank => of(
            Direction::Higher,
            SHARE,
            [
                "rank of the nearest image with a target's identity, as a share of the gallery: 0 is nearest, 50 % is chance",
                "mean of (rank − 1) / (candidates − 1)",
                "ties count against the attacker; with several targets the best-ranked counts; targeted attacks only",
                "Zhou et al. 2020, arXiv:2002.11293 (their percentile rank)",
                "",
            ],
        ),
        Metric::Shift => of(
            Direction::Lower,
            (0.0, f64::INFINITY),
            [
                "mean Euclidean distance between clean and attacked embedding of a query",
                "mean of ‖f(x′) − f(x)‖",
                "depends on the scale of the embedding: compare models with unit rows only",
                "Zhou & Patel 2022, arXiv:2203.01439 (ES:D)",
                "",
            ],
        ),
        Metric::RecallDrop => of(
            Direction::Lower,
            (-1.0, 1.0),
            [
                "recall@1 lost to the attack, on the same queries and the same answering branch",
                "recall@1 clean − recall@1 attacked",
                "negative if the attack helps",
                "",
                "",
            ],
        ),
        Metric::RetainedShare => of(
            Direction::Higher,
            (0.0, f64::INFINITY),
            [
                "recall@1 under attack as a share of clean recall@1",
                "recall@1 attacked / recall@1 clean",
                "undefined if nothing is right on clean images; above 1 if the attack helps",
                "",
                "",
            ],
        ),
        Metric::RobustRecallAt1 => of(
            Direction::Higher,
            SHARE,
            [
                "share of queries that stay right under every attack of the suite with the same budget",
                "mean over queries of min over attacks of hit(1)",
                "as strong as the suite's attacks: more attacks can only lower it",
                "Croce & Hein 2020, arXiv:2003.01690",
                "",
            ],
        ),
        _ => of(
            Direction::Higher,
            SHARE,
            [
                "area under the curve of recall@1 over the budgets of one attack, from the clean images to its largest budget",
                "trapezoids over 0 and the listed budgets, divided by the largest budget",
                "comparable only between models measured at the same budgets",
                "",
                "",
            ],
        ),
    }
}
