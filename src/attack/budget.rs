//! The budget: bounds of every pixel, how long a step is, and the way back to 8 bits inside the budget.

use crate::batch::Images;
use crate::suite::attack::{Goal, Method, RandomStart};
use crate::units::{Epsilon, Norm};

/// Why a method was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BudgetError {
    /// A step that leaves the ball at once.
    #[error("step_size {step} is larger than epsilon {epsilon}; lower it or set allow_overshoot = true")]
    Overshoot {
        /// As written.
        step: String,
        /// As written.
        epsilon: String,
    },
    /// A step in another norm.
    #[error("step_size {step} and epsilon {epsilon} are of different norms; write both the same way")]
    Norms {
        /// As written.
        step: String,
        /// As written.
        epsilon: String,
    },
    /// A count of zero.
    #[error("{what} is 0, wanted at least 1")]
    Zero {
        /// `steps`, `restarts` or `queries`.
        what: &'static str,
    },
    /// The model's normalisation has another number of channels than the images.
    #[error("the model states the std of {got} channels, the images have {wanted}")]
    Channels {
        /// Channels in the model's std.
        got: usize,
        /// Channels of the images.
        wanted: usize,
    },
}

/// How far an image may move, in pixel units.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Per channel: how far a single pixel may move.
    radii: Vec<f32>,
    /// The length of the whole change, if that is bounded.
    l2: Option<f64>,
}

impl Budget {
    /// Turns a radius as written into one per channel; `std` is the model's own normalisation.
    pub fn new(epsilon: &Epsilon, std: &[f32]) -> Self {
        let l2 = (epsilon.norm() == Norm::L2).then(|| epsilon.nominal(std));
        Self { radii: epsilon.per_channel(std), l2 }
    }

    /// The longest change, for a budget in the L2 norm.
    pub fn l2(&self) -> Option<f64> {
        self.l2
    }

    /// Whether nothing may change.
    pub fn is_zero(&self) -> bool {
        self.radii.iter().all(|&r| r == 0.0)
    }

    /// One radius per channel, pixel units: how far a single pixel may move.
    pub fn radii(&self) -> &[f32] {
        &self.radii
    }

    /// Lowest and highest value of every pixel: the ball around `clean`, cut to `[0, 1]`. In the L2 norm not all of what
    /// they hold is in the ball: see [`Region`](super::region::Region).
    ///
    /// # Errors
    /// [`BudgetError::Channels`] if the images have other channels than the budget.
    pub fn bounds(&self, clean: &Images) -> Result<(Images, Images), BudgetError> {
        let [_, channels, h, w] = clean.shape();
        if channels != self.radii.len() {
            return Err(BudgetError::Channels { got: self.radii.len(), wanted: channels });
        }
        let (mut lower, mut upper) = (clean.clone(), clean.clone());
        let radius = |i: usize| self.radii[i / (h * w) % channels];
        lower.as_mut_slice().iter_mut().enumerate().for_each(|(i, x)| *x = (*x - radius(i)).max(0.0));
        upper.as_mut_slice().iter_mut().enumerate().for_each(|(i, x)| *x = (*x + radius(i)).min(1.0));
        Ok((lower, upper))
    }

    /// Rounds an image to bytes without leaving the budget: the nearest grey level that lies in the ball around the
    /// clean byte (which itself always does). In the L2 norm as few pixels as possible are rounded towards the clean byte
    /// instead of to the nearest level, those first that lose least by it.
    ///
    /// # Shapes
    /// `adversarial`: `[c, h, w]` pixels; `clean`: the same as bytes.
    pub fn to_bytes_inside(&self, adversarial: &[f32], clean: &[u8]) -> Vec<u8> {
        if let Some(longest) = self.l2 {
            return round_inside(adversarial, clean, longest * 255.0);
        }
        let plane = clean.len() / self.radii.len().max(1);
        let round = |(i, (x, clean)): (usize, (&f32, &u8))| {
            // Whole grey levels inside the radius; the small term keeps "8/255" at 8 despite f32 rounding.
            let levels = (f64::from(self.radii[i / plane]) * 255.0 + 1e-4).floor();
            let clean = f64::from(*clean);
            (f64::from(*x) * 255.0).round().clamp((clean - levels).max(0.0), (clean + levels).min(255.0)) as u8
        };
        adversarial.iter().zip(clean).enumerate().map(round).collect()
    }

    /// By how much the change exceeds the budget; 0 or less if it is obeyed. L∞: the largest excess of a pixel over its
    /// channel's radius. L2: of the whole length.
    ///
    /// # Shapes
    /// Both `[c, h, w]`, pixels.
    pub fn excess(&self, clean: &[f32], adversarial: &[f32]) -> f64 {
        let pairs = clean.iter().zip(adversarial).map(|(a, b)| f64::from(*a) - f64::from(*b));
        if let Some(longest) = self.l2 {
            return pairs.map(|change| change * change).sum::<f64>().sqrt() - longest;
        }
        let plane = clean.len() / self.radii.len().max(1);
        pairs
            .enumerate()
            .map(|(i, change)| change.abs() - f64::from(self.radii[i / plane]))
            .fold(f64::NEG_INFINITY, f64::max)
    }

    /// By how much rounding `pixels` values to whole grey levels can lengthen a change, in units of half a level.
    pub fn rounding_factor(&self, pixels: usize) -> f64 {
        if self.l2.is_some() { (pixels as f64).sqrt() } else { 1.0 }
    }
}

/// Nearest grey levels, moved towards the clean ones until the change is no longer than `longest`, in grey levels.
fn round_inside(adversarial: &[f32], clean: &[u8], longest: f64) -> Vec<u8> {
    let changes: Vec<f64> =
        adversarial.iter().zip(clean).map(|(x, c)| f64::from(*x).clamp(0.0, 1.0) * 255.0 - f64::from(*c)).collect();
    let mut levels: Vec<f64> = changes.iter().map(|change| change.round()).collect();
    // In whole numbers, so that the sum is exact.
    let mut squared: f64 = levels.iter().map(|level| level * level).sum();
    let allowed = longest * longest * (1.0 + 1e-9);
    let outward = |i: usize, levels: &[f64]| levels[i].abs() - changes[i].abs();
    let mut order: Vec<usize> = (0..levels.len()).filter(|&i| outward(i, &levels) > 0.0).collect();
    order.sort_by(|&a, &b| outward(b, &levels).total_cmp(&outward(a, &levels)).then(a.cmp(&b)));
    // A clean byte may be further from the pixel that it came from than rounding explains: then whole levels go.
    let further = (0..levels.len()).cycle().take(256 * levels.len());
    for i in order.into_iter().chain(further) {
        if squared <= allowed {
            break;
        }
        if levels[i] != 0.0 {
            squared -= 2.0 * levels[i].abs() - 1.0;
            levels[i] -= levels[i].signum();
        }
    }
    levels.iter().zip(clean).map(|(level, c)| (f64::from(*c) + level) as u8).collect()
}

/// Where the first iterate lies, resolved to channels.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// The clean image.
    Clean,
    /// Uniform within these radii per channel, cut to the bounds.
    Uniform(Vec<f32>),
}

/// A gradient search, resolved to channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Gradient steps of one run.
    pub steps: usize,
    /// Independent runs.
    pub restarts: usize,
    /// Step length per channel, pixel units.
    pub step: Vec<f32>,
    /// First iterate.
    pub start: Start,
}

impl Schedule {
    /// Resolves a search that signed steps in the attack graph can do: FGSM and PGD in the L∞ norm. `None` for every other
    /// method; see `attack::route`.
    ///
    /// An untargeted goal has a zero gradient at the clean image and starts uniformly there, FGSM included.
    ///
    /// # Errors
    /// [`BudgetError`]: no step, no run, or a step longer than the radius without `allow_overshoot`.
    pub fn resolve(method: &Method, goal: &Goal, epsilon: &Epsilon, std: &[f32]) -> Result<Option<Self>, BudgetError> {
        let radii = epsilon.per_channel(std);
        let untargeted = goal.is_flat_at_clean();
        let at_clean = || if untargeted { Start::Uniform(radii.clone()) } else { Start::Clean };
        if epsilon.norm() == Norm::L2 {
            return Ok(None);
        }
        match method {
            Method::Fgsm { .. } => Ok(Some(Self { steps: 1, restarts: 1, step: radii.clone(), start: at_clean() })),
            Method::Pgd { step_size, steps, restarts, random_start, allow_overshoot, .. } => {
                for (count, what) in [(*steps, "steps"), (*restarts, "restarts")] {
                    if count == 0 {
                        return Err(BudgetError::Zero { what });
                    }
                }
                let step = match step_size {
                    Some(step) => step.per_channel(std),
                    // Madry et al. 2018: far enough to cross the ball and come back. A single step needs no more than
                    // the radius.
                    None => radii.iter().map(|r| r * (2.5 / *steps as f32).min(1.0)).collect(),
                };
                let too_long = step.iter().zip(&radii).any(|(s, r)| *s > *r * (1.0 + 1e-6));
                if let Some(written) = step_size.as_ref().filter(|_| too_long && !allow_overshoot && !epsilon.is_zero())
                {
                    return Err(BudgetError::Overshoot { step: written.to_string(), epsilon: epsilon.to_string() });
                }
                let start = match random_start {
                    RandomStart::None => at_clean(),
                    RandomStart::Uniform => Start::Uniform(radii.clone()),
                    RandomStart::Fixed(amount) => Start::Uniform(amount.per_channel(std)),
                };
                Ok(Some(Self { steps: *steps, restarts: *restarts, step, start }))
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::attack::{EpsilonList, Stop};
    use crate::units::PixelAmount;
    use proptest::prelude::*;

    fn eps(levels: u32) -> Epsilon {
        Epsilon::Pixels(PixelAmount::grey_levels(levels))
    }

    fn pgd(step_size: Option<Epsilon>, steps: usize, allow_overshoot: bool) -> Method {
        let epsilon = EpsilonList(vec![eps(8)]);
        Method::Pgd {
            epsilon,
            step_size,
            steps,
            restarts: 1,
            random_start: RandomStart::None,
            allow_overshoot,
            stop: Stop::Never,
        }
    }

    fn resolve(method: &Method) -> Result<Schedule, BudgetError> {
        Schedule::resolve(method, &Goal::SingleTarget {}, &eps(8), &[1.0, 1.0, 1.0]).map(Option::unwrap)
    }

    #[test]
    fn bounds_are_the_ball_cut_to_the_pixel_range_per_channel() {
        let clean = Images::new([1, 2, 1, 2], vec![0.0, 0.5, 1.0, 0.5]).unwrap();
        let budget = Budget::new(&Epsilon::Normalized(0.5), &[0.5, 0.25]);
        let (lower, upper) = budget.bounds(&clean).unwrap();
        assert_eq!(lower.as_slice(), &[0.0, 0.25, 0.875, 0.375]);
        assert_eq!(upper.as_slice(), &[0.25, 0.75, 1.0, 0.625]);
        assert!(Budget::new(&eps(1), &[1.0]).bounds(&clean).unwrap_err().to_string().contains("1 channels"));
    }

    #[test]
    fn steps_follow_the_rule_and_long_ones_need_leave() {
        assert!((resolve(&pgd(None, 20, false)).unwrap().step[0] - 1.0 / 255.0).abs() < 1e-7);
        assert!((resolve(&pgd(None, 1, false)).unwrap().step[0] - 8.0 / 255.0).abs() < 1e-7);
        assert_eq!(
            resolve(&pgd(Some(eps(16)), 5, false)).unwrap_err().to_string(),
            "step_size 16/255 is larger than epsilon 8/255; lower it or set allow_overshoot = true"
        );
        assert!(resolve(&pgd(Some(eps(16)), 5, true)).is_ok());
        assert_eq!(resolve(&pgd(None, 0, false)).unwrap_err(), BudgetError::Zero { what: "steps" });
    }

    #[test]
    fn an_untargeted_attack_never_starts_where_its_gradient_is_zero() {
        let schedule = Schedule::resolve(&pgd(None, 5, false), &Goal::Untargeted {}, &eps(8), &[1.0]).unwrap().unwrap();
        assert_eq!(schedule.start, Start::Uniform(vec![8.0 / 255.0]));
    }

    #[test]
    fn bytes_of_an_l2_budget_keep_its_length() {
        let budget = Budget::new(&Epsilon::L2(2.0 / 255.0), &[1.0]);
        // Four changes of half a level and more: the nearest levels would have length sqrt(4 + 1 + 1 + 1) > 2.
        let moved = [12.0, 10.6, 10.9, 9.4].map(|v: f32| v / 255.0);
        assert_eq!(budget.to_bytes_inside(&moved, &[10, 10, 10, 10]), [12, 10, 10, 10]);
        assert_eq!(budget.to_bytes_inside(&[10.9 / 255.0; 4], &[10; 4]), [11; 4]);
        assert!(budget.excess(&[0.5, 0.5], &[0.5, 0.5 + 2.0 / 255.0]).abs() < 1e-7);
        assert!((budget.rounding_factor(48) - 48f64.sqrt()).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn l2_bytes_stay_inside_the_budget(
            clean in prop::collection::vec(any::<u8>(), 12), noise in prop::collection::vec(-1.0f32..=1.0, 12),
            length in 0.0f64..0.3,
        ) {
            let budget = Budget::new(&Epsilon::L2(length), &[1.0; 3]);
            let pixels: Vec<f32> = clean.iter().map(|&b| f32::from(b) / 255.0).collect();
            let region = crate::attack::region::Region::new(pixels.clone(), [3, 2, 2], &budget);
            let mut moved: Vec<f32> = pixels.iter().zip(&noise).map(|(x, n)| x + 0.3 * n).collect();
            region.project(&mut moved);
            prop_assert!(budget.excess(&pixels, &moved) < 1e-7);
            let bytes = budget.to_bytes_inside(&moved, &clean);
            let levels: f64 = bytes.iter().zip(&clean).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
            prop_assert!(levels.sqrt() <= length * 255.0 * (1.0 + 1e-9));
            for (a, b) in bytes.iter().zip(&moved) {
                prop_assert!((f32::from(*a) / 255.0 - b).abs() < 1.001 / 255.0, "never more than a level from the image");
            }
        }

        #[test]
        fn bytes_stay_inside_the_budget(
            clean in prop::collection::vec(any::<u8>(), 12), noise in prop::collection::vec(-1.0f32..=1.0, 12),
            radius in 0.0f64..0.1,
        ) {
            let budget = Budget::new(&Epsilon::Normalized(radius), &[1.0, 0.5, 0.25]);
            let pixels: Vec<f32> = clean.iter().map(|&b| f32::from(b) / 255.0).collect();
            let moved: Vec<f32> = pixels.iter().zip(&noise).enumerate()
                .map(|(i, (x, n))| (x + n * budget.radii()[i / 4]).clamp(0.0, 1.0)).collect();
            let bytes = budget.to_bytes_inside(&moved, &clean);
            let back: Vec<f32> = bytes.iter().map(|&b| f32::from(b) / 255.0).collect();
            prop_assert!(budget.excess(&pixels, &back) < 1e-6);
            for (a, b) in back.iter().zip(&moved) {
                prop_assert!((a - b).abs() < 1.0 / 255.0, "never more than a level from the image");
            }
        }
    }
}
