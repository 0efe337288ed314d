//! How far a long run has come: a bar on a terminal, plain lines elsewhere.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// Whether this process says nothing, because another rank says it.
static SILENT: AtomicBool = AtomicBool::new(false);

/// From here on only errors of its own are told by this process.
pub(super) fn be_silent() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Whether it is.
pub(super) fn is_silent() -> bool {
    SILENT.load(Ordering::Relaxed)
}

/// Writes a line to standard error. A terminal that has gone away must not end a run, as `eprintln!` would.
pub fn note(line: &str) {
    if !is_silent() {
        note_of_any_rank(line);
    }
}

/// Writes a line to standard error, even if another rank speaks for all.
pub(super) fn note_of_any_rank(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The progress of a run, on standard error.
///
/// On a terminal it is a bar that is redrawn in place. Elsewhere it is a line every tenth of the way, and after ten
/// seconds without one.
#[derive(Debug)]
pub struct Progress(Output);

#[derive(Debug)]
enum Output {
    Bar(ProgressBar),
    Lines { lines: Lines, started: Instant },
}

impl Progress {
    /// Starts the clock of the run `title`, of `total` steps, images or whatever `unit` (in the plural) says.
    pub fn new(title: &'static str, total: u64, unit: &'static str) -> Self {
        Progress::resumed(title, 0, total, unit)
    }

    /// As [`new`](Progress::new), where the first `position` of `total` were done in an earlier run.
    pub fn resumed(title: &'static str, position: u64, total: u64, unit: &'static str) -> Self {
        let bar = ProgressBar::new(total);
        if is_silent() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if bar.is_hidden() {
            let lines = Lines { title, unit, total, first: position, last: position, last_elapsed: Duration::ZERO };
            return Progress(Output::Lines { lines, started: Instant::now() });
        }
        let template =
            format!("{title} {{bar:24}} {{pos}}/{{len}} {unit}, {{elapsed}} elapsed, {{eta}} left, {{wide_msg}}");
        let style = ProgressStyle::with_template(&template).expect("a template without errors");
        let bar = bar.with_style(style).with_position(position).with_finish(ProgressFinish::Abandon);
        bar.reset_eta();
        Progress(Output::Bar(bar))
    }

    /// The run has come to `position`; `message` says how it does (loss, images/s), or nothing.
    pub fn set(&mut self, position: u64, message: &str) {
        match &mut self.0 {
            Output::Bar(bar) => {
                bar.set_message(message.to_string());
                bar.set_position(position);
            }
            Output::Lines { lines, started } => {
                if let Some(line) = lines.advance(position, message, started.elapsed()) {
                    note(&line);
                }
            }
        }
    }

    /// Prints a line of its own, above the bar.
    pub fn println(&self, line: &str) {
        match &self.0 {
            Output::Bar(bar) => bar.println(line),
            Output::Lines { .. } => note(line),
        }
    }

    /// The run is over, done or stopped; `message` says how it went.
    pub fn finish(self, message: &str) {
        match self.0 {
            Output::Bar(bar) => bar.abandon_with_message(message.to_string()),
            Output::Lines { lines, started } => {
                note(&format!("{}: {message}, {} elapsed", lines.title, clock(started.elapsed())));
            }
        }
    }
}

/// Minutes and seconds, 2:08, and hours before them where there are any.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Which positions get a line, and what it says.
#[derive(Debug)]
struct Lines {
    title: &'static str,
    unit: &'static str,
    total: u64,
    /// The position at which the clock was started.
    first: u64,
    /// The position and the time of the last line.
    last: u64,
    last_elapsed: Duration,
}

impl Lines {
    /// The line for `position`, if it is time for one. The end has none: it is for [`Progress::finish`] to tell.
    fn advance(&mut self, position: u64, message: &str, elapsed: Duration) -> Option<String> {
        if position <= self.last || position >= self.total {
            return None;
        }
        let far = (position - self.last) * 10 >= self.total;
        let long = elapsed - self.last_elapsed >= Duration::from_secs(10);
        if !(far || long) {
            return None;
        }
        (self.last, self.last_elapsed) = (position, elapsed);
        let Lines { title, unit, total, first, .. } = self;
        let left = elapsed.mul_f64((*total - position) as f64 / (position - *first) as f64);
        let (elapsed, left) = (clock(elapsed), clock(left));
        let message = if message.is_empty() { String::new() } else { format!("{message}, ") };
        Some(format!("{title}: {position}/{total} {unit}, {message}{elapsed} elapsed, {left} left"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(first: u64) -> Lines {
        Lines { title: "train", unit: "steps", total: 2000, first, last: first, last_elapsed: Duration::ZERO }
    }

    #[test]
    fn lines_of_a_fast_run_come_every_tenth_and_not_at_the_end() {
        let mut lines = lines(0);
        let printed: Vec<u64> =
            (1..=2000).filter(|&step| lines.advance(step, "", Duration::from_micros(step)).is_some()).collect();
        assert_eq!(printed, (1..10).map(|tenth| tenth * 200).collect::<Vec<_>>());
    }

    #[test]
    fn lines_of_a_slow_run_come_every_ten_seconds() {
        let mut lines = lines(0);
        let printed: Vec<u64> =
            (1..=10).filter(|&step| lines.advance(step, "", Duration::from_secs(4 * step)).is_some()).collect();
        assert_eq!(printed, [3, 6, 9]);
    }

    #[test]
    fn lines_of_a_run_that_stands_still_do_not_come() {
        assert_eq!(lines(7).advance(7, "", Duration::from_secs(60)), None);
    }

    #[test]
    fn line_of_a_resumed_run_counts_the_time_left_from_where_it_started() {
        let line = lines(1000).advance(1500, "loss 0.03", Duration::from_secs(60)).unwrap();
        assert_eq!(line, "train: 1500/2000 steps, loss 0.03, 1:00 elapsed, 1:00 left");
        assert_eq!(clock(Duration::from_secs(3 * 3600 + 128)), "3:02:08");
    }
}
