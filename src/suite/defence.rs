//! Robust-ranking defences: how a recipe names them. `train/defence.rs` does what they say.

use serde::{Deserialize, Serialize};

use super::loss::MinerSpec;

/// What hardness manipulation raises the hardness `H = d(a, p) − d(a, n)` of a triplet to. Zhou & Patel 2022,
/// arXiv:2203.01439, sections 3.1 and 3.2.
///
/// `ℓ̄` is the triplet loss of the step before, divided by the loss's margin γ and at most 1 (the paper's `u = γ`); before
/// the first step it is 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Hardness {
    /// Linear gradual adversary, `g_LGA = −γ·ℓ̄`: weak while the loss is large, up to the edge of semi-hard when it is
    /// small.
    LinearGradual {},
    /// That of another triplet with the same anchor, plus `boost·(1 − ℓ̄)` (`g_B`; plain with boost 0).
    Triplet {
        /// How the other triplet is mined; it should be harder than the source.
        miner: MinerSpec,
        /// Rise towards the end of training, ξ.
        #[serde(default)]
        boost: f64,
    },
    /// The same for every triplet. `2 + γ` is direct maximisation of the loss, which is known to collapse.
    Constant {
        /// The hardness.
        value: f64,
    },
}

impl Default for Hardness {
    fn default() -> Self {
        Self::LinearGradual {}
    }
}

impl Hardness {
    /// Whether it is the default, which files leave out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with its numbers, if anything.
    pub fn problem(&self) -> Option<String> {
        let (field, value) = match self {
            Self::LinearGradual {} => return None,
            Self::Triplet { boost, .. } => ("triplet.boost", *boost),
            Self::Constant { value } => ("constant.value", *value),
        };
        (!value.is_finite()).then(|| format!("method.hm.destination.{field} = {value} must be a number"))
    }
}
