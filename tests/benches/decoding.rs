//! Picture files to pixels: the squares that tests see, and the random crops that a training cuts from the files; processor
//! time of one core an image. `cargo bench --bench decoding -- FOLDER [SIZE]`, a folder of class folders.
//!
//! With `MDPROP_PEER_PYTHON` set to a Python that has torchvision and Pillow, their transforms on the same files are measured
//! beside it, `peers/decoding.py`. Numbers are in reports/measured/decoding.md.
#![allow(missing_docs)]
#![allow(clippy::print_stdout, reason = "a bench talks to its user")]

mod sides;

use std::path::PathBuf;
use std::sync::Arc;

use mdprop::dataset::{self, Loader};
use mdprop::progress::{Cancel, Silent};
use mdprop::suite::dataset::DatasetSpec;
use mdprop::suite::recipe::{AugmentationSpec, CropFrom};
use sides::{Peer, median, processor_seconds};

const BATCH: usize = 32;
const TURNS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let Some(folder) = arguments.first() else {
        println!("no folder of class folders is named; cargo bench --bench decoding -- FOLDER [SIZE]");
        return;
    };
    let size: usize = arguments.get(1).map_or(224, |text| text.parse().expect("a size in pixels"));
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("the first pool");
    let text = format!("[folder]\npath = {folder:?}\nimage_size = {size}\n");
    let spec: DatasetSpec = toml::from_str(&text).expect("a data set");
    let augmentation = AugmentationSpec::RandomResizedCropFlip { from: CropFrom::File };
    let mut peer = std::env::var_os("MDPROP_PEER_PYTHON").map(|python| {
        let mut peer = Peer::start(&python, "decoding.py", &[folder, &size.to_string()], &[]);
        println!("peer: {}", peer.answer());
        peer
    });
    let (mut ours, mut theirs) = ([vec![], vec![]], [vec![], vec![]]);
    let mut count = 0;
    for turn in 0..TURNS {
        let data: PathBuf = sides::folder("decoding");
        std::fs::remove_dir_all(&data).expect("it was just made");
        let before = processor_seconds();
        let set = dataset::open(&spec, &data, &Silent, &Cancel::default()).expect("readable pictures");
        count = set.len();
        ours[0].push((processor_seconds() - before) / count as f64);
        let loader = Loader::new(Arc::new(set), augmentation.clone(), 1, 1, 1);
        let before = processor_seconds();
        for (batch, indices) in (0..count).collect::<Vec<_>>().chunks(BATCH).enumerate() {
            loader.batch(turn as u64, batch, indices).expect("readable pictures");
        }
        ours[1].push((processor_seconds() - before) / count as f64);
        if let Some(peer) = &mut peer {
            ["squares", "crops"].iter().zip(&mut theirs).for_each(|(what, times)| times.push(peer.number(what)));
        }
    }
    for (what, (ours, theirs)) in ["squares (files hashed, decoded, resized, stored)", "crops (decoded, cut, resized)"]
        .iter()
        .zip(ours.iter().zip(&theirs))
    {
        let time = median(ours);
        print!("{what}: {:.0} µs an image, {:.0} a second; {count} images to {size} px", 1e6 * time, 1.0 / time);
        match theirs.is_empty() {
            true => println!(),
            false => {
                println!("; peer {:.0} µs, mdprop {:.2} times as fast", 1e6 * median(theirs), median(theirs) / time)
            }
        }
    }
}
