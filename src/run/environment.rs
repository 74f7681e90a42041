//! The facts about program and machine that `mdprop doctor` prints and a run's manifest records.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::libraries::{LibraryError, find_libtorch_cuda, find_onnxruntime, libtorch_cuda_folders};
use super::machine;

/// Below this, the demo may run out of memory.
const MEMORY_WANTED: u64 = 3_500_000_000;
/// Below this, a run may not be able to store its artefacts.
const DISK_WANTED: u64 = 1_000_000_000;

/// Where to look. The caller takes these from the process, so that a test can make them up.
#[derive(Debug, Clone)]
pub struct Places {
    /// This program's file.
    pub executable: PathBuf,
    /// The current folder.
    pub current: PathBuf,
    /// Name and folder or file of each data set that can be present.
    pub data_sets: Vec<(String, PathBuf)>,
    /// `ORT_DYLIB_PATH`.
    pub onnxruntime: Option<OsString>,
    /// `LIBTORCH_CUDA`.
    pub libtorch_cuda: Option<OsString>,
    /// `LIBTORCH`.
    pub libtorch: Option<OsString>,
    /// `VIRTUAL_ENV`.
    pub virtual_environment: Option<OsString>,
}

impl Places {
    /// Those of this process; data sets are looked for in `data_sets`.
    ///
    /// # Errors
    /// If the current folder or the program's own path cannot be read.
    pub fn of_process(data_sets: Vec<(String, PathBuf)>) -> std::io::Result<Self> {
        Ok(Self {
            executable: std::env::current_exe()?,
            current: std::env::current_dir()?,
            data_sets,
            onnxruntime: std::env::var_os("ORT_DYLIB_PATH"),
            libtorch_cuda: std::env::var_os("LIBTORCH_CUDA"),
            libtorch: std::env::var_os("LIBTORCH"),
            virtual_environment: std::env::var_os("VIRTUAL_ENV"),
        })
    }

    /// The ONNX Runtime library to load.
    ///
    /// # Errors
    /// [`LibraryError`].
    pub fn find_onnxruntime(&self) -> Result<PathBuf, LibraryError> {
        find_onnxruntime(self.onnxruntime.clone(), &self.executable, &self.current)
    }

    /// The CUDA half of libtorch, to be loaded before the first CUDA query.
    ///
    /// # Errors
    /// [`LibraryError`].
    pub fn find_libtorch_cuda(&self) -> Result<PathBuf, LibraryError> {
        let (libtorch, environment) = (self.libtorch.clone(), self.virtual_environment.clone());
        let folders = libtorch_cuda_folders(libtorch, environment, &self.executable, &self.current);
        find_libtorch_cuda(self.libtorch_cuda.clone(), folders)
    }
}

/// How well one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// As it should be.
    Ok,
    /// Works, with something missing that some commands want.
    Warn,
    /// Commands will fail.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub subject: String,
    /// How well it is.
    pub health: Health,
    /// What was found.
    pub found: String,
    /// What the user can do about it; absent where nothing has to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    fn ok(subject: &str, found: impl Into<String>) -> Self {
        Self { subject: subject.to_owned(), health: Health::Ok, found: found.into(), fix: None }
    }

    fn bad(subject: &str, health: Health, found: impl Into<String>, fix: &str) -> Self {
        Self { subject: subject.to_owned(), health, found: found.into(), fix: Some(fix.to_owned()) }
    }
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// This program's version.
    pub version: &'static str,
    /// The commit it was built from, if it was built in a git checkout.
    pub commit: Option<&'static str>,
    /// Whether it can train and export (feature `train`).
    pub train: bool,
    /// Processor.
    pub cpu: Option<String>,
    /// Threads that this process may use at once.
    pub cores: usize,
    /// Memory of the machine, or of the container if that is less.
    pub memory_bytes: Option<u64>,
    /// Free space below the current folder.
    pub free_disk_bytes: Option<u64>,
    /// Version of the ONNX Runtime that commands will load.
    pub onnxruntime: Option<String>,
    /// Version of the libtorch that this process is linked with.
    pub libtorch: Option<String>,
    /// NVIDIA GPUs that the driver serves.
    pub gpus: Vec<String>,
    /// Everything that was looked at, in the order to show it.
    pub findings: Vec<Finding>,
}

impl Survey {
    /// The worst that was found.
    pub fn health(&self) -> Health {
        self.findings.iter().map(|finding| finding.health).max().unwrap_or(Health::Ok)
    }
}

/// Version of this program, with the commit it was built from.
pub fn program_version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    option_env!("MDPROP_COMMIT").map_or_else(|| version.to_owned(), |commit| format!("{version} ({commit})"))
}

/// Processor and system, for a run's manifest: what may have to do with the last bits of a number.
pub fn machine_in_words() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| machine::cpu_model(&text));
    format!("{}, {} {}", cpu.as_deref().unwrap_or("unknown processor"), std::env::consts::OS, std::env::consts::ARCH)
}

/// Looks at program, machine, libraries, devices and data. Loads ONNX Runtime to ask for its version.
pub fn survey(places: &Places) -> Survey {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let mut survey = Survey {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("MDPROP_COMMIT"),
        train: cfg!(feature = "train"),
        cpu: machine::cpu_model(&read("/proc/cpuinfo")),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_bytes: machine::memory_bytes(&read("/proc/meminfo"), limit.as_deref()),
        free_disk_bytes: machine::free_disk_bytes(&places.current),
        onnxruntime: None,
        libtorch: None,
        gpus: machine::gpus(Path::new("/proc/driver/nvidia/gpus")),
        findings: Vec::new(),
    };
    let kind = if survey.train { "with training" } else { "evaluator only, built with --no-default-features" };
    survey.findings.push(Finding::ok("mdprop", format!("{}, {kind}", program_version())));
    let cpu = survey.cpu.as_deref().unwrap_or("unknown processor");
    survey.findings.push(Finding::ok("processor", format!("{cpu}, {} threads", survey.cores)));
    let fix = "close other programs, or lower the batch size in the recipes";
    survey.findings.push(room("memory", survey.memory_bytes, MEMORY_WANTED, fix));
    let fix = "free some space; stages that are done are never lost";
    survey.findings.push(room("free disk", survey.free_disk_bytes, DISK_WANTED, fix));
    onnxruntime(places, &mut survey);
    libtorch(&mut survey);
    gpu(places, &mut survey);
    data_sets(places, &mut survey);
    survey
}

fn room(subject: &str, bytes: Option<u64>, wanted: u64, fix: &str) -> Finding {
    match bytes {
        Some(bytes) if bytes < wanted => {
            let found = format!("{}, the demo wants {}", gigabytes(bytes), gigabytes(wanted));
            Finding::bad(subject, Health::Warn, found, fix)
        }
        Some(bytes) => Finding::ok(subject, gigabytes(bytes)),
        None => Finding::ok(subject, "unknown"),
    }
}

fn onnxruntime(places: &Places, survey: &mut Survey) {
    const SUBJECT: &str = "ONNX Runtime";
    let finding = match places.find_onnxruntime() {
        Err(error @ LibraryError::Dangling { .. }) => {
            Finding::bad(SUBJECT, Health::Fail, error.to_string(), "correct or unset ORT_DYLIB_PATH")
        }
        Err(error) => Finding::bad(SUBJECT, Health::Fail, error.to_string(), "make setup"),
        Ok(path) => match machine::onnxruntime_version(&path) {
            Ok(version) => {
                let found = format!("{version}, {}", path.display());
                survey.onnxruntime = Some(version);
                Finding::ok(SUBJECT, found)
            }
            Err(reason) => {
                let fix = "remove .deps/onnxruntime and run `make setup`, or correct ORT_DYLIB_PATH";
                Finding::bad(SUBJECT, Health::Fail, format!("{} cannot be loaded: {reason}", path.display()), fix)
            }
        },
    };
    survey.findings.push(finding);
}

fn libtorch(survey: &mut Survey) {
    const SUBJECT: &str = "libtorch";
    if !survey.train {
        survey.findings.push(Finding::ok(SUBJECT, "not needed by this build; training and export are left out"));
        return;
    }
    let finding = match linked_libtorch() {
        Some(path) => {
            survey.libtorch = libtorch_version(&path);
            let version = survey.libtorch.as_deref().unwrap_or("unknown version");
            Finding::ok(SUBJECT, format!("{version}, {}", path.display()))
        }
        None => Finding::ok(SUBJECT, "not linked into this program"),
    };
    survey.findings.push(finding);
}

/// The libtorch that the loader has put into this process.
fn linked_libtorch() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    machine::mapped(&maps, "libtorch_cpu.so")
}

/// Version of the libtorch that this process is linked with, for a run's manifest.
pub fn linked_libtorch_version() -> Option<String> {
    libtorch_version(&linked_libtorch()?)
}

/// Every libtorch folder has its version in a file, the wheel's as well as the official archive's.
fn libtorch_version(library: &Path) -> Option<String> {
    let root = library.parent()?.parent()?;
    let of_wheel = || std::fs::read_to_string(root.join("version.py")).ok();
    match std::fs::read_to_string(root.join("build-version")) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(_) => {
            of_wheel()?.lines().find_map(|line| Some(line.strip_prefix("__version__ = ")?.trim_matches('\'').into()))
        }
    }
}

fn gpu(places: &Places, survey: &mut Survey) {
    const SUBJECT: &str = "devices";
    if survey.gpus.is_empty() {
        survey.findings.push(Finding::ok(SUBJECT, "cpu"));
        return;
    }
    let found = format!("cpu, {}", survey.gpus.join(", "));
    let finding = match places.find_libtorch_cuda() {
        _ if !survey.train => Finding::ok(SUBJECT, found),
        Ok(path) => Finding::ok(SUBJECT, format!("{found}, {}", path.display())),
        Err(error) => Finding::bad(SUBJECT, Health::Warn, format!("{found}; {error}"), "needed for --device cuda only"),
    };
    survey.findings.push(finding);
}

fn data_sets(places: &Places, survey: &mut Survey) {
    survey.findings.push(Finding::ok("data: glyphs", "built in"));
    for (name, path) in &places.data_sets {
        let subject = format!("data: {name}");
        let finding = if path.exists() {
            Finding::ok(&subject, path.display().to_string())
        } else {
            let fix = format!("mdprop data fetch {name}");
            Finding::bad(&subject, Health::Warn, format!("not fetched ({})", path.display()), &fix)
        };
        survey.findings.push(finding);
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(root: &Path) -> Places {
        Places {
            executable: root.join("target/release/mdprop"),
            current: root.to_path_buf(),
            data_sets: vec![("emoji".into(), root.join("data/emoji"))],
            onnxruntime: None,
            libtorch_cuda: None,
            libtorch: None,
            virtual_environment: None,
        }
    }

    fn finding<'a>(survey: &'a Survey, subject: &str) -> &'a Finding {
        survey.findings.iter().find(|finding| finding.subject == subject).unwrap()
    }

    #[test]
    fn a_missing_runtime_fails_and_missing_data_only_warns() {
        let root = tempfile::tempdir().unwrap();
        let survey = survey(&places(root.path()));
        assert_eq!(survey.health(), Health::Fail);
        let runtime = finding(&survey, "ONNX Runtime");
        assert_eq!((runtime.health, runtime.fix.as_deref()), (Health::Fail, Some("make setup")));
        let emoji = finding(&survey, "data: emoji");
        assert_eq!((emoji.health, emoji.fix.as_deref()), (Health::Warn, Some("mdprop data fetch emoji")));
        assert!(survey.cores >= 1 && survey.memory_bytes.unwrap() > 1 << 20 && survey.free_disk_bytes.is_some());
    }

    #[test]
    fn a_runtime_that_is_no_library_fails_with_the_way_out() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(".deps/onnxruntime/lib");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("libonnxruntime.so.1.32.0"), "cut short").unwrap();
        let survey = survey(&places(root.path()));
        let runtime = finding(&survey, "ONNX Runtime");
        assert_eq!(runtime.health, Health::Fail);
        assert!(runtime.found.contains("cannot be loaded"), "{}", runtime.found);
        assert_eq!(survey.onnxruntime, None);
    }

    #[test]
    fn the_runtime_that_setup_fetched_tells_its_version() {
        let mut places = Places::of_process(vec![]).unwrap();
        places.current = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let version = survey(&places).onnxruntime.expect("`make setup` runs before the tests");
        assert!(version.starts_with("1."), "{version}");
    }

    #[test]
    fn little_room_is_a_warning_with_a_fix() {
        let little = room("memory", Some(1_000_000_000), 2_000_000_000, "buy some");
        assert_eq!(little.found, "1.0 GB, the demo wants 2.0 GB");
        assert_eq!((little.health, little.fix.as_deref()), (Health::Warn, Some("buy some")));
        assert_eq!(room("memory", Some(3), 2, "").health, Health::Ok);
    }

    #[test]
    fn both_kinds_of_libtorch_folder_tell_their_version() {
        let root = tempfile::tempdir().unwrap();
        let library = root.path().join("lib/libtorch_cpu.so");
        assert_eq!(libtorch_version(&library), None);
        std::fs::write(root.path().join("version.py"), "x = 1\n__version__ = '2.11.0+cu130'\n").unwrap();
        assert_eq!(libtorch_version(&library).unwrap(), "2.11.0+cu130");
        std::fs::write(root.path().join("build-version"), "2.11.0\n").unwrap();
        assert_eq!(libtorch_version(&library).unwrap(), "2.11.0");
    }
}
