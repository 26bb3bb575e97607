//! The processes of a study: `mm1 plan` before it and an `mm1 run` for each job.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::StudyArgs;
use super::job::Jobs;
use crate::arguments::DeviceArgs;
use crate::continuation::ChangedData;
use crate::error::InputError;
use crate::output::tell;
use crate::ranks::Ranks;
use crate::run_folder::LOG;

/// With which a run ends that was asked to stop.
const INTERRUPTED: i32 = 130;

/// How a run has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChildEnd {
    /// All is done.
    Done,
    /// It was asked to stop, and has written a checkpoint.
    Interrupted,
    /// Why it failed.
    Failed(String),
}

/// Threads of each run.
pub(super) fn threads(args: &StudyArgs) -> usize {
    (args.threads.count() / usize::from(args.jobs)).max(1)
}

/// This program once more, by itself where this process is one of several ranks.
fn program() -> Result<Command> {
    // All runs of a study are done by one program, even where another build has taken its place meanwhile.
    let itself = Path::new("/proc/self/exe");
    let mut command = match itself.exists() {
        true => Command::new(itself),
        false => Command::new(std::env::current_exe().context("the place of this program")?),
    };
    Ranks::leave_out(&mut command);
    Ok(command)
}

/// What `mm1 plan` says of the recipe in `file`.
///
/// # Errors
/// What is wrong with it, in its words.
pub(super) fn plan(args: &StudyArgs, file: &Path) -> Result<Value> {
    let mut command = program()?;
    command.arg("plan").arg(file).args(["--json", "--threads", &threads(args).to_string()]);
    if args.no_measure {
        command.arg("--no-measure");
    }
    let done = command.stdin(Stdio::null()).output().context("starting mm1 plan")?;
    if !done.status.success() {
        let told = String::from_utf8_lossy(&done.stderr);
        let reason = told.lines().rev().find_map(|line| line.strip_prefix("mm1: "));
        let reason = reason.map_or_else(|| format!("mm1 plan ended with {}", done.status), str::to_owned);
        match done.status.code() {
            Some(2) => bail!(InputError::new(reason)),
            _ => bail!("{}: {reason}", file.display()),
        }
    }
    let text = String::from_utf8_lossy(&done.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).context("what mm1 plan says")
}

/// Starts the run of the job in `place`, whose recipe is `file`, on `device`; when the input that it is given
/// ends, it stops with a checkpoint.
///
/// # Errors
/// A process that can't be started.
pub(super) fn start(
    (args, device): (&StudyArgs, DeviceArgs),
    jobs: &Jobs,
    place: usize,
    file: &Path,
) -> Result<(Child, ChildStdin)> {
    let job = &jobs.all[place];
    let mut command = program()?;
    command.arg("run").arg(file).arg("--out").arg(&job.folder).arg("--of-study");
    command.args(["--threads", &threads(args).to_string()]);
    if let Some(after) = job.after {
        command.arg("--reuse").arg(&jobs.all[after].folder);
    }
    // Of several ranks each takes its own.
    let device = device.or(job.device);
    if device != job.device {
        command.arg("--device").arg(device.to_string());
    }
    if args.changed_data.choice() == ChangedData::Accept {
        command.arg("--accept-changed-data");
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("starting mm1 run")?;
    let input = child.stdin.take().context("the input of mm1 run")?;
    Ok((child, input))
}

/// Waits until a run has ended; keeps what it tells in its folder, and tells it here where `echo` is set.
pub(super) fn attend(mut child: Child, folder: &Path, echo: bool) -> ChildEnd {
    let told = child.stderr.take().map(|stderr| keep(stderr, folder, echo));
    let status = match child.wait() {
        Ok(status) => status,
        Err(e) => return ChildEnd::Failed(format!("it can't be waited for: {e}")),
    };
    match (status.code(), told.flatten()) {
        (Some(0), _) => ChildEnd::Done,
        (Some(INTERRUPTED), _) => ChildEnd::Interrupted,
        (Some(_), Some(reason)) => ChildEnd::Failed(reason),
        (_, _) => ChildEnd::Failed(format!("the process was ended ({status})")),
    }
}

/// Appends all lines to the log of the run folder. The last that names a failure.
fn keep(stderr: impl Read, folder: &Path, echo: bool) -> Option<String> {
    // The run has made its folder by the time that it tells something.
    let mut log = None;
    let mut failure = None;
    for line in BufReader::new(stderr).split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line).into_owned();
        if echo {
            tell(&line);
        }
        if let Some(reason) = line.strip_prefix("mm1: ").filter(|reason| !reason.starts_with("warning: ")) {
            failure = Some(reason.to_owned());
        }
        if log.is_none() && folder.is_dir() {
            log = OpenOptions::new().create(true).append(true).open(folder.join(LOG)).ok();
        }
        // A log that can't be written costs no run.
        let _ = log.as_mut().map(|log| log.write_all(format!("{line}\n").as_bytes()));
    }
    failure
}
