//! Embeddings and labels that other programs wrote: NumPy's `.npy`, `.safetensors`, and text with one label a line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use crate::batch::Embeddings;

/// A file that holds no embeddings or labels.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, what was wanted and how to get it.
        what: String,
    },
}

/// Numbers of any type, as they stand in a file.
struct Array {
    shape: Vec<usize>,
    kind: Kind,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    F16,
    F32,
    F64,
    Signed(usize),
    Unsigned(usize),
}

impl Kind {
    fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Signed(size) | Self::Unsigned(size) => size,
        }
    }
}

/// Reads embeddings `[n, d]` of floats: a `.npy` file, or a `.safetensors` file with the tensor `embeddings` or a single
/// two-dimensional tensor.
///
/// Doubles are rounded to `f32`.
///
/// # Errors
/// [`FileError`] saying what the file holds and what was wanted.
pub fn embeddings(path: &Path) -> Result<Embeddings, FileError> {
    let array = array(path, "embeddings", 2)?;
    let wrong = |what: String| FileError::Content { path: path.into(), what };
    if array.shape[1] == 0 {
        let shape = &array.shape;
        return Err(wrong(format!(
            "has shape {shape:?}, wanted at least 1 number a row; save the embeddings, one a row"
        )));
    }
    let chunks = array.bytes.chunks_exact(array.kind.size());
    let data: Vec<f32> = match array.kind {
        Kind::F16 => chunks.map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Kind::F32 => chunks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Kind::F64 => chunks.map(|b| f64::from_le_bytes(eight(b, 0)) as f32).collect(),
        kind => return Err(wrong(format!("holds whole numbers ({kind:?}), wanted floats; save it as float32"))),
    };
    Embeddings::new([array.shape[0], array.shape[1]], data).map_err(|error| wrong(error.to_string()))
}

/// Reads one label a row: whole numbers of a `.npy` or `.safetensors` file (tensor `labels`), or any text, one label a
/// line. The numbers returned name the labels in ascending order of their value (of their text).
///
/// # Errors
/// [`FileError`] saying what the file holds and what was wanted.
pub fn labels(path: &Path) -> Result<Vec<String>, FileError> {
    let binary = path.extension().is_some_and(|e| e == "npy" || e == "safetensors");
    if !binary {
        let text = String::from_utf8(read(path)?).map_err(|_| FileError::Content {
            path: path.into(),
            what: "is no UTF-8 text; wanted one label a line, or a .npy file of whole numbers".into(),
        })?;
        return Ok(text.lines().map(|line| line.trim().to_string()).collect());
    }
    let array = array(path, "labels", 1)?;
    let whole = |b: &[u8]| match array.kind {
        Kind::Signed(size) => {
            let fill = if b[size - 1] >= 128 { 255 } else { 0 };
            Some(i64::from_le_bytes(eight(b, fill)).to_string())
        }
        Kind::Unsigned(_) => Some(u64::from_le_bytes(eight(b, 0)).to_string()),
        _ => None,
    };
    let list: Option<Vec<String>> = array.bytes.chunks_exact(array.kind.size()).map(whole).collect();
    let what = "holds floats, wanted whole numbers; save labels with .astype(int)".to_string();
    list.ok_or(FileError::Content { path: path.into(), what })
}

/// Numbers for labels, the same for all lists: in ascending order, whole numbers by value.
pub fn numbered(lists: &[&[String]]) -> Vec<Vec<u32>> {
    let key = |label: &String| (label.parse::<i128>().unwrap_or(i128::MAX), label.clone());
    let mut names: BTreeMap<(i128, String), u32> = BTreeMap::new();
    for label in lists.iter().copied().flatten() {
        names.insert(key(label), 0);
    }
    names.values_mut().zip(0..).for_each(|(number, place)| *number = place);
    lists.iter().map(|list| list.iter().map(|label| names[&key(label)]).collect()).collect()
}

fn eight(bytes: &[u8], fill: u8) -> [u8; 8] {
    let mut all = [fill; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    all
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|source| FileError::Read { path: path.into(), source })
}

fn array(path: &Path, name: &str, dimensions: usize) -> Result<Array, FileError> {
    let bytes = read(path)?;
    let found = match path.extension().and_then(|e| e.to_str()) {
        Some("npy") => npy(&bytes),
        Some("safetensors") => tensor(&bytes, name, dimensions),
        _ => Err("wanted a .npy or .safetensors file".to_string()),
    };
    let checked = found.and_then(|array| {
        let values = array.shape.iter().try_fold(array.kind.size(), |all, n| all.checked_mul(*n));
        if array.shape.len() != dimensions {
            Err(format!("has shape {:?}, wanted {dimensions} dimensions", array.shape))
        } else if values != Some(array.bytes.len()) {
            Err(format!(
                "shape {:?} does not fit its {} bytes of data; it is cut short",
                array.shape,
                array.bytes.len()
            ))
        } else {
            Ok(array)
        }
    });
    checked.map_err(|what| FileError::Content { path: path.into(), what })
}

/// NumPy's format, versions 1 to 3: magic, version, length of a Python dictionary, the dictionary, the data.
fn npy(bytes: &[u8]) -> Result<Array, String> {
    let no = || "is no .npy file of numpy.save".to_string();
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(no)?;
    let (length, start) = match rest.first() {
        Some(1) => (u16::from_le_bytes([*rest.get(2).ok_or_else(no)?, *rest.get(3).ok_or_else(no)?]) as usize, 4),
        Some(2 | 3) => {
            let four = rest.get(2..6).and_then(|b| b.try_into().ok()).ok_or_else(no)?;
            (u32::from_le_bytes(four) as usize, 6)
        }
        _ => return Err(no()),
    };
    let end = usize::checked_add(start, length).ok_or_else(no)?;
    let header = std::str::from_utf8(rest.get(start..end).ok_or_else(no)?).map_err(|_| no())?;
    let after = |key: &str| header.split_once(&format!("'{key}':")).map(|(_, value)| value.trim_start());
    let descr = after("descr").and_then(|v| v.strip_prefix('\'')).and_then(|v| v.split('\'').next()).ok_or_else(no)?;
    if !after("fortran_order").is_some_and(|v| v.starts_with("False")) {
        return Err("is stored column by column; save numpy.ascontiguousarray(...)".into());
    }
    let shape = after("shape").and_then(|v| v.strip_prefix('(')).and_then(|v| v.split(')').next()).ok_or_else(no)?;
    let sizes = shape.split(',').map(str::trim).filter(|n| !n.is_empty()).map(|n| n.parse().map_err(|_| no()));
    let kind = match descr {
        "<f2" => Kind::F16,
        "<f4" => Kind::F32,
        "<f8" => Kind::F64,
        "|i1" => Kind::Signed(1),
        "<i2" => Kind::Signed(2),
        "<i4" => Kind::Signed(4),
        "<i8" => Kind::Signed(8),
        "|u1" => Kind::Unsigned(1),
        "<u2" => Kind::Unsigned(2),
        "<u4" => Kind::Unsigned(4),
        "<u8" => Kind::Unsigned(8),
        other => return Err(format!("holds numbers of type `{other}`; save float32, or int64 for labels")),
    };
    Ok(Array { shape: sizes.collect::<Result<_, String>>()?, kind, bytes: rest[end..].to_vec() })
}

fn tensor(bytes: &[u8], name: &str, dimensions: usize) -> Result<Array, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| format!("is no whole .safetensors file: {error}"))?;
    let fitting: Vec<_> = file.iter().filter(|(_, view)| view.shape().len() == dimensions).collect();
    let named = fitting.iter().find(|(own, _)| *own == name);
    let (_, view) = match (named, fitting.as_slice()) {
        (Some(found), _) | (None, [found]) => found,
        (None, list) => {
            let names: Vec<&str> = list.iter().map(|(own, _)| *own).collect();
            return Err(format!(
                "holds {} tensors of {dimensions} dimensions ({}); call the one meant `{name}`",
                list.len(),
                names.join(", ")
            ));
        }
    };
    let kind = match view.dtype() {
        Dtype::F16 => Kind::F16,
        Dtype::F32 => Kind::F32,
        Dtype::F64 => Kind::F64,
        Dtype::I8 => Kind::Signed(1),
        Dtype::I16 => Kind::Signed(2),
        Dtype::I32 => Kind::Signed(4),
        Dtype::I64 => Kind::Signed(8),
        Dtype::U8 => Kind::Unsigned(1),
        Dtype::U16 => Kind::Unsigned(2),
        Dtype::U32 => Kind::Unsigned(4),
        Dtype::U64 => Kind::Unsigned(8),
        other => return Err(format!("holds numbers of type {other:?}; save float32, or int64 for labels")),
    };
    Ok(Array { shape: view.shape().to_vec(), kind, bytes: view.data().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as `numpy.save` writes it (version 1).
    fn saved(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        while (10 + header.len() + 1) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn written(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn reads_every_type_that_numpy_saves() {
        let values = [1.5f64, -2.0, 0.25, 4.0];
        let (mut f8, mut f4, mut f2) = (vec![], vec![], vec![]);
        for v in values {
            f8.extend(v.to_le_bytes());
            f4.extend((v as f32).to_le_bytes());
            f2.extend(half::f16::from_f64(v).to_le_bytes());
        }
        for (descr, data) in [("<f8", f8), ("<f4", f4), ("<f2", f2)] {
            let (_keep, path) = written("a.npy", &saved(descr, "(2, 2)", &data));
            assert_eq!(embeddings(&path).unwrap(), Embeddings::new([2, 2], vec![1.5, -2.0, 0.25, 4.0]).unwrap());
        }
        let (_keep, path) = written("l.npy", &saved("<i2", "(3,)", &[5, 0, 254, 255, 5, 0]));
        assert_eq!(labels(&path).unwrap(), ["5", "-2", "5"]);
        let (_keep, path) = written("l.txt", "cat\ndog \r\ncat\n".as_bytes());
        assert_eq!(labels(&path).unwrap(), ["cat", "dog", "cat"]);
    }

    #[test]
    fn labels_are_numbered_in_order_over_all_lists() {
        let list = |words: &[&str]| words.iter().map(|w| w.to_string()).collect::<Vec<_>>();
        assert_eq!(numbered(&[&list(&["10", "9", "-1"]), &list(&["9"])]), [vec![2, 1, 0], vec![1]]);
        assert_eq!(numbered(&[&list(&["b", "a", "b"])]), [vec![1, 0, 1]]);
    }

    #[test]
    fn safetensors_by_name_or_alone() {
        let data: Vec<u8> = [1f32, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = || safetensors::tensor::TensorView::new(Dtype::F32, vec![1, 2], &data).unwrap();
        let file = |names: &[&str]| safetensors::serialize(names.iter().map(|n| (*n, view())), None).unwrap();
        for names in [&["x"][..], &["x", "embeddings"]] {
            let (_keep, path) = written("a.safetensors", &file(names));
            assert_eq!(embeddings(&path).unwrap().as_slice(), [1.0, 2.0]);
        }
        let (_keep, path) = written("a.safetensors", &file(&["x", "y"]));
        assert!(embeddings(&path).unwrap_err().to_string().contains("call the one meant `embeddings`"));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let text = |name: &str, bytes: &[u8]| {
            let (_keep, path) = written(name, bytes);
            embeddings(&path).unwrap_err().to_string()
        };
        let good = saved("<f4", "(2, 2)", &[0; 16]);
        for cut in 0..good.len() {
            let error = text("a.npy", &good[..cut]);
            assert!(error.contains("is no .npy file") || error.contains("cut short"), "{cut}: {error}");
        }
        assert!(text("a.npy", &saved("<f4", "(4,)", &[0; 16])).contains("wanted 2 dimensions"));
        assert!(text("a.npy", &saved("<f4", "(2, 0)", &[])).contains("at least 1 number a row"));
        assert!(text("a.npy", &saved("<i4", "(2, 2)", &[0; 16])).contains("save it as float32"));
        assert!(text("a.npy", &saved(">f4", "(2, 2)", &[0; 16])).contains("`>f4`"));
        assert!(text("a.npy", &saved("<f4", "(99999999999999999999, 2)", &[])).contains("is no .npy file"));
        assert!(text("a.npy", &saved("<f4", "(4611686018427387904, 8)", &[])).contains("does not fit"));
        let fortran = String::from_utf8_lossy(&good[10..]).replace("False", "True ");
        let mut bytes = good[..10].to_vec();
        bytes.extend(fortran.as_bytes());
        assert!(text("a.npy", &bytes).contains("ascontiguousarray"));
        assert!(text("a.safetensors", b"nonsense").contains("no whole .safetensors file"));
        assert!(text("a.bin", b"").contains(".npy or .safetensors"));
        let (_keep, path) = written("l.npy", &saved("<f4", "(4,)", &[0; 16]));
        assert!(labels(&path).unwrap_err().to_string().contains("astype(int)"));
        assert!(embeddings(Path::new("/nowhere/a.npy")).unwrap_err().to_string().contains("/nowhere/a.npy"));
    }
}
