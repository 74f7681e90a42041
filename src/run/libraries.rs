//! Where the native libraries lie. Nothing here loads them, and nothing here reads the environment: the caller gives the
//! variables, the executable and the current folder, so that every rule can be tested.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// A native library is not where it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    /// A variable of the user points nowhere.
    #[error("{variable}: {} is not a file; correct it, or unset it and run `make setup`", path.display())]
    Dangling {
        /// The variable.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// Nowhere to be found.
    #[error("{library} was not found; {fix} (looked in {})", list(searched))]
    NotFound {
        /// The library's name.
        library: &'static str,
        /// What the user can do.
        fix: &'static str,
        /// Folders that were looked into.
        searched: Vec<PathBuf>,
    },
}

fn list(folders: &[PathBuf]) -> String {
    let shown: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    if shown.is_empty() { "no folder".to_owned() } else { shown.join(", ") }
}

/// Finds ONNX Runtime: `ORT_DYLIB_PATH` (`environment_value`) if it is set, else what `make setup` put into `.deps/` of
/// the repository that the executable lies in, else of the current folder.
///
/// # Errors
/// [`LibraryError::Dangling`] if the variable names no file (it is never overruled in silence), else
/// [`LibraryError::NotFound`].
pub fn find_onnxruntime(
    environment_value: Option<OsString>,
    executable: &Path,
    current: &Path,
) -> Result<PathBuf, LibraryError> {
    if let Some(path) = given(environment_value) {
        let variable = "ORT_DYLIB_PATH";
        return if path.is_file() { Ok(path) } else { Err(LibraryError::Dangling { variable, path }) };
    }
    let searched = dependency_folders("onnxruntime", executable, current);
    searched.iter().find_map(|folder| newest_onnxruntime(folder)).ok_or(LibraryError::NotFound {
        library: "ONNX Runtime",
        fix: "run `make setup`, or set ORT_DYLIB_PATH to a libonnxruntime.so",
        searched,
    })
}

/// Finds the CUDA half of libtorch, which `--device cuda` loads at run time: `LIBTORCH_CUDA` (`environment_value`, the
/// library itself or the folder it lies in) if it is set, else the first of `folders` that has it.
///
/// # Errors
/// As [`find_onnxruntime`].
pub fn find_libtorch_cuda(environment_value: Option<OsString>, folders: Vec<PathBuf>) -> Result<PathBuf, LibraryError> {
    const FILE: &str = "libtorch_cuda.so";
    if let Some(path) = given(environment_value) {
        let file = if path.is_dir() { path.join(FILE) } else { path };
        let variable = "LIBTORCH_CUDA";
        return if file.is_file() { Ok(file) } else { Err(LibraryError::Dangling { variable, path: file }) };
    }
    folders.iter().map(|folder| folder.join(FILE)).find(|file| file.is_file()).ok_or(LibraryError::NotFound {
        library: FILE,
        fix: "install torch 2.11.0 with CUDA (pip install torch==2.11.0) and set LIBTORCH_CUDA to its torch/lib folder",
        searched: folders,
    })
}

/// Where a full torch may lie: the user's `LIBTORCH`, the active virtual environment, `.deps/`.
pub fn libtorch_cuda_folders(
    libtorch: Option<OsString>,
    virtual_environment: Option<OsString>,
    executable: &Path,
    current: &Path,
) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = given(libtorch).map(|root| root.join("lib")).into_iter().collect();
    if let Some(root) = given(virtual_environment) {
        let mut packages = entries(&root.join("lib"));
        packages.retain(|folder| name_of(folder).starts_with("python3"));
        folders.extend(packages.into_iter().map(|python| python.join("site-packages/torch/lib")));
    }
    folders.extend(dependency_folders("libtorch", executable, current));
    folders
}

/// The `lib` folders of one library below `.deps/`, most trusted first: beside the executable's `target/<profile>/` or
/// `target/<profile>/deps/`, then below the current folder.
fn dependency_folders(library: &str, executable: &Path, current: &Path) -> Vec<PathBuf> {
    let roots = executable.ancestors().skip(3).take(2).chain([current]);
    let mut folders: Vec<PathBuf> = Vec::new();
    for root in roots.filter(|root| !root.as_os_str().is_empty()) {
        let folder = root.join(".deps").join(library).join("lib");
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// The library of the highest version in a folder; its provider plug-ins have other names.
fn newest_onnxruntime(folder: &Path) -> Option<PathBuf> {
    let mut found = entries(folder);
    found.retain(|path| name_of(path).starts_with("libonnxruntime.so") && path.is_file());
    found.into_iter().max_by_key(|path| version_in(&name_of(path)))
}

/// The numbers after `.so.` in a library's file name: `[1, 32, 0]` for `libonnxruntime.so.1.32.0`.
pub fn version_in(file_name: &str) -> Vec<u32> {
    let version = file_name.split_once(".so.").map_or("", |(_, version)| version);
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(OsStr::new("")).to_string_lossy().into_owned()
}

fn given(value: Option<OsString>) -> Option<PathBuf> {
    value.filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }

    #[test]
    fn the_variable_wins_over_what_setup_fetched() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("own/libonnxruntime.so");
        touch(&own);
        touch(&root.path().join(".deps/onnxruntime/lib/libonnxruntime.so.1.32.0"));
        let executable = root.path().join("target/release/mdprop");
        let found = find_onnxruntime(Some(own.clone().into()), &executable, root.path()).unwrap();
        assert_eq!(found, own);
    }

    #[test]
    fn a_variable_that_points_nowhere_is_an_error_and_not_overruled() {
        let root = tempfile::tempdir().unwrap();
        touch(&root.path().join(".deps/onnxruntime/lib/libonnxruntime.so.1.32.0"));
        let error = find_onnxruntime(Some("/nowhere/lib.so".into()), Path::new("/x"), root.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ORT_DYLIB_PATH: /nowhere/lib.so is not a file; correct it, or unset it and run `make setup`"
        );
    }

    #[test]
    fn programs_and_test_binaries_find_the_repository_they_were_built_in() {
        let root = tempfile::tempdir().unwrap();
        let library = root.path().join("clone/.deps/onnxruntime/lib/libonnxruntime.so.1.32.0");
        touch(&library);
        for executable in ["clone/target/release/mdprop", "clone/target/release/deps/it-0a1b"] {
            let found = find_onnxruntime(None, &root.path().join(executable), Path::new("/elsewhere")).unwrap();
            assert_eq!(found, library);
        }
        let found = find_onnxruntime(Some("".into()), Path::new("/usr/bin/mdprop"), &root.path().join("clone"));
        assert_eq!(found.unwrap(), library, "an empty variable counts as unset, the current folder comes last");
    }

    #[test]
    fn the_highest_version_is_taken_as_numbers_and_plug_ins_are_not_libraries() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(".deps/onnxruntime/lib");
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.32.0", "libonnxruntime_providers_shared.so"] {
            touch(&folder.join(name));
        }
        let found = find_onnxruntime(None, Path::new("/x"), root.path()).unwrap();
        assert_eq!(found, folder.join("libonnxruntime.so.1.32.0"));
    }

    #[test]
    fn nothing_found_says_what_to_run_and_where_it_looked() {
        let text =
            find_onnxruntime(None, Path::new("/a/target/release/mdprop"), Path::new("/b")).unwrap_err().to_string();
        assert_eq!(
            text,
            "ONNX Runtime was not found; run `make setup`, or set ORT_DYLIB_PATH to a libonnxruntime.so (looked in \
             /a/.deps/onnxruntime/lib, /.deps/onnxruntime/lib, /b/.deps/onnxruntime/lib)"
        );
    }

    #[test]
    fn the_cuda_half_is_looked_for_in_full_torch_installs() {
        let root = tempfile::tempdir().unwrap();
        let library = root.path().join("venv/lib/python3.12/site-packages/torch/lib/libtorch_cuda.so");
        touch(&library);
        let environment = Some(root.path().join("venv").into());
        let folders =
            || libtorch_cuda_folders(Some("/own".into()), environment.clone(), Path::new("/x"), Path::new("/b"));
        assert_eq!(folders()[0], Path::new("/own/lib"));
        assert_eq!(find_libtorch_cuda(None, folders()).unwrap(), library);
        let folder = library.parent().unwrap().as_os_str().to_owned();
        assert_eq!(find_libtorch_cuda(Some(folder), vec![]).unwrap(), library);
        let error = find_libtorch_cuda(None, vec![]).unwrap_err().to_string();
        assert!(error.contains("LIBTORCH_CUDA") && error.contains("no folder"), "{error}");
    }
}
