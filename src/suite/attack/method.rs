//! How the attacker searches.

use serde::{Deserialize, Serialize};

use super::EpsilonList;
use crate::units::Epsilon;

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

    /// Whether a query is left alone once it is broken.
    pub fn stop_is_broken(&self) -> bool {
        matches!(self, Self::Pgd { stop: Stop::Broken, .. })
    }

    /// The radii, one trial each. Empty for [`Method::None`].
    pub fn epsilons(&self) -> &[Epsilon] {
        match self {
            Self::None {} => &[],
            Self::Fgsm { epsilon } | Self::Pgd { epsilon, .. } | Self::Noise { epsilon } => &epsilon.0,
        }
    }
}
