//! How lower layers report what they do without printing: the top gives them an [`Observer`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by Ctrl-C; long loops look at it between two pieces of work and stop with everything saved.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

/// The user asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped by the user; finished stages are kept, the same command continues")]
pub struct Cancelled;

impl Cancel {
    /// Asks for a stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// `Err` once a stop was asked for.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.0.load(Ordering::Relaxed) { Err(Cancelled) } else { Ok(()) }
    }
}

/// Receives the progress of one stage. All methods do nothing by default.
pub trait Observer: Send + Sync {
    /// A piece of work of `total` units begins (`unit` is a plural noun such as "images").
    fn begin(&self, _what: &str, _total: u64, _unit: &str) {}
    /// `done` more units are finished.
    fn advance(&self, _done: u64) {}
    /// A short text beside the bar (the current loss, say).
    fn note(&self, _text: &str) {}
    /// The piece of work is over.
    fn end(&self) {}
    /// What follows, until the next call or the end of the piece of work, belongs to this phase of a step.
    fn phase(&self, _phase: &'static str) {}
    /// A line worth keeping.
    fn say(&self, _line: &str) {}
}

/// Sees nothing; for tests and libraries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
