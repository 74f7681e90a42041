//! What can go wrong between a data set's description and its pixels.

use std::path::PathBuf;

use crate::artefact::WriteError;
use crate::progress::Cancelled;
use crate::suite::dataset::DatasetSpecError;

/// Why a data set could not be fetched, opened or verified.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The description is wrong.
    #[error(transparent)]
    Spec(#[from] DatasetSpecError),
    /// It was never fetched.
    #[error("data set `{id}` is not in {}; get it with `mdprop data fetch {id}`", folder.display())]
    Absent {
        /// Which data set.
        id: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The npm client is not installed.
    #[error(
        "npm was not found on PATH, and the emoji drawings come through it; install Node.js with npm \
         (Debian and Ubuntu: `apt-get install npm`; macOS: `brew install node`) and run the same command again"
    )]
    NpmMissing,
    /// The npm client failed.
    #[error("npm pack {package}: {reason}; check the network and run the same command again, verified files are kept")]
    NpmFailed {
        /// `NAME@VERSION`.
        package: String,
        /// Its last words.
        reason: String,
    },
    /// A download is not what was published.
    #[error(
        "{}: sha256 is {got}, wanted {wanted}; the file was truncated or changed and has been removed, \
         run the same command to download it again", path.display()
    )]
    Checksum {
        /// The file, removed by now.
        path: PathBuf,
        /// Its digest.
        got: String,
        /// The pinned digest.
        wanted: String,
    },
    /// A package does not hold what it should.
    #[error("{}: {reason}; remove the file and run the same command again", path.display())]
    Package {
        /// The tarball.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A cache file is damaged.
    #[error("{}: {reason}; remove the file, it is made again by the next run", path.display())]
    Cache {
        /// The cache file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A picture cannot be read.
    #[error("{}: not a readable picture: {reason}; remove it, or set `skip_corrupt = true`", path.display())]
    Picture {
        /// The picture.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },
    /// The folder does not hold what is wanted of it.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// The folder or list file.
        path: PathBuf,
        /// What is wrong and what is wanted.
        reason: String,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Ctrl-C.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl DatasetError {
    /// For `map_err` on file reads.
    pub(super) fn read(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Read { path, source }
    }
}
