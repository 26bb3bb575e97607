//! What the texts of a column are by their values: some are never captions, whatever the column is called.

use serde_json::Value;

use super::webdataset::{PICTURES, PICTURES_NOT_READ};

/// Values from which on a share means something.
const ENOUGH: usize = 4;
/// Words of a text that is prose without a name that says so.
const PROSE: usize = 3;
/// Bytes of a text by which its kind is recognised; a value may be a whole book.
const BEGINNING: usize = 4096;

/// Whether a text is of a kind that no caption is, and what the kind is called.
type TextKind = (fn(&str) -> bool, &'static str);

/// Why texts like these are never captions: most are identifiers, names of files, addresses, JSON, or labels;
/// `None` where they may be.
pub(super) fn not_captions(values: &[&str]) -> Option<&'static str> {
    let values: Vec<&str> =
        values.iter().map(|value| value.trim()).filter(|value| !value.is_empty()).collect();
    let most = |is: fn(&str) -> bool| 2 * values.iter().filter(|value| is(value)).count() > values.len();
    let kinds: [TextKind; 4] = [
        (is_json, "JSON"),
        (is_address, "addresses"),
        (is_picture_name, "names of files"),
        (is_identifier, "identifiers"),
    ];
    if values.is_empty() {
        return Some("empty");
    }
    if let Some((_, name)) = kinds.into_iter().find(|(is, _)| most(*is)) {
        return Some(name);
    }
    // A mixture of them is no better.
    if most(|value| is_json(value) || is_address(value) || is_picture_name(value) || is_identifier(value)) {
        return Some("identifiers and names of files");
    }
    let few = values.len() >= ENOUGH && 3 * different(&values) < values.len();
    (few && most(|value| value.split_whitespace().take(2).count() == 1))
        .then_some("labels, one word out of few")
}

/// Whether the values themselves say that they are captions: sentences that differ.
pub(super) fn are_prose(values: &[&str]) -> bool {
    let is_long = |value: &&&str| value.split_whitespace().take(PROSE).count() == PROSE || is_dense(value);
    let long = values.iter().filter(is_long).count();
    not_captions(values).is_none() && 2 * long > values.len() && 3 * different(values) >= values.len().min(64)
}

fn different(values: &[&str]) -> usize {
    values.iter().collect::<std::collections::BTreeSet<_>>().len()
}

/// Text of a script that is written without spaces.
fn is_dense(value: &str) -> bool {
    let letters = beginning(value).chars().filter(|&c| c >= '\u{2e80}');
    letters.take(2 * PROSE).count() == 2 * PROSE
}

/// The first characters of a text.
fn beginning(value: &str) -> &str {
    &value[..value.floor_char_boundary(BEGINNING)]
}

/// An object or a list as JSON.
pub(super) fn is_json(value: &str) -> bool {
    value.starts_with(['{', '['])
        && serde_json::from_str::<Value>(value).is_ok_and(|value| value.is_object() || value.is_array())
}

fn is_address(value: &str) -> bool {
    let value = beginning(value);
    let one = !value.contains(char::is_whitespace);
    one && (value.contains("://") || value.starts_with("www.") || value.starts_with("data:"))
}

/// A name that ends as those of pictures do.
pub(super) fn is_picture_name(value: &str) -> bool {
    let value = if value.len() > BEGINNING { "" } else { value };
    let name = value.rsplit_once('.').filter(|(stem, _)| !stem.is_empty() && !value.contains('\n'));
    name.is_some_and(|(_, ending)| {
        let ending = ending.to_lowercase();
        PICTURES.contains(&ending.as_str()) || PICTURES_NOT_READ.contains(&ending.as_str())
    })
}

/// Numbers, dates, hashes and UUIDs.
fn is_identifier(value: &str) -> bool {
    let value = beginning(value);
    let hash = value.len() >= 8
        && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        && value.bytes().any(|byte| byte.is_ascii_digit());
    hash || (!value.contains(char::is_alphabetic) && value.contains(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_a_caption_is_known_by_its_values() {
        for (values, told) in [
            (&["00000", "00001"][..], Some("identifiers")),
            (&["2024-01-02 10:00", "2024-01-03 11:30"], Some("identifiers")),
            (&["d41d8cd98f00b204", "9e107d9d372bb682"], Some("identifiers")),
            (&["a/0.jpg", "IMG 2.AVIF"], Some("names of files")),
            (&["https://a.org/x", "http://b.org"], Some("addresses")),
            (&["[1]", "{\"a\": 2}"], Some("JSON")),
            (&["cat", "dog", "cat", "dog", "cat", "cat", "dog"], Some("labels, one word out of few")),
            (&["", " "], Some("empty")),
            (&["7", "x.png"], Some("identifiers and names of files")),
            (&["a", "b", "c"], None),
            (&["[a] red ball", "facade", "A dog.", "deadline"], None),
            (&["2 dogs", "3 cats"], None),
        ] {
            assert_eq!(not_captions(values), told, "{values:?}");
        }
        // A value of any length is recognised by its beginning, which ends with a whole character.
        let [picture, number, book, name] = [
            format!("data:image/png;base64,{}", "QUJD".repeat(1 << 18)),
            "7".repeat(1 << 20),
            "Ein ö\u{301} steht hier. ".repeat(1 << 16),
            format!("{}.jpg", "a".repeat(1 << 20)),
        ];
        assert_eq!(not_captions(&[&picture]), Some("addresses"));
        assert_eq!(not_captions(&[&number]), Some("identifiers"));
        assert_eq!((not_captions(&[&book]), are_prose(&[&book])), (None, true));
        assert_eq!(not_captions(&[&name]), None);
        assert!(are_prose(&["A red ball lies there.", "Two dogs run about."]));
        assert!(are_prose(&["红色的球在桌子上", "两只狗在公园里"]));
        assert!(!are_prose(&["Jane Doe", "John Doe"]));
        assert!(!are_prose(&["Some rights are reserved"; 12]));
    }
}
