//! Flipped queries as HTML: the query, what one model found, what the other found.

use std::fmt::Write as _;

use super::super::ReportError;
use super::super::flips::names;
use super::super::words::escape;
use super::picture::{Shown, neighbors};
use crate::drift::Contest;
use crate::drift::flips::EACH_WAY;
use crate::record::{FlippedQuery, Right};

/// The pictures' file in the run folder.
const FILE: &str = "flips.json";

/// Nearest pictures shown of each of the two.
const NEAREST: usize = 3;

/// Pictures up to this side keep every pixel; of larger ones more fit into a page.
const LOSSLESS: u32 = 32;

/// A contest and the rows of pictures of those that A alone has right, and B.
type Pictured<'a, 'b> = (&'a Contest<'b>, [Vec<String>; 2]);

/// Every contest that has pictures, folded but for the first, within so many bytes, for which they take turns.
///
/// A flipped query belongs to the contest of its question and names; one that belongs to none is not shown.
pub(super) fn contests(contests: &[Contest<'_>], flips: &[FlippedQuery], budget: usize) -> Result<String, ReportError> {
    let pictured = pictured(contests, flips, budget)?;
    if pictured.is_empty() {
        return Ok(String::new());
    }
    let mut out = String::from(
        "<p>Right neighbours have a round, solid frame and a ✓; wrong ones a square, dashed frame and a ✗. First those \
         that the wrong one ranks worst. Queries and neighbours are shown clean also where an attack asked: each model \
         was attacked with a change of its own.</p>\n",
    );
    for (place, (contest, rows)) in pictured.iter().enumerate() {
        let open = if place == 0 { " open" } else { "" };
        let _ = writeln!(
            out,
            "<details class=\"flips\"{open}><summary>{}: {} alone right {}, {} alone right {}, of {}; {}</summary>\n\
             <div class=\"rows\">",
            escape(&contest.question),
            escape(&contest.a),
            contest.only_a.len(),
            escape(&contest.b),
            contest.only_b.len(),
            contest.queries,
            escape(&contest.says)
        );
        for (right, rows) in [Right::A, Right::B].into_iter().zip(rows) {
            out += &side(contest, right, rows);
        }
        out += "</div></details>\n";
    }
    Ok(out)
}

/// The rows that fit: the first of every contest and way, then the second of each, and so on.
fn pictured<'a, 'b>(
    contests: &'a [Contest<'b>],
    flips: &[FlippedQuery],
    budget: usize,
) -> Result<Vec<Pictured<'a, 'b>>, ReportError> {
    let mut out: Vec<Pictured<'a, 'b>> = contests.iter().map(|contest| (contest, [vec![], vec![]])).collect();
    let mut bytes = 0;
    'budget: for turn in 0..EACH_WAY {
        for (contest, rows) in &mut out {
            let own = |f: &&FlippedQuery| f.question == contest.question && f.a == contest.a && f.b == contest.b;
            for (right, rows) in [Right::A, Right::B].into_iter().zip(rows) {
                let Some(flip) = flips.iter().filter(own).filter(|f| f.right == right).nth(turn) else { continue };
                let row = row(flip)?;
                bytes += row.len();
                if bytes > budget {
                    break 'budget;
                }
                rows.push(row);
            }
        }
    }
    out.retain(|(_, rows)| rows.iter().any(|rows| !rows.is_empty()));
    Ok(out)
}

/// The queries that one of the two alone has right.
fn side(contest: &Contest<'_>, right: Right, rows: &[String]) -> String {
    let all = contest.only(right).len();
    if all == 0 {
        return String::new();
    }
    let (who, other) = names(contest, right);
    let mut out = format!("<div><h4>{} right, {} wrong</h4>\n{}", escape(who), escape(other), rows.concat());
    if rows.len() < all {
        let _ = writeln!(out, "<p class=\"note\">{} of {all}; mdprop compare --format json lists all</p>", rows.len());
    }
    out + "</div>\n"
}

fn row(flip: &FlippedQuery) -> Result<String, ReportError> {
    let shown = Shown { file: FILE, size: flip.size, lossless: LOSSLESS };
    let query = shown.figure(&flip.query, "", ("", &flip.query.class))?;
    let mut out = format!(
        "<div class=\"flip\"><div class=\"asked\"><p class=\"who\">query {}</p>{query}</div>\n",
        flip.query.index
    );
    for (name, nearest, rank) in
        [(&flip.a, &flip.nearest_a, flip.first_hit.0), (&flip.b, &flip.nearest_b, flip.first_hit.1)]
    {
        let found = match rank {
            1 => "nearest is right".to_string(),
            rank => format!("first right one at rank {rank}"),
        };
        let _ = writeln!(out, "<div><p class=\"who\"><b>{}</b> {found}</p><div class=\"strip\">", escape(name));
        out += &neighbors(&shown, nearest.iter().take(NEAREST))?;
        out += "</div></div>\n";
    }
    Ok(out + "</div>\n")
}

#[cfg(test)]
mod tests {
    use super::super::super::Material;
    use super::super::super::flips;
    use super::super::picture::BYTES;
    use super::*;
    use crate::record::sample;

    fn page(flips: &[FlippedQuery], budget: usize) -> Result<String, ReportError> {
        let run = sample::run();
        let material = Material::of(&run);
        contests(&flips::contests(&material), flips, budget)
    }

    #[test]
    fn each_query_stands_beside_what_both_found() {
        let text = page(&sample::run().flips, BYTES).unwrap();
        assert_eq!(text.matches("<details class=\"flips\" open><summary>clean: standard alone right ").count(), 1);
        assert_eq!(text.matches("class=\"flip\"").count(), 2);
        // Of six neighbours each, the right one has three and the wrong one its third.
        assert_eq!((text.matches("thumb same").count(), text.matches("thumb other").count()), (8, 4));
        assert_eq!((text.matches("<b>✓ ").count(), text.matches("<b>✗ ").count()), (8, 4));
        assert_eq!(text.matches("alt=\"glyph ").count(), 14);
        assert!(
            text.contains("<h4>standard right, mdprop wrong</h4>")
                && text.contains("<h4>mdprop right, standard wrong</h4>")
        );
        assert!(
            text.contains("<b>mdprop</b> first right one at rank 3") && text.contains("<b>mdprop</b> nearest is right")
        );
        assert!(text.contains("1 of "), "{text}");
    }

    #[test]
    fn class_names_are_escaped_and_what_belongs_to_no_question_is_not_shown() {
        let mut flips = sample::run().flips;
        flips[0].query.class = "<b>\"x\"".into();
        flips[0].nearest_b[1].class = "<i>".into();
        let text = page(&flips, BYTES).unwrap();
        assert!(text.contains("&lt;b&gt;&quot;x&quot;") && text.contains("&lt;i&gt;") && !text.contains("<i>"));
        for flip in &mut flips {
            flip.b = "nobody".into();
        }
        assert_eq!(page(&flips, BYTES).unwrap(), "");
        assert_eq!(page(&[], BYTES).unwrap(), "");
    }

    #[test]
    fn pictures_keep_to_their_bytes_and_one_cut_short_is_an_error() {
        let mut flips = sample::run().flips;
        let one = row(&flips[0]).unwrap().len();
        let text = page(&flips, one + 20).unwrap();
        assert_eq!(text.matches("class=\"flip\"").count(), 1);
        assert!(text.contains(">0 of "), "{text}");
        assert_eq!(page(&flips, one - 1).unwrap(), "");
        flips[0].query.pixels.pop();
        assert!(page(&flips, BYTES).unwrap_err().to_string().starts_with("flips.json: picture 3: has"));
    }
}
