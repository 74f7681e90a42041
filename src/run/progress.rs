//! Progress on a terminal (bars with rate and ETA) and in a log (plain lines, a few per stage).

use std::io::IsTerminal as _;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::Observer;

/// Talks on stderr; results never go here.
pub struct Console {
    state: Mutex<State>,
    quiet: bool,
}

enum State {
    Idle,
    Bar(ProgressBar),
    Log { what: String, unit: String, total: u64, done: u64, note: String, began: Instant, spoken: Instant },
}

/// In a log, at most one line in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(15);

impl Console {
    /// `quiet`: only lines worth keeping.
    pub fn new(quiet: bool) -> Self {
        Self { state: Mutex::new(State::Idle), quiet }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic in another thread must not silence the report of it.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[expect(clippy::print_stderr, reason = "this is the one place that talks")]
fn line(text: &str) {
    eprintln!("{text}");
}

fn rate(done: u64, total: u64, began: Instant) -> String {
    if done == 0 {
        return "no estimate yet".into();
    }
    let per_second = done as f64 / began.elapsed().as_secs_f64().max(1e-9);
    let left = total.saturating_sub(done) as f64 / per_second;
    let digits = usize::from(per_second < 10.0);
    format!("{per_second:.digits$}/s, {left:.0} s left")
}

impl Observer for Console {
    fn begin(&self, what: &str, total: u64, unit: &str) {
        if self.quiet {
            return;
        }
        *self.state() = if std::io::stderr().is_terminal() {
            let template = match total {
                0 => "{spinner} {prefix} {elapsed}",
                _ => "{prefix} {wide_bar:.cyan/blue} {human_pos}/{human_len} {msg} {per_sec} eta {eta}",
            };
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total).with_style(style).with_prefix(what.to_string());
            bar.set_message(unit.to_string());
            bar.enable_steady_tick(Duration::from_millis(200));
            State::Bar(bar)
        } else {
            let now = Instant::now();
            line(&if total > 0 { format!("{what}: {total} {unit}") } else { what.to_string() });
            State::Log {
                what: what.into(),
                unit: unit.into(),
                total,
                done: 0,
                note: String::new(),
                began: now,
                spoken: now,
            }
        };
    }

    fn advance(&self, more: u64) {
        match &mut *self.state() {
            State::Idle => {}
            State::Bar(bar) => bar.inc(more),
            State::Log { what, unit, total, done, note, began, spoken } => {
                *done += more;
                if spoken.elapsed() >= LOG_INTERVAL {
                    *spoken = Instant::now();
                    line(&format!("{what}: {done}/{total} {unit} {note} ({})", rate(*done, *total, *began)));
                }
            }
        }
    }

    fn note(&self, text: &str) {
        match &mut *self.state() {
            State::Idle => {}
            State::Bar(bar) => bar.set_message(text.to_string()),
            State::Log { note, .. } => *note = text.to_string(),
        }
    }

    fn end(&self) {
        match std::mem::replace(&mut *self.state(), State::Idle) {
            State::Idle => {}
            State::Bar(bar) => bar.finish_and_clear(),
            // What is not counted has an end worth a line only where it took long.
            State::Log { total: 0, began, .. } if began.elapsed() < LOG_INTERVAL => {}
            State::Log { what, unit, done, note, began, .. } => {
                // Nothing done: there was nothing to do, or it was not counted.
                let done = if done > 0 { format!(" {done} {unit}") } else { String::new() };
                line(&format!("{what}:{done} in {:.1} s {note}", began.elapsed().as_secs_f64()));
            }
        }
    }

    fn say(&self, text: &str) {
        match &*self.state() {
            State::Bar(bar) => bar.suspend(|| line(text)),
            _ => line(text),
        }
    }
}

/// Says on a terminal what is being done if it takes longer than a second; gone when dropped. A log hears nothing.
pub struct Waiting {
    bar: ProgressBar,
    /// Dropped to tell the thread that waits for the second to be over.
    _over: mpsc::Sender<()>,
}

impl Waiting {
    /// Begins to wait for `what`, such as `reading reports/runs/demo`.
    pub fn new(what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
            .with_style(ProgressStyle::default_spinner())
            .with_message(what.to_string());
        let (_over, over) = mpsc::channel::<()>();
        if std::io::stderr().is_terminal() {
            let shown = bar.clone();
            std::thread::spawn(move || {
                if over.recv_timeout(Duration::from_secs(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
                    shown.set_draw_target(ProgressDrawTarget::stderr());
                    shown.enable_steady_tick(Duration::from_millis(200));
                }
            });
        }
        Self { bar, _over }
    }

    /// What is done from now on.
    pub fn now(&self, what: &str) {
        self.bar.set_message(what.to_string());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
