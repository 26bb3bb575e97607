//! `mm1 watch`: a run or a study as it goes, on a terminal or line by line.

mod screen;
mod study;
mod view;

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use console::Term;
use mm1_lab::live::LiveRun;
use mm1_lab::study::record;
use serde_json::json;

use self::screen::Screen;
use self::study::LiveStudy;
use self::view::Shown;
use crate::error::{InputError, input};
use crate::output::print_json;
use crate::study::is_planned;

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Run folder, or the folder of a study. Nothing is written into it.
    folder: PathBuf,
    /// Seconds between two looks. By default 1 on a terminal, else 10.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    every: Option<u32>,
    /// Look once, and end.
    #[arg(long)]
    once: bool,
    /// At the end, print one JSON document as the last line of standard output: all stages as they are.
    #[arg(long)]
    json: bool,
}

/// What is watched.
enum Watched {
    Run(Box<LiveRun>),
    Study(LiveStudy),
}

/// Shows the run or the study until it ends.
///
/// # Errors
/// A folder in which nothing has begun; a run that has failed, and a study of which runs have.
pub(crate) fn watch(args: &WatchArgs) -> Result<()> {
    let mut watched = if args.folder.join(record::FILE).exists() {
        Watched::Study(input(LiveStudy::open(&args.folder))?)
    } else {
        let run = LiveRun::open(&args.folder);
        if run.is_err() && is_planned(&args.folder) {
            let folder = args.folder.display();
            return Err(InputError::new(format!(
                "{folder}: a study is planned here and none of its runs has begun: look again when \
                 `mm1 ablate` has begun the first"
            ))
            .into());
        }
        Watched::Run(Box::new(input(run)?))
    };
    let term = Term::stdout();
    let on_terminal = term.is_term() && !args.once;
    let every = args.every.unwrap_or(if on_terminal { 1 } else { 10 });
    let mut screen = Screen::new(term, on_terminal);
    loop {
        let shown = watched.shown(on_terminal || args.once);
        screen.show(&shown)?;
        if args.once || shown.ended {
            break;
        }
        thread::sleep(Duration::from_secs(every.into()));
        watched.look();
    }
    if args.json {
        print_json(&watched.json())?;
    }
    match watched.failure() {
        Some(reason) if !args.once => bail!("{reason}"),
        _ => Ok(()),
    }
}

impl Watched {
    fn look(&mut self) {
        match self {
            Self::Run(run) => run.look(),
            Self::Study(study) => study.look(),
        }
    }

    /// In full, or in a line.
    fn shown(&self, full: bool) -> Shown {
        match (self, full) {
            (Self::Run(run), true) => view::of_run(run),
            (Self::Run(run), false) => view::line_of_run(run),
            (Self::Study(study), true) => study.shown(),
            (Self::Study(study), false) => study.line(),
        }
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Self::Run(run) => json!({ "run": run.name, "state": run.state, "stages": run.stages }),
            Self::Study(study) => study.json(),
        }
    }

    fn failure(&self) -> Option<String> {
        match self {
            Self::Run(run) => view::failure(run),
            Self::Study(study) => study.failure(),
        }
    }
}
