//! Plans become artefacts: execute, resume, report progress.
