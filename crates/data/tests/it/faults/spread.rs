//! No first sample decides: evidence comes from a spread of samples, damage is counted wherever it stands,
//! and advice names the cause that was found.

use super::{case, read, told_apart};
use crate::commands::{opened, told};
use crate::source::written;

/// Why a path can't be opened.
fn refused(path: &str) -> String {
    format!("{:#}", opened(&[path], None, &[]).err().unwrap())
}

#[test]
fn fault_37_one_value_that_is_not_json_is_one_damaged_document() {
    let (texts, _) = read(&case("37-json-that-python-writes/nan-first.jsonl"), &[]);
    let (whole, reasons) = told_apart(&texts);
    assert_eq!((whole, reasons.len()), (100, 1));
    assert!(reasons[0].contains("nan-first.jsonl: the value at byte 0 is not JSON"), "{}", reasons[0]);
    assert!(reasons[0].contains("`NaN`"), "{}", reasons[0]);
    for (file, expected) in [("mixed", 4), ("late", 19)] {
        let (talks, _) = read(&case(&format!("37-json-that-python-writes/{file}.jsonl")), &[]);
        let (whole, reasons) = told_apart(&talks);
        assert!(whole >= expected && !reasons.is_empty(), "{file}: {whole} read, {reasons:?}");
    }
}

#[test]
fn fault_23_a_first_sample_without_a_caption_is_one_damaged_sample() {
    for file in ["first-bad", "first-only-json"] {
        let (texts, _) = read(&case(&format!("23-captions-missing-or-empty/{file}.tar")), &[]);
        let (whole, reasons) = told_apart(&texts);
        assert_eq!((whole, reasons.len()), (5, 1), "{file}: {reasons:?}");
        assert!(reasons[0].contains("no .txt among"), "{}", reasons[0]);
    }
}

#[test]
fn fault_18_members_that_are_apart_are_the_cause() {
    let line = refused(&case("18-members-not-adjacent/apart.tar"));
    assert!(line.contains("the members of sample \"0\" are not adjacent"), "{line}");
    assert!(line.contains("tar --sort=name"), "{line}");
}

#[test]
fn damage_anywhere_among_values_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    for bad in [0, 1, 50, 99] {
        let lines: Vec<String> = (0..100)
            .map(|i| if i == bad { "{\"text\": ".to_owned() } else { format!("{{\"text\": \"fine {i}\"}}") })
            .collect();
        let (texts, _) = read(&written(folder.path(), "x.jsonl", lines.join("\n")), &[]);
        assert_eq!(told_apart(&texts).0, 99, "{bad}");
    }
    // A value of another kind too.
    let lines = (0..20)
        .map(|i| if i == 0 { "{\"title\": 1}".to_owned() } else { format!("{{\"text\": \"t {i}\"}}") });
    let lines: Vec<String> = lines.collect();
    let (texts, _) = read(&written(folder.path(), "y.jsonl", lines.join("\n")), &[]);
    assert_eq!(told_apart(&texts).0, 19);
}

/// An archive of empty files but for pictures.
fn archive(names: &[&str]) -> Vec<u8> {
    let picture = std::fs::read(case("44-openai-parts/0.jpg")).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    for name in names {
        let content: &[u8] = if name.ends_with("jpg") { &picture } else { b"some words" };
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn archives_are_told_by_most_of_their_samples() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, names: &[&str]| written(folder.path(), name, archive(names));
    let found =
        told(&[&file("a.tar", &["0.jpg", "1.jpg", "1.caption", "2.jpg", "2.caption"])], None, &[]).unwrap();
    assert_eq!(serde_json::to_value(&found.sources[0].config).unwrap()["caption"], "caption");
    let line = refused(&file("b.tar", &["0.avif", "0.txt", "1.avif", "1.txt"]));
    assert!(line.contains(".avif, a format that is not read"), "{line}");
    let line = refused(&file("c.tar", &["0.jpg", "0.cls", "1.jpg", "1.cls"]));
    assert!(line.contains("(they have .cls, .jpg): add --set caption=MEMBER"), "{line}");
    // The same samples twice, as in archives that were joined, are no samples that are apart.
    let twice = read(&file("d.tar", &["0.jpg", "0.txt", "1.jpg", "1.txt", "0.jpg", "0.txt"]), &[]).0;
    assert_eq!(told_apart(&twice).0, 3);
}
