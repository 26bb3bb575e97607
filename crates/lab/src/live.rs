//! [`LiveRun`]: a run folder that is looked at again and again while a run works in it. Nothing is written
//! and nothing is locked.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use serde::Serialize;
use toml::Table;

use crate::process::ProcessRecord;
use crate::recaptioned::{self, CaptionRecord};
use crate::record::{ScoreRecord, StepRecord};
use crate::run::find;

/// Steps whose mean is the speed.
const RECENT: usize = 20;

/// The kind of a stage that writes captions.
const RECAPTION: &str = "recaption";

/// Where the answers of stages lie in a run folder.
const ANSWERS: &str = "eval";

/// How a run is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LiveState {
    /// No process has noted its end; only its last record shows whether it lives.
    Running,
    /// All is done.
    Done,
    /// It was asked to stop, and has written a checkpoint.
    Interrupted,
    /// Why it failed.
    Failed(String),
}

/// A stage, as far as it is.
#[derive(Clone, Debug, Serialize)]
pub struct LiveStage {
    /// Its name in the recipe.
    pub name: String,
    /// `encoder`, `pretrain`, `sft`, `eval`, `probe` or `recaption`.
    pub kind: String,
    /// How many steps it has; `None` of a stage that trains nothing.
    pub planned: Option<u64>,
    /// Steps that are done.
    pub done: u64,
    /// Questions that are answered, of a stage that measures.
    pub answers: u64,
    /// How many images it describes, of a stage that writes captions.
    pub planned_images: Option<u64>,
    /// Of these, how many it has described. Until it is done they are those before its last whole shard.
    pub images: u64,
    /// Whether there is nothing left to do.
    pub finished: bool,
    /// Loss over step.
    #[serde(skip)]
    pub losses: Vec<(f64, f64)>,
    /// The loss of the last step.
    pub loss: Option<f64>,
    /// Positions a second over the last steps; of an encoder, images a second.
    pub per_second: Option<f64>,
    /// Until its last step.
    pub seconds_left: Option<f64>,
    #[serde(skip)]
    recent: VecDeque<StepRecord>,
}

/// What is known of a run.
#[derive(Debug)]
pub struct LiveRun {
    folder: PathBuf,
    /// The recipe's name, or the folder's.
    pub name: String,
    /// All stages in their order.
    pub stages: Vec<LiveStage>,
    /// How it is.
    pub state: LiveState,
    metrics: MetricsTail,
    has_plan: bool,
}

/// What of `metrics.jsonl` was read.
#[derive(Debug, Default)]
struct MetricsTail {
    /// Bytes that were read.
    read: u64,
    /// The last line of them. Where it is not there any more, the file was written anew.
    last: Vec<u8>,
}

impl LiveRun {
    /// Looks at the folder of a run for the first time.
    ///
    /// # Errors
    /// A folder in which no run has begun.
    pub fn open(folder: &Path) -> Result<Self> {
        let begun = ["plan.toml", "metrics.jsonl", "processes.json"];
        ensure!(
            begun.iter().any(|name| folder.join(name).exists()),
            "{}: no run has begun here; give the --out of `mm1 run`, or the folder of a study in the --out \
             of `mm1 ablate`",
            folder.display()
        );
        let name =
            folder.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned());
        let mut run = Self {
            folder: folder.to_path_buf(),
            name,
            stages: Vec::new(),
            state: LiveState::Running,
            metrics: MetricsTail::default(),
            has_plan: false,
        };
        run.look();
        Ok(run)
    }

    /// Looks again. What can't be read now is as it was.
    pub fn look(&mut self) {
        // Before the rest, so that all is read of a run that has ended.
        if let Some(state) = self.read_state() {
            self.state = state;
        }
        if !self.has_plan {
            self.has_plan = self.read_plan().is_some();
        }
        let lines = match self.metrics.new_lines(&self.folder.join("metrics.jsonl")) {
            Ok((lines, anew)) => {
                if anew {
                    self.stages.iter_mut().for_each(LiveStage::forget_steps);
                }
                lines
            }
            Err(_) => Vec::new(),
        };
        for line in lines {
            if let Ok(step) = serde_json::from_slice::<StepRecord>(&line) {
                self.stage(&step.stage.clone()).add(step);
            }
        }
        self.look_at_untrained();
    }

    /// The stage that is worked on: the first that is not finished.
    pub fn current(&self) -> Option<&LiveStage> {
        self.stages.iter().find(|stage| !stage.finished)
    }

    /// The last stage that has a step.
    pub fn last_trained(&self) -> Option<&LiveStage> {
        self.stages.iter().rev().find(|stage| stage.done > 0)
    }

    /// Since when nothing was written.
    pub fn silence(&self) -> Option<Duration> {
        SystemTime::now().duration_since(last_written(&self.folder)?).ok()
    }

    /// `None` where there is no whole plan.
    fn read_plan(&mut self) -> Option<()> {
        let plan: Table = fs::read_to_string(self.folder.join("plan.toml")).ok()?.parse().ok()?;
        if let Some(name) = find(&plan, "name").and_then(|name| name.as_str()) {
            name.clone_into(&mut self.name);
        }
        for stage in find(&plan, "stage")?.as_array()? {
            let text = |key: &str| stage.get(key).and_then(|value| value.as_str()).map(str::to_owned);
            let count = |key: &str| u64::try_from(stage.get(key)?.as_integer()?).ok();
            let Some(name) = text("name") else { continue };
            let of_plan = self.stage(&name);
            of_plan.kind = text("kind").unwrap_or_default();
            of_plan.planned = count("steps");
            of_plan.planned_images = if of_plan.kind == RECAPTION { count("images") } else { None };
        }
        Some(())
    }

    /// The stage of a name; one that the plan does not have is added.
    fn stage(&mut self, name: &str) -> &mut LiveStage {
        let place = self.stages.iter().position(|stage| stage.name == name).unwrap_or_else(|| {
            self.stages.push(LiveStage::new(name));
            self.stages.len() - 1
        });
        &mut self.stages[place]
    }

    /// Stages that train nothing: whether they are done, and how many questions are answered or images
    /// described.
    fn look_at_untrained(&mut self) {
        if self.stages.iter().all(|stage| stage.planned.is_some() || stage.finished) {
            return;
        }
        let scores: Vec<ScoreRecord> = fs::read(self.folder.join("eval.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let scored: BTreeSet<&str> = scores.iter().map(|score| score.stage.as_str()).collect();
        for stage in self.stages.iter_mut().filter(|stage| stage.planned.is_none() && !stage.finished) {
            if stage.kind == RECAPTION {
                if let Ok(Some(captions)) = CaptionRecord::of_stage(&self.folder, &stage.name) {
                    (stage.images, stage.finished) = (captions.images(), captions.done);
                }
            } else {
                stage.finished = scored.contains(stage.name.as_str());
                stage.answers = answers(&self.folder.join(ANSWERS).join(&stage.name));
            }
            if !stage.finished {
                // Later stages have not begun.
                break;
            }
        }
    }

    fn read_state(&self) -> Option<LiveState> {
        let bytes = fs::read(self.folder.join("processes.json")).ok()?;
        let processes: Vec<ProcessRecord> = serde_json::from_slice(&bytes).ok()?;
        Some(match processes.last()?.end.as_deref() {
            None => LiveState::Running,
            Some("done") => LiveState::Done,
            Some("interrupted") => LiveState::Interrupted,
            Some(end) => LiveState::Failed(end.strip_prefix("failed: ").unwrap_or(end).to_owned()),
        })
    }
}

/// When something was last written in the run folder `folder`: a step, a score, an answer, a caption.
pub fn last_written(folder: &Path) -> Option<SystemTime> {
    let inside = |path: PathBuf| path.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let of_stages = [ANSWERS, recaptioned::FOLDER].map(|name| inside(folder.join(name)).flat_map(inside));
    let own = ["metrics.jsonl", "processes.json", "eval.json", "plan.toml"].map(|name| folder.join(name));
    let files = of_stages.into_iter().flatten().chain(own);
    files.filter_map(|path| path.metadata().ok()?.modified().ok()).max()
}

/// Answers in the files of an evaluation: all lines but the first of each.
fn answers(folder: &Path) -> u64 {
    let files = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let lines = |path: PathBuf| {
        let file = File::open(path).ok()?;
        Some((BufReader::new(file).split(b'\n').map_while(Result::ok).count() as u64).saturating_sub(1))
    };
    files.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).filter_map(lines).sum()
}

impl LiveStage {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: String::new(),
            planned: None,
            done: 0,
            answers: 0,
            planned_images: None,
            images: 0,
            finished: false,
            losses: Vec::new(),
            loss: None,
            per_second: None,
            seconds_left: None,
            recent: VecDeque::new(),
        }
    }

    /// The unit of [`Self::per_second`].
    pub fn unit(&self) -> &'static str {
        if self.kind == "encoder" { "images" } else { "tokens" }
    }

    fn forget_steps(&mut self) {
        let (planned, planned_images) = (self.planned, self.planned_images);
        *self = Self { kind: self.kind.clone(), planned, planned_images, ..Self::new(&self.name) };
    }

    fn add(&mut self, step: StepRecord) {
        self.done = step.step;
        self.finished = self.planned.is_some_and(|planned| step.step >= planned);
        self.loss = step.loss;
        self.losses.push((step.step as f64, step.loss.unwrap_or(f64::NAN)));
        self.recent.push_back(step);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        let sum = |of: fn(&StepRecord) -> Option<f64>| self.recent.iter().filter_map(of).sum::<f64>();
        let seconds = sum(|step| step.seconds);
        let seen = if self.kind == "encoder" { sum(|step| step.images) } else { sum(|step| step.tokens) };
        self.per_second = (seconds > 0.0).then(|| seen / seconds);
        let left = self.planned.map(|planned| planned.saturating_sub(self.done) as f64);
        self.seconds_left = left.map(|left| left * seconds / self.recent.len() as f64);
    }
}

impl MetricsTail {
    /// The whole lines that have come, and whether all that was read before is void.
    fn new_lines(&mut self, path: &Path) -> Result<(Vec<Vec<u8>>, bool)> {
        let mut file = File::open(path)?;
        let anew = !self.goes_on(&mut file)?;
        if anew {
            *self = Self::default();
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // A line that is being written is read the next time.
        let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let lines: Vec<Vec<u8>> =
            bytes[..end].split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        self.read += end as u64;
        if let Some(last) = lines.last() {
            self.last.clone_from(last);
        }
        Ok((lines, anew))
    }

    /// Whether what was read is still there: a run that goes on takes out lines beyond its checkpoint.
    fn goes_on(&self, file: &mut File) -> Result<bool> {
        let begin = self.read - self.last.len() as u64;
        file.seek(SeekFrom::Start(begin))?;
        let mut there = Vec::new();
        file.take(self.last.len() as u64).read_to_end(&mut there)?;
        Ok(there == self.last)
    }
}
