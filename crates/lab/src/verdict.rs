//! What came out of a run, in one sentence.

use serde_json::Value;

use crate::plot::smooth;
use crate::record::ScoreRecord;
use crate::run::RunRecords;
use crate::words::{capital, shots};

/// Tasks that the sentence names.
const NAMED: usize = 4;

/// One sentence: the scores of the last stage that measured beside their best baselines, or else the last
/// stage's loss.
pub(crate) fn verdict(run: &RunRecords) -> String {
    let so_far = if run.is_unfinished() { "So far, " } else { "" };
    match of_scores(run).or_else(|| of_loss(run)) {
        Some(found) if so_far.is_empty() => capital(&found),
        Some(found) => format!("{so_far}{found}"),
        None => "Nothing has been trained or measured yet.".to_owned(),
    }
}

fn of_scores(run: &RunRecords) -> Option<String> {
    let last = &run.scores.last()?.stage;
    let scores: Vec<&ScoreRecord> =
        run.scores.iter().filter(|s| s.stage == *last && !s.task.contains('/')).collect();
    let mut best: Vec<&ScoreRecord> = Vec::new();
    for score in scores.into_iter().filter(|s| s.value.is_some()) {
        match best.iter_mut().find(|b| b.task == score.task) {
            Some(other) if is_better(score, score.value, other.value) => *other = score,
            Some(_) => {}
            None => best.push(score),
        }
    }
    let shown: Vec<String> = best.iter().take(NAMED).map(|score| beside_baseline(score)).collect();
    let more = best.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    (!shown.is_empty()).then(|| format!("in stage {last}, {}{more}.", shown.join("; ")))
}

/// `scene-vqa scores 56.0 % with 0 shots, clearly better than blind (24.5)`.
fn beside_baseline(score: &ScoreRecord) -> String {
    let value = score.value.unwrap_or(f64::NAN);
    let shots = match score.shots {
        _ if score.is_of_encoder() => String::new(),
        n => format!(" with {}", shots(n)),
    };
    let unit = match score.metric_name() {
        name if name.ends_with('%') => " %".to_owned(),
        name => format!(" ({name})"),
    };
    let begin = format!("{} scores {value:.1}{unit}{shots}", score.task);
    let baselines = score.baselines.iter().filter_map(|(name, value)| Some((name, number(value)?)));
    let strongest = baselines.reduce(|a, b| if is_better(score, Some(b.1), Some(a.1)) { b } else { a });
    let Some((name, other)) = strongest else { return begin };
    let ends = score.ci95.unwrap_or_default();
    let ends = if score.lower_is_better() { [ends[1], ends[0]] } else { ends };
    let judged = match ends {
        [Some(worst), _] if is_better(score, Some(worst), Some(other)) => "clearly better than",
        [_, Some(best)] if is_better(score, Some(other), Some(best)) => "worse than",
        _ => "not clearly different from",
    };
    format!("{begin}, {judged} {name} ({other:.1})")
}

/// Whether `a` is the better score.
fn is_better(score: &ScoreRecord, a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a > b) != score.lower_is_better() && a != b,
        (a, _) => a.is_some(),
    }
}

/// A baseline is a number, or an object with a `value`.
pub(crate) fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.get("value")?.as_f64())
}

fn of_loss(run: &RunRecords) -> Option<String> {
    let stage = run.stages.iter().rfind(|stage| !stage.steps.is_empty())?;
    let points = stage.points(|s| s.loss);
    let first = points.iter().find(|p| p.1.is_finite())?.1;
    let last = smooth(&points).last()?.1;
    Some(format!("the loss of stage {} went from {first:.3} to {last:.3} {}.", stage.name, stage.loss_unit()))
}
