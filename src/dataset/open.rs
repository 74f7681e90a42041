//! From a description to an [`ImageSet`]; and what `mdprop data list|fetch|verify` say.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::cache::{self, Cached, Header};
use super::emoji::{self, Npm, PACKAGES};
use super::glyphs::{self, GlyphsSpec};
use super::listing::{Listed, Listing, Part};
use super::pictures::{self, Rendering};
use super::{DatasetError, ImageSet, Originals, Pixels, folder, layout, split};
use crate::digest::Digest;
use crate::progress::{Cancel, Observer};
use crate::suite::dataset::{DatasetSpec, PictureSpec};

/// Loads a data set: glyphs are drawn, the others come from their cache, which is made first if need be.
///
/// `data_dir` is the program's data folder; a relative `path` of a folder data set is relative to the working folder.
///
/// # Errors
/// [`DatasetError`]; [`DatasetError::Absent`] names the command that fetches what is missing.
pub fn open(
    spec: &DatasetSpec,
    data_dir: &Path,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<ImageSet, DatasetError> {
    spec.check()?;
    match spec {
        DatasetSpec::Emoji { image_size, validation } => {
            let cached = open_emoji(data_dir, *image_size, observer, cancel)?;
            let test = split::by_hash(&cached.header.classes, 0.5);
            Ok(assemble(cached, &test, *validation))
        }
        DatasetSpec::Glyphs { image_size, classes, per_class, seed, validation } => {
            let spec = GlyphsSpec { size: *image_size, classes: *classes, per_class: *per_class, seed: *seed };
            let cached = glyphs::build(&spec, observer, cancel)?;
            // Every class is drawn from a stream of its own, so that their order carries nothing.
            let test = split::by_order(&cached.header.classes, 0.5);
            Ok(assemble(cached, &test, *validation))
        }
        DatasetSpec::FashionMnist { path, image_size, split, validation } => {
            let cached = layout::open_idx(path, *image_size, data_dir, observer, cancel)?;
            let test = folder::test_classes(split, &cached.header.classes)?;
            Ok(assemble(cached, &test, *validation))
        }
        _ => {
            let (listing, rendering) = pictures_of(spec)?;
            if let Some(difference) = layout::difference(spec, &listing) {
                observer.say(&difference);
            }
            let cached = pictures::open(&listing, rendering, data_dir, observer, cancel)?;
            let mut set = assemble_listed(cached, &listing, spec);
            set.originals = originals(&set, &listing);
            Ok(set)
        }
    }
}

/// The listing of a data set of picture files, its parts decided, and how the pictures are read.
fn pictures_of(spec: &DatasetSpec) -> Result<(Listing, Rendering), DatasetError> {
    let (listing, rendering) = match spec {
        DatasetSpec::Folder { path, image_size, resize, split, skip_corrupt, .. } => {
            let mut listing = folder::list(&spec.id(), path)?;
            let test = folder::test_classes(split, &listing.classes)?;
            listing.test_on(&test);
            (Some(listing), Some(Rendering { size: *image_size, resize: *resize, skip_corrupt: *skip_corrupt }))
        }
        _ => {
            let rendering =
                |p: &PictureSpec| Rendering { size: p.image_size, resize: p.resize, skip_corrupt: p.skip_corrupt };
            (layout::list(spec)?, spec.pictures().map(rendering))
        }
    };
    let (listing, rendering) = listing.zip(rendering).expect("every other kind of data set is handled by the callers");
    listing.check()?;
    Ok((listing, rendering))
}

/// The file of every image that could be read.
fn originals(set: &ImageSet, listing: &Listing) -> Originals {
    let by_name: HashMap<&str, &Listed> = listing.pictures.iter().map(|p| (p.name.as_str(), p)).collect();
    let files: Option<Vec<Listed>> =
        set.sources.iter().map(|name| by_name.get(name.as_str()).copied().cloned()).collect();
    files.map(Originals::new).unwrap_or_default()
}

/// The parts that a listing decided, for the pictures that could be read.
fn assemble_listed(cached: Cached, listing: &Listing, spec: &DatasetSpec) -> ImageSet {
    let tests: BTreeSet<&str> =
        listing.test_classes().into_iter().map(|label| listing.classes[label].as_str()).collect();
    let classes = &cached.header.classes;
    let test = (0..classes.len()).filter(|&label| tests.contains(classes[label].as_str())).collect();
    let queries: HashSet<&str> =
        listing.pictures.iter().filter(|p| p.part == Part::Query).map(|p| p.name.as_str()).collect();
    let mut set = assemble(cached, &test, spec.validation());
    if !queries.is_empty() {
        let is_query = |&i: &usize| queries.contains(set.sources[i].as_str());
        let (queries, gallery) = set.split.test.iter().copied().partition(is_query);
        (set.split.queries, set.split.test) = (queries, gallery);
        set.digest = Digest::of_value(&(&set.digest, &set.split.queries));
    }
    if spec.train_share() < 1.0 {
        set.split.train = split::few_shot(&set.split.train, &set.labels, &set.sources, spec.train_share());
        set.digest = Digest::of_value(&(&set.digest, &set.split.train));
    }
    set
}

fn open_emoji(data_dir: &Path, size: usize, observer: &dyn Observer, cancel: &Cancel) -> Result<Cached, DatasetError> {
    let (path, key) = (emoji_cache(data_dir, size), emoji::key(size));
    if let Some(cached) = cache::open(&path, &key)? {
        return Ok(cached);
    }
    let (header, pixels) = emoji::build(data_dir, size, observer, cancel)?;
    store(&path, header, &pixels)
}

fn emoji_cache(data_dir: &Path, size: usize) -> PathBuf {
    data_dir.join("cache").join(format!("emoji-{size}.bin"))
}

/// Writes a cache file and opens it, so that what is used is what later runs will see.
pub(super) fn store(path: &Path, header: Header, pixels: &[u8]) -> Result<Cached, DatasetError> {
    let key = header.key.clone();
    cache::write(path, header, pixels)?;
    let reason = "was just written and is gone or replaced".to_string();
    cache::open(path, &key)?.ok_or_else(|| DatasetError::Cache { path: path.to_path_buf(), reason })
}

fn assemble(cached: Cached, test: &BTreeSet<usize>, validation: f64) -> ImageSet {
    let Header { id, size, labels, classes, sources, pixel_digest, .. } = cached.header;
    let split = split::split(&classes, &labels, test, validation);
    let digest = Digest::of_value(&(size, pixel_digest, &labels, &split.train, &split.validation, &split.test));
    ImageSet {
        id,
        size,
        pixels: cached.pixels,
        labels,
        classes,
        sources,
        split,
        digest,
        originals: Originals::default(),
    }
}

/// Downloads what a data set needs and makes its cache. `search_path` is the value of `PATH`, for the npm client.
///
/// Built-in and folder data sets need no download; their cache is made.
///
/// # Errors
/// [`DatasetError`]; what was verified before the error stays.
pub fn fetch(
    spec: &DatasetSpec,
    data_dir: &Path,
    search_path: &OsStr,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<ImageSet, DatasetError> {
    spec.check()?;
    if matches!(spec, DatasetSpec::Emoji { .. }) {
        emoji::fetch(data_dir, Npm::on_path(search_path).as_ref(), observer, cancel)?;
    }
    open(spec, data_dir, observer, cancel)
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Which data set.
    pub id: String,
    /// Side of the square images in pixels.
    pub size: usize,
    /// Number of classes.
    pub classes: usize,
    /// Number of images.
    pub images: usize,
    /// Classes with a single image: never queries, but in the gallery.
    pub lone_classes: usize,
    /// Drawings or pictures left out because they could not be drawn or read.
    pub left_out: usize,
    /// Of the pixels, recomputed.
    pub pixel_digest: Digest,
    /// What was compared, in words.
    pub checked: Vec<String>,
    /// What does not agree; empty when all is well.
    pub problems: Vec<String>,
}

/// Reads every byte again: packages against their checksums, pixels against the cache's digest, counts and digest
/// against what this version of the program is known to give.
///
/// # Errors
/// [`DatasetError`] if the data set cannot be opened at all.
pub fn verify(
    spec: &DatasetSpec,
    data_dir: &Path,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<VerifyReport, DatasetError> {
    let (mut checked, mut problems, mut left_out) = (Vec::new(), Vec::new(), 0);
    if matches!(spec, DatasetSpec::Emoji { .. }) {
        emoji::verify_packages(data_dir)?;
        checked.push(format!("{} packages against their sha256", PACKAGES.len()));
    }
    if is_pictures(spec) {
        let (listing, rendering) = pictures_of(spec)?;
        pictures::forget_stamp(&listing, rendering, data_dir)?;
        checked.push("the content of every picture against the cache".into());
        match layout::difference(spec, &listing) {
            Some(difference) => checked.push(difference),
            None if layout::published(spec).is_some() => checked.push("counts against the published ones".into()),
            None => {}
        }
    }
    let set = open(spec, data_dir, observer, cancel)?;
    let pixel_digest = Digest::of_bytes(set.pixels.as_slice());
    if let DatasetSpec::Emoji { image_size, .. } = spec {
        let path = emoji_cache(data_dir, *image_size);
        if let Some(cached) = cache::open(&path, &emoji::key(*image_size))? {
            cache::verify(&path, &cached)?;
            left_out = cached.header.failed.len();
            checked.push("pixels against the cache's digest".into());
        }
        match emoji::PINS.iter().find(|pin| pin.size == *image_size) {
            Some(pin) => {
                checked.push("counts and pixels against the pinned ones".into());
                let found = (set.classes.len(), set.len(), pixel_digest.as_str());
                let pinned = (pin.classes, pin.images, pin.pixels);
                if found != pinned {
                    problems.push(format!("classes, images, pixels are {found:?}, pinned are {pinned:?}"));
                }
            }
            None => checked.push(format!("no counts are pinned for {image_size} pixels")),
        }
    }
    if is_pictures(spec) {
        let (listing, rendering) = pictures_of(spec)?;
        left_out = pictures::verify(&listing, rendering, data_dir, observer, cancel)?;
        checked.push("pixels against the cache's digest".into());
    }
    let lone_classes = lone_classes(&set);
    let (id, size, classes, images) = (set.id.clone(), set.size, set.classes.len(), set.len());
    Ok(VerifyReport { id, size, classes, images, lone_classes, left_out, pixel_digest, checked, problems })
}

fn is_pictures(spec: &DatasetSpec) -> bool {
    matches!(spec, DatasetSpec::Folder { .. }) || spec.pictures().is_some()
}

/// Classes with one image.
fn lone_classes(set: &ImageSet) -> usize {
    let mut counts = vec![0usize; set.classes.len()];
    set.labels.iter().for_each(|&label| counts[label as usize] += 1);
    counts.into_iter().filter(|&n| n == 1).count()
}

/// Whether a data set can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetState {
    /// Needs nothing.
    BuiltIn,
    /// Downloads are there.
    Fetched,
    /// `mdprop data fetch` is needed.
    Absent,
    /// A cache file that cannot be read; the text says what to do.
    Damaged(String),
}

/// One line of `mdprop data list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatasetStatus {
    /// Name, with the image size for caches.
    pub id: String,
    /// What it is.
    pub about: String,
    /// Whether it can be used.
    pub state: DatasetState,
    /// Number of classes, where known.
    pub classes: Option<usize>,
    /// Number of images, where known.
    pub images: Option<usize>,
    /// Bytes on disk.
    pub bytes: u64,
    /// Licences of the sources.
    pub licence: String,
}

/// All data sets the program knows, and the caches it has made.
pub fn list(data_dir: &Path) -> Vec<DatasetStatus> {
    let mut licences: Vec<&str> = PACKAGES.iter().map(|package| package.licence).collect();
    licences.sort_unstable();
    licences.dedup();
    let bytes_of = |path: PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
    let mut rows = vec![
        DatasetStatus {
            id: "glyphs".into(),
            about: "procedural line drawings under pose, colour, texture and occlusion".into(),
            state: DatasetState::BuiltIn,
            classes: None,
            images: None,
            bytes: 0,
            licence: "none needed".into(),
        },
        DatasetStatus {
            id: "emoji".into(),
            about: "emoji by eight artists, drawn at any size".into(),
            state: if emoji::is_fetched(data_dir) { DatasetState::Fetched } else { DatasetState::Absent },
            classes: emoji::PINS.first().map(|pin| pin.classes),
            images: emoji::PINS.first().map(|pin| pin.images),
            bytes: PACKAGES.iter().map(|p| bytes_of(emoji::folder(data_dir).join(p.file_name()))).sum(),
            licence: licences.join(", "),
        },
    ];
    let mut caches: Vec<PathBuf> = std::fs::read_dir(data_dir.join("cache"))
        .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
        .unwrap_or_default();
    caches.retain(|path| path.extension().is_some_and(|e| e == "bin"));
    caches.sort();
    for path in caches {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let (state, header) = match cache::peek(&path) {
            Ok(header) => (DatasetState::Fetched, header),
            Err(error) => (DatasetState::Damaged(error.to_string()), None),
        };
        let licence = if name.starts_with("emoji-") { licences.join(", ") } else { "the pictures' own".into() };
        rows.push(DatasetStatus {
            id: name,
            about: header.as_ref().map_or("cache".into(), |h| format!("cache of {} at {} pixels", h.id, h.size)),
            state,
            classes: header.as_ref().map(|h| h.classes.len()),
            images: header.as_ref().map(|h| h.labels.len()),
            bytes: bytes_of(path),
            licence,
        });
    }
    rows
}

/// Builds a set that lives in memory.
pub(super) fn in_memory(mut header: Header, pixels: Vec<u8>) -> Cached {
    header.pixel_digest = Digest::of_bytes(&pixels);
    Cached { header, pixels: Pixels::Owned(Arc::new(pixels)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn absent_emoji_names_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let spec = DatasetSpec::Emoji { image_size: 32, validation: 0.1 };
        let error = open(&spec, folder.path(), &Silent, &Cancel::default()).unwrap_err();
        assert!(error.to_string().contains("`mdprop data fetch emoji`"), "{error}");
        let error = fetch(&spec, folder.path(), OsStr::new(""), &Silent, &Cancel::default()).unwrap_err();
        assert!(matches!(error, DatasetError::NpmMissing), "{error}");
        let rows = list(folder.path());
        assert_eq!(rows[0].state, DatasetState::BuiltIn);
        assert_eq!(rows[1].state, DatasetState::Absent);
        assert_eq!(rows[1].licence, "Apache-2.0, CC-BY-4.0, CC-BY-SA-4.0, MIT");
    }

    #[test]
    fn a_wrong_spec_is_refused_before_any_work() {
        let spec = DatasetSpec::Emoji { image_size: 0, validation: 2.0 };
        let error = open(&spec, Path::new("/nowhere"), &Silent, &Cancel::default()).unwrap_err().to_string();
        assert!(error.contains("image_size") && error.contains("validation"), "{error}");
    }

    #[test]
    fn a_cancelled_build_stops() {
        let cancel = Cancel::default();
        cancel.cancel();
        let spec = DatasetSpec::Glyphs { image_size: 16, classes: 4, per_class: 2, seed: 0, validation: 0.0 };
        assert!(matches!(open(&spec, Path::new("."), &Silent, &cancel), Err(DatasetError::Cancelled(_))));
    }

    #[test]
    fn a_damaged_cache_is_listed_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("cache")).unwrap();
        std::fs::write(folder.path().join("cache/emoji-32.bin"), b"half").unwrap();
        let rows = list(folder.path());
        let DatasetState::Damaged(text) = &rows[2].state else { panic!("{rows:?}") };
        assert!(text.contains("remove the file"), "{text}");
    }
}
