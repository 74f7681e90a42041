//! What the operating system says about this machine. Linux only; what cannot be read is `None`, never a guess.

use std::path::Path;
use std::process::Command;

/// `model name` of the first processor.
pub fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Bytes of memory: what the kernel has, or the control group's limit if that is smaller (containers, job schedulers).
pub fn memory_bytes(meminfo: &str, group_limit: Option<&str>) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let total = line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024;
    let limit = group_limit.and_then(|text| text.trim().parse::<u64>().ok());
    Some(limit.map_or(total, |limit| limit.min(total)))
}

/// Bytes that an ordinary user may still write to the file system of `folder`, from `df -Pk`.
pub fn free_disk_bytes(folder: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg("--").arg(folder).output().ok()?;
    available(&String::from_utf8(output.stdout).ok()?)
}

/// The `Available` column of `df -Pk`; the mount point comes last and may hold spaces, the device's name comes first.
fn available(table: &str) -> Option<u64> {
    let row: Vec<&str> = table.lines().nth(1)?.split_whitespace().collect();
    let capacity = row.iter().position(|cell| cell.ends_with('%'))?;
    Some(row.get(capacity.checked_sub(1)?)?.parse::<u64>().ok()? * 1024)
}

/// Names of the NVIDIA GPUs that the kernel's driver serves, below `/proc/driver/nvidia/gpus`.
pub fn gpus(driver: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(driver)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("information")).ok())
        .filter_map(|text| text.lines().find_map(|line| Some(line.strip_prefix("Model:")?.trim().to_owned())))
        .collect();
    names.sort();
    names
}

/// The file that this process has mapped under that name, from `/proc/self/maps`: what the linker really chose.
pub fn mapped(maps: &str, file_name: &str) -> Option<std::path::PathBuf> {
    let paths = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
    paths.into_iter().find(|path| path.file_name().is_some_and(|name| name == file_name)).map(Path::to_path_buf)
}

/// Loads a library as ONNX Runtime and asks for its version.
///
/// # Errors
/// The loader's words, or that the file is some other library.
#[expect(unsafe_code, reason = "loading a library runs its initialisers, and its one exported table is C")]
pub fn onnxruntime_version(path: &Path) -> Result<String, String> {
    /// `OrtApiBase` of onnxruntime_c_api.h, unchanged since version 1.0.
    #[repr(C)]
    struct ApiBase {
        api: extern "C" fn(u32) -> *const std::ffi::c_void,
        version: extern "C" fn() -> *const std::ffi::c_char,
    }
    // SAFETY: the user or `make setup` chose this file as ONNX Runtime; every other command loads it just so.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| error.to_string())?;
    // SAFETY: the type is the one in onnxruntime_c_api.h.
    let base = unsafe { library.get::<extern "C" fn() -> *const ApiBase>(b"OrtGetApiBase\0") }
        .map_err(|_| "it is not ONNX Runtime, it has no OrtGetApiBase".to_owned())?;
    // SAFETY: a non-null pointer is to a static table; its version is a static, zero-terminated string.
    let version = unsafe { base().as_ref().map(|base| std::ffi::CStr::from_ptr((base.version)())) };
    let version = version.map(|version| version.to_string_lossy().into_owned());
    // Unloading would end its threads and undo nothing of use.
    std::mem::forget(library);
    version.ok_or_else(|| "it has an empty interface".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_kernel_and_control_group_counts() {
        let meminfo = "MemTotal:       16384 kB\nMemFree: 1 kB\n";
        assert_eq!(memory_bytes(meminfo, None), Some(16 << 20));
        assert_eq!(memory_bytes(meminfo, Some("max\n")), Some(16 << 20));
        assert_eq!(memory_bytes(meminfo, Some("4194304\n")), Some(4 << 20));
        assert_eq!(memory_bytes("", None), None);
    }

    #[test]
    fn df_with_spaces_in_both_names_is_read_by_its_percent_sign() {
        let table =
            "Filesystem 1024-blocks Used Available Capacity Mounted on\n//host/my share 100 60 40 60% /mnt/a b\n";
        assert_eq!(available(table), Some(40 * 1024));
        assert_eq!(available("df: no such file"), None);
        assert!(free_disk_bytes(Path::new("/")).is_some());
    }

    #[test]
    fn a_mapped_file_is_found_by_its_whole_name() {
        let maps =
            "7f-8f r-xp 00000000 fe:00 1    /x/libtorch_cpu.so.old\n7f-8f r-xp 0 fe:00 2   /a b/libtorch_cpu.so\n";
        assert_eq!(mapped(maps, "libtorch_cpu.so").unwrap(), Path::new("/a b/libtorch_cpu.so"));
        assert_eq!(mapped(maps, "libc10.so"), None);
    }

    #[test]
    fn cpu_model_is_the_first_one() {
        assert_eq!(cpu_model("processor: 0\nmodel name\t: Fast One\nmodel name\t: Other\n").unwrap(), "Fast One");
    }

    #[test]
    fn a_file_that_is_no_library_is_refused_with_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        std::fs::write(&path, "not a library").unwrap();
        assert!(!onnxruntime_version(&path).unwrap_err().is_empty());
    }

    #[test]
    fn a_gpu_is_named_by_the_driver() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("0000:01:00.0")).unwrap();
        std::fs::write(folder.path().join("0000:01:00.0/information"), "Model: \t NVIDIA H200\nIRQ: 1\n").unwrap();
        assert_eq!(gpus(folder.path()), ["NVIDIA H200"]);
        assert!(gpus(&folder.path().join("absent")).is_empty());
    }
}
