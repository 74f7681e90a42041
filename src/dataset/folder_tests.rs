use image::RgbImage;

use super::super::open as opening;
use super::*;
use crate::progress::{Cancel, Silent};
use crate::suite::dataset::{DatasetSpec, ResizeRule};

/// Three classes of 3, 2 and 1 small pictures in different formats.
fn toy() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (class, files) in [("a", &["1.png", "2.jpg", "sub/3.bmp"][..]), ("b", &["1.png", "2.tiff"]), ("c", &["1.gif"])]
    {
        for (i, file) in files.iter().enumerate() {
            let path = root.path().join("toys").join(class).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let shade = 40 * i as u8 + class.as_bytes()[0];
            RgbImage::from_fn(12, 8, |x, y| image::Rgb([shade, 10 * x as u8, 10 * y as u8])).save(path).unwrap();
        }
    }
    std::fs::write(root.path().join("toys/a/notes.txt"), "no picture").unwrap();
    std::fs::write(root.path().join("toys/a/.hidden.png"), "no picture").unwrap();
    root
}

fn spec(root: &Path, split: SplitRule, skip_corrupt: bool) -> DatasetSpec {
    let (path, resize) = (root.join("toys"), ResizeRule::Squash);
    DatasetSpec::Folder { path, image_size: 8, resize, split, validation: 0.0, skip_corrupt }
}

fn load(root: &Path, split: SplitRule, skip: bool) -> Result<super::super::ImageSet, DatasetError> {
    opening::open(&spec(root, split, skip), &root.join("data"), &Silent, &Cancel::default())
}

#[test]
fn folders_are_classes_and_a_lone_image_stays() {
    let root = toy();
    let set = load(root.path(), SplitRule::FirstHalf, false).unwrap();
    assert_eq!(set.id, "toys");
    assert_eq!(set.classes, ["a", "b", "c"]);
    assert_eq!(set.labels, [0, 0, 0, 1, 1, 2]);
    assert_eq!(set.sources[2], "a/sub/3.bmp");
    assert_eq!((set.split.train.as_slice(), set.split.test.as_slice()), (&[0, 1, 2][..], &[3, 4, 5][..]));
    let report = opening::verify(
        &spec(root.path(), SplitRule::FirstHalf, false),
        &root.path().join("data"),
        &Silent,
        &Cancel::default(),
    );
    let report = report.unwrap();
    assert_eq!((report.lone_classes, report.images, report.problems.len()), (1, 6, 0));
}

#[test]
fn a_corrupt_picture_is_named_or_skipped_with_a_count() {
    let root = toy();
    let bad = root.path().join("toys/b/2.tiff");
    let whole = std::fs::read(&bad).unwrap();
    std::fs::write(&bad, &whole[..whole.len() / 2]).unwrap();
    let error = load(root.path(), SplitRule::FirstHalf, false).unwrap_err().to_string();
    assert!(error.contains("2.tiff") && error.contains("skip_corrupt"), "{error}");
    assert_eq!(load(root.path(), SplitRule::FirstHalf, true).unwrap().labels, [0, 0, 0, 1, 2]);
    std::fs::write(root.path().join("toys/b/1.png"), b"").unwrap();
    let set = load(root.path(), SplitRule::FirstHalf, true).unwrap();
    assert_eq!((set.classes, set.labels), (vec!["a".to_string(), "c".into()], vec![0, 0, 0, 1]));
}

#[test]
fn the_cache_follows_the_content() {
    let root = toy();
    let before = load(root.path(), SplitRule::FirstHalf, false).unwrap();
    let again = load(root.path(), SplitRule::FirstHalf, false).unwrap();
    assert_eq!(before.digest, again.digest);
    RgbImage::from_pixel(12, 8, image::Rgb([1, 2, 3])).save(root.path().join("toys/c/1.png")).unwrap();
    let after = load(root.path(), SplitRule::FirstHalf, false).unwrap();
    assert_ne!(before.digest, after.digest);
    assert_eq!(after.len(), 7);
}

#[test]
fn a_list_decides_the_test_classes() {
    let root = toy();
    let list = root.path().join("test.txt");
    std::fs::write(&list, "# held out\na\n\n").unwrap();
    let set = load(root.path(), SplitRule::List { test: list.clone() }, false).unwrap();
    assert_eq!(set.split.test, [0, 1, 2]);
    std::fs::write(&list, "a\nzebra\n").unwrap();
    let error = load(root.path(), SplitRule::List { test: list }, false).unwrap_err().to_string();
    assert!(error.contains("`zebra`"), "{error}");
}

#[test]
fn an_absent_folder_and_an_empty_class_are_named() {
    let root = toy();
    std::fs::create_dir(root.path().join("toys/d")).unwrap();
    let error = load(root.path(), SplitRule::FirstHalf, false).unwrap_err().to_string();
    assert!(error.contains("toys/d") && error.contains("no picture"), "{error}");
    let gone = spec(&root.path().join("nowhere"), SplitRule::FirstHalf, false);
    let error = opening::open(&gone, root.path(), &Silent, &Cancel::default()).unwrap_err().to_string();
    assert!(error.contains("nowhere"), "{error}");
}
