//! [`LooseFiles`]: pictures and texts that are no source by themselves: captioned pictures are found among
//! them, and what is left out is reported with a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::beside::BesidePictures;
use super::caption_list::listed;
use super::captioned_file::{CaptionFiles, names, stem};
use super::evidence::{Evidence, folder_of};
use crate::store::{Blob, file_name};

/// A file that belongs to no source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusedFile {
    /// Its path or address.
    pub file: String,
    /// Why nothing reads it: a few words, the same for all files of the cause.
    pub reason: String,
}

impl UnusedFile {
    pub(super) fn new(file: Blob, reason: &str) -> Self {
        Self { file: file.address, reason: reason.to_owned() }
    }
}

/// Files that are told by their endings only.
#[derive(Default)]
pub(super) struct LooseFiles {
    pub(super) pictures: Vec<Blob>,
    /// Pictures of formats that are not read.
    pub(super) not_read: Vec<Blob>,
    pub(super) texts: Vec<Blob>,
}

/// What they are: each of them is in one of these.
#[derive(Default)]
pub(super) struct Paired {
    /// The smallest folder that has all pictures with a text of their name.
    pub(super) folder: Option<Blob>,
    /// How many files of the folder or of a list of captions are read: pictures, and texts beside them.
    pub(super) read: u64,
    /// Texts that are no captions.
    pub(super) texts: Vec<Blob>,
    /// Pictures that pages and other documents may name.
    pub(super) beside: BesidePictures,
    /// The others.
    pub(super) left: Vec<UnusedFile>,
}

/// Names of files about the others.
const ABOUT: [&str; 5] = ["readme", "license", "licence", "citation", "notice"];

impl LooseFiles {
    /// Sorts them, beside the `sources` that were found. In a `folder` a file about the others is no text.
    pub(super) fn pair(self, sources: &[(Evidence, Vec<Blob>)], folder: bool) -> Paired {
        let owners = Owners::new(sources);
        let of = |files: &[Blob]| {
            files.iter().flat_map(|file| names(Path::new(&file.address))).collect::<BTreeSet<_>>()
        };
        let (read, not_read) = (of(&self.pictures), of(&self.not_read));
        let captions = CaptionFiles::of(&self.texts);
        let left = |file: Blob| {
            UnusedFile::new(file, "a picture of a format that is not read: write JPEG, PNG or WebP")
        };
        let mut out = Paired { left: self.not_read.into_iter().map(left).collect(), ..Paired::default() };
        let paired = out.pictures(self.pictures, &captions, &owners);
        out.folder = root(&paired);
        let texts = paired.iter().filter_map(|file| captions.beside(file));
        let texts: BTreeSet<String> = texts.map(|text| text.address.clone()).collect();
        let stems = of(&paired);
        drop(captions);
        let others = sources.len() + paired.len() > 0;
        let about = folder && (others || self.texts.iter().all(is_about));
        for file in self.texts {
            let stem = is_caption(&file).then(|| stem_of(&file));
            let is_in = |stems: &BTreeSet<PathBuf>| stem.as_ref().is_some_and(|stem| stems.contains(stem));
            let below = out.folder.as_ref().is_some_and(|root| is_below(&file, &root.address));
            let reason = match () {
                () if texts.contains(&file.address) => {
                    out.read += 1;
                    continue;
                }
                () if is_in(&stems) => "a second caption of a picture",
                () if is_in(&not_read) && !is_in(&read) => "a caption whose picture is not read",
                () if about && is_about(&file) => "a text about the data",
                () if is_in(&read) && owners.list_of(&file).is_some() => {
                    "a caption beside a list of captions"
                }
                () if below => "a text without a picture of its name",
                () => {
                    out.texts.push(file);
                    continue;
                }
            };
            out.left.push(UnusedFile::new(file, reason));
        }
        out
    }
}

impl Paired {
    /// The pictures with a text of their name; of the others those that nothing names are left.
    fn pictures(&mut self, pictures: Vec<Blob>, captions: &CaptionFiles, owners: &Owners) -> Vec<Blob> {
        let mut paired = Vec::new();
        for file in pictures {
            let reason = match owners.list_of(&file) {
                Some(list) if list.names(&file) => {
                    self.read += 1;
                    continue;
                }
                None if captions.beside(&file).is_some() => {
                    self.read += 1;
                    paired.push(file);
                    continue;
                }
                _ if owners.may_own(&file) => {
                    self.beside.add(&file);
                    continue;
                }
                Some(list) => format!("a picture that {} does not name", list.name),
                None => "a picture without a caption, that no document names".to_owned(),
            };
            self.left.push(UnusedFile::new(file, &reason));
        }
        paired
    }
}

/// What the sources say of pictures.
struct Owners {
    /// Whether there are pages, which may name any picture.
    pages: bool,
    /// Folders in which documents name pictures.
    albums: Vec<PathBuf>,
    lists: Vec<ListOwner>,
}

/// A list of captions.
struct ListOwner {
    name: String,
    folder: PathBuf,
    paths: BTreeSet<PathBuf>,
}

impl Owners {
    fn new(sources: &[(Evidence, Vec<Blob>)]) -> Self {
        let mut owners = Self { pages: false, albums: Vec::new(), lists: Vec::new() };
        for (Evidence { kind, settings }, files) in sources {
            owners.pages |= *kind == "html";
            owners.albums.extend(settings.get("pictures").and_then(Value::as_str).map(PathBuf::from));
            if *kind == "folder" {
                owners.lists.extend(files.iter().map(ListOwner::new));
            }
        }
        owners
    }

    fn may_own(&self, file: &Blob) -> bool {
        self.pages || self.albums.iter().any(|folder| Path::new(&file.address).starts_with(folder))
    }

    /// The list that names the file, or else one in a folder above it.
    fn list_of(&self, file: &Blob) -> Option<&ListOwner> {
        let above = |list: &&ListOwner| Path::new(&file.address).starts_with(&list.folder);
        self.lists.iter().find(|list| list.names(file)).or_else(|| self.lists.iter().find(above))
    }
}

impl ListOwner {
    fn new(file: &Blob) -> Self {
        let path = Path::new(&file.address);
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        // A list that can't be read is reported when it is opened.
        let paths = listed(path).unwrap_or_default().into_iter().map(|path| folder.join(path)).collect();
        Self { name: file_name(&file.address), folder, paths }
    }

    fn names(&self, file: &Blob) -> bool {
        self.paths.contains(Path::new(&file.address))
    }
}

/// Tables and statistics that img2dataset writes beside its shards and folders, and the record of each of its
/// pictures: the pictures have their captions elsewhere.
pub(super) struct Tables {
    /// Archives, by their paths without endings.
    archives: BTreeMap<PathBuf, String>,
    /// Folders of pictures, and the pictures' paths without endings.
    folders: BTreeSet<PathBuf>,
    pictures: BTreeSet<PathBuf>,
}

impl Tables {
    pub(super) fn new(
        files: &[Blob],
        is_archive: impl Fn(&Blob) -> bool,
        is_picture: impl Fn(&Blob) -> bool,
    ) -> Self {
        let archives = files.iter().filter(|file| is_archive(file));
        let archives = archives.map(|file| (first_stem(&file.address), file_name(&file.address))).collect();
        let pictures: Vec<&Blob> = files.iter().filter(|file| is_picture(file)).collect();
        let lower = |folder: &Path| PathBuf::from(folder.to_string_lossy().to_lowercase());
        let folders = pictures.iter().map(|file| lower(folder_of(Path::new(&file.address)))).collect();
        Self { archives, folders, pictures: pictures.into_iter().map(stem_of).collect() }
    }

    /// Why a file is such a table.
    pub(super) fn reason(&self, file: &Blob) -> Option<String> {
        let name = file.address.to_lowercase();
        let stats = name.strip_suffix("_stats.json");
        let stem = stats.map_or_else(|| first_stem(&file.address), PathBuf::from);
        let what = match stats {
            Some(_) => "statistics",
            None if name.ends_with(".parquet") || name.ends_with(".csv") => "the table",
            None => return None,
        };
        if let Some(archive) = self.archives.get(&stem) {
            return Some(format!("{what} of {archive}"));
        }
        self.folders.contains(&stem).then(|| format!("{what} of a folder of its name"))
    }

    /// Whether a JSON file has the name of a picture.
    pub(super) fn is_record(&self, file: &Blob) -> bool {
        file.address.to_lowercase().ends_with(".json") && self.pictures.contains(&stem_of(file))
    }
}

fn stem_of(file: &Blob) -> PathBuf {
    stem(Path::new(&file.address))
}

/// A path up to the first dot of its name, in lower case.
fn first_stem(address: &str) -> PathBuf {
    let name = file_name(address);
    let stem = name.split('.').next().unwrap_or_default();
    PathBuf::from(Path::new(address).with_file_name(stem).to_string_lossy().to_lowercase())
}

fn is_caption(file: &Blob) -> bool {
    file.address.to_lowercase().ends_with(".txt")
}

fn is_about(file: &Blob) -> bool {
    let name = file_name(&file.address).to_lowercase();
    ABOUT.contains(&name.split(['.', '-', '_']).next().unwrap_or_default())
}

fn is_below(file: &Blob, folder: &str) -> bool {
    folder == "." || Path::new(&file.address).starts_with(folder)
}

/// The smallest folder that has all of them.
fn root(files: &[Blob]) -> Option<Blob> {
    let first = files.first()?;
    let mut root = Path::new(&first.address).parent()?;
    while files.iter().any(|file| !Path::new(&file.address).starts_with(root)) {
        root = root.parent()?;
    }
    let mut place = first.clone();
    place.address = if root.as_os_str().is_empty() { ".".into() } else { root.to_string_lossy().into() };
    Some(place)
}
