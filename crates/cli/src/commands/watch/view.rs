//! A run in full, and in a line.

use indicatif::HumanCount;
use mm1_lab::braille::curve;
use mm1_lab::live::{LiveRun, LiveStage, LiveState};

use crate::progress::clock;

/// Letters across and lines of the curve.
const CURVE: (usize, usize) = (56, 6);

/// Letters of a bar.
const BAR: usize = 24;

/// Seconds without news after which a run that has noted no end is said to be silent.
const SILENT: u64 = 60;

/// What is to be seen.
pub(super) struct Shown {
    pub(super) lines: Vec<String>,
    /// Whether nothing will change any more.
    pub(super) ended: bool,
}

/// Why a run has failed.
pub(super) fn failure(run: &LiveRun) -> Option<String> {
    match &run.state {
        LiveState::Failed(reason) => Some(format!("the run has failed: {reason}")),
        _ => None,
    }
}

/// All stages, and the loss of the one that is trained or was last.
pub(super) fn of_run(run: &LiveRun) -> Shown {
    let mut lines = vec![format!("{}: {}", run.name, state(run))];
    let current = run.current().map(|stage| stage.name.as_str());
    let running = run.state == LiveState::Running;
    for stage in &run.stages {
        lines.push(of_stage(stage, running && current == Some(&stage.name)));
    }
    let drawn = run.current().filter(|stage| stage.done > 0).or_else(|| run.last_trained());
    if let Some(stage) = drawn {
        lines.append(&mut loss(stage));
    }
    Shown { lines, ended: run.state != LiveState::Running }
}

/// The stage that is worked on.
pub(super) fn line_of_run(run: &LiveRun) -> Shown {
    let ended = run.state != LiveState::Running;
    let line = match run.current() {
        Some(stage) if !ended => of_stage(stage, true),
        _ => format!("{}: {}", run.name, state(run)),
    };
    Shown { lines: vec![line], ended }
}

/// `running`, or how it has ended.
fn state(run: &LiveRun) -> String {
    match &run.state {
        LiveState::Done => "done".to_owned(),
        LiveState::Interrupted => "interrupted; the same command continues it".to_owned(),
        LiveState::Failed(reason) => format!("failed: {reason}"),
        LiveState::Running => match silence(run) {
            Some(news) => format!("no news for {news}: killed, or at something long"),
            None => "running".to_owned(),
        },
    }
}

/// How long a run has been silent, where that is long.
pub(super) fn silence(run: &LiveRun) -> Option<String> {
    let silent = run.silence()?.as_secs();
    let stage = run.current();
    let recent =
        stage.and_then(|stage| Some(stage.seconds_left? / stage.planned?.saturating_sub(stage.done) as f64));
    // Steps that take long are no silence.
    let long = recent.filter(|seconds| seconds.is_finite()).map_or(0, |seconds| (10.0 * seconds) as u64);
    (silent > SILENT.max(long)).then(|| clock(silent as f64))
}

/// A stage in a line; `now` where it is worked on.
fn of_stage(stage: &LiveStage, now: bool) -> String {
    let name = &stage.name;
    let Some(planned) = stage.planned else {
        let (works, count) = untrained(stage);
        return match (stage.finished, count) {
            (true, None) => format!("{name:>14} done"),
            (true, Some(count)) => format!("{name:>14} done, {count}"),
            (false, None) if !now => format!("{name:>14} waiting"),
            (false, None) => format!("{name:>14} {works}"),
            (false, Some(count)) => format!("{name:>14} {count} so far"),
        };
    };
    if stage.done == 0 {
        let waits = if now { "begins" } else { "waiting" };
        return format!("{name:>14} {waits}, {planned} steps");
    }
    let full = (BAR as u64 * stage.done.min(planned) / planned.max(1)) as usize;
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
    format!("{name:>14} {bar} {}/{planned}  {}", stage.done, figures(stage, now))
}

/// What a stage that trains nothing is at, and how far it is; `None` at its begin.
pub(super) fn untrained(stage: &LiveStage) -> (String, Option<String>) {
    let shown = |count: u64, text: String| (count > 0).then_some(text);
    match stage.planned_images {
        Some(all) => {
            let (done, all) = (HumanCount(stage.images), HumanCount(all));
            let count = shown(stage.images, format!("{done} of {all} images"));
            (format!("writing captions of {all} images"), count)
        }
        None => {
            let count = shown(stage.answers, format!("{} answers", HumanCount(stage.answers)));
            ("measuring".to_owned(), count)
        }
    }
}

/// Loss, speed and time left.
pub(super) fn figures(stage: &LiveStage, now: bool) -> String {
    let mut parts = Vec::new();
    if let Some(loss) = stage.loss {
        parts.push(format!("loss {loss:.3}"));
    }
    if let Some(speed) = stage.per_second {
        parts.push(format!("{} {}/s", HumanCount(speed as u64), stage.unit()));
    }
    if let Some(left) = stage.seconds_left.filter(|_| now && !stage.finished) {
        parts.push(format!("{} left", clock(left)));
    }
    parts.join("  ")
}

/// The loss over the steps so far, with its ends.
fn loss(stage: &LiveStage) -> Vec<String> {
    let Some((rows, low, high)) = curve(&stage.losses, CURVE.0, CURVE.1) else { return Vec::new() };
    let last = rows.len() - 1;
    let beside = |i: usize| match i {
        0 => format!("{high:>14.3} "),
        i if i == last => format!("{low:>14.3} "),
        _ => " ".repeat(15),
    };
    let mut lines = vec![String::new(), format!("{:>14} {}", "loss of", stage.name)];
    lines.extend(rows.iter().enumerate().map(|(i, row)| format!("{}{row}", beside(i))));
    let ends = (stage.losses[0].0, stage.losses[stage.losses.len() - 1].0);
    let (first, step) = (ends.0.to_string(), format!("step {}", ends.1));
    lines.push(format!("{:15}{first}{step:>width$}", "", width = CURVE.0 - first.len()));
    lines
}
