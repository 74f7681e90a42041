//! Integration tests: one binary, so that they link once.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "a test says what it measured or why it was skipped")]

mod bad_input;
#[cfg(feature = "train")]
mod compare;
#[cfg(feature = "train")]
mod disk;
mod exports;
#[cfg(feature = "train")]
mod foreign;
mod gate_power;
#[cfg(feature = "train")]
mod gradients;
mod hostile;
mod layering;
mod metrics;
mod nightly;
#[cfg(feature = "train")]
mod pipeline;
mod plan_time;
mod ranking;
#[cfg(feature = "train")]
mod reports;
mod repository;
mod retrieval;
mod setup;
#[cfg(feature = "train")]
mod shards;
mod soundness;
mod strength;
mod suite_format;
mod survivors;
mod theirs;
#[cfg(feature = "train")]
mod tutorial;
mod verify;

/// The program, to be run in the repository's root.
fn program() -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_mdprop"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}
