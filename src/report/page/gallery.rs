//! Picture stories as HTML: query, attacked query, what was added, and who their neighbours are.

use std::fmt::Write as _;

use super::super::ReportError;
use super::super::words::escape;
use super::picture::{Shown, neighbors};
use crate::record::{GalleryItem, Run};

/// The pictures' file in the run folder.
const FILE: &str = "gallery.json";

/// Pictures up to this side keep every pixel: what an attack added is as small as a pixel.
const LOSSLESS: u32 = 64;

/// Neighbours shown of each query.
const NEIGHBORS: usize = 5;

/// Targets shown of each query; of more the number is told.
const TARGETS: usize = 5;

/// All stories, as many as fit into so many bytes; the rest is counted.
pub(super) fn stories(run: &Run, budget: usize) -> Result<String, ReportError> {
    let items = &run.gallery;
    if items.is_empty() {
        return Ok(String::new());
    }
    let mut out = String::from(
        "<p>Right neighbours have a round, solid frame and a ✓; wrong ones a square, dashed frame and a ✗; targets a \
         double frame. Chosen among the queries whose attacked pixels were kept: one that the attack flipped, the one \
         it threw furthest back, the one in the middle, then others.</p>\n",
    );
    let (mut shown, mut bytes) = (0, 0);
    for item in items {
        let known = run.measurements.iter().any(|m| m.trial == item.trial);
        let text = story(item, known)?;
        if bytes + text.len() > budget {
            break;
        }
        bytes += text.len();
        shown += 1;
        out += &text;
    }
    if shown < items.len() {
        let _ = writeln!(out, "<p class=\"note\">{} more are in gallery.json.</p>", items.len() - shown);
    }
    Ok(out)
}

/// What makes a query worth showing, in words.
fn kind(item: &GalleryItem) -> &'static str {
    match item.kind.as_str() {
        "flipped" => "right before, wrong after",
        "worst" => "thrown furthest back",
        "median" => "the one in the middle",
        "held" => "held",
        _ => "",
    }
}

/// `known`: whether its trial is in the page, so that there is something to link to.
fn story(item: &GalleryItem, known: bool) -> Result<String, ReportError> {
    let mut title = format!("{}, attack {}", escape(&item.model), escape(&item.attack));
    if known {
        title = format!("<a href=\"#t-{}\">{title}</a>", escape(&item.trial));
    }
    let mut out = format!("<article class=\"story\"><h3>{title}, a query of class {}", escape(&item.clean.class));
    if !kind(item).is_empty() {
        let _ = write!(out, " <span class=\"kind\">({})</span>", kind(item));
    }
    let magnified = format!("perturbation × {}", item.magnification);
    out += "</h3>\n<div class=\"rows\"><div class=\"whole\">\n<h4>The query and what it was to be taken for</h4><div class=\"strip\">\n";
    let shown = Shown { file: FILE, size: item.size, lossless: LOSSLESS };
    out += &shown.figure(&item.clean, "", ("", "clean query"))?;
    out += &shown.figure(&item.adversarial, "", ("", "attacked query"))?;
    out += &shown.noise(&item.perturbation, &magnified)?;
    for target in item.targets.iter().take(TARGETS) {
        out += &shown.figure(target, "target", ("→ ", &format!("target: {}", target.class)))?;
    }
    out += "</div>\n";
    if item.targets.len() > TARGETS {
        let _ = writeln!(out, "<p class=\"note\">and {} more targets</p>", item.targets.len() - TARGETS);
    }
    out += "</div>\n";
    for (name, list) in [
        ("Nearest to the clean query", &item.clean_neighbors),
        ("Nearest to the attacked query", &item.adversarial_neighbors),
    ] {
        if list.is_empty() {
            continue;
        }
        let _ = writeln!(out, "<div><h4>{name}</h4><div class=\"strip\">");
        out += &neighbors(&shown, list.iter().take(NEIGHBORS))?;
        out += "</div></div>\n";
    }
    Ok(out + "</div></article>\n")
}

#[cfg(test)]
mod tests {
    use super::super::picture::BYTES;
    use super::*;
    use crate::record::sample;

    #[test]
    fn right_and_wrong_neighbours_differ_by_sign_and_frame() {
        let text = story(&sample::run().gallery[0], true).unwrap();
        assert_eq!(text.matches("thumb same").count(), 4);
        assert_eq!(text.matches("thumb other").count(), 6);
        assert_eq!((text.matches("<b>✓ ").count(), text.matches("<b>✗ ").count()), (4, 6));
        assert!(text.contains("target: glyph 9") && text.contains("perturbation × 4"));
        assert!(text.contains("right before, wrong after"), "{text}");
    }

    #[test]
    fn a_picture_cut_short_is_an_error() {
        let mut item = sample::run().gallery.remove(0);
        item.clean.pixels.pop();
        assert!(story(&item, true).unwrap_err().to_string().contains("wanted 3 × 48 × 48"));
    }

    #[test]
    fn large_pictures_are_made_small_and_too_many_are_counted() {
        let mut item = sample::run().gallery.remove(0);
        item.size = 224;
        let noisy: Vec<u8> = (0..3 * 224 * 224u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let lists = [&mut item.clean_neighbors, &mut item.adversarial_neighbors, &mut item.targets];
        let all = lists.into_iter().flatten();
        for picture in all.chain([&mut item.clean, &mut item.adversarial, &mut item.perturbation]) {
            picture.pixels.clone_from(&noisy);
        }
        let text = story(&item, false).unwrap();
        assert!(text.contains("data:image/jpeg") && text.contains("width=\"96\""));
        let all = stories(&Run { gallery: vec![item; 60], ..sample::run() }, BYTES).unwrap();
        assert!(all.len() < BYTES + 1000, "{} bytes", all.len());
        assert!(all.contains(" more are in gallery.json"));
    }
}
