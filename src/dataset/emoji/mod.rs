//! Emoji by eight artists: class = emoji, images = its drawings.
//!
//! Packages come through the npm client ([`fetch`]), are checked against pinned SHA-256s, mapped to code points
//! (`icons`), drawn with resvg (`raster`) and cleaned (`clean`).

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

/// Counts and digests found with resvg 0.49 on x86-64, where all 10,091 drawings succeed.
///
/// Which pictures are identical depends a little on the size, hence the counts. An earlier trial with other tools
/// counted 1,483 classes and 9,213 images, of them 1,055 classes with six images or more, which is the number here too.
pub const PINS: &[Pin] = &[
    Pin {
        size: 32,
        classes: 1473,
        images: 9179,
        pixels: "f91b509241da1db2be74fea792fa59fc349e9f3055c7bff11e82068d779d4397",
    },
    Pin {
        size: 48,
        classes: 1472,
        images: 9175,
        pixels: "c742ab436b3143ebbbcbf80c04d24c2d5c7c0313e9316757305e80263a5dd8c1",
    },
    Pin {
        size: 64,
        classes: 1472,
        images: 9175,
        pixels: "5b37c2caa02b51fd454ac284b987bfa0b8a22278d3f2f2ddda6abbc7f4559785",
    },
];

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
    check_packages(PACKAGES, data_dir)
}

fn check_packages(packages: &[Package], data_dir: &Path) -> Result<(), DatasetError> {
    for package in packages {
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

/// Draws and cleans the whole set, from [`PACKAGES`]. Returns the header (without the pixels' digest) and `[n, 3, size, size]` bytes.
///
/// # Errors
/// [`DatasetError::Absent`], [`DatasetError::Package`], [`DatasetError::Cancelled`].
pub fn build(
    data_dir: &Path,
    size: usize,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<(Header, Vec<u8>), DatasetError> {
    build_from(PACKAGES, data_dir, size, observer, cancel)
}

fn build_from(
    packages: &[Package],
    data_dir: &Path,
    size: usize,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<(Header, Vec<u8>), DatasetError> {
    check_packages(packages, data_dir)?;
    let sets = packages
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    /// Writes a package of two emoji: a bar whose height is the artist's, and the same as a ring; one icon is broken.
    fn package(folder: &Path, artist: &'static str, height: usize, has_code_points: bool) -> Package {
        let bar = format!("<rect width='{}' height='{height}' fill='#f00'/>", height + 2);
        let ring = format!("<circle cx='8' cy='8' r='{height}' fill='#00f'/>");
        let icons = serde_json::json!({
            "icons": { "bar": { "body": bar }, "ring": { "body": ring }, "broken": { "body": "<rect" } },
            "width": 16, "height": 16,
        });
        let chars = serde_json::json!({ "1f600": "bar", "1f601-fe0f": "ring", "1f602": "broken" });
        let mut tarball = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (name, value) in [("package/icons.json", icons), ("package/chars.json", chars)] {
            let text = value.to_string();
            let mut head = tar::Header::new_gnu();
            head.set_size(text.len() as u64);
            head.set_cksum();
            if has_code_points || name.ends_with("icons.json") {
                tarball.append_data(&mut head, name, text.as_bytes()).unwrap();
            }
        }
        let bytes = tarball.into_inner().unwrap().finish().unwrap();
        let sha256 = Box::leak(Digest::of_bytes(&bytes).to_string().into_boxed_str());
        let package = Package { artist, version: "1", sha256, licence: "MIT", attribution: "", has_code_points };
        std::fs::write(folder.join(package.file_name()), bytes).unwrap();
        package
    }

    #[test]
    fn packages_become_a_set_and_broken_drawings_are_counted() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder(data.path())).unwrap();
        let named = [("a", 3, true), ("b", 4, true), ("c", 5, true), ("d", 6, false), ("e", 3, true)];
        let packages: Vec<Package> =
            named.iter().map(|&(artist, height, codes)| package(&folder(data.path()), artist, height, codes)).collect();
        let build = || build_from(&packages, data.path(), 16, &Silent, &Cancel::default());
        let (header, pixels) = build().unwrap();
        assert_eq!(header.classes, ["1f600", "1f601"]);
        // e draws what a has drawn.
        assert_eq!(header.sources, ["a/bar", "b/bar", "c/bar", "d/bar", "a/ring", "b/ring", "c/ring", "d/ring"]);
        assert_eq!(header.labels, [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(header.failed.len(), 5);
        assert_eq!(pixels.len(), 8 * 3 * 16 * 16);
        assert_eq!((pixels[0], pixels[256], pixels[512]), (255, 0, 0), "a red bar in the corner");
        let victim = folder(data.path()).join(packages[1].file_name());
        std::fs::write(&victim, b"changed").unwrap();
        let error = build().unwrap_err().to_string();
        assert!(error.contains("iconify-json-b-1.tgz") && error.contains("run the same command"), "{error}");
    }
}
