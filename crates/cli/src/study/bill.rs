//! [`Bill`]: what a study will take, before its first step.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use indicatif::{HumanBytes, HumanCount};
use mm1_lab::study::record::RunState;
use serde_json::{Value, json};

use super::child;
use super::folder::StudyFolder;
use super::job::Jobs;
use super::{Study, StudyArgs};
use crate::estimate::duration;
use crate::machine;
use crate::output::tell;
use crate::recipe::Stage;
use crate::stage_key::run_key;

/// What all jobs take that are not done yet.
#[derive(Default)]
pub(super) struct Bill {
    /// By job; 0 of what is done.
    jobs: Vec<JobBill>,
    /// Runs side by side, of each rank.
    at_once: usize,
    /// Ranks that share the runs, each perhaps on a machine of its own.
    ranks: usize,
    /// Threads of each.
    threads: usize,
}

/// What one job takes.
#[derive(Clone, Copy, Debug, Default)]
struct JobBill {
    /// Positions of its steps.
    tokens: u64,
    /// Of its steps; `None` where none was measured.
    training: Option<f64>,
    /// Of its evaluations, at most; likewise.
    evaluation: Option<f64>,
    /// Of the captions that it writes, at most; likewise.
    captions: Option<f64>,
    /// The most memory of a stage.
    mib: u64,
    /// Whether it measures an encoder.
    probes: bool,
}

impl Bill {
    /// Plans one run of each kind, by which work alone is meant: seeds, rates and numbers of steps don't
    /// matter. `ranks` do the study.
    ///
    /// # Errors
    /// What is wrong with a recipe or its data.
    pub(super) fn of(
        study: &Study,
        args: &StudyArgs,
        jobs: &Jobs,
        folder: &StudyFolder,
        ranks: usize,
    ) -> Result<Self> {
        let mut plans: BTreeMap<String, Value> = BTreeMap::new();
        let mut bills = Vec::new();
        for (job, state) in jobs.all.iter().zip(jobs.states()) {
            if state == RunState::Done {
                let none = Some(0.0);
                let (training, evaluation, captions) = (none, none, none);
                bills.push(JobBill { training, evaluation, captions, ..JobBill::default() });
                continue;
            }
            let cell = &study.cells[job.cell];
            let shape = run_key(&cell.recipe.shape())?;
            if !plans.contains_key(&shape) {
                let file = folder.recipe(jobs.of_cell[job.cell]);
                tell(format_args!("planning {}", cell.names.join(", ")));
                plans.insert(shape.clone(), child::plan(args, file)?);
            }
            let own = cell.recipe.stage.iter().filter(|stage| job.own.iter().any(|own| own == stage.name()));
            bills.push(JobBill::of(&plans[&shape], own, args.no_measure));
        }
        Ok(Self { jobs: bills, at_once: usize::from(args.jobs), ranks, threads: child::threads(args) })
    }

    /// Positions of the steps of the jobs at `places`.
    fn tokens(&self, places: &[usize]) -> u64 {
        places.iter().map(|&place| self.jobs[place].tokens).sum()
    }

    /// The most memory of a job.
    fn mib(&self) -> u64 {
        self.jobs.iter().map(|job| job.mib).max().unwrap_or(0)
    }

    /// Seconds of what `of` says of each job, with so many jobs side by side; `None` where one is unknown.
    fn seconds(&self, of: fn(&JobBill) -> Option<f64>) -> Option<f64> {
        let seconds: Option<f64> = self.jobs.iter().map(of).sum();
        Some(seconds? / (self.at_once * self.ranks) as f64)
    }

    /// As one JSON document.
    pub(super) fn json(&self, study: &Study, jobs: &Jobs) -> Value {
        let (shared, runs) = (left(jobs, true), left(jobs, false));
        json!({
            "study": study.name,
            "combinations": study.cells.len(),
            "runs": { "left": runs.len(), "done": distinct(jobs) - runs.len() },
            "shared": shared.len(),
            "tokens": { "runs": self.tokens(&runs), "shared": self.tokens(&shared) },
            "mib": self.mib(),
            "side_by_side": self.at_once * self.ranks,
            "threads": self.threads,
            "seconds": {
                "training": self.seconds(|job| job.training),
                "captions": self.seconds(|job| job.captions),
                "evaluation": self.seconds(|job| job.evaluation),
            },
        })
    }

    /// As a person reads it.
    pub(super) fn summary(&self, study: &Study, jobs: &Jobs) -> String {
        let (shared, runs) = (left(jobs, true), left(jobs, false));
        let mut text = heading(study, jobs, runs.len());
        if !shared.is_empty() {
            let _ = writeln!(
                text,
                "  first stages that several runs have in common are done once: {}",
                shared.len()
            );
        }
        let _ = writeln!(
            text,
            "  tokens of training: up to {} in stages of single runs, {} in shared ones",
            HumanCount(self.tokens(&runs)),
            HumanCount(self.tokens(&shared))
        );
        text += &self.memory();
        text += &self.time();
        if study.grid.repeats() {
            text += "  all seeds see the same pictures and answer the same questions (data_seed)\n";
        }
        text
    }

    fn memory(&self) -> String {
        let mib = self.mib();
        let mut text =
            format!("  memory: about {} for each of {} side by side\n", HumanBytes(mib << 20), self.at_once);
        let all = mib * self.at_once as u64;
        if let Some(free) = machine::available_mib().filter(|free| *free < all) {
            let _ = writeln!(
                text,
                "  warning: that is {all} MiB, and {free} MiB are free here now: take fewer --jobs"
            );
        }
        text
    }

    fn time(&self) -> String {
        let Some(training) = self.seconds(|job| job.training) else {
            return "  time: not measured\n".to_owned();
        };
        let threads = if self.threads == 1 { "thread" } else { "threads" };
        let mut text = format!(
            "  time: about {} of training with {} at a time on {} {threads} each, an estimate by one \
             measured step of each kind\n",
            duration(training),
            self.at_once * self.ranks,
            self.threads,
        );
        text += &match self.seconds(|job| job.captions) {
            Some(0.0) => String::new(),
            Some(seconds) => {
                format!("        and at most about {} of captions written anew\n", duration(seconds))
            }
            None => "        writing captions is not measured and comes on top\n".to_owned(),
        };
        text += &match self.seconds(|job| job.evaluation) {
            Some(0.0) => String::new(),
            Some(seconds) => format!(
                "        and at most about {} of evaluation, an estimate by the first questions of each kind \
                 with random\n        weights, whose answers seldom end early\n",
                duration(seconds)
            ),
            None => "        evaluation is not measured and comes on top\n".to_owned(),
        };
        if self.jobs.iter().any(|job| job.probes) {
            text += "        probes of encoders are not measured and come on top\n";
        }
        text
    }

    /// Seconds that are left while jobs are in `states`, where `spent` seconds went into those that were done
    /// in this process; `None` where there is nothing to tell by.
    pub(super) fn left(&self, states: &[RunState], spent: &BTreeMap<usize, f64>) -> Option<f64> {
        let weight = |place: usize| {
            // Only rank 0 of several knows what jobs take.
            let Some(job) = self.jobs.get(place) else { return 0.0 };
            let beside = job.evaluation.unwrap_or(0.0) + job.captions.unwrap_or(0.0);
            job.training.map_or(job.tokens as f64, |training| training + beside)
        };
        let sum = |places: &mut dyn Iterator<Item = usize>| places.map(weight).sum::<f64>();
        // A bill knows the most of evaluation only: the runs that are done say what all takes.
        let billed = sum(&mut spent.keys().copied());
        let open = |&place: &usize| matches!(states[place], RunState::Waiting | RunState::Running);
        let left = sum(&mut (0..states.len()).filter(open));
        (billed > 0.0)
            .then(|| spent.values().sum::<f64>() / billed * left / (self.at_once * self.ranks) as f64)
    }
}

impl JobBill {
    /// Of the stages `own` by what `plan` says of them.
    fn of<'a>(plan: &Value, own: impl Iterator<Item = &'a Stage>, no_measure: bool) -> Self {
        let measured = (!no_measure).then_some(0.0);
        let mut bill =
            Self { training: measured, evaluation: measured, captions: measured, ..Self::default() };
        for stage in own {
            if let Stage::Eval(eval) = stage {
                let seconds = plan["estimate"]["evaluation_seconds"][&eval.name].as_f64();
                bill.evaluation = bill.evaluation.zip(seconds).map(|(sum, of)| sum + of);
            }
            if let Stage::Recaption(recaption) = stage {
                let seconds = plan["estimate"]["recaption_seconds"][&recaption.name].as_f64();
                bill.captions = bill.captions.zip(seconds).map(|(sum, of)| sum + of);
            }
            bill.probes |= matches!(stage, Stage::Probe(_));
            let Some(stage) = stage.training() else { continue };
            let name = stage.name.as_str();
            let positions = plan["settled"]["derived"]["positions_per_step"][name].as_u64().unwrap_or(0);
            let seconds = plan["estimate"]["step_seconds"][name].as_f64();
            bill.tokens += positions * stage.steps;
            bill.training = bill.training.zip(seconds).map(|(sum, of)| sum + of * stage.steps as f64);
            bill.mib = bill.mib.max(plan["memory"][name]["mib"].as_u64().unwrap_or(0));
        }
        bill
    }
}

/// The jobs that are not done, those that others begin with (`shared`) or the runs of combinations.
fn left(jobs: &Jobs, shared: bool) -> Vec<usize> {
    let states = jobs.states();
    let of = |&place: &usize| (jobs.all[place].shared_by > 0) == shared && states[place] != RunState::Done;
    (0..jobs.all.len()).filter(of).collect()
}

/// How many different runs the combinations come to.
fn distinct(jobs: &Jobs) -> usize {
    jobs.all.iter().filter(|job| job.shared_by == 0).count()
}

/// How many runs there are, of which `left` are to be done.
fn heading(study: &Study, jobs: &Jobs, left: usize) -> String {
    let axes: Vec<String> =
        study.grid.axes.iter().map(|axis| format!("{} {}", axis.values.len(), axis.name)).collect();
    let distinct = distinct(jobs);
    let (name, all) = (&study.name, study.cells.len());
    let mut text = format!(
        "study {name}: {all} combinations ({}), {left} to do, {} done before\n",
        axes.join(" × "),
        distinct - left
    );
    if distinct < all {
        let _ = writeln!(
            text,
            "  {} combinations come to the same run as another and are done once",
            all - distinct
        );
    }
    text
}
