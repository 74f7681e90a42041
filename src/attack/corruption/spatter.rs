//! Spatter: drops of water that shine, or mud that covers.

use super::Picture;
use super::blur::mirrored;
use super::field;
use super::severity::{Published, Severity};
use crate::rng::{self, Stream};

/// Mean, spread and smoothness of the field of liquid.
const MEAN: Published = Published { small: [0.62, 0.65, 0.65, 0.65, 0.65], large: [0.65, 0.65, 0.65, 0.65, 0.67] };
const SPREAD: Published = Published { small: [0.1, 0.1, 0.3, 0.1, 0.1], large: [0.3, 0.3, 0.3, 0.3, 0.4] };
const SMOOTH: Published = Published { small: [0.7, 0.8, 1.0, 0.7, 0.5], large: [4.0, 3.0, 2.0, 1.0, 1.0] };
/// Below it there is none.
const FROM: Published = Published { small: [0.7, 0.7, 0.69, 0.69, 0.68], large: [0.69, 0.68, 0.68, 0.65, 0.65] };
/// Water: how bright. Mud: how soft its border.
const LIGHT: Published = Published { small: [0.5, 0.5, 0.5, 0.5, 0.5], large: [0.6, 0.6, 0.5, 0.5, 0.5] };
const BORDER: Published = Published { small: [0.6, 0.6, 0.6, 0.6, 0.6], large: [1.5, 1.5, 1.5, 1.5, 1.5] };
/// Whether it is mud.
const MUD: Published = Published { small: [0.0, 0.0, 0.0, 1.0, 1.0], large: [0.0, 0.0, 0.0, 1.0, 1.0] };
/// So far from the rim of a drop its shade changes, in pixels.
const RIM: Published = Published { small: [20.0; 5], large: [20.0; 5] };
/// Mud thinner than this is none.
const THINNEST: f32 = 0.8;
/// Pale turquoise, and brown.
const WATER_COLOUR: [f32; 3] = [175.0 / 255.0, 238.0 / 255.0, 238.0 / 255.0];
const MUD_COLOUR: [f32; 3] = [63.0 / 255.0, 42.0 / 255.0, 20.0 / 255.0];

/// Liquid is where a smooth random field is high. Water adds its colour, mud takes the picture's place.
pub(super) fn spatter(picture: &Picture, severity: Severity, stream: &mut Stream) -> Picture {
    let side = picture.side;
    let (mean, spread) = (severity.amount(&MEAN) as f32, severity.amount(&SPREAD) as f32);
    let noise: Vec<f32> = (0..side * side).map(|_| mean + spread * rng::normal(stream)).collect();
    let from = severity.amount(&FROM) as f32;
    let liquid: Vec<f32> = field::gaussian(&noise, side, severity.length(&SMOOTH))
        .into_iter()
        .map(|v| if v < from { 0.0 } else { v })
        .collect();
    let n = side * side;
    let colour = |colours: [f32; 3], i: usize| colours[(i / n).min(2)];
    let values = picture.data.iter().enumerate();
    let data = if severity.amount(&MUD) > 0.5 {
        let cover = mud(&liquid, side, severity);
        values.map(|(i, x)| x * (1.0 - cover[i % n]) + colour(MUD_COLOUR, i) * cover[i % n]).collect()
    } else {
        let light = water(&liquid, side, severity);
        values.map(|(i, x)| x + colour(WATER_COLOUR, i) * light[i % n]).collect()
    };
    Picture { side, data }
}

fn mud(liquid: &[f32], side: usize, severity: Severity) -> Vec<f32> {
    let wet: Vec<f32> = liquid.iter().map(|v| f32::from(u8::from(*v > 0.0))).collect();
    let soft = field::gaussian(&wet, side, severity.length(&BORDER));
    soft.into_iter().map(|v| if v < THINNEST { 0.0 } else { v.min(1.0) }).collect()
}

/// Drops in relief, lit from the lower right: the distance to the rim, brought to equal shares of all shades.
fn water(liquid: &[f32], side: usize, severity: Severity) -> Vec<f32> {
    const RELIEF: [[f32; 3]; 3] = [[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]];
    const MEAN: [[f32; 3]; 3] = [[1.0 / 9.0; 3]; 3];
    let distances = rim_distances(liquid, side, severity.length(&RIM));
    let shades = equalised(&filtered(&distances, side, &MEAN));
    let relief: Vec<f32> = filtered(&shades, side, &RELIEF).into_iter().map(|v| v.clamp(0.0, 1.0)).collect();
    let shine: Vec<f32> = filtered(&relief, side, &MEAN).iter().zip(liquid).map(|(a, b)| a * b).collect();
    let brightest = shine.iter().copied().fold(0.0, f32::max);
    if brightest == 0.0 {
        return shine;
    }
    let light = severity.amount(&LIGHT) as f32;
    shine.into_iter().map(|v| v / brightest * light).collect()
}

/// Distance of every pixel to the nearest wet one that has a dry neighbour (in its row or column), `most` at most.
fn rim_distances(liquid: &[f32], side: usize, most: f64) -> Vec<f32> {
    let wet = |y: usize, x: usize| liquid[y * side + x] > 0.0;
    let is_rim = |y: usize, x: usize| {
        let dry = [(y.wrapping_sub(1), x), (y + 1, x), (y, x.wrapping_sub(1)), (y, x + 1)];
        wet(y, x) && dry.into_iter().any(|(y, x)| y < side && x < side && !wet(y, x))
    };
    let reach = most.ceil() as usize;
    // First down the columns, then along the rows: the nearest rim of a row lies in one of its columns' nearest.
    let mut down = vec![f64::INFINITY; side * side];
    for x in 0..side {
        let rims: Vec<usize> = (0..side).filter(|&y| is_rim(y, x)).collect();
        for y in 0..side {
            let nearest = rims.iter().map(|rim| rim.abs_diff(y)).min();
            down[y * side + x] = nearest.map_or(f64::INFINITY, |d| d as f64);
        }
    }
    let nearest = |i: usize| {
        let (y, x) = (i / side, i % side);
        let columns = x.saturating_sub(reach)..(x + reach + 1).min(side);
        let squared = columns.map(|other| down[y * side + other].powi(2) + (other.abs_diff(x) as f64).powi(2));
        squared.fold(f64::INFINITY, f64::min).sqrt().min(most) as f32
    };
    (0..side * side).map(nearest).collect()
}

/// For each value the share of values below it, stretched so that the highest is 1.
fn equalised(plane: &[f32]) -> Vec<f32> {
    let mut sorted = plane.to_vec();
    sorted.sort_by(f32::total_cmp);
    let below = |v: f32| sorted.partition_point(|other| *other < v) as f32;
    let most = sorted.last().map_or(0.0, |last| below(*last));
    plane.iter().map(|v| if most > 0.0 { below(*v) / most } else { 0.0 }).collect()
}

/// Each pixel becomes the weighted sum of its neighbours; beyond the border the picture is mirrored.
fn filtered(plane: &[f32], side: usize, weights: &[[f32; 3]; 3]) -> Vec<f32> {
    let sum = |i: usize| {
        let at = |place: usize, step: usize| mirrored(place as i64 + step as i64 - 1, side);
        let seen = (0..9).map(|k| weights[k / 3][k % 3] * plane[at(i / side, k / 3) * side + at(i % side, k % 3)]);
        seen.sum()
    };
    (0..side * side).map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(side: usize) -> Picture {
        Picture { side, data: vec![0.25; 3 * side * side] }
    }

    fn spattered(side: usize, severity: u8) -> Picture {
        spatter(&grey(side), Severity::new(severity, side), &mut rng::stream(4, "spatter", &[]))
    }

    #[test]
    fn water_adds_its_colour_in_drops() {
        for (side, severity) in [(32, 1), (32, 3), (224, 1), (224, 3)] {
            let (wet, n) = (spattered(side, severity), side * side);
            let added: Vec<f32> = wet.data.iter().map(|x| x - 0.25).collect();
            assert!(added.iter().all(|x| *x >= 0.0));
            let most = added[n..2 * n].iter().copied().fold(0.0, f32::max);
            let light = Severity::new(severity, side).amount(&LIGHT) as f32;
            assert!((most - light * WATER_COLOUR[1]).abs() < 1e-6, "{most}");
            for i in 0..n {
                assert!((added[i] - added[n + i] * 175.0 / 238.0).abs() < 1e-6 && added[n + i] == added[2 * n + i]);
            }
            let covered = added[..n].iter().filter(|x| **x > 0.0).count() as f64 / n as f64;
            assert!((0.003..0.5).contains(&covered), "{side} {severity}: {covered}");
        }
    }

    #[test]
    fn mud_covers_what_is_behind_it() {
        for (side, severity) in [(32, 4), (32, 5), (224, 4), (224, 5)] {
            let (dirty, n) = (spattered(side, severity), side * side);
            let (mut covered, mut whole) = (0, 0);
            for i in 0..n {
                let share = (0.25 - dirty.data[2 * n + i]) / (0.25 - MUD_COLOUR[2]);
                assert!(share.abs() < 1e-6 || (THINNEST - 1e-4..=1.0 + 1e-4).contains(&share), "{share}");
                covered += usize::from(share > 0.5);
                whole += usize::from(share > 0.999);
                let green = 0.25 + share * (MUD_COLOUR[1] - 0.25);
                assert!((dirty.data[n + i] - green).abs() < 1e-5);
            }
            assert!(covered > n / 100 && covered < n / 2, "{side} {severity}: {covered} of {n}, {whole} wholly");
        }
    }

    #[test]
    fn distances_to_the_rim_are_the_least_of_all() {
        let side = 19;
        let mut stream = rng::stream(1, "rims", &[]);
        let noise: Vec<f32> = (0..side * side).map(|_| rng::normal(&mut stream)).collect();
        let liquid: Vec<f32> = field::gaussian(&noise, side, 1.5).into_iter().map(|v| v.max(0.0)).collect();
        let wet = |y: i64, x: i64| liquid[(y * side as i64 + x) as usize] > 0.0;
        let inside = |v: i64| (0..side as i64).contains(&v);
        let mut rims = Vec::new();
        for y in 0..side as i64 {
            for x in 0..side as i64 {
                let around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)];
                if wet(y, x) && around.into_iter().any(|(y, x)| inside(y) && inside(x) && !wet(y, x)) {
                    rims.push((y, x));
                }
            }
        }
        assert!(!rims.is_empty());
        let found = rim_distances(&liquid, side, 6.0);
        for (i, found) in found.iter().enumerate() {
            let (y, x) = ((i / side) as i64, (i % side) as i64);
            let squared = rims.iter().map(|(ry, rx)| (ry - y).pow(2) + (rx - x).pow(2)).min().unwrap();
            assert!((f64::from(*found) - (squared as f64).sqrt().min(6.0)).abs() < 1e-6);
        }
        assert!(rim_distances(&[0.0; 16], 4, 6.0).iter().all(|d| *d == 6.0), "no rim at all");
    }

    #[test]
    fn shades_are_spread_evenly_and_equal_values_share_one() {
        assert_eq!(equalised(&[3.0, 1.0, 3.0, 2.0, 9.0]), [0.5, 0.0, 0.5, 0.25, 1.0]);
        assert_eq!(equalised(&[5.0; 3]), [0.0; 3]);
        let identity = [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]];
        let right = [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]];
        let plane: Vec<f32> = (0..9).map(|i| i as f32).collect();
        assert_eq!(filtered(&plane, 3, &identity), plane);
        assert_eq!(filtered(&plane, 3, &right), [1.0, 2.0, 1.0, 4.0, 5.0, 4.0, 7.0, 8.0, 7.0]);
    }
}
