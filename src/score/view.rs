//! Embeddings made small enough to be drawn: a spectrum, two histograms, a map.

use crate::batch::Embeddings;
use crate::metric::projection::Plane;
use crate::metric::spectrum::Spectrum;
use crate::record::view::{GalleryShape, Point};

/// Rows that plane and distances between classes are computed of.
const SAMPLE: usize = 1500;

/// Points on the map.
const POINTS: usize = 400;

/// Pairs within classes that are counted.
const INTRA_PAIRS: u64 = 500_000;

const BINS: usize = 64;

/// At most `wanted` of `n` rows, evenly spread.
fn spread(n: usize, wanted: usize) -> Vec<usize> {
    let kept = n.min(wanted);
    (0..kept).map(|i| i * n / kept).collect()
}

/// The plane that clean and attacked embeddings of a model are drawn in: that of its clean gallery. `None` if it has none.
pub fn plane(gallery: &Embeddings) -> Option<Plane> {
    Plane::of(gallery, &spread(gallery.len(), SAMPLE))
}

/// The shape of a gallery; `labels`: the class of each row.
///
/// # Panics
/// If `labels` has another length than the embeddings.
pub fn gallery_shape(gallery: &Embeddings, labels: &[u32], plane: Option<&Plane>) -> GalleryShape {
    assert_eq!(gallery.len(), labels.len(), "one label for each embedding");
    let (intra, inter) = distances(gallery, labels);
    let farthest = intra.iter().chain(&inter).copied().fold(0.0, f64::max);
    let bin_width = if farthest > 0.0 { farthest * (1.0 + 1e-9) / BINS as f64 } else { 1.0 };
    let point = |row: usize, plane: &Plane| Point { label: labels[row], at: plane.place(gallery.row(row)) };
    let rows = spread(gallery.len(), POINTS);
    GalleryShape {
        images: gallery.len() as u32,
        spectrum: Spectrum::of(gallery).distribution(),
        bin_width,
        intra: histogram(&intra, bin_width),
        inter: histogram(&inter, bin_width),
        pairs: [intra.len() as u64, inter.len() as u64],
        variance: plane.map_or([0.0; 2], Plane::shares),
        points: plane.map_or_else(Vec::new, |plane| rows.into_iter().map(|row| point(row, plane)).collect()),
    }
}

/// Distances within classes (all of them up to a bound) and between classes (of a sample).
fn distances(gallery: &Embeddings, labels: &[u32]) -> (Vec<f64>, Vec<f64>) {
    let distance = |a: usize, b: usize| -> f64 {
        let pairs = gallery.row(a).iter().zip(gallery.row(b));
        pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
    };
    let mut classes: std::collections::BTreeMap<u32, Vec<usize>> = Default::default();
    labels.iter().enumerate().for_each(|(row, label)| classes.entry(*label).or_default().push(row));
    let mut intra = Vec::new();
    for members in classes.values() {
        for (i, a) in members.iter().enumerate() {
            for b in &members[..i] {
                if (intra.len() as u64) < INTRA_PAIRS {
                    intra.push(distance(*a, *b));
                }
            }
        }
    }
    let rows = spread(gallery.len(), SAMPLE);
    let mut inter = Vec::new();
    for (i, a) in rows.iter().enumerate() {
        inter.extend(rows[..i].iter().filter(|b| labels[**b] != labels[*a]).map(|b| distance(*a, *b)));
    }
    (intra, inter)
}

fn histogram(values: &[f64], width: f64) -> Vec<f64> {
    let mut bins = vec![0.0; BINS];
    for value in values {
        bins[((value / width) as usize).min(BINS - 1)] += 1.0 / values.len() as f64;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tight_classes_far_apart_are_seen_as_such() {
        // Class 0 around (0, 0), class 1 around (10, 0); members 0.5 apart.
        let rows = vec![0.0, 0.0, 0.0, 0.5, 10.0, 0.0, 10.0, 0.5];
        let gallery = Embeddings::new([4, 2], rows).unwrap();
        let plane = plane(&gallery).unwrap();
        let shape = gallery_shape(&gallery, &[0, 0, 1, 1], Some(&plane));
        assert_eq!((shape.pairs, shape.images, shape.points.len()), ([2, 4], 4, 4));
        let mean = |bins: &[f64]| -> f64 {
            bins.iter().enumerate().map(|(i, share)| share * (i as f64 + 0.5) * shape.bin_width).sum()
        };
        assert!((mean(&shape.intra) - 0.5).abs() < shape.bin_width, "{}", mean(&shape.intra));
        assert!((mean(&shape.inter) - 10.0).abs() < shape.bin_width, "{}", mean(&shape.inter));
        assert!((shape.intra.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(shape.variance[0] > 0.99, "{:?}", shape.variance);
        assert!((shape.points[0].at[0] - shape.points[2].at[0]).abs() > 9.9);
    }

    #[test]
    fn rows_are_spread_evenly_and_one_image_is_enough() {
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        assert_eq!(spread(3, 4), [0, 1, 2]);
        let one = Embeddings::new([1, 2], vec![1.0, 0.0]).unwrap();
        let shape = gallery_shape(&one, &[3], plane(&one).as_ref());
        assert_eq!((shape.pairs, shape.points.len(), shape.spectrum.len()), ([0, 0], 0, 1));
        assert!(shape.intra.iter().all(|share| *share == 0.0));
    }
}
