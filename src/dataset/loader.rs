//! Training batches, prepared ahead by worker threads.
//!
//! What a batch holds depends on (seed, epoch, batch, position) alone, never on the number of threads or their order.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::augment::{augment, crop_original};
use super::{DatasetError, ImageSet};
use crate::batch::Images;
use crate::rng::stream;
use crate::suite::recipe::{AugmentationSpec, CropFrom};

/// Prepares batches of one data set.
#[derive(Debug, Clone)]
pub struct Loader {
    set: Arc<ImageSet>,
    augmentation: AugmentationSpec,
    seed: u64,
    threads: usize,
    prefetch: usize,
}

/// A batch cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// It refers to an image that is not there.
    #[error("batch {batch} asks for image {index} of {images}")]
    Index {
        /// Which batch.
        batch: usize,
        /// Which image.
        index: usize,
        /// Images in the set.
        images: usize,
    },
    /// More numbers than a batch may have.
    #[error(
        "a batch of {images} images of {size} × {size} pixels is {} numbers, at most {MOST_ENTRIES}; take a smaller batch_size or image_size",
        images * 3 * size * size
    )]
    Large {
        /// Images of the batch.
        images: usize,
        /// Height and width.
        size: usize,
    },
    /// Crops are to be cut from files, and the set has none.
    #[error("from = \"file\": the data set `{dataset}` is not made of picture files; leave `from` out")]
    NoFiles {
        /// The data set.
        dataset: String,
    },
    /// A picture is gone or damaged since the set was opened.
    #[error(transparent)]
    Picture(#[from] DatasetError),
}

/// Most numbers of one batch: 2 GiB of f32. An allocation that fails ends the process and tells nobody why.
const MOST_ENTRIES: usize = 1 << 29;

/// A batch, `[n, 3, size, size]` in `[0, 1]`, and its labels.
type Batch = (Images, Vec<u32>);

impl Loader {
    /// `threads` workers (at least one) hold at most `prefetch` finished or unfinished batches (at least one).
    pub fn new(set: Arc<ImageSet>, augmentation: AugmentationSpec, seed: u64, threads: usize, prefetch: usize) -> Self {
        Self { set, augmentation, seed, threads: threads.max(1), prefetch: prefetch.max(1) }
    }

    /// The batches of one epoch, in order. Dropping the iterator stops the workers.
    ///
    /// # Errors
    /// [`LoaderError`] if an index is out of range or a batch too large.
    pub fn epoch(&self, epoch: u64, batches: Vec<Vec<usize>>) -> Result<Batches, LoaderError> {
        let (images, size) = (self.set.len(), self.set.size);
        if let Some(large) = batches.iter().map(Vec::len).find(|count| count * 3 * size * size > MOST_ENTRIES) {
            return Err(LoaderError::Large { images: large, size });
        }
        for (batch, indices) in batches.iter().enumerate() {
            if let Some(&index) = indices.iter().find(|&&index| index >= images) {
                return Err(LoaderError::Index { batch, index, images });
            }
        }
        if self.cuts_files() && !self.set.originals.are_there() {
            return Err(LoaderError::NoFiles { dataset: self.set.id.clone() });
        }
        let total = batches.len();
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let batches = Arc::new(batches);
        let workers = (0..self.threads.min(total))
            .map(|_| {
                let (loader, batches, shared) = (self.clone(), batches.clone(), shared.clone());
                std::thread::spawn(move || loader.work(epoch, &batches, &shared))
            })
            .collect();
        Ok(Batches { shared, workers, total })
    }

    fn cuts_files(&self) -> bool {
        matches!(self.augmentation, AugmentationSpec::RandomResizedCropFlip { from: CropFrom::File })
    }

    /// One batch, made here and now: `[n, 3, size, size]` in `[0, 1]` and its labels.
    ///
    /// # Errors
    /// [`LoaderError::Picture`] naming a file.
    pub fn batch(&self, epoch: u64, batch: usize, indices: &[usize]) -> Result<Batch, LoaderError> {
        let size = self.set.size;
        let stride = 3 * size * size;
        let mut data = vec![0f32; indices.len() * stride];
        for (position, (&index, out)) in indices.iter().zip(data.chunks_mut(stride)).enumerate() {
            let mut rng = stream(self.seed, "augment", &[epoch, batch as u64, position as u64]);
            let original = if self.cuts_files() { self.set.originals.decode(index)? } else { None };
            match original {
                Some(picture) => crop_original(&picture, size, &mut rng, out),
                None => augment(&self.augmentation, self.set.bytes(index), size, &mut rng, out),
            }
        }
        let images = Images::new([indices.len(), 3, size, size], data).expect("stride and shape agree by construction");
        Ok((images, self.set.labels_of(indices)))
    }

    fn work(&self, epoch: u64, batches: &[Vec<usize>], shared: &Shared) {
        let _guard = Leaving(shared);
        loop {
            let mut state = shared.lock();
            while !state.stopped && state.claimed < batches.len() && state.claimed >= state.delivered + self.prefetch {
                state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stopped || state.claimed >= batches.len() {
                return;
            }
            let mine = state.claimed;
            state.claimed += 1;
            drop(state);
            let made = self.batch(epoch, mine, &batches[mine]);
            shared.lock().ready.insert(mine, made);
            shared.changed.notify_all();
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Batches that a worker has begun.
    claimed: usize,
    /// Batches handed out.
    delivered: usize,
    ready: BTreeMap<usize, Result<Batch, LoaderError>>,
    stopped: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker that panics stops the epoch instead of leaving the reader waiting for ever.
struct Leaving<'a>(&'a Shared);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().stopped = true;
            self.0.changed.notify_all();
        }
    }
}

/// The batches of one epoch, in order.
#[derive(Debug)]
pub struct Batches {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    total: usize,
}

impl Iterator for Batches {
    type Item = Result<Batch, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut state = self.shared.lock();
        loop {
            if state.delivered == self.total {
                return None;
            }
            let next = state.delivered;
            if let Some(batch) = state.ready.remove(&next) {
                state.delivered += 1;
                drop(state);
                self.shared.changed.notify_all();
                return Some(batch);
            }
            if state.stopped {
                drop(state);
                // A worker panicked, which is a mistake of this program: pass it on rather than end the epoch early.
                for worker in self.workers.drain(..) {
                    if let Err(panic) = worker.join() {
                        std::panic::resume_unwind(panic);
                    }
                }
                return None;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.total - self.shared.lock().delivered;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches {}

impl Drop for Batches {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A panic has been passed on by `next`, or nobody asks for its batch any more.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Cancel, Silent};
    use crate::suite::dataset::DatasetSpec;

    fn set() -> Arc<ImageSet> {
        let spec = DatasetSpec::Glyphs { image_size: 16, classes: 6, per_class: 4, seed: 1, validation: 0.0 };
        Arc::new(super::super::open(&spec, std::path::Path::new("."), &Silent, &Cancel::default()).unwrap())
    }

    fn batches() -> Vec<Vec<usize>> {
        (0..9).map(|b| (0..8).map(|i| (b * 5 + i * 3) % 24).collect()).collect()
    }

    fn all(threads: usize, prefetch: usize, epoch: u64, spec: AugmentationSpec) -> Vec<(Images, Vec<u32>)> {
        Loader::new(set(), spec, 11, threads, prefetch).epoch(epoch, batches()).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn threads_and_prefetch_change_nothing() {
        for spec in [
            AugmentationSpec::ShiftFlip { pixels: 2 },
            AugmentationSpec::RandomResizedCropFlip { from: CropFrom::Square },
        ] {
            let one = all(1, 1, 4, spec.clone());
            assert_eq!(one.len(), 9);
            assert_eq!(one, all(3, 2, 4, spec.clone()));
            assert_eq!(one, all(16, 100, 4, spec.clone()));
            assert_ne!(one[0].0, all(1, 1, 5, spec)[0].0, "another epoch draws anew");
        }
    }

    #[test]
    fn without_augmentation_it_is_the_set_itself() {
        let set = set();
        for ((images, labels), indices) in all(2, 2, 0, AugmentationSpec::None {}).iter().zip(batches()) {
            assert_eq!(*images, set.images(&indices));
            assert_eq!(*labels, set.labels_of(&indices));
        }
    }

    #[test]
    fn an_unfinished_epoch_can_be_dropped_and_a_wrong_index_is_named() {
        let loader = Loader::new(set(), AugmentationSpec::None {}, 0, 3, 2);
        let mut epoch = loader.epoch(0, batches()).unwrap();
        assert_eq!(epoch.len(), 9);
        assert!(epoch.next().is_some());
        drop(epoch);
        assert_eq!(loader.epoch(0, vec![]).unwrap().count(), 0);
        let error = loader.epoch(0, vec![vec![0], vec![99]]).unwrap_err();
        assert_eq!(error.to_string(), "batch 1 asks for image 99 of 24");
        let size = set().size;
        let most = MOST_ENTRIES / (3 * size * size);
        assert!(loader.epoch(0, vec![vec![99; most]]).unwrap_err().to_string().contains("image 99"));
        let error = loader.epoch(0, vec![vec![0], vec![0; most + 1]]).unwrap_err().to_string();
        assert!(error.contains("take a smaller batch_size"), "{error}");
        let files = AugmentationSpec::RandomResizedCropFlip { from: CropFrom::File };
        let error = Loader::new(set(), files, 0, 1, 1).epoch(0, batches()).unwrap_err().to_string();
        assert!(error.contains("not made of picture files"), "{error}");
    }
}
