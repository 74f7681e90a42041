//! A run that may not write what it made: it says which file and why, and loses nothing that was finished.

use super::pipeline;

/// The program under a limit on the size of its files, in blocks of 512 bytes: the kernel's own refusal, for which no
/// other user, mount or device is needed. Without the signal, which would end the program, writing fails as on a full disk.
fn limited(blocks: u32, folder: &std::path::Path) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", &blocks.to_string()]);
    command.arg(env!("CARGO_BIN_EXE_mdprop")).args(pipeline::arguments(folder)).args(["--threads", "2"]);
    command.timeout(std::time::Duration::from_secs(240));
    command
}

/// Whether this kernel keeps to the limit: some sandboxes' do not.
fn is_kept(folder: &std::path::Path) -> bool {
    let mut command = assert_cmd::Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 1; head -c 65536 /dev/zero > probe"]).current_dir(folder);
    !command.output().unwrap().status.success()
}

#[test]
fn what_cannot_be_written_is_named_and_the_next_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    if !is_kept(folder.path()) {
        println!("skipped: this system does not keep to `ulimit -f`");
        return;
    }
    // A checkpoint while it trains, a table when everything is measured, the page at the end.
    for (blocks, file) in [(1, "checkpoint.safetensors"), (256, "run/"), (1024, "report.html")] {
        let assert = limited(blocks, folder.path()).assert().code(2);
        let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        let wanted = ["cannot write", file, "File too large", "ulimit -f", "run the same command again"];
        assert!(wanted.iter().all(|part| said.contains(part)), "{said}");
    }
    pipeline::command(folder.path()).assert().success();
    pipeline::assert_same(&pipeline::finished().out(), &folder.path().join("run"));
}
