//! Exact nearest neighbours and k-means on sets of the sizes of CUB200's, CARS196's and SOP's test images, and the
//! bootstrap.
//!
//! `cargo bench --no-default-features --bench neighbors`; add `-- sop` for the large one alone. With
//! `MDPROP_PEER_PYTHON` set to a Python that has faiss and PyTorch, their times and peaks of memory are measured in turns
//! with ours instead; see `peers/README.md`.
#![allow(missing_docs)]

mod sides;

use std::ffi::OsStr;
use std::process::Command;
use std::time::Instant;

use criterion::{Criterion, Throughput};
use mdprop::batch::Embeddings;
use mdprop::metric::kmeans::{KMeans, kmeans};
use mdprop::metric::neighbors::{Depth, Distance, Search, visit_lists};
use mdprop::rng;
use mdprop::stats::bootstrap::{Resampling, cluster_mean, mean};
use sides::{Peer, peak, processor_seconds, write_floats};

const THREADS: usize = 2;
/// Measurements of each, of which the median is told.
const TURNS: usize = 3;

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

/// Images, entries of an embedding, classes.
#[derive(Clone, Copy)]
struct Size {
    name: &'static str,
    n: usize,
    d: usize,
    classes: usize,
}

const CUB: Size = Size { name: "cub-5924x128", n: 5924, d: 128, classes: 100 };
const CARS: Size = Size { name: "cars-8131x128", n: 8131, d: 128, classes: 98 };
const SOP: Size = Size { name: "sop-60502x128", n: 60_502, d: 128, classes: 11_316 };
const SOP_512: Size = Size { name: "sop-60502x512", d: 512, ..SOP };

/// The `k` nearest of every row, itself left out by its index.
fn lists(rows: &Embeddings, labels: &[u32], k: usize) -> Vec<Vec<u32>> {
    let own: Vec<Option<usize>> = (0..rows.len()).map(Some).collect();
    let search = Search {
        queries: rows,
        query_labels: labels,
        gallery: rows,
        gallery_labels: labels,
        excluded: &own,
        depth: Depth::Fixed(k),
        distance: Distance::Euclidean,
    };
    visit_lists(&search, |list| list.neighbors.to_vec()).expect("finite rows")
}

fn neighbors(c: &mut Criterion) {
    let mut group = c.benchmark_group("neighbors");
    group.sample_size(10);
    for size in [CUB, CARS, SOP] {
        let (rows, labels) = clustered(size.n, size.d, size.classes);
        group.throughput(Throughput::Elements((size.n * size.n) as u64));
        for k in [10, 1000] {
            group.bench_function(format!("{}/top-{k}", size.name), |b| b.iter(|| lists(&rows, &labels, k)));
        }
        let options = KMeans::new(size.classes, 1);
        group.bench_function(format!("{}/k-means", size.name), |b| b.iter(|| kmeans(&rows, &options)));
    }
    group.finish();
}

fn bootstrap(c: &mut Criterion) {
    let values: Vec<f64> = (0..5000).map(|i| f64::from(i % 3 == 0)).collect();
    let classes: Vec<u32> = (0..5000).map(|i| i / 50).collect();
    c.bench_function("bootstrap/2000x5000-queries", |b| b.iter(|| mean(&values, Resampling::new(1))));
    c.bench_function("bootstrap/2000x100-classes", |b| b.iter(|| cluster_mean(&values, &classes, Resampling::new(1))));
}

/// One of our measurements, in a process of its own: prints seconds, processor seconds, peak of resident memory in MiB,
/// and the inertia.
#[allow(clippy::print_stdout, reason = "a bench talks to its user")]
fn measure(arguments: &[String]) {
    let [name, k, path, n, d] = arguments else { panic!("wanted NAME k file n d, got {arguments:?}") };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let (k, n, d) = (number(k), number(n), number(d));
    let bytes = std::fs::read(path).expect("the rows were written");
    let rows = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    drop(bytes);
    let rows = Embeddings::new([n, d], rows).expect("n rows of d");
    let size = [CUB, CARS, SOP].into_iter().find(|size| size.n == n).expect("one of the sizes");
    let labels: Vec<u32> = (0..n).map(|i| (i % size.classes) as u32).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build().expect("two threads");
    let (start, spent) = (Instant::now(), processor_seconds());
    if name == "k-means" {
        let found = pool.install(|| kmeans(&rows, &KMeans::new(k, 1))).expect("finite rows");
        let (wall, spent) = (start.elapsed().as_secs_f64(), processor_seconds() - spent);
        println!("{wall} {spent} {} {}", peak(), found.inertia);
        return;
    }
    let found = pool.install(|| lists(&rows, &labels, k));
    let (wall, spent) = (start.elapsed().as_secs_f64(), processor_seconds() - spent);
    println!("{wall} {spent} {} 1", peak());
    let flat: Vec<u8> = found.iter().flatten().flat_map(|i| i.to_le_bytes()).collect();
    std::fs::write(format!("{path}.{k}"), flat).expect("the temporary folder is writable");
}

fn numbers(line: &str) -> Vec<f64> {
    line.split_whitespace().map(|word| word.parse().expect("numbers")).collect()
}

fn ours(request: &str) -> Vec<f64> {
    let mut command = Command::new(std::env::current_exe().expect("this program exists"));
    let output = command.arg("--measure").args(request.split(' ')).output().expect("this program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    numbers(&String::from_utf8_lossy(&output.stdout))
}

/// Medians of the two times, largest peak, last number.
fn summary(runs: &[Vec<f64>]) -> [f64; 4] {
    let median = |of: usize| {
        let mut all: Vec<f64> = runs.iter().map(|run| run[of]).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let peak = runs.iter().map(|run| run[2]).fold(0.0, f64::max);
    [median(0), median(1), peak, runs[runs.len() - 1][3]]
}

#[allow(clippy::print_stdout, reason = "a bench talks to its user")]
fn compare(python: &OsStr, filter: &str) {
    let folder = sides::folder("neighbors");
    let mut peer = Peer::start(python, "neighbors.py", &[&THREADS.to_string()], &[]);
    println!("two threads each; {}; medians of {TURNS} in turns", peer.answer());
    println!("| work | mdprop s | peer s | times as fast | processor s | peer's | ratio | MiB | peer's | agreement |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for size in [CUB, CARS, SOP, SOP_512].into_iter().filter(|size| size.name.contains(filter)) {
        let path = folder.join(size.name);
        write_floats(&path, clustered(size.n, size.d, size.classes).0.as_slice());
        let path = path.to_str().expect("an ASCII path");
        let work = [("flat-l2", 10), ("flat-l2", 1000), ("cdist", 10), ("cdist", 1000), ("k-means", size.classes)];
        for (name, k) in work.into_iter().filter(|(name, _)| size.d == SOP.d || *name == "flat-l2") {
            let request = format!("{name} {k} {path} {} {}", size.n, size.d);
            let runs: Vec<[Vec<f64>; 2]> = (0..TURNS).map(|_| [ours(&request), numbers(&peer.ask(&request))]).collect();
            let side = |side: usize| summary(&runs.iter().map(|run| run[side].clone()).collect::<Vec<_>>());
            let (a, b) = (side(0), side(1));
            // Of k-means the ratio of the inertias.
            let agreement = if name == "k-means" { a[3] / b[3] } else { b[3] };
            println!(
                "| {} {name} {k} | {:.3} | {:.3} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {agreement:.6} |",
                size.name,
                a[0],
                b[0],
                b[0] / a[0],
                a[1],
                b[1],
                b[1] / a[1],
                a[2],
                b[2]
            );
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == "--measure") {
        measure(&arguments[1..]);
    } else if let Some(python) = std::env::var_os("MDPROP_PEER_PYTHON") {
        compare(&python, arguments.first().map_or("", String::as_str));
    } else {
        let mut criterion = Criterion::default().configure_from_args();
        neighbors(&mut criterion);
        bootstrap(&mut criterion);
        criterion.final_summary();
    }
}
