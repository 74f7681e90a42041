//! Fashion-MNIST (Xiao et al. 2017) and its relatives in IDX files: grey pictures of 28 × 28 pixels in ten classes.
//!
//! Both files of images are taken together and split by class, since classes that test must be new to the model.

use std::io::Read;
use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::dataset::cache::{self, Cached, Header};
use crate::dataset::listing::wrong;
use crate::dataset::{DatasetError, open as opening, pictures};
use crate::digest::Digest;
use crate::progress::{Cancel, Observer};
use crate::suite::dataset::ResizeRule;

const HALVES: [&str; 2] = ["train", "t10k"];
/// Largest file that is read, unpacked.
const LARGEST: u64 = 1 << 30;
/// Version of these rules.
const RULES: u32 = 1;

/// Opens the cache, made first if the files or the size have changed.
///
/// # Errors
/// [`DatasetError::Folder`] naming the file that is missing or not as its head says.
pub fn open(
    root: &Path,
    size: usize,
    data_dir: &Path,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Cached, DatasetError> {
    let mut files = Vec::new();
    for half in HALVES {
        let images = Idx::read(root, &format!("{half}-images-idx3-ubyte"), 3)?;
        let labels = Idx::read(root, &format!("{half}-labels-idx1-ubyte"), 1)?;
        if images.sizes[0] != labels.sizes[0] {
            let reason = format!("holds {} labels for {} images", labels.sizes[0], images.sizes[0]);
            return Err(wrong(&labels.path, reason));
        }
        files.push((images, labels));
    }
    let digests: Vec<Digest> =
        files.iter().flat_map(|(a, b)| [&a.data, &b.data]).map(|d| Digest::of_bytes(d)).collect();
    let key = Digest::of_value(&(RULES, size, digests));
    let path = data_dir.join("cache").join(format!("fashion-mnist-{size}-{}.bin", key.short()));
    if let Some(cached) = cache::open(&path, &key)? {
        return Ok(cached);
    }
    let total: usize = files.iter().map(|(images, _)| images.sizes[0]).sum();
    observer.begin("resizing pictures", total as u64, "images");
    let classes =
        files.iter().flat_map(|(_, labels)| &labels.data).max().map_or(0, |&largest| usize::from(largest) + 1);
    let mut header = Header {
        id: "fashion-mnist".into(),
        key,
        size,
        labels: Vec::with_capacity(total),
        classes: (0..classes).map(|class| format!("{class}")).collect(),
        sources: Vec::with_capacity(total),
        failed: vec![],
        pixel_digest: Digest::of_bytes(b""),
    };
    let mut pixels = Vec::with_capacity(total * 3 * size * size);
    for (half, (images, labels)) in HALVES.iter().zip(&files) {
        let (height, width) = (images.sizes[1], images.sizes[2]);
        for (i, (grey, &label)) in images.data.chunks_exact(height * width).zip(&labels.data).enumerate() {
            cancel.check()?;
            let picture = RgbImage::from_fn(width as u32, height as u32, |x, y| {
                image::Rgb([grey[y as usize * width + x as usize]; 3])
            });
            pixels.extend(pictures::planar(&pictures::square(&picture, size as u32, ResizeRule::Squash)));
            header.labels.push(u32::from(label));
            header.sources.push(format!("{half}/{i}"));
            observer.advance(1);
        }
    }
    observer.end();
    opening::store(&path, header, &pixels)
}

/// One IDX file of bytes.
struct Idx {
    path: PathBuf,
    sizes: Vec<usize>,
    data: Vec<u8>,
}

impl Idx {
    /// Reads `name` or `name.gz`: two zero bytes, type 8 (bytes), number of axes, big-endian sizes, data.
    fn read(root: &Path, name: &str, axes: usize) -> Result<Self, DatasetError> {
        let plain = root.join(name);
        let packed = root.join(format!("{name}.gz"));
        let path = if plain.is_file() { plain } else { packed };
        if !path.is_file() {
            return Err(wrong(root, format!("holds neither {name} nor {name}.gz")));
        }
        let file = std::fs::File::open(&path).map_err(DatasetError::read(&path))?;
        let mut bytes = Vec::new();
        let result = if path.extension().is_some_and(|e| e == "gz") {
            flate2::read::GzDecoder::new(file).take(LARGEST).read_to_end(&mut bytes)
        } else {
            file.take(LARGEST).read_to_end(&mut bytes)
        };
        result.map_err(DatasetError::read(&path))?;
        let start = 4 + 4 * axes;
        if bytes.len() < start || bytes[..4] != [0, 0, 8, axes as u8] {
            return Err(wrong(&path, format!("is no IDX file of bytes with {axes} axes")));
        }
        let size = |axis: usize| bytes[4 + 4 * axis..8 + 4 * axis].iter().fold(0usize, |n, &b| n << 8 | usize::from(b));
        let sizes: Vec<usize> = (0..axes).map(size).collect();
        let wanted = sizes.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
        let got = bytes.len() - start;
        if wanted != Some(got) || got == 0 {
            return Err(wrong(&path, format!("holds {got} bytes behind its head, which promises {sizes:?}")));
        }
        bytes.drain(..start);
        Ok(Self { path, sizes, data: bytes })
    }
}
