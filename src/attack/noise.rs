//! Uniform noise: the first iterate of a search, and the control that every attack must beat.

use super::budget::Budget;
use super::region::Region;
use crate::batch::Images;
use crate::rng;
use crate::suite::attack::Distribution;

/// Moves every pixel by a uniform draw in `[-radius, radius]` of its channel, cut to the bounds.
///
/// `images[i]` names the stream of sample `i`; `counter` tells restarts apart.
///
/// # Shapes
/// `clean`, `lower`, `upper`: `[n, c, h, w]`; `radii`: `[c]`; `images`: `[n]`.
pub fn uniform(
    clean: &Images,
    (lower, upper): (&Images, &Images),
    radii: &[f32],
    (seed, purpose): (u64, &str),
    images: &[usize],
    counter: u64,
) -> Images {
    let [_, channels, h, w] = clean.shape();
    let mut moved = clean.clone();
    for (sample, &image) in images.iter().enumerate() {
        let mut stream = rng::stream(seed, purpose, &[image as u64, counter]);
        let (lower, upper) = (lower.image(sample), upper.image(sample));
        for (i, x) in moved.image_mut(sample).iter_mut().enumerate() {
            let radius = radii[i / (h * w) % channels];
            *x = (*x + radius * (2.0 * rng::unit(&mut stream) - 1.0)).clamp(lower[i], upper[i]);
        }
    }
    moved
}

/// Noise of any distribution and norm, see [`Distribution`]. `images[i]` names the stream of sample `i`.
///
/// # Shapes
/// `clean`: `[n, c, h, w]`; `images`: `[n]`.
pub fn in_region(
    clean: &Images,
    budget: &Budget,
    distribution: Distribution,
    (seed, purpose): (u64, &str),
    images: &[usize],
) -> Images {
    let [_, c, h, w] = clean.shape();
    let mut moved = clean.clone();
    for (sample, &image) in images.iter().enumerate() {
        let mut stream = rng::stream(seed, purpose, &[image as u64, 0]);
        let region = Region::new(clean.image(sample).to_vec(), [c, h, w], budget);
        let noisy = match distribution {
            Distribution::Uniform => region.draw_uniform(&mut stream, None),
            Distribution::Gaussian => region.draw_normal(&mut stream),
        };
        moved.image_mut(sample).copy_from_slice(&noisy);
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_fills_the_ball_and_is_named_by_image_and_counter() {
        let clean = Images::new([2, 1, 20, 20], vec![0.5; 800]).unwrap();
        let lower = Images::new([2, 1, 20, 20], vec![0.4; 800]).unwrap();
        let upper = Images::new([2, 1, 20, 20], vec![0.6; 800]).unwrap();
        let draw = |images: &[usize], counter| uniform(&clean, (&lower, &upper), &[0.1], (1, "noise"), images, counter);
        let noise = draw(&[4, 9], 0);
        let mean = noise.as_slice().iter().sum::<f32>() / 800.0;
        let largest = noise.as_slice().iter().map(|x| (x - 0.5).abs()).fold(0.0, f32::max);
        // The mean of 800 draws has sd 0.1 / √3 / √800 = 0.002.
        assert!((mean - 0.5).abs() < 0.008 && largest > 0.098 && largest <= 0.1 + 1e-6);
        assert_eq!(draw(&[9, 4], 0).image(0), noise.image(1));
        assert_ne!(draw(&[4, 9], 1).image(0), noise.image(0));
    }
}
