//! The pictures of a folder, each with its captions: from a list, from a text file beside it, or from the
//! name of its folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::caption_list::{self, LISTS, ListedCaptions};
use super::webdataset::{PICTURES, PICTURES_NOT_READ};
use crate::text_file;

/// A picture of a folder and what is said of it.
pub(super) struct CaptionedFile {
    /// Relative to the root, with `/`.
    pub(super) path: String,
    captions: Captions,
}

/// What is said of a picture.
enum Captions {
    /// At least one.
    There(Vec<String>),
    /// Why there is none that can be used.
    Broken(String),
    /// Why nothing is said of it.
    Without(String),
}

impl CaptionedFile {
    /// Its captions.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn captions(&self) -> Result<&[String]> {
        match &self.captions {
            Captions::There(captions) => Ok(captions),
            Captions::Broken(reason) | Captions::Without(reason) => bail!("{reason}"),
        }
    }

    /// Whether there is a caption that can't be used.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.captions, Captions::Broken(_))
    }

    /// As [`CaptionedFile::captions`], none where there is none.
    pub(super) fn texts(&self) -> &[String] {
        self.captions().unwrap_or_default()
    }
}

/// Why nothing is read of a picture.
const NOT_READ: &str = "a picture of a format that is not read: write JPEG, PNG or WebP";

/// The canonical root of a folder or list, and its captions.
pub(super) fn read(path: &Path) -> Result<(PathBuf, Vec<CaptionedFile>)> {
    let kind = fs::metadata(path).context("can't be read: give a folder of pictures with captions")?;
    let path = path.canonicalize()?;
    let (root, list) = match path.parent() {
        Some(root) if kind.is_file() => (root, Some(path.clone())),
        _ => (path.as_path(), list_in(&path)?),
    };
    let entry = |(path, captions): (String, ListedCaptions)| {
        let captions = captions.map_or_else(Captions::Broken, Captions::There);
        CaptionedFile { path, captions }
    };
    let captions = match list {
        Some(list) => caption_list::read(&list)?.into_iter().map(entry).collect(),
        None => from_pairs(root)?,
    };
    Ok((root.to_path_buf(), captions))
}

/// The list of captions in a folder.
fn list_in(folder: &Path) -> Result<Option<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if LISTS.contains(&name.as_str()) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    let names: Vec<_> =
        found.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy()).collect();
    ensure!(
        found.len() < 2,
        "several lists of captions ({}): give one of them as the path",
        names.join(", ")
    );
    Ok(found.pop())
}

fn from_pairs(root: &Path) -> Result<Vec<CaptionedFile>> {
    let mut files = Vec::new();
    walk(root, &mut files)?;
    files.sort();
    let is = |endings: &[&str], path: &Path| endings.contains(&ending(path).as_str());
    let pictures: Vec<&PathBuf> = files.iter().filter(|path| is(&PICTURES, path)).collect();
    let lists = LISTS.join(", ");
    ensure!(!pictures.is_empty(), "no pictures ({}) and no list of captions ({lists})", endings());
    let texts: BTreeMap<PathBuf, &PathBuf> =
        files.iter().filter(|path| is(&["txt"], path)).map(|path| (stem(path), path)).collect();
    let entry = |picture: &PathBuf| {
        // Of two that differ in case only, the one that is written as the picture is.
        let exact = picture.with_extension("txt");
        let shown = file_name(&exact);
        let text = if exact.is_file() { Some(&exact) } else { texts.get(&stem(picture)).copied() };
        let captions = match text.map(|text| (text, text_file::read(text).and_then(|text| non_empty(&text))))
        {
            None => Captions::Without(format!("no caption: {shown} is not there")),
            Some((_, Ok(caption))) => Captions::There(vec![caption]),
            Some((text, Err(error))) => Captions::Broken(format!("{}: {error:#}", file_name(text))),
        };
        let name: Vec<_> = picture.strip_prefix(root)?.iter().map(|part| part.to_string_lossy()).collect();
        Ok(CaptionedFile { path: name.join("/"), captions })
    };
    let mut entries = pictures.into_iter().map(entry).collect::<Result<Vec<_>>>()?;
    let captioned =
        entries.iter().any(|entry| matches!(entry.captions, Captions::There(_) | Captions::Broken(_)));
    // With a caption of its own it is a picture of the set, and not of the web page around it.
    for picture in files.iter().filter(|path| is(&PICTURES_NOT_READ, path) && texts.contains_key(&stem(path)))
    {
        let name: Vec<_> = picture.strip_prefix(root)?.iter().map(|part| part.to_string_lossy()).collect();
        entries
            .push(CaptionedFile { path: name.join("/"), captions: Captions::Without(NOT_READ.to_owned()) });
    }
    ensure!(captioned, "no captions: put x.txt beside x.jpg, or add a list of captions ({lists})");
    Ok(entries)
}

fn non_empty(caption: &str) -> Result<String> {
    let caption = caption.trim();
    ensure!(!caption.is_empty(), "the caption is empty");
    Ok(caption.to_owned())
}

/// A path without its ending, in lower case: names agree whatever their case.
pub(super) fn stem(path: &Path) -> PathBuf {
    PathBuf::from(path.with_extension("").to_string_lossy().to_lowercase())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn ending(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// The endings of pictures, for messages.
fn endings() -> String {
    PICTURES.map(|ending| format!(".{ending}")).join(", ")
}

/// The pictures in the class folders of `part` of a root, in the order of their names.
pub(super) fn of_classes(root: &Path, part: &str) -> Result<Vec<CaptionedFile>> {
    let mut pictures = Vec::new();
    walk(&root.join(part), &mut pictures)?;
    pictures.retain(|path| PICTURES.contains(&ending(path).as_str()));
    pictures.sort();
    ensure!(!pictures.is_empty(), "no pictures ({}) in folders of classes", endings());
    let entry = |picture: &PathBuf| {
        let inside: Vec<_> = picture.strip_prefix(root)?.iter().map(|name| name.to_string_lossy()).collect();
        let class = inside.len().checked_sub(2).filter(|&at| inside[at] != part).map(|at| &inside[at]);
        let class = class.with_context(|| format!("{} is in no folder of a class", picture.display()))?;
        Ok(CaptionedFile {
            path: inside.join("/"),
            captions: Captions::There(vec![class.replace(['_', '-'], " ")]),
        })
    };
    pictures.iter().map(entry).collect()
}

/// Collects the files under a folder; hidden files are left out, and links to folders are not followed.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        } else if entry.file_type()?.is_dir() {
            walk(&path, files)?;
        } else if path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}
