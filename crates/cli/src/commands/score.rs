//! `mm1 score`: any predictions against references, by the metrics of the evaluation.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use indicatif::HumanCount;
use mm1_data::text_file;
use mm1_eval::metric::Metric;
use mm1_eval::score::bleu;
use mm1_eval::score::bootstrap::{self, Score};
use mm1_eval::score::scores;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::InputError;
use crate::output::print_json;

/// Seed of the interval.
const SEED: u64 = 0;

#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    metric: ScoreMetric,
    /// References or accepted answers: {"id": ["text", …], …}, or one text for an id.
    #[arg(long, value_name = "FILE")]
    refs: PathBuf,
    /// Predictions of the same ids: {"id": "text", …}.
    #[arg(long, value_name = "FILE")]
    preds: PathBuf,
    /// Print one JSON document as the last line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScoreMetric {
    /// Captions: CIDEr-D × 100, which papers call CIDEr.
    #[value(alias = "cider-d")]
    Cider,
    /// Captions: BLEU-4 of the corpus in percent, and BLEU-1 to BLEU-3 beside it.
    Bleu,
    #[value(name = "bleu-1")]
    Bleu1,
    #[value(name = "bleu-2")]
    Bleu2,
    #[value(name = "bleu-3")]
    Bleu3,
    #[value(name = "bleu-4")]
    Bleu4,
    /// Captions: ROUGE-L in percent.
    #[value(alias = "rouge-l")]
    Rouge,
    /// Short answers: VQA accuracy in percent.
    Vqa,
    /// Answers read from documents: ANLS in percent.
    Anls,
    /// Answers read from charts: relaxed accuracy in percent.
    Relaxed,
    /// Exact match in percent.
    Exact,
}

/// Scores the predictions and prints the result.
///
/// # Errors
/// A file that can't be read, is empty or holds anything but texts by id; an id that is in one of them only.
pub(crate) fn score(args: &ScoreArgs) -> Result<()> {
    let references: BTreeMap<String, ItemReferences> = read(&args.refs, "{\"id\": [\"text\", …], …}")?;
    let predictions: BTreeMap<String, String> = read(&args.preds, "{\"id\": \"text\", …}")?;
    same_ids((&args.refs, &references), (&args.preds, &predictions))?;
    let references = references.into_iter().map(|(id, references)| match references {
        ItemReferences::One(text) => Ok(vec![text]),
        ItemReferences::Many(texts) if !texts.is_empty() => Ok(texts),
        ItemReferences::Many(_) => Err(InputError::new(format!(
            "{}: id {id:?} has no text: give it at least one, or remove it from both files",
            args.refs.display()
        ))),
    });
    let references = references.collect::<Result<Vec<_>, _>>()?;
    let predictions: Vec<&str> = predictions.values().map(String::as_str).collect();
    let table = measure(args.metric, &references, &predictions)?;
    if args.json {
        return print_report(&table);
    }
    print_table(&table);
    Ok(())
}

/// The scores by name, the one that was asked for last.
fn measure(
    metric: ScoreMetric,
    references: &[Vec<String>],
    predictions: &[&str],
) -> Result<Vec<(&'static str, Score)>> {
    let bleu = |orders: Range<usize>| {
        let scores = bleu::corpus(references, predictions, SEED);
        Ok(orders.map(|n| (["bleu-1", "bleu-2", "bleu-3", "bleu-4"][n], scores[n].clone())).collect())
    };
    let mean = |name, metric| {
        let items = scores(metric, references, predictions)?;
        Ok(vec![(name, bootstrap::mean(&items, SEED))])
    };
    match metric {
        ScoreMetric::Bleu => bleu(0..4),
        ScoreMetric::Bleu1 => bleu(0..1),
        ScoreMetric::Bleu2 => bleu(1..2),
        ScoreMetric::Bleu3 => bleu(2..3),
        ScoreMetric::Bleu4 => bleu(3..4),
        ScoreMetric::Cider => mean("cider", Metric::Cider),
        ScoreMetric::Rouge => mean("rouge-l", Metric::RougeL),
        ScoreMetric::Vqa => mean("vqa", Metric::VqaAccuracy),
        ScoreMetric::Anls => mean("anls", Metric::Anls),
        ScoreMetric::Relaxed => mean("relaxed", Metric::RelaxedAccuracy),
        ScoreMetric::Exact => mean("exact", Metric::ExactMatch),
    }
}

fn print_table(table: &[(&str, Score)]) {
    println!("{:<10}{:>8} {:<6}  {:<20}{:>10}", "metric", "value", "unit", "95% interval", "items");
    for (name, Score { value, ci95: [low, high], n }) in table {
        let interval = format!("{low:.2} to {high:.2}");
        let unit = if *name == "cider" { "x 100" } else { "%" };
        let items = HumanCount(*n as u64).to_string();
        println!("{name:<10}{value:>8.2} {unit:<6}  {interval:<20}{items:>10}");
    }
}

fn print_report(table: &[(&str, Score)]) -> Result<()> {
    let Some((name, score)) = table.last() else { return Ok(()) };
    if table.len() == 1 {
        return print_json(&ScoreReport { metric: name, score, orders: BTreeMap::new() });
    }
    let orders = table.iter().map(|(name, score)| (name.replace('-', ""), score.value)).collect();
    print_json(&ScoreReport { metric: "bleu", score, orders })
}

/// The references of one item.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum ItemReferences {
    One(String),
    Many(Vec<String>),
}

/// An object from ids to values, in which no id may be repeated.
struct ById<T>(BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ById<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ByIdVisitor(PhantomData))
    }
}

struct ByIdVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ByIdVisitor<T> {
    type Value = ById<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts by id")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut by_id = BTreeMap::new();
        while let Some(id) = entries.next_key::<String>()? {
            let value = entries.next_value().map_err(|e| A::Error::custom(format!("id {id:?}: {e}")))?;
            if by_id.insert(id.clone(), value).is_some() {
                return Err(A::Error::custom(format!("id {id:?} is there twice")));
            }
        }
        Ok(ById(by_id))
    }
}

/// Reads a file of texts by id; `form` is what it should look like.
fn read<T: for<'de> Deserialize<'de>>(path: &Path, form: &str) -> Result<BTreeMap<String, T>> {
    let name = path.display();
    let text = text_file::read(path).map_err(|e| InputError::new(format!("{name}: {e:#}")))?;
    let ById(texts) = serde_json::from_str(&text)
        .map_err(|e| InputError::new(format!("{name}: {e}; the file must be JSON like {form}")))?;
    if texts.is_empty() {
        return Err(InputError::new(format!("{name}: there is nothing to score; write {form}")).into());
    }
    Ok(texts)
}

/// Refuses ids that are in one of the files only.
fn same_ids<A, B>(
    (refs, references): (&Path, &BTreeMap<String, A>),
    (preds, predictions): (&Path, &BTreeMap<String, B>),
) -> Result<()> {
    let unanswered: Vec<_> = references.keys().filter(|id| !predictions.contains_key(*id)).collect();
    let unknown: Vec<_> = predictions.keys().filter(|id| !references.contains_key(*id)).collect();
    let (file, other, ids) =
        if unanswered.is_empty() { (refs, preds, unknown) } else { (preds, refs, unanswered) };
    if ids.is_empty() {
        return Ok(());
    }
    let first = ids.iter().take(3).map(|id| format!("{id:?}")).collect::<Vec<_>>().join(", ");
    let count = if ids.len() == 1 { "1 id".to_owned() } else { format!("{} ids", ids.len()) };
    Err(InputError::new(format!(
        "{}: {count} of {} missing, first {first}: add them here or remove them there",
        file.display(),
        other.display()
    ))
    .into())
}

/// What `--json` prints.
#[derive(Serialize)]
struct ScoreReport<'a> {
    metric: &'a str,
    #[serde(flatten)]
    score: &'a Score,
    /// `bleu1` to `bleu4` where all four are asked for.
    #[serde(flatten)]
    orders: BTreeMap<String, f64>,
}
