//! The answer in a few sentences, computed from the data and honest whichever way it goes.

use super::comparison::{Comparison, compare};
use super::summary::Summary;
use super::words::{percent, ratio};
use crate::record::Run;

/// The sentences a reader should leave with. Empty only if nothing was measured.
pub fn sentences(run: &Run, summary: &Summary) -> Vec<String> {
    let Some(clean) = summary.clean() else { return vec!["No trial on clean images succeeded.".into()] };
    let Some(hero) = hero(summary) else { return vec!["No trial succeeded.".into()] };
    let name = &summary.models[hero].model;
    let strongest = summary.strongest();
    let Some(on_clean) = summary.recall(hero, clean) else {
        return vec![format!("{name} has no result on clean images.")];
    };
    let mut out = Vec::new();
    let mut first = format!("{name} keeps {} of queries right on clean images", percent(on_clean.value));
    if let Some(column) = strongest
        && let Some(attacked) = summary.recall(hero, column)
    {
        let words = summary.conditions[column].in_words();
        first += &format!(" and {} under {words}", percent(attacked.value));
        if let Some(other) = summary.baseline.filter(|b| *b != hero) {
            first += &match (summary.ratio(hero, column), summary.recall(other, column)) {
                (Some(r), Some(b)) => {
                    format!(": {} times {}'s {}", ratio(r), summary.models[other].model, percent(b.value))
                }
                (None, Some(_)) => format!("; {} has none right there", summary.models[other].model),
                _ => String::new(),
            };
        }
    }
    out.push(first + ".");
    if let Some(other) = summary.baseline.filter(|b| *b != hero) {
        let other_name = &summary.models[other].model;
        if let Some(b) = summary.recall(other, clean) {
            let (ours, theirs) = (percent(on_clean.value), percent(b.value));
            out.push(if ours == theirs {
                format!("On clean images {other_name} has the same {theirs}.")
            } else {
                let side = if on_clean.value > b.value { "above" } else { "below" };
                let points = 100.0 * (on_clean.value - b.value).abs();
                format!("On clean images it is {points:.1} points {side} {other_name}'s {theirs}.")
            });
        }
        let columns: Vec<usize> = [Some(clean), strongest].into_iter().flatten().collect();
        for column in &columns {
            let condition = &summary.conditions[*column];
            if let Some(c) = compare(run, condition, name, other_name, columns.len()) {
                out.push(support(&c, &place(condition.is_clean(), &condition.in_words())));
            }
        }
    }
    if let Some(column) = strongest {
        out.extend(stronger(summary, hero, column));
    }
    out
}

fn place(clean: bool, words: &str) -> String {
    if clean { "on clean images".into() } else { format!("under {words}") }
}

fn support(c: &Comparison, place: &str) -> String {
    let seeds = if c.seeds == 1 { "the one seed".into() } else { format!("each of {} seeds", c.seeds) };
    let p = if c.p_value < 0.001 { "p < 0.001".into() } else { format!("p = {:.3}", c.p_value) };
    if c.supported {
        format!("The difference {place} is supported: paired on the same queries, exact McNemar, {seeds}, {p} at most.")
    } else {
        format!(
            "The difference {place} is not supported by the paired test (exact McNemar, {seeds}, largest {p}; wanted \
             below {} and all seeds the same way).",
            c.threshold
        )
    }
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
    use crate::record::sample::{self, Shape};

    fn shape(models: &[(&str, &str, f64, f64)]) -> Shape {
        let own = |m: &(&str, &str, f64, f64)| (m.0.to_string(), m.1.to_string(), m.2, m.3);
        Shape { models: models.iter().map(own).collect(), ..Shape::default() }
    }

    fn text(run: &Run) -> String {
        sentences(run, &Summary::of(run)).join(" ")
    }

    #[test]
    fn names_the_stronger_model_and_the_support() {
        let run = sample::run();
        let text = text(&run);
        assert!(text.starts_with("mdprop keeps "), "{text}");
        assert!(text.contains("under the single-target attack at 24/255: "), "{text}");
        assert!(text.contains("times standard's "), "{text}");
        assert!(text.contains("The strongest model under that attack is adversarial"), "{text}");
        assert!(text.contains("The difference on clean images is not supported"), "{text}");
    }

    #[test]
    fn a_worse_model_is_called_worse_and_a_clear_difference_supported() {
        let run = sample::make(&shape(&[("base", "standard", 0.9, 0.8), ("mine", "mdprop", 0.3, 0.1)]));
        let text = text(&run);
        assert!(text.contains("points below base's"), "{text}");
        assert!(text.contains(": 0.1"), "{text}");
        assert!(text.contains("The difference on clean images is supported"), "{text}");
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
