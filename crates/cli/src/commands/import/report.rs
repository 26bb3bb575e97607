//! What is said of an import.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use indicatif::{HumanBytes, HumanCount};
use mm1_data::text_file;
use serde_json::{Value, json};

use super::ImportModelArgs;
use super::parts::Imported;
use crate::attribution::weights_terms;
use crate::output::print_json;

/// Names of files that are listed before the rest is a number.
const LISTED: usize = 6;

/// Says what was read, left out and written, and how it is used.
///
/// # Errors
/// Standard output that can't be written.
pub(super) fn tell(args: &ImportModelArgs, found: &Imported) -> Result<()> {
    let Imported { what, section, account, parameters, tensors, numbers, files, lacks } = found;
    let config: Value = serde_json::from_str(&text_file::read(&args.out.join("config.json"))?)?;
    let family = config["model_type"].as_str().unwrap_or_default();
    let terms = weights_terms(&args.out);
    let bytes = fs::read_dir(&args.out)?.filter_map(|file| file.ok()?.metadata().ok()).map(|m| m.len());
    let bytes: u64 = bytes.sum();
    let taken = account.found - account.left.len();
    if args.json {
        return print_json(&json!({
            "folder": args.out, "source": args.source, "what": what, "family": family,
            "parameters": parameters, "tensors": tensors, "type": numbers.torch_name(), "bytes": bytes,
            "source_tensors": {"found": account.found, "taken": taken, "left": account.left},
            "source_files": files, "lacks": lacks, "terms": terms, "section": section,
        }));
    }
    println!("{}: {what} ({family}), {} parameters", args.out.display(), HumanCount(*parameters as u64));
    println!("from     {}", args.source.display());
    println!("tensors  {} there: {taken} read, {}", account.found, left_out(&account.left));
    println!("files    {}", listed("read", &files.read.iter().collect::<Vec<_>>()));
    for (verb, names) in [("taken over as they are", &files.taken_over), ("left out", &files.left)] {
        if !names.is_empty() {
            println!("         {}", listed(verb, &names.iter().collect::<Vec<_>>()));
        }
    }
    let (chosen, rounded) = match args.numbers {
        None => ("the smallest type that loses nothing", ""),
        Some(_) => ("by --type", " as the source's, rounded to that type"),
    };
    println!("written  {} in {}, {chosen}", HumanBytes(bytes), numbers.torch_name());
    println!("checked  read again: all {tensors} parameters have the same bits{rounded}");
    if let Some(terms) = terms {
        println!("terms    {terms}");
    }
    for lack in lacks {
        println!("lacking  {lack}");
    }
    println!("\nIn a recipe:\n\n[{section}]\nfrom = {}", toml::Value::from(args.out.display().to_string()));
    Ok(())
}

/// Names of tensors by what they begin with.
fn left_out(names: &[String]) -> String {
    if names.is_empty() {
        return "none left out".to_owned();
    }
    let mut groups: BTreeMap<String, usize> = BTreeMap::new();
    for name in names {
        // All of a whole model begin with `model`.
        let parts = if name.starts_with("model.") { 2 } else { 1 };
        let begin = name.split('.').take(parts).collect::<Vec<_>>().join(".");
        *groups.entry(begin).or_default() += 1;
    }
    let groups: Vec<String> = groups.iter().map(|(begin, count)| format!("{begin} {count}")).collect();
    format!("{} left out ({})", names.len(), groups.join(", "))
}

fn listed(verb: &str, names: &[&String]) -> String {
    let shown: Vec<&str> = names.iter().take(LISTED).map(|name| name.as_str()).collect();
    let rest = names.len().saturating_sub(LISTED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{} {verb}: {}{more}", names.len(), shown.join(", "))
}
