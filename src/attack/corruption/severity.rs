//! How strong a severity is at a size.
//!
//! The two published sets are the end points: CIFAR-10-C's numbers at 32 px and below, ImageNet-C's at 224 px and above.
//! Between them a number goes geometrically with the logarithm of the side (linearly where one end is 0): half-way, 85 px,
//! it is the geometric mean of both. Lengths (radii, widths) keep their share of the picture beyond the two ends.

/// A severity at a size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Severity {
    level: usize,
    side: f64,
}

const SMALL: f64 = 32.0;
const LARGE: f64 = 224.0;

/// Five numbers of each published set.
pub(super) struct Published {
    /// CIFAR-10-C.
    pub small: [f64; 5],
    /// ImageNet-C.
    pub large: [f64; 5],
}

impl Severity {
    /// # Panics
    /// If `level` is not 1 to 5.
    pub fn new(level: u8, side: usize) -> Self {
        assert!((1..=5).contains(&level), "severity {level}");
        Self { level: usize::from(level) - 1, side: side as f64 }
    }

    /// 0 at 32 px and below, 1 at 224 px and above.
    fn between(self) -> f64 {
        (self.side.clamp(SMALL, LARGE) / SMALL).ln() / (LARGE / SMALL).ln()
    }

    /// A number without unit, or in units of grey.
    pub fn amount(self, published: &Published) -> f64 {
        let (small, large, t) = (published.small[self.level], published.large[self.level], self.between());
        if small > 0.0 && large > 0.0 {
            (small.ln() * (1.0 - t) + large.ln() * t).exp()
        } else {
            small * (1.0 - t) + large * t
        }
    }

    /// A length in pixels.
    pub fn length(self, published: &Published) -> f64 {
        self.amount(published) * self.side / self.side.clamp(SMALL, LARGE)
    }

    /// A length that is published as a share of the side; linear between the sets.
    pub fn share(self, published: &Published) -> f64 {
        let t = self.between();
        (published.small[self.level] * (1.0 - t) + published.large[self.level] * t) * self.side
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_the_published_numbers_and_lengths_scale_beyond_them() {
        let sigma = Published { small: [0.4, 0.6, 0.7, 0.8, 1.0], large: [1.0, 2.0, 3.0, 4.0, 6.0] };
        let at = |side| Severity::new(5, side).length(&sigma);
        assert!((at(32) - 1.0).abs() < 1e-12 && (at(224) - 6.0).abs() < 1e-12);
        assert!((at(448) - 12.0).abs() < 1e-12 && (at(16) - 0.5).abs() < 1e-12);
        assert!((Severity::new(5, 448).amount(&sigma) - 6.0).abs() < 1e-12);
        let middle = Severity::new(5, 85).amount(&sigma);
        assert!((middle - 6.0f64.sqrt()).abs() < 0.02, "{middle}");
        let shares = Published { small: [0.0; 5], large: [0.1; 5] };
        assert!((Severity::new(1, 224).share(&shares) - 22.4).abs() < 1e-9);
    }
}
