//! Choosing the epoch: recall@1 on images of classes that training does not see.

use std::collections::HashMap;

use tch::{Kind, Tensor};

use super::TrainError;
use super::job::to_tensor;
use super::model::{Model, Pass};
use crate::dataset::ImageSet;
use crate::suite::attack::Branch;
use crate::suite::recipe::Selection;

/// Images embedded at once.
const BATCH: usize = 256;
/// Queries compared with the whole gallery at once: bounds the similarity matrix.
const QUERIES: usize = 1024;

/// The images to choose on.
///
/// # Errors
/// [`TrainError::NoSelectionImages`] if none of them has a partner of its class.
pub(super) fn images(set: &ImageSet, selection: Selection) -> Result<Vec<usize>, TrainError> {
    let (images, split) = match selection {
        Selection::Last => return Ok(vec![]),
        Selection::Validation => (&set.split.validation, "validation"),
        Selection::Test => (&set.split.test, "test"),
    };
    let mut sizes: HashMap<u32, usize> = HashMap::new();
    for &image in images {
        *sizes.entry(set.labels[image]).or_default() += 1;
    }
    if sizes.values().all(|&size| size < 2) {
        return Err(TrainError::NoSelectionImages { dataset: set.id.clone(), split });
    }
    Ok(images.clone())
}

/// Share of `images` whose nearest other image, by cosine through the main branch, is of their class.
pub(super) fn recall_at_1(model: &Model, set: &ImageSet, images: &[usize]) -> Result<f64, TrainError> {
    tch::no_grad(|| {
        let mut rows = Vec::new();
        for batch in images.chunks(BATCH) {
            let pixels = to_tensor(&set.images(batch), model.device())?;
            rows.push(model.try_forward(&model.normalize(&pixels), Pass::Eval(Branch::Main))?);
        }
        let embeddings = Tensor::f_cat(&rows, 0)?;
        let labels: Vec<i64> = set.labels_of(images).into_iter().map(i64::from).collect();
        Ok(hits(&embeddings, &Tensor::from_slice(&labels).to_device(model.device())) / images.len() as f64)
    })
}

/// Number of rows whose nearest other row has their label.
fn hits(embeddings: &Tensor, labels: &Tensor) -> f64 {
    let n = embeddings.size()[0];
    let mut hits = 0.0;
    for start in (0..n).step_by(QUERIES) {
        let count = (n - start).min(QUERIES as i64);
        let similarity = embeddings.narrow(0, start, count).matmul(&embeddings.tr());
        // Row i is query start + i: that entry is the query itself, on a shifted diagonal.
        let _ = similarity.narrow(1, start, count).fill_diagonal_(f64::NEG_INFINITY, false);
        let nearest = similarity.argmax(1, false);
        let same = labels.index_select(0, &nearest).eq_tensor(&labels.narrow(0, start, count));
        hits += same.sum(Kind::Double).double_value(&[]);
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    #[test]
    fn hits_match_a_naive_search_over_several_blocks() {
        let (n, d) = (QUERIES + 300, 4);
        let mut rng = rng::stream(3, "test", &[]);
        let values: Vec<f32> = (0..n * d).map(|_| rng::normal(&mut rng)).collect();
        let labels: Vec<i64> = (0..n).map(|_| rng::below(&mut rng, 9) as i64).collect();
        let row = |i: usize| &values[i * d..(i + 1) * d];
        let dot = |i: usize, j: usize| -> f32 { row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum() };
        let naive = (0..n)
            .filter(|&i| {
                let nearest = (0..n).filter(|&j| j != i).max_by(|&a, &b| dot(i, a).total_cmp(&dot(i, b))).unwrap();
                labels[nearest] == labels[i]
            })
            .count();
        let embeddings = Tensor::from_slice(&values).reshape([n as i64, d as i64]);
        assert_eq!(hits(&embeddings, &Tensor::from_slice(&labels)), naive as f64);
    }
}
