//! `make setup` against a stand-in for pip: nothing damaged is ever taken, nothing whole is ever fetched again.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A made-up index with three small wheels, and a folder to fill. The names hold spaces on purpose.
struct Bench {
    root: TempDir,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let bench = Self { root };
        let made = python().arg(repository("tests/data/setup/make_wheels.py")).arg(bench.index()).output().unwrap();
        assert!(made.status.success(), "{}", text(&made));
        bench
    }

    fn index(&self) -> PathBuf {
        self.root.path().join("the index")
    }

    fn deps(&self) -> PathBuf {
        self.root.path().join("my deps")
    }

    fn misbehave(&self, mode: &str) {
        std::fs::write(self.index().join("mode"), mode).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let pip = format!("python3 '{}'", repository("tests/data/setup/fake_pip.py").display());
        let mut command = python();
        command.arg("-S").arg(repository(".ci/setup.py"));
        command.arg("--deps").arg(self.deps()).arg("--libraries").arg(self.index().join("libraries.json"));
        command.args(["--pip", &pip]).args(arguments).env("FAKE_PIP", self.index());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn succeeds(&self) {
        let output = self.run(&[]);
        assert!(output.status.success(), "{}", text(&output));
        self.is_whole();
    }

    /// Exit code 2 and exactly this many lines that complain; the last of them is returned.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        text(&output).lines().last().unwrap().to_owned()
    }

    fn is_whole(&self) {
        let read = |name: &str| std::fs::read_to_string(self.deps().join(name)).unwrap();
        assert_eq!(read("libtorch/include/a/b.h"), "int b;");
        assert_eq!(read("libtorch/lib/libtorch.so"), "cpu".repeat(400), "the link leads to the library");
        assert_eq!(read("libtorch/lib/libcudart.so"), "rt".repeat(300));
        assert_eq!(read("libtorch/build-version"), "1.0\n");
        assert_eq!(read("onnxruntime/lib/libonnxruntime.so.1.0"), "ort".repeat(500));
        assert!(!self.deps().join("libtorch/lib/libunwanted.so").exists());
        assert!(!self.deps().join("wheels").exists(), "wheels are deleted once they are unpacked");
    }

    /// Packages that pip was asked for since the last question.
    fn calls(&self) -> Vec<String> {
        let file = self.index().join("calls.txt");
        let calls = std::fs::read_to_string(&file).unwrap_or_default();
        let _ = std::fs::remove_file(file);
        let mut calls: Vec<String> = calls.lines().map(str::to_owned).collect();
        calls.sort();
        calls
    }
}

/// Python without the libraries that this very test was built with.
fn python() -> Command {
    let mut command = Command::new("python3");
    for variable in ["LIBTORCH", "LIBTORCH_USE_PYTORCH", "ORT_DYLIB_PATH"] {
        command.env_remove(variable);
    }
    command
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_second_run_asks_for_nothing_and_says_nothing() {
    let bench = Bench::new();
    bench.succeeds();
    assert_eq!(bench.calls(), ["nvidia-cuda-runtime", "onnxruntime", "torch"]);
    let again = bench.run(&[]);
    assert!(again.status.success() && text(&again).is_empty(), "{}", text(&again));
    assert!(bench.calls().is_empty());
}

#[test]
fn a_damaged_or_replaced_download_is_refused_and_the_others_are_kept() {
    for (mode, sign) in [("truncated torch", "bytes, expected"), ("replaced torch", "its sha256 is")] {
        let bench = Bench::new();
        bench.misbehave(mode);
        let complaint = bench.fails(&[]);
        assert!(
            complaint.starts_with("setup: torch==1.0 (linux): the download was damaged or replaced"),
            "{complaint}"
        );
        assert!(complaint.contains(sign), "{complaint}");
        assert!(!bench.deps().join("libtorch").exists() && !bench.deps().join("onnxruntime").exists());
        bench.calls();
        bench.misbehave("well");
        bench.succeeds();
        assert_eq!(bench.calls(), ["torch"], "the two good wheels are not fetched again");
    }
}

#[test]
fn a_wheel_damaged_in_the_store_is_fetched_again() {
    let bench = Bench::new();
    bench.misbehave("offline torch");
    bench.fails(&[]);
    let kept = bench.deps().join("wheels/onnxruntime-1.0-py3-none-linux.whl");
    let whole = std::fs::read(&kept).unwrap();
    std::fs::write(&kept, &whole[..whole.len() - 7]).unwrap();
    bench.calls();
    bench.misbehave("well");
    bench.succeeds();
    assert_eq!(bench.calls(), ["onnxruntime", "torch"]);
}

#[test]
fn a_run_killed_while_downloading_is_continued() {
    let bench = Bench::new();
    bench.misbehave("hang torch");
    let mut child = bench.command(&[]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !bench.index().join("hanging").exists() {
        assert!(std::time::Instant::now() < deadline, "the stand-in for pip was never called");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let finished = bench.deps().join("wheels/onnxruntime-1.0-py3-none-linux.whl");
    while !finished.exists() {
        assert!(std::time::Instant::now() < deadline, "a finished wheel is kept at once");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!bench.deps().join("libtorch").exists());
    bench.misbehave("well");
    bench.calls();
    bench.succeeds();
    assert!(!bench.calls().contains(&"onnxruntime".to_owned()), "what was finished is not fetched again");
}

#[test]
fn a_run_killed_while_unpacking_leaves_nothing_that_looks_done() {
    let bench = Bench::new();
    bench.succeeds();
    bench.calls();
    // What a kill leaves: the folder under its working name without a stamp; and, from an older set-up, a real one without.
    std::fs::rename(bench.deps().join("libtorch"), bench.deps().join(".libtorch.partial")).unwrap();
    std::fs::remove_file(bench.deps().join("onnxruntime/.whole")).unwrap();
    bench.succeeds();
    assert_eq!(bench.calls(), ["nvidia-cuda-runtime", "onnxruntime", "torch"]);
    assert!(!bench.deps().join(".libtorch.partial").exists());
}

#[test]
fn a_library_cut_short_later_or_of_another_version_is_replaced() {
    let bench = Bench::new();
    bench.succeeds();
    bench.calls();
    std::fs::write(bench.deps().join("onnxruntime/lib/libonnxruntime.so.1.0"), "ort").unwrap();
    bench.succeeds();
    assert_eq!(bench.calls(), ["onnxruntime"]);
    let pins = bench.index().join("libraries.json");
    let newer =
        std::fs::read_to_string(&pins).unwrap().replacen("\"unpacked_bytes\": 10000", "\"unpacked_bytes\": 10001", 1);
    std::fs::write(&pins, newer).unwrap();
    bench.succeeds();
    assert_eq!(bench.calls(), ["nvidia-cuda-runtime", "torch"]);
}

#[test]
fn the_users_own_libraries_are_left_to_the_user() {
    let bench = Bench::new();
    let output = bench.command(&[]).env("LIBTORCH", bench.index()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(bench.calls(), ["onnxruntime"]);
    assert!(!bench.deps().join("libtorch").exists());
    let output = bench.command(&[]).env("LIBTORCH", "/nowhere/at/all").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("LIBTORCH=/nowhere/at/all does not exist"), "{}", text(&output));
}

#[test]
fn the_evaluator_alone_needs_only_onnx_runtime() {
    let bench = Bench::new();
    assert!(bench.run(&["--without-train"]).status.success());
    assert_eq!(bench.calls(), ["onnxruntime"]);
}

#[test]
fn each_trouble_is_one_clear_line() {
    let bench = Bench::new();
    for (mode, sign) in [
        ("offline onnxruntime", "onnxruntime==1.0 (linux): no network, or the package index cannot be reached"),
        ("unknown onnxruntime", "the package index that pip uses does not have it"),
        ("unreachable onnxruntime", "cannot be reached or does not have it; look at the network"),
        ("full onnxruntime", "the disk is full; free some space"),
        ("old", "pip 9.0.3 is too old, 20.3 is needed"),
    ] {
        bench.misbehave(mode);
        let complaint = bench.fails(&["--keep-wheels"]);
        assert!(complaint.contains(sign), "{mode}: {complaint}");
    }
    let complaint = bench.fails(&["--pip", "no-such-pip"]);
    assert!(complaint.contains("`no-such-pip` cannot be run") && complaint.contains("apt install"), "{complaint}");
    let pins = bench.index().join("libraries.json");
    let huge = std::fs::read_to_string(&pins).unwrap().replacen("10000", "900000000000000000", 1);
    std::fs::write(pins, huge).unwrap();
    let complaint = bench.fails(&[]);
    assert!(complaint.contains("of disk space") && complaint.contains("is free; free some"), "{complaint}");
}

#[test]
fn finished_wheels_can_come_from_a_folder_and_can_be_kept() {
    let bench = Bench::new();
    let index = bench.index();
    let output = bench.run(&["--wheels", index.to_str().unwrap(), "--keep-wheels"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(bench.calls().is_empty());
    assert_eq!(std::fs::read_dir(bench.deps().join("wheels")).unwrap().count(), 3);
    assert!(index.join("torch-1.0-py3-none-linux.whl").exists(), "the user's folder stays as it was");
    let damaged = index.join("onnxruntime-1.0-py3-none-linux.whl");
    std::fs::write(&damaged, "not a wheel").unwrap();
    std::fs::remove_dir_all(bench.deps()).unwrap();
    let complaint = bench.fails(&["--wheels", index.to_str().unwrap()]);
    assert!(complaint.contains("has 11 bytes, expected") && complaint.contains("bring a fresh copy"), "{complaint}");
}

/// Runs the prerequisite check with nothing but `tools` (name and shell text) and a few basics on the search path.
fn prerequisites(tools: &[(&str, &str)], arguments: &[&str]) -> Output {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    for basic in ["sh", "dirname", "sed", "sort", "head"] {
        let real = ["/bin", "/usr/bin"].map(|bin| Path::new(bin).join(basic)).into_iter().find(|path| path.exists());
        std::os::unix::fs::symlink(real.unwrap(), folder.path().join(basic)).unwrap();
    }
    for (name, script) in tools {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("/bin/sh");
    command.arg(repository(".ci/prerequisites.sh")).args(arguments).env("PATH", folder.path()).env_remove("CXX");
    command.output().unwrap()
}

const LINUX: (&str, &str) = ("uname", "if [ $1 = -s ]; then echo Linux; else echo x86_64; fi");
const TOOLS: [(&str, &str); 7] = [
    LINUX,
    ("cargo", ""),
    ("rustc", "echo 'rustc 1.100.0 (abc 2027-01-01)'"),
    ("cc", ""),
    ("c++", ""),
    ("python3", "echo Python 3.8.0"),
    ("npm", ""),
];

#[test]
fn all_missing_programs_are_named_at_once_each_with_the_way_to_install_it() {
    assert_eq!(text(&prerequisites(&TOOLS, &["--npm"])), "");
    let output = prerequisites(&[LINUX], &["--npm"]);
    assert_eq!(output.status.code(), Some(2));
    let text = text(&output);
    assert_eq!(text.lines().count(), 4, "{text}");
    for sign in ["rustup", "apt install build-essential", "apt install python3", "apt install npm"] {
        assert!(text.contains(sign), "{sign} in {text}");
    }
}

#[test]
fn each_missing_program_matters_only_where_it_is_used() {
    let without = |name: &str| TOOLS.into_iter().filter(|(tool, _)| *tool != name).collect::<Vec<_>>();
    assert!(prerequisites(&without("npm"), &[]).status.success());
    assert!(prerequisites(&without("c++"), &["--without-train"]).status.success());
    assert!(text(&prerequisites(&without("c++"), &[])).contains("C++ compiler"));
    let mut old = without("rustc");
    old.push(("rustc", "echo 'rustc 1.9.0 (abc 2016-05-01)'"));
    assert!(text(&prerequisites(&old, &[])).contains("or later, found 1.9.0; run: rustup update"));
    let mut old = without("python3");
    old.push(("python3", "echo Python 3.7.17"));
    assert!(text(&prerequisites(&old, &[])).contains("Python 3.8 or later, found 3.7.17; run: apt install"));
    let mut mac = without("uname");
    mac.push(("uname", "if [ $1 = -s ]; then echo Darwin; else echo arm64; fi"));
    assert!(text(&prerequisites(&mac, &[])).contains("this is Darwin arm64, and only Linux on x86-64 is supported"));
}

/// `make demo` builds the program, `make test` its tests. Cargo compiles a dependency twice if the two want different
/// features of it, which once cost four minutes; Cargo.toml asks for the same in both.
#[test]
fn the_tests_add_no_feature_to_a_dependency_of_the_program() {
    let tree = |edges: &str| {
        let mut command = Command::new(env!("CARGO"));
        command.args(["tree", "--offline", "--locked", "--prefix", "none", "--format", "{p} {f}", "--edges", edges]);
        let output = command.current_dir(repository(".")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let mut lines: Vec<String> = text(&output).lines().map(|line| line.replace(" (*)", "")).collect();
        lines.sort();
        lines.dedup();
        lines
    };
    let with_tests = tree("normal,build,dev");
    let twice: Vec<String> = tree("normal,build").into_iter().filter(|line| !with_tests.contains(line)).collect();
    assert!(twice.is_empty(), "compiled twice: {twice:#?}");
}
