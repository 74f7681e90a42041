//! Plans become artefacts: execute, resume, report progress.

pub mod environment;
pub mod libraries;
mod machine;
