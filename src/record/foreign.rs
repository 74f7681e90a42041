//! Parquet tables that somebody else wrote, column by column as text.

use std::io::Cursor;

use polars::prelude::{ArrowDataType, DataType, ParquetReader, SerReader as _};

use super::frames::FrameError;

/// A table whose columns are known and whose rows are not read yet.
pub struct ForeignTable {
    reader: ParquetReader<Cursor<Vec<u8>>>,
    /// Names of its columns, in order.
    pub names: Vec<String>,
}

impl ForeignTable {
    /// Looks at the columns.
    ///
    /// # Errors
    /// [`FrameError::Parquet`] if the bytes are cut short or are no Parquet.
    pub fn open(bytes: Vec<u8>) -> Result<Self, FrameError> {
        let mut reader = ParquetReader::new(Cursor::new(bytes));
        let names = reader.schema()?.iter_names().map(ToString::to_string).collect();
        Ok(Self { reader, names })
    }

    /// The values of every column, in order; an absent value is an empty text, a number its digits.
    ///
    /// # Errors
    /// [`FrameError::NotText`] naming a column of another type; [`FrameError::Parquet`] if the rows cannot be read.
    pub fn read(mut self) -> Result<Vec<Vec<String>>, FrameError> {
        for (name, field) in self.reader.schema()?.iter() {
            // Before any conversion: polars panics at types whose support it was built without.
            let plain = matches!(
                field.dtype(),
                ArrowDataType::Utf8
                    | ArrowDataType::LargeUtf8
                    | ArrowDataType::Utf8View
                    | ArrowDataType::Int32
                    | ArrowDataType::Int64
                    | ArrowDataType::UInt32
                    | ArrowDataType::UInt64
            );
            if !plain {
                let kind = match field.dtype() {
                    ArrowDataType::Dictionary(..) => "categorical".into(),
                    other => format!("{other:?}"),
                };
                return Err(FrameError::NotText { name: name.to_string(), kind });
            }
        }
        let frame = self.reader.finish()?;
        let mut columns = Vec::with_capacity(frame.width());
        for column in frame.columns() {
            let column = column.cast(&DataType::String)?;
            columns.push(column.str()?.iter().map(|value| value.unwrap_or_default().to_string()).collect());
        }
        Ok(columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::columns::{Columns, Values};
    use crate::record::frames::table_to_parquet;

    fn parquet(columns: Vec<(&str, Values)>) -> Vec<u8> {
        let columns = columns.into_iter().map(|(name, values)| (name.to_string(), values)).collect();
        table_to_parquet(&Columns(columns)).unwrap()
    }

    #[test]
    fn text_and_whole_numbers_become_text() {
        let bytes = parquet(vec![
            ("path", Values::OptionalText(vec![Some("ä/1.jpg".into()), None])),
            ("label", Values::Wide(vec![3, u64::MAX])),
            ("left", Values::Whole(vec![0, 12])),
        ]);
        let table = ForeignTable::open(bytes).unwrap();
        assert_eq!(table.names, ["path", "label", "left"]);
        let wanted = [["ä/1.jpg", ""], ["3", "18446744073709551615"], ["0", "12"]];
        assert_eq!(table.read().unwrap(), wanted.map(|column| column.map(String::from)));
    }

    #[test]
    fn other_types_and_damaged_files_are_errors() {
        let bytes = parquet(vec![("left", Values::Real(vec![Some(0.5)]))]);
        let error = ForeignTable::open(bytes.clone()).unwrap().read().unwrap_err().to_string();
        assert!(error.contains("column `left`") && error.contains("Float64"), "{error}");
        for cut in [0, 4, bytes.len() / 2, bytes.len() - 1] {
            let opened = ForeignTable::open(bytes[..cut].to_vec()).and_then(ForeignTable::read);
            assert!(opened.is_err(), "{cut} of {} bytes were accepted", bytes.len());
        }
    }
}
