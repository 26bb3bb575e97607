//! [`verify`]: whether data is whole: shards against their manifests, every document read, every picture
//! decoded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use crate::account::{Account, Accounts};
use crate::examine::{self, Damaged, Examination};
use crate::left_out::LeftOut;
use crate::shard::ShardManifest;
use crate::source::detect::{Detected, FoundSource};
use crate::source::stored::StoredSource;
use crate::source::{BEHIND, BesidePictures, NOT_CLOSED};
use crate::store::Store;

/// What was looked at, and every problem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    let (mut all, mut beside, mut unopened) =
        (Verified::default(), detected.beside.clone(), LeftOut::default());
    for (file, reason) in &detected.unclear {
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
        match StoredSource::open(source, store) {
            Ok(stored) => all.read(&stored, how, &mut beside, &mut step)?,
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
    let mut files = detected.files(&beside);
    files.read -= unopened.total();
    files.skipped.merge(&unopened);
    all.account.files = files;
    Ok(all)
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
        for folder in folders {
            if !folder.join(crate::shard::MANIFEST).exists() {
                continue;
            }
            let manifest = match ShardManifest::read(folder) {
                Ok(manifest) => manifest,
                Err(error) => {
                    let file = folder.join(crate::shard::MANIFEST).display().to_string();
                    let reason = examine::reason(&error, "", &file);
                    self.problem("", file, reason);
                    continue;
                }
            };
            self.manifests += 1;
            // Where single shards were named, only these are compared.
            let whole = detected.manifests.contains(folder);
            let there = named.get(folder).cloned().unwrap_or_default();
            for shard in manifest.shards.iter().filter(|shard| whole || there.contains(&shard.file)) {
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
