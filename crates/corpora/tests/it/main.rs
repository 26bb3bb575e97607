//! Packages made here, through the same code as real ones.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail")]

mod archive;
mod fetch;
mod render;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A file of a package: name and content.
type File<'a> = (&'a str, Vec<u8>);

/// A tar of files, and of what `more` adds.
fn tar(files: &[File], more: impl Fn(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Written by hand: the library refuses names that leave an archive.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, bytes.as_slice()).unwrap();
    }
    more(&mut archive);
    archive.into_inner().unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut out = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zip(files: &[File]) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        out.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        out.write_all(bytes).unwrap();
    }
    out.finish().unwrap().into_inner()
}

/// A .deb whose data has this name and these bytes.
fn deb(data: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = ar::Builder::new(Vec::new());
    for (name, bytes) in [("debian-binary", b"2.0\n".as_slice()), ("control.tar.xz", b"x"), (data, bytes)] {
        out.append(&ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64), bytes).unwrap();
    }
    out.into_inner().unwrap()
}

fn written(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// A PNG of one colour.
fn png(side: u32, colour: [u8; 3]) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_pixel(side, side, image::Rgb(colour));
    picture.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}
