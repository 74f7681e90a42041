//! The words of metrics of a set of embeddings and of its clustering.

use super::{About, SHARE, entry};
use crate::metric::kind::{Direction, Metric, Scope};

pub(super) fn clustering(metric: Metric) -> About {
    let entry = |range, words| entry(Scope::Clustering, Direction::Higher, range, words);
    const K_MEANS: &str = "of a k-means clustering with as many clusters as test classes (or training classes, as the official code has it: evaluation.clusters), the best of evaluation.cluster_restarts runs; undefined with fewer than two classes or if every image is a class of its own; the interval holds the clustering fixed, so what another one would change is not in it";
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

pub(super) fn geometry(metric: Metric) -> About {
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
