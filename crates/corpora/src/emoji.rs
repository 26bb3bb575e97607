//! What emojibase and emojilib know of each emoji, by code point.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::archive::{UnpackLimits, unpack};
use crate::caption::PictureFacts;
use crate::package::{Client, Package, Version};

/// Labels, tags and groups.
pub(crate) const EMOJIBASE: Package = Package {
    client: Client::Npm,
    name: "emojibase-data",
    known: &[Version {
        version: "17.0.0",
        sha256: "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    }],
};

/// Keywords as people give them.
pub(crate) const EMOJILIB: Package = Package {
    client: Client::Npm,
    name: "emojilib",
    known: &[Version {
        version: "4.0.3",
        sha256: "7f9a6b43cff31d18985b7d65d11faba5bd971cbcc60020cf6d09322fbaaaf303",
    }],
};

/// One emoji.
pub(crate) struct NamedEmoji {
    pub(crate) about: PictureFacts,
    /// The characters themselves.
    pub(crate) symbol: String,
    /// The code points of what it is without a skin tone: the same for all vendors.
    pub(crate) base: String,
}

/// Emoji by code points: small hexadecimal letters, `-` between, without the variation selector FE0F.
pub(crate) struct Emojis(BTreeMap<String, NamedEmoji>);

#[derive(Deserialize)]
struct EmojibaseEntry {
    label: String,
    hexcode: String,
    emoji: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    group: Option<usize>,
    #[serde(default)]
    skins: Vec<EmojibaseEntry>,
}

#[derive(Deserialize)]
struct GroupMessages {
    groups: Vec<GroupMessage>,
}

#[derive(Deserialize)]
struct GroupMessage {
    message: String,
    order: usize,
}

impl Emojis {
    /// Reads both packages.
    pub(crate) fn read(emojibase: &Path, emojilib: &Path) -> Result<Self> {
        let (data, messages) = ("package/en/data.json", "package/en/messages.json");
        let entries: Vec<EmojibaseEntry> = json(emojibase, data)?;
        let groups: GroupMessages = json(emojibase, messages)?;
        let keywords: BTreeMap<String, Vec<String>> = json(emojilib, "package/dist/emoji-en-US.json")?;
        let mut emojis = BTreeMap::new();
        for entry in entries {
            let base = key(&entry.hexcode);
            let topic = groups.groups.iter().find(|group| Some(group.order) == entry.group);
            let topic = topic.map(|group| group.message.clone()).unwrap_or_default();
            let tags = keywords.get(&entry.emoji).unwrap_or(&entry.tags);
            // The first of emojilib's keywords is the name again.
            let tags: Vec<String> =
                tags.iter().map(|tag| tag.replace('_', " ")).filter(|tag| *tag != entry.label).collect();
            // Skin tones share the name and the group, and so are held out together.
            for one in entry.skins.iter().chain([&entry]) {
                let about = PictureFacts {
                    title: one.label.clone(),
                    tags: tags.clone(),
                    topic: topic.clone(),
                    ..PictureFacts::default()
                };
                let emoji = NamedEmoji { about, symbol: one.emoji.clone(), base: base.clone() };
                emojis.insert(key(&one.hexcode), emoji);
            }
        }
        ensure!(!emojis.is_empty(), "{data} has no emoji");
        Ok(Self(emojis))
    }

    /// By code points as any vendor writes them.
    pub(crate) fn find(&self, code_points: &str) -> Option<&NamedEmoji> {
        self.0.get(&key(code_points))
    }

    /// All, with their code points.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &NamedEmoji)> {
        self.0.iter().map(|(key, emoji)| (key.as_str(), emoji))
    }
}

/// The one form of code points.
fn key(code_points: &str) -> String {
    let lower = code_points.to_lowercase();
    lower.split(['-', '_', ' ']).filter(|part| *part != "fe0f").collect::<Vec<_>>().join("-")
}

/// A JSON file of a package.
pub(crate) fn json<T: for<'a> Deserialize<'a>>(package: &Path, name: &str) -> Result<T> {
    let mut found = None;
    unpack(package, UnpackLimits::default(), &|file| file == name, &mut |_, bytes| {
        found = Some(bytes);
        Ok(())
    })?;
    let bytes = found.with_context(|| format!("{}: no {name} in it", package.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}: {name}", package.display()))
}
