//! What the attacker wants.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::robrank::Robrank;

/// How several targets make one loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum TargetLoss {
    /// `mean_t ‖f(x) − e_t‖²` (the paper's text; its gradient points to the targets' centroid).
    MeanSquaredDistance,
    /// `mean_t ‖f(x) − e_t‖` (the official code's direction: the geometric median).
    #[default]
    MeanDistance,
    /// `‖f(x) − mean_t e_t‖²`: steps as for the mean of squared distances, the spread of the targets left out.
    SquaredDistanceToMean,
    /// `−τ ln mean_t exp(−‖f(x) − e_t‖² / τ)`: whichever target is nearest pulls most. τ is a tenth of the mean of the
    /// squared distances at the clean image, so that it means the same for any model.
    SoftMin,
}

impl TargetLoss {
    /// τ of [`TargetLoss::SoftMin`], as a share of the mean squared distance at the clean image.
    pub const SOFTNESS: f64 = 0.1;

    fn word(self) -> &'static str {
        match self {
            Self::MeanSquaredDistance => "mean-squared-distance",
            Self::MeanDistance => "mean-distance",
            Self::SquaredDistanceToMean => "squared-distance-to-mean",
            Self::SoftMin => "soft-min",
        }
    }
}

/// Whose embeddings an adversary approaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum TargetChoice {
    /// Images of other identities, the T of one image distinct (the paper).
    #[default]
    OtherIdentity,
    /// T independent random permutations of the images: an image may hit itself or its own class (the code; in training
    /// of the half batch, in evaluation of all images of the gallery).
    Permutation,
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
        /// Whose embeddings the targets are.
        #[serde(default)]
        choice: TargetChoice,
    },
    /// Move the embedding away from the clean one, anywhere.
    Untargeted {},
    /// Push the nearest image of the own class away and pull the nearest of another class in, both chosen anew at every
    /// step: the loss is negative exactly when recall@1 is lost.
    Misrank {},
    /// Move the embedding towards other images of its own class (an unadversarial example).
    SameIdentity {
        /// How many of them at once, all different; as many as there are if the class has fewer.
        #[serde(default = "one")]
        targets: usize,
    },
    /// The ranking attacks of RobRank; together they give its score, ERS.
    Robrank(Robrank),
}

fn one() -> usize {
    1
}

impl Goal {
    /// Number of target embeddings per image.
    pub fn targets(&self) -> usize {
        match self {
            Self::MultiTarget { loss: TargetLoss::SquaredDistanceToMean, .. } => 1,
            Self::MultiTarget { targets, .. } | Self::SameIdentity { targets } => *targets,
            Self::SingleTarget {} | Self::Untargeted {} => 1,
            Self::Misrank {} => 0,
            Self::Robrank(robrank) => robrank.targets(),
        }
    }

    /// How many other identities the gallery must have.
    pub fn other_identities(&self) -> usize {
        match self {
            Self::SingleTarget {} | Self::Misrank {} => 1,
            Self::MultiTarget { targets, choice: TargetChoice::OtherIdentity, .. } => *targets,
            Self::Robrank(robrank) => robrank.other_identities(),
            _ => 0,
        }
    }

    /// Whether every target is of another identity than the image.
    pub fn aims_at_others(&self) -> bool {
        matches!(self, Self::SingleTarget {} | Self::MultiTarget { choice: TargetChoice::OtherIdentity, .. })
    }

    /// Whether it is reached when the nearest image has a target's identity.
    pub fn has_success(&self) -> bool {
        matches!(self, Self::SingleTarget {} | Self::MultiTarget { .. } | Self::SameIdentity { .. })
    }

    /// Whether the clean image has no gradient to follow.
    pub fn is_flat_at_clean(&self) -> bool {
        matches!(self, Self::Untargeted {})
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SingleTarget {} => f.write_str("single-target"),
            Self::MultiTarget { targets, loss, choice } => {
                write!(f, "multi-target({targets}")?;
                if *loss != TargetLoss::default() {
                    write!(f, ", {}", loss.word())?;
                }
                f.write_str(if *choice == TargetChoice::Permutation { ", permutation)" } else { ")" })
            }
            Self::Untargeted {} => f.write_str("untargeted"),
            Self::Misrank {} => f.write_str("misrank"),
            Self::SameIdentity { targets } => write!(f, "same-identity({targets})"),
            Self::Robrank(robrank) => write!(f, "{robrank}"),
        }
    }
}
