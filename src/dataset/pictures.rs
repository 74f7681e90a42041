//! From a listing to pixels: decoded in parallel, cut, made square, cached.
//!
//! Pictures are decoded as RGB; transparency is laid on white; EXIF orientation is ignored, as torchvision's loader
//! does.
//!
//! The cache is keyed by the content of every picture. Reading all of them for that takes seconds on a large set, so a
//! small stamp file remembers the key for a list of (path, length, time of change); `verify` forgets the stamp first.

use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageReader, RgbImage};
use rayon::prelude::*;

use super::cache::{self, Cached, Header};
use super::listing::{Listed, Listing, Region, wrong};
use super::resize::resized;
use super::{DatasetError, open as opening};
use crate::artefact::write_bytes;
use crate::digest::Digest;
use crate::progress::{Cancel, Observer};
use crate::suite::dataset::ResizeRule;

/// Version of the decoding and resizing rules.
const RULES: u32 = 2;

/// How pictures become pixels.
#[derive(Debug, Clone, Copy)]
pub struct Rendering {
    /// Side of the square images in pixels.
    pub size: usize,
    /// How pictures become square.
    pub resize: ResizeRule,
    /// Leave out pictures that cannot be read.
    pub skip_corrupt: bool,
}

impl Rendering {
    fn rules(self) -> (u32, usize, ResizeRule, bool) {
        (RULES, self.size, self.resize, self.skip_corrupt)
    }
}

/// What makes a picture's pixels besides its content. A listing without regions has the key that folders always had.
fn regions(listing: &Listing) -> Option<Vec<Option<Region>>> {
    let some = listing.pictures.iter().any(|p| p.region.is_some());
    some.then(|| listing.pictures.iter().map(|p| p.region).collect())
}

/// The key: from the stamp if no file has changed, else from the content of all files.
fn key(
    listing: &Listing,
    rendering: Rendering,
    data_dir: &Path,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Digest, DatasetError> {
    let pictures = &listing.pictures;
    let list: Vec<_> = pictures.iter().map(|f| (&f.name, f.label, f.length, f.changed.to_string())).collect();
    let list = Digest::of_value(&(rendering.rules(), list, regions(listing)));
    let stamp = stamp_path(listing, rendering, data_dir);
    // An unreadable stamp is only a stamp that does not match.
    if let Ok(text) = std::fs::read_to_string(&stamp)
        && let Ok((stamped, key)) = serde_json::from_str::<(Digest, Digest)>(&text)
        && stamped == list
    {
        return Ok(key);
    }
    observer.begin("reading pictures", pictures.len() as u64, "files");
    let contents = pictures
        .par_iter()
        .map(|f| {
            cancel.check()?;
            let digest = Digest::of_file(&f.path).map_err(DatasetError::read(&f.path))?;
            observer.advance(1);
            Ok((&f.name, f.label, digest))
        })
        .collect::<Result<Vec<_>, DatasetError>>()?;
    observer.end();
    let key = Digest::of_value(&(rendering.rules(), contents, &listing.classes, regions(listing)));
    write_bytes(&stamp, serde_json::to_string(&(&list, &key)).unwrap_or_default().as_bytes())?;
    Ok(key)
}

fn stamp_path(listing: &Listing, rendering: Rendering, data_dir: &Path) -> PathBuf {
    // The same folder by another name is another stamp, nothing worse.
    let place = Digest::of_value(&(listing.root.to_string_lossy(), rendering.rules()));
    data_dir.join("cache").join(format!("{}-{}.stamp", listing.id, place.short()))
}

fn cache_path(listing: &Listing, size: usize, key: &Digest, data_dir: &Path) -> PathBuf {
    data_dir.join("cache").join(format!("{}-{size}-{}.bin", listing.id, key.short()))
}

/// Makes the next [`open`] read the content of every picture.
///
/// # Errors
/// [`DatasetError::Read`] if the stamp is there and cannot be removed.
pub fn forget_stamp(listing: &Listing, rendering: Rendering, data_dir: &Path) -> Result<(), DatasetError> {
    let stamp = stamp_path(listing, rendering, data_dir);
    match std::fs::remove_file(&stamp) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(DatasetError::read(&stamp)(e)),
        _ => Ok(()),
    }
}

/// Opens the cache of a listing, made first if any picture, the size or a rule has changed.
///
/// # Errors
/// [`DatasetError::Picture`] naming the file, [`DatasetError::Folder`], [`DatasetError::Cancelled`].
pub fn open(
    listing: &Listing,
    rendering: Rendering,
    data_dir: &Path,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Cached, DatasetError> {
    let key = key(listing, rendering, data_dir, observer, cancel)?;
    let path = cache_path(listing, rendering.size, &key, data_dir);
    if let Some(cached) = cache::open(&path, &key)? {
        return Ok(cached);
    }
    observer.begin("decoding pictures", listing.pictures.len() as u64, "images");
    let decoded = listing
        .pictures
        .par_iter()
        .map(|f| {
            cancel.check()?;
            let pixels = decode_square(f, rendering.size, rendering.resize);
            observer.advance(1);
            match pixels {
                Ok(pixels) => Ok(Some(pixels)),
                Err(DatasetError::Picture { .. }) if rendering.skip_corrupt => Ok(None),
                Err(error) => Err(error),
            }
        })
        .collect::<Result<Vec<_>, DatasetError>>()?;
    observer.end();
    let (header, pixels) = gather(listing, rendering.size, key, decoded)?;
    if !header.failed.is_empty() {
        observer.say(&format!("{}: {} pictures cannot be read and are left out", header.id, header.failed.len()));
    }
    opening::store(&path, header, &pixels)
}

/// Joins what was decoded. A class that lost all its pictures is left out with them.
fn gather(
    listing: &Listing,
    size: usize,
    key: Digest,
    decoded: Vec<Option<Vec<u8>>>,
) -> Result<(Header, Vec<u8>), DatasetError> {
    let mut alive = vec![false; listing.classes.len()];
    let pictures = listing.pictures.iter();
    pictures.clone().zip(&decoded).filter(|(_, d)| d.is_some()).for_each(|(f, _)| alive[f.label as usize] = true);
    let new_label: Vec<u32> =
        alive.iter().scan(0, |next, &a| Some(std::mem::replace(next, *next + u32::from(a)))).collect();
    let classes: Vec<String> =
        listing.classes.iter().zip(&alive).filter(|(_, a)| **a).map(|(name, _)| name.clone()).collect();
    if classes.len() < 2 {
        return Err(wrong(
            &listing.root,
            format!("{} classes have a readable picture, wanted at least 2", classes.len()),
        ));
    }
    let mut pixels = Vec::with_capacity(decoded.len() * 3 * size * size);
    let (mut labels, mut sources, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for (f, picture) in pictures.zip(decoded) {
        match picture {
            Some(picture) => {
                pixels.extend_from_slice(&picture);
                labels.push(new_label[f.label as usize]);
                sources.push(f.name.clone());
            }
            None => failed.push(f.name.clone()),
        }
    }
    let (id, pixel_digest) = (listing.id.clone(), Digest::of_bytes(b""));
    Ok((Header { id, key, size, labels, classes, sources, failed, pixel_digest }, pixels))
}

/// `count` pictures of a folder and its sub-folders, evenly spread over their sorted paths, as `[3, size, size]` bytes.
/// Fewer if there are fewer.
///
/// # Errors
/// [`DatasetError::Folder`] if there is no picture, [`DatasetError::Picture`] naming one that cannot be read.
pub fn some(root: &Path, count: usize, size: usize) -> Result<Vec<Vec<u8>>, DatasetError> {
    let found = super::folder::unsorted(root)?.pictures;
    let count = count.min(found.len());
    (0..count).map(|i| decode_square(&found[i * found.len() / count], size, ResizeRule::CenterCrop)).collect()
}

/// One picture as `[3, size, size]` bytes.
fn decode_square(listed: &Listed, size: usize, resize: ResizeRule) -> Result<Vec<u8>, DatasetError> {
    Ok(planar(&square(&decode(listed)?, size as u32, resize)))
}

/// One picture, or its region, at full size.
pub(super) fn decode(listed: &Listed) -> Result<RgbImage, DatasetError> {
    let path = &listed.path;
    let corrupt = |reason: String| DatasetError::Picture { path: path.clone(), reason };
    let bytes = std::fs::read(path).map_err(DatasetError::read(path))?;
    // By content: many JPEG files in the wild are called .png.
    let reader = ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format();
    let picture = reader.map_err(|e| corrupt(e.to_string()))?.decode().map_err(|e| corrupt(e.to_string()))?;
    let mut picture = on_white(picture);
    if picture.width() == 0 || picture.height() == 0 {
        return Err(corrupt("has no pixels".into()));
    }
    if let Some(region) = listed.region {
        picture = cut(&picture, region).ok_or_else(|| {
            let (w, h) = picture.dimensions();
            let Region { left, top, width, height } = region;
            corrupt(format!("its box {width}×{height} at ({left}, {top}) lies outside its {w}×{h} pixels"))
        })?;
    }
    Ok(picture)
}

/// The region, as far as it lies in the picture (official boxes overhang by a pixel here and there); absent if nothing
/// of it does.
fn cut(picture: &RgbImage, region: Region) -> Option<RgbImage> {
    let (w, h) = picture.dimensions();
    let width = region.width.min(w.checked_sub(region.left)?);
    let height = region.height.min(h.checked_sub(region.top)?);
    (width > 0 && height > 0)
        .then(|| image::imageops::crop_imm(picture, region.left, region.top, width, height).to_image())
}

fn on_white(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let picture = picture.into_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [r, g, b, a] = picture.get_pixel(x, y).0.map(u32::from);
        image::Rgb([r, g, b].map(|c| ((c * a + 255 * (255 - a) + 127) / 255) as u8))
    })
}

/// A square picture of side `size`.
pub(super) fn square(picture: &RgbImage, size: u32, resize: ResizeRule) -> RgbImage {
    let (width, height) = picture.dimensions();
    // PIL's antialiased bilinear.
    let scaled = |w: u32, h: u32| resized(picture, w as usize, h as usize);
    match resize {
        ResizeRule::Squash => scaled(size, size),
        ResizeRule::CenterCrop | ResizeRule::ResizeCrop => {
            let side = if resize == ResizeRule::ResizeCrop { (size * 8).div_ceil(7) } else { size };
            // torchvision: the longer side is truncated, half a pixel of the crop's offset goes to the even side.
            let longer = |long: u32, short: u32| (u64::from(side) * u64::from(long) / u64::from(short)) as u32;
            let (w, h) = if width <= height { (side, longer(height, width)) } else { (longer(width, height), side) };
            let offset = |from: u32| (f64::from(from - size) / 2.0).round_ties_even() as u32;
            let (x, y) = (offset(w), offset(h));
            image::imageops::crop_imm(&scaled(w, h), x, y, size, size).to_image()
        }
    }
}

/// `[3, height, width]` bytes.
pub(super) fn planar(picture: &RgbImage) -> Vec<u8> {
    let plane = picture.as_raw().len() / 3;
    let mut bytes = vec![0; 3 * plane];
    let (red, rest) = bytes.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    for (((pixel, r), g), b) in picture.as_raw().chunks_exact(3).zip(red).zip(green).zip(blue) {
        (*r, *g, *b) = (pixel[0], pixel[1], pixel[2]);
    }
    bytes
}

/// Compares the cache's pixels with their digest; returns how many pictures were left out.
///
/// # Errors
/// As [`open`], and [`DatasetError::Cache`].
pub fn verify(
    listing: &Listing,
    rendering: Rendering,
    data_dir: &Path,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<usize, DatasetError> {
    let cached = open(listing, rendering, data_dir, observer, cancel)?;
    cache::verify(&cache_path(listing, rendering.size, &cached.header.key, data_dir), &cached)?;
    Ok(cached.header.failed.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_centre_crop_keeps_the_middle_and_squashing_keeps_the_edges() {
        // Left third red, middle green, right blue: 24 × 8.
        let picture = RgbImage::from_fn(24, 8, |x, _| {
            image::Rgb(match x / 8 {
                0 => [255, 0, 0],
                1 => [0, 255, 0],
                _ => [0, 0, 255],
            })
        });
        let crop = planar(&square(&picture, 8, ResizeRule::CenterCrop));
        assert!(crop[64..128].iter().all(|&green| green == 255));
        let squash = planar(&square(&picture, 8, ResizeRule::Squash));
        assert_eq!((squash[0], squash[128 + 7]), (255, 255));
    }

    #[test]
    fn test_transforms_are_torchvision_s_within_a_grey_level() {
        let picture = image::load_from_memory(include_bytes!("../../tests/data/dataset/transforms.png")).unwrap();
        let cases: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/data/dataset/transforms.json")).unwrap();
        for case in cases["tests"].as_array().unwrap() {
            let (size, short) = (case["size"].as_u64().unwrap() as u32, case["short"].as_u64().unwrap() as u32);
            let rule = if size == short { ResizeRule::CenterCrop } else { ResizeRule::ResizeCrop };
            let ours = planar(&square(&picture.to_rgb8(), size, rule));
            let theirs: Vec<u8> = serde_json::from_value(case["planes"].clone()).unwrap();
            assert_eq!(ours.len(), theirs.len());
            let off = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(off <= Some(1), "{size} of {short}: off by {off:?}");
        }
    }

    #[test]
    fn a_box_is_cut_at_the_edge_and_refused_outside() {
        let picture = RgbImage::from_fn(6, 4, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let region = |left, top, width, height| Region { left, top, width, height };
        let inner = cut(&picture, region(2, 1, 3, 2)).unwrap();
        assert_eq!((inner.dimensions(), inner.get_pixel(0, 0).0), ((3, 2), [2, 1, 0]));
        assert_eq!(cut(&picture, region(4, 0, 5, 9)).unwrap().dimensions(), (2, 4));
        assert!(cut(&picture, region(6, 0, 1, 1)).is_none());
        assert!(cut(&picture, region(0, 9, 1, 1)).is_none());
    }

    #[test]
    fn transparency_is_laid_on_white() {
        let clear = image::RgbaImage::from_pixel(1, 1, image::Rgba([0, 0, 0, 128]));
        assert_eq!(on_white(DynamicImage::ImageRgba8(clear)).get_pixel(0, 0).0, [127; 3]);
    }
}
