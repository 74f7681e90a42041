//! Small recipes and image sets for the tests of this folder.

use std::sync::Arc;

use crate::dataset::{ImageSet, Pixels, Split};
use crate::digest::Digest;
use crate::rng;
use crate::suite::recipe::Recipe;

/// A tiny convnet's recipe with this method (a line of TOML inside `[method]`).
pub fn recipe(method: &str) -> Recipe {
    let text = format!(
        r#"
        schema = 1
        about = "test"
        embedding_dim = 8
        epochs = 3
        batch_size = 8
        per_class = 2
        seeds = [1]
        augmentation.none = {{}}
        loss.multi-similarity = {{}}
        backbone.convnet = {{ widths = [4, 8] }}
        attack = {{ epsilon = {{ normalized = 0.1 }}, steps = 1 }}
        optimizer = {{ learning_rate = 1e-2, weight_decay = 4e-4, schedule.one-cycle = {{}} }}
        method.{method}
        "#
    );
    toml::from_str(&text).unwrap()
}

/// Twelve classes of six 8×8 images: a colour and a bright corner per class, with noise.
pub fn image_set() -> ImageSet {
    let (size, classes, each) = (8usize, 12u32, 6u32);
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for image in 0..classes * each {
        let class = image / each;
        labels.push(class);
        let mut noise = rng::stream(9, "test-image", &[u64::from(image)]);
        for i in 0..3 * size * size {
            let (channel, y, x) = (i / (size * size), i / size % size, i % size);
            let tone = 40 * u64::from((class >> channel) & 1) + 60;
            let corner = usize::from(class % 4 < 2) * 4 <= y && usize::from(class % 2 == 0) * 4 <= x;
            pixels.push((tone + 60 * u64::from(corner) + rng::below(&mut noise, 60)) as u8);
        }
    }
    let of = |from: u32, to: u32| (0..labels.len()).filter(|&i| (from..to).contains(&labels[i])).collect();
    let split = Split { train: of(0, 6), validation: of(6, 9), test: of(9, 12), ..Split::default() };
    ImageSet {
        id: "test".into(),
        originals: crate::dataset::Originals::default(),
        size,
        digest: Digest::of_bytes(&pixels),
        pixels: Pixels::Owned(Arc::new(pixels)),
        classes: (0..classes).map(|c| format!("class {c}")).collect(),
        sources: (0..labels.len()).map(|i| format!("image {i}")).collect(),
        labels,
        split,
    }
}
