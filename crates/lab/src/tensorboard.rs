//! TensorBoard's event files: what a run measures, as the scalars that `tensorboard --logdir` draws.
//!
//! A file is a TFRecord of `Event` messages, as PyTorch's `SummaryWriter` writes it. Of the messages
//! (tensorflow's event.proto and summary.proto) only the fields are here that are written. No crate does the
//! whole: `tensorboard-rs` (2022), `tfrecord` (2023) and `tboard` (2024) each bring a second protobuf.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use crc_fast::crc32_iscsi;
use prost::Message;

use crate::record::{ScoreRecord, StepRecord};
use crate::run::RunRecords;

/// How every event file of a run begins; the seconds of its beginning follow, and what says that it is ours.
pub const PREFIX: &str = "events.out.tfevents.";

/// How its name ends, where `SummaryWriter` names the machine and the process.
const OWN: &str = ".mm1";

/// How long an emptied file stays: any TensorBoard looks more often.
const KEPT: Duration = Duration::from_secs(600);

/// The format's version.
const VERSION: &str = "brain.Event:2";

/// `SessionLog.SessionStatus.START`.
const START: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// The event file of a run folder while a process works on it.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
    /// Of the last event: seconds since 1970.
    time: f64,
}

impl EventFile {
    /// Writes what the run in `folder` has so far to a new event file, and empties those before it: a step
    /// that was done twice is there once. A TensorBoard that shows the run reads it anew.
    ///
    /// # Errors
    /// A folder that can't be written.
    pub fn begin(folder: &Path) -> Result<Self> {
        let before = of_folder(folder);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (bytes, time) = all(&RunRecords::read(folder)?, now.as_secs_f64());
        let now = now.as_secs();
        // TensorBoard takes files by their names, and looks for no other name than one that is greater.
        let last = before.iter().filter_map(|path| seconds(path)).max();
        let name = format!("{PREFIX}{:010}{OWN}", now.max(last.map_or(0, |last| last + 1)));
        // One name for all processes of a run: what a killed one has left is written over.
        let (path, beside) = (folder.join(name), folder.join(".events.new"));
        let put = || -> std::io::Result<File> {
            fs::write(&beside, &bytes)?;
            fs::rename(&beside, &path)?;
            before.iter().try_for_each(|path| retire(path))?;
            OpenOptions::new().append(true).open(&path)
        };
        let file = put()
            .inspect_err(|_| drop(fs::remove_file(&beside)))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { file, path, time })
    }

    /// Appends one step in one write.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn push(&mut self, step: &StepRecord) -> Result<()> {
        let mut bytes = Vec::new();
        put_step(&mut bytes, step, &mut self.time);
        self.file.write_all(&bytes).with_context(|| format!("writing {}", self.path.display()))
    }
}

/// The event files of `folder`, in any order.
fn of_folder(folder: &Path) -> Vec<PathBuf> {
    let names = folder.read_dir().into_iter().flatten().flatten();
    names.map(|entry| entry.path()).filter(|path| seconds(path).is_some()).collect()
}

/// Empties an event file, or removes one that was emptied a while ago. A TensorBoard that is open looks for
/// later files only when it finds the end of this one, and not when it finds none.
fn retire(path: &Path) -> std::io::Result<()> {
    let about = path.metadata()?;
    let age = about.modified()?.elapsed().unwrap_or_default();
    if about.len() == 0 && age > KEPT {
        return fs::remove_file(path);
    }
    if about.len() > 0 { OpenOptions::new().write(true).open(path)?.set_len(0) } else { Ok(()) }
}

/// When an event file of ours was begun, in seconds since 1970; `None` of any other file.
fn seconds(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(OWN)?.parse().ok()
}

/// A whole file at the time `now`: its head, every step and every score; and the time of the last step.
fn all(run: &RunRecords, now: f64) -> (Vec<u8>, f64) {
    let steps = || run.stages.iter().flat_map(|stage| &stage.steps);
    // Runs of earlier versions tell how long their steps took, and not when they were.
    let untimed = || now - steps().filter_map(|step| step.seconds).sum::<f64>();
    let mut time = steps().find_map(|step| step.time).unwrap_or_else(untimed);
    let mut bytes = Vec::new();
    let head = Event { wall_time: time, ..Event::default() };
    put(&mut bytes, &Event { file_version: Some(VERSION.to_owned()), ..head.clone() });
    // Whatever a TensorBoard has read of the files before is taken back.
    put(&mut bytes, &Event { session_log: Some(SessionLog { status: START }), ..head });
    for step in steps() {
        put_step(&mut bytes, step, &mut time);
    }
    for score in &run.scores {
        let step = run.trained_before(&score.stage);
        put_scalars(&mut bytes, time, step, vec![(score_tag(score), score.value)]);
    }
    (bytes, time)
}

/// The event of a step; `time` is that of the one before, and becomes its own.
fn put_step(bytes: &mut Vec<u8>, step: &StepRecord, time: &mut f64) {
    *time = step.time.unwrap_or(*time + step.seconds.unwrap_or(0.0));
    let named = [
        ("loss", step.loss),
        ("lr", step.lr),
        ("grad_norm", step.grad_norm),
        ("tokens_per_second", step.throughput()),
        ("images_per_second", step.pictures_per_second()),
    ];
    let figures = step.figures.iter().map(|(name, value)| (name.as_str(), value.as_f64()));
    let scalars = named.into_iter().chain(figures);
    let tagged = scalars.map(|(name, value)| (format!("{}/{name}", step.stage), value)).collect();
    put_scalars(bytes, *time, step.step, tagged);
}

/// `STAGE/TASK/K-shot`, or `STAGE/TASK` of what knows no shots.
fn score_tag(score: &ScoreRecord) -> String {
    let ScoreRecord { stage, task, shots, .. } = score;
    if score.is_of_encoder() { format!("{stage}/{task}") } else { format!("{stage}/{task}/{shots}-shot") }
}

/// The event of those values that are there; none where none is.
fn put_scalars(bytes: &mut Vec<u8>, wall_time: f64, step: u64, scalars: Vec<(String, Option<f64>)>) {
    let scalar =
        |(tag, value): (String, Option<f64>)| Some(Scalar { tag, simple_value: Some(value? as f32) });
    let value: Vec<Scalar> = scalars.into_iter().filter_map(scalar).collect();
    if !value.is_empty() {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        put(bytes, &Event { wall_time, step, summary: Some(Summary { value }), ..Event::default() });
    }
}

/// One record of a TFRecord: length, its checksum, the message, its checksum.
fn put(bytes: &mut Vec<u8>, event: &Event) {
    let message = event.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    bytes.extend(length);
    bytes.extend(masked_crc(&length).to_le_bytes());
    bytes.extend(&message);
    bytes.extend(masked_crc(&message).to_le_bytes());
}

/// CRC-32C as a TFRecord has it: rotated, and with a constant added.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32_iscsi(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}
