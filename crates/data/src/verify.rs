//! [`verify`]: whether data is whole: shards against their manifests, every document read, every picture
//! decoded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::account::{Account, Accounts};
use crate::examine::{self, Damaged, Examination};
use crate::left_out::LeftOut;
use crate::shard::ShardManifest;
use crate::source::detect::{Detected, FoundSource, ShareOfShards, UnusedFile};
use crate::source::stored::StoredSource;
use crate::source::{BEHIND, BesidePictures, NOT_CLOSED};
use crate::store::Store;
use crate::task::{FilesRecord, SourceRecord};

/// What was looked at, and every problem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Manifests that were compared.
    pub manifests: u64,
    /// Files that were read.
    pub files: u64,
    /// Documents that are whole.
    pub documents: u64,
    /// Pictures in them.
    pub images: u64,
    /// What is in no document, or in another form, by reason.
    pub left_out: LeftOut,
    /// What is not whole, file by file.
    pub problems: Vec<Damaged>,
    /// What became of all files and documents.
    pub account: Accounts,
}

/// What a task has verified.
#[derive(Serialize, Deserialize)]
pub struct VerifiedShare {
    /// All but the account of the files.
    verified: Verified,
    /// The documents of each source.
    sources: Vec<SourceRecord>,
    /// Files that can't be opened.
    unopened: LeftOut,
    files: FilesRecord,
}

impl VerifiedShare {
    /// Files of no source.
    ///
    /// # Errors
    /// No task.
    pub fn files_left(tasks: &[Self]) -> Result<Vec<UnusedFile>> {
        Ok(FilesRecord::join(tasks.iter().map(|task| &task.files))?.1)
    }
}

/// Reads everything that was detected; `progress` is called with the documents that are done.
///
/// # Errors
/// None of the files' own: they are problems.
pub fn verify(
    detected: &Detected,
    store: &Store,
    how: Examination,
    progress: &mut dyn FnMut(u64),
) -> Result<Verified> {
    join(&[verify_share(detected, store, how, progress)?])
}

/// What all tasks have verified, in order.
///
/// # Errors
/// No task.
pub fn join(tasks: &[VerifiedShare]) -> Result<Verified> {
    let (mut all, mut unopened) = (Verified::default(), LeftOut::default());
    let mut before = BTreeMap::<&str, u64>::new();
    for task in tasks {
        let Verified { manifests, files, documents, images, left_out, problems, account } = &task.verified;
        all.manifests += manifests;
        all.files += files;
        all.documents += documents;
        all.images += images;
        all.left_out.merge(left_out);
        let placed = |problem: &Damaged| {
            let first = before.get(problem.source.as_str()).copied().unwrap_or_default();
            Damaged { index: problem.index.map(|index| first + index), ..problem.clone() }
        };
        all.problems.extend(problems.iter().map(placed));
        all.account.documents.merge(&account.documents);
        unopened.merge(&task.unopened);
        for source in &task.sources {
            *before.entry(&source.name).or_default() += source.documents;
        }
    }
    let (mut files, _) = FilesRecord::join(tasks.iter().map(|task| &task.files))?;
    files.read -= unopened.total();
    files.skipped.merge(&unopened);
    all.account.files = files;
    Ok(all)
}

/// The same as [`verify`] for a task, whose share `detected` is.
///
/// # Errors
/// None of the files' own: they are problems.
pub fn verify_share(
    detected: &Detected,
    store: &Store,
    how: Examination,
    progress: &mut dyn FnMut(u64),
) -> Result<VerifiedShare> {
    let (mut all, mut beside, mut unopened) =
        (Verified::default(), detected.beside.clone(), LeftOut::default());
    let mut sources = Vec::new();
    let unclear = detected.unclear.iter().filter(|_| detected.share.as_ref().is_none_or(|share| share.first));
    for (file, reason) in unclear {
        all.problem("", file.clone(), reason.clone());
    }
    all.compare(detected);
    let mut done = 0;
    let mut step = |_| {
        done += 1;
        progress(done);
    };
    for source in &detected.sources {
        all.files += source.file_count();
        // A share may have no document: other tasks have.
        let opened = match detected.share {
            Some(_) => StoredSource::open_share(source, store),
            None => StoredSource::open(source, store),
        };
        match opened {
            Ok(stored) => {
                sources.push(SourceRecord::of(&stored));
                all.read(&stored, how, &mut beside, &mut step)?;
            }
            // A file is damaged as a whole: the others are read all the same.
            Err(_) => {
                for (file, found) in source.apart() {
                    match StoredSource::open(&found, store) {
                        Ok(stored) => all.read(&stored, how, &mut beside, &mut step)?,
                        Err(error) => {
                            let reason = examine::reason(&error, &found.name, &file);
                            all.problem(&found.name, file, reason);
                            unopened.add("a file that can't be opened as a whole", 1);
                        }
                    }
                }
            }
        }
    }
    Ok(VerifiedShare { verified: all, sources, unopened, files: FilesRecord::of(detected, &beside) })
}

impl Verified {
    fn problem(&mut self, source: &str, file: String, reason: String) {
        self.problems.push(Damaged { source: source.to_owned(), file, index: None, reason });
    }

    fn read(
        &mut self,
        stored: &StoredSource,
        how: Examination,
        beside: &mut BesidePictures,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let (names, mut documents) =
            (beside.names(), Account { there: stored.documents(), ..Account::default() });
        for (file, left) in stored.left_out()? {
            // What a cut or a bad copy leaves; members of no sample are usual.
            for (reason, count) in left.iter().filter(|(reason, _)| [NOT_CLOSED, BEHIND].contains(reason)) {
                let counted = if count == 1 { reason.to_owned() } else { format!("{count} times {reason}") };
                self.problem(stored.name(), file.clone(), counted);
            }
            self.left_out.merge(&left);
        }
        examine::each(
            stored,
            how,
            |examined| (names(&examined.document), examined.pictures.len() as u64, examined.left_out),
            |index, result| {
                match result {
                    Ok((names, images, left_out)) => {
                        beside.read(&names);
                        documents.read += 1;
                        (self.documents, self.images) = (self.documents + 1, self.images + images);
                        self.left_out.merge(&left_out);
                    }
                    Err(problem) => {
                        documents.skipped.add(problem.cause(), 1);
                        self.problems.push(problem);
                    }
                }
                progress(index + 1);
                Ok(())
            },
        )?;
        self.account.documents.merge(&documents);
        Ok(())
    }

    /// Compares shards with the manifests beside them. Of a folder, all shards of its manifests are to be
    /// there, and all that are there are to be listed.
    fn compare(&mut self, detected: &Detected) {
        let shards = detected.sources.iter().filter(|source| source.kind == "shards");
        let mut named: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
        for path in shards.flat_map(FoundSource::paths) {
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            named.entry(folder).or_default().insert(crate::store::file_name(&path.to_string_lossy()));
        }
        let folders: BTreeSet<&PathBuf> = named.keys().chain(&detected.manifests).collect();
        let all = ShareOfShards { first: true, elsewhere: BTreeSet::new() };
        let ShareOfShards { first, elsewhere } = detected.share.as_ref().unwrap_or(&all);
        for folder in folders {
            if !folder.join(crate::shard::MANIFEST).exists() {
                continue;
            }
            let manifest = match ShardManifest::read(folder) {
                Ok(manifest) => manifest,
                Err(_) if !first => continue,
                Err(error) => {
                    let file = folder.join(crate::shard::MANIFEST).display().to_string();
                    let reason = examine::reason(&error, "", &file);
                    self.problem("", file, reason);
                    continue;
                }
            };
            self.manifests += u64::from(*first);
            // Where single shards were named, only these are compared.
            let whole = detected.manifests.contains(folder);
            let there = named.get(folder).cloned().unwrap_or_default();
            // A shard that no task has is missing: the first one says so.
            let mine = |file: &String| {
                there.contains(file) || (whole && *first && !elsewhere.contains(&folder.join(file)))
            };
            for shard in manifest.shards.iter().filter(|shard| mine(&shard.file)) {
                if let Err(error) = shard.verify(folder) {
                    let file = folder.join(&shard.file).display().to_string();
                    let reason = examine::reason(&error, "", &file);
                    self.problem("", file, reason);
                }
            }
            let listed: BTreeSet<&String> = manifest.shards.iter().map(|shard| &shard.file).collect();
            for file in there.iter().filter(|file| !listed.contains(file)) {
                let file = folder.join(file).display().to_string();
                self.problem("", file, "not in the manifest of its folder".to_owned());
            }
        }
    }
}
