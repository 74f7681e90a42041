//! The user's own pictures: one folder a class, any format the `image` crate reads.
//!
//! Pictures are decoded as RGB; transparency is laid on white; EXIF orientation is ignored, as torchvision's loader
//! does. Class names are the folder names, sorted by bytes; pictures are taken in the order of their sorted paths, sub
//! folders included. Hidden files and files without a known picture extension are not pictures. A class with one image
//! is kept: it has no positive, so it is never a query, but it stays in the gallery ([`super::VerifyReport`] counts
//! them). An empty class folder is an error.
//!
//! The cache is keyed by the content of every picture. Reading all of them for that takes seconds on a large set, so a
//! small stamp file remembers the key for a list of (path, length, time of change); `verify` forgets the stamp first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use image::imageops::FilterType;
use image::{DynamicImage, ImageReader, RgbImage};
use rayon::prelude::*;

use super::cache::{self, Cached, Header};
use super::{DatasetError, open as opening, split};
use crate::artefact::write_bytes;
use crate::digest::Digest;
use crate::progress::{Cancel, Observer};
use crate::suite::dataset::{ResizeRule, SplitRule};

/// Version of the decoding and resizing rules.
const RULES: u32 = 1;
/// What counts as a picture.
const EXTENSIONS: [&str; 13] =
    ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "pnm", "ppm", "pgm", "pbm", "pam"];

/// What is asked of a folder.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The folder of class folders.
    pub path: &'a Path,
    /// Side of the square images in pixels.
    pub size: usize,
    /// How pictures become square.
    pub resize: ResizeRule,
    /// Leave out pictures that cannot be read.
    pub skip_corrupt: bool,
}

/// One picture found.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    /// Relative to the root, `/` between parts.
    name: String,
    label: u32,
    length: u64,
    changed: u128,
}

fn wrong(path: &Path, reason: impl Into<String>) -> DatasetError {
    DatasetError::Folder { path: path.to_path_buf(), reason: reason.into() }
}

/// Entries of a folder in byte order of their names, hidden ones left out.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, DatasetError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DatasetError::read(folder))? {
        let path = entry.map_err(DatasetError::read(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

fn is_picture(path: &Path) -> bool {
    path.extension().is_some_and(|e| EXTENSIONS.contains(&e.to_string_lossy().to_ascii_lowercase().as_str()))
}

fn find_pictures(folder: &Path, prefix: &str, label: u32, found: &mut Vec<Found>) -> Result<(), DatasetError> {
    for (name, path) in entries(folder)? {
        let name = format!("{prefix}/{name}");
        if path.is_dir() {
            find_pictures(&path, &name, label, found)?;
        } else if is_picture(&path) {
            let meta = std::fs::metadata(&path).map_err(DatasetError::read(&path))?;
            let changed =
                meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos());
            found.push(Found { path, name, label, length: meta.len(), changed });
        }
    }
    Ok(())
}

/// Class names and pictures.
fn scan(root: &Path) -> Result<(Vec<String>, Vec<Found>), DatasetError> {
    if !root.is_dir() {
        return Err(wrong(root, "is no folder; `path` names a folder that holds one folder a class"));
    }
    let (mut classes, mut found) = (Vec::new(), Vec::new());
    for (name, path) in entries(root)?.into_iter().filter(|(_, path)| path.is_dir()) {
        let before = found.len();
        find_pictures(&path, &name, classes.len() as u32, &mut found)?;
        if found.len() == before {
            return Err(wrong(&path, "holds no picture; put some in or remove the folder"));
        }
        classes.push(name);
    }
    if classes.len() < 2 {
        return Err(wrong(root, format!("holds {} class folders, wanted at least 2", classes.len())));
    }
    Ok((classes, found))
}

fn rules(request: &Request) -> (u32, usize, ResizeRule, bool) {
    (RULES, request.size, request.resize, request.skip_corrupt)
}

/// The key: from the stamp if no file has changed, else from the content of all files.
fn key(
    request: &Request,
    found: &[Found],
    data_dir: &Path,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Digest, DatasetError> {
    let list: Vec<_> = found.iter().map(|f| (&f.name, f.length, f.changed.to_string())).collect();
    let list = Digest::of_value(&(rules(request), list));
    let stamp = stamp_path(request, data_dir);
    // An unreadable stamp is only a stamp that does not match.
    if let Ok(text) = std::fs::read_to_string(&stamp)
        && let Ok((stamped, key)) = serde_json::from_str::<(Digest, Digest)>(&text)
        && stamped == list
    {
        return Ok(key);
    }
    observer.begin("reading pictures", found.len() as u64, "files");
    let contents = found
        .par_iter()
        .map(|f| {
            cancel.check()?;
            let digest = Digest::of_file(&f.path).map_err(DatasetError::read(&f.path))?;
            observer.advance(1);
            Ok((&f.name, digest))
        })
        .collect::<Result<Vec<_>, DatasetError>>()?;
    observer.end();
    let key = Digest::of_value(&(rules(request), contents));
    write_bytes(&stamp, serde_json::to_string(&(&list, &key)).unwrap_or_default().as_bytes())?;
    Ok(key)
}

fn name_of(request: &Request) -> String {
    request.path.file_name().map_or_else(|| "folder".into(), |name| name.to_string_lossy().into_owned())
}

fn stamp_path(request: &Request, data_dir: &Path) -> PathBuf {
    // The same folder by another name is another stamp, nothing worse.
    let place = Digest::of_value(&(request.path.to_string_lossy(), rules(request)));
    data_dir.join("cache").join(format!("{}-{}.stamp", name_of(request), place.short()))
}

fn cache_path(request: &Request, key: &Digest, data_dir: &Path) -> PathBuf {
    data_dir.join("cache").join(format!("{}-{}-{}.bin", name_of(request), request.size, key.short()))
}

/// Makes the next [`open`] read the content of every picture.
///
/// # Errors
/// [`DatasetError::Read`] if the stamp is there and cannot be removed.
pub fn forget_stamp(request: &Request, data_dir: &Path) -> Result<(), DatasetError> {
    let stamp = stamp_path(request, data_dir);
    match std::fs::remove_file(&stamp) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(DatasetError::read(&stamp)(e)),
        _ => Ok(()),
    }
}

/// Opens the cache of a folder, made first if any picture, the size or a rule has changed.
///
/// # Errors
/// [`DatasetError::Picture`] naming the file, [`DatasetError::Folder`], [`DatasetError::Cancelled`].
pub fn open(
    request: &Request,
    data_dir: &Path,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Cached, DatasetError> {
    let (classes, found) = scan(request.path)?;
    let key = key(request, &found, data_dir, observer, cancel)?;
    let path = cache_path(request, &key, data_dir);
    if let Some(cached) = cache::open(&path, &key)? {
        return Ok(cached);
    }
    observer.begin("decoding pictures", found.len() as u64, "images");
    let decoded = found
        .par_iter()
        .map(|f| {
            cancel.check()?;
            let pixels = decode(&f.path, request.size, request.resize);
            observer.advance(1);
            match pixels {
                Ok(pixels) => Ok(Some(pixels)),
                Err(DatasetError::Picture { .. }) if request.skip_corrupt => Ok(None),
                Err(error) => Err(error),
            }
        })
        .collect::<Result<Vec<_>, DatasetError>>()?;
    observer.end();
    let (header, pixels) = gather(request, key, classes, found, decoded)?;
    if !header.failed.is_empty() {
        observer.say(&format!("{}: {} pictures cannot be read and are left out", header.id, header.failed.len()));
    }
    opening::store(&path, header, &pixels)
}

/// Joins what was decoded. A class that lost all its pictures is left out with them.
fn gather(
    request: &Request,
    key: Digest,
    classes: Vec<String>,
    found: Vec<Found>,
    decoded: Vec<Option<Vec<u8>>>,
) -> Result<(Header, Vec<u8>), DatasetError> {
    let mut alive = vec![false; classes.len()];
    found.iter().zip(&decoded).filter(|(_, d)| d.is_some()).for_each(|(f, _)| alive[f.label as usize] = true);
    let new_label: Vec<u32> =
        alive.iter().scan(0, |next, &a| Some(std::mem::replace(next, *next + u32::from(a)))).collect();
    let classes: Vec<String> = classes.into_iter().zip(&alive).filter(|(_, a)| **a).map(|(name, _)| name).collect();
    if classes.len() < 2 {
        return Err(wrong(
            request.path,
            format!("{} classes have a readable picture, wanted at least 2", classes.len()),
        ));
    }
    let mut pixels = Vec::with_capacity(found.len() * 3 * request.size * request.size);
    let (mut labels, mut sources, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for (f, picture) in found.into_iter().zip(decoded) {
        match picture {
            Some(picture) => {
                pixels.extend_from_slice(&picture);
                labels.push(new_label[f.label as usize]);
                sources.push(f.name);
            }
            None => failed.push(f.name),
        }
    }
    let (id, size, pixel_digest) = (name_of(request), request.size, Digest::of_bytes(b""));
    Ok((Header { id, key, size, labels, classes, sources, failed, pixel_digest }, pixels))
}

/// One picture as `[3, size, size]` bytes.
fn decode(path: &Path, size: usize, resize: ResizeRule) -> Result<Vec<u8>, DatasetError> {
    let corrupt = |reason: String| DatasetError::Picture { path: path.to_path_buf(), reason };
    let bytes = std::fs::read(path).map_err(DatasetError::read(path))?;
    // By content: many JPEG files in the wild are called .png.
    let reader = ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format();
    let picture = reader.map_err(|e| corrupt(e.to_string()))?.decode().map_err(|e| corrupt(e.to_string()))?;
    let picture = on_white(picture);
    if picture.width() == 0 || picture.height() == 0 {
        return Err(corrupt("has no pixels".into()));
    }
    Ok(planar(&square(&picture, size as u32, resize)))
}

/// `count` pictures of a folder and its sub-folders, evenly spread over their sorted paths, as `[3, size, size]` bytes.
/// Fewer if there are fewer.
///
/// # Errors
/// [`DatasetError::Folder`] if there is no picture, [`DatasetError::Picture`] naming one that cannot be read.
pub fn some_pictures(root: &Path, count: usize, size: usize) -> Result<Vec<Vec<u8>>, DatasetError> {
    if !root.is_dir() {
        return Err(wrong(root, "is no folder; name one with pictures in it or below it"));
    }
    let mut found = Vec::new();
    find_pictures(root, "", 0, &mut found)?;
    if found.is_empty() {
        return Err(wrong(root, format!("holds no picture; wanted files that end in {}", EXTENSIONS.join(", "))));
    }
    let count = count.min(found.len());
    (0..count).map(|i| decode(&found[i * found.len() / count].path, size, ResizeRule::CenterCrop)).collect()
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

fn square(picture: &RgbImage, size: u32, resize: ResizeRule) -> RgbImage {
    let (width, height) = picture.dimensions();
    // `Triangle` widens its support when it shrinks: PIL's antialiased bilinear.
    let scaled = |w: u32, h: u32| {
        if (w, h) == (width, height) {
            picture.clone()
        } else {
            image::imageops::resize(picture, w, h, FilterType::Triangle)
        }
    };
    match resize {
        ResizeRule::Squash => scaled(size, size),
        ResizeRule::CenterCrop => {
            // torchvision: the longer side is truncated, the offset of the crop rounded to nearest.
            let longer = |long: u32, short: u32| (u64::from(size) * u64::from(long) / u64::from(short)) as u32;
            let (w, h) = if width <= height { (size, longer(height, width)) } else { (longer(width, height), size) };
            let (x, y) = ((w - size).div_ceil(2), (h - size).div_ceil(2));
            image::imageops::crop_imm(&scaled(w, h), x, y, size, size).to_image()
        }
    }
}

fn planar(picture: &RgbImage) -> Vec<u8> {
    (0..3).flat_map(|channel| picture.as_raw().iter().skip(channel).step_by(3).copied()).collect()
}

/// Compares the cache's pixels with their digest; returns how many pictures were left out.
///
/// # Errors
/// As [`open`], and [`DatasetError::Cache`].
pub fn verify(
    request: &Request,
    data_dir: &Path,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<usize, DatasetError> {
    let cached = open(request, data_dir, observer, cancel)?;
    cache::verify(&cache_path(request, &cached.header.key, data_dir), &cached)?;
    Ok(cached.header.failed.len())
}

/// Test classes by the suite's rule.
///
/// # Errors
/// [`DatasetError::Folder`] if a list names a class that does not exist, or leaves no test class.
pub fn test_classes(rule: &SplitRule, classes: &[String]) -> Result<BTreeSet<usize>, DatasetError> {
    match rule {
        SplitRule::FirstHalf => Ok(split::by_order(classes, 0.5)),
        SplitRule::Fraction { train } => Ok(split::by_order(classes, *train)),
        SplitRule::Hash { test } => Ok(split::by_hash(classes, *test)),
        SplitRule::List { test: path } => {
            let text = std::fs::read_to_string(path).map_err(DatasetError::read(path))?;
            let names = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            let mut test = BTreeSet::new();
            let mut unknown = Vec::new();
            for name in names {
                match classes.binary_search_by(|class| class.as_str().cmp(name)) {
                    Ok(class) => drop(test.insert(class)),
                    Err(_) => unknown.push(format!("`{name}`")),
                }
            }
            if !unknown.is_empty() {
                let shown = unknown[..unknown.len().min(5)].join(", ");
                return Err(wrong(path, format!("{} names are no class folder: {shown}", unknown.len())));
            }
            if test.is_empty() {
                return Err(wrong(path, "names no test class; write one class folder a line"));
            }
            Ok(test)
        }
    }
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
