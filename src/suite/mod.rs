//! What to measure: `suites/**/*.toml` and `models/*.toml`, read, checked and resolved.
//!
//! Three steps, three types: wire (serde, as written) → checked → plan (resolved paths and digests).

pub mod attack;
pub mod dataset;
pub mod recipe;
