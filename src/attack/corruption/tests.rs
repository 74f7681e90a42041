//! Corruptions against other libraries, and what all of them promise.

use super::*;

#[derive(serde::Deserialize)]
struct Expected {
    side: usize,
    severity: u8,
    picture: Vec<u8>,
    results: std::collections::BTreeMap<Corruption, Vec<f32>>,
}

/// Made by `tests/data/corruptions/make.py` with scipy, numpy and colorsys.
#[test]
fn corruptions_without_chance_are_what_other_libraries_compute() {
    let expected: Expected =
        serde_json::from_str(include_str!("../../../tests/data/corruptions/expected.json")).unwrap();
    let data = expected.picture.iter().map(|&b| f32::from(b) / 255.0).collect();
    let picture = Images::new([1, 3, expected.side, expected.side], data).unwrap();
    for (family, wanted) in expected.results {
        let found = corrupt(&picture, family, expected.severity, 1, &[0]);
        let worst = found.as_slice().iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Ours is rounded to 8 bits.
        assert!(worst < 0.5 / 255.0 + 1e-4, "{family}: {worst}");
    }
}

/// A smooth pattern with a few edges, one per index.
fn pictures(side: usize, n: usize) -> Images {
    let value = |i: usize, c: usize, y: usize, x: usize| {
        let wave =
            ((x as f32 / side as f32 * 9.0 + i as f32).sin() + (y as f32 / side as f32 * 7.0 + c as f32).cos()) / 4.0;
        let block = if (x * 4 / side + y * 4 / side + i).is_multiple_of(3) { 0.15 } else { -0.1 };
        (0.5 + wave * 0.8 + block).clamp(0.0, 1.0)
    };
    let mut data = Vec::new();
    for i in 0..n {
        for c in 0..3 {
            (0..side * side).for_each(|at| data.push(value(i, c, at / side, at % side)));
        }
    }
    Images::new([n, 3, side, side], data).unwrap()
}

fn change(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from((x - y).abs())).sum::<f64>() / a.len() as f64
}

#[test]
fn damage_grows_with_severity_where_it_is_measured_in_pixels() {
    // Saturation goes both ways, bends are measured in shape, not in pixels, ice is laid over a picture that darkens, what
    // glass shuffles as often as before it blurs ever more, and spatter is water first and mud later.
    let other = [
        Corruption::Saturate,
        Corruption::Elastic,
        Corruption::Snow,
        Corruption::Frost,
        Corruption::GlassBlur,
        Corruption::Spatter,
    ];
    for side in [24, 64, 112] {
        let clean = pictures(side, 4);
        // On a small picture the few blocks of a coarser grid may fall beside its edges by luck.
        let lucky = |family: Corruption| family == Corruption::Pixelate && side < 64;
        for family in Corruption::ALL.iter().filter(|family| !other.contains(family) && !lucky(**family)) {
            let of =
                |severity| change(clean.as_slice(), corrupt(&clean, *family, severity, 1, &[0, 1, 2, 3]).as_slice());
            let (one, three, five) = (of(1), of(3), of(5));
            assert!(0.0005 < one && one < three && three < five, "{family} at {side}: {one} {three} {five}");
        }
    }
}

#[test]
fn every_corruption_is_named_by_the_image_and_stays_in_range_as_bytes() {
    let clean = pictures(24, 3);
    for family in Corruption::ALL {
        for severity in 1..=5 {
            let all = corrupt(&clean, *family, severity, 9, &[7, 8, 9]);
            for x in all.as_slice() {
                assert!((0.0..=1.0).contains(x) && ((x * 255.0) - (x * 255.0).round()).abs() < 1e-4, "{family}: {x}");
            }
            let one = Images::new([1, 3, 24, 24], clean.image(1).to_vec()).unwrap();
            assert_eq!(corrupt(&one, *family, severity, 9, &[8]).image(0), all.image(1), "{family}");
        }
    }
    let noise = |seed, image| corrupt(&pictures(24, 1), Corruption::Frost, 3, seed, &[image]);
    assert_ne!(noise(9, 7), noise(10, 7));
    assert_ne!(noise(9, 7), noise(9, 8));
}
