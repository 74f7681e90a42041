//! The images that one clean image may become: the ball around it, cut to the pixel range.

use rand::RngCore;

use super::budget::Budget;
use crate::rng;
use crate::units::Norm;

/// Share of an L2 radius that is left unused, so that rounding to `f32` does not lead out of the ball.
const MARGIN: f64 = 1e-6;

/// The ball around one image, cut to `[0, 1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    clean: Vec<f32>,
    lower: Vec<f32>,
    upper: Vec<f32>,
    /// `[c, h, w]`.
    shape: [usize; 3],
    radii: Vec<f32>,
    l2: Option<f64>,
}

impl Region {
    /// The region around an image.
    ///
    /// # Shapes
    /// `clean`: `[c, h, w]` as `shape` says, pixels; the budget has `c` channels.
    pub fn new(clean: Vec<f32>, shape: [usize; 3], budget: &Budget) -> Self {
        let plane = shape[1] * shape[2];
        let radii = budget.radii().to_vec();
        let radius = |i: usize| radii.get(i / plane.max(1)).copied().unwrap_or(0.0);
        let lower = clean.iter().enumerate().map(|(i, x)| (x - radius(i)).max(0.0)).collect();
        let upper = clean.iter().enumerate().map(|(i, x)| (x + radius(i)).min(1.0)).collect();
        Self { lower, upper, clean, shape, radii, l2: budget.l2() }
    }

    /// The image in its middle, `[c, h, w]`.
    pub fn clean(&self) -> &[f32] {
        &self.clean
    }

    /// `[c, h, w]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// How it measures.
    pub fn norm(&self) -> Norm {
        if self.l2.is_some() { Norm::L2 } else { Norm::Linf }
    }

    /// The longest change in the L2 norm; only for a region of that norm.
    pub fn l2(&self) -> Option<f64> {
        self.l2
    }

    /// Radius of the channel of pixel `i`.
    pub fn radius(&self, i: usize) -> f32 {
        self.radii[i / (self.shape[1] * self.shape[2])]
    }

    /// One radius per channel; in the L2 norm the length, for each.
    pub fn radii(&self) -> Vec<f32> {
        self.l2.map_or_else(|| self.radii.clone(), |length| vec![length as f32; self.radii.len()])
    }

    /// Moves an image to the nearest one of the region (in the Euclidean sense, exact up to rounding).
    ///
    /// L∞: pixel by pixel. L2: the nearest point of the ball cut to the pixel range is `clip(clean + s · change)` for one
    /// `s` (the stationary point of the Lagrangian, pixel by pixel). Its length grows with `s`; starting from an `s` that
    /// is too small, the one that fits the pixels that are free is never too large, and in a few rounds exact.
    pub fn project(&self, x: &mut [f32]) {
        let Some(longest) = self.l2 else {
            x.iter_mut().zip(self.lower.iter().zip(&self.upper)).for_each(|(x, (l, u))| *x = x.clamp(*l, *u));
            return;
        };
        let allowed = (longest * (1.0 - MARGIN)).powi(2);
        let change = |i: usize, x: &[f32]| f64::from(x[i]) - f64::from(self.clean[i]);
        let inside: f64 = (0..x.len()).map(|i| self.cut(i, change(i, x)).powi(2)).sum();
        if inside <= allowed {
            x.iter_mut().for_each(|x| *x = x.clamp(0.0, 1.0));
            return;
        }
        let mut scale = 0.0f64;
        let mut cut_before = usize::MAX;
        loop {
            let (mut free, mut fixed, mut cut) = (0.0f64, 0.0f64, 0usize);
            for i in 0..x.len() {
                let change = change(i, x);
                let kept = self.cut(i, scale * change);
                if kept == scale * change {
                    free += change * change;
                } else {
                    fixed += kept * kept;
                    cut += 1;
                }
            }
            if cut == cut_before || free == 0.0 {
                break;
            }
            scale = ((allowed - fixed).max(0.0) / free).sqrt().max(scale);
            cut_before = cut;
        }
        for i in 0..x.len() {
            let moved = f64::from(self.clean[i]) + self.cut(i, scale * change(i, x));
            x[i] = (moved as f32).clamp(0.0, 1.0);
        }
    }

    /// A change of pixel `i`, cut where the pixel would leave `[0, 1]`.
    fn cut(&self, i: usize, change: f64) -> f64 {
        let clean = f64::from(self.clean[i]);
        change.clamp(-clean, 1.0 - clean)
    }

    /// Moves `x` down along a gradient: by `lengths` (one per channel) in its signs, or by `lengths[0]` in its direction in
    /// the L2 norm. A gradient of zero moves nothing. The result may lie outside.
    pub fn descend(&self, x: &mut [f32], gradient: &[f32], lengths: &[f32]) {
        match self.norm() {
            Norm::Linf => {
                let plane = self.shape[1] * self.shape[2];
                for (i, (x, g)) in x.iter_mut().zip(gradient).enumerate() {
                    *x -= lengths[i / plane] * sign(*g);
                }
            }
            Norm::L2 => {
                let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                if length > 0.0 {
                    let factor = f64::from(lengths[0]) / length;
                    x.iter_mut().zip(gradient).for_each(|(x, g)| *x -= (factor * f64::from(*g)) as f32);
                }
            }
        }
    }

    /// A point drawn uniformly from the ball (in the L2 norm too), cut to the pixel range. `radii`: other radii than the
    /// region's in the L∞ norm.
    pub fn draw_uniform(&self, stream: &mut impl RngCore, radii: Option<&[f32]>) -> Vec<f32> {
        if let Some(longest) = self.l2 {
            let share = rng::unit_f64(stream).powf(1.0 / self.clean.len().max(1) as f64);
            return self.draw_direction(stream, longest * share);
        }
        let plane = self.shape[1] * self.shape[2];
        let radii = radii.unwrap_or(&self.radii);
        let one = |(i, x): (usize, &f32)| {
            let moved = x + radii[i / plane] * (2.0 * rng::unit(stream) - 1.0);
            moved.clamp(self.lower[i], self.upper[i])
        };
        self.clean.iter().enumerate().map(one).collect()
    }

    /// A change drawn from the normal distribution: in the L∞ norm with half the radius as its standard deviation, cut at
    /// the radius; in the L2 norm a direction, with the length of the radius.
    pub fn draw_normal(&self, stream: &mut impl RngCore) -> Vec<f32> {
        if let Some(longest) = self.l2 {
            return self.draw_direction(stream, longest);
        }
        let one = |(i, x): (usize, &f32)| {
            (x + 0.5 * self.radius(i) * rng::normal(stream)).clamp(self.lower[i], self.upper[i])
        };
        self.clean.iter().enumerate().map(one).collect()
    }

    fn draw_direction(&self, stream: &mut impl RngCore, length: f64) -> Vec<f32> {
        let direction: Vec<f32> = (0..self.clean.len()).map(|_| rng::normal(stream)).collect();
        let norm = direction.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        let factor = length / norm;
        let mut x: Vec<f32> =
            self.clean.iter().zip(&direction).map(|(x, v)| (f64::from(*x) + factor * f64::from(*v)) as f32).collect();
        self.project(&mut x);
        x
    }
}

/// `-1`, `0` or `1`: zero moves nothing.
pub fn sign(value: f32) -> f32 {
    if value == 0.0 { 0.0 } else { value.signum() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Epsilon, PixelAmount};
    use proptest::prelude::*;

    fn l2(clean: &[f32], length: f64) -> Region {
        Region::new(clean.to_vec(), [1, 1, clean.len()], &Budget::new(&Epsilon::L2(length), &[1.0]))
    }

    fn distance(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn the_l2_projection_is_the_nearest_point_of_ball_and_pixel_range() {
        // Free of the pixel range: along the ray. (3, 4) / 10 has length 0.5.
        let mut x = vec![0.5 + 0.3, 0.5 - 0.4];
        l2(&[0.5, 0.5], 0.25).project(&mut x);
        assert!((x[0] - 0.65).abs() < 1e-6 && (x[1] - 0.3).abs() < 1e-6, "{x:?}");
        // One pixel hits white: the whole radius is left to the other. From 0.9 only 0.1 is left of 0.5.
        let mut x = vec![1.8, 0.6];
        l2(&[0.9, 0.1], 0.5).project(&mut x);
        let other = 0.1 + (0.25f32 - 0.01).sqrt();
        assert!((x[0] - 1.0).abs() < 1e-6 && (x[1] - other).abs() < 1e-5, "{x:?}, wanted 1 and {other}");
        // What is inside stays.
        let mut x = vec![0.55, 0.5];
        l2(&[0.5, 0.5], 0.25).project(&mut x);
        assert_eq!(x, [0.55, 0.5]);
    }

    proptest! {
        #[test]
        fn no_point_of_the_region_is_nearer(
            clean in prop::collection::vec(0.0f32..=1.0, 6), far in prop::collection::vec(-2.0f32..=3.0, 6),
            other in prop::collection::vec(-1.0f32..=1.0, 6), length in 0.01f64..2.0,
        ) {
            let region = l2(&clean, length);
            let mut x = far.clone();
            region.project(&mut x);
            // The margin covers rounding of pixels unless the radius is far below a grey level.
            prop_assert!(distance(&x, &clean) <= length + 1e-7);
            prop_assert!(x.iter().all(|v| (0.0..=1.0).contains(v)));
            let again = { let mut y = x.clone(); region.project(&mut y); y };
            prop_assert!(distance(&again, &x) < 1e-6, "idempotent");
            // Any feasible point, made by hand: a cut direction, shortened.
            let mut y: Vec<f32> = clean.iter().zip(&other).map(|(c, o)| (c + o).clamp(0.0, 1.0)).collect();
            let shorter = (length / distance(&y, &clean).max(1e-12)).min(1.0) as f32;
            y.iter_mut().zip(&clean).for_each(|(y, c)| *y = c + shorter * (*y - c));
            prop_assert!(distance(&x, &far) <= distance(&y, &far) + 1e-5);
        }
    }

    #[test]
    fn draws_fill_the_ball() {
        let mut stream = rng::stream(1, "test", &[]);
        let region = l2(&[0.5; 3], 0.2);
        let draws: Vec<f64> = (0..4000).map(|_| distance(&region.draw_uniform(&mut stream, None), &[0.5; 3])).collect();
        // Uniform in a ball of three dimensions: half of the volume within 0.2 · 0.5^(1/3) = 0.1587. 4,000 draws: sd 0.8 %.
        let inner = draws.iter().filter(|&&d| d < 0.1587).count() as f64 / 4000.0;
        assert!((inner - 0.5).abs() < 0.03, "{inner}");
        assert!((distance(&region.draw_normal(&mut stream), &[0.5; 3]) - 0.2).abs() < 1e-6);
        let amount = Epsilon::Pixels(PixelAmount::grey_levels(8));
        let region = Region::new(vec![0.5; 3000], [3, 10, 100], &Budget::new(&amount, &[1.0; 3]));
        let normal = region.draw_normal(&mut stream);
        let radius = f64::from(8.0f32 / 255.0);
        let beyond = normal.iter().filter(|x| (f64::from(**x) - 0.5).abs() > 0.999 * radius).count();
        // Beyond two standard deviations: 4.6 % of 3,000, sd 11.
        assert!((100..180).contains(&beyond), "{beyond}");
        assert!(normal.iter().all(|x| (f64::from(*x) - 0.5).abs() <= radius + 1e-7));
    }
}
