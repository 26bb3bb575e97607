//! [`Tokenizer`]: byte-level BPE in the standard `tokenizer.json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizedString, Normalizer as _};
use xxhash_rust::xxh3::xxh3_64;

use crate::chat_template::ChatTemplate;
use crate::document::Special;
use crate::special_token::{PICTURE_MARKS, SPECIALS, SpecialTokens};
use crate::{text_file, tokenizer_file, whole_file};

/// The smallest vocabulary: the special tokens and every byte.
const LEAST: usize = SPECIALS.len() + 256;

/// A text that comes back as it is, if nothing changes texts: capitals, two kinds of accents, spaces, lines.
const SAMPLE: &str = " A Caf\u{e9} cafe\u{301},  \u{fb01}ve\n\t\u{1f469}.";

/// Bytes of a long text that are encoded at once.
// Rejected: whole texts. The library needs a hundred times the memory of a text while it encodes it.
const BLOCK: usize = 64 << 10;

/// Text to token ids and back. Words are cut as in GPT-2, so that " word" can be one token, or as the file of
/// another program says. Text that spells a special token stays text.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// In the order of [`Special`].
    specials: [Option<u32>; SPECIALS.len()],
    /// The tokens that no text becomes: those of `specials` and others of the file.
    controls: Vec<ControlToken>,
    /// Put before each text, but where a chat template writes it.
    begin: Option<u32>,
    /// How conversations are written, if not in this program's own form; and the token by which it ends an
    /// answer.
    chat: Option<(ChatTemplate, u32)>,
    /// What stands around the image tokens of a picture, if anything does.
    picture_marks: Option<PictureMarks>,
    /// The id of each byte as a token of its own, if it has one.
    byte_ids: Vec<Option<u32>>,
    /// The bytes of each id; none for a special token and for an id that is not in use.
    bytes: Vec<Vec<u8>>,
    /// Of the whole file as the library writes it, and of the chat template.
    fingerprint: String,
}

/// The ids around the image tokens of a picture, as Idefics3's processor writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureMarks {
    /// `<fake_token_around_image><global-img>`
    pub before: [u32; 2],
    /// `<fake_token_around_image>`
    pub after: u32,
}

impl PictureMarks {
    /// Positions that they take around each picture.
    pub const POSITIONS: usize = 3;
    /// Tokens that a vocabulary has for them: both, and `<end_of_utterance>`, which that processor wants.
    pub const NEW: usize = PICTURE_MARKS.len();
}

/// A token that no text becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlToken {
    /// As the file spells it.
    pub name: String,
    /// Its id.
    pub id: u32,
    /// Whether it takes away white space before it, and after it.
    pub lstrip: bool,
    /// After it.
    pub rstrip: bool,
}

impl Tokenizer {
    /// Learns a vocabulary of at most `vocab` tokens from texts. The result depends on the words and their
    /// counts only.
    ///
    /// # Errors
    /// A vocabulary too small for the bytes and the special tokens.
    pub fn train(texts: impl Iterator<Item = String> + Send, vocab: usize) -> Result<Self> {
        ensure!(
            vocab >= LEAST,
            "tokenizer.vocab = {vocab}: give at least {LEAST}, for the bytes and special tokens"
        );
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(SPECIALS.map(|(_, name)| AddedToken::from(name, true)).to_vec())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let byte_level = ByteLevel::default().add_prefix_space(false);
        let mut inner = tokenizers::Tokenizer::new(ModelWrapper::BPE(BPE::default()));
        inner.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
        inner
            .train(&mut TrainerWrapper::from(trainer), texts)
            .map_err(|e| anyhow!(e).context("tokenizer"))?;
        let names = SPECIALS.map(|(_, name)| Some(name.to_owned()));
        Self::new(inner, &names)
    }

    /// Reads a `tokenizer.json`, of this program or another. Special tokens that it lacks get the id of a
    /// token for the same use, of a reserved one, or a new one: [`Self::special_ids`]. Conversations are
    /// written in this program's own form.
    ///
    /// # Errors
    /// One line that names the file and the field: a tokenizer that is not byte-level BPE, changes texts, or
    /// lets text become a special token; one of this program that lacks a special token.
    pub fn load(path: &Path) -> Result<Self> {
        let read = || Self::read(&text_file::read(path)?, true);
        read().with_context(|| format!("tokenizer {}", path.display()))
    }

    /// As [`Self::load`] of the text of a file; `with_roles` where conversations are written in this
    /// program's own form.
    pub(crate) fn read(json: &str, with_roles: bool) -> Result<Self> {
        let file = tokenizer_file::cleaned(json, with_roles)?;
        let inner = tokenizers::Tokenizer::from_bytes(&file.json);
        let inner = inner.map_err(|e| anyhow!("{}", tokenizer_file::in_words(&e.to_string())))?;
        for (name, id) in &file.added {
            let read = inner.token_to_id(name);
            ensure!(
                read == Some(*id),
                "added_tokens: the id of {name:?} is {id}, but the ids of others make it {}",
                read.map_or_else(|| "none".to_owned(), |id| id.to_string())
            );
        }
        Ok(Self { begin: file.begin, ..Self::new(inner, &file.specials)? })
    }

    /// The same with conversations written by `template`, which ends an answer by the token `end`.
    pub(crate) fn templated(self, template: ChatTemplate, end: u32) -> Self {
        let all = format!("{}\0{:?}\0{}", self.fingerprint, template.tokens(), template.source());
        Self { fingerprint: format!("{:016x}", xxh3_64(all.as_bytes())), chat: Some((template, end)), ..self }
    }

    /// The same with the tokens by which Idefics3 marks a picture, around the image tokens of each. What is
    /// missing gets the id of a reserved token, or a new one.
    ///
    /// # Errors
    /// A tokenizer that can't have more tokens.
    pub fn with_picture_marks(self) -> Result<Self> {
        let json = self.to_json()?;
        let mut marked = Self::read(&tokenizer_file::with_picture_marks(&json)?, self.chat.is_none())?;
        if let Some((template, end)) = self.chat {
            marked = marked.templated(template, end);
        }
        let id = |name| marked.inner.token_to_id(name).with_context(|| format!("it lacks {name}"));
        let (around, whole) = (id(PICTURE_MARKS[0])?, id(PICTURE_MARKS[1])?);
        let picture_marks = Some(PictureMarks { before: [around, whole], after: around });
        Ok(Self { picture_marks, ..marked })
    }

    /// Writes a `tokenizer.json`: whole, or not at all.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = self.to_json()?;
        whole_file::replace(path, json.as_bytes()).with_context(|| format!("tokenizer {}", path.display()))
    }

    /// The text of a `tokenizer.json`.
    ///
    /// # Errors
    /// What the library can't write.
    pub(crate) fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(|e| anyhow!(e))
    }

    fn new(mut inner: tokenizers::Tokenizer, names: &SpecialTokens) -> Result<Self> {
        // Text that spells a special token stays text (invariant 9).
        inner.set_encode_special_tokens(true);
        let fingerprint =
            format!("{:016x}", xxh3_64(inner.to_string(false).map_err(|e| anyhow!(e))?.as_bytes()));
        let mut specials = [None; SPECIALS.len()];
        for (slot, name) in specials.iter_mut().zip(names) {
            *slot = name.as_ref().and_then(|name| inner.token_to_id(name));
            ensure!(
                slot.is_some() == name.is_some(),
                "it lacks the special token {}",
                name.as_deref().unwrap_or("")
            );
        }
        let mut bytes = Vec::new();
        let mut vocab: Vec<_> = inner.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
        vocab.sort_unstable();
        let added = inner.get_added_tokens_decoder();
        let mut controls = Vec::new();
        for (id, token) in vocab {
            bytes.resize(id as usize + 1, Vec::new());
            bytes[id as usize] = match added.get(&id) {
                Some(token) if token.special => {
                    let (name, lstrip, rstrip) = (token.content.clone(), token.lstrip, token.rstrip);
                    controls.push(ControlToken { name, id, lstrip, rstrip });
                    Vec::new()
                }
                Some(token) => token.content.clone().into_bytes(),
                None => bytes_of(&token)?,
            };
        }
        // The longest comes first where one begins another.
        controls.sort_by(|a, b| (b.name.len(), a.id).cmp(&(a.name.len(), b.id)));
        // A foreign file may lack bytes: some text would then have no ids, in the middle of a run.
        let mut byte_ids = vec![None; 256];
        for (id, token) in bytes.iter().enumerate() {
            if let [byte] = token.as_slice() {
                byte_ids[usize::from(*byte)] = Some(id as u32);
            }
        }
        let tokenizer = Self {
            inner,
            specials,
            controls,
            begin: None,
            chat: None,
            picture_marks: None,
            byte_ids,
            bytes,
            fingerprint,
        };
        tokenizer.check_bytes()?;
        tokenizer.check_texts()?;
        Ok(tokenizer)
    }

    /// Refuses a tokenizer by which text becomes another text or a special token.
    fn check_texts(&self) -> Result<()> {
        for control in &self.controls {
            let name = &control.name;
            for text in [name.clone(), format!("a {name} b")] {
                let ids = self.encode(&text);
                let spelt = ids.iter().any(|&id| self.control_name(id).is_some());
                ensure!(!spelt, "text that spells {name} becomes that token: a caption could end a document");
            }
        }
        let mut sample = NormalizedString::from(SAMPLE);
        if let Some(normalizer) = self.inner.get_normalizer() {
            normalizer.normalize(&mut sample).map_err(|e| anyhow!(e))?;
        }
        let (back, sample) = (self.decode(&self.encode(SAMPLE)), sample.get());
        ensure!(back == sample, "it changes texts: {SAMPLE:?} comes back as {back:?}");
        Ok(())
    }

    /// Every byte of a letter needs a token. SmolLM2 has none for some control characters and for the
    /// planes of Unicode without letters; such are left out of texts, as by transformers.
    fn check_bytes(&self) -> Result<()> {
        let never = |byte: u8| matches!(byte, 0xC0 | 0xC1 | 0xF1 | 0xF2 | 0xF4..) || byte.is_ascii_control();
        let needed = |byte: &u8| !never(*byte) || byte.is_ascii_whitespace() && *byte != 0x0C;
        let missing = (0..=u8::MAX).filter(needed).find(|&byte| self.byte_ids[usize::from(byte)].is_none());
        if let Some(byte) = missing {
            bail!("not a byte-level BPE: some bytes have no token, such as {byte:#04x}");
        }
        Ok(())
    }

    /// The ids of a text. A long one is taken in blocks, since the library needs a hundred times the memory
    /// of the text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let (mut ids, mut rest) = (Vec::new(), text);
        loop {
            let block;
            (block, rest) = rest.split_at(block_end(rest));
            match self.inner.encode_fast(block, false) {
                Ok(encoding) => ids.extend_from_slice(encoding.get_ids()),
                // A foreign file's pattern for words gives up on some texts.
                Err(_) => ids.extend(block.bytes().filter_map(|byte| self.byte_ids[usize::from(byte)])),
            }
            if rest.is_empty() {
                return ids;
            }
        }
    }

    /// The text of ids, without the special tokens; U+FFFD where the bytes are no text.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bytes(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes of a token: often a part of a character only. None for a special token.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// The id of a special token.
    ///
    /// # Panics
    /// For a role where a chat template writes conversations ([`Self::lay_out`] asks for none then).
    pub fn id(&self, special: Special) -> u32 {
        self.specials[special as usize].expect("roles have no token where a chat template writes them")
    }

    /// The ids of the special tokens that this program uses, by its own names.
    pub fn special_ids(&self) -> BTreeMap<&'static str, u32> {
        let own = SPECIALS.iter().zip(&self.specials).filter_map(|((_, name), id)| Some((*name, (*id)?)));
        let marks = self.picture_marks.iter().flat_map(|_| PICTURE_MARKS);
        own.chain(marks.filter_map(|name| Some((name, self.inner.token_to_id(name)?)))).collect()
    }

    /// What stands around the image tokens of a picture; `None`: nothing.
    pub fn picture_marks(&self) -> Option<PictureMarks> {
        self.picture_marks
    }

    /// How the file spells a token that no text becomes; `None` for every other.
    pub fn control_name(&self, id: u32) -> Option<&str> {
        let bytes = self.bytes.get(id as usize)?;
        let control = || self.controls.iter().find(|control| control.id == id);
        bytes.is_empty().then(control)?.map(|control| control.name.as_str())
    }

    /// The token that no text becomes by which `text` begins.
    pub(crate) fn control_token(&self, text: &str) -> Option<&ControlToken> {
        self.controls.iter().find(|control| text.starts_with(&control.name))
    }

    /// The text with the character `mark` inside of everything that spells a token that no text becomes.
    pub(crate) fn marked(&self, text: &str, mark: char) -> String {
        let mut out = String::with_capacity(text.len());
        for (place, letter) in text.char_indices() {
            out.push(letter);
            if self.control_token(&text[place..]).is_some() {
                out.push(mark);
            }
        }
        out
    }

    /// The token that is put before each text, where the model wants one.
    pub fn begin(&self) -> Option<u32> {
        self.begin
    }

    /// What writes conversations; `None`: this program's own form.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat.as_ref().map(|(template, _)| template)
    }

    /// The token by which an answer ends.
    pub fn turn_end(&self) -> u32 {
        self.chat.as_ref().map_or_else(|| self.id(Special::End), |(_, end)| *end)
    }

    /// Whether an answer ends with this token: that of a turn or of a text.
    pub fn is_end(&self, id: u32) -> bool {
        id == self.turn_end() || id == self.id(Special::End)
    }

    /// Number of ids: one more than the largest.
    pub fn vocab(&self) -> usize {
        self.bytes.len()
    }

    /// A hash of the whole tokenizer, in 16 hexadecimal digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// Where the first block of a text ends: before a space after a word, where no token of a usual tokenizer
/// goes on.
fn block_end(text: &str) -> usize {
    if text.len() <= BLOCK {
        return text.len();
    }
    let start = &text.as_bytes()[..BLOCK];
    let cut = start.windows(2).rposition(|pair| pair[0].is_ascii_graphic() && pair[1] == b' ');
    cut.map_or_else(|| text.floor_char_boundary(BLOCK), |before| before + 1)
}

/// Undoes GPT-2's map of bytes to printable characters.
fn bytes_of(token: &str) -> Result<Vec<u8>> {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let byte = |c: char| match u32::from(c) {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(printable),
        code => (0..=u8::MAX).filter(|b| !printable(b)).nth(code as usize - 0x100),
    };
    match token.chars().map(byte).collect() {
        Some(bytes) => Ok(bytes),
        None => bail!("not a byte-level BPE: its token {token:?} is not written in GPT-2's bytes"),
    }
}
