//! Choosing the epoch: recall@1 on images of classes that training does not see.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::TrainError;
use super::job::to_tensor;
use super::model::{Model, Pass};
use crate::batch::Embeddings;
use crate::dataset::ImageSet;
use crate::metric::neighbors::{Depth, Distance, NeighborError, Search, visit_lists};
use crate::suite::attack::Branch;
use crate::suite::recipe::Selection;

/// Images embedded at once.
const BATCH: usize = 256;

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
        let embeddings = Tensor::f_cat(&rows, 0)?.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?;
        let shape = [images.len(), embeddings.size()[1] as usize];
        let values = Vec::try_from(&embeddings.f_flatten(0, -1)?)?;
        let embeddings = Embeddings::new(shape, values).expect("one row for each image");
        Ok(hits(&embeddings, &set.labels_of(images))? as f64 / images.len() as f64)
    })
}

/// Number of rows whose nearest other row has their label, ties counted against the model.
fn hits(embeddings: &Embeddings, labels: &[u32]) -> Result<usize, NeighborError> {
    let own: Vec<Option<usize>> = (0..labels.len()).map(Some).collect();
    let search = Search {
        queries: embeddings,
        query_labels: labels,
        gallery: embeddings,
        gallery_labels: labels,
        excluded: &own,
        depth: Depth::Fixed(1),
        distance: Distance::Cosine,
    };
    let hits = visit_lists(&search, |list| list.hits == [true])?;
    Ok(hits.into_iter().filter(|hit| *hit).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    #[test]
    fn hits_match_a_naive_search_by_cosine() {
        let (n, d) = (700, 4);
        let mut rng = rng::stream(3, "test", &[]);
        let values: Vec<f32> = (0..n * d).map(|_| rng::normal(&mut rng)).collect();
        let labels: Vec<u32> = (0..n).map(|_| rng::below(&mut rng, 9) as u32).collect();
        let row = |i: usize| &values[i * d..(i + 1) * d];
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let cosine = |i: usize, j: usize| dot(row(i), row(j)) / (dot(row(i), row(i)) * dot(row(j), row(j))).sqrt();
        let naive = (0..n)
            .filter(|&i| {
                let others = (0..n).filter(|&j| j != i);
                let nearest = others.max_by(|&a, &b| cosine(i, a).total_cmp(&cosine(i, b))).unwrap();
                labels[nearest] == labels[i]
            })
            .count();
        let embeddings = Embeddings::new([n, d], values.clone()).unwrap();
        assert_eq!(hits(&embeddings, &labels).unwrap(), naive);
    }
}
