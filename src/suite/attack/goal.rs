//! What the attacker wants.

use std::fmt;

use serde::{Deserialize, Serialize};

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
