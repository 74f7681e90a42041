//! One file per subcommand. Results go to stdout, talk to stderr.
//!
//! Exit codes: 0 all well; 1 a failed expectation or drift; 2 bad input or set-up; 3 a soundness check failed; 4 a trial
//! failed or coverage is missing.

use std::io::Write as _;

pub mod data;
pub mod doctor;
pub mod plan;
pub mod report;
pub mod run;

/// Exit code of bad input or a broken set-up.
pub const BAD_INPUT: u8 = 2;

/// Prints the chain of causes on one line, or with the backtrace if `RUST_BACKTRACE` is set to `full`.
pub fn print_error(error: &anyhow::Error) {
    let full = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value == "full");
    let text = if full { format!("{error:?}") } else { format!("{error:#}") };
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "error: {text}");
}

/// Writes to stdout; a closed pipe (`mdprop ... | head`) is no error.
///
/// # Errors
/// Any other failure of stdout, a full disk behind a redirection for instance.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(e).context("cannot write to stdout"))
        }
        _ => Ok(()),
    }
}
