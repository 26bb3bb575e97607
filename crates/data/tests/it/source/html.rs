//! HTML pages.

use std::fs;
use std::path::Path;

use mm1_data::document::DocumentKind;
use serde_json::json;

use super::{open, sample, sketches, written};

/// The page in a folder with the pictures of the samples beside it.
fn page(html: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    written(folder.path(), "en/page.html", html);
    sketches(json!({"kind": "html", "path": folder.path()}))
}

fn pictures(folder: &Path) {
    fs::create_dir_all(folder.join("en")).unwrap();
    for (from, to) in [
        ("0.jpg", "0.jpg"),
        ("deeper/1.png", "en/one two.png"),
        ("2.jpg", "en/2.JPG"),
        ("2.jpg", "en/5%+1.jpg"),
    ] {
        fs::copy(Path::new(&sample("pictures")).join(from), folder.join(to)).unwrap();
    }
}

#[test]
fn text_and_pictures_come_in_reading_order() {
    let html = r#"<!DOCTYPE html><html><head><title>Not this</title><style>p { x }</style></head><body>
        <nav>Home <a href="x">Up</a></nav><header>Site</header>
        <h1>A  title</h1><p>First <b>bold</b>, then
        <img src="../0.jpg" alt="left out">after<br>a line.</p>
        <figure><img src="one%20two.png"/><figcaption>A caption</figcaption></figure>
        <script>var x = "<p>no</p>";</script><img src="./2.JPG?x=1#y">
        <pre>  code
    stays</pre><ul><li>one</li><li>two<footer>no</footer></li></ul><table><tr><td>a</td><td>b</td></tr></table>
        </body></html>"#;
    let expected =
        "A title\nFirst bold, then[0]after\na line.[1]A caption[2]  code\n    stays\none\ntwo\na\nb<end>";
    assert_eq!(page(html), [expected]);
}

#[test]
fn highlighted_code_keeps_its_spaces_and_lines() {
    let html = "<p>Code</p><pre><span></span><span>for</span><span class=\"w\"> </span><span>a</span> \
                <span>in</span> b:\n\
        <span>    </span><span>c</span><span>(</span>1)\n\n<span>d</span>\n</pre><p>After</p>";
    assert_eq!(page(html), ["Code\nfor a in b:\n    c(1)\n\nd\nAfter<end>"]);
}

#[test]
fn navigation_is_told_by_role_and_class() {
    let html = r#"<div class="navheader">Prev Next</div><div class="a related b">Index</div><div role="navigation">Up</div>
        <p>Kept<a class="headerlink" href="x">¶</a></p><div class="relatedly">too</div>"#;
    assert_eq!(page(html), ["Kept\ntoo<end>"]);
}

#[test]
fn pictures_elsewhere_are_left_out_and_none_leaves_the_folder() {
    let html = r#"x<img src="https://example.org/a.png"><img src="//example.org/a.png"><img src="file:///etc/a.png">
        <img src="a.svg"><img><img src="">y"#;
    assert_eq!(page(html), ["x y<end>"]);
    for path in ["../../0.jpg", "%2e%2e/%2E%2E/0.jpg", "/../0.jpg"] {
        let sketches = page(&format!("x<img src=\"{path}\">"));
        assert!(
            sketches[0].contains("page.html: the picture") && sketches[0].contains("not inside"),
            "{}",
            sketches[0]
        );
    }
    assert!(page("x<img src=\"none.png\">")[0].contains("none.png"));
    // No escape.
    assert_eq!(page("x<img src=\"5%+1.jpg\">"), ["x[2]<end>"]);
}

#[test]
fn a_page_without_pictures_is_text_and_a_missing_one_may_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), "a.html", "<p>x &amp; y <img src='none.png'>z");
    written(folder.path(), "b.html", "<nav>x</nav>");
    written(folder.path(), "c.html", b"\xff");
    let config = json!({"kind": "html", "path": folder.path(), "missing": "leave-out"});
    let sketches = sketches(config.clone());
    assert_eq!(sketches[0], "x & y z<end>");
    assert!(
        sketches[1].contains("b.html") && sketches[1].contains("without text and pictures"),
        "{}",
        sketches[1]
    );
    assert!(sketches[2].contains("c.html: not UTF-8"), "{}", sketches[2]);
    let document = open(config).unwrap().stored(0).unwrap();
    assert_eq!((document.kind, document.id.as_str()), (DocumentKind::TextOnly, "mine/a.html"));
}

#[test]
fn deep_and_broken_pages_are_read() {
    let deep = format!("{}x{}", "<div>".repeat(900), "</div>".repeat(900));
    assert_eq!(page(&deep), ["x<end>"]);
    assert_eq!(page("<p>a<b>b<p>c</b></table></html>d"), ["ab\ncd<end>"]);
    let picture = fs::read(Path::new(&sample("pictures")).join("2.jpg")).unwrap();
    let html = format!(
        "a<img src=\"data:image/jpeg;base64,{}\">b",
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, picture)
    );
    assert_eq!(page(&html), ["a[2]b<end>"]);
}

#[test]
fn pages_that_take_squares_of_their_length_are_refused() {
    let nested = |tag: &str| format!("<{tag}>").repeat(100_000);
    let bold = (0..900).map(|i| format!("<b x={i}>")).collect::<String>();
    let repeated = format!("<p>{bold}</p>{}", "<p>x</p>".repeat(10_000));
    let hidden = ["<div>".repeat(200), "</body><!--x-->".to_owned()].concat().repeat(100);
    let attributes =
        |n: usize| format!("<p {}>x", (0..n).map(|i| format!("a{i}=\"1\" ")).collect::<String>());
    for (html, reason) in [
        (nested("div"), "more than 1000 elements inside each other"),
        (nested("span"), "inside each other"),
        (nested("table><tr><td"), "inside each other"),
        (nested("svg"), "inside each other"),
        (hidden, "inside each other"),
        (repeated, "more than 1000000 elements and texts"),
        (attributes(2_000), "a tag of more than 1000 attributes"),
    ] {
        let sketches = page(&html);
        assert!(
            sketches[0].contains("page.html: ") && sketches[0].contains(reason),
            "{reason}: {}",
            sketches[0]
        );
    }
}

#[test]
fn long_pages_and_scripts_are_read() {
    let words = "if (a<b && c) x = 'it'; ".repeat(5_000);
    let html = format!(
        "<script>{words}</script><!-- <p {words} --><style>a<b{words}</style>a<p title='{}'>b",
        words.replace('\'', "")
    );
    assert_eq!(page(&html), ["a\nb<end>"]);
    let paragraphs = "<p>one<b>two</b>".repeat(50_000);
    assert_eq!(page(&paragraphs)[0].len(), 50_000 * 7 - 1 + 5);
    let wide = "ü😀".repeat(3_000);
    assert_eq!(page(&format!("<p>{wide}")), [format!("{wide}<end>")]);
}
