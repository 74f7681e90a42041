//! A suite's `[[expect]]` entries against the measurements.

use crate::metric::kind::Metric;
use crate::record::Measurement;
use crate::suite::wire::Expectation;

/// One expectation and what came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What was expected, in words.
    pub expected: String,
    /// Mean over training seeds; `None` if no trial gave the metric, which is a failure.
    pub measured: Option<f64>,
    /// Whether it held.
    pub met: bool,
}

/// Checks one expectation on the mean over seeds (and over crafting branches, if there are several).
pub fn judge(expectation: &Expectation, measurements: &[Measurement]) -> Verdict {
    let values: Vec<f64> = measurements
        .iter()
        .filter(|m| m.model == expectation.model && m.attack == expectation.attack)
        .filter(|m| expectation.epsilon.as_ref().is_none_or(|epsilon| m.epsilon == *epsilon))
        .map(|m| metric(m, &expectation.metric))
        .collect::<Option<_>>()
        .unwrap_or_default();
    let measured = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let met = measured.is_some_and(|value| {
        expectation.at_least.is_none_or(|least| value >= least) && expectation.at_most.is_none_or(|most| value <= most)
    });
    Verdict { expected: describe(expectation), measured, met }
}

fn metric(measurement: &Measurement, name: &str) -> Option<f64> {
    if measurement.error.is_some() {
        return None;
    }
    let estimate = match name.parse().ok()? {
        Metric::RecallAt(k) => measurement.recall.iter().find(|r| r.k == k).map(|r| r.estimate),
        Metric::Success => measurement.success,
        Metric::Shift => measurement.shift,
        metric => measurement.metrics.iter().find(|m| m.metric == metric).and_then(|m| m.estimate),
    };
    estimate.map(|e| e.value)
}

fn describe(expectation: &Expectation) -> String {
    let bound = match (expectation.at_least, expectation.at_most) {
        (Some(least), Some(most)) => format!("between {least} and {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => "anything".into(),
    };
    let radius = expectation.epsilon.as_ref().map(|e| format!(" at {e}")).unwrap_or_default();
    format!("{} of {} under {}{radius} {bound}", expectation.metric, expectation.model, expectation.attack)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Estimate, MetricEstimate, RecallAt};

    fn measurement(seed: u64, recall: Option<f64>) -> Measurement {
        let estimate = |value| Estimate { value, low: value, high: value, ..Estimate::default() };
        Measurement {
            model: "a".into(),
            model_seed: seed,
            attack: "clean".into(),
            epsilon: "0".into(),
            recall: recall.map(|r| RecallAt { k: 1, estimate: estimate(r) }).into_iter().collect(),
            error: recall.is_none().then(|| "out of memory".into()),
            ..Measurement::default()
        }
    }

    fn expectation(at_least: f64) -> Expectation {
        Expectation {
            metric: "recall@1".into(),
            model: "a".into(),
            attack: "clean".into(),
            epsilon: None,
            at_least: Some(at_least),
            at_most: None,
        }
    }

    #[test]
    fn the_mean_over_seeds_is_judged() {
        let rows = [measurement(0, Some(0.4)), measurement(1, Some(0.6))];
        assert!(judge(&expectation(0.5), &rows).met);
        assert!(!judge(&expectation(0.51), &rows).met);
    }

    #[test]
    fn a_further_metric_is_judged_and_an_undefined_one_never_meets_an_expectation() {
        let mut row = measurement(0, Some(0.4));
        let with = |name: &str, least| Expectation { metric: name.into(), ..expectation(least) };
        assert!(!judge(&with("map@r", 0.0), std::slice::from_ref(&row)).met);
        row.metrics.push(MetricEstimate::new(Metric::MapAtR, 0.3, None, 5));
        row.metrics.push(MetricEstimate::undefined(Metric::Rho(1), "a singular value is zero"));
        assert!(judge(&with("map@r", 0.3), std::slice::from_ref(&row)).met);
        assert!(!judge(&with("map@r", 0.31), std::slice::from_ref(&row)).met);
        assert_eq!(judge(&with("rho@1", 0.0), std::slice::from_ref(&row)).measured, None);
    }

    #[test]
    fn a_missing_or_failed_trial_never_meets_an_expectation() {
        assert!(!judge(&expectation(0.0), &[]).met);
        assert!(!judge(&expectation(0.0), &[measurement(0, Some(0.9)), measurement(1, None)]).met);
    }
}
