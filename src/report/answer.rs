//! The answer in a few sentences, computed from the data and honest whichever way it goes.

use std::collections::BTreeMap;

use super::ers;
use super::material::Material;
use super::summary::{Condition, Summary};
use super::words::{percent, ratio};
use crate::drift::compare::SIGNIFICANCE;
use crate::drift::{Answers, OverSeeds, over_seeds};

/// The sentences a reader should leave with, the answer first. Empty only if nothing was measured.
pub fn sentences(material: &Material<'_>) -> Vec<String> {
    let summary = &material.summary;
    let Some(clean) = summary.clean() else { return vec!["No trial on clean images succeeded.".into()] };
    let Some(hero) = hero(summary) else { return vec!["No trial succeeded.".into()] };
    let name = &summary.models[hero].model;
    let strongest = summary.strongest();
    let rival = summary.baseline.filter(|b| *b != hero);
    let Some(on_clean) = summary.recall(hero, clean) else {
        return vec![format!("{name} has no result on clean images.")];
    };
    let columns: Vec<usize> = [Some(clean), strongest].into_iter().flatten().collect();
    let compared = match rival {
        Some(rival) => {
            let other = &summary.models[rival].model;
            let conditions = columns.iter().map(|column| answers(material, &summary.conditions[*column], name, other));
            over_seeds(&conditions.collect::<Vec<_>>())
        }
        None => vec![],
    };
    let paired = |column: usize| compared.get(columns.iter().position(|c| *c == column)?)?.as_ref();
    let mut first = format!("{name} keeps {} of queries right on clean images", percent(on_clean.value));
    if let Some(column) = strongest
        && let Some(attacked) = summary.recall(hero, column)
    {
        let words = summary.conditions[column].in_words();
        first += &format!(" and {} under {words}", percent(attacked.value));
        if let Some(other) = rival {
            first += &match (summary.ratio(hero, column), summary.recall(other, column)) {
                (Some(r), Some(b)) => {
                    format!(": {} times {}'s {}", ratio(r), summary.models[other].model, percent(b.value))
                }
                (None, Some(_)) => format!("; {} has none right there", summary.models[other].model),
                _ => String::new(),
            };
            first += &paired(column).map(|c| format!("; difference {}", verdict(c))).unwrap_or_default();
        }
    }
    let mut out = vec![first + "."];
    if let Some(other) = rival {
        let other_name = &summary.models[other].model;
        if let Some(b) = summary.recall(other, clean) {
            let (ours, theirs) = (percent(on_clean.value), percent(b.value));
            let verdict = paired(clean).map(|c| format!("; difference {}", verdict(c))).unwrap_or_default();
            out.push(if ours == theirs {
                format!("On clean images {other_name} has the same {theirs}{verdict}.")
            } else {
                let side = if on_clean.value > b.value { "above" } else { "below" };
                let points = 100.0 * (on_clean.value - b.value).abs();
                format!("On clean images it is {points:.1} points {side} {other_name}'s {theirs}{verdict}.")
            });
        }
    }
    if let Some(column) = strongest {
        out.extend(stronger(summary, hero, column));
    }
    out.extend(ers::sentence(material.run, summary));
    out.extend(columns.iter().find_map(|c| paired(*c)).map(how_compared));
    out
}

/// What both models answered under a condition, one pair for each seed that both have.
pub(super) fn answers<'a>(
    material: &'a Material<'_>,
    condition: &Condition,
    model: &str,
    baseline: &str,
) -> Vec<Answers<'a>> {
    let trials = |id: &str| -> BTreeMap<u64, &str> {
        let rows = material.run.measurements.iter();
        let rows = rows.filter(|m| m.model == id && m.error.is_none() && condition.matches(m));
        rows.map(|m| (m.model_seed, m.trial.as_str())).collect()
    };
    let others = trials(baseline);
    let outcomes = |trial: &str| material.outcomes.of(trial).unwrap_or_default();
    let both = trials(model).into_iter().filter_map(|(seed, trial)| Some((trial, *others.get(&seed)?)));
    both.map(|(trial, other)| (outcomes(other), outcomes(trial))).collect()
}

/// `supported, p < 0.001`.
pub(super) fn verdict(c: &OverSeeds) -> String {
    let p = if c.p_adjusted < 0.001 { "p < 0.001".into() } else { format!("p = {:.3}", c.p_adjusted) };
    format!("{}supported, {p}", if c.supported { "" } else { "not " })
}

/// What a verdict rests on.
pub(super) fn how_compared(c: &OverSeeds) -> String {
    let seeds = if c.seeds == 1 { "the one seed".into() } else { format!("each of {} seeds", c.seeds) };
    format!(
        "A difference counts as supported if {seeds} shows it, the same way, paired on the same queries (exact \
         McNemar, the largest p of the seeds, corrected by Holm, below {SIGNIFICANCE})."
    )
}

/// MDProp if it was measured; else the best model under the strongest attack that is not the baseline; else the first.
fn hero(summary: &Summary) -> Option<usize> {
    let clean = summary.clean()?;
    let measured = |i: &usize| summary.recall(*i, clean).is_some();
    let rows = 0..summary.models.len();
    if let Some(found) = rows.clone().filter(measured).find(|i| summary.models[*i].training == "mdprop") {
        return Some(found);
    }
    let column = summary.strongest().unwrap_or(clean);
    let value = |i: usize| summary.recall(i, column).map_or(-1.0, |r| r.value);
    let others = rows.clone().filter(measured).filter(|i| Some(*i) != summary.baseline);
    // The first of equals, so that the order of the suite decides.
    others.reduce(|best, i| if value(i) > value(best) { i } else { best }).or_else(|| rows.clone().find(measured))
}

fn stronger(summary: &Summary, hero: usize, column: usize) -> Option<String> {
    let ours = summary.recall(hero, column)?.value;
    let value = |i: usize| summary.recall(i, column).map_or(-1.0, |r| r.value);
    let best = (0..summary.models.len()).reduce(|best, i| if value(i) > value(best) { i } else { best })?;
    (best != hero && value(best) > ours).then(|| {
        format!(
            "The strongest model under that attack is {} with {}.",
            summary.models[best].model,
            percent(value(best))
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Run;
    use crate::record::sample::{self, Shape};

    fn shape(models: &[(&str, &str, f64, f64)]) -> Shape {
        let own = |m: &(&str, &str, f64, f64)| (m.0.to_string(), m.1.to_string(), m.2, m.3);
        Shape { models: models.iter().map(own).collect(), ..Shape::default() }
    }

    fn text(run: &Run) -> String {
        sentences(&Material::of(run)).join(" ")
    }

    #[test]
    fn names_the_stronger_model_and_the_support() {
        let run = sample::run();
        let text = text(&run);
        assert!(text.starts_with("mdprop keeps "), "{text}");
        assert!(text.contains("under the single-target attack at 24/255: "), "{text}");
        assert!(text.contains("times standard's "), "{text}");
        assert!(text.contains("The strongest model under that attack is adversarial"), "{text}");
        assert!(text.contains(" %; difference not supported, p = "), "{text}");
        assert!(text.contains("paired on the same queries (exact McNemar"), "{text}");
    }

    #[test]
    fn a_worse_model_is_called_worse_and_a_clear_difference_supported() {
        let run = sample::make(&shape(&[("base", "standard", 0.9, 0.8), ("mine", "mdprop", 0.3, 0.1)]));
        let text = text(&run);
        assert!(text.contains("points below base's"), "{text}");
        assert!(text.contains(": 0.1"), "{text}");
        assert_eq!(text.matches("; difference supported, p < 0.001").count(), 2, "{text}");
        assert!(text.contains("The strongest model under that attack is base"), "{text}");
    }

    #[test]
    fn zero_recall_gives_no_ratio() {
        let run = sample::make(&shape(&[("base", "standard", 0.0, 0.0), ("mine", "mdprop", 0.0, 0.0)]));
        let text = text(&run);
        assert!(text.contains("base has none right there"), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }

    #[test]
    fn a_lone_foreign_model_is_described_without_a_rival() {
        let mut one = shape(&[("encoder", "foreign", 0.7, 0.1)]);
        one.seeds = 1;
        let text = text(&sample::make(&one));
        assert!(text.starts_with("encoder keeps ") && !text.contains("times"), "{text}");
    }
}
