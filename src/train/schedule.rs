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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    peak: f64,
    course: Course,
    steps: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Course {
    Constant,
    OneCycle,
}

impl Schedule {
    /// The schedule of `spec` over `steps` optimizer steps in all.
    pub fn new(spec: &OptimizerSpec, steps: usize) -> Self {
        let course = match spec.schedule {
            ScheduleSpec::Constant => Course::Constant,
            ScheduleSpec::OneCycle {} => Course::OneCycle,
        };
        Self { peak: spec.learning_rate, course, steps }
    }

    /// Learning rate of step `step`, counted from 0. Steps past the end keep the last value.
    pub fn learning_rate(&self, step: usize) -> f64 {
        match self.course {
            Course::Constant => self.peak,
            Course::OneCycle => self.one_cycle(step),
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
        Schedule::new(&OptimizerSpec { learning_rate: 3e-3, weight_decay: 0.0, schedule }, steps)
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
    fn a_constant_schedule_is_constant_and_one_step_is_no_division_by_zero() {
        assert_eq!(schedule(ScheduleSpec::Constant, 10).learning_rate(7), 3e-3);
        assert!(schedule(ScheduleSpec::OneCycle {}, 1).learning_rate(0).is_finite());
    }
}
