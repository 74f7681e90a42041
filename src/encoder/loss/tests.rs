//! Every loss head against central differences of the same loss written in Rust, in float64.

use std::sync::Arc;

use crate::batch::Embeddings;
use crate::encoder::loss::{Gallery, Loss};
use crate::onnx::attack_graph::{self, AttackGraphOptions};
use crate::onnx::fixtures::{little_resnet, uniform};
use crate::onnx::interpret::{self, Tensor};
use crate::onnx::loss_head::{GALLERY_MARKS, Reach};
use crate::onnx::{LossDistance, LossHead};

pub(crate) const BATCH: usize = 2;
pub(crate) const ITEMS: usize = 11;
const ROWS: usize = 6;

/// Head, targets per sample, weights, table, and what the loss must be for the test to test something.
pub(crate) type Case = (LossHead, usize, Vec<f32>, Vec<f32>);

pub(crate) fn cases() -> Vec<Case> {
    use LossDistance::{Cosine, Euclidean, SquaredEuclidean};
    use Reach::{Farthest, Nearest};
    let margin = |distance, other, items, clamped| LossHead::Margin { distance, other, items, clamped };
    // Labels 0 to 2; the second sample is gallery item 4.
    let own = vec![1.0, -1.0, 2.0, 4.0];
    vec![
        (LossHead::Weighted(Cosine), 2, vec![1.0, -0.5, 0.25, 0.7], vec![]),
        (LossHead::SoftMin, 3, vec![0.2, 0.3, 0.5, 0.4, 0.3, 0.3], vec![0.1, 0.7]),
        (margin(Euclidean, Nearest, 1, false), 0, vec![], own.clone()),
        (margin(SquaredEuclidean, Nearest, 1, false), 0, vec![], own.clone()),
        (margin(SquaredEuclidean, Nearest, 3, false), 0, vec![], own.clone()),
        (margin(Euclidean, Farthest, 1, true), 0, vec![], own.clone()),
        // More items than the class has.
        (margin(Euclidean, Nearest, 7, false), 0, vec![], own),
        (LossHead::GalleryHinge, 2, vec![0.5, 0.5, -0.5, -0.5], vec![]),
        (LossHead::FixedHinge, 2, vec![0.5, -0.5, 0.5, -0.5], uniform(31, BATCH * 2 * ROWS, 0.2, 2.5)),
    ]
}

fn options(head: LossHead, targets: usize) -> AttackGraphOptions {
    AttackGraphOptions {
        head,
        batch_size: Some(BATCH),
        targets_per_sample: Some(targets),
        gradient_output: true,
        straight_through: false,
    }
}

/// `‖a − b‖ / ‖b‖`.
fn relative_error(a: &[f64], b: &[f64]) -> f64 {
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    length(&mut a.iter().zip(b).map(|(x, y)| x - y)) / length(&mut b.iter().copied())
}

#[test]
fn the_gradient_of_every_head_is_that_of_the_loss_in_rust() {
    let model = little_resnet(12, 12);
    let d = attack_graph::signature(&model).unwrap().embedding_dim.unwrap();
    let rows = Embeddings::new([ITEMS, d], uniform(7, ITEMS * d, -0.8, 0.8)).unwrap();
    let gallery = Arc::new(Gallery::new(rows, (0..ITEMS as u32).map(|i| i % 3).collect()).unwrap());
    let output = model.graph.as_ref().unwrap().output[0].name.clone();
    for (head, t, weights, table) in cases() {
        let options = options(head, t);
        let graph = attack_graph::build(model.clone(), &options).unwrap();
        let targets = uniform(101, BATCH * t * d, -1.0, 1.0);
        let gallery = head.needs_gallery().then_some(&gallery);
        let loss = Loss { head, targets_per_sample: t, targets: &targets, weights: &weights, table: &table, gallery };
        loss.check(BATCH, d).unwrap();
        let x = Tensor::from_f32(&[BATCH, 3, 12, 12], &uniform(100, BATCH * 3 * 144, 0.05, 0.95));
        let mut inputs = vec![
            (graph.x.as_str(), x.clone()),
            (&graph.lower, x.map(|v| v - 0.01)),
            (&graph.upper, x.map(|v| v + 0.02)),
            (&graph.step_size, Tensor::zeros(&[BATCH, 3, 1, 1]).map(|_| 0.015)),
        ];
        if t > 0 {
            inputs.push((&graph.targets, Tensor::from_f32(&[BATCH, t, d], &targets)));
            inputs.push((&graph.weights, Tensor::from_f32(&[BATCH, t], &weights)));
        }
        let columns = table.len() / BATCH;
        let shape = if head == LossHead::FixedHinge { vec![BATCH, t, ROWS] } else { vec![BATCH, columns] };
        inputs.extend(graph.table.as_ref().map(|name| (name.as_str(), Tensor::from_f32(&shape, &table))));
        if let (Some([rows, marks]), Some(gallery)) = (&graph.gallery, gallery) {
            inputs.push((rows, Tensor::from_f32(&[ITEMS, d], gallery.embeddings().as_slice())));
            inputs.push((marks, Tensor::from_f32(&[GALLERY_MARKS, ITEMS], &gallery.marks())));
        }
        let values = interpret::run(&graph.model, &inputs).unwrap();
        let embedding = |x: &Tensor| interpret::run(&model, &[("image", x.clone())]).unwrap()[&output].clone();
        let losses = |e: &Tensor| -> Vec<f64> { (0..BATCH).map(|i| loss.value_at(i, &e.data[i * d..][..d])).collect() };
        let wanted = losses(&embedding(&x));
        assert!(wanted.iter().all(|v| *v != 0.0), "{head:?} does nothing here: {wanted:?}");
        // The marks hold norms in float32.
        assert!(relative_error(&values[&graph.loss].data, &wanted) < 1e-6, "{head:?}: {wanted:?}");
        let e = &values[&graph.embedding];
        let h = 1e-6;
        for i in 0..BATCH {
            let row = &e.data[i * d..][..d];
            let numeric: Vec<f64> = (0..d)
                .map(|k| {
                    let at = |step: f64| {
                        let mut moved = row.to_vec();
                        moved[k] += step;
                        loss.value_at(i, &moved)
                    };
                    (at(h) - at(-h)) / (2.0 * h)
                })
                .collect();
            let error = relative_error(&loss.gradient(i, row), &numeric);
            assert!(error < 1e-6, "{head:?}, sample {i}: the gradient in Rust is off by {error:e}");
        }
        let numeric: Vec<f64> = (0..x.data.len())
            .map(|i| {
                let at = |step: f64| {
                    let mut moved = x.clone();
                    moved.data[i] += step;
                    losses(&embedding(&moved)).iter().sum::<f64>()
                };
                (at(h) - at(-h)) / (2.0 * h)
            })
            .collect();
        let error = relative_error(&values[graph.gradient.as_ref().unwrap()].data, &numeric);
        assert!(error < 1e-5, "{head:?}: the graph's gradient is off by {error:e}");
    }
}

#[test]
fn a_margin_is_negative_exactly_when_the_nearest_item_is_of_another_class() {
    let rows = Embeddings::new([3, 1], vec![0.0, 1.0, 3.0]).unwrap();
    let gallery = Arc::new(Gallery::new(rows, vec![5, 6, 5]).unwrap());
    let head = LossHead::Margin { distance: LossDistance::Euclidean, other: Reach::Nearest, items: 1, clamped: false };
    let at = |e: f32, table: &[f32]| {
        let loss = Loss { head, targets_per_sample: 0, targets: &[], weights: &[], table, gallery: Some(&gallery) };
        loss.value(0, &[e])
    };
    // Label 5, no own image: item 0 at 0.25, item 1 (another class) at 0.75.
    approx::assert_relative_eq!(at(0.25, &[5.0, -1.0]), 0.5);
    // Item 0 is the image itself: the next of its class is item 2.
    approx::assert_relative_eq!(at(0.25, &[5.0, 0.0]), 0.75 - 2.75);
    approx::assert_relative_eq!(at(0.75, &[5.0, -1.0]), -0.5);
    // Nobody of the class: only the pull is left.
    approx::assert_relative_eq!(at(0.25, &[9.0, -1.0]), 0.25);
}
