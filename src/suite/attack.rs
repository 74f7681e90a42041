//! What an attack is, as a suite says it: side × goal × method × budget × branch. Closed enums, no strings.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::Epsilon;

/// Who is perturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The query; the gallery stays clean and the query's own clean image is left out by index.
    Query,
    /// Query and gallery are the same attacked set (the paper's protocol).
    All,
}

/// How several targets make one loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum TargetLoss {
    /// `mean_t ‖f(x) − e_t‖²` (the paper's text; its gradient points to the targets' centroid).
    MeanSquaredDistance,
    /// `mean_t ‖f(x) − e_t‖` (the official code's direction: the geometric median).
    #[default]
    MeanDistance,
}

/// What the attacker wants. Each goal is minimised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Goal {
    /// Move the embedding onto that of one image of another identity (STAX).
    SingleTarget {},
    /// Move the embedding towards `targets` images of distinct other identities at once (MTAX).
    MultiTarget {
        /// Number of target identities, T.
        targets: usize,
        /// How the distances are joined.
        #[serde(default)]
        loss: TargetLoss,
    },
    /// Move the embedding away from the clean one, anywhere.
    Untargeted {},
}

impl Goal {
    /// Number of target embeddings per image.
    pub fn targets(&self) -> usize {
        match self {
            Self::MultiTarget { targets, .. } => *targets,
            Self::SingleTarget {} | Self::Untargeted {} => 1,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SingleTarget {} => f.write_str("single-target"),
            Self::MultiTarget { targets, .. } => write!(f, "multi-target({targets})"),
            Self::Untargeted {} => f.write_str("untargeted"),
        }
    }
}

/// Where the first iterate lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RandomStart {
    /// At the clean image. Untargeted goals have a zero gradient there and start uniformly instead.
    None,
    /// Uniform in the whole ball.
    #[default]
    Uniform,
    /// Uniform in `[-amount, amount]` whatever the budget is (the official code: 0.0005, normalised).
    Fixed(Epsilon),
}

/// When a search is over for a query, short of its steps and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// Never: the iterate with the lowest loss of all is kept.
    #[default]
    Never,
    /// As soon as an iterate loses recall@1: its nearest clean gallery image, ties counted against the model, is of
    /// another class. That iterate is kept, and another query takes the place. A query that never breaks keeps the
    /// iterate with the lowest loss. For side `query` only.
    Broken,
}

impl Stop {
    /// Whether nothing stops the search early.
    pub fn is_never(&self) -> bool {
        *self == Self::Never
    }
}

/// How the attacker searches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Method {
    /// No perturbation. Written by the program for the clean trial; a suite never needs it.
    None {},
    /// One signed gradient step of length `epsilon` from the clean image. Goodfellow et al. 2015, arXiv:1412.6572.
    Fgsm {
        /// Radius in the L∞ norm.
        epsilon: EpsilonList,
    },
    /// Projected gradient descent in the L∞ ball. Madry et al. 2018, arXiv:1706.06083.
    Pgd {
        /// Radius, or a list of radii: one trial each (an epsilon curve).
        epsilon: EpsilonList,
        /// Length of a step; left out: `2.5 · epsilon / steps` (Madry et al.'s rule).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step_size: Option<Epsilon>,
        /// Number of gradient steps.
        steps: usize,
        /// Independent runs; the best iterate of all is kept.
        #[serde(default = "one")]
        restarts: usize,
        /// The first iterate.
        #[serde(default)]
        random_start: RandomStart,
        /// Allow a step longer than the radius.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        allow_overshoot: bool,
        /// When a query is left alone.
        #[serde(default, skip_serializing_if = "Stop::is_never")]
        stop: Stop,
    },
    /// Uniform noise in the ball: the control every attack must beat.
    Noise {
        /// Radius in the L∞ norm.
        epsilon: EpsilonList,
    },
}

fn one() -> usize {
    1
}

/// One radius or several; in TOML `"8/255"` or `["2/255", "8/255"]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct EpsilonList(pub Vec<Epsilon>);

impl<'de> Deserialize<'de> for EpsilonList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::{self, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};

        struct ListVisitor;

        impl<'de> Visitor<'de> for ListVisitor {
            type Value = EpsilonList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pixel amount such as \"8/255\", { normalized = 0.01 }, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<EpsilonList, E> {
                Epsilon::deserialize(text.into_deserializer()).map(|e| EpsilonList(vec![e]))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<EpsilonList, E> {
                Epsilon::deserialize(value.into_deserializer()).map(|e| EpsilonList(vec![e]))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<EpsilonList, E> {
                Epsilon::deserialize(value.into_deserializer()).map(|e| EpsilonList(vec![e]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EpsilonList, A::Error> {
                Epsilon::deserialize(MapAccessDeserializer::new(map)).map(|e| EpsilonList(vec![e]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<EpsilonList, A::Error> {
                let mut list = Vec::new();
                while let Some(epsilon) = seq.next_element()? {
                    list.push(epsilon);
                }
                if list.is_empty() {
                    return Err(de::Error::custom(
                        "the list of radii is empty; write at least one, such as [\"8/255\"]",
                    ));
                }
                Ok(EpsilonList(list))
            }
        }

        deserializer.deserialize_any(ListVisitor)
    }
}

impl Method {
    /// The word used in tables: `pgd`, `fgsm`, `noise`, `none`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None {} => "none",
            Self::Fgsm { .. } => "fgsm",
            Self::Pgd { .. } => "pgd",
            Self::Noise { .. } => "noise",
        }
    }

    /// The radii, one trial each. Empty for [`Method::None`].
    pub fn epsilons(&self) -> &[Epsilon] {
        match self {
            Self::None {} => &[],
            Self::Fgsm { epsilon } | Self::Pgd { epsilon, .. } | Self::Noise { epsilon } => &epsilon.0,
        }
    }
}

/// A batch-norm branch of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Branch {
    /// The branch that clean images train and that is deployed.
    #[default]
    Main,
    /// The n-th auxiliary branch, from 1.
    Aux(u8),
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Main => f.write_str("main"),
            Self::Aux(n) => write!(f, "aux{n}"),
        }
    }
}

impl std::str::FromStr for Branch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no branch; write \"main\", \"aux1\", \"aux2\" ...");
        if text == "main" {
            return Ok(Self::Main);
        }
        match text.strip_prefix("aux").and_then(|n| n.parse::<u8>().ok()) {
            Some(n) if n > 0 => Ok(Self::Aux(n)),
            _ => Err(bad()),
        }
    }
}

impl Serialize for Branch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Branch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
