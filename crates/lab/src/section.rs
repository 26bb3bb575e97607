//! The report's frame: what was run, how training went, what was left out, the plan.

use serde_json::Value;

use crate::balance;
use crate::number::{count, duration, grouped};
use crate::plot::{Curve, escape, smooth};
use crate::process;
use crate::recaptioned::CaptionRecord;
use crate::record::StepRecord;
use crate::run::{RunRecords, StageRecords};
use crate::verdict::verdict;

/// The title, what came out in a sentence, and facts about the run.
pub(crate) fn header(run: &RunRecords) -> String {
    let mut facts = Vec::new();
    if let Some(parts) = run.planned("parameters").and_then(toml::Value::as_table) {
        let all: i64 = parts.values().filter_map(toml::Value::as_integer).sum();
        let of = |(name, n): (&String, &toml::Value)| {
            format!("{name} {}", count(n.as_integer().unwrap_or(0) as f64))
        };
        let parts = parts.iter().map(of).collect::<Vec<_>>().join(", ");
        facts.push(format!("{} parameters ({parts})", count(all as f64)));
    }
    if let Some(n) = run.planned("image_tokens").and_then(toml::Value::as_integer) {
        facts.push(format!("{n} image tokens a picture"));
    }
    facts.append(&mut pictures(run));
    if !run.stages.is_empty() {
        facts.append(&mut trained(run));
    }
    facts.append(&mut process::facts(&run.processes));
    for key in ["seed", "commit"] {
        if let Some(value) = run.planned(key) {
            let text = value.as_str().map_or_else(|| value.to_string(), Into::into);
            facts.push(format!("{key} {text}"));
        }
    }
    let facts: String = facts.iter().map(|f| format!("<li>{}</li>", escape(f))).collect();
    format!(
        "<header>\n<h1>{}</h1>\n<p class=\"verdict\">{}</p>\n<ul class=\"facts\">{facts}</ul>\n</header>\n",
        escape(&run.name),
        escape(&verdict(run))
    )
}

/// The size of pictures in the stages where it is not that of the model at first, and what the largest takes.
fn pictures(run: &RunRecords) -> Vec<String> {
    let stages = run.planned("stage_pictures").and_then(toml::Value::as_table).into_iter().flatten();
    let fact = |(stage, of): (&String, &toml::Value)| {
        let number = |key: &str| of.get(key).and_then(toml::Value::as_integer);
        let (size, most) = (number("image_size")?, number("most_tokens")?);
        Some(format!("{stage}: pictures of {size} pixels a side, at most {most} tokens a picture"))
    };
    stages.filter_map(fact).collect()
}

/// How much was trained.
fn trained(run: &RunRecords) -> Vec<String> {
    let steps = run.stages.iter().map(|s| s.steps.len() as u64).sum();
    let total =
        |value: fn(&StepRecord) -> Option<f64>| run.stages.iter().fold(0.0, |sum, s| sum + s.sum(value));
    vec![
        format!("{} training {}", grouped(steps), if steps == 1 { "step" } else { "steps" }),
        format!("{} tokens", count(total(|s| s.tokens))),
        format!("{} pictures", count(total(|s| s.images))),
        format!("{} of training", duration(total(|s| s.seconds))),
    ]
}

/// What is missing or broken; nothing where all is well.
pub(crate) fn notes(run: &RunRecords) -> String {
    if run.notes.is_empty() {
        return String::new();
    }
    let notes: String = run.notes.iter().map(|n| format!("<li>{}</li>", escape(n))).collect();
    format!(
        "<aside class=\"notes\" role=\"note\"><h2>This report is incomplete</h2><ul>{notes}</ul></aside>\n"
    )
}

/// The columns of the table of stages; a row is made by [`row`].
pub(crate) const TRAINING_HEADS: [&str; 9] = [
    "Stage",
    "Steps",
    "Tokens",
    "Pictures",
    "Time",
    "Tokens/s",
    "Pictures/s",
    "Waiting for data",
    "Loss, first → last",
];

/// Throughput of all stages, and the curves of each.
pub(crate) fn training(run: &RunRecords) -> String {
    if run.stages.is_empty() && !run.lacks_training() {
        return String::new();
    }
    if run.stages.iter().all(|s| s.steps.is_empty()) {
        return "<p>No training step is recorded.</p>\n".into();
    }
    let rows: String = run.stages.iter().map(|stage| row(&stage.name, stage)).collect();
    let curves: String = run.stages.iter().filter(|s| !s.steps.is_empty()).map(curves).collect();
    let ranks = balance::section(&run.ranks);
    let heads: String = TRAINING_HEADS.iter().map(|head| format!(r#"<th scope="col">{head}</th>"#)).collect();
    format!(
        r#"<div class="scroll"><table><thead><tr>{heads}</tr></thead>
<tbody>{rows}</tbody></table></div>
<p class="caption">Rates are means over the stage. The last loss is the end of the moving average.</p>
{ranks}{curves}"#
    )
}

/// The figures of a stage, a row that is called `name`.
pub(crate) fn row(name: &str, stage: &StageRecords) -> String {
    let (tokens, images) = (stage.sum(|s| s.tokens), stage.sum(|s| s.images));
    let (seconds, waiting) = (stage.sum(|s| s.seconds), stage.sum(|s| s.data_seconds));
    let rate = |n: f64| if seconds > 0.0 { count(n / seconds) } else { "–".into() };
    let share = if seconds > 0.0 { format!("{:.1} %", 100.0 * waiting / seconds) } else { "–".into() };
    let points = stage.points(|s| s.loss);
    let first = points.iter().find(|p| p.1.is_finite()).map(|p| p.1);
    let loss = match (first, smooth(&points).last()) {
        (Some(first), Some(last)) => {
            format!("{first:.3} → {:.3} <small>{}</small>", last.1, stage.loss_unit())
        }
        _ => "–".into(),
    };
    let done = grouped(stage.steps.len() as u64);
    let steps = match stage.planned {
        Some(planned) if planned != stage.steps.len() as u64 => format!("{done} of {}", grouped(planned)),
        _ => done,
    };
    format!(
        "<tr><th scope=\"row\">{}</th><td>{steps}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td>{share}</td><td>{loss}</td></tr>\n",
        escape(name),
        count(tokens),
        count(images),
        duration(seconds),
        rate(tokens),
        rate(images),
    )
}

fn curves(stage: &StageRecords) -> String {
    let step = "step";
    let panel = |title: &str, y: &str, points: Vec<(f64, f64)>, smooth: bool, log: bool| {
        if points.iter().all(|p| p.1.is_nan()) {
            return format!("<figure><figcaption>{title}</figcaption><p>Not recorded.</p></figure>\n");
        }
        let spoken = format!("{title} of stage {}", stage.name);
        let svg = Curve { title: &spoken, x: step, y, points: &points, smooth, log }.svg();
        format!("<figure><figcaption>{title}</figcaption>{svg}</figure>\n")
    };
    let (unit, throughput) = if stage.is_language() {
        ("tokens", StepRecord::throughput as fn(&StepRecord) -> Option<f64>)
    } else {
        ("pictures", StepRecord::pictures_per_second as _)
    };
    let mut panels = vec![
        panel("Loss", stage.loss_unit(), stage.points(|s| s.loss), true, true),
        panel("Learning rate", "learning rate", stage.points(|s| s.lr), false, false),
        panel("Throughput", &format!("{unit} a second"), stage.points(throughput), true, false),
        panel("Gradient norm", "norm before clipping", stage.points(|s| s.grad_norm), true, true),
    ];
    for key in stage.figures() {
        let points = stage.points(|s| s.figures.get(key).and_then(Value::as_f64));
        let name = escape(&key.replace('_', " "));
        panels.push(panel(&name, &name, points, true, false));
    }
    let panels = panels.concat();
    format!(
        "<h3>{}</h3>\n<div class=\"plots\">{panels}</div>\n\
         <p class=\"caption\">Thin lines: every step; bold lines: moving average.</p>\n",
        escape(&stage.name)
    )
}

/// Samples that could not be used, each once.
pub(crate) fn skipped(run: &RunRecords) -> String {
    let mut found: Vec<(&str, &str, u64)> = Vec::new();
    for sample in run.skipped() {
        match found.iter_mut().find(|(id, reason, _)| *id == sample.id && *reason == sample.reason) {
            Some((.., times)) => *times += 1,
            None => found.push((&sample.id, &sample.reason, 1)),
        }
    }
    if found.is_empty() {
        return String::new();
    }
    let row = |(id, reason, times): &(&str, &str, u64)| {
        format!(
            "<tr><td class=\"id\">{}</td><td>{}</td><td class=\"text\">{}</td></tr>\n",
            escape(id),
            grouped(*times),
            escape(reason)
        )
    };
    let rows: String = found.iter().map(row).collect();
    let samples = if found.len() == 1 { "sample" } else { "samples" };
    format!(
        "<p>{} {samples} could not be read and took no part in the run.</p>\n\
         <div class=\"scroll\"><table><thead><tr><th scope=\"col\">Sample</th>\
         <th scope=\"col\">Times met</th>\
         <th scope=\"col\" class=\"text\">Reason</th></tr></thead><tbody>{rows}</tbody></table></div>\n",
        grouped(found.len() as u64)
    )
}

/// A table with a line for each stage that writes captions; nothing, where none does.
pub(crate) fn captions(run: &RunRecords) -> String {
    if run.captions.is_empty() {
        return String::new();
    }
    let heads = [
        "Stage",
        "Images",
        "Captions",
        "Too short",
        "Did not end",
        "Damaged",
        "Words before",
        "after",
        "Gain",
    ];
    let heads = heads.map(str::to_owned);
    let row = |record: &CaptionRecord| {
        let CaptionRecord { stage, done, tally: of } = record;
        let mean = |sum: u64| sum as f64 / of.captions.max(1) as f64;
        let name = if *done { stage.clone() } else { format!("{stage} (so far)") };
        let counts = [record.images(), of.captions, of.short, of.cut, of.skipped].map(grouped);
        let words = [of.words_before, of.words_after].map(|sum| format!("{:.1}", mean(sum)));
        let gain = format!("{:.1}%", 100.0 * mean(of.gained));
        [vec![escape(&name)], counts.to_vec(), words.to_vec(), vec![gain]].concat()
    };
    let rows: Vec<Vec<String>> = run.captions.iter().map(row).collect();
    let table = table("id", &heads, 1, &rows);
    format!(
        "{table}<p class=\"caption\">Every image is in one count. Words are those of a caption on average; \
         the gain is the share of captions with a content word that the alt-text lacks.</p>\n"
    )
}

/// The plan as it was written before the first step, folded away.
pub(crate) fn plan(run: &RunRecords) -> String {
    let folded = |text: &String| {
        format!(
            "<details><summary>plan.toml, as written before the first step</summary>\
             <pre>{}</pre></details>\n",
            escape(text)
        )
    };
    run.plan_text.as_ref().map(folded).unwrap_or_default()
}

/// A table whose first `texts` columns are texts, of this class of the style sheet. Heads and cells are HTML.
pub(crate) fn table(texts_class: &str, heads: &[String], texts: usize, rows: &[Vec<String>]) -> String {
    let class = |i: usize| if i < texts { format!(" class=\"{texts_class}\"") } else { String::new() };
    let head = |(i, head): (usize, &String)| format!("<th scope=\"col\"{}>{head}</th>", class(i));
    let head: String = heads.iter().enumerate().map(head).collect();
    let line = |cells: &Vec<String>| {
        let cell = |(i, cell): (usize, &String)| format!("<td{}>{cell}</td>", class(i));
        format!("<tr>{}</tr>\n", cells.iter().enumerate().map(cell).collect::<String>())
    };
    let lines: String = rows.iter().map(line).collect();
    format!(
        "<div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>\n"
    )
}
