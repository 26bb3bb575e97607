//! `report.html`: one file that opens from disk, without network and without scripts.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::plot::escape;
use crate::run::RunRecords;
use crate::{overlap, result, section};

const STYLE: &str = include_str!("report.css");

/// Reads the run folder `run` and writes its `report.html`, whose path it gives. A part of the run that is
/// missing or damaged is named in the report.
///
/// # Errors
/// `run` is not a folder, or the file can't be written.
pub fn write(run: &Path, author: ReportAuthor) -> Result<PathBuf> {
    put(run, &page(&RunRecords::read(run)?), author)
}

/// Writes the page `html` into `folder`, as a whole.
///
/// # Errors
/// A folder that can't be written.
pub(crate) fn put(folder: &Path, html: &str, author: ReportAuthor) -> Result<PathBuf> {
    let name = match author {
        ReportAuthor::Run => ".report.html.new".to_owned(),
        ReportAuthor::Reader => format!(".report.html.{}.new", std::process::id()),
    };
    let (path, beside) = (folder.join("report.html"), folder.join(name));
    let put = || std::fs::write(&beside, html).and_then(|()| std::fs::rename(&beside, &path));
    put()
        .inspect_err(|_| drop(std::fs::remove_file(&beside)))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Who writes a report. Each has a file of its own beside it: `mm1 report` may write while the run does.
// One name for all processes of a run: what a killed one has left is written over.
#[derive(Clone, Copy, Debug)]
pub enum ReportAuthor {
    /// The run itself, which holds the folder's lock.
    Run,
    /// Anybody, at any time.
    Reader,
}

/// The whole page. Everything that comes from the run is escaped.
pub fn page(run: &RunRecords) -> String {
    let sections: Vec<ReportSection> = [
        ("scores", "Scores", result::scores(run)),
        ("categories", "Scores by category", result::categories(run)),
        ("overlap", "Overlap with training", overlap::overlap(run)),
        ("pictures", "Test pictures", result::pictures(run)),
        ("training", "Training", section::training(run)),
        ("captions", "Captions written anew", section::captions(run)),
        ("skipped", "Skipped samples", section::skipped(run)),
        ("plan", "Plan", section::plan(run)),
    ]
    .into_iter()
    .filter(|(.., html)| !html.is_empty())
    .map(|(id, title, html)| ReportSection { id, title, html })
    .collect();
    let shown: String = sections.iter().map(ReportSection::shown).collect();
    let body = [section::header(run), section::notes(run), contents(&sections), shown].concat();
    document(&run.name, &body)
}

/// A page with our style; `title` is escaped, `body` is not.
pub(crate) fn document(title: &str, body: &str) -> String {
    let name = escape(title);
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<title>{name} · mm1</title>
<style>
{STYLE}</style>
</head>
<body>
<main>
{body}</main>
</body>
</html>
"#
    )
}

/// A part of the page with a heading.
struct ReportSection {
    /// By which the table of contents finds it.
    id: &'static str,
    title: &'static str,
    /// What follows the heading.
    html: String,
}

impl ReportSection {
    fn shown(&self) -> String {
        let Self { id, title, html } = self;
        format!("<section id=\"{id}\"><h2>{title}</h2>\n{html}</section>\n")
    }
}

/// The table of contents.
fn contents(sections: &[ReportSection]) -> String {
    let item =
        |ReportSection { id, title, .. }: &ReportSection| format!("<li><a href=\"#{id}\">{title}</a></li>");
    let items: String = sections.iter().map(item).collect();
    format!("<nav aria-label=\"Contents\"><ul class=\"contents\">{items}</ul></nav>\n")
}
