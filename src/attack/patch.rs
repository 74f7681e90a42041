//! A square of pixels that may become anything, for each image its own.

use super::AttackError;
use super::goal::Objective;
use super::losses::LossPath;
use super::pgd::Crafted;
use crate::batch::{Embeddings, Images};
use crate::encoder::Encoder;
use crate::progress::Cancel;
use crate::rng;
use crate::suite::attack::{Patch, PatchPlace};

/// One grey level: no step is shorter.
const GREY_LEVEL: f32 = 1.0 / 255.0;

/// The pixels that a patch covers: side, row and column of its upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Square {
    side: usize,
    row: usize,
    column: usize,
}

impl Square {
    /// Where the patch of this image lies. Drawn by (seed, attack, image), so the same for every model.
    fn of(patch: &Patch, [h, w]: [usize; 2], (seed, attack): (u64, &str), image: usize) -> Self {
        let shorter = h.min(w);
        let side = ((shorter as f64 * patch.size).round() as usize).clamp(1, shorter);
        let (free_rows, free_columns) = (h - side, w - side);
        let (row, column) = match patch.place {
            PatchPlace::Centre => (free_rows / 2, free_columns / 2),
            PatchPlace::At([y, x]) => ((y * h as f64) as usize, (x * w as f64) as usize),
            PatchPlace::Random => {
                let mut stream = rng::stream(seed, &format!("patch/{attack}"), &[image as u64]);
                let mut below = |free: usize| rng::below(&mut stream, free as u64 + 1) as usize;
                (below(free_rows), below(free_columns))
            }
        };
        Self { side, row: row.min(free_rows), column: column.min(free_columns) }
    }

    fn covers(&self, row: usize, column: usize) -> bool {
        let within = |at: usize, from: usize| (from..from + self.side).contains(&at);
        within(row, self.row) && within(column, self.column)
    }
}

/// Searches by signed gradient steps inside the patch, from uniform noise in it (an untargeted loss is flat at the clean
/// image); keeps, per image, the iterate with the lowest loss. Also tells how many values outside the patches moved, which
/// must be none.
///
/// # Shapes
/// `clean`: `[n, c, h, w]`; `images`: `[n]`, data-set indices.
/// # Errors
/// [`AttackError::Loss`] names the image whose loss is not finite; the encoder's errors, a stop by the user.
pub fn craft(
    encoder: &mut dyn Encoder,
    patch: &Patch,
    clean: &Images,
    objective: &Objective,
    (seed, attack, images): (u64, &str, &[usize]),
    cancel: &Cancel,
) -> Result<(Crafted, usize), AttackError> {
    let [n, c, h, w] = clean.shape();
    let squares: Vec<Square> = images.iter().map(|&image| Square::of(patch, [h, w], (seed, attack), image)).collect();
    let (mut start, mut lower, mut upper) = (clean.clone(), clean.clone(), clean.clone());
    for (i, square) in squares.iter().enumerate() {
        let mut stream = rng::stream(seed, &format!("patch-start/{attack}"), &[images[i] as u64]);
        for at in (0..c * h * w).filter(|at| square.covers(at / w % h, at % w)) {
            start.image_mut(i)[at] = rng::unit(&mut stream);
            lower.image_mut(i)[at] = 0.0;
            upper.image_mut(i)[at] = 1.0;
        }
    }
    let length = patch.step_size.as_ref().map_or(2.5 / patch.steps as f32, |step| step.value() as f32);
    let step_size = vec![length.clamp(GREY_LEVEL, 1.0); n * c];
    let mut best: Option<(Vec<f32>, Vec<f32>, Vec<f32>)> = None;
    let mut adversarial = start.clone();
    let mut dim = 0;
    let mut paths = vec![LossPath::default(); n];
    {
        let mut run = encoder.descend(&objective.descent(&start, &lower, &upper))?;
        for step in 0..=patch.steps {
            cancel.check()?;
            let found = if step < patch.steps { run.step(&step_size)? } else { run.evaluate()? };
            if let Some(i) = found.loss.iter().position(|loss| !loss.is_finite()) {
                return Err(AttackError::Loss { image: images[i], step, loss: found.loss[i] });
            }
            dim = found.embeddings.dim();
            paths.iter_mut().zip(&found.loss).for_each(|(path, loss)| path.push(*loss));
            let Some((_, loss, embeddings)) = &mut best else {
                best = Some((found.loss.clone(), found.loss, found.embeddings.as_slice().to_vec()));
                continue;
            };
            for i in (0..n).filter(|&i| found.loss[i] < loss[i]).collect::<Vec<_>>() {
                loss[i] = found.loss[i];
                embeddings[i * dim..(i + 1) * dim].copy_from_slice(found.embeddings.row(i));
                run.copy_evaluated(i, adversarial.image_mut(i));
            }
        }
    }
    let outside = squares.iter().enumerate().map(|(i, square)| {
        let moved = |at: &usize| adversarial.image(i)[*at] != clean.image(i)[*at];
        (0..c * h * w).filter(|at| !square.covers(at / w % h, at % w)).filter(moved).count()
    });
    let outside = outside.sum();
    let (start_loss, loss, embeddings) = best.unwrap_or_default();
    let embeddings = Embeddings::new([n, dim], embeddings).expect("one row for each image");
    Ok((Crafted { adversarial, embeddings, start_loss, loss, paths, penultimate: None }, outside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::fake::LinearEncoder;
    use crate::suite::attack::Goal;

    fn patch(size: f64, place: PatchPlace) -> Patch {
        Patch { size, place, steps: 60, step_size: None }
    }

    #[test]
    fn a_patch_reaches_the_optimum_of_a_linear_model_and_touches_nothing_else() {
        // One output w · x and a target far above: inside the patch every pixel goes to the bound of its weight's sign.
        let weight: Vec<f32> = (0..2 * 36).map(|i| if i % 3 == 0 { -1.0 } else { 0.5 }).collect();
        let mut encoder = LinearEncoder::new([2, 6, 6], weight.clone(), false).unwrap();
        let clean = Images::new([2, 2, 6, 6], vec![0.5; 144]).unwrap();
        let objective = Objective::new(&Goal::SingleTarget {}, 2, vec![1000.0; 2]);
        let spec = patch(0.5, PatchPlace::Random);
        let named = (3, "a", &[7usize, 8][..]);
        let (crafted, outside) = craft(&mut encoder, &spec, &clean, &objective, named, &Cancel::default()).unwrap();
        assert_eq!(outside, 0);
        for (i, image) in [7, 8].into_iter().enumerate() {
            let square = Square::of(&spec, [6, 6], (3, "a"), image);
            assert_eq!(square.side, 3);
            for (at, weight) in weight.iter().enumerate().take(72) {
                let wanted = match (square.covers(at / 6 % 6, at % 6), *weight > 0.0) {
                    (false, _) => 0.5,
                    (true, up) => f32::from(u8::from(up)),
                };
                assert_eq!(crafted.adversarial.image(i)[at], wanted, "image {image}, value {at}");
            }
        }
        assert!(crafted.loss.iter().zip(&crafted.start_loss).all(|(end, start)| end < start));
    }

    #[test]
    fn places_are_inside_fixed_or_drawn_by_name() {
        let at = |place, image| Square::of(&patch(0.25, place), [8, 8], (1, "a"), image);
        assert_eq!(at(PatchPlace::Centre, 0), Square { side: 2, row: 3, column: 3 });
        assert_eq!(at(PatchPlace::At([1.0, 0.0]), 0), Square { side: 2, row: 6, column: 0 });
        assert_eq!(at(PatchPlace::Random, 4), at(PatchPlace::Random, 4));
        let drawn: std::collections::BTreeSet<usize> = (0..200).map(|i| at(PatchPlace::Random, i).row).collect();
        assert_eq!(drawn, (0..=6).collect());
        assert_eq!(Square::of(&patch(1.0, PatchPlace::Random), [8, 8], (1, "a"), 0).row, 0);
    }
}
