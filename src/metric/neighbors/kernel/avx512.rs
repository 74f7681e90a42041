//! 512-bit vectors: blocks of 8 rows × 48 columns in 24 registers.

use std::arch::x86_64::*;

use super::{HitList, Hits, Line, RUN, Tally, Tile, WIDTH};

const ROWS: usize = 8;
/// Registers for a line of a panel.
const PARTS: usize = WIDTH / 16;

/// Scores of `ROWS` rows with all rows of a column panel.
type Scores = [[__m512; PARTS]; ROWS];

/// 16 entries of `values` from `at` on.
#[target_feature(enable = "avx512f")]
#[inline]
#[expect(unsafe_code, reason = "a load of a whole register")]
fn load(values: &[f32], at: usize) -> __m512 {
    let values: &[f32] = &values[at..at + 16];
    // SAFETY: the slice has 16 entries.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// Adds the products of a few entries. Not inlined: the sums stay in memory, the registers are the run's.
#[target_feature(enable = "avx512f")]
#[inline(never)]
fn add_run(rows: &[Line], columns: &[Line], group: usize, sums: &mut Scores) {
    let mut run = [[_mm512_setzero_ps(); PARTS]; ROWS];
    for (a, b) in rows.iter().zip(columns) {
        let a = &a.0.as_chunks::<ROWS>().0[group];
        let b = [load(&b.0, 0), load(&b.0, 16), load(&b.0, 32)];
        for i in 0..ROWS {
            let a = _mm512_set1_ps(a[i]);
            for j in 0..PARTS {
                run[i][j] = _mm512_fmadd_ps(a, b[j], run[i][j]);
            }
        }
    }
    for (sum, run) in sums.iter_mut().flatten().zip(run.iter().flatten()) {
        *sum = _mm512_add_ps(*sum, *run);
    }
}

/// Scores of the rows from `row` on with the columns from `column`, a panel's first, on.
#[target_feature(enable = "avx512f")]
#[inline]
fn scores(tile: &Tile<'_>, row: usize, column: usize) -> Scores {
    let dim = tile.dim;
    let rows = &tile.rows.lines[row / WIDTH * dim..][..dim];
    let columns = &tile.columns.lines[column / WIDTH * dim..][..dim];
    let group = row % WIDTH / ROWS;
    let mut sums = [[_mm512_setzero_ps(); PARTS]; ROWS];
    for (rows, columns) in rows.chunks(RUN).zip(columns.chunks(RUN)) {
        add_run(rows, columns, group, &mut sums);
    }
    let halves = [0, 16, 32].map(|at| load(tile.columns.half_norms, column + at));
    for (sums, half) in sums.iter_mut().zip(&tile.rows.half_norms[row..row + ROWS]) {
        for (sum, column) in sums.iter_mut().zip(halves) {
            *sum = _mm512_sub_ps(_mm512_sub_ps(*sum, column), _mm512_set1_ps(*half));
        }
    }
    sums
}

/// Appends the scores whose bit is set. There must be room for 16.
#[target_feature(enable = "avx512f")]
#[inline]
#[expect(unsafe_code, reason = "stores of whole registers")]
fn append(list: &mut HitList, mask: __mmask16, scores: __m512, places: __m512i) {
    let at = list.len;
    let (values, out) = (&mut list.scores[at..at + 16], &mut list.places[at..at + 16]);
    // SAFETY: both slices have 16 entries.
    unsafe {
        _mm512_storeu_ps(values.as_mut_ptr(), _mm512_maskz_compress_ps(mask, scores));
        _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_maskz_compress_epi32(mask, places));
    }
    list.len += mask.count_ones() as usize;
}

/// Places of 16 columns of a row.
#[target_feature(enable = "avx512f")]
#[inline]
fn places(row: usize, column: usize) -> __m512i {
    let lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    _mm512_add_epi32(lanes, _mm512_set1_epi32((row << 16 | column) as i32))
}

#[target_feature(enable = "avx512f")]
pub(super) fn scan<const MUTUAL: bool>(tile: &Tile<'_>, hits: &mut Hits) {
    for column in (0..tile.columns.half_norms.len()).step_by(WIDTH) {
        let mut column_limits = [_mm512_setzero_ps(); PARTS];
        if MUTUAL {
            column_limits = [0, 16, 32].map(|at| load(tile.columns.limits, column + at));
        }
        for row in (0..tile.rows.half_norms.len()).step_by(ROWS) {
            let scores = scores(tile, row, column);
            hits.rows.reserve(ROWS * WIDTH + 16);
            if MUTUAL {
                hits.columns.reserve(ROWS * WIDTH + 16);
            }
            for (i, scores) in scores.iter().enumerate() {
                let limit = _mm512_set1_ps(tile.rows.limits[row + i]);
                for (j, &scores) in scores.iter().enumerate() {
                    let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(scores, limit);
                    if mask != 0 {
                        append(&mut hits.rows, mask, scores, places(row + i, column + 16 * j));
                    }
                    if MUTUAL {
                        let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(scores, column_limits[j]);
                        if mask != 0 {
                            append(&mut hits.columns, mask, scores, places(row + i, column + 16 * j));
                        }
                    }
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
pub(super) fn count(tile: &Tile<'_>, tally: &mut Tally<'_>, hits: &mut Hits) {
    for column in (0..tile.columns.half_norms.len()).step_by(WIDTH) {
        for row in (0..tile.rows.half_norms.len()).step_by(ROWS) {
            let scores = scores(tile, row, column);
            hits.rows.reserve(ROWS * WIDTH + 16);
            for (i, scores) in scores.iter().enumerate() {
                let limit = _mm512_set1_ps(tile.rows.limits[row + i]);
                let above = _mm512_set1_ps(tally.above[row + i]);
                let mut counted = 0u64;
                for (j, &scores) in scores.iter().enumerate() {
                    let sure = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(scores, above);
                    let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(scores, limit) & !sure;
                    if mask != 0 {
                        append(&mut hits.rows, mask, scores, places(row + i, column + 16 * j));
                    }
                    counted |= u64::from(sure) << (16 * j);
                }
                if counted != 0 {
                    tally.counts[row + i] += tally.weigh(column, counted);
                }
            }
        }
    }
}
