//! The eight packages: name, version, SHA-256, licence.

use serde::Serialize;

/// One package of drawings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Short name, used as the artist in `ImageSet::sources` (`noto/grinning-face`).
    pub artist: &'static str,
    /// Version.
    pub version: &'static str,
    /// SHA-256 of the tarball.
    pub sha256: &'static str,
    /// SPDX identifier.
    pub licence: &'static str,
    /// Whom to credit.
    pub attribution: &'static str,
    /// Whether the package says which code point each icon draws; the others are mapped by icon name.
    pub has_code_points: bool,
}

impl Package {
    /// `NAME@VERSION` for the npm client.
    pub fn npm_name(&self) -> String {
        format!("@iconify-json/{}@{}", self.artist, self.version)
    }

    /// What the npm client calls the tarball.
    pub fn file_name(&self) -> String {
        format!("iconify-json-{}-{}.tgz", self.artist, self.version)
    }
}

/// All packages, in the order in which duplicates inside a class are resolved (the first stays).
pub const PACKAGES: &[Package] = &[
    Package {
        artist: "noto",
        version: "1.2.9",
        sha256: "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        licence: "Apache-2.0",
        attribution: "Noto Emoji, Google",
        has_code_points: true,
    },
    Package {
        artist: "twemoji",
        version: "1.2.5",
        sha256: "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
        licence: "CC-BY-4.0",
        attribution: "Twemoji, Twitter and contributors",
        has_code_points: true,
    },
    Package {
        artist: "openmoji",
        version: "1.2.29",
        sha256: "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
        licence: "CC-BY-SA-4.0",
        attribution: "OpenMoji, HfG Schwäbisch Gmünd",
        has_code_points: true,
    },
    Package {
        artist: "fluent-emoji-flat",
        version: "1.2.6",
        sha256: "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        licence: "MIT",
        attribution: "Fluent Emoji, Microsoft",
        has_code_points: true,
    },
    Package {
        artist: "noto-v1",
        version: "1.2.5",
        sha256: "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
        licence: "Apache-2.0",
        attribution: "Noto Emoji (version 1), Google",
        has_code_points: false,
    },
    Package {
        artist: "emojione",
        version: "1.2.3",
        sha256: "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
        licence: "CC-BY-4.0",
        attribution: "EmojiOne, JoyPixels",
        has_code_points: false,
    },
    Package {
        artist: "emojione-v1",
        version: "1.2.3",
        sha256: "6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3",
        licence: "CC-BY-SA-4.0",
        attribution: "EmojiOne (version 1), JoyPixels",
        has_code_points: false,
    },
    Package {
        artist: "fxemoji",
        version: "1.2.2",
        sha256: "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
        licence: "Apache-2.0",
        attribution: "FxEmojis, Mozilla",
        has_code_points: false,
    },
];
