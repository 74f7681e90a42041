//! Checks that several rows of a run make together: a larger budget, more steps, a better-informed attacker must not be
//! weaker. Whoever is weaker was not a bound.

use super::{check, stronger_than_noise};
use crate::record::{Check, Measurement};

/// Recall that chance may add from one row to the other, besides the interval.
const SLACK: f64 = 0.02;
/// Share of the loss that rounding and chance may add.
const LOSS_SLACK: f64 = 0.02;
/// From this L∞ radius on, in pixel units, hardly anything of an image is left.
const HUGE: f64 = 0.5;
/// Largest recall that may be left then.
const LEFT: f64 = 0.1;

/// How much an attacker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// The gradient of what answers, followed over several steps.
    WhiteBox,
    /// The gradient of what answers, followed once.
    OneStep,
    /// The gradient of another model or branch.
    Transfer,
    /// Answers alone.
    BlackBox,
    /// Nothing.
    Noise,
}

/// What the attacker of a row knows; `None` for clean rows and those that aim at no query (corruptions, patches and
/// perturbations that are the same for all queries, rows made of other rows).
pub fn knowledge(row: &Measurement) -> Option<Knowledge> {
    let word = row.method.split("-until-").next().unwrap_or_default();
    let base = word.trim_end_matches("-by-rank");
    if row.crafted_on.starts_with("worst") {
        return None;
    }
    let elsewhere = row.crafted_on != row.answered_by || row.is_transfer();
    match base {
        "noise" | "gaussian-noise" => Some(Knowledge::Noise),
        "square" | "nes" | "spsa" => Some(Knowledge::BlackBox),
        "fgsm" | "pgd" | "momentum" | "apgd" | "auto" if elsewhere => Some(Knowledge::Transfer),
        "fgsm" => Some(Knowledge::OneStep),
        "pgd" | "momentum" | "apgd" | "auto" => Some(Knowledge::WhiteBox),
        _ => None,
    }
}

/// Checks to be added to each row, in the order of the rows. `mean_loss` of a trial by its key, if its loss is comparable.
pub fn across(rows: &[Measurement], mean_loss: &dyn Fn(&str) -> Option<f64>) -> Vec<Vec<Check>> {
    let add = |row: &Measurement| -> Vec<Check> {
        let mut found = Vec::new();
        if row.error.is_some() || row.attack == "clean" {
            return found;
        }
        let others = || rows.iter().filter(|other| other.error.is_none() && other.trial != row.trial);
        found.extend(monotone_in_budget(row, others(), mean_loss));
        found.extend(row_with_huge_budget(row));
        found.extend(more_steps(row, others()));
        found.extend(better_informed(row, others()));
        // What is crafted elsewhere has a check of its own, and what is bound otherwise than by a radius has no such noise.
        if matches!(knowledge(row), Some(Knowledge::WhiteBox | Knowledge::OneStep | Knowledge::BlackBox)) {
            found.extend(others().filter_map(|noise| stronger_than_noise(row, noise)));
        }
        found.extend(deployed_branch_attacked(row, others()));
        found
    };
    rows.iter().map(add).collect()
}

type Key<'a> = [&'a str; 6];

/// Who is attacked and how it is asked: equal in rows that may be compared.
fn subject(row: &Measurement) -> (Key<'_>, u64, u64) {
    ([&row.dataset, &row.model, &row.artefact, &row.answered_by, &row.side, &row.goal], row.model_seed, row.seed)
}

/// Whether the attack means to take recall away, so that less recall is more success.
fn means_to_break(row: &Measurement) -> bool {
    ["single-target", "multi-target", "untargeted", "misrank"].iter().any(|goal| row.goal.starts_with(goal))
}

/// Whether `strong` does at least what `weak` does, by success where both have targets, else by recall at the smallest k,
/// with the interval of `weak` and [`SLACK`] as leeway; and what was compared.
fn at_least(strong: &Measurement, weak: &Measurement) -> Option<(bool, String)> {
    if !means_to_break(strong) {
        return None;
    }
    if let (Some(a), Some(b)) = (&strong.success, &weak.success) {
        return Some((a.value >= b.low - SLACK, format!("success {:.3} against {:.3}", a.value, b.value)));
    }
    let (a, b) = (strong.recall.first()?, weak.recall.first()?);
    let detail = format!("recall@{} {:.3} against {:.3}", a.k, a.estimate.value, b.estimate.value);
    (a.k == b.k).then_some((a.estimate.value <= b.estimate.high + SLACK, detail))
}

/// One check for several comparisons: the first that fails is told, else the strongest rival.
fn together<'a>(
    name: &str,
    row: &Measurement,
    rivals: impl Iterator<Item = (&'a Measurement, String)>,
) -> Option<Check> {
    let compared: Vec<(bool, String)> = rivals
        .filter_map(|(rival, who)| at_least(row, rival).map(|(passed, detail)| (passed, format!("{detail} {who}"))))
        .collect();
    let count = compared.len();
    let (passed, detail) = compared.iter().find(|c| !c.0).or(compared.first())?.clone();
    let more = if count > 1 { format!(" ({count} compared)") } else { String::new() };
    Some(check(name, passed, format!("{detail}{more}")))
}

/// The row next below in budget, of the same attack, has no less recall, no more success and no smaller loss.
fn monotone_in_budget<'a>(
    row: &Measurement,
    others: impl Iterator<Item = &'a Measurement>,
    mean_loss: &dyn Fn(&str) -> Option<f64>,
) -> Option<Check> {
    let known = knowledge(row).filter(|k| *k != Knowledge::Noise)?;
    let same = |other: &&Measurement| {
        subject(other) == subject(row)
            && (&other.attack, &other.method, &other.norm) == (&row.attack, &row.method, &row.norm)
            && (&other.crafted_on, &other.crafted_by) == (&row.crafted_on, &row.crafted_by)
            && other.epsilon_pixels < row.epsilon_pixels
    };
    let below = others.filter(same).max_by(|a, b| a.epsilon_pixels.total_cmp(&b.epsilon_pixels))?;
    let (mut passed, mut detail) = at_least(row, below)?;
    // Where a search ends at the first break, a kept iterate's loss says nothing.
    let whole = matches!(row.method.as_str(), "pgd" | "apgd" | "momentum") && known == Knowledge::WhiteBox;
    if let (true, Some(large), Some(small)) = (whole, mean_loss(&row.trial), mean_loss(&below.trial)) {
        passed &= large <= small + LOSS_SLACK * small.abs().max(0.01);
        detail += &format!(", loss {large:.4} against {small:.4}");
    }
    Some(check("monotone-in-budget", passed, format!("{detail} at {}", below.epsilon)))
}

fn row_with_huge_budget(row: &Measurement) -> Option<Check> {
    let bounded_in_l2 = row.norm == "l2";
    if knowledge(row) != Some(Knowledge::WhiteBox) || row.epsilon_pixels < HUGE || bounded_in_l2 {
        return None;
    }
    // An attack that pulls embeddings to where they are breaks nothing at any budget.
    if !means_to_break(row) {
        return None;
    }
    let recall = row.recall.first()?;
    let detail = format!("recall@{} {:.3} at {} (allowed {LEFT})", recall.k, recall.estimate.value, row.epsilon);
    Some(check("huge-budget-breaks", recall.estimate.value <= LEFT, detail))
}

/// A row of the same kind and budget with more steps or restarts has hardly less recall.
fn more_steps<'a>(row: &Measurement, others: impl Iterator<Item = &'a Measurement>) -> Option<Check> {
    let effort = |m: &Measurement| u64::from(m.steps) * u64::from(m.restarts);
    let more = |other: &&Measurement| {
        subject(other) == subject(row)
            && (&other.method, &other.epsilon) == (&row.method, &row.epsilon)
            && (&other.crafted_on, &other.crafted_by) == (&row.crafted_on, &row.crafted_by)
            && effort(other) > effort(row)
            && effort(row) > 0
            && means_to_break(row)
    };
    let most = others.filter(more).max_by_key(|other| effort(other))?;
    let (a, b) = (row.recall.first()?, most.recall.first()?);
    let passed = a.estimate.value - b.estimate.value <= 0.05;
    let detail = format!(
        "recall@{} {:.3} with {} × {} steps, {:.3} with {} × {} of `{}`",
        a.k, a.estimate.value, row.restarts, row.steps, b.estimate.value, most.restarts, most.steps, most.attack
    );
    Some(check("more-steps-change-little", passed, detail))
}

/// Iterative ≥ one step, white box ≥ transfer ≥ black box, at the same goal and budget.
fn better_informed<'a>(row: &Measurement, others: impl Iterator<Item = &'a Measurement>) -> Vec<Check> {
    let Some(known) = knowledge(row) else { return vec![] };
    let rivals: Vec<&Measurement> =
        others.filter(|o| subject(o) == subject(row) && (&o.epsilon, &o.norm) == (&row.epsilon, &row.norm)).collect();
    let against = |name: &str, rival: Knowledge| {
        let of = rivals.iter().copied().filter(|other| knowledge(other) == Some(rival));
        let who = |other: &Measurement| match (rival, other.is_transfer()) {
            (Knowledge::Transfer, true) => format!("crafted on {}", other.crafted_by),
            (Knowledge::Transfer, false) => format!("crafted on branch {}", other.crafted_on),
            _ => format!("by {} (`{}`)", other.method, other.attack),
        };
        together(name, row, of.map(|other| (other, who(other))))
    };
    let pairs: &[(&str, Knowledge)] = match known {
        Knowledge::WhiteBox => &[
            ("iterative-beats-one-step", Knowledge::OneStep),
            ("white-box-beats-transfer", Knowledge::Transfer),
            ("white-box-beats-black-box", Knowledge::BlackBox),
        ],
        Knowledge::Transfer => {
            &[("transfer-beats-black-box", Knowledge::BlackBox), ("transfer-beats-noise", Knowledge::Noise)]
        }
        _ => &[],
    };
    pairs.iter().filter_map(|(name, rival)| against(name, *rival)).collect()
}

/// Where another branch crafted, the deployed one has been attacked with its own gradient too.
fn deployed_branch_attacked<'a>(row: &Measurement, mut others: impl Iterator<Item = &'a Measurement>) -> Option<Check> {
    if row.crafted_on == row.answered_by || row.is_transfer() || row.crafted_on.starts_with("worst") {
        return None;
    }
    let own = others.any(|other| {
        subject(other) == subject(row) && other.crafted_on == other.answered_by && other.epsilon == row.epsilon
    });
    let detail = format!(
        "crafted on {}, answered by {}; an attack on {} itself at {} is {}",
        row.crafted_on,
        row.answered_by,
        row.answered_by,
        row.epsilon,
        if own { "in the suite" } else { "missing" }
    );
    Some(check(Check::DEPLOYED_BRANCH, own, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Estimate, RecallAt};

    fn row(attack: &str, method: &str, levels: u32, recall: f64) -> Measurement {
        let estimate = Estimate { value: recall, low: recall - 0.02, high: recall + 0.02, ..Estimate::default() };
        Measurement {
            trial: format!("{attack}-{method}-{levels}-{recall}"),
            model: "m".into(),
            attack: attack.into(),
            goal: "untargeted".into(),
            method: method.into(),
            side: "query".into(),
            crafted_on: "main".into(),
            answered_by: "main".into(),
            epsilon: format!("{levels}/255"),
            epsilon_pixels: f64::from(levels) / 255.0,
            norm: "linf".into(),
            steps: 10,
            restarts: 1,
            recall: vec![RecallAt { k: 1, estimate }],
            ..Measurement::default()
        }
    }

    /// The verdict of a check on the first row; `None` if it was not made.
    fn verdict(name: &str, rows: &[Measurement]) -> Option<bool> {
        verdict_with(name, rows, &|_| None)
    }

    fn verdict_with(name: &str, rows: &[Measurement], loss: &dyn Fn(&str) -> Option<f64>) -> Option<bool> {
        across(rows, loss)[0].iter().find(|c| c.name == name).map(|c| c.passed)
    }

    #[test]
    fn a_larger_budget_must_not_leave_more() {
        let name = "monotone-in-budget";
        let small = row("a", "pgd", 2, 0.5);
        assert_eq!(verdict(name, &[row("a", "pgd", 8, 0.2), small.clone()]), Some(true));
        assert_eq!(verdict(name, &[row("a", "pgd", 8, 0.6), small.clone()]), Some(false));
        assert_eq!(verdict(name, &[row("b", "pgd", 8, 0.6), small.clone()]), None, "another attack");
        let loss = |better: bool| move |trial: &str| Some(if trial.contains("-8-") == better { -2.0 } else { -1.0 });
        let pair = [row("a", "pgd", 8, 0.2), small];
        assert_eq!(verdict_with(name, &pair, &loss(true)), Some(true));
        assert_eq!(verdict_with(name, &pair, &loss(false)), Some(false));
    }

    #[test]
    fn success_is_compared_where_there_are_targets() {
        let with = |row: Measurement, success: f64| Measurement {
            success: Some(Estimate { value: success, low: success, high: success, ..Estimate::default() }),
            ..row
        };
        let pair = |large: f64| [with(row("a", "pgd", 8, 0.2), large), with(row("a", "pgd", 2, 0.5), 0.4)];
        assert_eq!(verdict("monotone-in-budget", &pair(0.7)), Some(true));
        assert_eq!(verdict("monotone-in-budget", &pair(0.3)), Some(false));
    }

    #[test]
    fn a_huge_budget_breaks_everything() {
        assert_eq!(verdict("huge-budget-breaks", &[row("a", "pgd", 255, 0.01)]), Some(true));
        assert_eq!(verdict("huge-budget-breaks", &[row("a", "pgd", 255, 0.3)]), Some(false));
        assert_eq!(verdict("huge-budget-breaks", &[row("a", "pgd", 8, 0.3)]), None);
    }

    #[test]
    fn iterative_attacks_beat_one_step() {
        let name = "iterative-beats-one-step";
        assert_eq!(verdict(name, &[row("a", "pgd", 8, 0.2), row("b", "fgsm", 8, 0.4)]), Some(true));
        assert_eq!(verdict(name, &[row("a", "pgd", 8, 0.5), row("b", "fgsm", 8, 0.4)]), Some(false));
        assert_eq!(verdict(name, &[row("a", "pgd", 8, 0.5), row("b", "fgsm", 4, 0.4)]), None);
    }

    #[test]
    fn the_better_informed_attacker_is_stronger() {
        let transfer = |recall| Measurement { crafted_by: "other".into(), ..row("t", "pgd", 8, recall) };
        let name = "white-box-beats-transfer";
        assert_eq!(verdict(name, &[row("a", "pgd", 8, 0.2), transfer(0.4)]), Some(true));
        assert_eq!(verdict(name, &[row("a", "pgd", 8, 0.5), transfer(0.4)]), Some(false));
        let aux = |recall| Measurement { crafted_on: "aux1".into(), ..row("x", "pgd", 8, recall) };
        assert_eq!(verdict(name, &[row("a", "pgd", 8, 0.5), aux(0.4)]), Some(false), "another branch's gradient");
        let name = "white-box-beats-black-box";
        assert_eq!(verdict(name, &[row("a", "apgd-until-broken", 8, 0.2), row("s", "square", 8, 0.4)]), Some(true));
        assert_eq!(verdict(name, &[row("a", "pgd", 8, 0.5), row("s", "square-by-rank", 8, 0.4)]), Some(false));
        let name = "transfer-beats-black-box";
        assert_eq!(verdict(name, &[transfer(0.2), row("s", "square", 8, 0.4)]), Some(true));
        assert_eq!(verdict(name, &[transfer(0.5), row("s", "square", 8, 0.4)]), Some(false));
        let name = "transfer-beats-noise";
        assert_eq!(verdict(name, &[transfer(0.2), row("n", "noise", 8, 0.4)]), Some(true));
        assert_eq!(verdict(name, &[transfer(0.5), row("n", "noise", 8, 0.4)]), Some(false));
        let name = "stronger-than-noise";
        assert_eq!(verdict(name, &[row("a", "pgd", 8, 0.2), row("n", "noise", 8, 0.4)]), Some(true));
        assert_eq!(verdict(name, &[row("a", "pgd", 8, 0.5), row("n", "noise", 8, 0.4)]), Some(false));
    }

    #[test]
    fn more_steps_change_little_or_it_is_said() {
        let more = |recall| Measurement { steps: 100, ..row("long", "pgd", 8, recall) };
        let name = "more-steps-change-little";
        assert_eq!(verdict(name, &[row("a", "pgd", 8, 0.2), more(0.18)]), Some(true));
        assert_eq!(verdict(name, &[row("a", "pgd", 8, 0.3), more(0.1)]), Some(false));
        assert_eq!(verdict(name, &[more(0.1), row("a", "pgd", 8, 0.3)]), None);
    }

    #[test]
    fn an_attack_on_another_branch_alone_is_labelled() {
        let aux = Measurement { crafted_on: "aux1".into(), ..row("x", "pgd", 8, 0.4) };
        let name = Check::DEPLOYED_BRANCH;
        assert_eq!(verdict(name, &[aux.clone(), row("x", "pgd", 8, 0.2)]), Some(true));
        assert_eq!(verdict(name, &[aux.clone(), row("x", "pgd", 4, 0.2)]), Some(false));
        assert_eq!(verdict(name, &[row("x", "pgd", 8, 0.2), aux]), None);
    }

    #[test]
    fn every_name_is_explained() {
        let rows = [row("a", "pgd", 255, 0.2), row("a", "pgd", 2, 0.5), row("b", "fgsm", 255, 0.4)];
        for check in across(&rows, &|_| None).concat() {
            assert!(crate::suite::soundness::about(&check.name).is_some(), "{} is not explained", check.name);
        }
    }
}
