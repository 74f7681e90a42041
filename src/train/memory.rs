//! Memory that a training asks for again in every step.
//!
//! glibc maps large blocks afresh and gives the top of its heap back as soon as it is free, so that every step finds its
//! activations in new pages that the kernel must clear: nearly half of the time of a small convnet's step. While a training
//! runs the heap keeps what it has.

/// While it lives, freed memory stays with the process. The end of it gives back what is free.
#[derive(Debug)]
#[must_use = "memory is kept as long as this lives"]
pub struct KeptMemory(());

impl KeptMemory {
    /// From now on. Without glibc nothing changes.
    pub fn begin() -> Self {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        set(&[(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, -1)]);
        Self(())
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            // Where glibc's own rule arrives after large blocks have come and gone (mallopt(3)); it is off once anything is
            // set.
            set(&[(libc::M_MMAP_MAX, 65_536), (libc::M_MMAP_THRESHOLD, 32 << 20), (libc::M_TRIM_THRESHOLD, 64 << 20)]);
            #[expect(unsafe_code, reason = "a call into the C library that takes a number and only frees free memory")]
            unsafe {
                libc::malloc_trim(0);
            }
        }
    }
}

/// Sets parameters of the heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set(parameters: &[(i32, i32)]) {
    for &(parameter, value) in parameters {
        #[expect(
            unsafe_code,
            reason = "a call into the C library that takes numbers; it refuses what it does not know"
        )]
        unsafe {
            libc::mallopt(parameter, value);
        }
    }
}
