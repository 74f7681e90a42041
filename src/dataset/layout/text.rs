//! Lists in text files: one record a line, columns between white space.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::dataset::DatasetError;
use crate::dataset::listing::wrong;

/// A text file in memory.
pub(super) struct Table {
    path: PathBuf,
    text: String,
}

/// One line, split at white space.
pub(super) struct Row<'a> {
    path: &'a Path,
    line: usize,
    /// The columns.
    pub columns: Vec<&'a str>,
}

impl Table {
    pub(super) fn read(path: PathBuf) -> Result<Self, DatasetError> {
        let bytes = std::fs::read(&path).map_err(DatasetError::read(&path))?;
        // File names of some copies are Latin-1; they then do not match any file and are named.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Self { path, text })
    }

    /// The records after `skipped` head lines; empty lines are passed over.
    ///
    /// # Errors
    /// Naming file and line if a record does not have `wanted` columns.
    pub(super) fn rows(&self, skipped: usize, wanted: usize) -> Result<Vec<Row<'_>>, DatasetError> {
        let lines = self.text.lines().enumerate().skip(skipped).filter(|(_, line)| !line.trim().is_empty());
        let row = |(at, line): (usize, &'_ str)| (at + 1, line.split_whitespace().count());
        let rows = lines.map(|(at, line)| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if columns.len() == wanted {
                return Ok(Row { path: &self.path, line: at + 1, columns });
            }
            let (line, got) = row((at, line));
            Err(wrong(&self.path, format!("line {line} has {got} columns, wanted {wanted}")))
        });
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        if rows.is_empty() {
            return Err(wrong(&self.path, "lists nothing"));
        }
        Ok(rows)
    }
}

impl Row<'_> {
    /// A number in a column.
    pub(super) fn number<T: FromStr>(&self, column: usize, what: &str) -> Result<T, DatasetError> {
        let text = self.columns[column];
        text.parse().map_err(|_| self.wrong(format!("{what} is `{text}`, wanted a number")))
    }

    /// A box coordinate, which some lists write as `12.0`.
    pub(super) fn pixel(&self, column: usize) -> Result<u32, DatasetError> {
        let value: f64 = self.number(column, "a box coordinate")?;
        if (0.0..=1e6).contains(&value) {
            return Ok(value as u32);
        }
        Err(self.wrong(format!("a box coordinate is {value}, wanted 0 to 1000000")))
    }

    /// An error about this line.
    pub(super) fn wrong(&self, reason: impl std::fmt::Display) -> DatasetError {
        wrong(self.path, format!("line {}: {reason}", self.line))
    }
}
