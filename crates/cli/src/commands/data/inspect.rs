//! `mm1 data inspect`: one document as a person sees it.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use indicatif::HumanBytes;
use mm1_data::document::{Document, Segment};
use mm1_data::left_out::LeftOut;
use mm1_data::printable::{printable, printable_lines};
use mm1_data::shard::Provenance;
use mm1_data::show::{self, ShownSegment};
use mm1_data::source::files::ReadDocument;
use mm1_data::source::stored::StoredSource;
use serde_json::json;

use super::sources::{Opened, SourceArgs};
use crate::error::input;
use crate::output::{self, print_json, tell};

/// The size of a picture in the terminal, in characters; a document's pictures share the lines.
const COLUMNS: u32 = 48;
const LINES: u32 = 16;
const ALL_LINES: u32 = 40;

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// Number of the document among all sources, from 0. Default: the first.
    #[arg(long, value_name = "N", conflicts_with = "id")]
    index: Option<u64>,
    /// Id of the document, or the end of its id after a slash.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Write the document as one HTML file, with its images inside.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// A document and where it was found.
struct Picked {
    document: Document,
    origin: Provenance,
    index: u64,
    file: String,
    /// What of its record is not in it.
    left_out: LeftOut,
}

/// Shows the document.
///
/// # Errors
/// Wrong input; a document that is not there or damaged.
pub(crate) fn inspect(args: &InspectArgs) -> Result<()> {
    let store = SourceArgs::store()?;
    let opened = args.sources.open(&store)?;
    let picked = input(match &args.id {
        Some(id) => by_id(&opened, id),
        None => by_index(&opened, args.index.unwrap_or(0)),
    })?;
    let Picked { document, origin, index, file, left_out } = &picked;
    if let Some(path) = &args.html {
        super::write(path, &show::html(document, origin, file))?;
        tell(format_args!("written: {}", path.display()));
    }
    if args.json {
        return print_json(&json!({
            "id": document.id,
            "kind": document.kind,
            "index": index,
            "file": file,
            "origin": origin,
            "segments": show::segments(document),
            "left_out": left_out,
            "html": args.html,
        }));
    }
    print_document(&picked)
}

fn by_index(opened: &Opened, index: u64) -> Result<Picked> {
    let mut at = index;
    for source in &opened.sources {
        if at < source.documents() {
            return pick(source, at, index);
        }
        at -= source.documents();
    }
    anyhow::bail!("--index {index}: there are {} documents, from 0", opened.documents())
}

/// The first document with the id. Damaged ones before it have none that is known.
fn by_id(opened: &Opened, id: &str) -> Result<Picked> {
    let (mut before, mut damaged) = (0, 0);
    for source in &opened.sources {
        for at in 0..source.documents() {
            match source.document(at) {
                Ok(read) if fits(&read.document.id, id) => return pick(source, at, before + at),
                Ok(_) => {}
                Err(_) => damaged += 1,
            }
        }
        before += source.documents();
    }
    anyhow::bail!(
        "--id {id}: no document of {before} has this id{}",
        match damaged {
            0 => String::new(),
            n => format!("; {n} are damaged and show none"),
        }
    )
}

fn fits(id: &str, wanted: &str) -> bool {
    id == wanted || id.strip_suffix(wanted).is_some_and(|before| before.ends_with('/'))
}

fn pick(source: &StoredSource, at: u64, index: u64) -> Result<Picked> {
    let ReadDocument { document, origin, left_out } = source.document(at)?;
    ensure!(!document.segments.is_empty(), "document {index} is empty");
    Ok(Picked { document, origin, index, file: source.file(at), left_out })
}

fn print_document(picked: &Picked) -> Result<()> {
    let Picked { document, origin, index, file, left_out } = picked;
    let (id, kind, file) = (printable(&document.id), show::kind(document), printable(file));
    println!("id     {id}\nkind   {kind}\nfile   {file} (document {index})");
    for (name, value) in [("from", &origin.source), ("terms", &origin.licence), ("by", &origin.attribution)] {
        if !value.is_empty() {
            println!("{name:<6} {}", printable(value));
        }
    }
    println!();
    let pictures = document.pictures().count() as u32;
    let lines = ALL_LINES.checked_div(pictures).map_or(0, |lines| LINES.min(lines));
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for (segment, shown) in document.segments.iter().zip(show::segments(document)) {
        match shown {
            ShownSegment::Text { text, learn } => {
                let text = format!("{}{text}\n", if learn { "" } else { "(not learned) " });
                // As it is: the document's lines are its own.
                output::print(printable_lines(&text).as_bytes())?;
            }
            ShownSegment::Token { token, .. } => println!("<{token}>"),
            ShownSegment::Image { name, format, width, height, bytes, damage } => {
                let name = if name.is_empty() { "no name".into() } else { printable(&name) };
                println!("[image: {name}, {format} {width}x{height}, {}]", HumanBytes(bytes));
                if let Some(damage) = damage {
                    println!("  can't be used: {}", printable(&damage));
                } else if let Segment::Image(image) = segment
                    && colours
                    && lines > 0
                    && let Ok(picture) = show::thumbnail(image, COLUMNS, lines)
                {
                    output::print((picture.join("\n") + "\n").as_bytes())?;
                }
            }
        }
    }
    for (reason, count) in left_out.iter() {
        println!(
            "(left out: {reason}{})",
            if count > 1 { format!(", {count} times") } else { String::new() }
        );
    }
    Ok(())
}
