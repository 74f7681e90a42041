//! Where the time of a training goes: an observer between the console and the program that sums up phases.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::progress::Observer;

/// Passes everything on and times the phases in between; [`Profile::lines`] has the sums.
pub struct Profile<'a> {
    inner: &'a dyn Observer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The phase that runs, since when.
    running: Option<(&'static str, Instant)>,
    /// Times entered and time spent, by phase.
    spent: BTreeMap<&'static str, (u64, Duration)>,
}

impl State {
    fn switch(&mut self, next: Option<&'static str>, now: Instant) {
        if let Some((phase, since)) = self.running.take() {
            let (count, time) = self.spent.entry(phase).or_default();
            *count += 1;
            *time += now.saturating_duration_since(since);
        }
        self.running = next.map(|phase| (phase, now));
    }
}

impl<'a> Profile<'a> {
    /// Watches what `inner` is told.
    pub fn new(inner: &'a dyn Observer) -> Self {
        Self { inner, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic in another thread must not silence the report of it.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A line a phase, the longest first: share, seconds, milliseconds each time. Empty if nothing was trained.
    ///
    /// On a GPU kernels run behind the program: a phase's time is then how long the host was in it.
    pub fn lines(&self) -> Vec<String> {
        let state = self.state();
        let total: f64 = state.spent.values().map(|(_, time)| time.as_secs_f64()).sum();
        let mut phases: Vec<_> = state.spent.iter().collect();
        phases.sort_by(|a, b| b.1.1.cmp(&a.1.1).then(a.0.cmp(b.0)));
        let line = |(phase, (count, time)): (&&str, &(u64, Duration))| {
            let seconds = time.as_secs_f64();
            let (share, each) = (100.0 * seconds / total.max(1e-9), 1e3 * seconds / (*count).max(1) as f64);
            format!("profile: {phase:<12} {share:5.1} %  {seconds:9.2} s  {count:6} × {each:9.2} ms")
        };
        phases.into_iter().map(line).collect()
    }
}

impl Observer for Profile<'_> {
    fn begin(&self, what: &str, total: u64, unit: &str) {
        self.inner.begin(what, total, unit);
    }

    fn advance(&self, done: u64) {
        self.inner.advance(done);
    }

    fn note(&self, text: &str) {
        self.inner.note(text);
    }

    fn end(&self) {
        self.state().switch(None, Instant::now());
        self.inner.end();
    }

    fn say(&self, line: &str) {
        self.inner.say(line);
    }

    fn phase(&self, phase: &'static str) {
        self.state().switch(Some(phase), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn phases_end_where_the_next_begins_and_are_summed() {
        let profile = Profile::new(&Silent);
        assert!(profile.lines().is_empty());
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        for (phase, ms) in [("load", 0), ("step", 10), ("load", 40), ("step", 50)] {
            profile.state().switch(Some(phase), at(ms));
        }
        profile.state().switch(None, at(100));
        // What comes before the first phase and after the last is nobody's.
        profile.state().switch(None, at(900));
        let lines = profile.lines();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].contains("step") && lines[0].contains("80.0 %") && lines[0].contains("0.08 s"),
            "{}",
            lines[0]
        );
        assert!(lines[1].contains("load") && lines[1].contains("2 ×") && lines[1].contains("10.00 ms"), "{}", lines[1]);
    }
}
