//! Rows ⇄ polars data frames ⇄ Parquet.
//!
//! Parquet bytes depend on the rows alone: fixed compression (zstd, default level), fixed row-group size, no times and
//! no machine names in the file. Lists of indices are text (`"3 17 4"`), checks are JSON text.

use std::io::Cursor;

use polars::prelude::{
    Column, DataFrame, DataType, NamedFrom as _, ParquetCompression, ParquetReader, ParquetWriter, PolarsError,
    SerReader as _, Series,
};

use super::columns::{ColumnError, Columns, Values};
use super::{Measurement, QueryOutcome, StepPoint, TrainingPoint, layout};

/// Rows per Parquet row group: a demo's per-query table is one or two of them, and a reader can skip the rest.
const ROW_GROUP: usize = 65_536;

/// A table could not be turned into a data frame, or a Parquet file into rows.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A column is missing or holds something else.
    #[error(transparent)]
    Column(#[from] ColumnError),
    /// Polars refused.
    #[error("not a whole Parquet file: {0}")]
    Parquet(#[from] PolarsError),
    /// A column type that no table of ours has.
    #[error("column `{name}` has type {kind}, which no mdprop table has")]
    Kind {
        /// Which column.
        name: String,
        /// Its type, in polars' words.
        kind: String,
    },
    /// A column of somebody else's table that cannot be taken as text.
    #[error("column `{name}` has type {kind}, wanted plain text or whole numbers of 32 or 64 bits; write it as such")]
    NotText {
        /// Which column.
        name: String,
        /// Its type, in Arrow's words.
        kind: String,
    },
}

fn to_frame(columns: &Columns) -> Result<DataFrame, FrameError> {
    let column = |(name, values): &(String, Values)| -> Column {
        let name = name.as_str().into();
        match values {
            Values::Text(v) => Series::new(name, v).into(),
            Values::OptionalText(v) => Series::new(name, v).into(),
            Values::Real(v) => Series::new(name, v).into(),
            Values::Single(v) => Series::new(name, v).into(),
            Values::Whole(v) => Series::new(name, v).into(),
            Values::Wide(v) => Series::new(name, v).into(),
            Values::Flag(v) => Series::new(name, v).into(),
        }
    };
    Ok(DataFrame::new(columns.rows(), columns.0.iter().map(column).collect())?)
}

fn from_frame(frame: &DataFrame) -> Result<Columns, FrameError> {
    let mut columns = Columns::default();
    for column in frame.columns() {
        let name = column.name().as_str();
        let full = |missing: bool| -> Result<(), ColumnError> {
            if !missing {
                return Ok(());
            }
            Err(ColumnError::Kind { name: name.to_string(), wanted: "a value in every row" })
        };
        let missing = column.null_count() > 0;
        let values = match column.dtype() {
            // `error` is the only text that may be absent.
            DataType::String if name == "error" => {
                Values::OptionalText(column.str()?.iter().map(|v| v.map(str::to_string)).collect())
            }
            DataType::String => {
                full(missing)?;
                Values::Text(column.str()?.iter().flatten().map(str::to_string).collect())
            }
            DataType::Float64 => Values::Real(column.f64()?.iter().collect()),
            DataType::Float32 => {
                full(missing)?;
                Values::Single(column.f32()?.iter().flatten().collect())
            }
            DataType::UInt32 => {
                full(missing)?;
                Values::Whole(column.u32()?.iter().flatten().collect())
            }
            DataType::UInt64 => {
                full(missing)?;
                Values::Wide(column.u64()?.iter().flatten().collect())
            }
            DataType::Boolean => {
                full(missing)?;
                Values::Flag(column.bool()?.iter().flatten().collect())
            }
            other => return Err(FrameError::Kind { name: name.to_string(), kind: other.to_string() }),
        };
        columns.push(name, values);
    }
    Ok(columns)
}

/// One row per trial as a data frame.
///
/// # Errors
/// [`FrameError`] if polars refuses.
pub fn measurements_to_frame(rows: &[Measurement]) -> Result<DataFrame, FrameError> {
    to_frame(&layout::from_measurements(rows))
}

/// The rows of such a frame.
///
/// # Errors
/// [`FrameError`] naming the column that is missing or wrong.
pub fn measurements_from_frame(frame: &DataFrame) -> Result<Vec<Measurement>, FrameError> {
    Ok(layout::to_measurements(&from_frame(frame)?)?)
}

/// One row per query as a data frame.
///
/// # Errors
/// [`FrameError`] if polars refuses.
pub fn queries_to_frame(rows: &[QueryOutcome]) -> Result<DataFrame, FrameError> {
    to_frame(&layout::from_queries(rows))
}

/// The rows of such a frame.
///
/// # Errors
/// [`FrameError`] naming the column that is missing or wrong.
pub fn queries_from_frame(frame: &DataFrame) -> Result<Vec<QueryOutcome>, FrameError> {
    Ok(layout::to_queries(&from_frame(frame)?)?)
}

/// The outcomes alone, straight from Parquet bytes: neighbours, targets and distances are not read. A million rows take a
/// fraction of the time and memory of [`queries_from_frame`].
///
/// # Errors
/// [`FrameError`] if the bytes are no whole Parquet file, or naming the column that is missing or wrong.
pub fn outcomes_from_parquet(bytes: Vec<u8>) -> Result<Vec<QueryOutcome>, FrameError> {
    Ok(layout::to_outcomes(some_columns(bytes, &layout::OUTCOMES)?)?)
}

/// What a report says of queries: class, rank of the first hit and shift.
///
/// # Errors
/// As [`outcomes_from_parquet`].
pub fn reported_from_parquet(bytes: Vec<u8>) -> Result<Vec<QueryOutcome>, FrameError> {
    Ok(layout::to_reported(some_columns(bytes, &layout::REPORTED)?)?)
}

fn some_columns(bytes: Vec<u8>, wanted: &[&str]) -> Result<Columns, FrameError> {
    let mut reader = ParquetReader::new(Cursor::new(bytes));
    // Files of earlier versions lack some; `layout` says which must be there.
    let known: Vec<String> = reader.schema()?.iter_names().map(ToString::to_string).collect();
    let columns = wanted.iter().filter(|name| known.iter().any(|k| k == *name)).map(|name| (*name).to_string());
    from_frame(&reader.with_columns(Some(columns.collect())).finish()?)
}

/// One row per step of an attack as a data frame.
///
/// # Errors
/// [`FrameError`] if polars refuses.
pub fn steps_to_frame(rows: &[StepPoint]) -> Result<DataFrame, FrameError> {
    to_frame(&layout::from_steps(rows))
}

/// The rows of such a frame.
///
/// # Errors
/// [`FrameError`] naming the column that is missing or wrong.
pub fn steps_from_frame(frame: &DataFrame) -> Result<Vec<StepPoint>, FrameError> {
    Ok(layout::to_steps(from_frame(frame)?)?)
}

/// One row per epoch as a data frame.
///
/// # Errors
/// [`FrameError`] if polars refuses.
pub fn training_to_frame(rows: &[TrainingPoint]) -> Result<DataFrame, FrameError> {
    to_frame(&layout::from_training(rows))
}

/// The rows of such a frame.
///
/// # Errors
/// [`FrameError`] naming the column that is missing or wrong.
pub fn training_from_frame(frame: &DataFrame) -> Result<Vec<TrainingPoint>, FrameError> {
    Ok(layout::to_training(&from_frame(frame)?)?)
}

/// Any of our tables from Parquet bytes.
pub(super) fn columns_from_parquet(bytes: Vec<u8>) -> Result<Columns, FrameError> {
    from_frame(&from_parquet(bytes)?)
}

/// Any named columns as Parquet bytes.
///
/// # Errors
/// [`FrameError`] if polars refuses.
pub fn table_to_parquet(columns: &Columns) -> Result<Vec<u8>, FrameError> {
    to_parquet(to_frame(columns)?)
}

/// A frame as Parquet bytes; the same frame gives the same bytes.
///
/// # Errors
/// [`FrameError`] if polars refuses.
pub fn to_parquet(mut frame: DataFrame) -> Result<Vec<u8>, FrameError> {
    let mut bytes = Vec::new();
    frame.rechunk_mut();
    ParquetWriter::new(&mut bytes)
        .with_compression(ParquetCompression::Zstd(None))
        .with_row_group_size(Some(ROW_GROUP))
        .finish(&mut frame)?;
    Ok(bytes)
}

/// Parquet bytes as a frame.
///
/// # Errors
/// [`FrameError::Parquet`] if the bytes are cut short or are no Parquet.
pub fn from_parquet(bytes: Vec<u8>) -> Result<DataFrame, FrameError> {
    Ok(ParquetReader::new(Cursor::new(bytes)).finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn every_table_survives_parquet_bit_for_bit() {
        let run = sample::run();
        let there = to_parquet(measurements_to_frame(&run.measurements).unwrap()).unwrap();
        assert_eq!(measurements_from_frame(&from_parquet(there).unwrap()).unwrap(), run.measurements);
        let there = to_parquet(queries_to_frame(&run.queries).unwrap()).unwrap();
        assert_eq!(queries_from_frame(&from_parquet(there).unwrap()).unwrap(), run.queries);
        let there = to_parquet(steps_to_frame(&run.steps).unwrap()).unwrap();
        assert_eq!(steps_from_frame(&from_parquet(there).unwrap()).unwrap(), run.steps);
        let there = to_parquet(training_to_frame(&run.training).unwrap()).unwrap();
        assert_eq!(training_from_frame(&from_parquet(there).unwrap()).unwrap(), run.training);
    }

    #[test]
    fn outcomes_alone_are_those_of_the_whole_table() {
        let rows = sample::run().queries;
        let bytes = to_parquet(queries_to_frame(&rows).unwrap()).unwrap();
        let alone = outcomes_from_parquet(bytes).unwrap();
        assert_eq!(alone.len(), rows.len());
        for (a, b) in alone.iter().zip(&rows) {
            let all = |q: &QueryOutcome| {
                (q.trial.clone(), q.query, q.label, q.first_hit, q.success, q.target_rank, q.map_at_r)
            };
            assert_eq!(all(a), all(b));
            assert!(a.neighbors.is_empty());
        }
        let bytes = to_parquet(queries_to_frame(&rows).unwrap()).unwrap();
        let reported = reported_from_parquet(bytes).unwrap();
        assert_eq!(reported.len(), rows.len());
        for (a, b) in reported.iter().zip(&rows) {
            let all = |q: &QueryOutcome| (q.trial.clone(), q.query, q.label, q.first_hit, q.shift.to_bits());
            assert_eq!(all(a), all(b));
        }
    }

    #[test]
    fn empty_tables_survive_too() {
        let bytes = to_parquet(measurements_to_frame(&[]).unwrap()).unwrap();
        assert_eq!(measurements_from_frame(&from_parquet(bytes).unwrap()).unwrap(), vec![]);
        let bytes = to_parquet(queries_to_frame(&[]).unwrap()).unwrap();
        assert_eq!(queries_from_frame(&from_parquet(bytes).unwrap()).unwrap(), vec![]);
    }

    #[test]
    fn the_same_rows_give_the_same_bytes() {
        let rows = sample::run().queries;
        let bytes = |rows: &[QueryOutcome]| to_parquet(queries_to_frame(rows).unwrap()).unwrap();
        assert_eq!(bytes(&rows), bytes(&rows.clone()));
    }

    #[test]
    fn bytes_cut_short_anywhere_are_an_error() {
        let bytes = to_parquet(measurements_to_frame(&sample::run().measurements).unwrap()).unwrap();
        for cut in [0, 3, 4, 11, bytes.len() / 2, bytes.len() - 5, bytes.len() - 1] {
            assert!(from_parquet(bytes[..cut].to_vec()).is_err(), "{cut} of {} bytes were accepted", bytes.len());
        }
    }

    #[test]
    fn recall_is_flat_columns() {
        let frame = measurements_to_frame(&sample::run().measurements).unwrap();
        for name in ["recall_at_1", "recall_at_1_low", "recall_at_1_high", "recall_at_8"] {
            assert_eq!(frame.column(name).unwrap().dtype(), &DataType::Float64);
        }
    }

    #[test]
    fn a_lost_column_is_named() {
        let frame = queries_to_frame(&sample::run().queries).unwrap().drop("first_hit").unwrap();
        assert!(queries_from_frame(&frame).unwrap_err().to_string().contains("first_hit"));
    }
}
