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

impl FilterRule {
    /// All, in the order of their numbers.
    const ALL: [Self; 10] = [
        Self::Damaged,
        Self::Small,
        Self::Large,
        Self::Aspect,
        Self::Uses,
        Self::Name,
        Self::NoPicture,
        Self::NoText,
        Self::Duplicate,
        Self::Language,
    ];

    /// The rule of a number, as files of tasks have it.
    pub(crate) fn of_number(number: u8) -> Result<Self> {
        Self::ALL
            .get(usize::from(number))
            .copied()
            .with_context(|| format!("no rule has the number {number}"))
    }
}

/// What the rules need to know of a document, in few bytes. What it is judged by beside is what others have:
/// how often its pictures are used, and whether one before it is equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DocumentDigest {
    pub(crate) id: String,
    /// Whether it stands without its pictures.
    pub(crate) alone: bool,
    /// Whether its text is in one of the languages that stay.
    pub(crate) speaks: bool,
    /// The hash of its text; none, where it has none.
    pub(crate) text: Option<u64>,
    pub(crate) pictures: Vec<PictureDigest>,
}

/// A picture of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PictureDigest {
    /// Of its bytes.
    pub(crate) hash: u64,
    /// The rule that it breaks whatever others are.
    pub(crate) rule: Option<FilterRule>,
    /// What it looks like, where it was decoded.
    pub(crate) key: Option<PictureKey>,
}

/// What becomes of a document, as long as no one before it is equal.
pub(crate) struct Verdict {
    /// Of each picture the rule that removes it.
    pub(crate) pictures: Vec<Option<FilterRule>>,
    /// The rule that removes the document.
    pub(crate) rule: Option<FilterRule>,
}

impl FilterSpec {
    /// What the rules need to know of a document; `keys` are those of its pictures.
    pub(crate) fn digest(&self, document: &Document, keys: Vec<Option<PictureKey>>) -> DocumentDigest {
        let pictures = document.pictures().zip(keys.into_iter().chain(std::iter::repeat(None)));
        let picture = |(picture, key): (&Image, Option<PictureKey>)| PictureDigest {
            hash: hash(picture),
            rule: self.rule_of(picture),
            key,
        };
        let text = text_of(document);
        DocumentDigest {
            id: document.id.clone(),
            alone: stands_alone(document.kind),
            speaks: text.is_empty() || self.speaks(&text),
            text: (!text.is_empty()).then(|| xxh3_64(text.to_lowercase().as_bytes())),
            pictures: pictures.map(picture).collect(),
        }
    }

    /// Judges a document of which `overused` says for each picture whether it is used too often.
    pub(crate) fn verdict(&self, digest: &DocumentDigest, overused: &[bool]) -> Verdict {
        let rule = |(picture, &over): (&PictureDigest, &bool)| {
            picture.rule.or_else(|| over.then_some(FilterRule::Uses))
        };
        let pictures: Vec<_> = digest.pictures.iter().zip(overused).map(rule).collect();
        let left = pictures.iter().filter(|rule| rule.is_none()).count();
        let first = pictures.iter().copied().flatten().next().filter(|_| !digest.alone);
        let rule = first.or_else(|| self.rule_without_others(left, digest.text.is_some(), || digest.speaks));
        Verdict { pictures, rule }
    }

    /// The rule that a picture breaks whatever others are.
    fn rule_of(&self, picture: &Image) -> Option<FilterRule> {
        let Self { min_side, max_side, max_aspect, .. } = *self;
        let name = picture.name().to_lowercase();
        if self.names.iter().any(|word| name.contains(word)) {
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
        } else {
            None
        }
    }

    /// The rule that a document breaks with so many pictures left, whatever others are.
    fn rule_without_others(
        &self,
        pictures: usize,
        text: bool,
        speaks: impl Fn() -> bool,
    ) -> Option<FilterRule> {
        // A document of nothing is removed for its pictures: it never had a text.
        if pictures == 0 && (self.require_picture || !text) {
            return Some(FilterRule::NoPicture);
        }
        if !text {
            return self.require_text.then_some(FilterRule::NoText);
        }
        (!speaks()).then_some(FilterRule::Language)
    }

    /// Whether the text is in one of the languages that stay, as far as can be detected.
    fn speaks(&self, text: &str) -> bool {
        if self.languages.is_empty() {
            return true;
        }
        let start = text.floor_char_boundary(LANGUAGE_BYTES);
        whatlang::detect(&text[..start]).is_none_or(|detected| {
            !detected.is_reliable() || self.languages.iter().any(|l| l == detected.lang().code())
        })
    }
}

/// The words of all texts, with one space between two.
fn text_of(document: &Document) -> String {
    document.texts().flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// A caption without its picture teaches nothing of pictures; a page is still text.
fn stands_alone(kind: DocumentKind) -> bool {
    matches!(kind, DocumentKind::Interleaved | DocumentKind::TextOnly)
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
        for word in &spec.names {
            ensure!(!word.is_empty(), "filter.names: an empty word is in every name: leave it out");
            let lower = word.to_lowercase();
            ensure!(*word == lower, "filter.names: {word:?} is in no name in lower case: write {lower:?}");
        }
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
        let alone = stands_alone(document.kind);
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
        let over = || self.uses.get(&self.shown(picture)).is_some_and(|&uses| uses > self.spec.max_uses);
        self.spec.rule_of(picture).or_else(|| over().then_some(FilterRule::Uses))
    }

    fn judge_document(&mut self, document: &Document, pictures: usize) -> Option<FilterRule> {
        let text = text_of(document);
        let rule = self.spec.rule_without_others(pictures, !text.is_empty(), || self.spec.speaks(&text));
        if rule.is_some() || text.is_empty() {
            return rule;
        }
        let mut key = Xxh3Default::new();
        key.update(text.to_lowercase().as_bytes());
        // One question about two pictures is two documents, whatever their kind.
        document.pictures().for_each(|picture| key.update(&self.shown(picture).number().to_le_bytes()));
        (self.spec.unique_text && !self.texts.insert(key.digest())).then_some(FilterRule::Duplicate)
    }
}

fn hash(picture: &Image) -> u64 {
    match picture {
        Image::Pixels(picture) => xxh3_64(&picture.rgb),
        Image::File { bytes, .. } => xxh3_64(bytes),
    }
}
