use std::path::{Path, PathBuf};

use image::RgbImage;

use super::mat;
use crate::dataset::{DatasetError, ImageSet, open as opening};
use crate::progress::{Cancel, Observer, Silent};
use crate::record::columns::{Columns, Values};
use crate::record::frames::table_to_parquet;
use crate::suite::dataset::{DatasetSpec, PictureSpec, RegionRule, ResizeRule, SplitRule};

/// A picture whose colour says its column and row.
fn picture(path: PathBuf) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_fn(12, 9, |x, y| image::Rgb([20 * x as u8, 25 * y as u8, 7])).save(path).unwrap();
}

fn text(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn spec(path: &Path) -> PictureSpec {
    PictureSpec {
        path: path.to_path_buf(),
        image_size: 8,
        resize: ResizeRule::Squash,
        region: RegionRule::Whole,
        split: None,
        validation: 0.0,
        train_share: 1.0,
        skip_corrupt: false,
    }
}

fn load(spec: &DatasetSpec) -> Result<ImageSet, DatasetError> {
    let data = tempfile::tempdir().unwrap();
    opening::open(spec, data.path(), &Silent, &Cancel::default())
}

fn fails(spec: &DatasetSpec) -> String {
    load(spec).unwrap_err().to_string()
}

/// Two training and two test classes; images have ids 1 to 5.
fn cub() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let top = root.path().join("CUB_200_2011");
    let names = ["001.Auk/a.jpg", "001.Auk/b.jpg", "100.Jay/c.jpg", "101.Tit/d.jpg", "200.Wren/e.jpg"];
    names.iter().for_each(|name| picture(top.join("images").join(name)));
    let images: Vec<String> = names.iter().enumerate().map(|(i, name)| format!("{} {name}", i + 1)).collect();
    text(&top, "images.txt", &images.join("\n"));
    text(&top, "classes.txt", "1 001.Auk\n100 100.Jay\n101 101.Tit\n200 200.Wren\n");
    text(&top, "image_class_labels.txt", "1 1\n2 1\n3 100\n4 101\n5 200\n");
    let boxes: Vec<String> = (1..=5).map(|id| format!("{id} 4.0 3.0 6.0 {id}.0")).collect();
    text(&top, "bounding_boxes.txt", &boxes.join("\n"));
    root
}

#[test]
fn cub_splits_by_class_id_and_cuts_boxes() {
    let root = cub();
    let whole = load(&DatasetSpec::Cub200(spec(root.path()))).unwrap();
    assert_eq!((whole.id.as_str(), whole.labels.as_slice()), ("cub200", &[0, 0, 1, 2, 3][..]));
    assert_eq!((whole.split.train.as_slice(), whole.split.test.as_slice()), (&[0, 1, 2][..], &[3, 4][..]));
    let boxed = load(&DatasetSpec::Cub200(PictureSpec { region: RegionRule::Box, ..spec(root.path()) })).unwrap();
    // Red grows with the column: the box begins at column 4 (80) and ends at column 9 (180).
    assert!(whole.bytes(0)[0] < 30 && whole.bytes(0)[7] > 200);
    assert!((70..100).contains(&boxed.bytes(0)[0]) && (160..190).contains(&boxed.bytes(0)[7]));
    assert_ne!(whole.digest, boxed.digest);
}

#[test]
fn cub_from_class_folders_is_the_same_data() {
    let root = cub();
    let lists = load(&DatasetSpec::Cub200(spec(root.path()))).unwrap();
    std::fs::remove_file(root.path().join("CUB_200_2011/images.txt")).unwrap();
    let folders = load(&DatasetSpec::Cub200(spec(root.path()))).unwrap();
    assert_eq!((lists.labels, lists.split, lists.classes), (folders.labels, folders.split, folders.classes));
    let boxed = DatasetSpec::Cub200(PictureSpec { region: RegionRule::Box, ..spec(root.path()) });
    assert!(fails(&boxed).contains("bounding_boxes.txt"));
}

#[test]
fn lists_that_do_not_fit_each_other_are_named_with_line() {
    let root = cub();
    let top = root.path().join("CUB_200_2011");
    text(&top, "image_class_labels.txt", "1 1\n2 1\n3 100\n4 777\n5 200\n");
    let error = fails(&DatasetSpec::Cub200(spec(root.path())));
    assert!(error.contains("image_class_labels.txt") && error.contains("line 4") && error.contains("777"), "{error}");
    text(&top, "image_class_labels.txt", "1 1\n2 1\n3 100\n5 200\n");
    let error = fails(&DatasetSpec::Cub200(spec(root.path())));
    assert!(error.contains("image 4") && error.contains("image_class_labels.txt"), "{error}");
    text(&top, "image_class_labels.txt", "1 1\n2 1 9\n");
    assert!(fails(&DatasetSpec::Cub200(spec(root.path()))).contains("line 2 has 3 columns, wanted 2"));
    std::fs::remove_file(top.join("bounding_boxes.txt")).unwrap();
    let boxed = DatasetSpec::Cub200(PictureSpec { region: RegionRule::Box, ..spec(root.path()) });
    text(&top, "image_class_labels.txt", "1 1\n2 1\n3 100\n4 101\n5 200\n");
    assert!(fails(&boxed).contains("bounding_boxes.txt"), "{}", fails(&boxed));
    std::fs::remove_file(top.join("images/101.Tit/d.jpg")).unwrap();
    assert!(fails(&DatasetSpec::Cub200(spec(root.path()))).contains("d.jpg"));
}

#[test]
fn cars_are_read_from_matlab_annotations_packed_or_not() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dataset");
    let mut sets = Vec::new();
    for file in ["cars_annos.mat", "cars_annos_plain.mat"] {
        let root = tempfile::tempdir().unwrap();
        std::fs::copy(data.join(file), root.path().join("cars_annos.mat")).unwrap();
        (1..=4).for_each(|i| picture(root.path().join(format!("car_ims/{i:06}.jpg"))));
        let pictures = PictureSpec { region: RegionRule::Box, ..spec(root.path()) };
        sets.push(load(&DatasetSpec::Cars196(pictures)).unwrap());
    }
    let [packed, plain] = &sets[..] else { panic!("two files") };
    // 99 classes are declared, two have pictures.
    assert_eq!(packed.classes, ["001.Maker Model 1", "099.Maker Model 99"]);
    assert_eq!((packed.split.train.as_slice(), packed.split.test.as_slice()), (&[0, 1][..], &[2, 3][..]));
    assert_eq!(packed.digest, plain.digest);
    // The first box begins at column 2 counted from 1: 20 in red.
    assert!((15..40).contains(&packed.bytes(0)[0]), "{}", packed.bytes(0)[0]);
}

#[test]
fn a_damaged_mat_file_is_refused_at_every_cut_and_never_panics() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dataset");
    let bytes = std::fs::read(data.join("cars_annos_plain.mat")).unwrap();
    let whole = mat::read(&bytes).unwrap();
    for cut in (0..bytes.len()).step_by(37) {
        // A cut between two variables leaves fewer of them, any other is an error.
        if let Ok(some) = mat::read(&bytes[..cut]) {
            assert!(some.len() < whole.len() && some == whole[..some.len()], "cut at {cut}");
        }
    }
    for at in (128..bytes.len()).step_by(11) {
        for bit in [0x01, 0x80, 0xff] {
            let mut wrong = bytes.clone();
            wrong[at] ^= bit;
            let _ = mat::read(&wrong);
        }
    }
    assert!(mat::read(b"MATLAB 7.3 MAT-file").unwrap_err().contains("128 bytes"));
}

#[test]
fn cars_in_folders_count_numbers_or_order() {
    let root = tempfile::tempdir().unwrap();
    ["001.A/1.jpg", "098.B/1.jpg", "099.C/1.jpg"].iter().for_each(|name| picture(root.path().join(name)));
    let set = load(&DatasetSpec::Cars196(spec(root.path()))).unwrap();
    assert_eq!((set.split.train.as_slice(), set.split.test.as_slice()), (&[0, 1][..], &[2][..]));
    let root = tempfile::tempdir().unwrap();
    ["Acura/1.jpg", "BMW/1.jpg", "Fiat/1.jpg", "Opel/1.jpg"].iter().for_each(|name| picture(root.path().join(name)));
    let set = load(&DatasetSpec::Cars196(spec(root.path()))).unwrap();
    assert_eq!((set.split.train.len(), set.split.test.as_slice()), (2, &[2, 3][..]));
}

#[test]
fn sop_takes_its_parts_from_two_lists() {
    let root = tempfile::tempdir().unwrap();
    for name in ["bike/1_0.jpg", "bike/1_1.jpg", "lamp/2_0.jpg", "lamp/2_1.jpg"] {
        picture(root.path().join(name));
    }
    let head = "image_id class_id super_class_id path\n";
    text(root.path(), "Ebay_train.txt", &format!("{head}1 1 1 bike/1_0.jpg\n2 1 1 bike/1_1.jpg\n"));
    text(root.path(), "Ebay_test.txt", &format!("{head}3 9 2 lamp/2_0.jpg\n4 9 2 lamp/2_1.jpg\n"));
    let set = load(&DatasetSpec::Sop(spec(root.path()))).unwrap();
    assert_eq!((set.split.train.as_slice(), set.split.test.as_slice()), (&[0, 1][..], &[2, 3][..]));
    text(root.path(), "Ebay_test.txt", &format!("{head}3 1 2 lamp/2_0.jpg\n4 9 2 lamp/2_1.jpg\n"));
    assert!(fails(&DatasetSpec::Sop(spec(root.path()))).contains("class `00001` has pictures in the train and in"));
    let boxed = DatasetSpec::Sop(PictureSpec { region: RegionRule::Box, ..spec(root.path()) });
    assert!(fails(&boxed).contains("no boxes"));
    let split = DatasetSpec::Sop(PictureSpec { split: Some(SplitRule::FirstHalf), ..spec(root.path()) });
    assert!(fails(&split).contains("split"));
}

#[test]
fn inshop_keeps_query_and_gallery_apart() {
    let root = tempfile::tempdir().unwrap();
    let rows = [
        ("a/1.jpg", "id1", "train"),
        ("a/2.jpg", "id1", "train"),
        ("b/1.jpg", "id2", "query"),
        ("b/2.jpg", "id2", "gallery"),
        ("c/1.jpg", "id3", "gallery"),
    ];
    rows.iter().for_each(|(name, ..)| picture(root.path().join("Img").join(name)));
    let lines: Vec<String> = rows.iter().map(|(name, id, status)| format!("{name}  {id}  {status}")).collect();
    let list = format!("5\nimage_name item_id evaluation_status\n{}\n", lines.join("\n"));
    text(root.path(), "Eval/list_eval_partition.txt", &list);
    let set = load(&DatasetSpec::Inshop(spec(root.path()))).unwrap();
    assert_eq!((set.split.queries.as_slice(), set.split.test.as_slice()), (&[2][..], &[3, 4][..]));
    let queries = crate::run::queries::choose(&set, None, 1);
    assert_eq!((queries.chosen.as_slice(), queries.available), (&[2][..], 1));
    let boxed = DatasetSpec::Inshop(PictureSpec { region: RegionRule::Box, ..spec(root.path()) });
    assert!(fails(&boxed).contains("list_bbox_inshop.txt"));
    let boxes: Vec<String> = rows.iter().map(|(name, ..)| format!("{name} 1 1 003 002 010 008")).collect();
    let list = format!("5\nimage_name clothes_type pose_type x_1 y_1 x_2 y_2\n{}\n", boxes.join("\n"));
    text(root.path(), "Anno/list_bbox_inshop.txt", &list);
    let cut = load(&boxed).unwrap();
    assert!((35..60).contains(&cut.bytes(0)[0]), "column 3 counted from 1 is 40: {}", cut.bytes(0)[0]);
    text(root.path(), "Eval/list_eval_partition.txt", "1\nhead\na/1.jpg id1 tested\n");
    assert!(fails(&DatasetSpec::Inshop(spec(root.path()))).contains("line 3: status `tested`"));
}

#[test]
fn omniglot_trains_on_background_alphabets() {
    let root = tempfile::tempdir().unwrap();
    for name in [
        "images_background/Greek/character01/1.png",
        "images_background/Greek/character02/1.png",
        "images_evaluation/Tifinagh/character01/1.png",
    ] {
        picture(root.path().join(name));
    }
    let set = load(&DatasetSpec::Omniglot(spec(root.path()))).unwrap();
    assert_eq!(set.classes, ["Greek/character01", "Greek/character02", "Tifinagh/character01"]);
    assert_eq!(set.split.test, [2]);
    std::fs::remove_dir_all(root.path().join("images_evaluation")).unwrap();
    assert!(fails(&DatasetSpec::Omniglot(spec(root.path()))).contains("images_evaluation"));
}

fn manifest(lines: &str) -> (tempfile::TempDir, DatasetSpec) {
    let root = tempfile::tempdir().unwrap();
    ["1.jpg", "2.jpg", "sub/3.jpg", "4.jpg"].iter().for_each(|name| picture(root.path().join(name)));
    text(root.path(), "mine.csv", lines);
    let spec = DatasetSpec::Manifest(spec(&root.path().join("mine.csv")));
    (root, spec)
}

#[test]
fn a_manifest_lists_paths_labels_parts_and_boxes() {
    let (_root, spec) = manifest(
        "label, path, split, left, top, width, height\nzebra, 1.jpg, query, 4, 0, 6, 9\nzebra, 2.jpg, gallery, 4, 0, 6, 9\n\
         ape, sub/3.jpg, train, 4, 0, 6, 9\nbee, 4.jpg, train, 4, 0, 6, 9\n",
    );
    let set = load(&spec).unwrap();
    assert_eq!((set.id.as_str(), set.classes.as_slice()), ("mine", &["ape", "bee", "zebra"].map(String::from)[..]));
    assert_eq!(set.labels, [2, 2, 0, 1]);
    assert_eq!((&set.split.queries[..], &set.split.test[..], &set.split.train[..]), (&[0][..], &[1][..], &[2, 3][..]));
    let DatasetSpec::Manifest(pictures) = spec else { panic!("a manifest") };
    let boxed = load(&DatasetSpec::Manifest(PictureSpec { region: RegionRule::Box, ..pictures })).unwrap();
    assert!(boxed.bytes(0)[0] > 70);
}

#[test]
fn a_manifest_without_parts_is_split_by_class_and_mistakes_have_lines() {
    let (_root, spec) = manifest("path,label\n1.jpg,b\n2.jpg,a\nsub/3.jpg,b\n4.jpg,a\n");
    let set = load(&spec).unwrap();
    assert_eq!((set.labels.as_slice(), set.split.test.as_slice()), (&[1, 0, 1, 0][..], &[0, 2][..]));
    for (lines, wanted) in [
        ("path,lable\n1.jpg,a\n", "column `lable` is unknown"),
        ("path\n1.jpg\n", "no column `label`"),
        ("path,label,split\n1.jpg,a,dev\n", "line 2: split `dev`"),
        ("path,label\n1.jpg,a\nmissing.jpg,b\n", "missing.jpg"),
        ("path,label\n1.jpg,a\n2.jpg\n", "not a CSV file"),
        ("path,label,left\n1.jpg,a,1\n", "all of left, top, width, height"),
        ("path,label\n1.jpg,a\n2.jpg,\n", "line 3"),
    ] {
        let (_root, spec) = manifest(lines);
        let error = fails(&spec);
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

fn parquet_manifest(columns: Vec<(&str, Values)>) -> (tempfile::TempDir, DatasetSpec) {
    let (root, _) = manifest("");
    let columns = columns.into_iter().map(|(name, values)| (name.to_string(), values)).collect();
    let path = root.path().join("mine.parquet");
    std::fs::write(&path, table_to_parquet(&Columns(columns)).unwrap()).unwrap();
    let spec = DatasetSpec::Manifest(spec(&path));
    (root, spec)
}

fn words(list: &[&str]) -> Values {
    Values::Text(list.iter().map(ToString::to_string).collect())
}

#[test]
fn a_parquet_manifest_is_the_csv_one() {
    let (_csv, as_csv) = manifest(
        "label,path,split,left,top,width,height\n7,1.jpg,query,4,0,6,9\n7,2.jpg,gallery,4,0,6,9\n11,sub/3.jpg,train,4,0,6,9\n\
         5,4.jpg,train,4,0,6,9\n",
    );
    let (_parquet, as_parquet) = parquet_manifest(vec![
        ("label", Values::Wide(vec![7, 7, 11, 5])),
        ("path", words(&["1.jpg", "2.jpg", "sub/3.jpg", "4.jpg"])),
        ("split", words(&["query", "gallery", "train", "train"])),
        ("left", Values::Whole(vec![4; 4])),
        ("top", Values::Whole(vec![0; 4])),
        ("width", Values::Whole(vec![6; 4])),
        ("height", Values::Whole(vec![9; 4])),
    ]);
    let boxed = |spec: DatasetSpec| {
        let DatasetSpec::Manifest(pictures) = spec else { panic!("a manifest") };
        load(&DatasetSpec::Manifest(PictureSpec { region: RegionRule::Box, ..pictures })).unwrap()
    };
    let (a, b) = (boxed(as_csv), boxed(as_parquet));
    assert_eq!((&a.id, &a.classes, &a.labels, &a.split), (&b.id, &b.classes, &b.labels, &b.split));
    assert_eq!(a.digest, b.digest);
    assert_eq!(b.split.queries, [0]);
}

#[test]
fn mistakes_of_a_parquet_manifest_name_column_or_row() {
    let paths = || words(&["1.jpg", "2.jpg"]);
    for (columns, wanted) in [
        (vec![("path", paths())], "no column `label`"),
        (vec![("path", paths()), ("lable", paths())], "column `lable` is unknown"),
        (vec![("path", paths()), ("label", Values::Real(vec![Some(1.0); 2]))], "column `label` has type Float64"),
        (vec![("path", paths()), ("label", words(&["a", " "]))], "row 2: path and label"),
        (vec![("path", paths()), ("label", paths()), ("split", words(&["test", "dev"]))], "row 2: split `dev`"),
        (vec![("path", words(&["1.jpg", "gone.jpg"])), ("label", paths())], "gone.jpg"),
    ] {
        let (_root, spec) = parquet_manifest(columns);
        let error = fails(&spec);
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    let (root, spec) = parquet_manifest(vec![("path", paths()), ("label", paths())]);
    let path = root.path().join("mine.parquet");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = fails(&spec);
    assert!(error.contains("mine.parquet") && error.contains("not a whole Parquet file"), "{error}");
}

#[test]
fn fashion_mnist_is_read_from_idx_files_packed_or_not() {
    use std::io::Write as _;
    let root = tempfile::tempdir().unwrap();
    let idx = |sizes: &[u32], data: &[u8]| {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|s| bytes.extend(s.to_be_bytes()));
        bytes.extend(data);
        bytes
    };
    let images: Vec<u8> = (0..3 * 4 * 4).map(|i| i as u8 * 5).collect();
    let write = |name: &str, bytes: &[u8]| std::fs::write(root.path().join(name), bytes).unwrap();
    write("train-images-idx3-ubyte", &idx(&[3, 4, 4], &images));
    write("train-labels-idx1-ubyte", &idx(&[3], &[0, 1, 2]));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&idx(&[2, 4, 4], &images[..32])).unwrap();
    write("t10k-images-idx3-ubyte.gz", &packed.finish().unwrap());
    write("t10k-labels-idx1-ubyte", &idx(&[2], &[3, 0]));
    let path = root.path().to_path_buf();
    let spec = DatasetSpec::FashionMnist { path, image_size: 8, split: SplitRule::FirstHalf, validation: 0.0 };
    let set = load(&spec).unwrap();
    assert_eq!((set.len(), set.labels.as_slice()), (5, &[0, 1, 2, 3, 0][..]));
    assert_eq!((&set.split.train[..], &set.split.test[..]), (&[0, 1, 4][..], &[2, 3][..]));
    assert_eq!(set.bytes(1)[..64], set.bytes(1)[64..128], "grey is the same in every channel");
    write("train-labels-idx1-ubyte", &idx(&[3], &[0, 1]));
    assert!(fails(&spec).contains("train-labels-idx1-ubyte"));
    write("train-labels-idx1-ubyte", &idx(&[2], &[0, 1]));
    assert!(fails(&spec).contains("2 labels for 3 images"));
    std::fs::remove_file(root.path().join("t10k-labels-idx1-ubyte")).unwrap();
    write("train-labels-idx1-ubyte", &idx(&[3], &[0, 1, 2]));
    assert!(fails(&spec).contains("t10k-labels-idx1-ubyte"));
}

#[test]
fn a_size_that_was_not_published_is_said() {
    #[derive(Default)]
    struct Heard(std::sync::Mutex<Vec<String>>);
    impl Observer for Heard {
        fn begin(&self, _: &str, _: u64, _: &str) {}
        fn advance(&self, _: u64) {}
        fn end(&self) {}
        fn say(&self, what: &str) {
            self.0.lock().unwrap().push(what.into());
        }
    }
    let (root, heard) = (cub(), Heard::default());
    let data = tempfile::tempdir().unwrap();
    opening::open(&DatasetSpec::Cub200(spec(root.path())), data.path(), &heard, &Cancel::default()).unwrap();
    let heard = heard.0.lock().unwrap().join("\n");
    assert!(heard.contains("3 images of 2 classes") && heard.contains("5864 images of 100 classes"), "{heard}");
}

#[test]
fn few_shot_training_keeps_a_share_and_changes_the_digest() {
    let root = cub();
    let all = load(&DatasetSpec::Cub200(spec(root.path()))).unwrap();
    let few = load(&DatasetSpec::Cub200(PictureSpec { train_share: 0.5, ..spec(root.path()) })).unwrap();
    assert_eq!((few.split.train.len(), few.split.test.len()), (2, 2));
    assert_ne!(all.digest, few.digest);
    let none = DatasetSpec::Cub200(PictureSpec { train_share: 0.0, ..spec(root.path()) });
    assert!(fails(&none).contains("train_share = 0"));
}
