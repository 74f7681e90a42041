//! What only several trials together say: the worst case over attacks, the area under the budget curve, the classes that
//! are served worst.

use std::collections::BTreeMap;

use super::material::Material;
use super::seed_mean::{SeedMean, of_seeds};
use super::summary::Summary;
use super::table::{Table, TableCell, bases_in_words};
use crate::metric::breakdown::{ClassMean, by_class, macro_mean, worst};
use crate::metric::kind::Metric;
use crate::metric::robustness::{area_weights, hit, worst_case};
use crate::record::{Estimate, Measurement, QueryOutcome, Run};
use crate::score;

/// Classes shown of those that are served worst.
const CLASSES: usize = 8;

pub(super) fn labels(list: &[&QueryOutcome]) -> Vec<u32> {
    list.iter().map(|outcome| outcome.label).collect()
}

pub(super) fn hits(list: &[&QueryOutcome]) -> Vec<bool> {
    list.iter().map(|outcome| hit(outcome.first_hit, 1)).collect()
}

/// Estimates of each seed of a model that `of` can make of the model's trials of that seed.
pub(super) fn by_seed<'a>(
    trials: &[&'a Measurement],
    of: impl Fn(&[&'a Measurement]) -> Option<Estimate>,
) -> Option<SeedMean> {
    let mut seeds: BTreeMap<u64, Vec<&Measurement>> = BTreeMap::new();
    for trial in trials.iter().copied().filter(|m| m.error.is_none()) {
        seeds.entry(trial.model_seed).or_default().push(trial);
    }
    of_seeds(seeds.values().filter_map(|trials| of(trials)).map(|estimate| vec![estimate]).collect(), (0.0, 1.0))
}

/// Rows are models, columns what `columns` names; a cell is what `of` makes of a model's trials in that column.
fn per_model(
    run: &Run,
    summary: &Summary,
    metric: Metric,
    columns: &[(String, Vec<&Measurement>)],
    of: impl Fn(&[&Measurement]) -> Option<Estimate>,
) -> Option<Table> {
    let head = std::iter::once("model".to_string()).chain(columns.iter().map(|column| column.0.clone())).collect();
    let mut table = Table {
        caption: format!("{metric} in percent: {}", metric.about().definition),
        head,
        words: 1,
        ..Table::default()
    };
    let mut shown = Vec::new();
    for model in &summary.models {
        let mut row = vec![TableCell::new(&model.model)];
        for (_, trials) in columns {
            let own: Vec<&Measurement> = trials.iter().copied().filter(|m| m.model == model.model).collect();
            let mean = by_seed(&own, &of);
            row.push(mean.as_ref().map_or(TableCell::new("–"), share));
            shown.extend(mean);
        }
        table.rows.push(row);
    }
    table.remarks.push(format!("Computed as {}; {}.", metric.about().formula, metric.about().edges));
    table.remarks.extend(bases_in_words(shown.iter()));
    (!shown.is_empty() && !run.queries.is_empty()).then_some(table)
}

pub(super) fn share(mean: &SeedMean) -> TableCell {
    let percent = |v: f64| format!("{:.1}", 100.0 * v);
    let mut cell = TableCell::new(percent(mean.value));
    cell.detail = mean.has_interval().then(|| format!("[{}, {}]", percent(mean.low), percent(mean.high)));
    cell
}

/// recall@1 under the worst of all attacks with the same side and budget: per query, so never above any of them.
pub fn worst_cases(material: &Material<'_>) -> Option<Table> {
    let Material { run, summary, outcomes, .. } = material;
    let mut columns: Vec<(String, Vec<&Measurement>)> = Vec::new();
    let mut names: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for column in summary.conditions.iter().filter(|c| !c.is_clean() && c.epsilon_pixels > 0.0) {
        let mut label = format!("{} {}", column.side, column.epsilon);
        if column.answered_by != "main" {
            label = format!("{label}, answered by {}", column.answered_by);
        }
        let trials = run.measurements.iter().filter(|m| column.matches(m));
        match columns.iter_mut().find(|c| c.0 == label) {
            Some(found) => found.1.extend(trials),
            None => columns.push((label.clone(), trials.collect())),
        }
        names.entry(label).or_default().push(&column.attack);
    }
    // With a single attack the worst case is that attack: nothing new to show.
    columns.retain(|column| names[&column.0].len() > 1);
    let of = |trials: &[&Measurement]| {
        let lists = outcomes.of_trials(trials)?;
        let flags: Vec<Vec<bool>> = lists.iter().map(|list| hits(list)).collect();
        let worst = worst_case(&flags.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let values: Vec<f64> = worst.into_iter().map(|hit| f64::from(u8::from(hit))).collect();
        score::mean(&values, &labels(&lists[0]), (0.0, 1.0), trials[0].seed)
    };
    let mut table = per_model(run, summary, Metric::RobustRecallAt1, &columns, of)?;
    let list = |(label, _): &(String, Vec<&Measurement>)| {
        let mut attacks = names[label].clone();
        attacks.dedup();
        format!("{label}: {}", attacks.join(", "))
    };
    table.remarks.push(format!("Attacks, {}.", columns.iter().map(list).collect::<Vec<_>>().join("; ")));
    Some(table)
}

/// The area under recall@1 over the budgets of each attack, from the clean images to its largest budget.
pub fn areas(material: &Material<'_>) -> Option<Table> {
    let Material { run, summary, outcomes, .. } = material;
    let clean = &summary.conditions[summary.clean()?];
    let column = |family: &Vec<usize>| {
        let conditions = family.iter().map(|i| &summary.conditions[*i]);
        let own: Vec<_> = conditions.filter(|c| c.epsilon_pixels > 0.0).collect();
        let last = own.last().filter(|c| c.answered_by == clean.answered_by)?;
        let wanted = |m: &&Measurement| clean.matches(m) || own.iter().any(|c| c.matches(m));
        Some((last.label(), run.measurements.iter().filter(wanted).collect()))
    };
    let columns: Vec<(String, Vec<&Measurement>)> = summary.families().iter().filter_map(column).collect();
    let of = |trials: &[&Measurement]| {
        let mut trials = trials.to_vec();
        trials.sort_by(|a, b| a.epsilon_pixels.total_cmp(&b.epsilon_pixels));
        let weights = area_weights(&trials.iter().map(|m| m.epsilon_pixels).collect::<Vec<_>>())?;
        let lists = outcomes.of_trials(&trials)?;
        let mut values = vec![0.0; lists[0].len()];
        for (list, weight) in lists.iter().zip(weights) {
            for (value, hit) in values.iter_mut().zip(hits(list)) {
                *value += if hit { weight } else { 0.0 };
            }
        }
        score::mean(&values, &labels(&lists[0]), (0.0, 1.0), trials[0].seed)
    };
    per_model(run, summary, Metric::RobustnessArea, &columns, of)
}

/// Clean recall@1 of the classes that all models together serve worst, over all seeds, with macro and micro means.
pub fn classes(material: &Material<'_>) -> Option<Table> {
    let Material { run, summary, outcomes, .. } = material;
    let clean = &summary.conditions[summary.clean()?];
    let of_model = |model: &str| -> Vec<&QueryOutcome> {
        let trials = run.measurements.iter().filter(|m| m.model == model && m.error.is_none() && clean.matches(m));
        let lists = trials.filter_map(|m| outcomes.of(&m.trial));
        lists.flatten().copied().filter(|o| o.first_hit > 0).collect()
    };
    let lists: Vec<Vec<&QueryOutcome>> = summary.models.iter().map(|m| of_model(&m.model)).collect();
    let values = |list: &[&QueryOutcome]| hits(list).into_iter().map(|h| f64::from(u8::from(h))).collect::<Vec<_>>();
    let of_classes = |list: &[&QueryOutcome]| by_class(&values(list), &labels(list));
    let per_model: Vec<Vec<ClassMean>> = lists.iter().map(|list| of_classes(list)).collect();
    let all: Vec<&QueryOutcome> = lists.iter().flatten().copied().collect();
    let shown = worst(&of_classes(&all), CLASSES);
    let name = |label: u32| {
        let named = run.manifest.test_classes.iter().find(|class| class.0 == label);
        named.map_or_else(|| format!("class {label}"), |class| class.1.clone())
    };
    let percent = |value: Option<f64>| TableCell::new(value.map_or("–".into(), |v| format!("{:.1}", 100.0 * v)));
    let row = |class: &ClassMean| {
        let queries = class.queries / lists.iter().filter(|list| !list.is_empty()).count().max(1);
        let own = per_model.iter().map(|c| percent(c.iter().find(|c| c.label == class.label).map(|c| c.mean)));
        [TableCell::new(name(class.label)), TableCell::new(queries.to_string())].into_iter().chain(own).collect()
    };
    let mut rows: Vec<Vec<TableCell>> = shown.iter().map(row).collect();
    let micro = |list: &Vec<&QueryOutcome>| {
        let values = values(list);
        percent((!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64))
    };
    let mut all_classes = |what: &str, cells: Vec<TableCell>| {
        rows.push([TableCell::new(what), TableCell::new("")].into_iter().chain(cells).collect());
    };
    all_classes("all classes, each alike (macro)", per_model.iter().map(|c| percent(macro_mean(c))).collect());
    all_classes("all queries alike (micro)", lists.iter().map(micro).collect());
    let names = summary.models.iter().map(|m| m.model.clone());
    let total = of_classes(&all).len();
    (total > 1).then(|| Table {
        caption: format!("clean recall@1 in percent: the {} classes of {total} that are served worst", shown.len()),
        head: ["class", "queries"].map(String::from).into_iter().chain(names).collect(),
        words: 1,
        rows,
        remarks: vec![
            "Queries of all seeds of a model; with few of them the worst of many classes is partly bad luck.".into(),
        ],
        ..Table::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    fn recall(run: &Run, model: &str, keep: impl Fn(&Measurement) -> bool, right: impl Fn(&[u32]) -> bool) -> f64 {
        let trials: Vec<&str> =
            run.measurements.iter().filter(|m| m.model == model && keep(m)).map(|m| m.trial.as_str()).collect();
        let mut ranks: BTreeMap<(u64, u32), Vec<u32>> = BTreeMap::new();
        for m in &run.measurements {
            for q in run.queries.iter().filter(|q| q.trial == m.trial && trials.contains(&q.trial.as_str())) {
                ranks.entry((m.model_seed, q.query)).or_default().push(q.first_hit);
            }
        }
        ranks.values().filter(|list| right(list)).count() as f64 / ranks.len() as f64
    }

    #[test]
    fn the_worst_case_is_counted_query_by_query() {
        let run = sample::run();
        let table = worst_cases(&Material::of(&run)).unwrap();
        assert_eq!(table.head, ["model", "query 8/255", "query 16/255", "query 24/255"]);
        let wanted =
            recall(&run, "mdprop", |m| m.epsilon == "8/255", |ranks| ranks.len() == 2 && ranks.iter().all(|r| *r == 1));
        assert_eq!(table.rows[3][1].text, format!("{:.1}", 100.0 * wanted));
        assert!(table.remarks.last().unwrap().contains("query 8/255: single, multi"), "{:?}", table.remarks);
        let mut lone = run;
        lone.measurements.retain(|m| m.attack != "multi");
        assert_eq!(worst_cases(&Material::of(&lone)), None);
    }

    #[test]
    fn the_area_joins_the_clean_images_and_every_budget() {
        let run = sample::run();
        let table = areas(&Material::of(&run)).unwrap();
        assert_eq!(table.head, ["model", "single 24/255", "multi 24/255"]);
        let at = |attack: &str, epsilon: &str| {
            recall(&run, "standard", |m| m.attack == attack && m.epsilon == epsilon, |ranks| ranks[0] == 1)
        };
        let steps = [at("clean", "0"), at("single", "8/255"), at("single", "16/255"), at("single", "24/255")];
        let wanted = (steps[0] / 2.0 + steps[1] + steps[2] + steps[3] / 2.0) / 3.0;
        assert_eq!(table.rows[0][1].text, format!("{:.1}", 100.0 * wanted));
    }

    #[test]
    fn the_classes_that_are_served_worst_have_names_and_means() {
        let run = sample::run();
        let table = classes(&Material::of(&run)).unwrap();
        assert_eq!(table.rows.len(), CLASSES + 2);
        assert!(table.rows[0][0].text.starts_with("glyph "));
        let micro = recall(&run, "adversarial", |m| m.attack == "clean", |ranks| ranks[0] == 1);
        assert_eq!(table.rows.last().unwrap()[3].text, format!("{:.1}", 100.0 * micro));
    }
}
