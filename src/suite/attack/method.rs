//! How the attacker searches.

use serde::{Deserialize, Serialize};

use super::{Corruptions, EpsilonList, Patch, Universal};
use crate::units::{Epsilon, PixelAmount};

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

/// Gradient steps of each Auto-PGD of an ensemble, as in AutoAttack.
pub const AUTO_STEPS: usize = 100;
/// Looks of the Square attack of an ensemble.
pub const AUTO_QUERIES: usize = 1000;

/// When a search is over for a query, short of its steps and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// Never: the iterate with the lowest loss of all is kept.
    #[default]
    Never,
    /// As soon as an iterate loses recall@1: its nearest clean gallery image, ties counted against the model, is of
    /// another class. That iterate is kept, and another query takes the place. A query that never breaks keeps the
    /// iterate with the lowest loss. For side `query` only. Metrics that look beyond the
    /// nearest image (recall@k with k > 1, MRR, MAP@R ...) are not told.
    Broken,
}

impl Stop {
    /// Whether nothing stops the search early.
    pub fn is_never(&self) -> bool {
        *self == Self::Never
    }

    /// Whether a broken query is left alone.
    pub fn is_broken(&self) -> bool {
        *self == Self::Broken
    }
}

/// What the attacker sees of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Access {
    /// The embedding: every goal's loss can be computed.
    #[default]
    Embedding,
    /// The classes of so many nearest images, best first, and nothing else.
    Ranking(usize),
}

impl Access {
    fn is_embedding(&self) -> bool {
        *self == Self::Embedding
    }
}

/// How noise is distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Uniform in the ball.
    #[default]
    Uniform,
    /// L∞: normal with a standard deviation of half the radius, cut at the radius. L2: a direction drawn from the normal
    /// distribution, with the length of the radius.
    Gaussian,
}

impl Distribution {
    fn is_uniform(&self) -> bool {
        *self == Self::Uniform
    }
}

/// A gradient that is estimated from losses alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimation {
    /// Radius, or a list of radii: one trial each.
    pub epsilon: EpsilonList,
    /// Images that the model is shown, probes included, in one run.
    #[serde(default = "thousand")]
    pub queries: usize,
    /// Pairs of probes for one gradient.
    #[serde(default = "ten")]
    pub pairs: usize,
    /// How far a probe lies from the iterate, in every pixel (NES: the standard deviation); left out: 1/255, or half the
    /// radius where only the ranking is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma: Option<PixelAmount>,
    /// Length of a step; left out: `2.5 · epsilon / steps`, as for `pgd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_size: Option<Epsilon>,
    /// Independent runs; the best iterate of all is kept.
    #[serde(default = "one")]
    pub restarts: usize,
    /// What the attacker sees.
    #[serde(default, skip_serializing_if = "Access::is_embedding")]
    pub access: Access,
    /// When a query is left alone.
    #[serde(default, skip_serializing_if = "Stop::is_never")]
    pub stop: Stop,
}

impl Estimation {
    /// Gradient steps that the queries allow: each takes its probes and a look at where it led.
    pub fn steps(&self) -> usize {
        self.queries.saturating_sub(1) / (2 * self.pairs + 1).max(1)
    }
}

/// How the attacker searches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Method {
    /// No perturbation. Written by the program for the clean trial; a suite never needs it.
    None {},
    /// One gradient step of length `epsilon` from the clean image: signed in the L∞ norm. Goodfellow et al. 2015,
    /// arXiv:1412.6572.
    Fgsm {
        /// Radius, or a list of radii: one trial each.
        epsilon: EpsilonList,
    },
    /// Projected gradient descent: signed steps in the L∞ norm, unit-length ones in L2. Madry et al. 2018, arXiv:1706.06083.
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
    /// Gradient descent with momentum (MI-FGSM): steps follow the running sum of gradients, each divided by its L1 norm.
    /// Dong et al. 2018, arXiv:1710.06081.
    Momentum {
        /// Radius, or a list of radii: one trial each.
        epsilon: EpsilonList,
        /// Length of a step; left out: `epsilon / steps`, as published.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step_size: Option<Epsilon>,
        /// Number of gradient steps.
        steps: usize,
        /// What is kept of the sum at each step, µ.
        #[serde(default = "whole")]
        decay: f64,
        /// Independent runs; the best iterate of all is kept.
        #[serde(default = "one")]
        restarts: usize,
        /// The first iterate; left out: the clean image, as published.
        #[serde(default = "at_clean")]
        random_start: RandomStart,
        /// When a query is left alone.
        #[serde(default, skip_serializing_if = "Stop::is_never")]
        stop: Stop,
    },
    /// Auto-PGD: no step size to choose, it is halved where progress stalls and the search goes on from the best iterate.
    /// Croce & Hein 2020, arXiv:2003.01690, section 4.
    Apgd {
        /// Radius, or a list of radii: one trial each.
        epsilon: EpsilonList,
        /// Number of gradient steps.
        #[serde(default = "hundred")]
        steps: usize,
        /// Independent runs; the best iterate of all is kept.
        #[serde(default = "one")]
        restarts: usize,
        /// When a query is left alone.
        #[serde(default, skip_serializing_if = "Stop::is_never")]
        stop: Stop,
        /// Whether each radius of the list, from the smallest on, begins where the one before ended: a query that a smaller
        /// radius breaks then stays broken. Needs `stop = "broken"`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        warm_start: bool,
    },
    /// Square attack: random squares, kept where they help; no gradient. Andriushchenko et al. 2020, arXiv:1912.00049.
    Square {
        /// Radius, or a list of radii: one trial each.
        epsilon: EpsilonList,
        /// Images that the model is shown in one run.
        #[serde(default = "thousand")]
        queries: usize,
        /// Independent runs; the best iterate of all is kept.
        #[serde(default = "one")]
        restarts: usize,
        /// What the attacker sees.
        #[serde(default, skip_serializing_if = "Access::is_embedding")]
        access: Access,
        /// When a query is left alone.
        #[serde(default, skip_serializing_if = "Stop::is_never")]
        stop: Stop,
    },
    /// Descent on a gradient estimated by normal probes. Ilyas et al. 2018, arXiv:1804.08598.
    Nes(Estimation),
    /// Descent on a gradient estimated by probes of random signs. Spall 1992; Uesato et al. 2018, arXiv:1802.05666.
    Spsa(Estimation),
    /// Noise of the radius: the control every attack must beat.
    Noise {
        /// Radius, or a list of radii: one trial each.
        epsilon: EpsilonList,
        /// How it is distributed.
        #[serde(default, skip_serializing_if = "Distribution::is_uniform")]
        distribution: Distribution,
    },
    /// An ensemble with nothing to tune, after AutoAttack (Croce & Hein 2020): see `attack::auto` for its members. A query
    /// counts as broken if any member breaks it; what is broken is left alone, here and at every larger radius.
    Auto {
        /// Radius, or a list of radii, which is walked from the smallest to the largest: one trial each.
        epsilon: EpsilonList,
        /// `"never"` runs every member to its end for every query: the same outcomes, slower. To check the program by.
        #[serde(default = "broken", skip_serializing_if = "Stop::is_broken")]
        stop: Stop,
    },
    /// Damage without an attacker: one trial for each kind and severity. Hendrycks & Dietterich 2019, arXiv:1903.12261.
    Corruption(Corruptions),
    /// A square of pixels that may be anything, the rest untouched. Brown et al. 2017, arXiv:1712.09665, one for each image.
    Patch(Patch),
    /// One perturbation for all images, made with some of them and measured on others.
    Universal(Universal),
}

/// The radius of what may turn any pixel into any other.
fn whole_range() -> &'static [Epsilon] {
    static WHOLE: std::sync::OnceLock<[Epsilon; 1]> = std::sync::OnceLock::new();
    WHOLE.get_or_init(|| [Epsilon::Pixels("1".parse().expect("1 is an amount in [0, 1]"))])
}

fn one() -> usize {
    1
}

fn ten() -> usize {
    10
}

fn hundred() -> usize {
    100
}

fn thousand() -> usize {
    1000
}

fn whole() -> f64 {
    1.0
}

fn at_clean() -> RandomStart {
    RandomStart::None
}

fn broken() -> Stop {
    Stop::Broken
}

impl Method {
    /// The word of the method alone: `pgd`, `fgsm`, `noise`, `none`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None {} => "none",
            Self::Fgsm { .. } => "fgsm",
            Self::Pgd { .. } => "pgd",
            Self::Momentum { .. } => "momentum",
            Self::Apgd { .. } => "apgd",
            Self::Square { .. } => "square",
            Self::Nes(_) => "nes",
            Self::Spsa(_) => "spsa",
            Self::Noise { distribution: Distribution::Uniform, .. } => "noise",
            Self::Noise { distribution: Distribution::Gaussian, .. } => "gaussian-noise",
            Self::Auto { .. } => "auto",
            Self::Corruption(_) => "corruption",
            Self::Patch(_) => "patch",
            Self::Universal(_) => "universal",
        }
    }

    /// The words used in tables, which tell apart what keeps another iterate or sees something else: `pgd`,
    /// `pgd-until-broken`, `square-by-rank`.
    pub fn label(&self) -> String {
        let mut label = self.name().to_string();
        if let Access::Ranking(_) = self.access() {
            label += "-by-rank";
        }
        // An ensemble gives the same outcomes either way.
        if self.stop() == Stop::Broken && !matches!(self, Self::Auto { .. }) {
            label += "-until-broken";
        }
        label
    }

    /// When a query is left alone.
    pub fn stop(&self) -> Stop {
        match self {
            Self::None {} | Self::Fgsm { .. } | Self::Noise { .. } => Stop::Never,
            Self::Corruption(_) | Self::Patch(_) | Self::Universal(_) => Stop::Never,
            Self::Pgd { stop, .. }
            | Self::Momentum { stop, .. }
            | Self::Apgd { stop, .. }
            | Self::Square { stop, .. }
            | Self::Auto { stop, .. } => *stop,
            Self::Nes(estimation) | Self::Spsa(estimation) => estimation.stop,
        }
    }

    /// How its noise is distributed.
    pub fn distribution(&self) -> Distribution {
        match self {
            Self::Noise { distribution, .. } => *distribution,
            _ => Distribution::Uniform,
        }
    }

    /// What the attacker sees.
    pub fn access(&self) -> Access {
        match self {
            Self::Square { access, .. } => *access,
            Self::Nes(estimation) | Self::Spsa(estimation) => estimation.access,
            _ => Access::Embedding,
        }
    }

    /// Whether the radii of its list are one walk, each beginning where the smaller one ended.
    pub fn is_curve(&self) -> bool {
        matches!(self, Self::Auto { .. } | Self::Apgd { warm_start: true, .. })
    }

    /// Images that the model is shown for one query in one run; 0 for methods that follow its gradient.
    pub fn queries(&self) -> usize {
        match self {
            Self::Square { queries, .. } => *queries,
            Self::Nes(estimation) | Self::Spsa(estimation) => estimation.queries,
            _ => 0,
        }
    }

    /// The radii, one trial each. Empty for [`Method::None`].
    pub fn epsilons(&self) -> &[Epsilon] {
        match self {
            Self::None {} => &[],
            Self::Fgsm { epsilon }
            | Self::Pgd { epsilon, .. }
            | Self::Momentum { epsilon, .. }
            | Self::Apgd { epsilon, .. }
            | Self::Square { epsilon, .. }
            | Self::Noise { epsilon, .. }
            | Self::Auto { epsilon, .. } => &epsilon.0,
            Self::Nes(estimation) | Self::Spsa(estimation) => &estimation.epsilon.0,
            Self::Universal(universal) => &universal.epsilon.0,
            Self::Corruption(_) | Self::Patch(_) => whole_range(),
        }
    }

    /// The budget as tables show it: the radius, or what takes its place.
    pub fn budget_in_words(&self, epsilon: &Epsilon) -> String {
        match self {
            Self::Corruption(kinds) => match kinds.only() {
                Some((_, severity)) => format!("severity {severity}"),
                None => "all severities".into(),
            },
            Self::Patch(patch) => format!("patch {}", patch.size),
            _ => epsilon.to_string(),
        }
    }

    /// Every form that is a trial of its own, but for radii: the kind that belongs to the trial's name, and the method.
    pub fn forms(&self) -> Vec<(Option<&'static str>, Self)> {
        match self {
            Self::Corruption(kinds) => kinds
                .each()
                .map(|(family, severity)| {
                    let one = Corruptions { families: vec![family], severities: vec![severity] };
                    (Some(family.word()), Self::Corruption(one))
                })
                .collect(),
            other => vec![(None, other.clone())],
        }
    }

    /// The same method with these radii.
    pub fn with_epsilons(&self, radii: Vec<Epsilon>) -> Self {
        let mut method = self.clone();
        match &mut method {
            Self::None {} => {}
            Self::Fgsm { epsilon }
            | Self::Pgd { epsilon, .. }
            | Self::Momentum { epsilon, .. }
            | Self::Apgd { epsilon, .. }
            | Self::Square { epsilon, .. }
            | Self::Noise { epsilon, .. }
            | Self::Auto { epsilon, .. } => *epsilon = EpsilonList(radii),
            Self::Nes(estimation) | Self::Spsa(estimation) => estimation.epsilon = EpsilonList(radii),
            Self::Universal(universal) => universal.epsilon = EpsilonList(radii),
            Self::Corruption(_) | Self::Patch(_) => {}
        }
        method
    }

    /// Gradient steps of one run, estimated ones included; 0 for methods without.
    pub fn steps(&self) -> usize {
        match self {
            Self::None {} | Self::Noise { .. } | Self::Square { .. } | Self::Auto { .. } => 0,
            Self::Fgsm { .. } => 1,
            Self::Pgd { steps, .. } | Self::Momentum { steps, .. } | Self::Apgd { steps, .. } => *steps,
            Self::Nes(estimation) | Self::Spsa(estimation) => estimation.steps(),
            Self::Patch(patch) => patch.steps,
            Self::Universal(universal) => universal.steps,
            Self::Corruption(_) => 0,
        }
    }

    /// Whether it needs the model's gradient.
    pub fn needs_gradient(&self) -> bool {
        match self {
            Self::None {} | Self::Noise { .. } | Self::Square { .. } | Self::Nes(_) | Self::Spsa(_) => false,
            Self::Corruption(_) => false,
            Self::Patch(_) | Self::Universal(_) => true,
            Self::Fgsm { .. } | Self::Pgd { .. } | Self::Momentum { .. } | Self::Apgd { .. } | Self::Auto { .. } => {
                true
            }
        }
    }

    /// The same search with twice the steps; `None` for methods whose steps are not theirs to choose, and for curves, whose
    /// radii depend on each other.
    pub fn with_twice_the_steps(&self) -> Option<Self> {
        let mut method = self.clone();
        match &mut method {
            Self::Pgd { steps, .. } | Self::Momentum { steps, .. } | Self::Apgd { steps, warm_start: false, .. } => {
                *steps *= 2;
            }
            _ => return None,
        }
        Some(method)
    }

    /// Independent runs, at least 1 for an attack.
    pub fn restarts(&self) -> usize {
        match self {
            Self::Pgd { restarts, .. }
            | Self::Momentum { restarts, .. }
            | Self::Apgd { restarts, .. }
            | Self::Square { restarts, .. } => *restarts,
            Self::Nes(estimation) | Self::Spsa(estimation) => estimation.restarts,
            Self::Fgsm { .. } | Self::Auto { .. } | Self::Patch(_) | Self::Universal(_) => 1,
            Self::None {} | Self::Noise { .. } | Self::Corruption(_) => 0,
        }
    }
}
