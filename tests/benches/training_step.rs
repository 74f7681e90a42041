//! One training step of the demo's convnet, clean and MDProp. The PyTorch peer is `peers/training_step.py`.
//!
//! `MDPROP_BENCH_THREADS` sets libtorch's threads (2 if unset).

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mdprop::network::build;
use mdprop::rng::stream;
use mdprop::suite::recipe::Recipe;
use mdprop::train::model::Model;
use mdprop::train::step::Trainer;
use tch::{Device, Kind, Tensor};

const BATCH: usize = 128;
const SIZE: usize = 32;

fn trainer(method: &str) -> Result<Trainer, Box<dyn std::error::Error>> {
    let recipe: Recipe = toml::from_str(&format!(
        r#"
        schema = 1
        about = "bench"
        embedding_dim = 128
        epochs = 1
        batch_size = {BATCH}
        per_class = 4
        seeds = [0]
        augmentation.none = {{}}
        loss.multi-similarity = {{}}
        backbone.convnet = {{ widths = [32, 64, 128, 256] }}
        attack = {{ epsilon = {{ normalized = 0.1 }}, steps = 1 }}
        optimizer = {{ learning_rate = 1e-3, weight_decay = 4e-4 }}
        method.{method}
        "#
    ))?;
    let network = build(&recipe.backbone, recipe.embedding_dim, recipe.method.auxiliary_branches())?;
    let labels: Vec<u32> = (0..BATCH as u32 / 4).collect();
    Ok(Trainer::new(&recipe, Model::new(&network, 0, Device::Cpu)?, &labels, 0)?)
}

fn training_step(criterion: &mut Criterion) {
    let threads = std::env::var("MDPROP_BENCH_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    tch::set_num_threads(threads);
    tch::manual_seed(0);
    let pixels = Tensor::rand([BATCH as i64, 3, SIZE as i64, SIZE as i64], (Kind::Float, Device::Cpu));
    let labels: Vec<u32> = (0..BATCH as u32).map(|i| i / 4).collect();
    let mut group = criterion.benchmark_group("training_step");
    group.sample_size(20).warm_up_time(Duration::from_secs(2)).measurement_time(Duration::from_secs(8));
    for (name, method) in [
        ("standard", "standard = {}"),
        ("adversarial", "adversarial = {}"),
        ("mdprop", "mdprop = { branches = [{ targets = 1 }, { targets = 5 }] }"),
    ] {
        let mut trainer = trainer(method).expect("the bench's recipe is valid");
        let mut step = 0;
        group.bench_function(BenchmarkId::new(name, format!("batch {BATCH}, {SIZE} px, {threads} threads")), |bench| {
            bench.iter(|| {
                step += 1;
                // Drawing targets and noise is part of a step here as it is in the peer.
                let draws = trainer.draw(0, (0, step), &labels, 3 * SIZE * SIZE);
                let mut random = stream(0, "bench", &[step as u64]);
                trainer.step(&pixels, &labels, &draws, 1e-3, &mut random).expect("the step fits in memory")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, training_step);
criterion_main!(benches);
