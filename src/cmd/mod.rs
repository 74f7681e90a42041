//! One file per subcommand. Results go to stdout, talk to stderr.
//!
//! Exit codes: 0 all well; 1 a failed expectation or drift; 2 bad input or set-up; 3 a soundness check failed; 4 a trial
//! failed or coverage is missing.

use std::io::{IsTerminal as _, Write as _};

use crate::report::terminal::Style;

pub mod accept;
pub mod check;
pub mod compare;
pub mod data;
pub mod doctor;
pub mod metrics;
pub mod operators;
pub mod plan;
mod process;
pub mod report;
pub mod run;
pub mod speed;
pub mod verify;

/// Exit code of bad input or a broken set-up.
pub const BAD_INPUT: u8 = 2;

/// Prints the chain of causes on one line, or with the backtrace if `RUST_BACKTRACE` is set to `full`.
pub fn print_error(error: &anyhow::Error) {
    let full = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value == "full");
    let text = if full { format!("{error:?}") } else { one_line(error) };
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "error: {text}");
}

/// The message and its causes, without those that a message above already quotes.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
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

/// How to print on stdout: as wide as the terminal (`COLUMNS` overrules it; 120 where there is none), in colour only on a
/// terminal and only if `NO_COLOR` is unset or empty.
fn style() -> Style {
    let is_terminal = std::io::stdout().is_terminal();
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let measured = || terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
    let width = said.or_else(measured).unwrap_or(120);
    Style { width, colour: is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_already_quoted_is_not_said_twice() {
        let disk = std::io::Error::other("disk on fire");
        let quoted = anyhow::Error::from(disk).context("a.txt: disk on fire; buy another");
        assert_eq!(one_line(&quoted), "a.txt: disk on fire; buy another");
        let other = quoted.context("cannot save");
        assert_eq!(one_line(&other), "cannot save: a.txt: disk on fire; buy another");
    }
}
