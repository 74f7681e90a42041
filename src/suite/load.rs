//! Reading suites and models from their files, with errors that show the place.

use std::path::{Path, PathBuf};

use super::card::OnnxCard;
use super::check::{recipe_problems, suite_problems};
use super::recipe::Recipe;
use super::wire::SuiteWire;

/// Why a suite or a model file was refused.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The file cannot be read.
    #[error("{}: {source}{}", path.display(), if source.kind() == std::io::ErrorKind::NotFound { "; give the path of a suite such as suites/demo.toml" } else { "" })]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Not the TOML this program reads; the text shows line and column.
    #[error("{}: {text}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with the line and a caret.
        text: String,
    },
    /// Well-formed, but wrong. All mistakes at once.
    #[error("{}: {}", path.display(), problems.join(&format!("\n{}: ", path.display())))]
    Problems {
        /// The file.
        path: PathBuf,
        /// One line each.
        problems: Vec<String>,
    },
    /// A suite names a model that has no file.
    #[error("{}: model `{id}` has no file {}; known models: {}", suite.display(), wanted.display(), if known.is_empty() { "none".to_string() } else { known.join(", ") })]
    UnknownModel {
        /// The suite.
        suite: PathBuf,
        /// The model's id.
        id: String,
        /// Where its file should be.
        wanted: PathBuf,
        /// Ids that do exist there.
        known: Vec<String>,
    },
}

/// What a file of `models/` describes.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelSource {
    /// To be trained here.
    Recipe(Box<Recipe>),
    /// Somebody else's file; the path is resolved against the card's folder.
    Onnx(Box<OnnxCard>),
}

/// Reads and checks a suite.
///
/// # Errors
/// [`SuiteError`]; every mistake of a well-formed file is listed.
pub fn read_suite(path: &Path) -> Result<SuiteWire, SuiteError> {
    let text = read(path)?;
    let suite: SuiteWire = toml::from_str(&text)
        .map_err(|e| SuiteError::Syntax { path: path.into(), text: e.to_string().trim_end().into() })?;
    let mut problems = suite_problems(&suite);
    problems.extend(suite.dataset.check().err().into_iter().flat_map(|error| error.problems));
    if problems.is_empty() { Ok(suite) } else { Err(SuiteError::Problems { path: path.into(), problems }) }
}

/// Reads and checks `<folder>/<id>.toml`.
///
/// # Errors
/// [`SuiteError::UnknownModel`] listing the models that exist, or the mistakes of the file.
pub fn read_model(suite: &Path, folder: &Path, id: &str) -> Result<ModelSource, SuiteError> {
    let path = folder.join(format!("{id}.toml"));
    if !path.is_file() {
        return Err(SuiteError::UnknownModel {
            suite: suite.into(),
            id: id.into(),
            wanted: path,
            known: known_models(folder),
        });
    }
    parse_model(&path, &read(&path)?)
}

/// Reads and checks a model file wherever it lies.
///
/// # Errors
/// As [`read_model`], but for the list of models that exist.
pub fn read_model_file(path: &Path) -> Result<ModelSource, SuiteError> {
    parse_model(path, &read(path)?)
}

/// Parses and checks the text of a model file.
///
/// # Errors
/// As [`read_model`].
pub fn parse_model(path: &Path, text: &str) -> Result<ModelSource, SuiteError> {
    let syntax = |e: toml::de::Error| SuiteError::Syntax { path: path.into(), text: e.to_string().trim_end().into() };
    let table: toml::Table = toml::from_str(text).map_err(syntax)?;
    if table.contains_key("onnx") {
        let mut card: OnnxCard = toml::from_str(text).map_err(syntax)?;
        let problems = card.problems();
        if !problems.is_empty() {
            return Err(SuiteError::Problems { path: path.into(), problems });
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        card.onnx = folder.join(&card.onnx);
        return Ok(ModelSource::Onnx(Box::new(card)));
    }
    let mut recipe: Recipe = toml::from_str(text).map_err(syntax)?;
    let problems = recipe_problems(&recipe);
    if !problems.is_empty() {
        return Err(SuiteError::Problems { path: path.into(), problems });
    }
    if let Some(weights) = &mut recipe.weights {
        let folder = path.parent().unwrap_or(Path::new("."));
        weights.file = folder.join(&weights.file);
    }
    Ok(ModelSource::Recipe(Box::new(recipe)))
}

fn read(path: &Path) -> Result<String, SuiteError> {
    std::fs::read_to_string(path).map_err(|source| SuiteError::Read { path: path.into(), source })
}

fn known_models(folder: &Path) -> Vec<String> {
    let mut known: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .filter_map(|path| path.file_stem().map(|s| s.to_string_lossy().into_owned()))
        .collect();
    known.sort();
    known
}
