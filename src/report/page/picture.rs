//! Pictures inside the page: a frame, a caption, and bytes that need no other file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::imageops::FilterType;
use image::{ImageEncoder as _, RgbImage};

use super::super::ReportError;
use super::super::words::escape;
use crate::record::Thumbnail;

/// Longest side of a picture in the page; larger ones are made smaller.
const SIDE: u32 = 96;

/// Bytes that all pictures of a page may take, so that the file stays below 5 MB.
pub(super) const BYTES: usize = 3_200_000;

/// Pictures of one side, out of one file of the run folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// Its name, for errors.
    pub file: &'static str,
    /// Side of the square pictures in pixels.
    pub size: u32,
    /// Pictures up to this side are stored without loss.
    pub lossless: u32,
}

impl Shown {
    /// A picture in a frame with a sign and a caption below it, both of which may be empty.
    pub fn figure(&self, picture: &Thumbnail, frame: &str, caption: (&str, &str)) -> Result<String, ReportError> {
        framed(self, picture, frame, caption, FilterType::Triangle)
    }

    /// Made smaller by leaving pixels out: an average would show a milder perturbation than there was.
    pub fn noise(&self, picture: &Thumbnail, caption: &str) -> Result<String, ReportError> {
        framed(self, picture, "", ("", caption), FilterType::Nearest)
    }
}

/// Neighbours of a query: right ones in a round, solid frame with a ✓, wrong ones in a square, dashed one with a ✗.
pub(super) fn neighbors<'a>(
    shown: &Shown,
    list: impl IntoIterator<Item = &'a Thumbnail>,
) -> Result<String, ReportError> {
    let one = |neighbor: &Thumbnail| {
        let (frame, sign) = if neighbor.same_class { ("same", "✓ ") } else { ("other", "✗ ") };
        shown.figure(neighbor, frame, (sign, &neighbor.class))
    };
    list.into_iter().map(one).collect()
}

fn framed(
    shown: &Shown,
    picture: &Thumbnail,
    frame: &str,
    (sign, caption): (&str, &str),
    filter: FilterType,
) -> Result<String, ReportError> {
    let caption = escape(caption);
    let (kind, bytes) = encoded(shown, picture, filter)?;
    let data = STANDARD.encode(bytes);
    let side = shown.size.min(SIDE);
    let sign = if sign.is_empty() { String::new() } else { format!("<b>{sign}</b>") };
    let class = if frame.is_empty() { "thumb".to_string() } else { format!("thumb {frame}") };
    Ok(format!(
        "<figure class=\"{class}\"><span class=\"frame\"><img width=\"{side}\" height=\"{side}\" alt=\"{caption}\" \
         src=\"data:image/{kind};base64,{data}\"></span><figcaption>{sign}{caption}</figcaption></figure>\n"
    ))
}

/// Planes `[3, size, size]` as PNG, or as JPEG where they are large.
fn encoded(shown: &Shown, picture: &Thumbnail, filter: FilterType) -> Result<(&'static str, Vec<u8>), ReportError> {
    let Shown { file, size, lossless } = *shown;
    let fail = |why: String| ReportError::Picture { file, index: picture.index, why };
    let plane = (size as usize).saturating_mul(size as usize);
    if plane == 0 || picture.pixels.len() != plane.saturating_mul(3) {
        return Err(fail(format!("has {} bytes, wanted 3 × {size} × {size}", picture.pixels.len())));
    }
    let mut rgb = Vec::with_capacity(3 * plane);
    for at in 0..plane {
        rgb.extend([picture.pixels[at], picture.pixels[plane + at], picture.pixels[2 * plane + at]]);
    }
    let mut bytes = Vec::new();
    if size <= lossless {
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
