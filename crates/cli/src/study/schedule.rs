//! The runs of a study, several side by side, until all are done or given up.

use std::collections::BTreeMap;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mm1_lab::study::record::RunState;

use super::StudyArgs;
use super::bill::Bill;
use super::child::{self, ChildEnd};
use super::folder::StudyFolder;
use super::job::{Jobs, is_done};
use crate::error::Interrupted;
use crate::estimate::duration;
use crate::output::tell;
use crate::progress::clock;
use crate::run_folder::RunFolder;

/// How often it is looked whether a folder has become free, or an interrupt has come.
const PATIENCE: Duration = Duration::from_millis(250);

/// What a study's runs are done with.
pub(super) struct StudySchedule<'a> {
    pub(super) args: &'a StudyArgs,
    pub(super) jobs: &'a Jobs,
    pub(super) folder: &'a StudyFolder,
    pub(super) bill: &'a Bill,
    /// Set by an interrupt.
    pub(super) stop: &'a AtomicBool,
    /// Is told of every change.
    pub(super) changed: &'a dyn Fn(&[RunState]) -> Result<()>,
}

/// The jobs while they are worked on.
struct StudyProgress<'a> {
    schedule: &'a StudySchedule<'a>,
    states: Vec<RunState>,
    running: BTreeMap<usize, RunningJob>,
    /// Seconds of each job that was done here.
    spent: BTreeMap<usize, f64>,
    ends: Sender<(usize, ChildEnd)>,
    interrupted: bool,
}

/// A job in a process of its own.
struct RunningJob {
    /// The process stops with a checkpoint when this is dropped.
    input: Option<ChildStdin>,
    begun: Instant,
}

impl StudySchedule<'_> {
    /// Does all jobs; one that fails ends no other. How each has ended.
    ///
    /// # Errors
    /// An interrupt, when all that run have written their checkpoints; a folder that can't be written.
    pub(super) fn run(&self) -> Result<Vec<RunState>> {
        let (ends, ended) = channel();
        let (states, running, spent) = (self.jobs.states(), BTreeMap::new(), BTreeMap::new());
        let mut progress = StudyProgress { schedule: self, states, running, spent, ends, interrupted: false };
        (self.changed)(&progress.states)?;
        while progress.goes_on() {
            progress.start_more()?;
            progress.wait(&ended)?;
        }
        ensure!(!progress.interrupted, Interrupted);
        Ok(progress.states)
    }
}

impl StudyProgress<'_> {
    /// Whether something runs, or is still to begin. After an interrupt nothing begins, and what runs is
    /// asked to stop.
    fn goes_on(&mut self) -> bool {
        if self.schedule.stop.load(Ordering::Relaxed) {
            self.interrupted = true;
            self.running.values_mut().for_each(|run| run.input = None);
        }
        !self.running.is_empty() || !self.interrupted && self.states.contains(&RunState::Waiting)
    }

    fn start_more(&mut self) -> Result<()> {
        while !self.interrupted && self.running.len() < usize::from(self.schedule.args.jobs) {
            let Some(place) = self.next() else { break };
            self.start(place)?;
        }
        Ok(())
    }

    /// The next job that can begin: what it begins with is done, and no other process is at it.
    fn next(&mut self) -> Option<usize> {
        for (place, job) in self.schedule.jobs.all.iter().enumerate() {
            if self.states[place] != RunState::Waiting {
                continue;
            }
            match job.after.map(|after| &self.states[after]) {
                Some(RunState::Failed(reason)) => {
                    self.states[place] =
                        RunState::Failed(format!("the stages that it begins with: {reason}"));
                }
                Some(RunState::Waiting | RunState::Running) => {}
                // Another study has done it meanwhile.
                Some(RunState::Done) | None if is_done(&job.folder) => self.states[place] = RunState::Done,
                Some(RunState::Done) | None if !RunFolder::is_busy(&job.folder) => return Some(place),
                Some(RunState::Done) | None => {}
            }
        }
        None
    }

    fn start(&mut self, place: usize) -> Result<()> {
        let StudySchedule { args, jobs, folder, .. } = self.schedule;
        let job = &jobs.all[place];
        let (title, number) = (&job.title, place + 1);
        tell(format_args!("job {number} of {}: {title}, in {}", jobs.all.len(), job.folder.display()));
        let (child, input) = child::start(args, jobs, place, folder.recipe(place))?;
        self.states[place] = RunState::Running;
        self.running.insert(place, RunningJob { input: Some(input), begun: Instant::now() });
        let (ends, folder, echo) = (self.ends.clone(), job.folder.clone(), args.jobs == 1);
        thread::spawn(move || {
            let end = child::attend(child, &folder, echo);
            // Nobody listens any more where the study has ended.
            let _ = ends.send((place, end));
        });
        (self.schedule.changed)(&self.states)
    }

    /// Waits a moment for the end of a job.
    fn wait(&mut self, ended: &Receiver<(usize, ChildEnd)>) -> Result<()> {
        let Ok((place, end)) = ended.recv_timeout(PATIENCE) else { return Ok(()) };
        let Some(run) = self.running.remove(&place) else { return Ok(()) };
        let seconds = run.begun.elapsed().as_secs_f64();
        let stopped = self.schedule.stop.load(Ordering::Relaxed);
        let (state, said) = match end {
            ChildEnd::Done => {
                self.spent.insert(place, seconds);
                (RunState::Done, format!("done in {}", clock(seconds)))
            }
            ChildEnd::Interrupted if stopped => (RunState::Waiting, "stopped, with a checkpoint".to_owned()),
            ChildEnd::Interrupted => {
                (RunState::Failed("it was interrupted".to_owned()), "interrupted".to_owned())
            }
            ChildEnd::Failed(reason) => (RunState::Failed(reason.clone()), format!("failed: {reason}")),
        };
        self.states[place] = state;
        tell(format_args!("{}: {said}{}", self.schedule.jobs.all[place].title, self.left()));
        (self.schedule.changed)(&self.states)
    }

    /// What is left, as the end of a line.
    fn left(&self) -> String {
        let open = |state: &&RunState| matches!(state, RunState::Waiting | RunState::Running);
        match (self.states.iter().filter(open).count(), self.schedule.bill.left(&self.states, &self.spent)) {
            (0, _) => String::new(),
            (jobs, Some(seconds)) => format!("; {jobs} left, about {}", duration(seconds)),
            (jobs, None) => format!("; {jobs} left"),
        }
    }
}
