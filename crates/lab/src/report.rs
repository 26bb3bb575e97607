//! `report.html`: one file that opens from disk, without network and without scripts.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::plot::escape;
use crate::run::RunRecords;
use crate::{result, section};

const STYLE: &str = include_str!("report.css");

/// Reads the run folder `run` and writes its `report.html`, whose path it gives. A part of the run that is
/// missing or damaged is named in the report.
///
/// # Errors
/// `run` is not a folder, or the file can't be written.
pub fn write(run: &Path) -> Result<PathBuf> {
    let html = page(&RunRecords::read(run)?);
    let (path, beside) = (run.join("report.html"), run.join(".report.html.new"));
    let put = || std::fs::write(&beside, html).and_then(|()| std::fs::rename(&beside, &path));
    put()
        .inspect_err(|_| drop(std::fs::remove_file(&beside)))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// The whole page. Everything that comes from the run is escaped.
pub fn page(run: &RunRecords) -> String {
    let name = escape(&run.name);
    let body = [
        section::header(run),
        section::notes(run),
        result::scores(run),
        result::categories(run),
        result::pictures(run),
        section::training(run),
        section::skipped(run),
        section::plan(run),
    ]
    .concat();
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
