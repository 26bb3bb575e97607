//! Packages by name, exact version and SHA-256, fetched by the machine's own clients into the cache.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use mm1_data::store::cache_dir;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Who gets a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Client {
    /// `npm pack`.
    Npm,
    /// `pip download`.
    Pip,
    /// `apt-get download`: the version is the one that this Debian or Ubuntu offers.
    Apt,
}

/// A version whose bytes are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// As the client writes it.
    pub version: &'static str,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: &'static str,
}

/// A package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// Who gets it.
    pub client: Client,
    /// Its name there.
    pub name: &'static str,
    /// The versions whose bytes are known. Of npm and PyPI the first is requested.
    pub known: &'static [Version],
}

/// A package on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackageFile {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    /// Of the file as it lies there, in hexadecimal.
    pub(crate) sha256: String,
}

/// Where the clients are looked for, and where packages are cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// As the variable `PATH`.
    pub path: OsString,
    /// The folder of packages.
    pub cached: PathBuf,
}

impl Clients {
    /// This machine's clients, and the folder `packages` of the cache.
    pub fn of_machine() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self { path, cached: cache_dir().join("packages") }
    }
}

impl Package {
    /// The package's file: from the cache, or else from its client. With `unpinned` a version whose bytes are
    /// not known is taken too, on the word of apt, which checks its signature.
    ///
    /// # Errors
    /// One line that says what to do: a client that is missing or fails, bytes that are not the known ones.
    pub(crate) fn get(&self, clients: &Clients, unpinned: bool) -> Result<PackageFile> {
        let folder = &clients.cached;
        fs::create_dir_all(folder)
            .with_context(|| format!("{}: the cache can't be written; set MM1_CACHE", folder.display()))?;
        if let Some(cached) = self.cached(folder, unpinned)? {
            return Ok(cached);
        }
        // Of this name, so that what a killed fetch left is removed.
        // Inside the cache, so that the rename at the end stays on one file system.
        let part = folder.join(format!("part-{}", self.name.replace(['@', '/'], "-")));
        if part.exists() {
            fs::remove_dir_all(&part).with_context(|| part.display().to_string())?;
        }
        fs::create_dir(&part).with_context(|| part.display().to_string())?;
        self.ask(&part, &clients.path)?;
        let found = self.files(&part)?;
        let path =
            found.first().with_context(|| format!("{} wrote no package {}", self.tool(), self.name))?;
        let got = self.check(path, unpinned)?;
        // Renamed last: a file in the cache is whole, and of the known bytes.
        let cached = folder.join(path.file_name().unwrap_or_default());
        fs::rename(path, &cached).with_context(|| cached.display().to_string())?;
        fs::remove_dir_all(&part).with_context(|| part.display().to_string())?;
        Ok(PackageFile { path: cached, ..got })
    }

    /// The file in the cache, if it is whole. Its bytes are compared each time.
    fn cached(&self, folder: &Path, unpinned: bool) -> Result<Option<PackageFile>> {
        let files = self.files(folder)?;
        Ok(files.iter().rev().find_map(|path| self.check(path, unpinned).ok()))
    }

    /// Files of this package, sorted by name. Of npm and PyPI only those of the requested version.
    fn files(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let named = |path: &PathBuf| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            self.version_of(&file).is_some_and(|v| self.client == Client::Apt || v == self.known[0].version)
        };
        let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        files.retain(named);
        files.sort();
        Ok(files)
    }

    /// The version that a file name of this package says.
    fn version_of(&self, file: &str) -> Option<String> {
        match self.client {
            Client::Npm => {
                let stem = self.name.trim_start_matches('@').replace('/', "-");
                Some(file.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(".tgz")?.to_owned())
            }
            Client::Pip => {
                let rest = file.strip_suffix(".whl")?.strip_prefix(&self.name.replace('-', "_"))?;
                Some(rest.strip_prefix('-')?.split('-').next()?.to_owned())
            }
            Client::Apt => {
                let rest = file.strip_suffix(".deb")?.strip_prefix(self.name)?.strip_prefix('_')?;
                Some(rest.rsplit_once('_')?.0.replace("%3a", ":"))
            }
        }
    }

    fn check(&self, path: &Path, unpinned: bool) -> Result<PackageFile> {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let version = self.version_of(&file).with_context(|| format!("{file}: an unknown name"))?;
        let sha256 = digest(path)?;
        let name = self.name;
        match self.known.iter().find(|known| known.version == version) {
            Some(known) => ensure!(
                known.sha256 == sha256,
                "{name} {version} has SHA-256 {sha256}, not {}: these are not the bytes that mm1 knows",
                known.sha256
            ),
            None => ensure!(
                unpinned,
                "{name} {version}: mm1 has no checksum of this version (it knows {}); apt has checked its \
                 signature, so take it with --unpinned",
                self.known.iter().map(|known| known.version).collect::<Vec<_>>().join(", ")
            ),
        }
        Ok(PackageFile { path: path.to_owned(), version, sha256 })
    }

    fn ask(&self, folder: &Path, path: &OsStr) -> Result<()> {
        let version = self.known[0].version;
        let (at, equal) = (format!("{}@{version}", self.name), format!("{}=={version}", self.name));
        match self.client {
            Client::Npm => self.call(&["npm"], &["pack", "--silent", "--ignore-scripts", &at], folder, path),
            Client::Pip => {
                let words = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", &equal];
                self.call(&["pip", "pip3"], &words, folder, path)
            }
            Client::Apt => self.call(&["apt-get"], &["download", "--quiet", self.name], folder, path),
        }
    }

    /// Runs the first of `tools` that is on `path`, in `folder`.
    fn call(&self, tools: &[&str], words: &[&str], folder: &Path, path: &OsStr) -> Result<()> {
        for tool in tools {
            let output = match Command::new(tool).args(words).current_dir(folder).env("PATH", path).output() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other.with_context(|| format!("starting {tool}"))?,
            };
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
            ensure!(
                output.status.success(),
                "`{tool} {}` failed: {}{}",
                words.join(" "),
                last.trim(),
                self.remedy()
            );
            return Ok(());
        }
        bail!("{} is not on PATH: install it, or choose other corpora with --only", tools[0])
    }

    fn tool(&self) -> &'static str {
        match self.client {
            Client::Npm => "npm",
            Client::Pip => "pip",
            Client::Apt => "apt-get",
        }
    }

    fn remedy(&self) -> &'static str {
        match self.client {
            Client::Apt => "; run `apt-get update` as root, or see whether this distribution has the package",
            _ => "; the same command again goes on from here",
        }
    }
}

fn digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
