//! What a person sees while a stage runs: a bar on a terminal, plain lines elsewhere, always on standard
//! error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::tell;

/// How often a plain line is written.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Progress of one stage.
pub(crate) struct Progress {
    stage: String,
    bar: Option<ProgressBar>,
    /// `None` where it is not known.
    total: Option<u64>,
    first: u64,
    started: Instant,
    shown: Instant,
}

impl Progress {
    /// Starts at `done` of `total`.
    pub(crate) fn new(stage: &str, done: u64, total: u64) -> Self {
        Self::start(stage, done, Some(total))
    }

    /// Starts at 0 of a total that is not known.
    pub(crate) fn open_ended(stage: &str) -> Self {
        Self::start(stage, 0, None)
    }

    fn start(stage: &str, done: u64, total: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new).with_position(done);
            let style = ProgressStyle::with_template(match total {
                None => "{prefix:>14.bold} {pos} {wide_msg}",
                Some(_) => "{prefix:>14.bold} {bar:24} {pos}/{len} {wide_msg}",
            });
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(stage.to_string());
            bar
        });
        let now = Instant::now();
        Self { stage: stage.to_string(), bar, total, first: done, started: now, shown: now }
    }

    /// `done` of the total are behind; `figures` is shown beside.
    pub(crate) fn update(&mut self, done: u64, figures: &str) {
        let each = self.started.elapsed().as_secs_f64() / (done - self.first).max(1) as f64;
        let (of, left) = match self.total {
            None => (String::new(), String::new()),
            Some(total) => {
                (format!("/{total}"), format!("  {} left", clock(each * total.saturating_sub(done) as f64)))
            }
        };
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(format!("{figures}{left}"));
        } else if Some(done) == self.total || self.shown.elapsed() >= PLAIN_EVERY {
            self.shown = Instant::now();
            tell(format_args!("{:>14} {done}{of}  {figures}{left}", self.stage));
        }
    }

    /// Ends the stage with a line that stays.
    pub(crate) fn finish(self, line: &str) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        tell(format_args!("{:>14} {line}", self.stage));
    }
}

/// Seconds as `1:02:03` or `2:03`.
pub(crate) fn clock(seconds: f64) -> String {
    let s = seconds.round() as u64;
    if s >= 3600 {
        format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    } else {
        format!("{}:{:02}", s / 60, s % 60)
    }
}
