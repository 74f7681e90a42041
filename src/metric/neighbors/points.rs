//! Equal rows of one class, taken together: a search compares each such point once.
//!
//! Without this a collapsed model, whose images share a few embeddings, would make every pair a tie that only the
//! canonical distance can decide.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::batch::Embeddings;

/// Distinct pairs of a row and a class, in the order of their first item.
pub(super) struct Points<'a> {
    pub(super) rows: &'a Embeddings,
    pub(super) labels: &'a [u32],
    /// First item of each point.
    first: Vec<u32>,
    /// Items of all points, each point's ascending; empty if every item is a point of its own.
    items: Vec<u32>,
    /// Where each point's items end.
    ends: Vec<u32>,
    /// For each point the first item with the same row, whatever its class.
    twins: Vec<u32>,
}

impl<'a> Points<'a> {
    /// Every item is a point of its own, be there equal ones or not.
    pub(super) fn apart(rows: &'a Embeddings, labels: &'a [u32]) -> Self {
        let first: Vec<u32> = (0..rows.len() as u32).collect();
        Self { rows, labels, twins: first.clone(), first, items: vec![], ends: vec![] }
    }

    pub(super) fn together(rows: &'a Embeddings, labels: &'a [u32]) -> Self {
        let twin_of = twins(rows);
        let mut points: HashMap<(u32, u32), u32> = HashMap::with_capacity(rows.len());
        let mut first: Vec<u32> = vec![];
        let point_of: Vec<u32> = (0..rows.len())
            .map(|i| {
                *points.entry((twin_of[i], labels[i])).or_insert_with(|| {
                    first.push(i as u32);
                    first.len() as u32 - 1
                })
            })
            .collect();
        if first.len() == rows.len() {
            // Rows may still be equal across classes.
            return Self { rows, labels, first, items: vec![], ends: vec![], twins: twin_of };
        }
        let mut ends = vec![0u32; first.len()];
        point_of.iter().for_each(|&point| ends[point as usize] += 1);
        let mut end = 0;
        ends.iter_mut().for_each(|size| end += std::mem::replace(size, end));
        let mut items = vec![0u32; rows.len()];
        for (i, &point) in point_of.iter().enumerate() {
            items[ends[point as usize] as usize] = i as u32;
            ends[point as usize] += 1;
        }
        let twins = first.iter().map(|&i| twin_of[i as usize]).collect();
        Self { rows, labels, first, items, ends, twins }
    }

    pub(super) fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether some point has several items.
    pub(super) fn shared(&self) -> bool {
        !self.items.is_empty()
    }

    pub(super) fn row(&self, point: usize) -> &'a [f32] {
        self.rows.row(self.first[point] as usize)
    }

    pub(super) fn label(&self, point: usize) -> u32 {
        self.labels[self.first[point] as usize]
    }

    pub(super) fn first(&self, point: usize) -> u32 {
        self.first[point]
    }

    /// The same number for points with the same row.
    pub(super) fn twin(&self, point: usize) -> u32 {
        self.twins[point]
    }

    /// The items of a point, ascending.
    pub(super) fn items(&self, point: usize) -> &[u32] {
        if self.items.is_empty() {
            return &self.first[point..=point];
        }
        let start = if point == 0 { 0 } else { self.ends[point - 1] };
        &self.items[start as usize..self.ends[point] as usize]
    }
}

/// For each row the first one with the same bits.
fn twins(rows: &Embeddings) -> Vec<u32> {
    let hashes: Vec<u64> = (0..rows.len()).into_par_iter().map(|i| hash(rows.row(i))).collect();
    let mut seen: HashMap<u64, u32> = HashMap::with_capacity(rows.len());
    let twin = |(i, hash): (usize, &u64)| {
        let first = *seen.entry(*hash).or_insert(i as u32);
        let same = rows.row(first as usize).iter().zip(rows.row(i)).all(|(a, b)| a.to_bits() == b.to_bits());
        // Different rows with one hash are possible in principle: the later one then stays alone, which costs time only.
        if same { first } else { i as u32 }
    };
    hashes.iter().enumerate().map(twin).collect()
}

/// Multiply and rotate, in four lanes.
fn hash(row: &[f32]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64, value: f32| (state ^ u64::from(value.to_bits())).wrapping_mul(FACTOR).rotate_left(29);
    let mut lanes = [1u64, 2, 3, 4];
    for values in row.chunks(4) {
        lanes.iter_mut().zip(values).for_each(|(lane, value)| *lane = mix(*lane, *value));
    }
    lanes.iter().fold(0, |sum, lane| (sum ^ lane).wrapping_mul(FACTOR).rotate_left(31))
}
