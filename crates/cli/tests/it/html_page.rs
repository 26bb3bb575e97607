//! What a test reads from a page of the program's.

/// The texts of all elements that begin with `tag`, joined.
pub(crate) fn text_of(page: &str, tag: &str) -> String {
    page.split(tag).skip(1).filter_map(|rest| rest.split('<').next()).collect()
}
