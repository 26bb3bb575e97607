//! [`detect`]: which sources a person's paths are, by the endings and the first content of their files.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

use super::beside::BesidePictures;
use super::caption_list::is_list_by_name;
use super::config::SourceConfig;
use super::evidence::{Evidence, SourceFields};
use super::file_kind::{FileKind, endings, ends, has_ending, inspect};
use super::files::Format as _;
use super::pairing::{LooseFiles, Paired, Tables};
use super::webdataset::{PICTURES, PICTURES_NOT_READ};
use super::{shard, value_evidence};

pub use super::pairing::UnusedFile;
use crate::account::Account;
use crate::left_out::LeftOut;
use crate::store::{ANY, Blob, Listing, Paths, Store, at_once};

/// The kinds that files can be of.
pub const KINDS: [&str; 13] = [
    "folder",
    "classes",
    "shards",
    "webdataset",
    "parquet-captioned",
    "obelics",
    "mmc4",
    "html",
    "text",
    "json-text",
    "parquet-text",
    "conversations",
    "parquet-conversations",
];

/// The kinds whose documents name pictures that lie beside them.
const NAME_PICTURES: [&str; 5] = ["obelics", "mmc4", "html", "conversations", "parquet-conversations"];

/// What a person says of all paths, in place of what would be found.
#[derive(Clone, Debug, Default)]
pub struct DetectOptions {
    /// One of [`KINDS`].
    pub kind: Option<String>,
    /// Fields of [`SourceConfig`].
    pub settings: Map<String, Value>,
}

/// Files of one format.
#[derive(Clone)]
pub struct FoundSource {
    /// A name, unique among those found together.
    pub name: String,
    /// One of [`KINDS`].
    pub kind: &'static str,
    /// How they are read.
    pub config: SourceConfig,
    /// The files; of a folder of captioned pictures none.
    pub(crate) files: Vec<Blob>,
    /// Of such a folder the pairs that a task has; all, where there is none.
    pub(crate) pairs: Option<Range<usize>>,
}

/// What a share leaves out of the folders of shards that it is of.
#[derive(Default)]
pub(crate) struct ShareOfShards {
    /// Whether the task is the one that reports what belongs to no file.
    pub(crate) first: bool,
    /// Shards that other tasks have.
    pub(crate) elsewhere: BTreeSet<PathBuf>,
}

/// What the paths are.
#[derive(Default)]
pub struct Detected {
    /// The sources, in the order of the paths.
    pub sources: Vec<FoundSource>,
    /// Files that belong to no source, each with the reason.
    pub left: Vec<UnusedFile>,
    /// Files of a known ending whose format can't be detected, and why.
    pub unclear: Vec<(String, String)>,
    /// Folders with a manifest of shards.
    pub manifests: Vec<PathBuf>,
    /// Pictures that documents may name.
    pub beside: BesidePictures,
    /// Files and what is no file, as they were listed.
    there: u64,
    /// Files of sources.
    read: u64,
    /// Where it is a task's share.
    pub(crate) share: Option<ShareOfShards>,
}

impl DetectOptions {
    /// From `field=value` texts.
    ///
    /// # Errors
    /// A text without `=`; the path, which is an argument of its own; a kind that is not known.
    pub fn new(kind: Option<String>, edits: &[String]) -> Result<Self> {
        let mut settings = Map::new();
        for edit in edits {
            let (field, value) =
                edit.split_once('=').with_context(|| format!("--set {edit}: write it as field=value"))?;
            ensure!(!["kind", "path"].contains(&field), "--set {edit}: give the {field} as --kind or SOURCE");
            // A number or truth value, or else text.
            let read = serde_json::from_str(value).ok().filter(|v: &Value| v.is_number() || v.is_boolean());
            settings.insert(field.to_owned(), read.unwrap_or_else(|| value.into()));
        }
        if let Some(kind) = &kind {
            ensure!(KINDS.contains(&kind.as_str()), "--kind {kind}: known are {}", KINDS.join(", "));
        }
        Ok(Self { kind, settings })
    }
}

/// Looks at the files of all paths (folders, patterns and addresses too). A folder may hold several formats:
/// each becomes a source of its own.
///
/// # Errors
/// Paths without files; a setting that no source has; paths in which nothing is of a known format.
pub fn detect(paths: &[String], given: &DetectOptions, store: &Store) -> Result<Detected> {
    let mut all = Detected::default();
    for path in paths {
        let Listing { files, passed_over } = store.list(&Paths::One(path.clone()), ANY)?;
        all.there += (files.len() + passed_over.len()) as u64;
        let before = all.sources.len();
        match &given.kind {
            Some(_) => all.as_given(path, given, files, store)?,
            None => all.sort(path, given, files, store)?,
        }
        ensure!(
            all.sources.len() > before || !all.unclear.is_empty(),
            "{path}: no data of a known format{}; say --kind, one of {}",
            all.left
                .last()
                .map(|left| format!(" (such as {}: {})", left.file, left.reason))
                .unwrap_or_default(),
            KINDS.join(", ")
        );
        all.left.extend(passed_over.into_iter().map(|other| UnusedFile {
            file: other.path.to_string_lossy().into_owned(),
            reason: other.cause.reason(),
        }));
    }
    let mut taken = BTreeSet::new();
    for source in &mut all.sources {
        let name = source.name.clone();
        // Names are kept apart by numbers: two folders called `train` are common.
        for number in 2.. {
            if taken.insert(source.name.clone()) {
                break;
            }
            source.name = format!("{name}-{number}");
        }
    }
    Ok(all)
}

/// The files of one format.
type FormatGroup = (Evidence, Vec<Blob>);

impl Detected {
    /// The sources, where the format of every file of a known ending was detected.
    ///
    /// # Errors
    /// One line with the first file that could not.
    pub fn clear(self) -> Result<Self> {
        if let Some((file, reason)) = self.unclear.first() {
            bail!("{file}: {reason}");
        }
        Ok(self)
    }

    /// What became of the files, those that documents name by what `beside` has been told; before documents
    /// are read, and files found that can't be opened.
    pub fn files(&self, beside: &BesidePictures) -> Account {
        let mut files = self.source_files(beside);
        files.merge(&beside.account());
        files
    }

    /// The same without the pictures `beside` documents.
    pub(crate) fn source_files(&self, beside: &BesidePictures) -> Account {
        let mut skipped = LeftOut::default();
        self.unclear.iter().for_each(|_| skipped.add("a file whose format can't be detected", 1));
        let mut left_out = LeftOut::default();
        self.left.iter().for_each(|unused| left_out.add(&unused.reason, 1));
        Account { there: self.there - beside.there(), read: self.read, skipped, left_out }
    }

    /// A folder of pictures is one source; what it does not read is left.
    fn as_folder(
        &mut self,
        kind: &'static str,
        path: &str,
        given: &DetectOptions,
        files: Vec<Blob>,
    ) -> Result<()> {
        let config = configure(kind, path, &given.settings)?;
        let (mut loose, mut lists) = (LooseFiles::default(), Vec::new());
        for file in files {
            let other = |file| UnusedFile::new(file, "not of the kind that was said");
            match () {
                () if has_ending(&file.name, &PICTURES_NOT_READ) => loose.not_read.push(file),
                () if has_ending(&file.name, &PICTURES) => loose.pictures.push(file),
                () if kind == "classes" => self.left.push(other(file)),
                () if file.address == path || is_list_of(&file, path) => lists.push(file),
                () if has_ending(&file.name, &["txt"]) => loose.texts.push(file),
                () => self.left.push(other(file)),
            }
        }
        let name = name_of(path, &lists);
        if kind == "classes" {
            self.read += loose.pictures.len() as u64;
            loose.pictures.clear();
        }
        self.read += lists.len() as u64;
        let groups: Vec<FormatGroup> =
            lists.into_iter().map(|list| (Evidence::of("folder"), vec![list])).collect();
        let Paired { read, texts, left, .. } = loose.pair(&groups, true);
        self.read += read;
        self.left.extend(left);
        self.left
            .extend(texts.into_iter().map(|file| UnusedFile::new(file, "not of the kind that was said")));
        self.sources.push(FoundSource { name, kind, config, files: Vec::new(), pairs: None });
        Ok(())
    }

    /// All files that the kind reads are one source. What the first file shows fills the fields that are not
    /// said.
    fn as_given(&mut self, path: &str, given: &DetectOptions, files: Vec<Blob>, store: &Store) -> Result<()> {
        let kind = KINDS.into_iter().find(|&known| given.kind.as_deref() == Some(known));
        let kind = kind.context("a kind that is not known")?;
        if ["folder", "classes"].contains(&kind) {
            return self.as_folder(kind, path, given, files);
        }
        let name = name_of(path, &files);
        let endings = endings(kind);
        let folder = Path::new(path).is_dir();
        let fits = |file: &Blob| !folder || ends(&file.name, endings);
        let (files, left): (Vec<Blob>, Vec<Blob>) = files.into_iter().partition(fits);
        for file in left {
            if NAME_PICTURES.contains(&kind) && has_ending(&file.name, &PICTURES) {
                self.beside.add(&file);
            } else {
                self.left.push(UnusedFile::new(file, "not of the kind that was said"));
            }
        }
        self.read += files.len() as u64;
        let first = files.first();
        let first = first
            .with_context(|| format!("{path}: no file for --kind {kind}; wanted: {}", endings.join(", ")))?;
        let mut settings = match inspect(first, &given.settings, store) {
            FileKind::Format(evidence) if evidence.kind == kind => evidence.settings,
            FileKind::Unclear(reason) if kind == "mmc4" && !given.settings.contains_key("pictures") => {
                bail!("{}: {reason}", first.address)
            }
            _ => SourceFields::new(),
        };
        settings.extend(given.settings.clone());
        let config = configure(kind, path, &settings)?;
        self.sources.push(FoundSource { name, kind, config, files, pairs: None });
        Ok(())
    }

    /// Each format among the files is a source.
    fn sort(&mut self, path: &str, given: &DetectOptions, files: Vec<Blob>, store: &Store) -> Result<()> {
        let folder = Path::new(path).is_dir();
        let name = name_of(path, &files);
        let (mut groups, loose) =
            self.grouped(files, folder, |file| inspect(file, &given.settings, store))?;
        let Paired { folder, read, texts, beside, left } = loose.pair(&groups, folder);
        self.read += read;
        self.beside.merge(beside);
        self.left.extend(left);
        if !texts.is_empty() {
            groups.push((Evidence::of("text"), texts));
        }
        self.read += groups.iter().map(|(_, files)| files.len() as u64).sum::<u64>();
        groups.extend(folder.map(|folder| (Evidence::of("folder"), vec![folder])));
        let several = groups.len() > 1;
        for (Evidence { kind, mut settings }, files) in groups {
            settings.extend(fields(kind, &given.settings));
            let name = if several { format!("{name}-{kind}") } else { name.clone() };
            let path = if kind == "folder" { files[0].address.as_str() } else { path };
            let config = configure(kind, path, &settings)?;
            let files = if kind == "folder" { Vec::new() } else { files };
            self.sources.push(FoundSource { name, kind, config, files, pairs: None });
        }
        self.check_settings(given)
    }

    /// The tables of img2dataset in a folder, which are left, and the other files.
    fn without_tables(&mut self, files: Vec<Blob>, folder: bool) -> (Tables, Vec<Blob>) {
        let tables = Tables::new(
            &files,
            |file| ends(&file.name, shard::Shard.endings()),
            |file| has_ending(&file.name, &PICTURES),
        );
        let (tables_of, others): (Vec<Blob>, Vec<Blob>) =
            files.into_iter().partition(|file| folder && tables.reason(file).is_some());
        for file in tables_of {
            let reason = tables.reason(&file).unwrap_or_default();
            self.left.push(UnusedFile::new(file, &reason));
        }
        (tables, others)
    }

    /// The files of each format, and those that are told by their endings only.
    fn grouped(
        &mut self,
        files: Vec<Blob>,
        folder: bool,
        inspect: impl Fn(&Blob) -> FileKind + Sync,
    ) -> Result<(Vec<FormatGroup>, LooseFiles)> {
        let (tables, files) = self.without_tables(files, folder);
        let kinds = at_once(&files, |file| Ok(inspect(file)));
        let mut groups: Vec<FormatGroup> = Vec::new();
        let mut loose = LooseFiles::default();
        for (file, kind) in files.into_iter().zip(kinds) {
            match kind? {
                FileKind::Format(Evidence { kind: "json-text", .. }) | FileKind::Unclear(_)
                    if folder && tables.is_record(&file) =>
                {
                    self.left.push(UnusedFile::new(file, "the record of a picture of its name"));
                }
                FileKind::Format(evidence) => {
                    match groups.iter_mut().find(|(e, _)| *e == evidence && e.kind != "folder") {
                        Some((_, group)) => group.push(file),
                        None => groups.push((evidence, vec![file])),
                    }
                }
                FileKind::Picture => loose.pictures.push(file),
                FileKind::PictureNotRead => loose.not_read.push(file),
                FileKind::Text => loose.texts.push(file),
                FileKind::ShardManifest(folder) => {
                    self.manifests.push(folder);
                    self.read += 1;
                }
                // A folder may hold JSON that is no data.
                FileKind::Unclear(_)
                    if folder && ends(&file.name, &[".json"]) && !value_evidence::is_data(&file) =>
                {
                    self.left.push(UnusedFile::new(file, "JSON without data"));
                }
                FileKind::Unclear(reason) => self.unclear.push((file.address, reason)),
                FileKind::Nothing => self.left.push(UnusedFile::new(file, "of no format that is read")),
            }
        }
        Ok((groups, loose))
    }

    /// Refuses a setting that no source has.
    fn check_settings(&self, given: &DetectOptions) -> Result<()> {
        let kinds: BTreeSet<&str> = self.sources.iter().map(|source| source.kind).collect();
        let known = |field: &String| kinds.iter().any(|kind| has_field(kind, field));
        match given.settings.keys().find(|field| !known(field)) {
            Some(field) if !kinds.is_empty() => {
                let kinds: Vec<&str> = kinds.into_iter().collect();
                bail!("--set {field}: no field of this name in sources of kind {}", kinds.join(", "))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a file is a list of captions in the folder `path` itself.
fn is_list_of(file: &Blob, path: &str) -> bool {
    let folder = Path::new(path);
    folder.is_dir() && Path::new(&file.address).parent() == Some(folder) && is_list_by_name(file)
}

/// The settings that a kind has.
fn fields(kind: &str, settings: &SourceFields) -> SourceFields {
    settings.iter().filter(|(field, _)| has_field(kind, field)).map(|(f, v)| (f.clone(), v.clone())).collect()
}

fn has_field(kind: &str, field: &str) -> bool {
    // A value of a type that no field has: where the field is known, the message is about the type.
    let mut object = SourceFields::from_iter([("kind".into(), kind.into()), ("path".into(), ".".into())]);
    object.insert(field.to_owned(), Value::Array(vec![Value::Null]));
    // Asked of serde itself, so that the list of fields is in one place, the config.
    let message = serde_json::from_value::<SourceConfig>(object.into()).err().map(|error| error.to_string());
    message.is_some_and(|message| !message.contains("unknown field"))
}

fn configure(kind: &str, path: &str, settings: &SourceFields) -> Result<SourceConfig> {
    let mut object = SourceFields::from_iter([("kind".into(), kind.into()), ("path".into(), path.into())]);
    object.extend(settings.clone());
    serde_json::from_value(object.into()).with_context(|| format!("{path}: as --kind {kind}"))
}

/// What the source is called: the folder's or the file's name, without its ending.
fn name_of(path: &str, files: &[Blob]) -> String {
    let whole = Path::new(path).canonicalize().unwrap_or_else(|_| PathBuf::from(path));
    let folder = whole.is_dir();
    let name = match files {
        [only] if !folder => only.name.clone(),
        _ if folder => whole.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        // A pattern: its folder.
        _ => Path::new(path)
            .parent()
            .and_then(Path::file_name)
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    };
    let stem = if folder { &name } else { name.split('.').next().unwrap_or_default() };
    let plain: String =
        stem.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    if plain.is_empty() { "data".to_owned() } else { plain }
}
