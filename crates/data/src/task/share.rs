//! A task's share of what was detected.

use std::collections::BTreeSet;

use anyhow::Result;
use xxhash_rust::xxh3::Xxh3Default;

use super::Task;
use crate::source::detect::{Detected, ShareOfShards};

impl Detected {
    /// Leaves the sources with the files that are the task's: a run of all files in their order, of a folder
    /// of captioned pictures of its pictures. It follows from names and the number of tasks alone. Gives the
    /// input in a few words, which are the same for all tasks of it.
    ///
    /// # Errors
    /// A folder of pictures that can't be used.
    pub fn share(&mut self, task: Task) -> Result<String> {
        let (mut units, mut input) = (Vec::new(), Xxh3Default::new());
        for source in &self.sources {
            input.update(format!("{}\0{}\0", source.name, source.kind).as_bytes());
            let names = source.units()?;
            for (name, size) in &names {
                input.update(name.as_bytes());
                input.update(&size.to_le_bytes());
            }
            units.push(names.len() as u64);
        }
        let all: u64 = units.iter().sum();
        let share = task.range(all);
        let paths = |detected: &Self| -> BTreeSet<_> {
            let shards = detected.sources.iter().filter(|source| source.kind == "shards");
            shards.flat_map(|source| source.paths().map(ToOwned::to_owned).collect::<Vec<_>>()).collect()
        };
        let (everywhere, mut before) = (paths(self), 0);
        for (source, units) in self.sources.iter_mut().zip(units) {
            let within = |number: u64| (number.clamp(before, before + units) - before) as usize;
            source.keep(within(share.start)..within(share.end));
            before += units;
        }
        self.sources.retain(|source| !source.is_empty());
        let elsewhere = everywhere.difference(&paths(self)).cloned().collect();
        self.share = Some(ShareOfShards { first: task.index == 0, elsewhere });
        Ok(format!("{all} files with the hash {:016x}", input.digest()))
    }
}
