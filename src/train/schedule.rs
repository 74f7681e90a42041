//! The learning rate of every step, known in advance.

use crate::suite::recipe::{OptimizerSpec, ScheduleSpec};

/// Share of the steps in which a one-cycle schedule rises (torch's `pct_start`).
const RISE: f64 = 0.3;
/// Peak over first learning rate (torch's `div_factor`).
const START_DIVISOR: f64 = 25.0;
/// First over last learning rate (torch's `final_div_factor`).
const FINAL_DIVISOR: f64 = 1e4;

/// Course of the learning rate over a whole training.
///
/// One-cycle is torch's `OneCycleLR` with cosine annealing and its default divisors. torch also cycles Adam's β₁
/// between 0.85 and 0.95 by default; here β₁ stays 0.9 (`cycle_momentum=False`), so that the optimizer has one state.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    peak: f64,
    course: ScheduleSpec,
    steps: usize,
    epoch: usize,
}

impl Schedule {
    /// The schedule of `spec` over `epochs` of `steps_per_epoch` optimizer steps each.
    pub fn new(spec: &OptimizerSpec, epochs: usize, steps_per_epoch: usize) -> Self {
        let (steps, epoch) = (epochs * steps_per_epoch, steps_per_epoch.max(1));
        Self { peak: spec.learning_rate, course: spec.schedule.clone(), steps, epoch }
    }

    /// Learning rate of step `step`, counted from 0. Steps past the end keep the last value.
    pub fn learning_rate(&self, step: usize) -> f64 {
        match &self.course {
            ScheduleSpec::Constant => self.peak,
            ScheduleSpec::OneCycle {} => self.one_cycle(step),
            ScheduleSpec::MultiStep { milestones, gamma } => {
                let passed = milestones.iter().filter(|&&epoch| step / self.epoch >= epoch).count();
                self.peak * gamma.powi(passed as i32)
            }
            ScheduleSpec::Cosine { minimum } => {
                let share = step.min(self.steps) as f64 / self.steps.max(1) as f64;
                cosine(self.peak, *minimum, share)
            }
        }
    }

    /// Smith & Topin 2018, arXiv:1708.07120, with torch's rule that phases end one step early.
    fn one_cycle(&self, step: usize) -> f64 {
        let first = self.peak / START_DIVISOR;
        let last_step = self.steps.saturating_sub(1) as f64;
        let step = (step as f64).min(last_step);
        let top = RISE * self.steps as f64 - 1.0;
        if step <= top {
            cosine(first, self.peak, step / top)
        } else {
            cosine(self.peak, first / FINAL_DIVISOR, (step - top) / (last_step - top))
        }
    }
}

/// Half a cosine wave from `start` (`share` 0) to `end` (`share` 1).
fn cosine(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + (std::f64::consts::PI * share).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(schedule: ScheduleSpec, steps: usize) -> Schedule {
        let optimizer = OptimizerSpec {
            learning_rate: 3e-3,
            weight_decay: 0.0,
            schedule,
            head_learning_rate: None,
            auxiliary_learning_rate: None,
            clip_norm: None,
        };
        Schedule::new(&optimizer, 1, steps)
    }

    #[test]
    fn one_cycle_matches_pytorch() {
        let fixture: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/data/train/schedule.json")).unwrap();
        let cases = fixture.as_array().unwrap();
        assert_eq!(cases.len(), 4);
        for case in cases {
            let wanted: Vec<f64> = serde_json::from_value(case["learning_rates"].clone()).unwrap();
            let ours = schedule(ScheduleSpec::OneCycle {}, wanted.len());
            for (step, wanted) in wanted.iter().enumerate() {
                let got = ours.learning_rate(step);
                assert!((got - wanted).abs() < 1e-12, "step {step} of {}: {got} against {wanted}", ours.steps);
            }
        }
    }

    #[test]
    fn milestones_and_the_cosine_match_pytorch() {
        // torch 2.11: MultiStepLR(milestones=[2, 3], gamma=0.3) stepped every epoch; CosineAnnealingLR(T_max=8,
        // eta_min=1e-4) stepped every batch; both from 3e-3.
        let multi = ScheduleSpec::MultiStep { milestones: vec![2, 3], gamma: 0.3 };
        let multi = Schedule { epoch: 4, ..schedule(multi, 16) };
        let rates: Vec<f64> = [0, 7, 8, 11, 12, 15].iter().map(|&s| multi.learning_rate(s)).collect();
        let wanted = [3e-3, 3e-3, 9e-4, 9e-4, 2.7e-4, 2.7e-4];
        assert!(rates.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-15), "{rates:?}");
        let cosine = schedule(ScheduleSpec::Cosine { minimum: 1e-4 }, 8);
        let wanted =
            [3e-3, 0.0028896253, 0.0025753048, 0.0021048911, 1.55e-3, 0.00099510888, 0.00052469518, 0.00021037471];
        for (step, wanted) in wanted.iter().enumerate() {
            let got = cosine.learning_rate(step);
            assert!((got - wanted).abs() < 1e-9, "step {step}: {got} against {wanted}");
        }
    }

    #[test]
    fn a_constant_schedule_is_constant_and_one_step_is_no_division_by_zero() {
        assert_eq!(schedule(ScheduleSpec::Constant, 10).learning_rate(7), 3e-3);
        assert!(schedule(ScheduleSpec::OneCycle {}, 1).learning_rate(0).is_finite());
    }
}
