//! One memory-mapped file per (data set, size, version): a header, then the pixels.
//!
//! ```text
//! "MDPROPIM"  8 bytes      magic
//! version     u32 LE       of this layout; a file of another version is made again
//! zero        u32
//! header      u64 LE       its length in bytes
//! pixels      u64 LE       their length in bytes
//! digest      64 bytes     SHA-256 of the header, hex; looked at by every open
//! header      JSON         Header
//! pixels      [n, 3, s, s] channel planes in RGB order; their digest is looked at by `verify`
//! ```
//! The split is not stored: it follows from the class names and the rule in the suite, so that one file serves all.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{DatasetError, Pixels};
use crate::artefact::write_atomic;
use crate::digest::Digest;

const MAGIC: &[u8; 8] = b"MDPROPIM";
/// Version of the layout.
pub const VERSION: u32 = 1;
const FIXED: usize = 8 + 4 + 4 + 8 + 8 + 64;

/// What a cache file says about its pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Which data set.
    pub id: String,
    /// Digest of everything that made the file (sources, rules, size).
    pub key: Digest,
    /// Side of the square images in pixels.
    pub size: usize,
    /// Class of each image.
    pub labels: Vec<u32>,
    /// Name of each class.
    pub classes: Vec<String>,
    /// Where each image came from.
    pub sources: Vec<String>,
    /// Inputs left out because they could not be drawn or decoded.
    pub failed: Vec<String>,
    /// Of the pixels.
    pub pixel_digest: Digest,
}

/// A verified header and its mapped pixels.
#[derive(Debug, Clone)]
pub struct Cached {
    /// The header.
    pub header: Header,
    /// The pixels, not read yet.
    pub pixels: Pixels,
}

/// Writes a cache file, whole or not at all. `header.pixel_digest` is filled in here.
///
/// # Errors
/// [`DatasetError::Write`].
pub fn write(path: &Path, mut header: Header, pixels: &[u8]) -> Result<(), DatasetError> {
    header.pixel_digest = Digest::of_bytes(pixels);
    let json = serde_json::to_vec(&header).map_err(|e| damaged(path, format!("header cannot be written: {e}")))?;
    write_atomic(path, |file| {
        file.write_all(MAGIC)?;
        file.write_all(&VERSION.to_le_bytes())?;
        file.write_all(&[0; 4])?;
        file.write_all(&(json.len() as u64).to_le_bytes())?;
        file.write_all(&(pixels.len() as u64).to_le_bytes())?;
        file.write_all(Digest::of_bytes(&json).as_str().as_bytes())?;
        file.write_all(&json)?;
        file.write_all(pixels)
    })?;
    Ok(())
}

/// Opens a cache file: `None` if it is absent or of another layout version or key (then it is to be made again).
///
/// # Errors
/// [`DatasetError::Cache`] if the file is truncated or its header damaged, [`DatasetError::Read`].
pub fn open(path: &Path, key: &Digest) -> Result<Option<Cached>, DatasetError> {
    Ok(map(path)?.filter(|cached| cached.header.key == *key))
}

/// The header alone, whatever its key; `None` if the file is absent or of another layout version.
///
/// # Errors
/// As [`open`].
pub fn peek(path: &Path) -> Result<Option<Header>, DatasetError> {
    Ok(map(path)?.map(|cached| cached.header))
}

fn map(path: &Path) -> Result<Option<Cached>, DatasetError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(DatasetError::read(path)(e)),
    };
    // An empty file cannot be mapped on every system.
    let length = file.metadata().map_err(DatasetError::read(path))?.len();
    if length < FIXED as u64 {
        return Err(damaged(path, format!("{length} bytes is shorter than the {FIXED} of the fixed part")));
    }
    #[expect(unsafe_code, reason = "mapping; the file is only ever replaced by rename, never written in place")]
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(DatasetError::read(path))?;
    if &map[..8] != MAGIC {
        return Err(damaged(path, "does not begin with MDPROPIM, so it is no image cache".into()));
    }
    if map[8..12] != VERSION.to_le_bytes() {
        return Ok(None);
    }
    let number = |at: usize| map[at..at + 8].iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    let (header_len, pixel_len) = (number(16), number(24));
    let wanted = (FIXED as u64).checked_add(header_len).and_then(|n| n.checked_add(pixel_len));
    if wanted != Some(length) {
        let wanted = wanted.map_or("an impossible number".into(), |n| n.to_string());
        return Err(damaged(path, format!("holds {length} bytes, its header promises {wanted}")));
    }
    let start = FIXED + header_len as usize;
    let json = &map[FIXED..start];
    if Digest::of_bytes(json).as_str().as_bytes() != &map[32..96] {
        return Err(damaged(path, "header does not match its digest".into()));
    }
    let header: Header =
        serde_json::from_slice(json).map_err(|e| damaged(path, format!("header cannot be read: {e}")))?;
    check_counts(path, &header, pixel_len)?;
    let range = start..start + pixel_len as usize;
    Ok(Some(Cached { header, pixels: Pixels::Mapped(Arc::new(map), range) }))
}

fn check_counts(path: &Path, header: &Header, pixel_len: u64) -> Result<(), DatasetError> {
    let n = header.labels.len();
    let wanted = (n as u64).checked_mul(3 * (header.size as u64).pow(2));
    if wanted != Some(pixel_len) || header.sources.len() != n {
        return Err(damaged(
            path,
            format!("{n} labels, {} sources and {pixel_len} pixel bytes disagree", header.sources.len()),
        ));
    }
    if let Some(label) = header.labels.iter().find(|&&label| label as usize >= header.classes.len()) {
        return Err(damaged(path, format!("label {label} is beyond its {} classes", header.classes.len())));
    }
    Ok(())
}

/// Reads every pixel and compares with the digest in the header.
///
/// # Errors
/// [`DatasetError::Cache`] if they differ.
pub fn verify(path: &Path, cached: &Cached) -> Result<(), DatasetError> {
    let got = Digest::of_bytes(cached.pixels.as_slice());
    if got == cached.header.pixel_digest {
        return Ok(());
    }
    let wanted = cached.header.pixel_digest.short();
    Err(damaged(path, format!("pixels have digest {}, header says {wanted}", got.short())))
}

fn damaged(path: &Path, reason: String) -> DatasetError {
    DatasetError::Cache { path: path.to_path_buf(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            id: "t".into(),
            key: Digest::of_bytes(b"key"),
            size: 2,
            labels: vec![0, 1],
            classes: vec!["a".into(), "b".into()],
            sources: vec!["x".into(), "y".into()],
            failed: vec![],
            pixel_digest: Digest::of_bytes(b""),
        }
    }

    fn fresh(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("t.bin");
        write(&path, header(), &(0..24).collect::<Vec<u8>>()).unwrap();
        path
    }

    #[test]
    fn what_was_written_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = fresh(folder.path());
        let cached = open(&path, &header().key).unwrap().unwrap();
        assert_eq!(cached.pixels.as_slice(), (0..24).collect::<Vec<u8>>());
        assert_eq!(cached.header.classes, ["a", "b"]);
        verify(&path, &cached).unwrap();
        assert!(open(&path, &Digest::of_bytes(b"other")).unwrap().is_none(), "another key is made again");
        assert!(open(&folder.path().join("no.bin"), &header().key).unwrap().is_none());
    }

    #[test]
    fn every_truncation_and_every_header_flip_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = fresh(folder.path());
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let error = open(&path, &header().key).unwrap_err().to_string();
            assert!(error.contains("remove the file"), "cut at {cut}: {error}");
        }
        for at in (0..8).chain(16..whole.len() - 24) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert!(open(&path, &header().key).is_err(), "flip at {at} was accepted");
        }
    }

    #[test]
    fn another_version_is_made_again_and_a_changed_pixel_is_found_by_verify() {
        let folder = tempfile::tempdir().unwrap();
        let path = fresh(folder.path());
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let cached = open(&path, &header().key).unwrap().unwrap();
        assert!(verify(&path, &cached).unwrap_err().to_string().contains("pixels have digest"));
        bytes[8] = 99;
        std::fs::write(&path, &bytes).unwrap();
        assert!(open(&path, &header().key).unwrap().is_none());
    }
}
