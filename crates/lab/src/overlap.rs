//! The overlap of tests and training, as far as an evaluation has looked for it.

use crate::number::grouped;
use crate::plot::escape;
use crate::record::{OverlapRecord, ScoreRecord};
use crate::run::RunRecords;

/// A row for each task; nothing where no evaluation has compared its questions with training.
pub(crate) fn overlap(run: &RunRecords) -> String {
    let mut found: Vec<(&ScoreRecord, OverlapRecord)> = Vec::new();
    for score in &run.scores {
        let Some(overlap) = score.contamination else { continue };
        // The same for every number of shots.
        if !found.iter().any(|(seen, other)| seen.task == score.task && *other == overlap) {
            found.push((score, overlap));
        }
    }
    if found.is_empty() {
        return String::new();
    }
    let rows: String = found.iter().map(|(score, overlap)| row(score, *overlap)).collect();
    format!(
        "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Task</th><th scope=\"col\">Questions</th>\
         <th scope=\"col\">Documents of training</th><th scope=\"col\">Same picture</th>\
         <th scope=\"col\">Picture alike</th><th scope=\"col\">Text in common</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>\n\
         <p class=\"caption\">Questions of a test that the first documents of training show too. <em>Same \
         picture</em>: the same pixels; <em>picture alike</em>: nearly the same by a perceptual hash, the \
         same ones among them; <em>text in common</em>: 13 words in a row.</p>\n"
    )
}

fn row(score: &ScoreRecord, overlap: OverlapRecord) -> String {
    let OverlapRecord { documents, items, same_pictures, near_pictures, texts } = overlap;
    let share = |n: u64| match n {
        0 => "0".to_owned(),
        n => format!("<b>{}</b> <small>{:.0} %</small>", grouped(n), 100.0 * n as f64 / items.max(1) as f64),
    };
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        escape(&score.task),
        grouped(items),
        grouped(documents),
        share(same_pictures),
        share(near_pictures),
        share(texts)
    )
}
