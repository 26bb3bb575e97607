//! What the model can do: scores over shots, scores by category, and test pictures with its answers.

use crate::number::grouped;
use crate::plot::{Intervals, Mark, Series, escape, key};
use crate::record::{AnswerRecord, ENOUGH_QUESTIONS, ScoreRecord};
use crate::run::RunRecords;
use crate::verdict::number;
use crate::words;

/// The shots table and a plot for each task; nothing where there is no score (a note says so).
pub(crate) fn scores(run: &RunRecords) -> String {
    let scores: Vec<&ScoreRecord> = run.scores.iter().filter(|s| !s.task.contains('/')).collect();
    if scores.is_empty() {
        return String::new();
    }
    let plots: String =
        distinct(scores.iter().map(|s| s.task.as_str())).into_iter().map(|t| plot(t, &scores)).collect();
    let there = |name: &str| scores.iter().any(|s| s.baselines.contains_key(name));
    let baselines = BASELINES.iter().filter(|(name, _)| there(name));
    let explained: String = baselines.map(|(name, what)| format!("<em>{name}</em>: {what}; ")).collect();
    let few = scores.iter().any(|s| s.n.is_some_and(|n| n < ENOUGH_QUESTIONS));
    let few = if few {
        format!(
            " With fewer than {ENOUGH_QUESTIONS} questions the intervals are wide: small differences say \
             nothing."
        )
    } else {
        String::new()
    };
    format!(
        "{}<p class=\"caption\">In brackets: 95% interval; {explained}<i>n</i>: number of \
         questions.{few}</p>\n\
         <div class=\"plots\">{plots}</div>\n",
        table(&scores)
    )
}

/// What answers beside the model.
const BASELINES: [(&str, &str); 7] = [
    ("constant", "one answer to all questions"),
    ("prior", "the most frequent answer to each kind of question"),
    ("question", "that to the very same question"),
    ("blind", "the same model with grey instead of the pictures"),
    ("random", "the same encoder with random weights"),
    ("pixels", "the pixels in place of an encoder's features"),
    ("chance", "one in as many as there are to choose from"),
];

/// The table of `task/category` scores.
pub(crate) fn categories(run: &RunRecords) -> String {
    let scores: Vec<&ScoreRecord> = run.scores.iter().filter(|s| s.task.contains('/')).collect();
    if scores.is_empty() {
        return String::new();
    }
    table(&scores)
}

/// The distinct values in the order in which they first come.
pub(crate) fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

fn shot_columns(scores: &[&ScoreRecord]) -> Vec<u64> {
    let mut shots = distinct(scores.iter().map(|s| s.shots));
    shots.sort_unstable();
    shots
}

/// Rows task × stage, each task under its own heading, the baselines below the model; columns are shots.
fn table(scores: &[&ScoreRecord]) -> String {
    let shots = shot_columns(scores);
    let heads: String =
        shots.iter().map(|s| format!("<th scope=\"col\">{}</th>", words::shots(*s))).collect();
    let mut bodies = String::new();
    for task in distinct(scores.iter().map(|s| s.task.as_str())) {
        let of_task: Vec<&ScoreRecord> = scores.iter().copied().filter(|s| s.task == task).collect();
        bodies += &task_rows(task, &of_task, &shots);
    }
    format!(
        "<div class=\"scroll\"><table class=\"scores\"><thead><tr><th scope=\"col\">Stage</th>\
         <th scope=\"col\">Answers by</th>{heads}</tr></thead>\n{bodies}</table></div>\n"
    )
}

fn task_rows(task: &str, scores: &[&ScoreRecord], shots: &[u64]) -> String {
    let mut rows = Vec::new();
    for stage in distinct(scores.iter().map(|s| s.stage.as_str())) {
        let of_stage: Vec<&ScoreRecord> = scores.iter().copied().filter(|s| s.stage == stage).collect();
        let cells = |text: &dyn Fn(&ScoreRecord) -> String| -> String {
            let at = |shots: u64| of_stage.iter().find(|s| s.shots == shots);
            shots
                .iter()
                .map(|&s| format!("<td>{}</td>", at(s).map_or_else(|| "–".into(), |s| text(s))))
                .collect()
        };
        let baselines = distinct(of_stage.iter().flat_map(|s| s.baselines.keys()));
        let name = escape(stage);
        // Beside the rows; on a narrow screen above them, so that there is room for every number of shots.
        rows.push(("stage", format!("<th scope=\"rowgroup\" colspan=\"{}\">{name}</th>", 2 + shots.len())));
        let head = format!("<th scope=\"rowgroup\" rowspan=\"{}\">{name}</th>", 1 + baselines.len());
        rows.push(("model", format!("{head}<th scope=\"row\">model</th>{}", cells(&value))));
        for name in baselines {
            let text = |s: &ScoreRecord| {
                s.baselines.get(name).and_then(number).map_or_else(|| "–".into(), |v| format!("{v:.1}"))
            };
            rows.push(("base", format!("<th scope=\"row\">{}</th>{}", escape(name), cells(&text))));
        }
    }
    let questions = distinct(scores.iter().filter_map(|s| s.n));
    let n = if let [n] = questions[..] { format!(", <i>n</i> = {}", grouped(n)) } else { String::new() };
    let metric = escape(&metric_text(scores));
    let rows: String =
        rows.iter().map(|(class, row)| format!("<tr class=\"{class}\">{row}</tr>\n")).collect();
    format!(
        "<tbody><tr class=\"task\"><th scope=\"rowgroup\" colspan=\"{}\">{} \
         <small>{metric}{n}</small></th></tr>\n{rows}</tbody>\n",
        2 + shots.len(),
        escape(task)
    )
}

/// A score with its interval.
pub(crate) fn value(score: &ScoreRecord) -> String {
    let value = score.value.map_or_else(|| "not a number".into(), |v| format!("<b>{v:.1}</b>"));
    match interval(score) {
        Some((low, high)) => format!("{value} <small>[{low:.1}, {high:.1}]</small>"),
        None => value,
    }
}

fn interval(score: &ScoreRecord) -> Option<(f64, f64)> {
    let [low, high] = score.ci95?;
    Some((low?, high?))
}

/// The metrics' names as papers write them.
fn metric_text(scores: &[&ScoreRecord]) -> String {
    distinct(scores.iter().map(|s| s.metric_name())).join("; ")
}

/// A task's scores over shots with error bars, and its baselines.
fn plot(task: &str, scores: &[&ScoreRecord]) -> String {
    let scores: Vec<&ScoreRecord> = scores.iter().copied().filter(|s| s.task == task).collect();
    let shots = shot_columns(&scores);
    let columns: Vec<String> = shots.iter().map(u64::to_string).collect();
    let series = series(&scores, &shots);
    let metric = metric_text(&scores);
    let title = format!("{task} over shots");
    let svg = Intervals { title: &title, x: "shots", y: &metric, columns: &columns, series: &series }.svg();
    let legend: String = series.iter().map(|s| format!("<li>{}{}</li>", key(s), escape(&s.name))).collect();
    format!(
        "<figure><figcaption>{}</figcaption>{svg}<ul class=\"legend\">{legend}</ul></figure>\n",
        escape(task)
    )
}

/// A series a stage, then one for each baseline, or one a stage where the stages differ in it.
fn series(scores: &[&ScoreRecord], shots: &[u64]) -> Vec<Series> {
    let stages = distinct(scores.iter().map(|s| s.stage.as_str()));
    let marks = |stage: &str, of: &dyn Fn(&ScoreRecord) -> Option<Mark>| -> Vec<Mark> {
        let at = |(column, shots): (usize, &u64)| {
            let score = scores.iter().find(|s| s.stage == stage && s.shots == *shots)?;
            Some(Mark { column, ..of(score)? })
        };
        shots.iter().enumerate().filter_map(at).collect()
    };
    let model = |s: &ScoreRecord| Some(Mark { column: 0, value: s.value?, interval: interval(s) });
    let mut all: Vec<Series> = stages
        .iter()
        .enumerate()
        .map(|(colour, stage)| Series {
            name: (*stage).into(),
            colour,
            baseline: false,
            marks: marks(stage, &model),
        })
        .collect();
    let mut next = stages.len();
    for name in distinct(scores.iter().flat_map(|s| s.baselines.keys())) {
        let base = |s: &ScoreRecord| {
            Some(Mark { column: 0, value: number(s.baselines.get(name)?)?, interval: None })
        };
        let each: Vec<Vec<Mark>> = stages.iter().map(|s| marks(s, &base)).collect();
        if each.iter().all(|m| *m == each[0]) {
            all.push(Series { name: name.clone(), colour: next, baseline: true, marks: each[0].clone() });
            next += 1;
            continue;
        }
        for (colour, (stage, marks)) in stages.iter().zip(each).enumerate() {
            all.push(Series { name: format!("{stage}, {name}"), colour, baseline: true, marks });
        }
    }
    all
}

/// A card for each test question: its pictures, the truth, and what each stage said with each number of
/// shots.
pub(crate) fn pictures(run: &RunRecords) -> String {
    if run.samples.is_empty() {
        return String::new();
    }
    let mut html = String::from("<p class=\"caption\">✓ right, ✗ wrong; a number is the item's score.</p>\n");
    for task in distinct(run.samples.iter().map(|s| s.task.as_str())) {
        let of_task: Vec<&AnswerRecord> = run.samples.iter().filter(|s| s.task == task).collect();
        let cards: String = distinct(of_task.iter().map(|s| s.id.as_str()))
            .into_iter()
            .map(|id| card(&of_task.iter().copied().filter(|s| s.id == id).collect::<Vec<_>>()))
            .collect();
        html += &format!("<h3>{}</h3>\n<div class=\"cards\">{cards}</div>\n", escape(task));
    }
    html
}

/// The samples of one question.
fn card(samples: &[&AnswerRecord]) -> String {
    let first = samples[0];
    // Pictures come with the first rows of an evaluation only.
    let pictured = samples.iter().find(|s| !s.pictures.is_empty()).unwrap_or(&first);
    let images: String = pictured
        .pictures
        .iter()
        .map(|p| {
            format!(
                r#"<img src="data:image/png;base64,{}" width="{}" height="{}" alt="test picture"/>"#,
                escape(&p.png_base64),
                p.width,
                p.height
            )
        })
        .collect();
    let is_caption = first.question.is_empty();
    let (class, question) =
        if is_caption { ("card caption-card", "Caption") } else { ("card", first.question.as_str()) };
    let answers: String = samples
        .iter()
        .map(|s| {
            let (class, mark, spoken) = if is_caption { graded(s.score) } else { verdict(s.score) };
            let output = if s.output.trim().is_empty() { "(empty)" } else { s.output.trim() };
            format!(
                "<tr class=\"{class}\"><th scope=\"row\">{}, {}</th><td class=\"text\">{}</td>\
                 <td title=\"{spoken}\">{mark}</td></tr>",
                escape(&s.stage),
                words::shots(s.shots),
                escape(output)
            )
        })
        .collect();
    format!(
        "<article class=\"{class}\"><div class=\"images\">{images}</div><p class=\"question\">{}</p>\
         <p class=\"truth\"><span>Truth</span> {}</p>{}<table>{answers}</table></article>\n",
        escape(question),
        escape(first.answers.first().map_or("(none)", String::as_str)),
        other_answers(first)
    )
}

/// The accepted answers after the first, folded away.
fn other_answers(sample: &AnswerRecord) -> String {
    let others = sample.answers.get(1..).unwrap_or_default();
    if others.is_empty() {
        return String::new();
    }
    let items: String = others.iter().map(|a| format!("<li>{}</li>", escape(a))).collect();
    format!("<details><summary>or one of {} more</summary><ul>{items}</ul></details>", others.len())
}

/// Class, sign and spoken form of the score of a question.
fn verdict(score: Option<f64>) -> (&'static str, String, &'static str) {
    match score {
        Some(s) if s >= 100.0 => ("right", "✓".into(), "right"),
        Some(s) if s <= 0.0 => ("wrong", "✗".into(), "wrong"),
        _ => graded(score),
    }
}

/// The same for a score that is no matter of right and wrong.
fn graded(score: Option<f64>) -> (&'static str, String, &'static str) {
    match score {
        Some(s) => ("graded", format!("{s:.1}"), "score"),
        None => ("graded", "–".into(), "no score"),
    }
}
