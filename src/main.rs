//! The `mdprop` program: parse, dispatch, turn errors into messages and exit codes.

use std::process::ExitCode;

use clap::Parser as _;
use mdprop::cli::{Cli, Command};
use mdprop::cmd;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => cmd::run::run(&args, cmd::run::Until::Reported),
        Command::Train(args) => cmd::run::run(&args, cmd::run::Until::Trained),
        Command::Export(args) => cmd::run::run(&args, cmd::run::Until::Exported),
        Command::Measure(args) => cmd::run::run(&args, cmd::run::Until::Measured),
        Command::Plan(args) => cmd::plan::run(&args),
        Command::Compare(args) => cmd::compare::run(&args),
        Command::Check(args) => cmd::check::run(&args),
        Command::Accept(args) => cmd::accept::run(&args),
        Command::Speed(args) => cmd::speed::run(&args),
        Command::Merge(args) => cmd::run::merge(&args),
        Command::Report(args) => cmd::report::run(&args),
        Command::Verify(args) => cmd::verify::run(&args),
        Command::Metrics(args) => cmd::metrics::run(&args),
        Command::Data(args) => cmd::data::run(&args),
        Command::Operators => cmd::operators::run(),
        Command::Doctor(args) => cmd::doctor::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            cmd::print_error(&error);
            ExitCode::from(cmd::BAD_INPUT)
        }
    }
}
