//! Which images a suite measures on: the `[dataset.*]` table, as written, and its checks.
//!
//! Only the description lives here; `dataset/` (a layer above) loads what it describes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A data set, as written in a suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DatasetSpec {
    /// Emoji by eight artists; class = emoji. Installed by `mdprop data fetch emoji`.
    Emoji {
        /// Side of the square images in pixels.
        image_size: usize,
        /// Share of the training classes kept back for model selection.
        #[serde(default = "validation_share")]
        validation: f64,
    },
    /// Procedural line drawings, built in.
    Glyphs {
        /// Side of the square images in pixels.
        image_size: usize,
        /// Number of classes; half of them are test classes.
        classes: usize,
        /// Images of each class.
        per_class: usize,
        /// Seed of shapes and nuisance.
        #[serde(default)]
        seed: u64,
        /// Share of the training classes kept back for model selection.
        #[serde(default = "validation_share")]
        validation: f64,
    },
    /// The user's own pictures, one folder a class.
    Folder {
        /// The folder that holds the class folders.
        path: PathBuf,
        /// Side of the square images in pixels.
        image_size: usize,
        /// How pictures become square.
        #[serde(default)]
        resize: ResizeRule,
        /// Which classes test.
        #[serde(default)]
        split: SplitRule,
        /// Share of the training classes kept back for model selection.
        #[serde(default = "validation_share")]
        validation: f64,
        /// Leave out pictures that cannot be read (counted) instead of stopping at the first.
        #[serde(default)]
        skip_corrupt: bool,
    },
    /// CUB-200-2011 as published, or its class folders: ids up to 100 train.
    Cub200(PictureSpec),
    /// Stanford Cars with `cars_annos.mat`, or its class folders: the first 98 classes train.
    Cars196(PictureSpec),
    /// Stanford Online Products: `Ebay_train.txt` and `Ebay_test.txt`.
    Sop(PictureSpec),
    /// In-shop clothes retrieval: query and gallery are apart.
    Inshop(PictureSpec),
    /// Omniglot: `images_background` trains, `images_evaluation` tests.
    Omniglot(PictureSpec),
    /// A CSV list of the user's own: path, label and, if wanted, split and box.
    Manifest(PictureSpec),
    /// Fashion-MNIST in IDX files, split by class.
    FashionMnist {
        /// The folder with the four files.
        path: PathBuf,
        /// Side of the square images in pixels.
        image_size: usize,
        /// Which classes test.
        #[serde(default)]
        split: SplitRule,
        /// Share of the training classes kept back for model selection.
        #[serde(default = "validation_share")]
        validation: f64,
    },
}

/// A data set of picture files at a published layout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureSpec {
    /// The folder that was unpacked, or the list.
    pub path: PathBuf,
    /// Side of the square images in pixels.
    pub image_size: usize,
    /// How pictures become square.
    #[serde(default)]
    pub resize: ResizeRule,
    /// Which part of a picture is used.
    #[serde(default)]
    pub region: RegionRule,
    /// Which classes test, where the data set leaves that open; replaces the published rule of CUB, Cars and Omniglot.
    #[serde(default)]
    pub split: Option<SplitRule>,
    /// Share of the training classes kept back for model selection.
    #[serde(default = "validation_share")]
    pub validation: f64,
    /// Share of each training class's images that is kept (few-shot); at least one image stays.
    #[serde(default = "all")]
    pub train_share: f64,
    /// Leave out pictures that cannot be read (counted) instead of stopping at the first.
    #[serde(default)]
    pub skip_corrupt: bool,
}

/// Which part of a picture is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegionRule {
    /// All of it, as the paper does.
    #[default]
    Whole,
    /// The annotated box.
    Box,
}

fn validation_share() -> f64 {
    0.1
}

fn all() -> f64 {
    1.0
}

/// How a picture becomes square. Both filter as PIL's antialiased bilinear does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeRule {
    /// Shorter side to the image size, then the centre is cut out.
    #[default]
    CenterCrop,
    /// Shorter side to 8/7 of the image size (256 for 224), then the centre is cut out: the paper's test transform.
    ResizeCrop,
    /// Both sides to the image size, whatever the aspect ratio.
    Squash,
}

/// Which classes are test classes. Train and test never share a class.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SplitRule {
    /// The first half of the sorted class names trains (rounded down), the rest tests: CUB-200 and Cars-196.
    #[default]
    FirstHalf,
    /// The first `train` share of the sorted class names trains (rounded down).
    Fraction {
        /// Share in `(0, 1)`; 0 puts every class into the test half.
        train: f64,
    },
    /// By a hash of the class name, so that adding a class moves no other.
    Hash {
        /// Share of test classes, in `[0, 1]`.
        #[serde(default = "half")]
        test: f64,
    },
    /// By a text file with one test class a line; all others train.
    List {
        /// The file.
        test: PathBuf,
    },
}

impl SplitRule {
    /// What is wrong with its numbers, if anything.
    fn problem(&self) -> Option<String> {
        match self {
            Self::Fraction { train } if !(0.0..1.0).contains(train) => {
                Some(format!("split.fraction.train = {train} is outside [0, 1)"))
            }
            Self::Hash { test } if !(0.0..=1.0).contains(test) => {
                Some(format!("split.hash.test = {test} is outside [0, 1]"))
            }
            _ => None,
        }
    }
}

fn half() -> f64 {
    0.5
}

/// Everything that is wrong with a data set's table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("dataset `{id}`: {}", problems.join("; "))]
pub struct DatasetSpecError {
    /// Which data set.
    pub id: String,
    /// One fragment per mistake, in the order of the fields.
    pub problems: Vec<String>,
}

/// Smallest and largest side that is accepted.
const SIDES: std::ops::RangeInclusive<usize> = 8..=1024;

impl DatasetSpec {
    /// `emoji`, `glyphs`, or the name of the folder.
    pub fn id(&self) -> String {
        match self {
            Self::Emoji { .. } => "emoji".into(),
            Self::Glyphs { .. } => "glyphs".into(),
            Self::Folder { path, .. } => {
                path.file_name().map_or_else(|| "folder".into(), |name| name.to_string_lossy().into_owned())
            }
            Self::Cub200(_) => "cub200".into(),
            Self::Cars196(_) => "cars196".into(),
            Self::Sop(_) => "sop".into(),
            Self::Inshop(_) => "inshop".into(),
            Self::Omniglot(_) => "omniglot".into(),
            Self::Manifest(p) => {
                p.path.file_stem().map_or_else(|| "manifest".into(), |stem| stem.to_string_lossy().into_owned())
            }
            Self::FashionMnist { .. } => "fashion-mnist".into(),
        }
    }

    /// The description of a published layout of picture files.
    pub fn pictures(&self) -> Option<&PictureSpec> {
        match self {
            Self::Cub200(p)
            | Self::Cars196(p)
            | Self::Sop(p)
            | Self::Inshop(p)
            | Self::Omniglot(p)
            | Self::Manifest(p) => Some(p),
            Self::Emoji { .. } | Self::Glyphs { .. } | Self::Folder { .. } | Self::FashionMnist { .. } => None,
        }
    }

    /// Share of each training class's images that is kept.
    pub fn train_share(&self) -> f64 {
        self.pictures().map_or(1.0, |p| p.train_share)
    }

    /// Side of the square images in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Emoji { image_size, .. }
            | Self::Glyphs { image_size, .. }
            | Self::Folder { image_size, .. }
            | Self::FashionMnist { image_size, .. } => *image_size,
            Self::Cub200(p)
            | Self::Cars196(p)
            | Self::Sop(p)
            | Self::Inshop(p)
            | Self::Omniglot(p)
            | Self::Manifest(p) => p.image_size,
        }
    }

    /// Share of the training classes kept back for model selection.
    pub fn validation(&self) -> f64 {
        match self {
            Self::Emoji { validation, .. }
            | Self::Glyphs { validation, .. }
            | Self::Folder { validation, .. }
            | Self::FashionMnist { validation, .. } => *validation,
            Self::Cub200(p)
            | Self::Cars196(p)
            | Self::Sop(p)
            | Self::Inshop(p)
            | Self::Omniglot(p)
            | Self::Manifest(p) => p.validation,
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`DatasetSpecError`] with all mistakes at once.
    pub fn check(&self) -> Result<(), DatasetSpecError> {
        let mut problems = Vec::new();
        let size = self.image_size();
        if !SIDES.contains(&size) {
            problems.push(format!("image_size = {size} is outside {}..={} pixels", SIDES.start(), SIDES.end()));
        }
        match self {
            Self::Emoji { .. } => {}
            Self::Glyphs { classes, per_class, .. } => {
                if !(2..=100_000).contains(classes) {
                    problems.push(format!("classes = {classes} is outside 2..=100000; half of them are test classes"));
                }
                if !(2..=10_000).contains(per_class) {
                    problems.push(format!("per_class = {per_class} is outside 2..=10000; one image has no positive"));
                }
                if let Some(bytes) = classes.checked_mul(*per_class).and_then(|n| n.checked_mul(3 * size * size))
                    && bytes > 1 << 34
                {
                    problems
                        .push(format!("{bytes} bytes of pixels is more than 16 GiB; ask for fewer or smaller images"));
                }
            }
            Self::Folder { path, split, .. } => {
                if path.as_os_str().is_empty() {
                    problems.push("path is empty; give the folder that holds one folder a class".into());
                }
                problems.extend(split.problem());
            }
            Self::FashionMnist { split, .. } => problems.extend(split.problem()),
            _ => {}
        }
        if let Some(pictures) = self.pictures() {
            if pictures.path.as_os_str().is_empty() {
                problems.push("path is empty; give the folder (or list) of the data set".into());
            }
            problems.extend(pictures.split.iter().filter_map(SplitRule::problem));
            if pictures.split.is_some() && matches!(self, Self::Sop(_) | Self::Inshop(_)) {
                problems.push(format!("split: the lists of {} say what trains and what tests", self.id()));
            }
            let share = pictures.train_share;
            if !(share > 0.0 && share <= 1.0) {
                problems.push(format!("train_share = {share} is outside (0, 1]; it is a share of each class's images"));
            }
        }
        let validation = self.validation();
        if !(0.0..1.0).contains(&validation) {
            problems
                .push(format!("validation = {validation} is outside [0, 1); it is a share of the training classes"));
        }
        if problems.is_empty() { Ok(()) } else { Err(DatasetSpecError { id: self.id(), problems }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Holder {
        dataset: DatasetSpec,
    }

    fn parse(text: &str) -> Result<DatasetSpec, toml::de::Error> {
        toml::from_str::<Holder>(text).map(|h| h.dataset)
    }

    #[test]
    fn reads_every_kind_with_its_defaults() {
        let emoji = parse("[dataset.emoji]\nimage_size = 48").unwrap();
        assert_eq!(emoji, DatasetSpec::Emoji { image_size: 48, validation: 0.1 });
        let folder = parse("[dataset.folder]\npath = \"birds/cub\"\nimage_size = 64\nsplit.hash = {}").unwrap();
        assert_eq!(folder.id(), "cub");
        let DatasetSpec::Folder { resize, split, skip_corrupt, .. } = folder else { panic!("wrong kind") };
        assert_eq!((resize, split, skip_corrupt), (ResizeRule::CenterCrop, SplitRule::Hash { test: 0.5 }, false));
        assert!(parse("[dataset.folder]\npath = \"a\"\nimage_size = 64\nsplit = \"first-half\"").is_ok());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = parse("[dataset.emoji]\nimage_size = 48\nsise = 3").unwrap_err().to_string();
        assert!(error.contains("sise") && error.contains("line 3"), "{error}");
        assert!(parse("[dataset.cub]\nimage_size = 48").unwrap_err().to_string().contains("emoji"));
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let spec = DatasetSpec::Glyphs { image_size: 2, classes: 1, per_class: 1, seed: 0, validation: f64::NAN };
        let error = spec.check().unwrap_err();
        assert_eq!(error.problems.len(), 4, "{error}");
        assert!(DatasetSpec::Emoji { image_size: 32, validation: 0.0 }.check().is_ok());
    }
}
