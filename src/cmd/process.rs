//! What a command that computes takes from its process: Ctrl-C, threads, where things are.

use anyhow::Context as _;

use crate::progress::Cancel;
use crate::run::environment::Places;

/// The process, set up to compute.
pub(super) struct Process {
    /// Set by Ctrl-C.
    pub(super) cancel: Cancel,
    /// Where libraries are looked for.
    pub(super) places: Places,
    /// Threads to use, all cores if the user does not say.
    pub(super) threads: usize,
}

impl Process {
    /// Listens for Ctrl-C and starts the worker threads. Once in a process.
    ///
    /// # Errors
    /// If one of them cannot be had.
    pub(super) fn set_up(threads: Option<u32>) -> anyhow::Result<Self> {
        let cancel = Cancel::default();
        let handler = cancel.clone();
        ctrlc::set_handler(move || handler.cancel()).context("cannot listen for Ctrl-C")?;
        let places = Places::of_process(vec![]).context("cannot find the current folder or my own executable")?;
        let threads = match threads {
            Some(threads) => threads as usize,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start worker threads")?;
        Ok(Self { cancel, places, threads })
    }
}
