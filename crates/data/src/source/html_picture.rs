//! Which files an `img` of a page may be, as a browser takes them: sources of its `picture`, `srcset`, what
//! scripts load later, and `src`.

use ego_tree::NodeRef;
use scraper::Node;
use scraper::node::Element;

/// Media types of pictures that are not read, as a browser passes over those that it can't show.
const NOT_READ: [&str; 6] =
    ["image/avif", "image/svg+xml", "image/jxl", "image/heic", "image/heif", "image/jp2"];

/// Where scripts keep the address of a picture that is loaded when it comes into view.
const LAZY: [&str; 3] = ["data-src", "data-original", "data-lazy-src"];

/// The addresses of an `img`, best first; of one set the largest first. What can be read of them is taken.
pub(super) fn addresses(image: NodeRef<'_, Node>) -> Vec<String> {
    let Some(element) = image.value().as_element() else { return Vec::new() };
    let mut all = Vec::new();
    let picture = image.parent().filter(|parent| is(parent, "picture"));
    for source in picture.iter().flat_map(NodeRef::children).take_while(|node| node.id() != image.id()) {
        let Some(source) = source.value().as_element().filter(|element| element.name() == "source") else {
            continue;
        };
        let kind = source.attr("type").unwrap_or_default().trim().to_lowercase();
        if !NOT_READ.contains(&kind.as_str()) {
            all.extend(sets(source));
        }
    }
    all.extend(sets(element));
    let lazy: Vec<&str> = LAZY.iter().filter_map(|name| element.attr(name)).collect();
    all.extend(lazy.iter().map(|&address| address.to_owned()));
    let loaded_later = !lazy.is_empty() || element.attr("data-srcset").is_some();
    let source = element.attr("src").unwrap_or_default();
    // Until the script has run, an empty picture stands in the page itself.
    if !(loaded_later && source.trim().starts_with("data:")) {
        all.push(source.to_owned());
    }
    all.retain_mut(|address| {
        *address = address.trim().to_owned();
        !address.is_empty()
    });
    all
}

fn is(node: &NodeRef<'_, Node>, name: &str) -> bool {
    node.value().as_element().is_some_and(|element| element.name() == name)
}

/// The addresses of an element's `srcset` and of the one that a script loads, each from the largest down.
fn sets(element: &Element) -> Vec<String> {
    ["srcset", "data-srcset"].iter().filter_map(|name| element.attr(name)).flat_map(set).collect()
}

/// The addresses of a `srcset`: each up to white space, with a width (`640w`) or a density (`2x`) behind it.
fn set(text: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() {
            break;
        }
        let (address, after) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
        let alone = address.trim_end_matches(',');
        if alone.len() < address.len() {
            found.push((1.0, alone.to_owned()));
            rest = after;
            continue;
        }
        let (descriptor, after) = after.split_at(after.find(',').unwrap_or(after.len()));
        let size = descriptor.trim().trim_end_matches(['w', 'x']).parse().unwrap_or(1.0);
        found.push((size, address.to_owned()));
        rest = after;
    }
    // Stable: of equal ones the first.
    found.sort_by(|(a, _), (b, _): &(f64, String)| b.total_cmp(a));
    found.into_iter().map(|(_, address)| address).collect()
}

#[cfg(test)]
mod tests {
    use super::set;

    #[test]
    fn a_set_is_read_as_browsers_read_it() {
        for (text, expected) in [
            ("a.png", vec!["a.png"]),
            ("a.png 1x, b.png 2x", vec!["b.png", "a.png"]),
            ("a.png 320w,b.png 1024w , c.png 640w", vec!["b.png", "c.png", "a.png"]),
            ("a.png, b.png", vec!["a.png", "b.png"]),
            ("a,b.png 2x,", vec!["a,b.png"]),
            (" ,, ", vec![]),
        ] {
            assert_eq!(set(text), expected, "{text}");
        }
    }
}
