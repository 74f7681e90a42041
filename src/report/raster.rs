//! Charts as PNG: the same SVG, its words drawn as outlines of an embedded font, so that no system font is needed.

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};
use ttf_parser::{Face, OutlineBuilder};

/// DejaVu Sans, cut down; its licence lies beside it.
const FONT: &[u8] = include_bytes!("font/DejaVuSans.ttf");

/// A picture could not be made of a chart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot draw {width} × {height} pixels of a chart: {why}; ask for a smaller scale")]
pub struct RasterError {
    /// Wanted.
    pub width: u32,
    /// Wanted.
    pub height: u32,
    /// What the drawing library said.
    pub why: String,
}

/// A chart of this program as PNG, `scale` times as large.
///
/// # Errors
/// [`RasterError`] if the picture is larger than memory allows or the text is no SVG.
pub fn png(svg: &str, scale: u32) -> Result<Vec<u8>, RasterError> {
    let fail = |(width, height): (u32, u32), why: String| RasterError { width, height, why };
    let outlined = outlined(svg);
    let tree = Tree::from_str(&outlined, &Options::default()).map_err(|e| fail((0, 0), e.to_string()))?;
    let size = tree.size().to_int_size();
    let wanted = (size.width().saturating_mul(scale), size.height().saturating_mul(scale));
    let mut pixels =
        Pixmap::new(wanted.0, wanted.1).ok_or_else(|| fail(wanted, "it does not fit into memory".into()))?;
    resvg::render(&tree, Transform::from_scale(scale as f32, scale as f32), &mut pixels.as_mut());
    pixels.encode_png().map_err(|e| fail(wanted, e.to_string()))
}

/// Every `<text>` element replaced by a path.
fn outlined(svg: &str) -> String {
    let face = Face::parse(FONT, 0).expect("the font is part of the program");
    let mut out = String::with_capacity(2 * svg.len());
    let mut rest = svg;
    while let Some(at) = rest.find("<text") {
        out.push_str(&rest[..at]);
        let (Some(open), Some(close)) = (rest[at..].find('>'), rest[at..].find("</text>")) else { break };
        let (head, words) = (&rest[at..at + open], &rest[at + open + 1..at + close]);
        out.push_str(&path(&face, head, &unescaped(words.trim())));
        rest = &rest[at + close + "</text>".len()..];
    }
    out.push_str(rest);
    out
}

/// The words of one element as outlines, where and as the element says.
fn path(face: &Face<'_>, head: &str, words: &str) -> String {
    let number = |name: &str| attribute(head, name).and_then(|text| text.parse::<f32>().ok()).unwrap_or(0.0);
    let (x, y, size) = (number("x"), number("y"), number("font-size"));
    let scale = size / f32::from(face.units_per_em());
    let glyphs: Vec<_> = words
        .chars()
        .map(|c| face.glyph_index(c).or_else(|| face.glyph_index('\u{fffd}')).unwrap_or_default())
        .collect();
    let advance = |glyph| scale * f32::from(face.glyph_hor_advance(glyph).unwrap_or(0));
    let width: f32 = glyphs.iter().map(|glyph| advance(*glyph)).sum();
    let start = match attribute(head, "text-anchor") {
        Some("middle") => x - width / 2.0,
        Some("end") => x - width,
        _ => x,
    };
    // `dy="0.5ex"` puts the middle of small letters on y.
    let drop = match attribute(head, "dy") {
        Some(text) if text.ends_with("ex") => {
            let x_height = scale * f32::from(face.x_height().unwrap_or(0));
            text.trim_end_matches("ex").parse::<f32>().unwrap_or(0.0) * x_height
        }
        Some(text) if text.ends_with("em") => text.trim_end_matches("em").parse::<f32>().unwrap_or(0.0) * size,
        _ => 0.0,
    };
    let mut pen = Pen { d: String::new(), origin: (start, y + drop), scale };
    for glyph in glyphs {
        face.outline_glyph(glyph, &mut pen);
        pen.origin.0 += advance(glyph);
    }
    let fill = attribute(head, "fill").unwrap_or("#000000");
    let turn = attribute(head, "transform").map(|t| format!(" transform=\"{t}\"")).unwrap_or_default();
    format!("<path fill=\"{fill}\"{turn} d=\"{}\"/>", pen.d)
}

fn attribute<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let from = head.find(&format!(" {name}=\""))? + name.len() + 3;
    head[from..].split('"').next()
}

fn unescaped(text: &str) -> String {
    let signs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&apos;", "'"), ("&amp;", "&")];
    signs.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

/// Writes a glyph's outline, y downwards, as an SVG path.
struct Pen {
    d: String,
    origin: (f32, f32),
    scale: f32,
}

impl Pen {
    fn add(&mut self, letter: char, points: &[(f32, f32)]) {
        self.d.push(letter);
        for (x, y) in points {
            let place = (self.origin.0 + self.scale * x, self.origin.1 - self.scale * y);
            self.d.push_str(&format!("{:.2} {:.2} ", place.0, place.1));
        }
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        self.add('M', &[(x, y)]);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.add('L', &[(x, y)]);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.add('Q', &[(x1, y1), (x, y)]);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.add('C', &[(x1, y1), (x2, y2), (x, y)]);
    }

    fn close(&mut self) {
        self.d.push('Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dark(svg: &str, [left, top, right, bottom]: [u32; 4]) -> usize {
        let image = image::load_from_memory(&png(svg, 2).unwrap()).unwrap().to_rgb8();
        assert_eq!(image.dimensions(), (400, 200));
        let inside = |x: u32, y: u32| (2 * left..2 * right).contains(&x) && (2 * top..2 * bottom).contains(&y);
        image.enumerate_pixels().filter(|(x, y, p)| inside(*x, *y) && p.0[0] < 100).count()
    }

    fn sheet(text: &str) -> String {
        format!(
            "<svg width=\"200\" height=\"100\" viewBox=\"0 0 200 100\" xmlns=\"http://www.w3.org/2000/svg\">\
             <rect x=\"0\" y=\"0\" width=\"200\" height=\"100\" fill=\"#FFFFFF\"/>{text}</svg>"
        )
    }

    #[test]
    fn words_are_drawn_where_their_anchor_says() {
        let text = |anchor: &str, words: &str| {
            sheet(&format!(
                "<text x=\"100\" y=\"50\" dy=\"0.5ex\" text-anchor=\"{anchor}\" font-size=\"20\" fill=\"#222222\">\n\
                 {words}\n</text>"
            ))
        };
        let (left, right) = ([0, 30, 100, 70], [100, 30, 200, 70]);
        assert!(dark(&text("start", "recall"), right) > 200 && dark(&text("start", "recall"), left) == 0);
        assert!(dark(&text("end", "recall"), left) > 200 && dark(&text("end", "recall"), right) == 0);
        let middle = text("middle", "oooo");
        let (a, b) = (dark(&middle, left), dark(&middle, right));
        assert!(a > 100 && a.abs_diff(b) < 20, "{a} {b}");
        // Escaped signs are one glyph; a letter that the font lacks is the sign for that.
        assert!(dark(&text("start", "&lt;&amp;"), right) > 50 && dark(&text("start", "漢"), right) > 50);
    }

    #[test]
    fn turned_words_go_upwards() {
        let svg = sheet(
            "<text x=\"20\" y=\"90\" dy=\"0.5ex\" text-anchor=\"start\" font-size=\"20\" fill=\"#222222\" \
             transform=\"rotate(270, 20, 90)\">recall</text>",
        );
        assert!(dark(&svg, [5, 30, 40, 92]) > 200);
        assert_eq!(dark(&svg, [45, 0, 200, 100]), 0);
    }

    #[test]
    fn a_picture_too_large_is_an_error() {
        let huge = "<svg width=\"2000000000\" height=\"2000000000\" xmlns=\"http://www.w3.org/2000/svg\"/>";
        assert!(png(huge, 8).is_err());
    }
}
