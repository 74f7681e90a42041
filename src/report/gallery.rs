//! Picture stories as HTML: query, attacked query, what was added, and who their neighbours are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::ImageEncoder as _;

use super::ReportError;
use super::words::escape;
use crate::record::{GalleryItem, Thumbnail};

/// Neighbours shown of each query.
const NEIGHBORS: usize = 5;

/// One story.
pub(super) fn story(item: &GalleryItem) -> Result<String, ReportError> {
    let mut out = format!(
        "<article class=\"story\"><h3>{}, attack {}, a query of class {}</h3>\n",
        escape(&item.model),
        escape(&item.attack),
        escape(&item.clean.class)
    );
    let magnified = format!("perturbation × {}", item.magnification);
    out += "<div class=\"strip\">\n";
    out += &figure(&item.clean, item.size, "", "clean query")?;
    out += &figure(&item.adversarial, item.size, "", "attacked query")?;
    out += &figure(&item.perturbation, item.size, "", &magnified)?;
    for target in &item.targets {
        out += &figure(target, item.size, "target", &format!("target: {}", target.class))?;
    }
    out += "</div>\n";
    for (name, list) in [
        ("Nearest to the clean query", &item.clean_neighbors),
        ("Nearest to the attacked query", &item.adversarial_neighbors),
    ] {
        if list.is_empty() {
            continue;
        }
        out += &format!("<h4>{name}</h4><div class=\"strip\">\n");
        for neighbor in list.iter().take(NEIGHBORS) {
            let (frame, sign) = if neighbor.same_class { ("same", "✓") } else { ("other", "✗") };
            out += &figure(neighbor, item.size, frame, &format!("{sign} {}", neighbor.class))?;
        }
        out += "</div>\n";
    }
    Ok(out + "</article>\n")
}

fn figure(picture: &Thumbnail, size: u32, frame: &str, caption: &str) -> Result<String, ReportError> {
    let caption = escape(caption);
    let data = STANDARD.encode(png(picture, size)?);
    Ok(format!(
        "<figure class=\"thumb {frame}\"><img width=\"{size}\" height=\"{size}\" alt=\"{caption}\" \
         src=\"data:image/png;base64,{data}\"><figcaption>{caption}</figcaption></figure>\n"
    ))
}

/// Planes `[3, size, size]` as PNG.
fn png(picture: &Thumbnail, size: u32) -> Result<Vec<u8>, ReportError> {
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
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.write_image(&rgb, size, size, image::ExtendedColorType::Rgb8).map_err(|e| fail(e.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn a_png_decodes_to_the_planes_it_was_made_of() {
        let item = &sample::run().gallery[0];
        let decoded = image::load_from_memory(&png(&item.adversarial, item.size).unwrap()).unwrap().to_rgb8();
        let plane = (item.size * item.size) as usize;
        for (at, pixel) in decoded.pixels().enumerate() {
            let wanted = [0, 1, 2].map(|c| item.adversarial.pixels[c * plane + at]);
            assert_eq!(pixel.0, wanted);
        }
    }

    #[test]
    fn right_and_wrong_neighbours_differ_by_sign_and_frame() {
        let text = story(&sample::run().gallery[0]).unwrap();
        assert_eq!(text.matches("thumb same").count(), 4);
        assert_eq!(text.matches("thumb other").count(), 6);
        assert_eq!((text.matches(">✓ ").count(), text.matches(">✗ ").count()), (4, 6));
    }

    #[test]
    fn a_picture_cut_short_is_an_error() {
        let mut item = sample::run().gallery.remove(0);
        item.clean.pixels.pop();
        assert!(story(&item).unwrap_err().to_string().contains("wanted 3 × 48 × 48"));
    }
}
