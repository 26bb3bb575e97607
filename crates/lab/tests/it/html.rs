//! A check that a page is well formed: every element that opens closes, in order, and attributes are quoted.

/// Checks `page` (which is written as XML except for its doctype) and gives the names of its elements.
pub(crate) fn elements(page: &str) -> Vec<String> {
    let (mut open, mut names) = (Vec::new(), Vec::new());
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("the doctype comes first");
    while let Some(start) = rest.find('<') {
        check_text(&rest[..start]);
        let end = tag_end(&rest[start..]) + start;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "</{name}> closes another element");
            continue;
        }
        let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        assert!(!name.is_empty(), "<{tag}> has no name");
        names.push(name.clone());
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    names
}

/// The `>` of a tag, outside quotes.
fn tag_end(text: &str) -> usize {
    let mut quoted = false;
    for (i, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '<' if i > 0 => panic!("a bare < in {}", &text[..i]),
            '>' if !quoted => return i,
            _ => {}
        }
    }
    panic!("a tag does not end: {}", text.chars().take(80).collect::<String>())
}

/// Every `&` begins a character reference.
fn check_text(text: &str) {
    for (i, _) in text.match_indices('&') {
        let reference = text[i + 1..].split(';').next().unwrap();
        assert!(["amp", "lt", "gt", "quot", "#39"].contains(&reference), "a bare & before {reference:.20}");
    }
}
