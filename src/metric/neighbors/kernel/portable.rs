//! Plain code, and what the narrower kernels share: looking through finished scores.

use super::{Hits, RUN, Tally, Tile, WIDTH};

const ROWS: usize = 4;
const COLUMNS: usize = 8;

/// Products of `ROWS` rows and `COLUMNS` columns of two panels.
#[inline(always)]
fn products(tile: &Tile<'_>, row: usize, column: usize) -> [[f32; COLUMNS]; ROWS] {
    let mut sums = [[0.0f32; COLUMNS]; ROWS];
    let dim = tile.dim;
    let rows = &tile.rows.lines[row / WIDTH * dim..][..dim];
    let columns = &tile.columns.lines[column / WIDTH * dim..][..dim];
    let (row, column) = (row % WIDTH, column % WIDTH);
    for (rows, columns) in rows.chunks(RUN).zip(columns.chunks(RUN)) {
        let mut run = [[0.0f32; COLUMNS]; ROWS];
        for (a, b) in rows.iter().zip(columns) {
            let (a, b) = (&a.0[row..row + ROWS], &b.0[column..column + COLUMNS]);
            for i in 0..ROWS {
                for j in 0..COLUMNS {
                    run[i][j] += a[i] * b[j];
                }
            }
        }
        for i in 0..ROWS {
            for j in 0..COLUMNS {
                sums[i][j] += run[i][j];
            }
        }
    }
    sums
}

/// Calls `each` with the place and the products of every block of the tile.
#[inline(always)]
fn blocks(tile: &Tile<'_>, mut each: impl FnMut(usize, usize, &[[f32; COLUMNS]; ROWS])) {
    for column in (0..tile.columns.half_norms.len()).step_by(COLUMNS) {
        for row in (0..tile.rows.half_norms.len()).step_by(ROWS) {
            each(row, column, &products(tile, row, column));
        }
    }
}

pub(super) fn scan(tile: &Tile<'_>, hits: &mut Hits) {
    blocks(tile, |row, column, products| look(tile, row, column, products, hits));
}

pub(super) fn count(tile: &Tile<'_>, tally: &mut Tally<'_>, hits: &mut Hits) {
    blocks(tile, |row, column, products| look_and_count(tile, row, column, products, tally, hits));
}

/// The score of a product.
#[inline(always)]
fn score(tile: &Tile<'_>, row: usize, column: usize, product: f32) -> f32 {
    product - tile.columns.half_norms[column] - tile.rows.half_norms[row]
}

/// Writes down what reaches a limit among the products of rows and columns from `row` and `column` on.
#[inline(always)]
pub(super) fn look<const C: usize>(
    tile: &Tile<'_>,
    row: usize,
    column: usize,
    products: &[[f32; C]; 4],
    hits: &mut Hits,
) {
    for (i, products) in products.iter().enumerate() {
        let row = row + i;
        let limit = tile.rows.limits[row];
        let mut scores = [0.0f32; C];
        let mut any = false;
        for j in 0..C {
            scores[j] = score(tile, row, column + j, products[j]);
            any |= scores[j] >= limit;
        }
        if any {
            let wanted = scores.iter().enumerate().filter(|(_, score)| **score >= limit);
            wanted.for_each(|(j, score)| hits.rows.push(*score, row, column + j));
        }
        if tile.mutual {
            let limits = &tile.columns.limits[column..column + C];
            let any = scores.iter().zip(limits).fold(false, |any, (score, limit)| any | (score >= limit));
            if any {
                let wanted = scores.iter().zip(limits).enumerate().filter(|(_, (score, limit))| score >= limit);
                wanted.for_each(|(j, (score, _))| hits.columns.push(*score, row, column + j));
            }
        }
    }
}

/// Counts what is above, and writes down what is not but reaches the row's limit.
#[inline(always)]
pub(super) fn look_and_count<const C: usize>(
    tile: &Tile<'_>,
    row: usize,
    column: usize,
    products: &[[f32; C]; 4],
    tally: &mut Tally<'_>,
    hits: &mut Hits,
) {
    for (i, products) in products.iter().enumerate() {
        let row = row + i;
        let (limit, above) = (tile.rows.limits[row], tally.above[row]);
        let mut scores = [0.0f32; C];
        let (mut reaching, mut counted) = (0u64, 0u64);
        for j in 0..C {
            scores[j] = score(tile, row, column + j, products[j]);
            reaching |= u64::from(scores[j] >= limit) << j;
            counted |= u64::from(scores[j] > above) << j;
        }
        tally.counts[row] += tally.weigh(column, counted);
        let mut rest = reaching & !counted;
        while rest != 0 {
            let j = rest.trailing_zeros() as usize;
            hits.rows.push(scores[j], row, column + j);
            rest &= rest - 1;
        }
    }
}
