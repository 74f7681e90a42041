//! Damage without an attacker: noise, blur, weather, colour, geometry and compression at five severities.
//!
//! Families, formulas and severities are those of ImageNet-C (224 px) and CIFAR-10-C (32 px), Hendrycks & Dietterich 2019,
//! arXiv:1903.12261; how sizes in between get theirs is in `severity`. Frost is drawn instead of photographed. As there,
//! the result is a picture of 8 bits.
//!
//! Every draw is named by (suite seed, family, data-set index): the same for all models, and the same noise at every
//! severity, only stronger.

mod blur;
mod colour;
mod field;
mod geometry;
mod glass;
mod noise;
mod severity;
mod spatter;
mod weather;

use rayon::prelude::*;

use crate::batch::Images;
use crate::rng::{self, Stream};
use crate::suite::attack::Corruption;
use severity::Severity;

/// A square picture in planes, `[channels, side, side]`, values in `[0, 1]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Picture {
    pub side: usize,
    pub data: Vec<f32>,
}

impl Picture {
    fn planes(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.side * self.side)
    }

    /// Every plane by itself.
    fn map_planes(&self, change: impl Fn(&[f32]) -> Vec<f32>) -> Self {
        Self { side: self.side, data: self.planes().flat_map(change).collect() }
    }
}

/// Damages a batch.
///
/// # Shapes
/// `clean`: `[n, c, s, s]`; `images`: `[n]`, data-set indices. Colour families change nothing in pictures of fewer than
/// three channels.
/// # Panics
/// If the pictures are not square or `severity` is not 1 to 5; a checked suite has neither.
pub fn corrupt(clean: &Images, family: Corruption, severity: u8, seed: u64, images: &[usize]) -> Images {
    let [n, _, side, width] = clean.shape();
    assert_eq!(side, width, "data sets hold square pictures");
    let purpose = format!("corruption/{family}");
    let one = |i: usize| {
        let mut stream = rng::stream(seed, &purpose, &[images[i] as u64]);
        let picture = Picture { side, data: clean.image(i).to_vec() };
        let damaged = apply(&picture, family, Severity::new(severity, side), &mut stream);
        damaged.data.iter().map(|x| (x.clamp(0.0, 1.0) * 255.0).round() / 255.0).collect::<Vec<f32>>()
    };
    let data: Vec<Vec<f32>> = (0..n).into_par_iter().map(one).collect();
    Images::new(clean.shape(), data.concat()).expect("a picture keeps its size")
}

fn apply(picture: &Picture, family: Corruption, severity: Severity, stream: &mut Stream) -> Picture {
    match family {
        Corruption::GaussianNoise => noise::gaussian(picture, severity, stream),
        Corruption::ShotNoise => noise::shot(picture, severity, stream),
        Corruption::ImpulseNoise => noise::impulse(picture, severity, stream),
        Corruption::SpeckleNoise => noise::speckle(picture, severity, stream),
        Corruption::GaussianBlur => blur::gaussian(picture, severity),
        Corruption::DefocusBlur => blur::defocus(picture, severity),
        Corruption::GlassBlur => glass::glass(picture, severity, stream),
        Corruption::MotionBlur => blur::motion(picture, severity, stream),
        Corruption::ZoomBlur => blur::zoom(picture, severity),
        Corruption::Fog => weather::fog(picture, severity, stream),
        Corruption::Snow => weather::snow(picture, severity, stream),
        Corruption::Frost => weather::frost(picture, severity, stream),
        Corruption::Spatter => spatter::spatter(picture, severity, stream),
        Corruption::Brightness => colour::brightness(picture, severity),
        Corruption::Contrast => colour::contrast(picture, severity),
        Corruption::Saturate => colour::saturate(picture, severity),
        Corruption::Pixelate => geometry::pixelate(picture, severity),
        Corruption::Elastic => geometry::elastic(picture, severity, stream),
        Corruption::Jpeg => geometry::jpeg(picture, severity),
    }
}

#[cfg(test)]
mod tests;
