//! HTML pages as sites write them: sets of pictures, pictures that scripts load, and damage.

use std::fs;
use std::path::Path;

use super::read;
use crate::source::{sample, written};
use crate::testdata;

/// What is read of a page with three pictures beside it, and what is left out.
fn page(html: &str) -> (String, Vec<(String, u64)>) {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [("0.jpg", "0.jpg"), ("deeper/1.png", "1.png"), ("2.jpg", "2.jpg")] {
        fs::copy(Path::new(&sample("pictures")).join(from), folder.path().join(to)).unwrap();
    }
    let whole = fs::read(testdata("image/rgb.jpg")).unwrap();
    fs::write(folder.path().join("cut.jpg"), &whole[..whole.len() - 100]).unwrap();
    let mut png = fs::read(folder.path().join("1.png")).unwrap();
    let middle = png.len() / 2;
    png[middle] ^= 0xFF;
    fs::write(folder.path().join("flipped.png"), png).unwrap();
    let path = written(folder.path(), "page.html", html);
    let (results, left) = read(&path, &["missing=leave-out"]);
    let counts = left.iter().map(|(reason, count)| (reason.to_owned(), count)).collect();
    (results[0].clone().unwrap(), counts)
}

#[test]
fn pictures_are_taken_as_a_browser_takes_them() {
    for (html, expected) in [
        (r#"a<img srcset="none.png 3x, 1.png 2x, 0.jpg 1x" src="2.jpg">b"#, "a[1]b<end>"),
        (r#"a<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" data-src="2.jpg">b"#, "a[2]b<end>"),
        (r#"a<img data-srcset="0.jpg 640w" src="https://x.org/a.png">b"#, "a[0]b<end>"),
        (
            r#"a<picture><source type="image/avif" srcset="0.avif"><source srcset="1.png"><img src="0.jpg"></picture>b"#,
            "a[1]b<end>",
        ),
        (r#"a<picture><source srcset="none.webp"><img src="0.jpg"></picture>b"#, "a[0]b<end>"),
        (r#"a<picture><img src="2.jpg"><source srcset="0.jpg"></picture>b"#, "a[2]b<end>"),
    ] {
        assert_eq!(page(html), (expected.to_owned(), Vec::new()), "{html}");
    }
}

#[test]
fn a_broken_picture_leaves_out_the_picture_and_not_the_page() {
    for damaged in ["cut.jpg", "flipped.png", "data:image/png;base64,iVBORw0KGgo=", "data:image/png;base64,?"]
    {
        let (text, left) = page(&format!("a<img src=\"{damaged}\">b<img src=0.jpg>c"));
        assert_eq!(
            (text.as_str(), &left[..]),
            ("ab[0]c<end>", &[("a picture that is damaged".to_owned(), 1)][..]),
            "{damaged}"
        );
    }
}

#[test]
fn every_picture_of_a_page_is_in_a_count() {
    let pictures = [
        "<img src=0.jpg>",
        "<img src=none.png>",
        "<img src=cut.jpg>",
        "<img src=a.svg>",
        "<img src='https://x.org/a.png'>",
        "<img src='data:image/svg+xml,<svg>'>",
        "<img alt=x>",
        "<img src=1.png>",
        "<img data-src='//x.org/b.png' src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>",
    ];
    let (text, left) = page(&format!("x{}y", pictures.concat()));
    let read = text.matches('[').count() as u64;
    let counted: u64 = left.iter().map(|(_, count)| count).sum();
    assert_eq!((read, read + counted), (2, pictures.len() as u64), "{left:?}");
}
