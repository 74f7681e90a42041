//! What a model is tried on: noise, and pictures that look like something.

use super::Request;
use crate::batch::Images;
use crate::dataset::{GlyphsSpec, glyphs, pictures};
use crate::rng;
use crate::run::RunError;

/// Both kinds, equally many (fewer pictures if the user's folder holds fewer).
pub(super) struct Set {
    /// Uniform noise.
    pub noise: Images,
    /// Drawings, or the user's own.
    pub pictures: Images,
}

/// Half a grey level. A flat surface gives equal activations, and where two are equal a maximum has no gradient that a
/// difference could confirm; a grain nobody sees makes them differ.
const GRAIN: f32 = 0.5 / 255.0;

pub(super) fn all(request: &Request<'_>, size: usize) -> Result<Set, RunError> {
    let [count, _] = request.images_and_directions;
    let drawn = match &request.images {
        Some(folder) => pictures::some(folder, count, size)?,
        None => {
            let spec = GlyphsSpec { size, classes: count, per_class: 1, seed: request.seed };
            let built = glyphs::build(&spec, request.observer, request.cancel)?;
            built.pixels.as_slice().chunks(3 * size * size).map(<[u8]>::to_vec).collect()
        }
    };
    let stride = 3 * size * size;
    let grained = |(i, bytes): (usize, &Vec<u8>)| {
        let mut stream = rng::stream(request.seed, "verify-grain", &[i as u64]);
        // Away from 0 and 1, so that the differences stay inside.
        bytes
            .iter()
            .map(|b| 0.01 + 0.98 * f32::from(*b) / 255.0 + GRAIN * (2.0 * rng::unit(&mut stream) - 1.0))
            .collect()
    };
    let pictures: Vec<Vec<f32>> = drawn.iter().enumerate().map(grained).collect();
    let noise = (0..count).flat_map(|i| {
        let mut stream = rng::stream(request.seed, "verify-noise", &[i as u64]);
        (0..stride).map(move |_| 0.01 + 0.98 * rng::unit(&mut stream))
    });
    let images = |n: usize, data: Vec<f32>| {
        Images::new([n, 3, size, size], data).expect("every picture has three planes of size by size")
    };
    Ok(Set { noise: images(count, noise.collect()), pictures: images(pictures.len(), pictures.concat()) })
}
