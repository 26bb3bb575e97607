//! What a file of weights, or a config beside it, is found to be before it is read: a regular file, and
//! not one of those that often stand in its place.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// First bytes that are looked at.
const START: u64 = 256;

/// Opens a regular file; a named pipe would wait for ever, a device give bytes without end.
///
/// # Errors
/// With the file's name: what is no regular file or can't be read; one that is known not to hold what is
/// looked for (a PyTorch checkpoint, a Git LFS pointer, an HTML page), with the remedy.
pub(crate) fn open(path: &Path) -> Result<File> {
    let shown = path.display();
    let metadata = path.metadata().with_context(|| format!("{shown}: can't be read"))?;
    ensure!(metadata.is_file(), "{shown}: not a regular file");
    let mut start = Vec::new();
    let file = File::open(path).with_context(|| format!("{shown}: can't be read"))?;
    file.take(START).read_to_end(&mut start).with_context(|| format!("{shown}: can't be read"))?;
    check_start(path, &start)?;
    File::open(path).with_context(|| format!("{shown}: can't be read"))
}

/// The bytes of a regular file of at most `limit` bytes, without a byte order mark.
///
/// # Errors
/// As [`open`]; a file of more bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (shown, mut bytes) = (path.display(), Vec::new());
    let file = open(path)?;
    let len = file.metadata().with_context(|| format!("{shown}: can't be read"))?.len();
    ensure!(len <= limit, "{shown}: a file of {len} bytes; the limit is {limit}");
    file.take(limit).read_to_end(&mut bytes).with_context(|| format!("{shown}: can't be read"))?;
    if bytes.starts_with(&[0xEF, 0xBB, 0xBF]) {
        bytes.drain(..3);
    }
    Ok(bytes)
}

fn check_start(path: &Path, start: &[u8]) -> Result<()> {
    let shown = path.display();
    let text = start.trim_ascii_start();
    let begins = |words: &str| {
        text.get(..words.len()).is_some_and(|first| first.eq_ignore_ascii_case(words.as_bytes()))
    };
    // `torch.save` writes a zip archive with a pickle; before PyTorch 1.6 it wrote the pickle itself. The
    // length of a safetensors header may have the same first bytes, but the header itself follows it.
    let pickle = start.first() == Some(&0x80) && start.get(1).is_some_and(|v| (2..=5).contains(v));
    let header = start.get(8) == Some(&b'{');
    if start.starts_with(b"PK\x03\x04") || (pickle && !header) {
        bail!(
            "{shown}: a PyTorch checkpoint (a pickle), which is not read, since it can run code: convert it \
             to safetensors, as {CONVERT}"
        )
    }
    if begins("version https://git-lfs.github.com/spec/") {
        bail!("{shown}: a Git LFS pointer, not the file itself: fetch it with `git lfs pull`")
    }
    if begins("<!doctype html") || begins("<html") {
        bail!(
            "{shown}: an HTML page, as servers send it in place of a file: download it again, signed in if \
             need be"
        )
    }
    Ok(())
}

/// How a checkpoint of PyTorch becomes safetensors.
pub(crate) const CONVERT: &str = "`python -c \"import torch, safetensors.torch as s; s.save_file({k: \
     v.contiguous() for k, v in torch.load('pytorch_model.bin', weights_only=True).items()}, \
     'model.safetensors')\"`";
