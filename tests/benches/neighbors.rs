//! Exact nearest neighbours on sets of the sizes of CARS196's and SOP's test images, and the bootstrap.
//!
//! `cargo bench --no-default-features --bench neighbors`; add `-- sop` for the large one alone.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mdprop::batch::Embeddings;
use mdprop::metric::neighbors::{Depth, Distance, Search, search};
use mdprop::rng;
use mdprop::stats::bootstrap::{Resampling, cluster_mean, mean};

/// Unit rows in clusters, as a trained model makes them.
fn clustered(n: usize, d: usize, classes: usize) -> (Embeddings, Vec<u32>) {
    let mut stream = rng::stream(1, "bench", &[n as u64]);
    let centres: Vec<f32> = (0..classes * d).map(|_| rng::normal(&mut stream)).collect();
    let labels: Vec<u32> = (0..n).map(|i| (i % classes) as u32).collect();
    let mut data = Vec::with_capacity(n * d);
    for &label in &labels {
        let centre = &centres[label as usize * d..][..d];
        let row: Vec<f32> = centre.iter().map(|c| c + 1.5 * rng::normal(&mut stream)).collect();
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        data.extend(row.iter().map(|v| v / norm));
    }
    (Embeddings::new([n, d], data).expect("n rows of d"), labels)
}

fn neighbors(c: &mut Criterion) {
    let mut group = c.benchmark_group("neighbors");
    group.sample_size(10);
    for (name, n, classes) in [("cars-8131x128", 8131, 98), ("sop-60502x128", 60_502, 11_316)] {
        let (rows, labels) = clustered(n, 128, classes);
        let own: Vec<Option<usize>> = (0..n).map(Some).collect();
        group.throughput(Throughput::Elements((n * n) as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                search(Search {
                    queries: &rows,
                    query_labels: &labels,
                    gallery: &rows,
                    gallery_labels: &labels,
                    excluded: &own,
                    depth: Depth::Fixed(8),
                    distance: Distance::Euclidean,
                })
                .expect("finite rows")
            });
        });
    }
    group.finish();
}

fn bootstrap(c: &mut Criterion) {
    let values: Vec<f64> = (0..5000).map(|i| f64::from(i % 3 == 0)).collect();
    let classes: Vec<u32> = (0..5000).map(|i| i / 50).collect();
    c.bench_function("bootstrap/2000x5000-queries", |b| b.iter(|| mean(&values, Resampling::new(1))));
    c.bench_function("bootstrap/2000x100-classes", |b| b.iter(|| cluster_mean(&values, &classes, Resampling::new(1))));
}

criterion_group!(benches, neighbors, bootstrap);
criterion_main!(benches);
