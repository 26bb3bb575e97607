//! The tree of a page, in time and memory that grow with its length only. The parser follows HTML's rules for
//! broken pages, which take squares of the depth and of the attributes of a tag, and can repeat what the page
//! has once.

use anyhow::{Result, ensure};
use ego_tree::Tree;
use html5ever::driver::{ParseOpts, parse_document};
use html5ever::tendril::TendrilSink as _;
use scraper::{Html, HtmlTreeSink, Node};

/// Elements inside each other; browsers stop at 512.
const MAX_DEPTH: usize = 1_000;
/// Elements and runs of text of a page.
const MAX_NODES: usize = 1_000_000;
/// Attributes of a tag.
const MAX_ATTRIBUTES: usize = 1_000;
/// Bytes that are parsed between two looks at the tree, so that it never grows far beyond a limit.
const PIECE: usize = 1 << 10;

/// Parses a page.
///
/// # Errors
/// A page beyond a limit.
pub(super) fn parse(page: &str) -> Result<Html> {
    check_tags(page.as_bytes())?;
    let mut parser = parse_document(HtmlTreeSink::new(Html::new_document()), ParseOpts::default());
    let (mut rest, mut checked) = (page, 0);
    while !rest.is_empty() {
        let piece;
        (piece, rest) = rest.split_at(rest.floor_char_boundary(PIECE.min(rest.len())));
        parser.process(piece.into());
        checked = check(&parser.tokenizer.sink.sink.0.borrow().tree, checked)?;
    }
    let page = parser.finish();
    check(&page.tree, checked)?;
    Ok(page)
}

/// Looks at the nodes from `seen` on; gives their number.
fn check(tree: &Tree<Node>, checked: usize) -> Result<usize> {
    let nodes = tree.nodes();
    let len = nodes.len();
    ensure!(len <= MAX_NODES, "a page of more than {MAX_NODES} elements and texts");
    for node in nodes.rev().take(len - checked) {
        // Counted for new nodes only: their sum stays below nodes times depth, which both have limits.
        let depth = node.ancestors().take(MAX_DEPTH + 1).count();
        ensure!(depth <= MAX_DEPTH, "more than {MAX_DEPTH} elements inside each other");
    }
    Ok(len)
}

/// Looks for a tag with too many attributes.
fn check_tags(page: &[u8]) -> Result<()> {
    let mut at = 0;
    while let Some(next) = page[at..].iter().position(|&byte| byte == b'<') {
        at += next + 1;
        let name = page[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        if page[at..].starts_with(b"!--") {
            at = past(page, at, b"-->");
        } else if page.get(at).is_some_and(u8::is_ascii_alphabetic) {
            let name = &page[at..at + name];
            at = tag(page, at)?;
            for raw in [b"script".as_slice(), b"style"] {
                if name.eq_ignore_ascii_case(raw) {
                    at = past(page, at, b"</");
                }
            }
        }
    }
    Ok(())
}

/// The place after the next `mark`; the end, where there is none.
fn past(page: &[u8], at: usize, mark: &[u8]) -> usize {
    let found = page[at..].windows(mark.len()).position(|window| window == mark);
    found.map_or(page.len(), |found| at + found + mark.len())
}

/// The end of the tag whose name begins at `at`.
fn tag(page: &[u8], mut at: usize) -> Result<usize> {
    let (mut attributes, mut between, mut last) = (0, false, 0);
    while let Some(&byte) = page.get(at) {
        match byte {
            b'>' => break,
            b'"' | b'\'' if last == b'=' => {
                at = past(page, at + 1, &[byte]);
                (between, last) = (true, byte);
                continue;
            }
            b'/' => between = true,
            byte if byte.is_ascii_whitespace() => between = true,
            _ => {
                attributes += usize::from(between);
                ensure!(attributes <= MAX_ATTRIBUTES, "a tag of more than {MAX_ATTRIBUTES} attributes");
                between = false;
            }
        }
        if !byte.is_ascii_whitespace() {
            last = byte;
        }
        at += 1;
    }
    Ok(at)
}
