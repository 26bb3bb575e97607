//! [`Tokenizer`]: byte-level BPE, or that of SentencePiece, in the standard `tokenizer.json`.

mod check;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use xxhash_rust::xxh3::xxh3_64;

use crate::chat_template::ChatTemplate;
pub use crate::control_token::ControlToken;
use crate::control_token::ControlTokens;
use crate::document::Special;
pub use crate::special_token::{EMPTY_LINE, PictureMarks};
use crate::special_token::{PICTURE_MARKS, SPECIALS, SpecialTokens};
use crate::token_form::{TextPlace, TokenForm};
use crate::{text_file, tokenizer_file, whole_file};

/// The smallest vocabulary: the special tokens and every byte.
const LEAST: usize = SPECIALS.len() + 256;

/// Bytes of a long text that are encoded at once.
// Rejected: whole texts. The library needs a hundred times the memory of a text while it encodes it.
const BLOCK: usize = 64 << 10;

/// Text to token ids and back. Words are cut as in GPT-2, so that " word" can be one token, or as the file of
/// another program says. Text that spells a special token stays text.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// How its tokens spell bytes and spaces.
    form: TokenForm,
    /// In the order of [`Special`].
    specials: [Option<u32>; SPECIALS.len()],
    /// The tokens that no text becomes: those of `specials` and others of the file.
    controls: ControlTokens,
    /// Put before each text, but where a chat template writes it.
    begin: Option<u32>,
    /// How conversations are written, if not in this program's own form.
    chat: Option<TemplatedChat>,
    /// Whether pictures stand between Idefics3's marks.
    marks_pictures: bool,
    /// The id of each byte as a token of its own, if it has one.
    byte_ids: Vec<Option<u32>>,
    /// The bytes of each id; none for a special token and for an id that is not in use.
    bytes: Vec<Vec<u8>>,
    /// Of the whole file as the library writes it, and of the chat template.
    fingerprint: String,
}

/// What is known of a chat template and its answers.
#[derive(Clone, Debug)]
pub(crate) struct TemplatedChat {
    pub(crate) template: ChatTemplate,
    /// The token by which it ends an answer.
    pub(crate) end: u32,
    /// White space that it writes between what asks for an answer and the answer; often nothing.
    pub(crate) lead: String,
    /// Where an answer stands.
    pub(crate) place: TextPlace,
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
        Self::new(inner, TokenForm::ByteLevel, &names)
    }

    /// Reads a `tokenizer.json`, of this program or another. Special tokens that it lacks get the id of a
    /// token for the same use, of a reserved one, or a new one: [`Self::special_ids`]. Conversations are
    /// written in this program's own form.
    ///
    /// # Errors
    /// One line that names the file and the field: a tokenizer that is neither a byte-level BPE nor a BPE of
    /// SentencePiece, changes texts, or lets text become a special token; one of this program that lacks a
    /// special token.
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
        Ok(Self { begin: file.begin, ..Self::new(inner, file.form, &file.specials)? })
    }

    /// The same with conversations written by a template.
    pub(crate) fn templated(self, chat: TemplatedChat) -> Self {
        let (tokens, source) = (chat.template.tokens(), chat.template.source());
        let all = format!("{}\0{tokens:?}\0{source}", self.fingerprint);
        Self { fingerprint: format!("{:016x}", xxh3_64(all.as_bytes())), chat: Some(chat), ..self }
    }

    /// The same with the tokens by which Idefics3 marks pictures, among the image tokens of each
    /// ([`crate::picture_tokens`]). What is missing gets the id of a reserved token, or a new one.
    ///
    /// # Errors
    /// A tokenizer that can't have more tokens.
    pub fn with_picture_marks(self, marks: PictureMarks) -> Result<Self> {
        let json = tokenizer_file::with_picture_marks(&self.to_json()?, marks)?;
        let mut marked = Self::read(&json, self.chat.is_none())?;
        if let Some(chat) = self.chat {
            marked = marked.templated(chat);
        }
        Ok(Self { marks_pictures: true, ..marked })
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

    fn new(mut inner: tokenizers::Tokenizer, form: TokenForm, names: &SpecialTokens) -> Result<Self> {
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
        let mut tokenizer = Self {
            inner,
            form,
            specials,
            controls: ControlTokens::default(),
            begin: None,
            chat: None,
            marks_pictures: false,
            byte_ids: vec![None; 256],
            bytes: Vec::new(),
            fingerprint,
        };
        tokenizer.list_tokens()?;
        tokenizer.check()?;
        Ok(tokenizer)
    }

    /// Notes for each id what it stands for.
    fn list_tokens(&mut self) -> Result<()> {
        let mut vocab: Vec<_> =
            self.inner.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
        vocab.sort_unstable();
        let added = self.inner.get_added_tokens_decoder();
        let mut controls = Vec::new();
        for (id, token) in vocab {
            let bytes = match added.get(&id) {
                Some(token) if token.special => {
                    let (name, lstrip, rstrip) = (token.content.clone(), token.lstrip, token.rstrip);
                    controls.push(ControlToken { name, id, lstrip, rstrip });
                    Vec::new()
                }
                // As SentencePiece's decoder has it, a `▁` in it is a space too.
                Some(token) if self.form == TokenForm::ByteLevel => token.content.clone().into_bytes(),
                _ => self.form.bytes_of(&token)?,
            };
            // A foreign file may lack bytes: some text would then have no ids, in the middle of a run.
            if let [byte] = bytes.as_slice() {
                self.byte_ids[usize::from(*byte)] = Some(id);
            }
            self.bytes.resize(id as usize + 1, Vec::new());
            self.bytes[id as usize] = bytes;
        }
        self.controls = ControlTokens::new(controls);
        Ok(())
    }

    /// The ids of a text by itself.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_at(text, TextPlace::Start)
    }

    /// The ids of a text that stands in this place. A long one is taken in blocks, since the library needs a
    /// hundred times the memory of the text.
    pub(crate) fn encode_at(&self, text: &str, mut place: TextPlace) -> Vec<u32> {
        let (mut ids, mut rest) = (Vec::new(), text);
        loop {
            let block;
            (block, rest) = rest.split_at(block_end(rest));
            match self.form.encode(&self.inner, block, place) {
                Ok(encoded) => ids.extend(encoded),
                // A foreign file's pattern for words gives up on some texts.
                Err(_) => ids.extend(block.bytes().filter_map(|byte| self.byte_ids[usize::from(byte)])),
            }
            if rest.is_empty() {
                return ids;
            }
            place = TextPlace::AfterText;
        }
    }

    /// The text of ids by themselves, without the special tokens; U+FFFD where the bytes are no text. Without
    /// its first space if [`Self::strips_first_space`].
    pub fn decode(&self, ids: &[u32]) -> String {
        let text = self.text(ids);
        match text.strip_prefix(' ').filter(|_| self.strips_first_space()) {
            Some(rest) => rest.to_owned(),
            None => text,
        }
    }

    /// The text of ids amid others.
    pub(crate) fn text(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bytes(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether a text that begins with a space stands for one that does not, as with SentencePiece, which
    /// puts that space before texts.
    pub fn strips_first_space(&self) -> bool {
        self.form.strips()
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
        let marks = PICTURE_MARKS.into_iter().filter(|_| self.marks_pictures);
        own.chain(marks.filter_map(|name| Some((name, self.inner.token_to_id(name)?)))).collect()
    }

    /// Whether pictures stand between Idefics3's marks.
    pub(crate) fn marks_pictures(&self) -> bool {
        self.marks_pictures
    }

    /// How the file spells a token that no text becomes; `None` for every other.
    pub fn control_name(&self, id: u32) -> Option<&str> {
        self.controls.of_id(id).map(|control| control.name.as_str())
    }

    /// The token that no text becomes by which `text` begins.
    pub(crate) fn control_token(&self, text: &str) -> Option<&ControlToken> {
        self.controls.first_of(text)
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
        self.chat.as_ref().map(|chat| &chat.template)
    }

    /// The same with what is known of its answers.
    pub(crate) fn templated_chat(&self) -> Option<&TemplatedChat> {
        self.chat.as_ref()
    }

    /// The token by which an answer ends.
    pub fn turn_end(&self) -> u32 {
        self.chat.as_ref().map_or_else(|| self.id(Special::End), |chat| chat.end)
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
