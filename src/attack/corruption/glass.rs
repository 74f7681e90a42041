//! Frosted glass: pixels change places with near ones, between two blurs.

use super::Picture;
use super::field;
use super::severity::{Published, Severity};
use crate::rng::{self, Stream};

const SIGMA: Published = Published { small: [0.05, 0.25, 0.4, 0.25, 0.4], large: [0.7, 0.9, 1.0, 1.1, 1.5] };
/// How far a pixel goes at most, in rows and in columns.
const REACH: Published = Published { small: [1.0, 1.0, 1.0, 1.0, 1.0], large: [1.0, 2.0, 2.0, 3.0, 4.0] };
const TIMES: Published = Published { small: [1.0, 1.0, 1.0, 2.0, 2.0], large: [2.0, 1.0, 3.0, 2.0, 2.0] };

/// Every pixel, from the last to the first, changes places with one at most `reach` rows and columns before it or
/// `reach − 1` behind it; those that are not so far from the border stay where they are unless another takes their place.
pub(super) fn glass(picture: &Picture, severity: Severity, stream: &mut Stream) -> Picture {
    let (side, sigma) = (picture.side, severity.length(&SIGMA));
    let reach = (severity.length(&REACH).round() as usize).max(1);
    let times = severity.amount(&TIMES).round() as usize;
    let places = shuffled(side, reach, times, stream);
    picture.map_planes(|plane| {
        let smooth = field::gaussian(plane, side, sigma);
        let moved: Vec<f32> = places.iter().map(|&from| smooth[from]).collect();
        field::gaussian(&moved, side, sigma)
    })
}

/// For each pixel the one that comes to its place.
fn shuffled(side: usize, reach: usize, times: usize, stream: &mut Stream) -> Vec<usize> {
    let mut places: Vec<usize> = (0..side * side).collect();
    for _ in 0..times {
        for y in (reach..side.saturating_sub(reach)).rev() {
            for x in (reach..side.saturating_sub(reach)).rev() {
                // The same draw at every severity, only wider.
                let mut near = |at: usize| at - reach + (rng::unit_f64(stream) * 2.0 * reach as f64) as usize;
                let other = near(y) * side + near(x);
                places.swap(y * side + x, other);
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_change_places_and_none_is_lost() {
        let mut places = shuffled(24, 2, 1, &mut rng::stream(3, "glass", &[]));
        let moved: Vec<(usize, usize)> = places.iter().copied().enumerate().filter(|(at, from)| at != from).collect();
        assert!(moved.len() > 300, "{}", moved.len());
        assert!(
            moved.iter().any(|(at, from)| at / 24 != from / 24) && moved.iter().any(|(at, from)| at % 24 != from % 24)
        );
        places.sort_unstable();
        assert_eq!(places, (0..576).collect::<Vec<_>>());
    }

    #[test]
    fn the_smallest_severity_of_small_pictures_does_not_blur() {
        // A width of 0.0375 pixels is none: every value is one of the picture's.
        let picture = Picture { side: 24, data: (0..3 * 576).map(|i| i as f32 / 1728.0).collect() };
        let broken = glass(&picture, Severity::new(1, 24), &mut rng::stream(3, "glass", &[]));
        let mut sorted = broken.data.clone();
        sorted.sort_by(f32::total_cmp);
        assert_eq!(sorted, picture.data);
        assert_ne!(broken.data, picture.data);
        // A pixel keeps its three colours together.
        assert!((0..576).all(|i| (broken.data[576 + i] - broken.data[i] - 1.0 / 3.0).abs() < 1e-6));
    }

    #[test]
    fn the_heaviest_severity_moves_more_than_the_lightest() {
        for side in [24, 64, 224] {
            let data =
                (0..side * side).map(|i| if (i / side / 3 + i % side / 3) % 2 == 0 { 0.2 } else { 0.8 }).collect();
            let picture = Picture { side, data };
            let change = |severity| {
                let broken = glass(&picture, Severity::new(severity, side), &mut rng::stream(3, "glass", &[]));
                broken.data.iter().zip(&picture.data).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>()
            };
            assert!(change(5) > change(1), "{side}: {} {}", change(1), change(5));
        }
    }

    #[test]
    fn a_picture_smaller_than_the_reach_stays() {
        let tiny = Picture { side: 2, data: vec![0.0, 0.25, 0.5, 1.0] };
        assert_eq!(shuffled(2, 1, 3, &mut rng::stream(1, "glass", &[])), [0, 1, 2, 3]);
        assert_eq!(glass(&tiny, Severity::new(1, 2), &mut rng::stream(1, "glass", &[])), tiny);
    }
}
