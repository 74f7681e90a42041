//! The `loss` of a recipe: which metric-learning loss, its constants, and how its triplets are mined.

use serde::{Deserialize, Serialize};

/// Fastest rate at which a loss's own parameters are learnt. Proxies only have a direction, so that rates of hundreds are in
/// use for them.
const FASTEST: f64 = 1e4;

/// The metric-learning loss. Defaults are the official code's and those of its ancestor (PAPER.md section 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LossSpec {
    /// Wang et al. 2019, arXiv:1904.06627, with the mining of PAPER.md section 2.
    MultiSimilarity {
        /// Weight of positives, α.
        #[serde(default = "two")]
        alpha: f64,
        /// Weight of negatives, β.
        #[serde(default = "forty")]
        beta: f64,
        /// Similarity threshold, λ.
        #[serde(default = "half")]
        threshold: f64,
        /// Mining margin, ε.
        #[serde(default = "tenth")]
        margin: f64,
    },
    /// Schroff et al. 2015, arXiv:1503.03832, on mined triplets.
    Triplet {
        /// Wanted gap of the distances.
        #[serde(default = "fifth")]
        margin: f64,
        /// Which distance.
        #[serde(default, skip_serializing_if = "TripletDistance::is_default")]
        distance: TripletDistance,
        /// Which triplets.
        #[serde(default)]
        miner: MinerSpec,
    },
    /// Wu et al. 2017, arXiv:1706.07567, with a learnable boundary per class.
    Margin {
        /// Half-width of the zone around the boundary.
        #[serde(default = "fifth")]
        margin: f64,
        /// First value of every boundary β.
        #[serde(default = "boundary")]
        beta: f64,
        /// Learning rate of the boundaries.
        #[serde(default = "proxy_rate")]
        learning_rate: f64,
        /// Which triplets.
        #[serde(default)]
        miner: MinerSpec,
    },
    /// Hadsell et al. 2006, on mined triplets: the anchor's positive and its negative.
    Contrastive {
        /// Positives farther than this are pulled.
        #[serde(default)]
        positive_margin: f64,
        /// Negatives nearer than this are pushed.
        #[serde(default = "one")]
        negative_margin: f64,
        /// Which triplets.
        #[serde(default)]
        miner: MinerSpec,
    },
    /// Zhai & Wu 2019, arXiv:1811.12649: cross-entropy over the cosines to class proxies.
    NormalizedSoftmax {
        /// Divides the cosines.
        #[serde(default = "twentieth")]
        temperature: f64,
        /// Learning rate of the proxies.
        #[serde(default = "slow")]
        learning_rate: f64,
    },
    /// Deng et al. 2019, arXiv:1801.07698.
    Arcface {
        /// Factor on the cosines, s.
        #[serde(default = "sixteen")]
        scale: f64,
        /// Angular margin in radians, m.
        #[serde(default = "half")]
        margin: f64,
        /// Whether the margin does what the paper says, or nothing as in the official MDProp code (PAPER.md 1.6 #10).
        #[serde(default)]
        applied: ArcfaceMargin,
        /// Learning rate of the proxies.
        #[serde(default = "proxy_rate")]
        learning_rate: f64,
    },
    /// Movshovitz-Attias et al. 2017, arXiv:1703.07464.
    ProxyNca {
        /// Learning rate of the proxies.
        #[serde(default = "proxy_rate")]
        learning_rate: f64,
    },
    /// Kim et al. 2020, arXiv:2003.13911.
    ProxyAnchor {
        /// Scale, α.
        #[serde(default = "thirty_two")]
        alpha: f64,
        /// Margin, δ.
        #[serde(default = "tenth")]
        delta: f64,
        /// Learning rate of the proxies.
        #[serde(default = "fast")]
        learning_rate: f64,
    },
    /// Roth et al. 2021, arXiv:2009.08348: simultaneous similarity-based self-distillation around multi-similarity.
    S2sd {
        /// Dimensions of the auxiliary target embeddings; one is DSD, several are MSD.
        #[serde(default = "target_dims")]
        dims: Vec<usize>,
        /// Temperature of the similarity distributions, T.
        #[serde(default = "one")]
        temperature: f64,
        /// Weight of the distillation, γ.
        #[serde(default = "fifty")]
        weight: f64,
        /// Weight of the feature distillation (MSDF); 0 leaves it out.
        #[serde(default = "fifty")]
        feature_weight: f64,
        /// Steps before the feature distillation begins.
        #[serde(default = "thousand")]
        feature_delay: u64,
        /// What the targets see of the last feature map (`average-and-max` is the A of MSDFA).
        #[serde(default)]
        pooling: S2sdPooling,
    },
}

/// Distance between the unit-length embeddings of a triplet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TripletDistance {
    /// Squared Euclidean, as in the first paper and in MDProp's official code.
    #[default]
    Squared,
    /// Euclidean, as the ranking defences use it (arXiv:2203.01439, section 3).
    Euclidean,
}

impl TripletDistance {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether the margin of ArcFace acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArcfaceMargin {
    /// On the logit of the true class (the paper).
    #[default]
    TrueClass,
    /// Added to every logit, where softmax cancels it; cosines are clamped to `[1e-10, 1 − 1e-10]` (the official code).
    NoOp,
}

/// What S2SD's target networks see of the last feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum S2sdPooling {
    /// Its average, as the embedding does.
    Average,
    /// The sum of its average and its maximum.
    #[default]
    AverageAndMax,
}

/// Which triplets of a batch a pair-based loss sees. One triplet an anchor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MinerSpec {
    /// Wu et al. 2017, arXiv:1706.07567: negatives drawn evenly over distances.
    DistanceWeighted {
        /// Distances below this count as this.
        #[serde(default = "half")]
        lower: f64,
        /// Negatives farther than this are not drawn; absent: all (the official code).
        #[serde(default)]
        upper: Option<f64>,
    },
    /// A random positive and a random negative.
    Random {},
    /// A random positive; a negative farther than it by less than the margin. Schroff et al. 2015.
    SemiHard {
        /// Squared or plain as the loss; the official code's 0.2.
        #[serde(default = "fifth")]
        margin: f64,
    },
    /// A random one of the positives farther than the nearest negative, of the negatives nearer than the farthest
    /// positive. Roth et al. 2020, arXiv:2002.08473.
    SoftHard {},
    /// The farthest positive and the nearest negative. Hermans et al. 2017, arXiv:1703.07737.
    Hardest {},
}

impl Default for MinerSpec {
    fn default() -> Self {
        Self::DistanceWeighted { lower: half(), upper: None }
    }
}

fn half() -> f64 {
    0.5
}
fn one() -> f64 {
    1.0
}
fn two() -> f64 {
    2.0
}
fn forty() -> f64 {
    40.0
}
fn fifty() -> f64 {
    50.0
}
fn sixteen() -> f64 {
    16.0
}
fn thirty_two() -> f64 {
    32.0
}
fn tenth() -> f64 {
    0.1
}
fn fifth() -> f64 {
    0.2
}
fn twentieth() -> f64 {
    0.05
}
fn boundary() -> f64 {
    1.2
}
fn proxy_rate() -> f64 {
    5e-4
}
fn slow() -> f64 {
    1e-5
}
fn fast() -> f64 {
    1e-2
}
fn thousand() -> u64 {
    1000
}
fn target_dims() -> Vec<usize> {
    vec![512, 1024, 1536, 2048]
}

impl LossSpec {
    /// The word used in tables and results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MultiSimilarity { .. } => "multi-similarity",
            Self::Triplet { .. } => "triplet",
            Self::Margin { .. } => "margin",
            Self::Contrastive { .. } => "contrastive",
            Self::NormalizedSoftmax { .. } => "normalized-softmax",
            Self::Arcface { applied: ArcfaceMargin::TrueClass, .. } => "arcface",
            Self::Arcface { applied: ArcfaceMargin::NoOp, .. } => "arcface-without-margin",
            Self::ProxyNca { .. } => "proxy-nca",
            Self::ProxyAnchor { .. } => "proxy-anchor",
            Self::S2sd { .. } => "s2sd",
        }
    }

    /// Every number that is not what it must be, as `field = value` and what is wanted.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let name = self.name().trim_end_matches("-without-margin");
        let mut want = |field: &str, value: f64, positive: bool| {
            let holds = value.is_finite() && (!positive || value > 0.0);
            if !holds {
                let wanted = if positive { "a positive number" } else { "a number" };
                problems.push(format!("loss.{name}.{field} = {value} must be {wanted}"));
            } else if field == "learning_rate" && value > FASTEST {
                problems
                    .push(format!("loss.{name}.{field} = {value:e} is above {FASTEST:e}: nothing is learnt so fast"));
            }
        };
        match self {
            Self::MultiSimilarity { alpha, beta, threshold, margin } => {
                want("alpha", *alpha, true);
                want("beta", *beta, true);
                want("threshold", *threshold, false);
                want("margin", *margin, false);
            }
            Self::Triplet { margin, .. } => want("margin", *margin, false),
            Self::Margin { margin, beta, learning_rate, .. } => {
                want("margin", *margin, false);
                want("beta", *beta, true);
                want("learning_rate", *learning_rate, true);
            }
            Self::Contrastive { positive_margin, negative_margin, .. } => {
                want("positive_margin", *positive_margin, false);
                want("negative_margin", *negative_margin, false);
            }
            Self::NormalizedSoftmax { temperature, learning_rate } => {
                want("temperature", *temperature, true);
                want("learning_rate", *learning_rate, true);
            }
            Self::Arcface { scale, margin, learning_rate, .. } => {
                want("scale", *scale, true);
                want("margin", *margin, false);
                want("learning_rate", *learning_rate, true);
            }
            Self::ProxyNca { learning_rate } => want("learning_rate", *learning_rate, true),
            Self::ProxyAnchor { alpha, delta, learning_rate } => {
                want("alpha", *alpha, true);
                want("delta", *delta, false);
                want("learning_rate", *learning_rate, true);
            }
            Self::S2sd { temperature, weight, feature_weight, dims, .. } => {
                want("temperature", *temperature, true);
                want("weight", *weight, false);
                want("feature_weight", *feature_weight, false);
                if dims.is_empty() || dims.len() > 16 || dims.iter().any(|d| *d == 0 || *d > 65_536) {
                    problems.push(format!("loss.s2sd.dims = {dims:?} must be 1 to 16 numbers from 1 to 65536"));
                }
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        loss: LossSpec,
    }

    fn parse(text: &str) -> Result<LossSpec, toml::de::Error> {
        toml::from_str::<Holder>(text).map(|h| h.loss)
    }

    #[test]
    fn every_loss_reads_with_its_defaults_and_has_no_problem() {
        for name in [
            "multi-similarity",
            "triplet",
            "margin",
            "contrastive",
            "normalized-softmax",
            "arcface",
            "proxy-nca",
            "proxy-anchor",
            "s2sd",
        ] {
            let spec = parse(&format!("loss.{name} = {{}}")).unwrap();
            assert_eq!(spec.name(), name);
            assert!(spec.problems().is_empty(), "{:?}", spec.problems());
        }
        for miner in ["distance-weighted", "random", "semi-hard", "soft-hard", "hardest"] {
            parse(&format!("loss.triplet = {{ miner.{miner} = {{}} }}")).unwrap();
        }
        let spec = parse("loss.margin = { miner.distance-weighted = { upper = 1.4 } }").unwrap();
        let LossSpec::Margin { miner: MinerSpec::DistanceWeighted { lower, upper }, .. } = spec else {
            panic!("{spec:?}")
        };
        assert_eq!((lower, upper), (0.5, Some(1.4)));
    }

    #[test]
    fn absurd_numbers_are_named() {
        let spec = parse("loss.arcface = { scale = -1, margin = nan }").unwrap();
        let problems = spec.problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("loss.arcface.scale = -1"));
        let fast = |rate| parse(&format!("loss.proxy-nca = {{ learning_rate = {rate} }}")).unwrap().problems();
        assert!(fast("400.0").is_empty());
        assert!(fast("1e38")[0].contains("loss.proxy-nca.learning_rate = 1e38 is above 1e4"), "{:?}", fast("1e38"));
        assert!(parse("loss.arcface = { sacle = 1 }").unwrap_err().to_string().contains("sacle"));
    }
}
