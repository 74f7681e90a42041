//! Getting packages through the npm client: one `npm pack` each, in a folder of its own, checked before it is kept.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::packages::Package;
use crate::artefact::WriteError;
use crate::dataset::DatasetError;
use crate::digest::Digest;
use crate::progress::{Cancel, Observer};

/// The npm client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Npm {
    program: PathBuf,
}

impl Npm {
    /// Looks for it in a search path such as the value of `PATH` (which the caller reads).
    pub fn on_path(search_path: &OsStr) -> Option<Self> {
        std::env::split_paths(search_path)
            .filter(|folder| folder.is_absolute())
            .flat_map(|folder| ["npm", "npm.cmd"].map(|name| folder.join(name)))
            .find(|program| program.is_file())
            .map(|program| Self { program })
    }

    /// `npm pack NAME@VERSION` inside `folder`.
    fn pack(&self, package: &Package, folder: &Path, cancel: &Cancel) -> Result<(), DatasetError> {
        let failed = |reason: String| DatasetError::NpmFailed { package: package.npm_name(), reason };
        // Into a file, not a pipe: nobody reads while we wait, and a full pipe would stop the client for ever.
        let words_path = folder.join("npm.log");
        let words = std::fs::File::create(&words_path).map_err(write_error(&words_path))?;
        let mut child = Command::new(&self.program)
            .args(["pack", &package.npm_name(), "--ignore-scripts", "--silent"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(words)
            .spawn()
            .map_err(|e| failed(format!("{} cannot be started: {e}", self.program.display())))?;
        let status = loop {
            if let Err(stop) = cancel.check() {
                // It may have just ended by itself; either way it is gone after `wait`.
                let _ = child.kill();
                let _ = child.wait();
                return Err(stop.into());
            }
            match child.try_wait().map_err(|e| failed(e.to_string()))? {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        if status.success() {
            return Ok(());
        }
        let words = std::fs::read_to_string(&words_path).unwrap_or_default();
        let last: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).rev().take(3).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        Err(failed(format!("{status}: {}", if last.is_empty() { "no message".into() } else { last.join(" | ") })))
    }
}

fn write_error(path: &Path) -> impl FnOnce(std::io::Error) -> DatasetError {
    let path = path.to_path_buf();
    move |source| WriteError { path, source }.into()
}

/// Whether the file is there and is what was published. A damaged one is removed.
fn is_verified(path: &Path, package: &Package) -> Result<bool, DatasetError> {
    if !path.exists() {
        return Ok(false);
    }
    let got = Digest::of_file(path).map_err(DatasetError::read(path))?;
    if got.as_str() == package.sha256 {
        return Ok(true);
    }
    std::fs::remove_file(path).map_err(write_error(path))?;
    Ok(false)
}

/// Downloads what is missing or damaged into `folder`.
pub(super) fn fetch(
    packages: &[Package],
    folder: &Path,
    npm: Option<&Npm>,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<(), DatasetError> {
    std::fs::create_dir_all(folder).map_err(write_error(folder))?;
    let mut missing = vec![];
    for package in packages {
        if !is_verified(&folder.join(package.file_name()), package)? {
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let npm = npm.ok_or(DatasetError::NpmMissing)?;
    observer.begin("downloading emoji", missing.len() as u64, "packages");
    for package in missing {
        cancel.check()?;
        observer.note(&package.npm_name());
        download(package, folder, npm, cancel)?;
        observer.advance(1);
    }
    observer.end();
    Ok(())
}

/// One package: packed into a scratch folder, checked there, then renamed into place.
fn download(package: &Package, folder: &Path, npm: &Npm, cancel: &Cancel) -> Result<(), DatasetError> {
    let scratch = folder.join(format!(".{}.{}.tmp", package.artist, std::process::id()));
    // Left over from a killed process with our number.
    let _ = std::fs::remove_dir_all(&scratch);
    std::fs::create_dir_all(&scratch).map_err(write_error(&scratch))?;
    let result = npm.pack(package, &scratch, cancel).and_then(|()| {
        let packed = scratch.join(package.file_name());
        let path = folder.join(package.file_name());
        if !packed.is_file() {
            let reason = format!("ended well but left no {}", package.file_name());
            return Err(DatasetError::NpmFailed { package: package.npm_name(), reason });
        }
        let got = Digest::of_file(&packed).map_err(DatasetError::read(&packed))?;
        if got.as_str() != package.sha256 {
            return Err(DatasetError::Checksum { path, got: got.to_string(), wanted: package.sha256.into() });
        }
        std::fs::rename(&packed, &path).map_err(write_error(&path))
    });
    // Best effort: a scratch folder that stays is removed by the next download.
    let _ = std::fs::remove_dir_all(&scratch);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use std::os::unix::fs::PermissionsExt;

    /// For tests that never come to compare it.
    const WHOLE: &str = "unused";

    fn packages(sha256: &'static str) -> [Package; 1] {
        [Package { artist: "toy", version: "1.0.0", sha256, licence: "MIT", attribution: "", has_code_points: true }]
    }

    fn leak(text: String) -> &'static str {
        Box::leak(text.into_boxed_str())
    }

    /// A client that logs each call and then runs `body` in the scratch folder.
    fn fake_npm(folder: &Path, body: &str) -> Npm {
        let program = folder.join("npm");
        let log = folder.join("calls");
        std::fs::write(&program, format!("#!/bin/sh\necho \"$@\" >> '{}'\n{body}\n", log.display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Npm::on_path(folder.as_os_str()).unwrap()
    }

    fn calls(folder: &Path) -> usize {
        std::fs::read_to_string(folder.join("calls")).unwrap_or_default().lines().count()
    }

    fn run(body: &str, sha256: &'static str) -> (tempfile::TempDir, Result<(), DatasetError>) {
        let folder = tempfile::tempdir().unwrap();
        let npm = fake_npm(folder.path(), body);
        let result = fetch(&packages(sha256), &folder.path().join("emoji"), Some(&npm), &Silent, &Cancel::default());
        (folder, result)
    }

    const GOOD: &str = "echo 'whole package' > iconify-json-toy-1.0.0.tgz";

    fn good_sum() -> &'static str {
        leak(Digest::of_bytes(b"whole package\n").to_string())
    }

    #[test]
    fn a_verified_package_is_not_downloaded_again_and_a_damaged_one_is() {
        let (folder, result) = run(GOOD, good_sum());
        result.unwrap();
        let target = folder.path().join("emoji");
        let npm = Npm::on_path(folder.path().as_os_str());
        let again = || fetch(&packages(good_sum()), &target, npm.as_ref(), &Silent, &Cancel::default());
        again().unwrap();
        assert_eq!(calls(folder.path()), 1);
        std::fs::write(target.join("iconify-json-toy-1.0.0.tgz"), "whole pac").unwrap();
        again().unwrap();
        assert_eq!(calls(folder.path()), 2);
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1, "scratch folders are removed");
        fetch(&packages(good_sum()), &target, None, &Silent, &Cancel::default()).unwrap();
    }

    #[test]
    fn a_truncated_download_is_removed_and_named() {
        let (folder, result) = run("printf 'whole pa' > iconify-json-toy-1.0.0.tgz", good_sum());
        let error = result.unwrap_err().to_string();
        assert!(error.contains("iconify-json-toy-1.0.0.tgz") && error.contains(good_sum()), "{error}");
        assert!(error.contains("run the same command"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path().join("emoji")).unwrap().count(), 0);
    }

    #[test]
    fn a_failing_or_empty_handed_client_is_quoted() {
        let (_keep, result) = run("echo 'network is down' >&2; exit 7", WHOLE);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("network is down") && error.contains("@iconify-json/toy@1.0.0"), "{error}");
        let (_keep, result) = run("true", WHOLE);
        assert!(result.unwrap_err().to_string().contains("left no iconify-json-toy"));
    }

    #[test]
    fn a_missing_client_is_one_line_that_says_how_to_install_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Npm::on_path(folder.path().as_os_str()), None);
        let error = fetch(&packages(WHOLE), folder.path(), None, &Silent, &Cancel::default()).unwrap_err().to_string();
        assert!(error.contains("install Node.js") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn a_stop_ends_the_client() {
        let folder = tempfile::tempdir().unwrap();
        let npm = fake_npm(folder.path(), "exec sleep 30");
        let cancel = Cancel::default();
        let started = std::time::Instant::now();
        let result = std::thread::scope(|scope| {
            let work = scope.spawn(|| fetch(&packages(WHOLE), &folder.path().join("e"), Some(&npm), &Silent, &cancel));
            std::thread::sleep(Duration::from_millis(100));
            cancel.cancel();
            work.join().unwrap()
        });
        assert!(matches!(result, Err(DatasetError::Cancelled(_))));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
