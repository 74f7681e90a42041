//! Corruptions kind by kind: the mean over severities for each model, and for a lone model every severity.

use super::chart::Heat;
use super::material::Material;
use super::robustness::{by_seed, hits, labels, share};
use super::table::{Table, TableCell, bases_in_words};
use crate::record::{Estimate, Measurement};
use crate::score;

/// The trials of one kind, of all models and severities.
struct Kind<'a> {
    name: &'a str,
    trials: Vec<&'a Measurement>,
}

/// Kinds in the order of the record.
fn kinds<'a>(material: &Material<'a>) -> Vec<Kind<'a>> {
    let mut kinds: Vec<Kind<'a>> = Vec::new();
    for m in material.run.measurements.iter().filter(|m| m.is_part_of_mean() && m.error.is_none()) {
        // With one entry of corruptions in the suite, as usual, its name says nothing.
        let name = m.attack.split_once(':').map_or(m.attack.as_str(), |(_, kind)| kind);
        match kinds.iter_mut().find(|kind| kind.name == name) {
            Some(kind) => kind.trials.push(m),
            None => kinds.push(Kind { name, trials: vec![m] }),
        }
    }
    kinds
}

/// The share of severities at which a query is right, as a mean over queries.
fn mean(material: &Material<'_>, trials: &[&Measurement]) -> Option<Estimate> {
    let lists = material.outcomes.of_trials(trials)?;
    let mut values = vec![0.0; lists[0].len()];
    for list in &lists {
        for (value, hit) in values.iter_mut().zip(hits(list)) {
            *value += if hit { 1.0 / lists.len() as f64 } else { 0.0 };
        }
    }
    score::mean(&values, &labels(&lists[0]), (0.0, 1.0), trials[0].seed)
}

/// recall@1 of each kind of corruption, mean over its severities: kinds against models.
pub fn table(material: &Material<'_>) -> Option<Table> {
    let models = &material.summary.models;
    let mut shown = Vec::new();
    let mut rows: Vec<Vec<TableCell>> = Vec::new();
    for kind in kinds(material) {
        let mut row = vec![TableCell::new(kind.name)];
        for model in models {
            let own: Vec<&Measurement> = kind.trials.iter().copied().filter(|m| m.model == model.model).collect();
            let mean = by_seed(&own, |trials| mean(material, trials));
            row.push(mean.as_ref().map_or(TableCell::new("–"), share));
            shown.extend(mean);
        }
        rows.push(row);
    }
    let names = models.iter().map(|m| m.model.clone());
    (!shown.is_empty()).then(|| Table {
        caption: "recall@1 in percent by kind of corruption, mean over its severities".into(),
        head: std::iter::once("kind".to_string()).chain(names).collect(),
        words: 1,
        rows,
        remarks: bases_in_words(shown.iter()).into_iter().collect(),
        ..Table::default()
    })
}

/// Kinds against models, or against severities where there is one model.
pub(super) fn heat_map(material: &Material<'_>) -> Option<Heat> {
    let (kinds, models) = (kinds(material), &material.summary.models);
    let recall = |trials: Vec<&&Measurement>| {
        let values: Vec<f64> =
            trials.iter().filter_map(|m| m.recall.iter().find(|r| r.k == 1)).map(|r| r.estimate.value).collect();
        (!values.is_empty()).then(|| 100.0 * values.iter().sum::<f64>() / values.len() as f64)
    };
    let mut columns: Vec<&str> = models.iter().map(|m| m.model.as_str()).collect();
    if models.len() == 1 {
        columns.clear();
        for m in kinds.iter().flat_map(|kind| &kind.trials).filter(|m| m.epsilon != "0") {
            if !columns.contains(&m.epsilon.as_str()) {
                columns.push(&m.epsilon);
            }
        }
    }
    let of = |kind: &Kind<'_>, column: &str| {
        let own = |m: &&&Measurement| if models.len() == 1 { m.epsilon == column } else { m.model == column };
        recall(kind.trials.iter().filter(own).collect())
    };
    (!kinds.is_empty() && columns.len() * kinds.len() > 1).then(|| Heat {
        rows: kinds.iter().map(|kind| kind.name.to_string()).collect(),
        columns: columns.iter().map(ToString::to_string).collect(),
        axes: ("corruption".into(), if models.len() == 1 { "severity" } else { "model" }.into()),
        values: kinds.iter().map(|kind| columns.iter().map(|column| of(kind, column)).collect()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    /// The sample's two attacks become two kinds of corruption at three severities.
    fn run() -> crate::record::Run {
        let mut run = sample::run();
        for m in run.measurements.iter_mut().filter(|m| m.attack != "clean") {
            m.attack = if m.attack == "single" { "c:fog" } else { "c:snow" }.into();
            m.method = "corruption".into();
            m.epsilon = format!("severity {}", (255.0 * m.epsilon_pixels / 8.0).round());
        }
        run
    }

    #[test]
    fn kinds_stand_against_models_and_cells_are_means_over_severities_and_seeds() {
        let run = run();
        let table = table(&Material::of(&run)).unwrap();
        assert_eq!(table.head, ["kind", "standard", "adversarial", "advprop", "mdprop"]);
        assert_eq!(table.rows.iter().map(|row| row[0].text.as_str()).collect::<Vec<_>>(), ["fog", "snow"]);
        let own = |m: &&Measurement| m.model == "advprop" && m.attack == "c:snow";
        let values: Vec<f64> = run.measurements.iter().filter(own).map(|m| m.recall[0].estimate.value).collect();
        assert_eq!(values.len(), 6);
        assert_eq!(table.rows[1][3].text, format!("{:.1}", 100.0 * values.iter().sum::<f64>() / 6.0));
        assert!(table.rows[1][3].detail.as_ref().is_some_and(|interval| interval.starts_with('[')));
        let heat = heat_map(&Material::of(&run)).unwrap();
        assert_eq!(format!("{:.1}", heat.values[1][2].unwrap()), table.rows[1][3].text);
    }

    #[test]
    fn a_lone_model_is_shown_at_every_severity() {
        let mut run = run();
        run.measurements.retain(|m| m.model == "mdprop" && m.model_seed == 1);
        let heat = heat_map(&Material::of(&run)).unwrap();
        assert_eq!(
            (heat.rows.join(" "), heat.columns.join(", ")),
            ("fog snow".into(), "severity 1, severity 2, severity 3".into())
        );
        let last = run.measurements.iter().rfind(|m| m.attack == "c:snow" && m.epsilon == "severity 3").unwrap();
        assert_eq!(heat.values[1][2], Some(100.0 * last.recall[0].estimate.value));
        assert!(heat_map(&Material::of(&sample::run())).is_none() && table(&Material::of(&sample::run())).is_none());
    }
}
