//! Captions from what is known of a picture: the alt text as people write it, and a description in a
//! sentence, which is what MM1's synthetic captions are (VeCap; here without a model).

use xxhash_rust::xxh3::xxh3_64;

/// One picture of three has a synthetic caption too.
const DESCRIBED: u64 = 3;
/// Tags that a description names.
const TAGS: usize = 4;

/// What is known of a picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PictureFacts {
    /// Its name or caption, such as `red apple`.
    pub(crate) title: String,
    /// Keywords.
    pub(crate) tags: Vec<String>,
    /// What it belongs to, such as `food & drink`; may be empty.
    pub(crate) topic: String,
    /// What somebody wrote of it; may be empty.
    pub(crate) description: String,
    /// What kind of picture it is, such as `flat drawing`.
    pub(crate) style: &'static str,
}

impl PictureFacts {
    /// The text that came with the picture. As on the web it is now a name, now a name with keywords, now a
    /// bare list of them; `id` decides.
    pub(crate) fn alt(&self, id: &str) -> String {
        let tags = || self.tags.join(", ");
        // As on the web: of alt-texts some are sentences, some names, some bare lists of tags.
        match hash("alt", id) % 5 {
            0 if !self.description.is_empty() => self.description.clone(),
            1 if !self.tags.is_empty() => format!("{}, {}", self.title, tags()),
            2 if !self.tags.is_empty() => self.tags.join(" "),
            _ => self.title.clone(),
        }
    }

    /// A sentence of all that is known; `id` decides its form. `None` for pictures that have none, which are
    /// two of three.
    pub(crate) fn describe(&self, id: &str) -> Option<String> {
        if !hash("described", id).is_multiple_of(DESCRIBED) {
            return None;
        }
        let title = inside(self.title.trim_end_matches(['.', '!', ' ']));
        let title = title.as_str();
        let lower = title.to_lowercase();
        let known: Vec<&str> =
            self.tags.iter().map(String::as_str).filter(|tag| !lower.contains(&tag.to_lowercase())).collect();
        let tags = listed(&known[..known.len().min(TAGS)]).replace('_', " ");
        let style = self.style;
        let mut text = match hash("form", id) % 3 {
            0 => format!("A {style} of {title}."),
            1 => format!("This {style} shows {title}."),
            _ => format!("The picture is a {style}: {title}."),
        };
        if !self.description.is_empty() && self.description.to_lowercase() != lower {
            text.push_str(&format!(" {}.", self.description.trim_end_matches(['.', ' '])));
        }
        match (tags.is_empty(), self.topic.is_empty()) {
            (false, false) => {
                text.push_str(&format!(" It has to do with {tags}, and belongs to {}.", self.topic))
            }
            (false, true) => text.push_str(&format!(" It has to do with {tags}.")),
            (true, false) => text.push_str(&format!(" It belongs to {}.", self.topic)),
            (true, true) => {}
        }
        Some(text)
    }
}

/// A caption that begins with an article, as it stands inside of a sentence.
fn inside(title: &str) -> String {
    let article = ["A ", "An ", "The ", "Some "].iter().find(|article| title.starts_with(**article));
    article
        .map_or(title.to_owned(), |article| format!("{}{}", article.to_lowercase(), &title[article.len()..]))
}

fn hash(what: &str, id: &str) -> u64 {
    xxh3_64(format!("{what}\n{id}").as_bytes())
}

/// "x", "x and y", "x, y and z".
fn listed(items: &[&str]) -> String {
    match items {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_use_what_is_known_and_no_more() {
        let apple = PictureFacts {
            title: "red apple".into(),
            tags: ["apple", "fruit", "food", "health"].map(str::to_owned).to_vec(),
            topic: "food & drink".into(),
            description: String::new(),
            style: "flat drawing",
        };
        let ids: Vec<String> = (0..300).map(|i| i.to_string()).collect();
        let mut alts: Vec<String> = ids.iter().map(|id| apple.alt(id)).collect();
        alts.sort();
        alts.dedup();
        assert_eq!(alts, ["apple fruit food health", "red apple", "red apple, apple, fruit, food, health"]);
        let described: Vec<String> = ids.iter().filter_map(|id| apple.describe(id)).collect();
        assert!((70..130).contains(&described.len()), "{}", described.len());
        let rest = " It has to do with fruit, food and health, and belongs to food & drink.";
        assert!(described.contains(&format!("A flat drawing of red apple.{rest}")), "{described:?}");
        let bare = PictureFacts { title: "A magpie.".into(), style: "picture", ..PictureFacts::default() };
        assert!(ids.iter().all(|id| bare.alt(id) == "A magpie."));
        assert!(
            ids.iter().filter_map(|id| bare.describe(id)).any(|text| text == "This picture shows a magpie.")
        );
    }
}
