//! Documents as a person sees them.

use mm1_data::document::{DocumentKind, Image, Segment};
use mm1_data::shard::Provenance;
use mm1_data::show::{ShownSegment, html, segments, thumbnail};

use crate::{document, end, plain, testdata};

#[test]
fn a_page_has_its_pictures_inside_and_no_text_of_its_own_making() {
    let jpeg = std::fs::read(testdata("image/rgb.jpg")).unwrap();
    let page = document(
        "a<b>",
        vec![
            Segment::text("<script>alert(\"x\")</script> & text"),
            Segment::Image(Image::named("\"><script>", jpeg)),
            Segment::Image(plain(3, 2, [1, 2, 3]).into()),
            Segment::Image(Image::named("broken.png", b"no picture".to_vec())),
            Segment::prompt("only read\u{1b}[0m"),
            end(),
        ],
    );
    assert_eq!(page.kind, DocumentKind::Interleaved);
    let origin =
        Provenance { source: "<i>here</i>".into(), licence: "MIT".into(), attribution: String::new() };
    let page = html(&page, &origin, "file.tar");
    for wanted in [
        "<h1>a&lt;b&gt;</h1>",
        "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; text",
        "src=\"data:image/jpeg;base64,/9j/",
        "src=\"data:image/png;base64,iVBOR",
        "<span class=\"damage\">not a JPEG, PNG, WebP, GIF, BMP or TIFF picture</span>",
        "<p class=\"read\">only read\u{fffd}[0m</p>",
        "<dt>source</dt><dd>&lt;i&gt;here&lt;/i&gt;</dd>",
        "interleaved",
    ] {
        assert!(page.contains(wanted), "{wanted} is not in {page}");
    }
    assert!(!page.contains("<script") && !page.contains("http") && !page.contains("attribution"));
}

#[test]
fn segments_have_sizes_and_damage() {
    let jpeg = std::fs::read(testdata("image/rgb.jpg")).unwrap();
    let bytes = jpeg.len() as u64;
    let cut = jpeg[..jpeg.len() - 2].to_vec();
    let document = document(
        "x",
        vec![Image::named("a.jpg", jpeg), cut.into()].into_iter().map(Segment::Image).collect(),
    );
    let shown = segments(&document);
    let name = "a.jpg".to_owned();
    assert_eq!(
        shown[0],
        ShownSegment::Image { name, format: "JPEG", width: 24, height: 16, bytes, damage: None }
    );
    assert!(
        matches!(&shown[1], ShownSegment::Image { damage: Some(why), .. } if why.contains("truncated")),
        "{shown:?}"
    );
}

#[test]
fn a_thumbnail_keeps_within_its_bounds() {
    for (width, height) in [(1, 1), (300, 200), (200, 3000), (5, 7), (4000, 2)] {
        let lines = thumbnail(&plain(width, height, [10, 20, 30]).into(), 48, 16).unwrap();
        assert!((1..=16).contains(&lines.len()), "{width}x{height}: {}", lines.len());
        for line in &lines {
            assert!((1..=48).contains(&line.matches('▀').count()) && line.ends_with("\x1b[0m"));
            assert!(line.contains("\x1b[38;2;10;20;30m"));
        }
    }
    assert!(thumbnail(&Image::from(b"x".to_vec()), 9, 9).is_err());
}
