//! A method of the suite, resolved to what a [`Walk`] is made of.

use std::sync::Arc;

use super::budget::{BudgetError, Start};
use super::region::Region;
use super::walk::Walk;
use super::walk::apgd::Apgd;
use super::walk::descent::GradientWalk;
use super::walk::estimate::{Estimate, Plan, Probes};
use super::walk::{square, square_l2};
use crate::rng::Stream;
use crate::suite::attack::{Access, Estimation, Goal, Method, RandomStart};
use crate::units::{Epsilon, Norm};

/// How every image of a trial is searched.
#[derive(Debug, Clone, PartialEq)]
pub enum Route {
    /// Along the gradient.
    Gradient {
        /// Number of steps.
        steps: usize,
        /// Length of a step, one per channel.
        lengths: Vec<f32>,
        /// Share of the running sum of gradients that is kept; `None`: no momentum.
        decay: Option<f64>,
        /// First iterate.
        start: Start,
    },
    /// Auto-PGD.
    Apgd {
        /// Number of steps.
        steps: usize,
    },
    /// Square attack.
    Square {
        /// Looks in all.
        queries: usize,
    },
    /// Along an estimated gradient.
    Estimate(Plan),
}

impl Route {
    /// Resolves a method that walks; `None` for clean images, noise, ensembles, and what signed steps in the attack graph
    /// do (see [`Schedule`](super::budget::Schedule)).
    ///
    /// An untargeted goal has a zero gradient at the clean image and starts at random.
    ///
    /// # Errors
    /// [`BudgetError`]: no step, no run, or a step longer than the radius without `allow_overshoot`.
    pub fn resolve(method: &Method, goal: &Goal, epsilon: &Epsilon, std: &[f32]) -> Result<Option<Self>, BudgetError> {
        for (count, what) in [(method.restarts(), "restarts"), (method.steps(), "steps"), (method.queries(), "queries")]
        {
            let counts = match what {
                "steps" => matches!(method, Method::Pgd { .. } | Method::Momentum { .. } | Method::Apgd { .. }),
                "queries" => matches!(method, Method::Square { .. } | Method::Nes(_) | Method::Spsa(_)),
                _ => !matches!(method, Method::None {} | Method::Noise { .. } | Method::Corruption(_)),
            };
            if counts && count == 0 {
                return Err(BudgetError::Zero { what });
            }
        }
        let untargeted = goal.is_flat_at_clean();
        let start = |wanted: &RandomStart| match wanted {
            RandomStart::None if untargeted => Start::Uniform(epsilon.per_channel(std)),
            RandomStart::None => Start::Clean,
            RandomStart::Uniform => Start::Uniform(epsilon.per_channel(std)),
            RandomStart::Fixed(amount) => Start::Uniform(amount.per_channel(std)),
        };
        let lengths = |step_size: &Option<Epsilon>, share: f32, overshoot: bool| match step_size {
            Some(step) => step_lengths(step, epsilon, std, overshoot),
            None => Ok(radii(epsilon, std).iter().map(|radius| radius * share).collect()),
        };
        Ok(match method {
            Method::Fgsm { .. } if epsilon.norm() == Norm::L2 => Some(Self::Gradient {
                steps: 1,
                lengths: radii(epsilon, std),
                decay: None,
                start: start(&RandomStart::None),
            }),
            Method::Pgd { step_size, steps, random_start, allow_overshoot, .. } if epsilon.norm() == Norm::L2 => {
                let lengths = lengths(step_size, (2.5 / *steps as f32).min(1.0), *allow_overshoot)?;
                Some(Self::Gradient { steps: *steps, lengths, decay: None, start: start(random_start) })
            }
            Method::Momentum { step_size, steps, decay, random_start, .. } => {
                let lengths = lengths(step_size, 1.0 / *steps as f32, false)?;
                Some(Self::Gradient { steps: *steps, lengths, decay: Some(*decay), start: start(random_start) })
            }
            Method::Apgd { steps, .. } => Some(Self::Apgd { steps: *steps }),
            Method::Square { queries, .. } => Some(Self::Square { queries: *queries }),
            Method::Nes(estimation) | Method::Spsa(estimation) => {
                let share = (2.5 / estimation.steps().max(1) as f32).min(1.0);
                let lengths = lengths(&estimation.step_size, share, false)?;
                let probes = if let Method::Nes(_) = method { Probes::Normal } else { Probes::Signs };
                let sigma = probe_distance(estimation, epsilon, std);
                let (queries, pairs) = (estimation.queries, estimation.pairs);
                Some(Self::Estimate(Plan { queries, pairs, sigma, probes, lengths }))
            }
            _ => None,
        })
    }

    /// Whether the walk asks for gradients.
    pub fn needs_gradient(&self) -> bool {
        matches!(self, Self::Gradient { .. } | Self::Apgd { .. })
    }

    /// Begins run `restart` of one image. `warm`: where a smaller budget ended, for the first run. A second run from the
    /// clean image would repeat the first, so later ones start at random.
    pub fn begin(
        &self,
        region: Arc<Region>,
        mut stream: Stream,
        restart: usize,
        warm: Option<&[f32]>,
    ) -> Box<dyn Walk> {
        let warm = warm.filter(|_| restart == 0).map(<[f32]>::to_vec);
        let uniform = |stream: &mut Stream, radii: Option<&[f32]>| region.draw_uniform(stream, radii);
        match self {
            Self::Gradient { steps, lengths, decay, start } => {
                let first = warm.unwrap_or_else(|| match start {
                    Start::Clean if restart == 0 => region.clean().to_vec(),
                    Start::Clean => uniform(&mut stream, None),
                    Start::Uniform(radii) => uniform(&mut stream, Some(radii)),
                });
                Box::new(GradientWalk::new(region, first, *steps, lengths.clone(), *decay))
            }
            Self::Apgd { steps } => {
                let first = warm.unwrap_or_else(|| uniform(&mut stream, None));
                Box::new(Apgd::new(region, first, *steps))
            }
            Self::Square { queries } if region.norm() == Norm::L2 => {
                Box::new(square_l2::walk(region, warm, *queries, stream))
            }
            Self::Square { queries } => Box::new(square::walk(region, warm, *queries, stream)),
            Self::Estimate(plan) => {
                let first = warm.unwrap_or_else(|| match restart {
                    0 => region.clean().to_vec(),
                    _ => uniform(&mut stream, None),
                });
                Box::new(Estimate::new(region, first, plan.clone(), stream))
            }
        }
    }
}

/// One radius per channel; in the L2 norm the length, for each.
fn radii(epsilon: &Epsilon, std: &[f32]) -> Vec<f32> {
    match epsilon {
        Epsilon::L2(length) => vec![*length as f32; std.len()],
        other => other.per_channel(std),
    }
}

fn step_lengths(step: &Epsilon, epsilon: &Epsilon, std: &[f32], overshoot: bool) -> Result<Vec<f32>, BudgetError> {
    if step.norm() != epsilon.norm() {
        return Err(BudgetError::Norms { step: step.to_string(), epsilon: epsilon.to_string() });
    }
    let lengths = radii(step, std);
    let too_long = lengths.iter().zip(radii(epsilon, std)).any(|(step, radius)| *step > radius * (1.0 + 1e-6));
    if too_long && !overshoot && !epsilon.is_zero() {
        return Err(BudgetError::Overshoot { step: step.to_string(), epsilon: epsilon.to_string() });
    }
    Ok(lengths)
}

/// Left out: one grey level where a loss is seen, which is fine enough for its slope; half the radius where only a ranking
/// is, which smaller probes seldom change. In the L2 norm that is half the radius of a pixel if all move alike.
fn probe_distance(estimation: &Estimation, epsilon: &Epsilon, std: &[f32]) -> f32 {
    match (&estimation.sigma, estimation.access) {
        (Some(sigma), _) => sigma.value() as f32,
        (None, Access::Embedding) => 1.0 / 255.0,
        (None, Access::Ranking(_)) => match epsilon {
            Epsilon::L2(_) => 4.0 / 255.0,
            other => 0.5 * other.nominal(std) as f32,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::attack::{EpsilonList, Stop};
    use crate::units::PixelAmount;

    #[derive(serde::Deserialize)]
    struct Holder {
        method: Method,
    }

    fn method(text: &str) -> Method {
        toml::from_str::<Holder>(&format!("method.{text}")).unwrap().method
    }

    fn resolve(method: &Method) -> Result<Option<Route>, BudgetError> {
        Route::resolve(method, &Goal::SingleTarget {}, &method.epsilons()[0], &[1.0; 3])
    }

    #[test]
    fn methods_take_their_routes() {
        let epsilon = EpsilonList(vec![Epsilon::Pixels(PixelAmount::grey_levels(8))]);
        assert_eq!(resolve(&Method::Fgsm { epsilon }).unwrap(), None, "the attack graph steps");
        let start = Start::Uniform(vec![0.5; 3]);
        let wanted = Route::Gradient { steps: 10, lengths: vec![0.125; 3], decay: None, start };
        assert_eq!(resolve(&method("pgd = { epsilon = { l2 = 0.5 }, steps = 10 }")).unwrap(), Some(wanted));
        let wanted = Route::Gradient { steps: 4, lengths: vec![0.125; 3], decay: Some(1.0), start: Start::Clean };
        assert_eq!(resolve(&method("momentum = { epsilon = 0.5, steps = 4 }")).unwrap(), Some(wanted));
        assert_eq!(resolve(&method("apgd = { epsilon = 0.5 }")).unwrap(), Some(Route::Apgd { steps: 100 }));
        let nes = method("nes = { epsilon = 0.5, queries = 43, access = { ranking = 10 } }");
        let Some(Route::Estimate(plan)) = resolve(&nes).unwrap() else { panic!("{nes:?}") };
        // Two steps of 20 probes and a look each, and the first look.
        assert_eq!((plan.sigma, plan.lengths, plan.probes), (0.25, vec![0.5; 3], Probes::Normal));
        assert_eq!(nes.label(), "nes-by-rank");
        assert_eq!(method("apgd = { epsilon = 0.5, stop = \"broken\" }").label(), "apgd-until-broken");
        assert_eq!(method("auto = { epsilon = 0.5 }").stop(), Stop::Broken);
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let text = |toml: &str| resolve(&method(toml)).unwrap_err().to_string();
        let pgd = "pgd = { epsilon = { l2 = 0.5 }, steps = 10, step_size = \"8/255\" }";
        assert_eq!(text(pgd), "step_size 8/255 and epsilon 0.5 L2 are of different norms; write both the same way");
        let pgd = "pgd = { epsilon = { l2 = 0.5 }, steps = 10, step_size = { l2 = 1 } }";
        assert!(text(pgd).contains("step_size 1 L2 is larger than epsilon 0.5 L2"));
        assert_eq!(text("apgd = { epsilon = 0.1, steps = 0 }"), "steps is 0, wanted at least 1");
        assert_eq!(text("square = { epsilon = 0.1, queries = 0 }"), "queries is 0, wanted at least 1");
        assert_eq!(text("nes = { epsilon = 0.1, restarts = 0 }"), "restarts is 0, wanted at least 1");
    }
}
