//! Reading a package and deciding which emoji each of its drawings shows.
//!
//! A class is a code point sequence in lower-case hex joined by `-`, without the presentation selector FE0F. Packages
//! with a `chars.json` say it themselves; in the others an icon is known by its name, through the packages that have
//! one. A name that stands for several sequences is skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::packages::Package;
use crate::dataset::DatasetError;

#[derive(Debug, Deserialize)]
struct IconsFile {
    icons: BTreeMap<String, IconEntry>,
    #[serde(default)]
    aliases: BTreeMap<String, AliasEntry>,
    #[serde(default = "sixteen")]
    width: f64,
    #[serde(default = "sixteen")]
    height: f64,
}

// The format's default.
fn sixteen() -> f64 {
    16.0
}

#[derive(Debug, Deserialize)]
struct IconEntry {
    body: String,
    width: Option<f64>,
    height: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AliasEntry {
    parent: String,
    #[serde(default)]
    h_flip: bool,
}

/// One package in memory.
#[derive(Debug)]
pub(super) struct IconSet {
    artist: &'static str,
    icons: IconsFile,
    /// Code point sequence → icon name; empty where the package has none.
    chars: BTreeMap<String, String>,
}

/// One drawing to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its emoji.
    pub class: String,
    set: usize,
    /// Name of the icon that holds the body (aliases resolved).
    name: String,
    flipped: bool,
}

/// Unpacks `icons.json` and `chars.json`.
pub(super) fn read(package: &Package, path: &Path) -> Result<IconSet, DatasetError> {
    let wrong = |reason: String| DatasetError::Package { path: path.to_path_buf(), reason };
    let file = std::fs::File::open(path).map_err(DatasetError::read(path))?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::io::BufReader::new(file)));
    let (mut icons, mut chars) = (None, BTreeMap::new());
    for entry in archive.entries().map_err(|e| wrong(e.to_string()))? {
        let mut entry = entry.map_err(|e| wrong(e.to_string()))?;
        let name = entry.path().map_err(|e| wrong(e.to_string()))?.to_string_lossy().into_owned();
        if name != "package/icons.json" && name != "package/chars.json" {
            continue;
        }
        let mut text = String::new();
        entry.read_to_string(&mut text).map_err(|e| wrong(format!("{name}: {e}")))?;
        if name == "package/icons.json" {
            icons = Some(serde_json::from_str(&text).map_err(|e| wrong(format!("{name}: {e}")))?);
        } else {
            chars = serde_json::from_str(&text).map_err(|e| wrong(format!("{name}: {e}")))?;
        }
    }
    let icons = icons.ok_or_else(|| wrong("holds no package/icons.json".into()))?;
    if package.has_code_points && chars.is_empty() {
        return Err(wrong("holds no package/chars.json with code points".into()));
    }
    Ok(IconSet { artist: package.artist, icons, chars })
}

impl IconSet {
    /// The icon behind a name, through any chain of aliases, and whether it is mirrored.
    fn resolve(&self, name: &str) -> Option<(&str, bool)> {
        let (mut name, mut flipped) = (name, false);
        // A chain cannot be longer than the number of aliases, unless it is a loop.
        for _ in 0..=self.icons.aliases.len() {
            if let Some((name, _)) = self.icons.icons.get_key_value(name) {
                return Some((name, flipped));
            }
            let alias = self.icons.aliases.get(name)?;
            (name, flipped) = (&alias.parent, flipped ^ alias.h_flip);
        }
        None
    }
}

/// The class of a code point sequence; `None` for skin tones, country flags and gendered variants.
pub(super) fn class_of(sequence: &str) -> Option<String> {
    let codes: Vec<u32> = sequence.split('-').map(|code| u32::from_str_radix(code, 16).ok()).collect::<Option<_>>()?;
    let codes: Vec<u32> = codes.into_iter().filter(|&code| code != 0xfe0f).collect();
    let skin_tone = |code: &u32| (0x1f3fb..=0x1f3ff).contains(code);
    let regional = |code: &u32| (0x1f1e6..=0x1f1ff).contains(code);
    let gendered = |pair: &[u32]| pair[0] == 0x200d && (pair[1] == 0x2640 || pair[1] == 0x2642);
    if codes.is_empty() || codes.iter().any(|c| skin_tone(c) || regional(c)) || codes.windows(2).any(gendered) {
        return None;
    }
    Some(codes.iter().map(|code| format!("{code:x}")).collect::<Vec<_>>().join("-"))
}

/// All drawings to make, ordered by class, then package, then name; one body is drawn once per class.
pub(super) fn assign(sets: &[IconSet]) -> Vec<Wanted> {
    let mut by_name: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for set in sets {
        for (sequence, name) in &set.chars {
            // Excluded sequences count here too: a name must not slip from a skin tone to a plain emoji.
            by_name.entry(name).or_default().insert(sequence.replace("-fe0f", ""));
        }
    }
    let mut wanted = BTreeSet::new();
    for (index, set) in sets.iter().enumerate() {
        let mut want = |sequence: &str, name: &str| {
            if let (Some(class), Some((name, flipped))) = (class_of(sequence), set.resolve(name)) {
                wanted.insert((class, index, name.to_string(), flipped));
            }
        };
        if !set.chars.is_empty() {
            set.chars.iter().for_each(|(sequence, name)| want(sequence, name));
            continue;
        }
        for name in set.icons.icons.keys().chain(set.icons.aliases.keys()) {
            if let Some(sequences) = by_name.get(name.as_str())
                && let (1, Some(sequence)) = (sequences.len(), sequences.first())
            {
                want(sequence, name);
            }
        }
    }
    wanted.into_iter().map(|(class, set, name, flipped)| Wanted { class, set, name, flipped }).collect()
}

impl Wanted {
    /// `artist/icon-name`.
    pub(super) fn source(&self, sets: &[IconSet]) -> String {
        format!("{}/{}", sets[self.set].artist, self.name)
    }

    /// A whole SVG document.
    pub(super) fn svg(&self, sets: &[IconSet]) -> String {
        let file = &sets[self.set].icons;
        let (mut body, mut width, mut height) = ("", file.width, file.height);
        if let Some(icon) = file.icons.get(&self.name) {
            (body, width, height) = (&icon.body, icon.width.unwrap_or(width), icon.height.unwrap_or(height));
        }
        let (open, close) = match self.flipped {
            true => (format!("<g transform=\"translate({width} 0) scale(-1 1)\">"), "</g>"),
            false => (String::new(), ""),
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" \
             width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">{open}{body}{close}</svg>"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(artist: &'static str, chars: &str, icons: &str, aliases: &str) -> IconSet {
        let icons = format!("{{\"icons\": {icons}, \"aliases\": {aliases}, \"width\": 36, \"height\": 36}}");
        IconSet { artist, icons: serde_json::from_str(&icons).unwrap(), chars: serde_json::from_str(chars).unwrap() }
    }

    #[test]
    fn presentation_selectors_go_and_people_by_tone_flag_or_gender_are_left_out() {
        assert_eq!(class_of("2764-fe0f").as_deref(), Some("2764"));
        assert_eq!(class_of("1f469-200d-1f680").as_deref(), Some("1f469-200d-1f680"));
        for out in ["1f44b-1f3fb", "1f1fa-1f1f8", "1f3c3-200d-2640-fe0f", "1f3c3-200d-2642", "not-hex", "fe0f"] {
            assert_eq!(class_of(out), None, "{out}");
        }
    }

    #[test]
    fn names_map_through_the_sets_that_have_code_points_and_ambiguous_ones_are_skipped() {
        let icon = r#"{"body": "<path d=\"M0 0h1v1z\"/>"}"#;
        let a = set(
            "a",
            r#"{"2764-fe0f": "heart", "1f600": "grin", "1f4a0": "gem"}"#,
            &format!(r#"{{"heart": {icon}, "grin": {icon}, "gem": {icon}}}"#),
            "{}",
        );
        let b = set("b", r#"{"1f48e": "gem", "2764": "love"}"#, &format!(r#"{{"gem": {icon}, "love": {icon}}}"#), "{}");
        let c = set(
            "c",
            "{}",
            &format!(r#"{{"heart": {icon}, "gem": {icon}, "odd": {icon}}}"#),
            r#"{"grin": {"parent": "heart", "hFlip": true}, "loop": {"parent": "loop"}}"#,
        );
        let sets = [a, b, c];
        let found: Vec<_> = assign(&sets).iter().map(|w| (w.class.clone(), w.source(&sets), w.flipped)).collect();
        let row = |class: &str, source: &str, flipped| (class.to_string(), source.to_string(), flipped);
        assert_eq!(
            found,
            [
                row("1f48e", "b/gem", false),
                row("1f4a0", "a/gem", false),
                row("1f600", "a/grin", false),
                row("1f600", "c/heart", true),
                row("2764", "a/heart", false),
                row("2764", "b/love", false),
                row("2764", "c/heart", false),
            ]
        );
        assert!(assign(&sets)[3].svg(&sets).contains("scale(-1 1)"));
        assert_eq!(sets[2].resolve("loop"), None);
    }

    #[test]
    fn a_truncated_tarball_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tgz");
        std::fs::write(&path, [0x1f, 0x8b, 8, 0, 0]).unwrap();
        let error = read(&super::super::PACKAGES[0], &path).unwrap_err().to_string();
        assert!(error.contains("x.tgz") && error.contains("remove the file"), "{error}");
    }
}
