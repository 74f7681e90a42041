//! 256-bit vectors: blocks of 4 rows × 24 columns in 12 registers.

use std::arch::x86_64::*;

use super::portable::{look, look_and_count};
use super::{Hits, RUN, Tally, Tile, WIDTH};

const ROWS: usize = 4;
const COLUMNS: usize = 24;

#[target_feature(enable = "avx2,fma")]
#[inline]
#[expect(unsafe_code, reason = "loads and stores of whole registers")]
fn products(tile: &Tile<'_>, row: usize, column: usize) -> [[f32; COLUMNS]; ROWS] {
    let dim = tile.dim;
    let rows = &tile.rows.lines[row / WIDTH * dim..][..dim];
    let columns = &tile.columns.lines[column / WIDTH * dim..][..dim];
    let (row, column) = (row % WIDTH, column % WIDTH);
    let mut sums = [[_mm256_setzero_ps(); COLUMNS / 8]; ROWS];
    for (rows, columns) in rows.chunks(RUN).zip(columns.chunks(RUN)) {
        let mut run = [[_mm256_setzero_ps(); COLUMNS / 8]; ROWS];
        for (a, b) in rows.iter().zip(columns) {
            let (a, b) = (&a.0[row..row + ROWS], &b.0[column..column + COLUMNS]);
            // SAFETY: `b` has 24 entries.
            let b = [0, 8, 16].map(|at| unsafe { _mm256_loadu_ps(b.as_ptr().add(at)) });
            for i in 0..ROWS {
                let a = _mm256_set1_ps(a[i]);
                for j in 0..COLUMNS / 8 {
                    run[i][j] = _mm256_fmadd_ps(a, b[j], run[i][j]);
                }
            }
        }
        for i in 0..ROWS {
            for j in 0..COLUMNS / 8 {
                sums[i][j] = _mm256_add_ps(sums[i][j], run[i][j]);
            }
        }
    }
    let mut out = [[0.0f32; COLUMNS]; ROWS];
    for (out, sums) in out.iter_mut().zip(&sums) {
        for (j, sum) in sums.iter().enumerate() {
            // SAFETY: `out` has 24 entries.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(8 * j), *sum) };
        }
    }
    out
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn scan(tile: &Tile<'_>, hits: &mut Hits) {
    for column in (0..tile.columns.half_norms.len()).step_by(COLUMNS) {
        for row in (0..tile.rows.half_norms.len()).step_by(ROWS) {
            look(tile, row, column, &products(tile, row, column), hits);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn count(tile: &Tile<'_>, tally: &mut Tally<'_>, hits: &mut Hits) {
    for column in (0..tile.columns.half_norms.len()).step_by(COLUMNS) {
        for row in (0..tile.rows.half_norms.len()).step_by(ROWS) {
            look_and_count(tile, row, column, &products(tile, row, column), tally, hits);
        }
    }
}
