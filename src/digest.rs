//! Names for artefacts: SHA-256 over everything that made them.

use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256, shown as lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// Of a byte string.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::digest(bytes).as_slice())
    }

    /// Of any value, through its JSON form. Maps must be ordered (`BTreeMap`) for this to be stable.
    ///
    /// # Panics
    /// Never on our own types: they have string keys and finite numbers.
    pub fn of_value<T: Serialize + ?Sized>(value: &T) -> Self {
        let json = serde_json::to_vec(value).expect("plan types have string keys, so they serialise");
        Self::of_bytes(&json)
    }

    /// Of a file's content, read in pieces.
    ///
    /// # Errors
    /// Whatever reading the file gives.
    pub fn of_file(path: &Path) -> std::io::Result<Self> {
        let mut file = std::fs::File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0u8; 1 << 20];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(Self::from_hash(hasher.finalize().as_slice()));
            }
            hasher.update(&buffer[..read]);
        }
    }

    fn from_hash(hash: &[u8]) -> Self {
        Self(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// All 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 hex digits, for names of files and folders.
    pub fn short(&self) -> &str {
        &self.0[..self.0.len().min(12)]
    }

    /// 32 bytes, for keying a generator.
    pub fn to_key(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_test_vector() {
        // FIPS 180-2, appendix B.1
        let wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of_bytes(b"abc").as_str(), wanted);
        assert_eq!(Digest::of_bytes(b"abc").short(), "ba7816bf8f01");
    }
}
