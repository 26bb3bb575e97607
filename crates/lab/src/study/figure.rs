//! A study's figure as a file of its own: mean scores over the values of its longest axis, and the paper's
//! beside them.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::findings::{StudyFindings, StudyOutcomeFindings};
use super::record::StudyAxis;
use super::results::StudyResults;
use crate::ablation::PaperTable;
use crate::plot::{self, HEIGHT, Intervals, Mark, Series, WIDTH, escape, key};
use crate::result::distinct;
use crate::words;

/// Above each panel: its title, and below that the keys of its series.
const HEAD: f64 = 44.0;

/// Panels side by side.
const ACROSS: usize = 2;

/// One plot of the figure.
struct Panel {
    title: String,
    columns: Vec<String>,
    series: Vec<Series>,
}

/// The figure: a panel for each evaluation and each setting of the other axes, and then those of the paper,
/// where its table has a column of the axis' name. A series is a number of demonstrations.
///
/// # Errors
/// A study that compares nothing.
pub fn svg_file(results: &StudyResults, findings: &StudyFindings) -> Result<String> {
    let axes: Vec<&StudyAxis> = results.study.axes.iter().filter(|axis| !axis.repeats).collect();
    let longest = (0..axes.len()).rev().max_by_key(|&i| axes[i].values.len());
    let longest = longest.context("there is nothing to draw: the study has no axis but its seeds")?;
    let mut panels = ours(&axes, longest, findings);
    let seeds = findings.outcomes.iter().flat_map(|of| &of.settings).map(|of| of.mean.seeds).max();
    let seeds = seeds.context("there is nothing to draw: no run has scores whose mean is a score")?;
    for panel in &mut panels {
        let seeds = if seeds == 1 { "one seed".to_owned() } else { format!("{seeds} seeds") };
        panel.title = join(&["here".to_owned(), panel.title.clone(), seeds]);
    }
    if let Some(paper) = &results.study.paper {
        panels.extend(of_paper(&axes, longest, paper));
    }
    Ok(drawn(&results.study.name, &axes[longest].name, &panels))
}

/// Texts that are not empty, with commas.
fn join(texts: &[String]) -> String {
    texts.iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join(", ")
}

/// The names without that of the axis in place `axis`.
fn others(names: &[String], axis: usize) -> Vec<String> {
    names.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, name)| name.clone()).collect()
}

/// A panel for each stage that evaluates, and each setting of the other axes.
fn ours(axes: &[&StudyAxis], axis: usize, findings: &StudyFindings) -> Vec<Panel> {
    let stages = distinct(findings.outcomes.iter().map(|of| &of.stage));
    let settings = findings.outcomes.iter().flat_map(|of| &of.settings);
    let settings = distinct(settings.map(|of| others(&of.names, axis)));
    let mut panels = Vec::new();
    for setting in &settings {
        for &stage in &stages {
            let outcomes = findings.outcomes.iter().filter(|of| of.stage == *stage);
            let series = |(colour, of)| shots_of(of, (axis, &axes[axis].values), setting, colour);
            let series: Vec<Series> = outcomes.enumerate().map(series).collect();
            let stage = if stages.len() > 1 { stage.clone() } else { String::new() };
            let title = join(&[join(setting), stage]);
            panels.push(Panel { title, columns: axes[axis].values.clone(), series });
        }
    }
    panels
}

fn shots_of(
    outcome: &StudyOutcomeFindings,
    (axis, values): (usize, &[String]),
    setting: &[String],
    colour: usize,
) -> Series {
    let mark = |(column, value): (usize, &String)| {
        let of =
            outcome.settings.iter().find(|of| of.names[axis] == *value && others(&of.names, axis) == setting);
        let estimate = of?.mean.estimate;
        let [low, high] = estimate.ci95();
        Some(Mark { column, value: estimate.value, interval: Some((low, high)) })
    };
    let marks = values.iter().enumerate().filter_map(mark).collect();
    Series { name: words::shots(outcome.shots), colour, baseline: false, marks }
}

/// The paper's panels: one for each text of the columns that are named as the other axes. Each column of
/// numbers is a series.
fn of_paper(axes: &[&StudyAxis], axis: usize, paper: &PaperTable) -> Vec<Panel> {
    let named = |axis: &StudyAxis| paper.columns.iter().position(|head| *head == axis.name);
    let Some(across) = named(axes[axis]) else { return Vec::new() };
    let others: Vec<usize> = axes.iter().filter_map(|axis| named(axis)).filter(|&at| at != across).collect();
    let numbers: Vec<usize> = (0..paper.columns.len())
        .filter(|at| *at != across && !others.contains(at))
        .filter(|&at| paper.rows.iter().all(|row| row[at].parse::<f64>().is_ok()))
        .collect();
    let setting = |row: &Vec<String>| others.iter().map(|&at| row[at].clone()).collect::<Vec<_>>();
    let mut panels = Vec::new();
    for of in distinct(paper.rows.iter().map(setting)) {
        let rows: Vec<&Vec<String>> = paper.rows.iter().filter(|row| setting(row) == of).collect();
        let series = |(colour, &at): (usize, &usize)| {
            let mark = |(column, row): (usize, &&Vec<String>)| {
                let value = row[at].parse().unwrap_or(f64::NAN);
                Mark { column, value, interval: None }
            };
            let marks = rows.iter().enumerate().map(mark).collect();
            Series { name: paper.columns[at].clone(), colour, baseline: false, marks }
        };
        // Those that are not numbers of shots come last, so that colours are those of ours.
        let (shots, further): (Vec<usize>, Vec<usize>) =
            numbers.iter().partition(|&&at| paper.columns[at].ends_with("-shot"));
        let series = shots.iter().chain(&further).enumerate().map(series).collect();
        let name = paper.title.split(" (").next().unwrap_or_default().to_owned();
        let title = join(&[name, join(&of)]);
        panels.push(Panel { title, columns: rows.iter().map(|row| row[across].clone()).collect(), series });
    }
    panels
}

fn drawn(name: &str, axis: &str, panels: &[Panel]) -> String {
    let (high, rows) = (HEAD + HEIGHT, panels.len().div_ceil(ACROSS) as f64);
    let (width, height) = (WIDTH * panels.len().min(ACROSS) as f64, high * rows);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"{}\">{}",
        escape(name),
        plot::STYLE
    );
    for (i, panel) in panels.iter().enumerate() {
        let (x, y) = (WIDTH * (i % ACROSS) as f64, high * (i / ACROSS) as f64);
        let _ = write!(
            svg,
            "<text class=\"label\" x=\"{}\" y=\"{}\">{}</text>",
            x + 62.0,
            y + 18.0,
            escape(&panel.title)
        );
        let mut at = x + 62.0;
        for series in &panel.series {
            let key = key(series).replacen(
                "<svg ",
                &format!("<svg x=\"{at}\" y=\"{}\" width=\"30\" height=\"14\" ", y + 26.0),
                1,
            );
            let _ = write!(
                svg,
                "{key}<text x=\"{}\" y=\"{}\">{}</text>",
                at + 35.0,
                y + 37.0,
                escape(&series.name)
            );
            at += 48.0 + 7.0 * series.name.chars().count() as f64;
        }
        let title = format!("mean score over {axis}: {}", panel.title);
        let plot = Intervals {
            title: &title,
            x: axis,
            y: "mean score",
            columns: &panel.columns,
            series: &panel.series,
        };
        let place = format!("<svg x=\"{x}\" y=\"{}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" ", y + HEAD);
        svg += &plot.svg().replacen("<svg ", &place, 1);
    }
    svg + "</svg>\n"
}
