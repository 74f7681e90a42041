//! Fog, snow and frost.

use super::Picture;
use super::blur::zoomed;
use super::field::{plasma, trail};
use super::severity::{Published, Severity};
use crate::rng::{self, Stream};

const FOG: Published = Published { small: [0.2, 0.5, 0.75, 1.0, 1.5], large: [1.5, 2.0, 2.5, 2.5, 3.0] };
const FOG_DECAY: Published = Published { small: [3.0, 3.0, 2.5, 2.0, 1.75], large: [2.0, 2.0, 1.7, 1.5, 1.4] };

/// Clouds are added, and the whole is brought back to the range that the picture had.
pub(super) fn fog(picture: &Picture, severity: Severity, stream: &mut Stream) -> Picture {
    let thick = severity.amount(&FOG) as f32;
    let clouds = plasma(picture.side, severity.amount(&FOG_DECAY), stream);
    let brightest = picture.data.iter().copied().fold(0.0, f32::max);
    picture.map_planes(|plane| {
        plane.iter().zip(&clouds).map(|(x, cloud)| (x + thick * cloud) * brightest / (brightest + thick)).collect()
    })
}

/// Mean and spread of the flakes' field.
const FLAKES: Published = Published { small: [0.1, 0.1, 0.15, 0.25, 0.3], large: [0.1, 0.2, 0.55, 0.55, 0.55] };
const FLAKES_SPREAD: Published = Published { small: [0.2, 0.2, 0.3, 0.3, 0.3], large: [0.3, 0.3, 0.3, 0.3, 0.3] };
const FLAKES_ZOOM: Published = Published { small: [1.0, 1.0, 1.75, 2.25, 1.25], large: [3.0, 2.0, 4.0, 4.5, 2.5] };
/// Below it there is no flake.
const FLAKES_FROM: Published = Published { small: [0.6, 0.5, 0.55, 0.6, 0.65], large: [0.5, 0.5, 0.9, 0.85, 0.85] };
const FALL_RADIUS: Published =
    Published { small: [8.0, 10.0, 10.0, 12.0, 14.0], large: [10.0, 12.0, 12.0, 12.0, 12.0] };
const FALL_SIGMA: Published = Published { small: [3.0, 4.0, 4.0, 6.0, 12.0], large: [4.0, 4.0, 8.0, 8.0, 12.0] };
/// What is left of the picture's own colours.
const COLOUR_LEFT: Published = Published { small: [0.95, 0.9, 0.9, 0.85, 0.8], large: [0.8, 0.7, 0.7, 0.65, 0.55] };

/// A pale picture with two layers of falling flakes, one the other turned by half a turn.
pub(super) fn snow(picture: &Picture, severity: Severity, stream: &mut Stream) -> Picture {
    let side = picture.side;
    let (mean, spread) = (severity.amount(&FLAKES) as f32, severity.amount(&FLAKES_SPREAD) as f32);
    let field: Vec<f32> = (0..side * side).map(|_| mean + spread * rng::normal(stream)).collect();
    let from = severity.amount(&FLAKES_FROM) as f32;
    let flakes: Vec<f32> = zoomed(&field, side, severity.amount(&FLAKES_ZOOM))
        .into_iter()
        .map(|v| if v < from { 0.0 } else { v.clamp(0.0, 1.0) })
        .collect();
    let angle = (90.0 * rng::unit_f64(stream) - 135.0).to_radians();
    let fallen = trail(&flakes, side, (severity.length(&FALL_RADIUS), severity.length(&FALL_SIGMA)), angle);
    let left = severity.amount(&COLOUR_LEFT) as f32;
    let grey = grey(picture);
    picture.map_planes(|plane| {
        let pale = |i: usize| left * plane[i] + (1.0 - left) * plane[i].max(grey[i] * 1.5 + 0.5);
        (0..plane.len()).map(|i| pale(i) + fallen[i] + fallen[plane.len() - 1 - i]).collect()
    })
}

const PICTURE_LEFT: Published = Published { small: [1.0, 1.0, 0.9, 0.85, 0.75], large: [1.0, 0.8, 0.7, 0.65, 0.6] };
const ICE: Published = Published { small: [0.2, 0.3, 0.4, 0.4, 0.45], large: [0.4, 0.6, 0.7, 0.7, 0.75] };
/// Ice is a little blue.
const ICE_COLOUR: [f32; 3] = [0.85, 0.93, 1.0];

/// Crystals, the ridges of two layers of plasma, are laid over a darker picture.
pub(super) fn frost(picture: &Picture, severity: Severity, stream: &mut Stream) -> Picture {
    let (left, ice) = (severity.amount(&PICTURE_LEFT) as f32, severity.amount(&ICE) as f32);
    let ridges =
        |field: Vec<f32>| field.into_iter().map(|v| (1.0 - (2.0 * v - 1.0).abs()).powi(3)).collect::<Vec<f32>>();
    let (coarse, fine) = (ridges(plasma(picture.side, 1.9, stream)), ridges(plasma(picture.side, 1.4, stream)));
    let crystal = |i: usize| 0.2 + 0.8 * coarse[i].max(fine[i]);
    let n = picture.side * picture.side;
    let data = picture.data.iter().enumerate().map(|(i, x)| {
        let colour = ICE_COLOUR[(i / n).min(2)];
        left * x + ice * colour * crystal(i % n)
    });
    Picture { side: picture.side, data: data.collect() }
}

/// Luma of ITU-R BT.601; the mean of fewer channels.
fn grey(picture: &Picture) -> Vec<f32> {
    let n = picture.side * picture.side;
    match picture.data.len() / n {
        3 => (0..n)
            .map(|i| 0.299 * picture.data[i] + 0.587 * picture.data[n + i] + 0.114 * picture.data[2 * n + i])
            .collect(),
        channels => {
            (0..n).map(|i| (0..channels).map(|c| picture.data[c * n + i]).sum::<f32>() / channels as f32).collect()
        }
    }
}
