//! The pictures of a folder, each with its captions: from a list, from a text file beside it, or from the
//! name of its folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::caption_list::{self, LISTS, ListedCaptions};
use super::webdataset::{PICTURES, PICTURES_NOT_READ};
use crate::store::{Blob, Listing, PassedOver};
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
        if !LISTS.contains(&file_name(&path).to_lowercase().as_str()) {
            continue;
        }
        // What is no regular file is no list.
        let file = Blob::open(&path, String::new()).ok();
        if file.is_some_and(|file| caption_list::is_list_by_name(&file)) {
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

/// The text files of a folder, by the pictures that they are beside. Names agree whatever their case.
pub(super) struct CaptionFiles<'a>(BTreeMap<PathBuf, Vec<&'a Blob>>);

impl<'a> CaptionFiles<'a> {
    /// Of all files.
    pub(super) fn of(files: impl IntoIterator<Item = &'a Blob>) -> Self {
        let mut texts: BTreeMap<PathBuf, Vec<&Blob>> = BTreeMap::new();
        for file in files.into_iter().filter(|file| ending(Path::new(&file.name)) == "txt") {
            texts.entry(stem(Path::new(&file.address))).or_default().push(file);
        }
        Self(texts)
    }

    /// The text beside a picture, `x.txt` or else `x.jpg.txt`: of two that differ in case only, the one that
    /// is written as the picture is.
    pub(super) fn beside(&self, picture: &Blob) -> Option<&'a Blob> {
        let path = Path::new(&picture.address);
        let texts = names(path).into_iter().find_map(|name| self.0.get(&name))?;
        let exact = path.with_extension("txt");
        texts.iter().find(|text| Path::new(&text.address) == exact).or(texts.last()).copied()
    }
}

fn from_pairs(root: &Path) -> Result<Vec<CaptionedFile>> {
    let Listing { files, passed_over } = listing(root)?;
    let is = |endings: &[&str], name: &str| endings.contains(&ending(Path::new(name)).as_str());
    let pictures: Vec<&Blob> = files.iter().filter(|file| is(&PICTURES, &file.name)).collect();
    let lists = LISTS.join(", ");
    ensure!(!pictures.is_empty(), "no pictures ({}) and no list of captions ({lists})", endings());
    let texts = CaptionFiles::of(&files);
    let entry = |picture: &Blob| {
        let captions = match texts.beside(picture) {
            None => Captions::Without(format!(
                "no caption: {} is not there",
                file_name(&Path::new(&picture.name).with_extension("txt"))
            )),
            Some(text) => match caption_in(text) {
                Ok(caption) => Captions::There(vec![caption]),
                Err(error) => Captions::Broken(format!("{}: {error:#}", file_name(Path::new(&text.name)))),
            },
        };
        CaptionedFile { path: picture.name.clone(), captions }
    };
    let mut entries: Vec<CaptionedFile> = pictures.into_iter().map(entry).collect();
    let captioned =
        entries.iter().any(|entry| matches!(entry.captions, Captions::There(_) | Captions::Broken(_)));
    let without = |path: &str, reason: String| CaptionedFile {
        path: path.to_owned(),
        captions: Captions::Without(reason),
    };
    // With a caption of its own it is a picture of the set, and not of the web page around it.
    let not_read = files.iter().filter(|file| is(&PICTURES_NOT_READ, &file.name));
    entries.extend(
        not_read
            .filter(|file| texts.beside(file).is_some())
            .map(|file| without(&file.name, NOT_READ.to_owned())),
    );
    for PassedOver { path, cause } in passed_over.iter().filter(|other| other.cause.is_in_place_of_a_file()) {
        let name = path.strip_prefix(root)?.to_string_lossy();
        entries.extend(is(&PICTURES, &name).then(|| without(&name, cause.reason())));
    }
    ensure!(captioned, "no captions: put x.txt beside x.jpg, or add a list of captions ({lists})");
    Ok(entries)
}

/// What is below a folder, by path part by part: on this order the order of training depends.
fn listing(root: &Path) -> Result<Listing> {
    let mut found = Listing::of_folder(root)?;
    found.files.sort_by(|a, b| Path::new(&a.name).cmp(Path::new(&b.name)));
    Ok(found)
}

/// The caption in a text file.
fn caption_in(file: &Blob) -> Result<String> {
    non_empty(&text_file::read(file.path().context("not on this machine")?)?)
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

/// What the text beside a picture may be called, without its ending and in lower case.
pub(super) fn names(picture: &Path) -> [PathBuf; 2] {
    [stem(picture), PathBuf::from(picture.to_string_lossy().to_lowercase())]
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
    let mut pictures = listing(&root.join(part))?.files;
    pictures.retain(|file| PICTURES.contains(&ending(Path::new(&file.name)).as_str()));
    ensure!(!pictures.is_empty(), "no pictures ({}) in folders of classes", endings());
    let entry = |picture: &Blob| {
        let class = Path::new(&picture.name).parent().and_then(Path::file_name);
        let class = class.with_context(|| format!("{} is in no folder of a class", picture.address))?;
        let inside = [part, &picture.name].into_iter().filter(|name| !name.is_empty());
        Ok(CaptionedFile {
            path: inside.collect::<Vec<_>>().join("/"),
            captions: Captions::There(vec![class.to_string_lossy().replace(['_', '-'], " ")]),
        })
    };
    pictures.iter().map(entry).collect()
}
