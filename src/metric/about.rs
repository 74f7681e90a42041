//! What each metric is, in words: the one table that reports show and `docs/metrics.md` is made of.

use super::kind::{Direction, Metric, Scope};

/// Everything to know about a metric besides its code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct About {
    /// What it is computed of.
    pub scope: Scope,
    /// Which way is better.
    pub direction: Direction,
    /// Smallest and largest possible value.
    pub range: (f64, f64),
    /// Whether it is shown in percent.
    pub percent: bool,
    /// One sentence for a reader.
    pub definition: &'static str,
    /// The formula.
    pub formula: &'static str,
    /// What happens at the edges.
    pub edges: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// How it differs from what others call by this name.
    pub namesakes: &'static str,
}

const LEFT_OUT: &str = "a query without another image of its class in the gallery is left out and counted";

impl Metric {
    /// What this metric is.
    pub fn about(self) -> About {
        match self.scope() {
            Scope::Ranking => ranking(self),
            Scope::Clustering => clustering(self),
            Scope::Geometry => geometry(self),
            Scope::Attack | Scope::Suite => attack(self),
        }
    }

    /// What this metric is computed of.
    pub fn scope(self) -> Scope {
        match self {
            Self::Nmi | Self::Ami | Self::PairwiseF1 => Scope::Clustering,
            Self::PiIntra | Self::PiInter | Self::PiRatio | Self::Alignment | Self::Uniformity => Scope::Geometry,
            Self::MeanCosine | Self::Rho(_) | Self::EffectiveRank => Scope::Geometry,
            Self::Success | Self::TargetRank | Self::Shift | Self::RecallDrop | Self::RetainedShare => Scope::Attack,
            Self::RobustRecallAt1 | Self::RobustnessArea => Scope::Suite,
            _ => Scope::Ranking,
        }
    }

    /// Which way is better.
    pub fn direction(self) -> Direction {
        self.about().direction
    }
}

fn entry(scope: Scope, direction: Direction, range: (f64, f64), words: [&'static str; 5]) -> About {
    let [definition, formula, edges, source, namesakes] = words;
    let percent = range == (0.0, 1.0);
    About { scope, direction, range, percent, definition, formula, edges, source, namesakes }
}

const SHARE: (f64, f64) = (0.0, 1.0);

fn ranking(metric: Metric) -> About {
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
            "with few queries a class the minimum of many classes is partly bad luck; no interval",
            "",
            "",
        ]),
        Metric::HubSkewness => entry(
            Direction::Lower,
            (f64::NEG_INFINITY, f64::INFINITY),
            [
                "skewness of how often each gallery image is among the 10 nearest of a query: large if a few hubs are near to everything",
                "m₃ / m₂^1.5 of the counts N₁₀",
                "undefined if all counts are equal; k is the gallery if that holds fewer than 10 others; no interval",
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
                "grows if there are fewer queries than gallery images; no interval",
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

fn clustering(metric: Metric) -> About {
    let entry = |range, words| entry(Scope::Clustering, Direction::Higher, range, words);
    const K_MEANS: &str = "of a k-means clustering with as many clusters as test classes (or training classes, as the official code has it: evaluation.clusters); undefined with fewer than two classes or if every image is a class of its own; no interval: it depends on one clustering";
    match metric {
        Metric::Nmi => entry(
            SHARE,
            [
                "how much of the classes a clustering of the embeddings recovers",
                "I(classes; clusters) / ((H(classes) + H(clusters)) / 2)",
                K_MEANS,
                "Strehl & Ghosh 2002; arithmetic normalisation as in scikit-learn",
                "not corrected for chance: it rises with the number of clusters; scikit-learn says 1 for a single class",
            ],
        ),
        Metric::Ami => About {
            percent: true,
            ..entry(
                (-1.0, 1.0),
                [
                    "as NMI, corrected for chance: 0 is a random clustering of the same sizes",
                    "(I − E[I]) / ((H(classes) + H(clusters)) / 2 − E[I]), E[I] exact",
                    K_MEANS,
                    "Vinh, Epps, Bailey 2010; arithmetic normalisation as in scikit-learn",
                    "",
                ],
            )
        },
        _ => entry(
            SHARE,
            [
                "F1 of the pairs that share a cluster against the pairs that share a class",
                "2PR / (P + R) over pairs",
                K_MEANS,
                "Manning, Raghavan, Schütze 2008, 16.3; the official code's f1",
                "",
            ],
        ),
    }
}

fn geometry(metric: Metric) -> About {
    let entry = |direction, range, words| entry(Scope::Geometry, direction, range, words);
    let infinite = f64::INFINITY;
    match metric {
        Metric::PiIntra => entry(
            Direction::Lower,
            (0.0, 2.0),
            [
                "mean cosine distance within a class, averaged over classes",
                "mean over classes of mean over pairs of 1 − cos",
                "a class with one image is left out; a zero embedding has cosine 0 with every other",
                "Roth et al. 2020, arXiv:2002.08473; official dists@intra",
                "the official code fills a class with one image with the distance of class 0 or 1",
            ],
        ),
        Metric::PiInter => entry(
            Direction::Higher,
            (0.0, 2.0),
            [
                "mean cosine distance between the directions of the class means",
                "mean over pairs of classes of 1 − cos",
                "undefined with fewer than two classes",
                "Roth et al. 2020, arXiv:2002.08473; official dists@inter",
                "",
            ],
        ),
        Metric::PiRatio => entry(
            Direction::Lower,
            (0.0, infinite),
            [
                "how wide classes are beside how far they are apart",
                "pi-intra / pi-inter",
                "undefined where either is, and if all class means coincide",
                "Roth et al. 2020, arXiv:2002.08473; official dists@intra_over_inter",
                "Roth et al. call it density; MDProp's tables print it as π_ratio",
            ],
        ),
        Metric::Alignment => entry(
            Direction::Lower,
            (0.0, 4.0),
            [
                "mean squared distance of same-class pairs on the unit sphere",
                "mean over same-class pairs of ‖u − v‖²",
                "undefined if no class has two images; large classes weigh by their pairs",
                "Wang & Isola 2020, arXiv:2005.10242, α = 2",
                "positives are images of one class, not two views of one image",
            ],
        ),
        Metric::Uniformity => entry(
            Direction::Lower,
            (-8.0, 0.0),
            [
                "how evenly directions fill the sphere",
                "ln mean over pairs of exp(−2 ‖u − v‖²)",
                "0 if all directions are equal; exact over all pairs, so its time grows with n²",
                "Wang & Isola 2020, arXiv:2005.10242, t = 2",
                "",
            ],
        ),
        Metric::MeanCosine => entry(
            Direction::Neutral,
            (-1.0, 1.0),
            [
                "mean cosine of all pairs of images: near 1 the embedding has collapsed to a direction",
                "(‖Σu‖² − Σ‖u‖²) / (n(n − 1))",
                "undefined below two images",
                "",
                "",
            ],
        ),
        Metric::EffectiveRank => entry(
            Direction::Neutral,
            (1.0, infinite),
            [
                "how many directions the embeddings use",
                "exp(H(p)), p the singular values divided by their sum",
                "undefined if every embedding is zero",
                "Roy & Vetterli 2007, definition 1",
                "of the singular values, not of their squares; rows are not centred",
            ],
        ),
        _ => entry(
            Direction::Neutral,
            (0.0, infinite),
            [
                "spectral decay: how far the singular values of the embeddings are from being equal, 0 being equal",
                "k ≥ 1: KL(uniform ‖ p) without the first k − 1 values; k = −1: KL(p ‖ uniform)",
                "undefined for k ≥ 1 if a singular value is zero (a rank-deficient embedding), as the divergence is infinite",
                "Roth et al. 2020, arXiv:2002.08473; official rho_spectrum@k",
                "all min(n, d) values; the official code keeps d − 1 of them on a CPU and all on a GPU",
            ],
        ),
    }
}

fn attack(metric: Metric) -> About {
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
                "area under the curve of recall@1 over the budgets of one attack",
                "trapezoids over 0 and the listed budgets, divided by the largest budget",
                "comparable only between models measured at the same budgets",
                "",
                "",
            ],
        ),
    }
}

/// `docs/metrics.md`.
pub fn markdown() -> String {
    let mut out = String::from(include_str!("about.md"));
    let heads = [
        (Scope::Ranking, "Of ranked lists"),
        (Scope::Clustering, "Of a clustering"),
        (Scope::Geometry, "Of the embeddings"),
        (Scope::Attack, "Of an attack"),
        (Scope::Suite, "Of a suite"),
    ];
    for (scope, head) in heads {
        out += &format!("\n## {head}\n");
        for metric in Metric::all().into_iter().filter(|metric| metric.scope() == scope) {
            out += &section(metric);
        }
    }
    out
}

fn section(metric: Metric) -> String {
    let about = metric.about();
    let name = match metric {
        Metric::RecallAt(_) => "recall@K".to_string(),
        Metric::Rho(_) => "rho@K".to_string(),
        other => other.to_string(),
    };
    let number = |v: f64| match v {
        f64::INFINITY => "∞".to_string(),
        f64::NEG_INFINITY => "−∞".to_string(),
        v => v.to_string().replace('-', "−"),
    };
    let mut out = format!("\n### {name}\n\n{}.\n\n", capital(about.definition));
    let default = if Metric::defaults().contains(&metric) { "; measured by default" } else { "" };
    out += &format!("- Formula: {}\n", about.formula);
    let (low, high) = (number(about.range.0), number(about.range.1));
    out += &format!("- Range {low} to {high}, better: {}{default}\n", about.direction);
    let rest = [("Edges", about.edges), ("Source", about.source), ("Namesakes", about.namesakes)];
    for (head, text) in rest.into_iter().filter(|(_, text)| !text.is_empty()) {
        out += &format!("- {head}: {text}\n");
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_this_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        if std::env::var_os("MDPROP_WRITE_DOCS").is_some() {
            std::fs::write(&path, markdown()).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            stored == markdown(),
            "docs/metrics.md is not what the code says; run this test with MDPROP_WRITE_DOCS=1"
        );
    }

    #[test]
    fn every_metric_says_what_it_is() {
        for metric in Metric::all() {
            let about = metric.about();
            assert!(!about.definition.is_empty() && !about.formula.is_empty() && !about.edges.is_empty(), "{metric}");
            assert!(about.range.0 < about.range.1, "{metric}");
            // recall@k is the last arm of its match: no other metric may fall into it.
            let recall = Metric::RecallAt(1).about().definition;
            assert!(matches!(metric, Metric::RecallAt(_)) || about.definition != recall, "{metric}");
        }
    }
}
