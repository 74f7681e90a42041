//! Picture stories as HTML: query, attacked query, what was added, and who their neighbours are.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::imageops::FilterType;
use image::{ImageEncoder as _, RgbImage};

use super::super::ReportError;
use super::super::words::escape;
use crate::record::{GalleryItem, Run, Thumbnail};

/// Neighbours shown of each query.
const NEIGHBORS: usize = 5;

/// Targets shown of each query; of more the number is told.
const TARGETS: usize = 5;

/// Longest side of a picture in the page; larger ones are made smaller.
const SIDE: u32 = 96;

/// Pictures up to this side are stored without loss.
const LOSSLESS: u32 = 64;

/// Bytes that all pictures of a page may take, so that the file stays below 5 MB.
const BYTES: usize = 3_200_000;

/// All stories, as many as fit; the rest is counted.
pub(super) fn stories(run: &Run) -> Result<String, ReportError> {
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
        if bytes + text.len() > BYTES {
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
    out += &figure(&item.clean, item.size, "", ("", "clean query"))?;
    out += &figure(&item.adversarial, item.size, "", ("", "attacked query"))?;
    out += &noise(&item.perturbation, item.size, &magnified)?;
    for target in item.targets.iter().take(TARGETS) {
        out += &figure(target, item.size, "target", ("→ ", &format!("target: {}", target.class)))?;
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
        for neighbor in list.iter().take(NEIGHBORS) {
            let (frame, sign) = if neighbor.same_class { ("same", "✓ ") } else { ("other", "✗ ") };
            out += &figure(neighbor, item.size, frame, (sign, &neighbor.class))?;
        }
        out += "</div></div>\n";
    }
    Ok(out + "</div></article>\n")
}

fn figure(picture: &Thumbnail, size: u32, frame: &str, caption: (&str, &str)) -> Result<String, ReportError> {
    framed(picture, size, frame, caption, FilterType::Triangle)
}

/// Made smaller by leaving pixels out: an average would show a milder perturbation than there was.
fn noise(picture: &Thumbnail, size: u32, caption: &str) -> Result<String, ReportError> {
    framed(picture, size, "", ("", caption), FilterType::Nearest)
}

fn framed(
    picture: &Thumbnail,
    size: u32,
    frame: &str,
    (sign, caption): (&str, &str),
    filter: FilterType,
) -> Result<String, ReportError> {
    let caption = escape(caption);
    let (kind, bytes) = encoded(picture, size, filter)?;
    let data = STANDARD.encode(bytes);
    let side = size.min(SIDE);
    let sign = if sign.is_empty() { String::new() } else { format!("<b>{sign}</b>") };
    let class = if frame.is_empty() { "thumb".to_string() } else { format!("thumb {frame}") };
    Ok(format!(
        "<figure class=\"{class}\"><span class=\"frame\"><img width=\"{side}\" height=\"{side}\" alt=\"{caption}\" \
         src=\"data:image/{kind};base64,{data}\"></span><figcaption>{sign}{caption}</figcaption></figure>\n"
    ))
}

/// Planes `[3, size, size]` as PNG, or as JPEG where they are large.
fn encoded(picture: &Thumbnail, size: u32, filter: FilterType) -> Result<(&'static str, Vec<u8>), ReportError> {
    let fail = |why: String| ReportError::Picture { index: picture.index, why };
    let plane = (size as usize).saturating_mul(size as usize);
    if plane == 0 || picture.pixels.len() != plane.saturating_mul(3) {
        return Err(fail(format!("has {} bytes, wanted 3 × {size} × {size}", picture.pixels.len())));
    }
    let mut rgb = Vec::with_capacity(3 * plane);
    for at in 0..plane {
        rgb.extend([picture.pixels[at], picture.pixels[plane + at], picture.pixels[2 * plane + at]]);
    }
    let mut bytes = Vec::new();
    if size <= LOSSLESS {
        let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        encoder.write_image(&rgb, size, size, image::ExtendedColorType::Rgb8).map_err(|e| fail(e.to_string()))?;
        return Ok(("png", bytes));
    }
    let whole = RgbImage::from_raw(size, size, rgb).ok_or_else(|| fail("has too few bytes".into()))?;
    let side = size.min(SIDE);
    let small = if side < size { image::imageops::resize(&whole, side, side, filter) } else { whole };
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 85);
    encoder.write_image(small.as_raw(), side, side, image::ExtendedColorType::Rgb8).map_err(|e| fail(e.to_string()))?;
    Ok(("jpeg", bytes))
}

#[cfg(test)]
mod tests {
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
        let all = stories(&Run { gallery: vec![item; 60], ..sample::run() }).unwrap();
        assert!(all.len() < BYTES + 1000, "{} bytes", all.len());
        assert!(all.contains(" more are in gallery.json"));
    }
}
