//! Scores of all pairs of a tile, of which only those are kept that reach a limit.
//!
//! A tile's scores never leave the registers: they are compared there, and what reaches its row's or its column's limit
//! is written down. Which instructions do it is decided when the program runs; the scores differ then by their rounding,
//! which every caller allows for.

use super::panels::{Line, RUN, WIDTH};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

/// The instructions to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::metric) enum Kernel {
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the compiler makes of plain code.
    Portable,
}

impl Kernel {
    /// Those that this machine has, the fastest first.
    pub(in crate::metric) fn available() -> Vec<Self> {
        let mut all = vec![];
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512);
            }
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                all.push(Self::Avx2);
            }
        }
        all.push(Self::Portable);
        all
    }

    /// The fastest that this machine has.
    pub(in crate::metric) fn best() -> Self {
        Self::available()[0]
    }

    /// Compares all pairs of rows and columns of the tile and writes down those that reach a limit.
    #[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instructions were found to exist"))]
    pub(super) fn scan(self, tile: &Tile<'_>, hits: &mut Hits) {
        tile.check();
        hits.rows.clear();
        hits.columns.clear();
        match (self, tile.mutual) {
            // SAFETY: `available` offers these only where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512, false) => unsafe { avx512::scan::<false>(tile, hits) },
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512, true) => unsafe { avx512::scan::<true>(tile, hits) },
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2, _) => unsafe { avx2::scan(tile, hits) },
            (Self::Portable, _) => portable::scan(tile, hits),
        }
    }

    /// Adds to each row's count the columns whose score is above the row's `above`, and writes down as row hits those
    /// that are not but reach the row's limit. Column limits are not looked at.
    #[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instructions were found to exist"))]
    pub(super) fn count(self, tile: &Tile<'_>, tally: &mut Tally<'_>, hits: &mut Hits) {
        tile.check();
        assert_eq!(tally.above.len(), tile.rows.half_norms.len());
        assert_eq!(tally.counts.len(), tile.rows.half_norms.len());
        hits.rows.clear();
        match self {
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::count(tile, tally, hits) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::count(tile, tally, hits) },
            Self::Portable => portable::count(tile, tally, hits),
        }
    }
}

/// The rows or the columns of a tile: whole panels.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) lines: &'a [Line],
    pub(super) half_norms: &'a [f32],
    /// Least score wanted, one for each row.
    pub(super) limits: &'a [f32],
}

/// Pairs to compare.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) dim: usize,
    pub(super) rows: Side<'a>,
    pub(super) columns: Side<'a>,
    /// Whether the columns' limits count too.
    pub(super) mutual: bool,
}

impl Tile<'_> {
    fn check(&self) {
        for side in [&self.rows, &self.columns] {
            let panels = side.half_norms.len() / WIDTH;
            assert!(side.half_norms.len() == panels * WIDTH && side.lines.len() == panels * self.dim);
            assert!(side.half_norms.len() <= 1 << 16, "a place in a tile has 16 bits");
        }
        assert_eq!(self.rows.limits.len(), self.rows.half_norms.len());
        assert!(!self.mutual || self.columns.limits.len() == self.columns.half_norms.len());
    }
}

/// Counts of the rows of a tile.
pub(super) struct Tally<'a> {
    /// Scores above are counted.
    pub(super) above: &'a [f32],
    /// What a column counts for; empty: one each.
    pub(super) weights: &'a [u32],
    pub(super) counts: &'a mut [u64],
}

impl Tally<'_> {
    /// What the columns from `first` on count for whose bit is set.
    #[inline]
    fn weigh(&self, first: usize, mut mask: u64) -> u64 {
        if self.weights.is_empty() {
            return u64::from(mask.count_ones());
        }
        let mut sum = 0;
        while mask != 0 {
            sum += u64::from(self.weights[first + mask.trailing_zeros() as usize]);
            mask &= mask - 1;
        }
        sum
    }
}

/// Pairs that reached a limit.
#[derive(Default)]
pub(super) struct Hits {
    /// A row's limit.
    pub(super) rows: HitList,
    /// A column's limit.
    pub(super) columns: HitList,
}

/// Scores and places (row in the upper, column in the lower 16 bits). The vectors are longer than the list, so that
/// whole registers can be written.
#[derive(Default)]
pub(super) struct HitList {
    scores: Vec<f32>,
    places: Vec<u32>,
    len: usize,
}

impl HitList {
    fn clear(&mut self) {
        self.len = 0;
    }

    /// Makes room for `more` entries.
    #[inline]
    fn reserve(&mut self, more: usize) {
        if self.len + more > self.scores.len() {
            let len = (2 * self.scores.len()).max(self.len + more);
            self.scores.resize(len, 0.0);
            self.places.resize(len, 0);
        }
    }

    #[inline]
    fn push(&mut self, score: f32, row: usize, column: usize) {
        self.reserve(1);
        self.scores[self.len] = score;
        self.places[self.len] = (row << 16 | column) as u32;
        self.len += 1;
    }

    /// Score, row and column of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (f32, usize, usize)> + '_ {
        let pairs = self.scores[..self.len].iter().zip(&self.places[..self.len]);
        pairs.map(|(score, place)| (*score, (place >> 16) as usize, (place & 0xffff) as usize))
    }
}
