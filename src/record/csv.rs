//! The tables as CSV, for people and spreadsheets. Numbers are raw and full; the unit is in the column's name.

use super::columns::Columns;
use super::{Measurement, StepPoint, TrainingPoint, layout};

/// A table could not be written as CSV.
#[derive(Debug, thiserror::Error)]
#[error("cannot write CSV: {0}")]
pub struct CsvError(String);

fn to_csv(columns: &Columns) -> Result<Vec<u8>, CsvError> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let fail = |error: ::csv::Error| CsvError(error.to_string());
    writer.write_record(columns.0.iter().map(|(name, _)| name)).map_err(fail)?;
    for row in 0..columns.rows() {
        writer.write_record(columns.0.iter().map(|(_, values)| values.text(row))).map_err(fail)?;
    }
    writer.into_inner().map_err(|error| CsvError(error.to_string()))
}

/// Any named columns.
///
/// # Errors
/// [`CsvError`] if a record cannot be written.
pub fn table(columns: &Columns) -> Result<Vec<u8>, CsvError> {
    to_csv(columns)
}

/// `measurements.csv`: one line per trial, the columns of `measurements.parquet`.
///
/// # Errors
/// [`CsvError`] if a record cannot be written.
pub fn measurements(rows: &[Measurement]) -> Result<Vec<u8>, CsvError> {
    to_csv(&layout::from_measurements(rows))
}

/// `steps.csv`: one line per trial and step of its attack.
///
/// # Errors
/// [`CsvError`] if a record cannot be written.
pub fn steps(rows: &[StepPoint]) -> Result<Vec<u8>, CsvError> {
    to_csv(&layout::from_steps(rows))
}

/// `training.csv`: one line per model, seed and epoch.
///
/// # Errors
/// [`CsvError`] if a record cannot be written.
pub fn training(rows: &[TrainingPoint]) -> Result<Vec<u8>, CsvError> {
    to_csv(&layout::from_training(rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn an_independent_reader_finds_the_same_numbers() {
        let rows = sample::run().measurements;
        let bytes = measurements(&rows).unwrap();
        let mut reader = ::csv::Reader::from_reader(bytes.as_slice());
        let headers = reader.headers().unwrap().clone();
        let at = |name: &str| headers.iter().position(|h| h == name).unwrap();
        let (model, recall, error) = (at("model"), at("recall_at_1"), at("error"));
        for (record, row) in reader.records().zip(&rows) {
            let record = record.unwrap();
            assert_eq!(&record[model], row.model);
            let wanted = row.recall.first().map(|r| r.estimate.value);
            assert_eq!(record[recall].parse::<f64>().ok().map(f64::to_bits), wanted.map(f64::to_bits));
            assert_eq!(&record[error], row.error.as_deref().unwrap_or(""));
        }
    }

    #[test]
    fn quotes_commas_and_line_breaks_stay_one_cell() {
        let mut row = sample::run().measurements.remove(0);
        row.error = Some("a \"b\",\nc".into());
        let bytes = measurements(&[row]).unwrap();
        let mut reader = ::csv::Reader::from_reader(bytes.as_slice());
        let record = reader.records().next().unwrap().unwrap();
        assert_eq!(&record[record.len() - 1], "a \"b\",\nc");
    }
}
