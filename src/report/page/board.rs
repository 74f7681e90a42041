//! `leaderboard.html`: a ranking for each data set and threat model, with two lists to choose by.

use std::collections::BTreeSet;

use super::super::chart::Chart;
use super::super::leaderboard::{Board, table};
use super::super::words::escape;
use super::tables::rendered;
use super::{chart, document};

/// The whole page; `charts`: one a board, where it has one.
pub fn leaderboard(boards: &[Board], charts: &[Option<Chart>], runs: &[String]) -> String {
    let runs: String = runs.iter().map(|run| escape(run)).collect::<Vec<_>>().join(", ");
    let mut body = format!(
        "<header><h1>Leaderboard</h1>\n<p class=\"about\">Of {runs}. recall@1, the most robust \
                            first; only numbers of the same images, attack and budget are beside each other.</p></header>\n"
    );
    if boards.is_empty() {
        body += "<p>No result fits.</p>\n";
        return document("Leaderboard", &body);
    }
    body += "<p class=\"filter\">";
    body += &choice("data set", "dataset", boards.iter().map(|b| b.dataset.as_str()).collect());
    body += &choice("threat model", "threat", boards.iter().map(|b| b.threat.as_str()).collect());
    body += "</p>\n";
    for (index, board) in boards.iter().enumerate() {
        let picture = charts.get(index).and_then(Option::as_ref).map(chart).unwrap_or_default();
        body += &format!(
            "<section class=\"board\" data-dataset=\"{}\" data-threat=\"{}\"><h2>{}: {}</h2>\n\
             <p class=\"note\">images {}</p>\n{}{picture}</section>\n",
            escape(&board.dataset),
            escape(&board.threat),
            escape(&board.dataset),
            escape(&board.threat),
            escape(&board.digest),
            rendered(&table(board))
        );
    }
    document("Leaderboard", &body)
}

fn choice(label: &str, key: &str, values: BTreeSet<&str>) -> String {
    let options: String = values.iter().map(|v| format!("<option>{}</option>", escape(v))).collect();
    format!("<label>{label} <select data-choice=\"{key}\"><option value=\"\">all</option>{options}</select></label> ")
}
