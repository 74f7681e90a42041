//! Integration tests: one binary, so that they link once.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod layering;
mod setup;
