//! Many runs beside each other: one ranking for each data set and threat model, the most robust model first.
//!
//! Numbers are beside each other only if they are of the same images, the same kind of attack and the same budget.

use std::collections::BTreeSet;

use super::chart::{ChartError, ParetoPoint, pareto};
use super::seed_mean::SeedMean;
use super::summary::{Cell, Condition, FailedCheck, Summary};
use super::table::{Table, TableCell};
use crate::record::Run;
use crate::record::columns::{Columns, Values};

/// What to show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only data sets whose id contains this.
    pub dataset: Option<String>,
    /// Only threat models whose description contains this.
    pub threat: Option<String>,
}

/// A model in a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Which run: its suite, and its folder where that alone is not enough.
    pub run: String,
    /// Model id.
    pub model: String,
    /// Training method word.
    pub training: String,
    /// Colour and mark in charts: the same for a model id everywhere.
    pub style: usize,
    /// recall@1 on clean images.
    pub clean: Option<SeedMean>,
    /// recall@1 under the attack.
    pub attacked: SeedMean,
    /// Checks that failed and errors.
    pub failed: Vec<String>,
}

/// One ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct Board {
    /// Data set id.
    pub dataset: String,
    /// Its digest, short form.
    pub digest: String,
    /// Who does what, with which budget.
    pub threat: String,
    /// Best first; equals in the order of the runs.
    pub entries: Vec<Entry>,
}

/// The rankings of some runs, each with the name it goes by; in the order in which data sets and threats first appear.
pub fn boards(runs: &[(String, Run)], filter: &Filter) -> Vec<Board> {
    let mut boards: Vec<Board> = Vec::new();
    let mut styles: Vec<String> = Vec::new();
    let contains = |text: &str, wanted: &Option<String>| wanted.as_ref().is_none_or(|w| text.contains(w.as_str()));
    for (name, run) in runs {
        let summary = Summary::of(run);
        for (index, row) in summary.models.iter().enumerate() {
            let style = styles.iter().position(|m| *m == row.model).unwrap_or_else(|| {
                styles.push(row.model.clone());
                styles.len() - 1
            });
            for (column, condition) in summary.conditions.iter().enumerate().filter(|(_, c)| !c.is_clean()) {
                let threat = threat(condition);
                let Some(attacked) = summary.recall(index, column).cloned() else { continue };
                if !contains(&condition.dataset, &filter.dataset) || !contains(&threat, &filter.threat) {
                    continue;
                }
                let words = |c: &Cell| {
                    let checks = c.failed_checks.iter().map(FailedCheck::in_words);
                    checks.chain(c.errors.iter().cloned()).collect::<Vec<_>>()
                };
                let entry = Entry {
                    run: name.clone(),
                    model: row.model.clone(),
                    training: row.training.clone(),
                    style,
                    clean: clean(&summary, index, condition).cloned(),
                    attacked,
                    failed: row.cells[column].iter().flat_map(words).collect(),
                };
                let digest: String = run.manifest.dataset_digest.chars().take(12).collect();
                let same = |b: &&mut Board| b.dataset == condition.dataset && b.digest == digest && b.threat == threat;
                match boards.iter_mut().find(same) {
                    Some(board) => board.entries.push(entry),
                    None => {
                        boards.push(Board { dataset: condition.dataset.clone(), digest, threat, entries: vec![entry] })
                    }
                }
            }
        }
    }
    for board in &mut boards {
        board.entries.sort_by(|a, b| b.attacked.value.total_cmp(&a.attacked.value));
    }
    boards
}

/// Everything that makes two attacked numbers comparable, but not the suite's own name of the attack.
fn threat(c: &Condition) -> String {
    let effort = if c.steps > 0 { format!(" {} × {}", c.steps, c.restarts) } else { String::new() };
    let branch = match (c.crafted_on.as_str(), c.answered_by.as_str()) {
        ("main", "main") => String::new(),
        (crafted, answered) => format!(", crafted on {crafted}, answered by {answered}"),
    };
    let crafter = c.crafter().map_or_else(String::new, |model| format!(", crafted by {model}"));
    format!("{}, {}{effort}, side {}, ε {}{branch}{crafter}", c.goal, c.method, c.side, c.epsilon)
}

fn clean<'a>(summary: &'a Summary, model: usize, attacked: &Condition) -> Option<&'a SeedMean> {
    let own = |c: &Condition| c.is_clean() && c.dataset == attacked.dataset && c.answered_by == attacked.answered_by;
    summary.recall(model, summary.conditions.iter().position(own)?)
}

/// A ranking as a table.
pub fn table(board: &Board) -> Table {
    let mut notes = Vec::new();
    let mean = |m: &SeedMean| TableCell {
        detail: m.has_interval().then(|| format!("[{:.1}, {:.1}]", 100.0 * m.low, 100.0 * m.high)),
        ..TableCell::new(format!("{:.1}", 100.0 * m.value))
    };
    let best = |value: Option<f64>, all: &dyn Fn(&Entry) -> Option<f64>| {
        let most = board.entries.iter().filter_map(all).fold(f64::NEG_INFINITY, f64::max);
        board.entries.len() > 1 && value == Some(most) && most > 0.0
    };
    let mut rows = Vec::new();
    let mut rank = 0;
    for (place, e) in board.entries.iter().enumerate() {
        if place == 0 || board.entries[place - 1].attacked.value > e.attacked.value {
            rank = place + 1;
        }
        let mut attacked = mean(&e.attacked);
        for why in &e.failed {
            notes.push(format!("{}, {}: {why}", e.model, e.run));
            attacked.marks.push(notes.len());
        }
        let robust: &dyn Fn(&Entry) -> Option<f64> = &|e| Some(e.attacked.value);
        let clean_value: &dyn Fn(&Entry) -> Option<f64> = &|e| e.clean.as_ref().map(|c| c.value);
        attacked.best = best(robust(e), robust);
        let mut clean = e.clean.as_ref().map_or(TableCell::new("–"), mean);
        clean.best = best(clean_value(e), clean_value);
        let kept = e.clean.as_ref().filter(|c| c.value > 0.0).map(|c| 100.0 * e.attacked.value / c.value);
        rows.push(vec![
            TableCell::new(rank.to_string()),
            TableCell::new(&e.model),
            TableCell::new(&e.run),
            TableCell::new(&e.training),
            attacked,
            clean,
            TableCell::new(kept.map_or("–".into(), |k| format!("{k:.0}"))),
            TableCell::new(format!("{} × {}", e.attacked.seeds, e.attacked.queries)),
        ]);
    }
    let kinds: BTreeSet<_> = board.entries.iter().map(|e| e.attacked.kind).collect();
    let head =
        ["rank", "model", "run", "training", "robust recall@1 %", "clean recall@1 %", "kept %", "seeds × queries"];
    Table {
        caption: format!("{}: {}", board.dataset, board.threat),
        head: head.map(String::from).into(),
        words: 4,
        rows,
        notes,
        remarks: kinds.iter().map(|k| format!("Brackets, {}.", k.in_words())).collect(),
    }
}

/// Clean against robust of a ranking; `None` for fewer than two entries with both.
///
/// # Errors
/// [`ChartError`] if the drawing library refuses.
pub fn chart(board: &Board) -> Option<Result<String, ChartError>> {
    let several = board.entries.iter().map(|e| &e.run).collect::<BTreeSet<_>>().len() > 1;
    let point = |e: &Entry| {
        let clean = e.clean.as_ref()?;
        let interval = |m: &SeedMean| m.has_interval().then_some((100.0 * m.low, 100.0 * m.high));
        Some(ParetoPoint {
            label: if several { format!("{} ({})", e.model, e.run) } else { e.model.clone() },
            style: e.style,
            at: (100.0 * clean.value, 100.0 * e.attacked.value),
            intervals: [interval(clean), interval(&e.attacked)],
        })
    };
    let points: Vec<ParetoPoint> = board.entries.iter().filter_map(point).collect();
    let title = format!("{}: {}", board.dataset, board.threat);
    (points.len() > 1).then(|| pareto(&title, ("clean recall@1 in %", "robust recall@1 in %"), &points))
}

/// Every entry of every ranking as flat columns; shares in `[0, 1]`.
pub fn columns(boards: &[Board]) -> Columns {
    let rows: Vec<(usize, &Board, &Entry)> =
        boards.iter().flat_map(|b| b.entries.iter().enumerate().map(move |(i, e)| (i, b, e))).collect();
    let text = |get: &dyn Fn(&Board, &Entry) -> String| Values::Text(rows.iter().map(|(_, b, e)| get(b, e)).collect());
    let real = |get: &dyn Fn(&Entry) -> Option<f64>| Values::Real(rows.iter().map(|(_, _, e)| get(e)).collect());
    let mut c = Columns::default();
    c.push("dataset", text(&|b, _| b.dataset.clone()));
    c.push("dataset_digest", text(&|b, _| b.digest.clone()));
    c.push("threat", text(&|b, _| b.threat.clone()));
    let rank = |(i, b, e): &(usize, &Board, &Entry)| {
        let value = e.attacked.value;
        1 + b.entries[..*i].iter().filter(|other| other.attacked.value > value).count() as u32
    };
    c.push("rank", Values::Whole(rows.iter().map(rank).collect()));
    c.push("model", text(&|_, e| e.model.clone()));
    c.push("run", text(&|_, e| e.run.clone()));
    c.push("training", text(&|_, e| e.training.clone()));
    c.push("seeds", Values::Whole(rows.iter().map(|(_, _, e)| e.attacked.seeds as u32).collect()));
    c.push("queries", Values::Whole(rows.iter().map(|(_, _, e)| e.attacked.queries).collect()));
    let low = |m: &SeedMean| m.has_interval().then_some(m.low);
    let high = |m: &SeedMean| m.has_interval().then_some(m.high);
    c.push("robust_recall_at_1", real(&|e| Some(e.attacked.value)));
    c.push("robust_recall_at_1_low", real(&|e| low(&e.attacked)));
    c.push("robust_recall_at_1_high", real(&|e| high(&e.attacked)));
    c.push("clean_recall_at_1", real(&|e| e.clean.as_ref().map(|c| c.value)));
    c.push("clean_recall_at_1_low", real(&|e| e.clean.as_ref().and_then(low)));
    c.push("clean_recall_at_1_high", real(&|e| e.clean.as_ref().and_then(high)));
    c.push("failed_checks", Values::Whole(rows.iter().map(|(_, _, e)| e.failed.len() as u32).collect()));
    c
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample::{self, Shape};

    fn runs() -> Vec<(String, Run)> {
        let mut shape = Shape::default();
        shape.models.truncate(2);
        let mut other = sample::make(&Shape { seeds: 1, ..Shape::default() });
        other.manifest.suite = "other".into();
        vec![("demo".into(), sample::make(&shape)), ("other".into(), other)]
    }

    #[test]
    fn the_same_threat_and_images_are_ranked_together_best_first() {
        let boards = boards(&runs(), &Filter::default());
        assert_eq!(boards.len(), 6);
        for board in &boards {
            assert_eq!(board.entries.len(), 6);
            let values: Vec<f64> = board.entries.iter().map(|e| e.attacked.value).collect();
            assert!(values.windows(2).all(|w| w[0] >= w[1]), "{values:?}");
        }
        let strongest = boards.iter().find(|b| b.threat == "single-target, pgd 20 × 1, side query, ε 24/255").unwrap();
        assert_eq!(strongest.entries[0].model, "adversarial");
        let table = table(strongest);
        assert_eq!((table.rows.len(), table.rows[0][0].text.as_str()), (6, "1"));
        assert!(table.rows[0][4].best && !table.rows[5][4].best);
        let same = |e: &&Entry| e.model == "standard";
        let styles: BTreeSet<usize> = strongest.entries.iter().filter(same).map(|e| e.style).collect();
        assert_eq!(styles.len(), 1, "a model has one colour in every run");
        assert!(chart(strongest).unwrap().unwrap().contains("standard (other)"));
    }

    #[test]
    fn filters_and_other_images_keep_apart() {
        let mut runs = runs();
        let of = |runs: &[(String, Run)], dataset: Option<&str>, threat: Option<&str>| {
            let own = |text: Option<&str>| text.map(String::from);
            boards(runs, &Filter { dataset: own(dataset), threat: own(threat) })
        };
        assert_eq!(of(&runs, None, Some("multi-target")).len(), 3);
        assert_eq!(of(&runs, None, Some("ε 24/255")).len(), 2);
        assert_eq!(of(&runs, Some("emoji"), None).len(), 6);
        assert!(of(&runs, Some("cub"), None).is_empty());
        runs[1].1.manifest.dataset_digest = "another".into();
        assert_eq!(of(&runs, None, None).len(), 12);
    }

    #[test]
    fn columns_hold_every_entry_and_equal_values_share_a_rank() {
        let (mut boards, mut shared) = (boards(&runs(), &Filter::default()), 0);
        let value = boards[0].entries[0].attacked.value;
        boards[0].entries[1].attacked.value = value;
        let columns = columns(&boards);
        assert_eq!(columns.rows(), 36);
        for rank in &columns.whole("rank").unwrap()[..6] {
            shared += usize::from(*rank == 1);
        }
        assert_eq!(shared, 2);
        assert_eq!(table(&boards[0]).rows[1][0].text, "1");
    }
}
