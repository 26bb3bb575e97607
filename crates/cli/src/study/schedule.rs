//! The runs of a study, several side by side, until all are done or given up; of several ranks each does its
//! own, and waits for the others.

use std::collections::BTreeMap;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use mm1_lab::study::record::RunState;

use super::StudyArgs;
use super::bill::Bill;
use super::child::{self, ChildEnd};
use super::folder::StudyFolder;
use super::job::{Jobs, is_done};
use super::share::JobShare;
use crate::arguments::DeviceArgs;
use crate::estimate::duration;
use crate::output::tell;
use crate::progress::clock;
use crate::run_folder::RunFolder;

/// How often it is looked whether a folder has become free, or an interrupt has come.
const PATIENCE: Duration = Duration::from_millis(250);

/// What a study's runs are done with.
pub(super) struct StudySchedule<'a> {
    pub(super) args: &'a StudyArgs,
    /// Where this rank's runs are done.
    pub(super) device: DeviceArgs,
    pub(super) jobs: &'a Jobs,
    pub(super) folder: &'a StudyFolder,
    pub(super) bill: &'a Bill,
    /// Which jobs are this rank's.
    pub(super) share: &'a JobShare,
    /// Set by an interrupt.
    pub(super) stop: &'a AtomicBool,
    /// Is told of every change.
    pub(super) changed: &'a dyn Fn(&[RunState]) -> Result<()>,
}

/// How a study has ended here.
pub(super) struct StudyEnd {
    /// How each job has ended.
    pub(super) states: Vec<RunState>,
    /// Whether it was asked to stop; all that ran here have written their checkpoints then.
    pub(super) interrupted: bool,
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
    /// Does all jobs; one that fails ends no other. How each has ended. With several ranks whether one of
    /// them was asked to stop is not known here alone.
    ///
    /// # Errors
    /// A folder that can't be written.
    pub(super) fn run(&self) -> Result<StudyEnd> {
        let (ends, ended) = channel();
        let (states, running, spent) = (self.jobs.states(), BTreeMap::new(), BTreeMap::new());
        let mut progress = StudyProgress { schedule: self, states, running, spent, ends, interrupted: false };
        progress.changed()?;
        while progress.goes_on()? {
            progress.start_more()?;
            progress.wait(&ended)?;
        }
        Ok(StudyEnd { states: progress.states, interrupted: progress.interrupted })
    }
}

impl StudyProgress<'_> {
    /// Whether something runs here, or is still to begin, at whichever rank. After an interrupt of one
    /// nothing begins, and what runs is asked to stop.
    fn goes_on(&mut self) -> Result<bool> {
        let stopped = self.hear()? || self.schedule.stop.load(Ordering::Relaxed);
        if stopped && !self.interrupted {
            self.interrupted = true;
            self.running.values_mut().for_each(|run| run.input = None);
            self.schedule.share.say(true, &self.states)?;
        }
        let open = self.states.iter().any(|state| matches!(state, RunState::Waiting | RunState::Running));
        Ok(!self.running.is_empty() || !self.interrupted && open)
    }

    /// Takes over what other ranks say of their jobs. Whether one of them was asked to stop.
    fn hear(&mut self) -> Result<bool> {
        let StudySchedule { share, jobs, .. } = self.schedule;
        let (mut stopped, mut changed) = (false, false);
        for (rank, news) in share.hear() {
            stopped |= news.stopped;
            for place in share.take_over(rank, news, &mut self.states) {
                changed = true;
                let said = match &self.states[place] {
                    RunState::Waiting => "stopped, with a checkpoint".to_owned(),
                    RunState::Running => "begun".to_owned(),
                    RunState::Done => "done".to_owned(),
                    RunState::Failed(reason) => format!("failed: {reason}"),
                };
                tell(format_args!("{}: {said} by rank {rank}{}", jobs.all[place].title, self.left()));
            }
        }
        if changed {
            (self.schedule.changed)(&self.states)?;
        }
        Ok(stopped)
    }

    /// Says how far this rank is, to a person and to the other ranks.
    fn changed(&self) -> Result<()> {
        self.schedule.share.say(self.interrupted, &self.states)?;
        (self.schedule.changed)(&self.states)
    }

    fn start_more(&mut self) -> Result<()> {
        let before = self.states.clone();
        while !self.interrupted && self.running.len() < usize::from(self.schedule.args.jobs) {
            let Some(place) = self.next() else { break };
            self.start(place)?;
        }
        // Some are over without a start.
        if self.states == before { Ok(()) } else { self.changed() }
    }

    /// The next job that can begin: what it begins with is done, and no other process is at it.
    fn next(&mut self) -> Option<usize> {
        for (place, job) in self.schedule.jobs.all.iter().enumerate() {
            if self.states[place] != RunState::Waiting || !self.schedule.share.is_own(place) {
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
        let StudySchedule { args, device, jobs, folder, share, .. } = self.schedule;
        let job = &jobs.all[place];
        let (title, number) = (&job.title, place + 1);
        tell(format_args!("job {number} of {}: {title}, in {}", jobs.all.len(), job.folder.display()));
        let (child, input) = child::start((args, *device), jobs, place, folder.recipe(place))?;
        self.states[place] = RunState::Running;
        self.running.insert(place, RunningJob { input: Some(input), begun: Instant::now() });
        let echo = args.jobs == 1 && share.is_all();
        let (ends, folder) = (self.ends.clone(), job.folder.clone());
        thread::spawn(move || {
            let end = child::attend(child, &folder, echo);
            // Nobody listens any more where the study has ended.
            let _ = ends.send((place, end));
        });
        self.changed()
    }

    /// Waits a moment for the end of a job.
    fn wait(&mut self, ended: &Receiver<(usize, ChildEnd)>) -> Result<()> {
        let Ok((place, end)) = ended.recv_timeout(PATIENCE) else { return Ok(()) };
        let Some(run) = self.running.remove(&place) else { return Ok(()) };
        let seconds = run.begun.elapsed().as_secs_f64();
        let stopped = self.interrupted || self.schedule.stop.load(Ordering::Relaxed);
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
        self.changed()
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
