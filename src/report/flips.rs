//! Queries that one model of a run answers and the other does not: the reference against every other model, clean and
//! under the strongest attack.

use super::answer::{answers, how_compared, verdict};
use super::material::Material;
use super::table::{Table, TableCell};
use crate::drift::flips::EACH_WAY;
use crate::drift::{Contest, OverSeeds, over_seeds};
use crate::record::Right;

/// Heading of the section.
pub const TITLE: &str = "Queries that one model answers and the other does not";

/// The questions that a report tells flipped queries of: the reference (the standard model, else the suite's first)
/// against each other model, on clean queries and under the strongest attack on and by the main branch that both answer.
///
/// Counted for the smallest training seed that both have; what the test says is of all seeds, as in the report's answer.
pub fn contests<'a>(material: &'a Material<'_>) -> Vec<Contest<'a>> {
    compared(material).into_iter().map(|(contest, _)| contest).collect()
}

/// [`contests`] and their table, with what its verdicts rest on. No table without a contest.
pub fn counted<'a>(material: &'a Material<'_>) -> (Option<Table>, Vec<Contest<'a>>) {
    let compared = compared(material);
    let how = compared.first().map(|(_, over_seeds)| how_compared(over_seeds));
    let contests: Vec<Contest<'a>> = compared.into_iter().map(|(contest, _)| contest).collect();
    let mut table = table(&contests);
    if let Some(table) = &mut table {
        table.remarks.extend(how);
        table.remarks.push("Counted for the first training seed; corrected over the questions of each pair.".into());
    }
    (table, contests)
}

fn compared<'a>(material: &'a Material<'_>) -> Vec<(Contest<'a>, OverSeeds)> {
    let summary = &material.summary;
    let reference = summary.baseline.unwrap_or(0);
    let others = (0..summary.models.len()).filter(|other| *other != reference);
    others.flat_map(|other| of_pair(material, reference, other)).collect()
}

/// The contests of two models, each with the comparison over all seeds.
fn of_pair<'a>(material: &'a Material<'_>, a: usize, b: usize) -> Vec<(Contest<'a>, OverSeeds)> {
    let summary = &material.summary;
    let [a, b] = [a, b].map(|model| summary.models[model].model.as_str());
    let of_seeds = |column: usize| answers(material, &summary.conditions[column], b, a);
    let contest = |column: usize, says: String| {
        let question = summary.conditions[column].label();
        Contest::new(question, (a, b), *of_seeds(column).first()?, says)
    };
    let strongest = summary.strongest_of(|column| {
        let condition = &summary.conditions[column];
        let deployed = condition.crafted_on == "main" && condition.answered_by == "main";
        deployed && contest(column, String::new()).is_some()
    });
    let columns: Vec<usize> = summary.clean().into_iter().chain(strongest).collect();
    let compared = over_seeds(&columns.iter().map(|column| of_seeds(*column)).collect::<Vec<_>>());
    let of = |(column, compared): (usize, Option<OverSeeds>)| {
        let compared = compared?;
        Some((contest(column, format!("difference {}", verdict(&compared)))?, compared))
    };
    columns.into_iter().zip(compared).filter_map(of).collect()
}

/// How often one of the two alone is right, a row a question. `None` without a question.
fn table(contests: &[Contest<'_>]) -> Option<Table> {
    let head = ["question", "A", "B", "recall@1, paired", "queries", "A alone right", "B alone right"];
    let row = |c: &Contest<'_>| {
        let counts = [c.queries, c.only_a.len(), c.only_b.len()].map(|count| count.to_string());
        [&c.question, &c.a, &c.b, &c.says].into_iter().chain(&counts).map(TableCell::new).collect()
    };
    (!contests.is_empty()).then(|| Table {
        caption: "Queries whose nearest image is of their class for one of two, and not for the other".into(),
        head: head.map(String::from).to_vec(),
        words: 4,
        rows: contests.iter().map(row).collect(),
        ..Table::default()
    })
}

/// The indices of the queries that are told, a line for each question and way; for a page without pictures.
pub fn lines(contests: &[Contest<'_>]) -> Vec<String> {
    let mut lines = Vec::new();
    for contest in contests {
        for right in [Right::A, Right::B] {
            let own = contest.only(right);
            if own.is_empty() {
                continue;
            }
            let (who, other) = names(contest, right);
            let told: Vec<String> = own.iter().take(EACH_WAY).map(|(a, _)| a.query.to_string()).collect();
            let more =
                if own.len() > told.len() { format!(" and {} more", own.len() - told.len()) } else { String::new() };
            lines.push(format!(
                "{}, {who} right and {other} wrong: images {}{more}",
                contest.question,
                told.join(", ")
            ));
        }
    }
    lines
}

/// Who is right and who is wrong.
pub fn names<'a>(contest: &'a Contest<'_>, right: Right) -> (&'a str, &'a str) {
    match right {
        Right::A => (&contest.a, &contest.b),
        Right::B => (&contest.b, &contest.a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample::{self, Shape};

    #[test]
    fn the_reference_meets_every_other_model_clean_and_under_the_strongest_attack() {
        let run = sample::run();
        let material = Material::of(&run);
        let (table, all) = counted(&material);
        let asked: Vec<(&str, &str, &str)> =
            all.iter().map(|c| (c.question.as_str(), c.a.as_str(), c.b.as_str())).collect();
        let wanted = ["adversarial", "advprop", "mdprop"];
        let wanted: Vec<_> =
            wanted.iter().flat_map(|b| ["clean", "single 24/255"].map(|q| (q, "standard", *b))).collect();
        assert_eq!(asked, wanted);
        for contest in &all {
            let recall = |id: &str| {
                let row = run.measurements.iter().find(|m| {
                    let question =
                        if m.attack == "clean" { "clean".into() } else { format!("{} {}", m.attack, m.epsilon) };
                    m.model == id && m.model_seed == 0 && question == contest.question
                });
                (row.unwrap().recall[0].estimate.value * 200.0).round() as i64
            };
            let net = contest.only_b.len() as i64 - contest.only_a.len() as i64;
            assert_eq!((contest.queries, net), (200, recall(&contest.b) - recall(&contest.a)));
        }
        // The same words as in the report's answer.
        let answer = super::super::answer::sentences(&material).join(" ");
        let own = all.iter().find(|c| c.b == "mdprop" && c.question == "clean").unwrap();
        assert!(answer.contains(&own.says), "{answer}: {}", own.says);
        let table = table.unwrap();
        assert_eq!(table.rows.len(), 6);
        assert!(table.remarks[0].contains("exact McNemar"));
        assert_eq!(lines(&all).len(), 12);
    }

    #[test]
    fn an_attack_that_one_of_the_two_did_not_answer_is_not_asked() {
        let mut run = sample::run();
        for row in run.measurements.iter_mut().filter(|m| m.model == "mdprop" && m.epsilon == "24/255") {
            row.error = Some("out of memory".into());
        }
        let material = Material::of(&run);
        let of = |b: &str| -> Vec<String> {
            contests(&material).into_iter().filter(|c| c.b == b).map(|c| c.question).collect()
        };
        assert_eq!(
            (of("mdprop"), of("advprop")),
            (vec!["clean".into(), "single 16/255".into()], vec!["clean".into(), "single 24/255".into()],)
        );
    }

    #[test]
    fn without_a_standard_model_the_first_is_the_reference_and_one_alone_has_no_contest() {
        let model = |id: &str, p: f64| (id.to_string(), "foreign".to_string(), p, p / 2.0);
        let make = |models| sample::make(&Shape { models, seeds: 1, ..Shape::default() });
        let run = make(vec![model("first", 0.4), model("second", 0.6)]);
        let material = Material::of(&run);
        assert!(contests(&material).iter().all(|c| c.a == "first" && c.b == "second"));
        assert_eq!(contests(&material).len(), 2);
        let run = make(vec![model("first", 0.4)]);
        let material = Material::of(&run);
        assert_eq!((contests(&material), table(&[])), (vec![], None));
    }
}
