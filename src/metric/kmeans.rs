//! k-means for NMI, AMI and pairwise F1: k-means++ seeds, Lloyd's iterations with exact assignments.
//!
//! The result is a function of the embeddings and the options alone: not of the number of threads, of tiles, or of the
//! machine's vector instructions. All decisions compare [`canonical_distance`]s, sums are `f64` in a fixed order, and
//! every draw is named ([`crate::rng`]).

use rayon::prelude::*;

use super::neighbors::canonical_distance;
use super::neighbors::closest::{Cloud, Nearest};
use crate::batch::Embeddings;

mod seeding;

/// How to cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KMeans {
    /// Number of clusters, from 1 to the number of points.
    pub clusters: usize,
    /// Updates of the centroids at most (20 in the official code, through faiss); 0 assigns to the seeds.
    pub iterations: usize,
    /// Independent runs, at least 1. The one of least inertia is kept, the first among equals.
    pub restarts: usize,
    /// Names the draws of the seeds.
    pub seed: u64,
}

impl KMeans {
    /// One run of at most 20 iterations.
    ///
    /// ```
    /// let options = mdprop::metric::kmeans::KMeans::new(100, 7);
    /// assert_eq!((options.iterations, options.restarts), (20, 1));
    /// ```
    pub fn new(clusters: usize, seed: u64) -> Self {
        Self { clusters, iterations: 20, restarts: 1, seed }
    }
}

/// A partition of the points.
#[derive(Debug, Clone, PartialEq)]
pub struct Clustering {
    /// Cluster of each point, below `clusters`. A cluster may be empty.
    pub assignments: Vec<u32>,
    /// `[clusters, d]`. Every point is assigned to the nearest of them, the smaller index among equals.
    pub centroids: Embeddings,
    /// Sum of the squared Euclidean distances of the points to their centroids.
    pub inertia: f64,
    /// Updates of the centroids done; fewer than asked for if no assignment changed any more.
    pub iterations: usize,
}

/// Why a set was not clustered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KMeansError {
    /// No points, no clusters, or more clusters than points.
    #[error("{clusters} clusters of {points} points: wanted at least 1 cluster and at most as many as points")]
    Clusters {
        /// Clusters asked for.
        clusters: usize,
        /// Points given.
        points: usize,
    },
    /// No run at all was asked for.
    #[error("0 restarts of k-means: wanted at least 1")]
    NoRestarts,
    /// NaN or infinity, or a value whose square leaves `f32`.
    #[error("embedding {row} holds {value}, wanted finite numbers below 1e15; look at the model that made it")]
    NotFinite {
        /// Row, from 0.
        row: usize,
        /// The value, as text.
        value: String,
    },
}

/// Clusters the rows of `embeddings`, `[n, d]`, by squared Euclidean distance.
///
/// Seeds are drawn by k-means++: the first uniformly, each further one with a probability proportional to the squared
/// distance to the nearest seed so far, exactly by that law for any number of clusters. Then assignments and means
/// alternate until no assignment changes or `iterations` updates are done; the assignments returned belong to the
/// centroids returned. A cluster that loses all its points takes the point that is farthest from its centroid (the
/// smallest index among equals) out of a cluster of at least two. If fewer rows differ than there are clusters, the
/// clusters left over stay empty.
///
/// ```
/// use mdprop::batch::Embeddings;
/// use mdprop::metric::kmeans::{KMeans, kmeans};
///
/// let points = Embeddings::new([4, 1], vec![0.0, 2.0, 10.0, 12.0])?;
/// let found = kmeans(&points, &KMeans { restarts: 5, ..KMeans::new(2, 1) })?;
/// assert_eq!(found.assignments[0], found.assignments[1]);
/// assert_eq!(found.assignments[2], found.assignments[3]);
/// assert_eq!(found.inertia, 4.0); // four points, each 1 from its mean
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`KMeansError`]: clusters that the points cannot fill, no run, a value that is not finite.
///
/// # Source
/// Lloyd 1982, "Least squares quantization in PCM"; Arthur and Vassilvitskii 2007, "k-means++: the advantages of
/// careful seeding".
pub fn kmeans(embeddings: &Embeddings, options: &KMeans) -> Result<Clustering, KMeansError> {
    let (clusters, points) = (options.clusters, embeddings.len());
    if clusters == 0 || clusters > points {
        return Err(KMeansError::Clusters { clusters, points });
    }
    if let Some(at) = embeddings.as_slice().iter().position(|v| v.is_nan() || v.abs() >= 1e15) {
        let value = embeddings.as_slice()[at].to_string();
        return Err(KMeansError::NotFinite { row: at / embeddings.dim(), value });
    }
    let cloud = Cloud::new(embeddings);
    let mut best: Option<Clustering> = None;
    for restart in 0..options.restarts {
        let mut stream = crate::rng::stream(options.seed, "k-means", &[restart as u64]);
        let (seeds, nearest) = seeding::plus_plus(&cloud, clusters, &mut stream);
        let found = lloyd(&cloud, embeddings.select(&seeds), nearest, options.iterations);
        if best.as_ref().is_none_or(|best| found.inertia < best.inertia) {
            best = Some(found);
        }
    }
    best.ok_or(KMeansError::NoRestarts)
}

/// Iterations from seeds, of which the nearest is known for each point.
fn lloyd(cloud: &Cloud<'_>, seeds: Embeddings, mut nearest: Vec<Nearest>, iterations: usize) -> Clustering {
    let mut centroids = seeds;
    let mut done = 0;
    while done < iterations {
        let next = update(cloud.points, &centroids, &mut nearest);
        let before: Vec<u32> = nearest.iter().map(|n| n.centre).collect();
        assign(cloud, &centroids, &next, &mut nearest);
        centroids = next;
        done += 1;
        if nearest.iter().zip(&before).all(|(n, before)| n.centre == *before) {
            break;
        }
    }
    Clustering {
        assignments: nearest.iter().map(|n| n.centre).collect(),
        inertia: nearest.iter().map(|n| f64::from(n.distance)).sum(),
        centroids,
        iterations: done,
    }
}

/// The nearest centroids after these have moved from `old` to `new`.
///
/// A centroid that stayed where it was was no rival before. It is none now either if the point's own centroid did not go
/// farther away: most points need to be compared with the moved ones only.
fn assign(cloud: &Cloud<'_>, old: &Embeddings, new: &Embeddings, nearest: &mut [Nearest]) {
    let moved: Vec<u32> = (0..new.len() as u32).filter(|&c| old.row(c as usize) != new.row(c as usize)).collect();
    let farther: Vec<bool> = nearest
        .par_iter_mut()
        .enumerate()
        .map(|(i, nearest)| {
            let distance = canonical_distance(cloud.points.row(i), new.row(nearest.centre as usize));
            let farther = distance > nearest.distance;
            nearest.distance = distance;
            farther
        })
        .collect();
    let chosen =
        |wanted: bool| -> Vec<u32> { (0..nearest.len() as u32).filter(|&i| farther[i as usize] == wanted).collect() };
    let (lost, kept) = (chosen(true), chosen(false));
    let all: Vec<u32> = (0..new.len() as u32).collect();
    // Laying out a choice of points costs as much as comparing them with a few dozen centroids.
    if lost.len() * new.len() + kept.len() * moved.len() + 64 * nearest.len() > nearest.len() * new.len() {
        cloud.improve(nearest, None, new, &all);
        return;
    }
    cloud.improve(nearest, Some(&lost), new, &all);
    let indices: Vec<usize> = moved.iter().map(|&c| c as usize).collect();
    cloud.improve(nearest, Some(&kept), &new.select(&indices), &moved);
}

/// The means of the clusters, after empty ones have taken a far point each (`nearest` is told).
fn update(points: &Embeddings, old: &Embeddings, nearest: &mut [Nearest]) -> Embeddings {
    let mut sizes = vec![0usize; old.len()];
    nearest.iter().for_each(|n| sizes[n.centre as usize] += 1);
    fill_empty(nearest, &mut sizes);
    // Counting sort: the members of each cluster in the order of their index, so that sums have one order.
    let mut ends: Vec<usize> = sizes.iter().scan(0, |end, size| Some(std::mem::replace(end, *end + size))).collect();
    let mut members = vec![0usize; points.len()];
    for (i, n) in nearest.iter().enumerate() {
        members[ends[n.centre as usize]] = i;
        ends[n.centre as usize] += 1;
    }
    let dim = points.dim();
    let mut data = old.as_slice().to_vec();
    data.par_chunks_mut(dim.max(1)).enumerate().for_each(|(c, row)| {
        let members = &members[ends[c] - sizes[c]..ends[c]];
        if members.is_empty() {
            return;
        }
        let mut sum = vec![0.0f64; dim];
        for &i in members {
            sum.iter_mut().zip(points.row(i)).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        row.iter_mut().zip(sum).for_each(|(out, sum)| *out = (sum / members.len() as f64) as f32);
    });
    Embeddings::new([old.len(), dim], data).expect("as many values as the old centroids")
}

/// Gives each empty cluster the point farthest from its centroid, out of a cluster of at least two.
fn fill_empty(nearest: &mut [Nearest], sizes: &mut [usize]) {
    let empty: Vec<usize> = (0..sizes.len()).filter(|&c| sizes[c] == 0).collect();
    if empty.is_empty() {
        return;
    }
    let mut far: Vec<usize> = (0..nearest.len()).filter(|&i| nearest[i].distance > 0.0).collect();
    far.sort_by(|&a, &b| nearest[b].distance.total_cmp(&nearest[a].distance).then(a.cmp(&b)));
    let mut far = far.into_iter();
    for cluster in empty {
        let Some(point) = far.find(|&i| sizes[nearest[i].centre as usize] > 1) else { return };
        sizes[nearest[point].centre as usize] -= 1;
        sizes[cluster] = 1;
        nearest[point] = Nearest { centre: cluster as u32, distance: 0.0 };
    }
}

#[cfg(test)]
mod tests;
