//! What a file is in truth, where it is not what its name says: the files that take the place of data most
//! often, with what to do about each.

/// The file of which these are the first bytes, in words with a remedy; `None` for what is not known here.
pub(crate) fn wrong_content(start: &[u8]) -> Option<&'static str> {
    let text = start.strip_prefix(&crate::text_file::MARK).unwrap_or(start).trim_ascii_start();
    let begins = |words: &str| {
        text.get(..words.len()).is_some_and(|first| first.eq_ignore_ascii_case(words.as_bytes()))
    };
    if let Some(told) = lfs_pointer(text) {
        return Some(told);
    }
    if begins("<!doctype html") || begins("<html") {
        return Some(
            "an HTML page, as servers send it in place of a file: download it again, signed in if need be",
        );
    }
    if begins("<Error>") || (begins("<?xml") && memchr::memmem::find(text, b"<Error>").is_some()) {
        return Some("an error message of a server in XML: download the file again");
    }
    let packed: [(&[u8], &str); 3] = [
        (
            b"\x1f\x8b",
            "packed by gzip, which its name does not say: let it end in .gz, as .tar.gz or .jsonl.gz",
        ),
        (b"\x28\xb5\x2f\xfd", "packed by zstd, which its name does not say: let it end in .zst, as .tar.zst"),
        (b"PK\x03\x04", "a ZIP archive, which is not read: unpack it"),
    ];
    packed.into_iter().find(|(first, _)| start.starts_with(first)).map(|(_, told)| told)
}

/// A pointer that Git LFS leaves in place of a file, by its first bytes, in words with a remedy.
pub(crate) fn lfs_pointer(start: &[u8]) -> Option<&'static str> {
    let pointer = start.starts_with(b"version https://git-lfs.github.com/spec/");
    pointer.then_some("a Git LFS pointer, not the file itself: fetch it with `git lfs pull`")
}

/// A picture of a format that is not read, by its first bytes.
pub(crate) fn picture_not_read(start: &[u8]) -> Option<&'static str> {
    let brand = start.get(4..8).filter(|kind| *kind == b"ftyp").and_then(|_| start.get(8..12));
    match brand {
        Some(b"avif" | b"avis") => return Some("AVIF"),
        Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1") => {
            return Some("HEIC");
        }
        _ => {}
    }
    let text = start.strip_prefix(&crate::text_file::MARK).unwrap_or(start).trim_ascii_start();
    let known: [(&[u8], &str); 7] = [
        (&[0xFF, 0x0A], "JPEG XL"),
        (b"\0\0\0\x0cJXL ", "JPEG XL"),
        (b"\0\0\0\x0cjP  ", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"8BPS", "Photoshop"),
        (b"%PDF", "PDF"),
        (b"<svg", "SVG"),
    ];
    let svg = text.starts_with(b"<?xml") && memchr::memmem::find(text, b"<svg").is_some();
    let found = known.into_iter().find(|(first, _)| start.starts_with(first) || text.starts_with(first));
    found.map(|(_, name)| name).or(svg.then_some("SVG"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_the_place_of_data_is_known_by_its_first_bytes() {
        for (start, word) in [
            ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git lfs pull"),
            ("\u{feff}\n<!DOCTYPE html><html>", "HTML page"),
            ("<HTML><head>", "HTML page"),
            ("<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code></Error>", "error message"),
            ("PK\u{3}\u{4}", "unpack it"),
        ] {
            assert!(wrong_content(start.as_bytes()).is_some_and(|told| told.contains(word)), "{start}");
        }
        for start in ["", "version 2", "{\"html\": 1}", "<svg>"] {
            assert_eq!(wrong_content(start.as_bytes()), None, "{start}");
        }
        let starts: [(&[u8], _); 5] = [
            (b"\0\0\0\x1cftypavif\0\0", Some("AVIF")),
            (b"\0\0\0\x18ftypheic", Some("HEIC")),
            (b"<?xml version=\"1.0\"?><svg", Some("SVG")),
            (b"\0\0\0\x18ftypmp42", None),
            (b"\xff\xd8\xff", None),
        ];
        for (start, name) in starts {
            assert_eq!(picture_not_read(start), name);
        }
    }
}
