//! Rows as named, typed columns: the one flat form that Parquet, CSV and data frames share.

/// A column's values. `Whole` columns never hold nulls; optional numbers are `Real`.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Text.
    Text(Vec<String>),
    /// Text that may be absent.
    OptionalText(Vec<Option<String>>),
    /// Numbers that may be absent.
    Real(Vec<Option<f64>>),
    /// Single-precision numbers, kept bit for bit.
    Single(Vec<f32>),
    /// Counts and indices.
    Whole(Vec<u32>),
    /// Seeds.
    Wide(Vec<u64>),
    /// Yes or no.
    Flag(Vec<bool>),
}

impl Values {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(v) => v.len(),
            Self::OptionalText(v) => v.len(),
            Self::Real(v) => v.len(),
            Self::Single(v) => v.len(),
            Self::Whole(v) => v.len(),
            Self::Wide(v) => v.len(),
            Self::Flag(v) => v.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of one row as text: shortest decimal that reads back to the same number; absent is empty.
    pub fn text(&self, row: usize) -> String {
        match self {
            Self::Text(v) => v[row].clone(),
            Self::OptionalText(v) => v[row].clone().unwrap_or_default(),
            Self::Real(v) => v[row].map(|x| x.to_string()).unwrap_or_default(),
            Self::Single(v) => v[row].to_string(),
            Self::Whole(v) => v[row].to_string(),
            Self::Wide(v) => v[row].to_string(),
            Self::Flag(v) => v[row].to_string(),
        }
    }
}

/// Columns in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Columns(pub Vec<(String, Values)>);

/// A table does not have the columns that it should.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ColumnError {
    /// No column of this name.
    #[error("column `{0}` is missing; the file was written by another version of mdprop, run the suite again")]
    Missing(String),
    /// Another type than wanted.
    #[error("column `{name}` does not hold {wanted}; the file was written by another version of mdprop")]
    Kind {
        /// Which column.
        name: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A cell that cannot be read.
    #[error("column `{name}`, row {row}: `{got}` is not {wanted}")]
    Cell {
        /// Which column.
        name: String,
        /// Row, from 0.
        row: usize,
        /// What was found.
        got: String,
        /// What it should be.
        wanted: &'static str,
    },
}

macro_rules! getter {
    ($name:ident, $variant:ident, $item:ty, $wanted:literal) => {
        #[doc = concat!("The column `name`, which must hold ", $wanted, ".\n\n# Errors\n[`ColumnError`] if it is absent or of another type.")]
        pub fn $name(&self, name: &str) -> Result<&[$item], ColumnError> {
            match self.get(name)? {
                Values::$variant(values) => Ok(values),
                _ => Err(ColumnError::Kind { name: name.to_string(), wanted: $wanted }),
            }
        }
    };
}

impl Columns {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.0.first().map_or(0, |(_, values)| values.len())
    }

    /// Appends a column.
    pub fn push(&mut self, name: &str, values: Values) {
        self.0.push((name.to_string(), values));
    }

    /// Whether there is a column of this name; files of older versions lack the newer ones.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    fn get(&self, name: &str) -> Result<&Values, ColumnError> {
        let found = self.0.iter().find(|(n, _)| n == name);
        found.map(|(_, values)| values).ok_or_else(|| ColumnError::Missing(name.to_string()))
    }

    /// Takes the text of a column out of the table, which no longer has it.
    ///
    /// # Errors
    /// [`ColumnError`] if it is absent or of another type.
    pub fn take_text(&mut self, name: &str) -> Result<Vec<String>, ColumnError> {
        self.text(name)?;
        let place = self.0.iter().position(|(n, _)| n == name);
        match place.map(|place| self.0.remove(place).1) {
            Some(Values::Text(values)) => Ok(values),
            _ => Err(ColumnError::Missing(name.to_string())),
        }
    }

    getter!(text, Text, String, "text");
    getter!(optional_text, OptionalText, Option<String>, "optional text");
    getter!(real, Real, Option<f64>, "numbers");
    getter!(single, Single, f32, "single-precision numbers");
    getter!(whole, Whole, u32, "32-bit counts");
    getter!(wide, Wide, u64, "64-bit counts");
    getter!(flag, Flag, bool, "yes or no");

    /// Numbers of a column that older files lack: then none is there.
    ///
    /// # Errors
    /// [`ColumnError`] if the column is of another type.
    pub fn real_if_there(&self, name: &str) -> Result<Vec<Option<f64>>, ColumnError> {
        if self.has(name) { Ok(self.real(name)?.to_vec()) } else { Ok(vec![None; self.rows()]) }
    }

    /// Numbers of which none may be absent.
    ///
    /// # Errors
    /// [`ColumnError`] if the column is absent, of another type, or has an empty cell.
    pub fn present(&self, name: &str) -> Result<Vec<f64>, ColumnError> {
        let cell = |row| ColumnError::Cell { name: name.to_string(), row, got: String::new(), wanted: "a number" };
        self.real(name)?.iter().enumerate().map(|(row, value)| value.ok_or_else(|| cell(row))).collect()
    }

    /// Lists of indices, stored as text: decimal numbers with one space between.
    ///
    /// # Errors
    /// [`ColumnError`] if the column is absent, of another type, or holds something else.
    pub fn lists(&self, name: &str) -> Result<Vec<Vec<u32>>, ColumnError> {
        let read = |(row, text): (usize, &String)| {
            text.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>().map_err(|_| ColumnError::Cell {
                name: name.to_string(),
                row,
                got: text.clone(),
                wanted: "a list of indices with spaces between",
            })
        };
        self.text(name)?.iter().enumerate().map(read).collect()
    }
}

/// The text form of a list, see [`Columns::lists`].
pub(crate) fn list_text(list: &[u32]) -> String {
    list.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_another_kind_is_named() {
        let mut columns = Columns::default();
        columns.push("a", Values::Text(vec!["1 2".into(), "x".into()]));
        assert!(columns.real("a").unwrap_err().to_string().contains("`a` does not hold numbers"));
        assert!(columns.text("b").unwrap_err().to_string().contains("`b` is missing"));
        assert!(columns.lists("a").unwrap_err().to_string().contains("row 1: `x`"));
    }

    #[test]
    fn reals_print_without_loss() {
        let third = 1.0_f64 / 3.0;
        let text = Values::Real(vec![Some(third), None]).text(0);
        assert_eq!(text.parse::<f64>().unwrap().to_bits(), third.to_bits());
    }
}
