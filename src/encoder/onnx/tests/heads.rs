//! Every loss head in ONNX Runtime against the same loss in Rust.

use std::sync::Arc;

use super::opening::KEPT_HEADS;
use super::*;
use crate::encoder::Gallery;
use crate::encoder::loss::tests::{BATCH, ITEMS, cases};

#[test]
fn the_runtime_tells_the_loss_of_every_head_and_lowers_it() {
    let mut encoder = encoder(little_resnet(12, 12), 1, 2);
    let d = encoder.spec().embedding_dim;
    let rows = Embeddings::new([ITEMS, d], uniform(7, ITEMS * d, -0.8, 0.8)).unwrap();
    let gallery = Arc::new(Gallery::new(rows, (0..ITEMS as u32).map(|i| i % 3).collect()).unwrap());
    let start = Start::new(BATCH, 12);
    for (head, t, weights, table) in cases() {
        let targets = uniform(101, BATCH * t * d, -1.0, 1.0);
        let gallery = head.needs_gallery().then_some(&gallery);
        let loss = Loss { head, targets_per_sample: t, targets: &targets, weights: &weights, table: &table, gallery };
        let descent = Descent { loss, start: &start.x, lower: &start.lower, upper: &start.upper };
        let alone = encoder.gradient(&descent).unwrap();
        let mut running = encoder.descend(&descent).unwrap();
        let mut told: Vec<Vec<f32>> = vec![];
        for step in 0..6 {
            let found = if step < 5 { running.step(&[0.01; 3 * BATCH]).unwrap() } else { running.evaluate().unwrap() };
            for i in 0..BATCH {
                let again = loss.value(i, found.embeddings.row(i));
                let difference = (f64::from(found.loss[i]) - again).abs();
                assert!(difference < 1e-5 * again.abs().max(1.0), "{head:?}: {} against {again}", found.loss[i]);
            }
            told.push(found.loss);
        }
        assert!(alone.evaluation.loss.iter().zip(&told[0]).all(|(a, b)| (a - b).abs() < 1e-5), "{head:?}");
        let lowest = |i: usize| told.iter().map(|losses| losses[i]).fold(f32::INFINITY, f32::min);
        assert!((0..BATCH).all(|i| lowest(i) < told[0][i]), "{head:?}: {told:?}");
        // A sample put into another's place goes its way there.
        let [c, columns] = [start.x.stride(), table.len() / BATCH];
        let sample = crate::encoder::Sample {
            start: &start.x.as_slice()[..c],
            lower: &start.lower.as_slice()[..c],
            upper: &start.upper.as_slice()[..c],
            targets: &targets[..t * d],
            weights: &weights[..t],
            table: &table[..columns],
        };
        running.replace(1, &sample).unwrap();
        let found = running.step(&[0.01; 3 * BATCH]).unwrap();
        assert!((found.loss[1] - told[0][0]).abs() < 1e-5 * told[0][0].abs().max(1.0), "{head:?}");
    }
    assert_eq!(encoder.attacks.keys().filter(|(_, pass)| *pass == Pass::Step).count(), KEPT_HEADS);
}

#[test]
fn a_loss_without_what_it_needs_is_refused() {
    let mut encoder = encoder(little_resnet(12, 12), 1, 1);
    let start = Start::new(1, 12);
    let refused = |encoder: &mut OnnxEncoder, loss: Loss<'_>| {
        let descent = Descent { loss, start: &start.x, lower: &start.lower, upper: &start.upper };
        match encoder.descend(&descent) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("no error"),
        }
    };
    let target = vec![0.0; encoder.spec().embedding_dim];
    let hinge = Loss { head: LossHead::GalleryHinge, ..Loss::weighted(Distance::Euclidean, 1, &target, &[1.0]) };
    let text = refused(&mut encoder, hinge);
    assert!(text.contains("gallery entries"), "{text}");
    let soft = Loss { head: LossHead::SoftMin, ..hinge };
    let text = refused(&mut encoder, soft);
    assert!(text.contains("table of the loss: got shape [0], wanted [1, 1]"), "{text}");
}
