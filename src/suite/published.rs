//! What somebody else published for a cell of a suite: shown beside what was measured, judged by nothing.

use serde::{Deserialize, Serialize};

use super::wire::SuiteWire;
use crate::metric::kind::Metric;

/// A published number, `[[published]]` in a suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Model id.
    pub model: String,
    /// Attack name, or `clean`.
    pub attack: String,
    /// `recall@K` or one of `evaluation.metrics`.
    pub metric: String,
    /// The number, a share where the metric is one.
    pub value: f64,
    /// Its standard deviation over seeds, if it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sd: Option<f64>,
    /// Where it stands, such as `table S1`.
    pub source: String,
}

/// Every mistake of a suite's published numbers, in file order.
pub(super) fn problems(suite: &SuiteWire) -> Vec<String> {
    suite.published.iter().filter_map(|entry| Some((entry, problem(suite, entry)?))).map(text).collect()
}

fn text((entry, problem): (&Published, String)) -> String {
    format!("published {} of `{}` under `{}`: {problem}", entry.metric, entry.model, entry.attack)
}

fn problem(suite: &SuiteWire, entry: &Published) -> Option<String> {
    if !suite.models.iter().any(|model| model.id == entry.model) {
        return Some("no such model in this suite".into());
    }
    let attack = suite.attacks.iter().find(|attack| attack.name == entry.attack);
    if entry.attack != "clean" && attack.is_none() {
        return Some("no such attack in this suite".into());
    }
    if attack.is_some_and(|attack| attack.method.epsilons().len() > 1) {
        return Some("the attack has several radii; give the published one an attack of its own".into());
    }
    let metric: Metric = match entry.metric.parse() {
        Ok(metric) => metric,
        Err(error) => return Some(format!("{error}")),
    };
    let (low, high) = metric.about().range;
    if !(low..=high).contains(&entry.value) {
        let percent = if metric.about().percent { "; 40 % is written as 0.4" } else { "" };
        return Some(format!("{} is outside {low} to {high}{percent}", entry.value));
    }
    if let Some(sd) = entry.sd.filter(|sd| !(sd.is_finite() && *sd >= 0.0)) {
        return Some(format!("sd = {sd} must be a number of at least 0"));
    }
    entry.source.trim().is_empty().then(|| "source is empty; say where the number stands".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: &str = r#"
        schema = 1
        about = "test"
        [dataset.glyphs]
        image_size = 16
        classes = 4
        per_class = 4
        [[model]]
        id = "one"
        [[attack]]
        name = "weak"
        side = "all"
        goal.untargeted = {}
        method.fgsm = { epsilon = "2/255" }
    "#;

    fn complaints(entry: &str) -> Vec<String> {
        let suite: SuiteWire = toml::from_str(&format!("{SUITE}\n[[published]]\n{entry}")).unwrap();
        problems(&suite)
    }

    #[test]
    fn entries_must_fit_the_suite() {
        let good =
            "model = \"one\"\nattack = \"weak\"\nmetric = \"recall@1\"\nvalue = 0.3296\nsd = 0.0032\nsource = \"S2\"";
        assert_eq!(complaints(good), Vec::<String>::new());
        for (from, to, said) in [
            ("\"one\"", "\"two\"", "no such model"),
            ("\"weak\"", "\"strong\"", "no such attack"),
            ("0.3296", "32.96", "written as 0.4"),
            ("recall@1", "recoll", "recoll"),
            ("\"S2\"", "\" \"", "source is empty"),
            ("0.0032", "-1", "sd = -1"),
        ] {
            let found = complaints(&good.replace(from, to));
            assert!(found.len() == 1 && found[0].contains(said), "{found:?} for {to}");
        }
    }
}
