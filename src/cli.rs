//! The command line as clap structs; meaning is in `cmd/`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// How well does an embedding model retrieve, clean and under attack, and is model B better than model A?
#[derive(Debug, Parser)]
#[command(name = "mdprop", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Do everything a suite asks for: data, training, export, attacks, report. Continues where it stopped.
    Run(RunArgs),
    /// Only train the models of a suite.
    Train(RunArgs),
    /// Train if needed, then write the ONNX files of a suite's models.
    Export(RunArgs),
    /// Do everything but the report.
    Measure(RunArgs),
    /// Show what a suite would do, without doing it.
    Plan(PlanArgs),
    /// Write the report of a finished run again.
    Report(ReportArgs),
    /// List, fetch or verify data sets.
    Data(DataArgs),
    /// Say what is installed, what is found and what is wrong.
    Doctor(DoctorArgs),
}

/// Where things are.
#[derive(Debug, Clone, Args)]
pub struct FolderArgs {
    /// Folder of data sets and their caches.
    #[arg(long, value_name = "FOLDER", default_value = "data")]
    pub data: PathBuf,
    /// Folder of recipes and model cards.
    #[arg(long, value_name = "FOLDER", default_value = "models")]
    pub models: PathBuf,
    /// Folder of trained models.
    #[arg(long, value_name = "FOLDER", default_value = "models/artifacts")]
    pub artifacts: PathBuf,
}

/// Arguments of `run`, `train`, `export` and `measure`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The suite, such as suites/demo.toml.
    pub suite: PathBuf,
    /// Where things are.
    #[command(flatten)]
    pub folders: FolderArgs,
    /// Folder of the results; default reports/runs/SUITE.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Device of training: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Threads; default all cores. Results do not depend on it.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Print the results as JSON on stdout instead of a table.
    #[arg(long)]
    pub json: bool,
    /// No progress on stderr.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Arguments of `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// The suite, such as suites/demo.toml.
    pub suite: PathBuf,
    /// Folder of recipes and model cards.
    #[arg(long, value_name = "FOLDER", default_value = "models")]
    pub models: PathBuf,
    /// Print the plan as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// A run folder, such as reports/runs/demo.
    pub run: PathBuf,
}

/// Arguments of `data`.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: DataAction,
    /// Folder of data sets and their caches.
    #[arg(long, value_name = "FOLDER", default_value = "data", global = true)]
    pub data: PathBuf,
}

/// What to do with data sets.
#[derive(Debug, Clone, Subcommand)]
pub enum DataAction {
    /// Every data set with its state, counts and licence.
    List {
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Download and prepare a data set that can be had (emoji).
    Fetch(DataSetArgs),
    /// Recompute counts and digests of a prepared data set.
    Verify(DataSetArgs),
}

/// Which data set.
#[derive(Debug, Clone, Args)]
pub struct DataSetArgs {
    /// Its id (emoji, glyphs), or a suite whose data set is meant.
    pub id: String,
    /// Side of the square images in pixels.
    #[arg(long, default_value_t = 32)]
    pub image_size: usize,
}

/// Arguments of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Folder of data sets and their caches.
    #[arg(long, value_name = "FOLDER", default_value = "data")]
    pub data: PathBuf,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}
