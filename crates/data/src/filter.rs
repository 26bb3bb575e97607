//! [`DocumentFilter`]: the rules by which MM1's sources were cleaned, with counts of what each removed.
//!
//! A set is filtered in two passes, since how often a picture is used shows at the end only:
//! [`DocumentFilter::observe`] for each document, then [`DocumentFilter::apply`].

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use whatlang::Lang;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use crate::document::{Document, DocumentKind, Image, Segment};
use crate::image::{PictureHeader, PictureKey, PictureSet, read_header};

/// Bytes of a text from which its language is detected.
const LANGUAGE_BYTES: usize = 4096;

/// The rules, each a setting. The defaults are those of the paper and of OBELICS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilterSpec {
    /// The shortest side, in pixels, that a picture may have.
    pub min_side: u32,
    /// The longest side, in pixels, that it may have.
    pub max_side: u32,
    /// How many times longer one side may be than the other.
    pub max_aspect: f64,
    /// How often a picture may be used in the whole set.
    pub max_uses: u32,
    /// Words that a picture's name must not have in it, in lower case.
    pub names: Vec<String>,
    /// Whether a document needs a picture.
    pub require_picture: bool,
    /// Whether a document needs text.
    pub require_text: bool,
    /// Whether of documents with the same text and the same pictures only the first stays.
    pub unique_text: bool,
    /// Languages that stay, as ISO 639-3 codes such as `eng`; all, where there is none. A text whose language
    /// can't be detected, such as a short one, stays.
    pub languages: Vec<String>,
}

impl Default for FilterSpec {
    fn default() -> Self {
        Self {
            min_side: 11,
            max_side: 9_999,
            max_aspect: 2.0,
            max_uses: 10,
            names: ["logo", "button", "icon"].map(str::to_owned).to_vec(),
            require_picture: false,
            require_text: true,
            unique_text: true,
            languages: Vec::new(),
        }
    }
}

/// Why something was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterRule {
    /// A picture that is no picture.
    Damaged,
    /// A side below `min_side`.
    Small,
    /// A side above `max_side`.
    Large,
    /// An aspect beyond `max_aspect`.
    Aspect,
    /// A picture used more than `max_uses` times.
    Uses,
    /// A word of `names` in the picture's name.
    Name,
    /// No picture, or none left.
    NoPicture,
    /// No text.
    NoText,
    /// A text that was there before.
    Duplicate,
    /// Another language.
    Language,
}

/// What was removed, and what stayed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterCounts {
    /// Documents that stayed.
    pub documents: u64,
    /// Pictures that stayed.
    pub pictures: u64,
    /// Documents that were removed, by the first rule that they broke.
    pub removed_documents: BTreeMap<FilterRule, u64>,
    /// Pictures that were removed, by the first rule that they broke.
    pub removed_pictures: BTreeMap<FilterRule, u64>,
}

/// The rules and what they have seen. It holds about 400 bytes of each different picture, 16 of each
/// different file of one, and 8 of a document.
pub struct DocumentFilter {
    spec: FilterSpec,
    /// The pictures that were observed.
    pictures: PictureSet,
    /// What each file shows, by the hash of its bytes: a file that comes again is not looked at again.
    shown: HashMap<u64, ShownPicture>,
    /// How often each was observed.
    uses: HashMap<ShownPicture, u32>,
    /// Hashes of the texts that stayed, and of what their pictures show.
    texts: HashSet<u64>,
    counts: FilterCounts,
}

/// What a file shows.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum ShownPicture {
    /// A picture by its pixels, numbered in a [`PictureSet`].
    Pixels(u32),
    /// One that was not decoded, by the hash of its bytes.
    Bytes(u64),
}

impl ShownPicture {
    fn number(self) -> u64 {
        match self {
            Self::Pixels(number) => u64::from(number),
            // Numbers of pictures have 32 bits.
            Self::Bytes(hash) => hash | 1 << 63,
        }
    }
}

impl DocumentFilter {
    /// Checks the settings.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn new(spec: FilterSpec) -> Result<Self> {
        let FilterSpec { min_side, max_side, max_aspect, .. } = spec;
        ensure!(min_side <= max_side, "filter.min_side = {min_side} is above max_side = {max_side}");
        ensure!(max_aspect >= 1.0, "filter.max_aspect = {max_aspect}: give a number from 1 up");
        for code in &spec.languages {
            Lang::from_code(code).with_context(|| {
                format!(
                    "filter.languages: {code:?} is no ISO 639-3 code that is known, such as eng, deu, fra"
                )
            })?;
        }
        Ok(Self {
            spec,
            pictures: PictureSet::default(),
            shown: HashMap::new(),
            uses: HashMap::new(),
            texts: HashSet::new(),
            counts: FilterCounts::default(),
        })
    }

    /// First pass: counts the uses of pictures, the same ones in whatever codec and size. `keys` are those of
    /// the document's pictures in order; one without a key is the same as others by its bytes alone.
    // Keys come from outside: they take decoding, which threads do.
    pub fn observe(&mut self, document: &Document, keys: Vec<Option<PictureKey>>) {
        for (picture, key) in document.pictures().zip(keys.into_iter().chain(std::iter::repeat(None))) {
            let hash = hash(picture);
            let pictures = &mut self.pictures;
            let shown = *self.shown.entry(hash).or_insert_with(|| match key {
                Some(key) => ShownPicture::Pixels(pictures.number(key)),
                None => ShownPicture::Bytes(hash),
            });
            *self.uses.entry(shown).or_default() += 1;
        }
    }

    fn shown(&self, picture: &Image) -> ShownPicture {
        let hash = hash(picture);
        self.shown.get(&hash).copied().unwrap_or(ShownPicture::Bytes(hash))
    }

    /// Second pass: the document without the pictures that break a rule, or nothing. A caption or
    /// conversation does not stand without its picture; a page does.
    pub fn apply(&mut self, mut document: Document) -> Option<Document> {
        let pictures = document.pictures().count();
        let mut removed = Vec::new();
        document.segments.retain(|segment| match segment {
            Segment::Image(picture) => {
                let rule = self.judge(picture);
                removed.extend(rule);
                rule.is_none()
            }
            _ => true,
        });
        for &rule in &removed {
            *self.counts.removed_pictures.entry(rule).or_default() += 1;
        }
        // A caption without its picture teaches nothing of pictures; a page is still text.
        let alone = matches!(document.kind, DocumentKind::Interleaved | DocumentKind::TextOnly);
        let first = removed.first().copied().filter(|_| !alone);
        let left = pictures - removed.len();
        if let Some(rule) = first.or_else(|| self.judge_document(&document, left)) {
            *self.counts.removed_documents.entry(rule).or_default() += 1;
            return None;
        }
        self.counts.documents += 1;
        self.counts.pictures += left as u64;
        Some(document)
    }

    /// What was removed so far.
    pub fn counts(&self) -> &FilterCounts {
        &self.counts
    }

    fn judge(&self, picture: &Image) -> Option<FilterRule> {
        let FilterSpec { min_side, max_side, max_aspect, max_uses, .. } = self.spec;
        let name = picture.name().to_lowercase();
        if self.spec.names.iter().any(|word| name.contains(word)) {
            return Some(FilterRule::Name);
        }
        let Ok(PictureHeader { width, height, .. }) = read_header(picture) else {
            return Some(FilterRule::Damaged);
        };
        let (short, long) = (width.min(height), width.max(height));
        if short < min_side {
            Some(FilterRule::Small)
        } else if long > max_side {
            Some(FilterRule::Large)
        } else if f64::from(long) > max_aspect * f64::from(short) {
            Some(FilterRule::Aspect)
        } else if self.uses.get(&self.shown(picture)).is_some_and(|&uses| uses > max_uses) {
            Some(FilterRule::Uses)
        } else {
            None
        }
    }

    fn judge_document(&mut self, document: &Document, pictures: usize) -> Option<FilterRule> {
        let text = document.texts().flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
        // A document of nothing is removed for its pictures: it never had a text.
        if pictures == 0 && (self.spec.require_picture || text.is_empty()) {
            return Some(FilterRule::NoPicture);
        }
        if text.is_empty() {
            return self.spec.require_text.then_some(FilterRule::NoText);
        }
        if !self.speaks(&text) {
            return Some(FilterRule::Language);
        }
        let mut key = Xxh3Default::new();
        key.update(text.to_lowercase().as_bytes());
        // One question about two pictures is two documents, whatever their kind.
        document.pictures().for_each(|picture| key.update(&self.shown(picture).number().to_le_bytes()));
        (self.spec.unique_text && !self.texts.insert(key.digest())).then_some(FilterRule::Duplicate)
    }

    /// Whether the text is in one of the languages that stay, as far as can be detected.
    fn speaks(&self, text: &str) -> bool {
        if self.spec.languages.is_empty() {
            return true;
        }
        let start = text.floor_char_boundary(LANGUAGE_BYTES);
        whatlang::detect(&text[..start]).is_none_or(|detected| {
            !detected.is_reliable() || self.spec.languages.iter().any(|l| l == detected.lang().code())
        })
    }
}

fn hash(picture: &Image) -> u64 {
    match picture {
        Image::Pixels(picture) => xxh3_64(&picture.rgb),
        Image::File { bytes, .. } => xxh3_64(bytes),
    }
}
