//! Omniglot (Lake et al. 2015): `images_background` trains, `images_evaluation` tests; a class is a character of an
//! alphabet (`alphabet/character`).

use super::super::listing::{Listing, Part, entries, is_picture, wrong};
use crate::dataset::DatasetError;
use crate::suite::dataset::{PictureSpec, RegionRule};

pub(super) fn list(spec: &PictureSpec) -> Result<Listing, DatasetError> {
    let root = &spec.path;
    if spec.region == RegionRule::Box {
        return Err(wrong(root, "Omniglot has no boxes; set region = \"whole\""));
    }
    let mut listing = Listing::new("omniglot", root);
    for (half, part) in [("images_background", Part::Train), ("images_evaluation", Part::Test)] {
        let folder = root.join(half);
        if !folder.is_dir() {
            return Err(wrong(&folder, "is missing; unpack images_background.zip and images_evaluation.zip here"));
        }
        for (alphabet, path) in entries(&folder)?.into_iter().filter(|(_, path)| path.is_dir()) {
            for (character, path) in entries(&path)?.into_iter().filter(|(_, path)| path.is_dir()) {
                let label = listing.classes.len() as u32;
                let before = listing.pictures.len();
                for (file, path) in entries(&path)?.into_iter().filter(|(_, path)| is_picture(path)) {
                    let name = format!("{half}/{alphabet}/{character}/{file}");
                    listing.push(path, name, label, part, None)?;
                }
                if listing.pictures.len() == before {
                    return Err(wrong(&path, "holds no picture"));
                }
                listing.classes.push(format!("{alphabet}/{character}"));
            }
        }
    }
    Ok(listing)
}
