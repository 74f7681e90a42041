//! The clock that lower layers are given.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Time since the first call.
pub(super) fn since_start() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
