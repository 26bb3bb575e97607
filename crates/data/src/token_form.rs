//! How a tokenizer writes texts as tokens: [`TokenForm`].

use anyhow::{Result, bail};
use tokenizers::tokenizer::normalizer::Range;
use tokenizers::{Model as _, NormalizedString, PreTokenizer as _};

/// How SentencePiece writes a space.
pub(crate) const SPACE: &str = "\u{2581}";
/// The same as a letter.
const SPACE_LETTER: char = '\u{2581}';

/// Where a text stands: SentencePiece puts a space before some texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextPlace {
    /// Before everything else.
    Start,
    /// Behind a special token or a picture.
    AfterToken,
    /// Behind other text, which it goes on.
    AfterText,
}

/// How tokens spell bytes and spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenForm {
    /// GPT-2's: each byte is a printable character.
    ByteLevel,
    /// SentencePiece's: spaces are `▁`, and what has no token of its own is bytes as `<0x0A>`.
    SentencePiece {
        prefix: SpacePrefix,
        /// Whether the first space of a text is left out when ids become text.
        strips: bool,
    },
}

/// Before which texts SentencePiece puts a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpacePrefix {
    Never,
    /// Before the first text, if no special token is before it and it begins with none.
    First,
    /// Before each text between special tokens that begins with none.
    Always,
    /// Before each text between special tokens, another space or none.
    Prepend,
}

impl TokenForm {
    /// The bytes that a token of the vocabulary stands for.
    ///
    /// # Errors
    /// A token that is not written in GPT-2's bytes, where all are.
    pub(crate) fn bytes_of(self, token: &str) -> Result<Vec<u8>> {
        match self {
            Self::ByteLevel => printed_bytes(token),
            Self::SentencePiece { .. } => Ok(match byte_token(token) {
                Some(byte) => vec![byte],
                None => token.replace(SPACE_LETTER, " ").into_bytes(),
            }),
        }
    }

    /// The ids of a text that stands in this place, by the tokenizer `inner` of this form.
    ///
    /// # Errors
    /// A pattern for words that gives up on the text.
    pub(crate) fn encode(
        self,
        inner: &tokenizers::Tokenizer,
        text: &str,
        place: TextPlace,
    ) -> tokenizers::Result<Vec<u32>> {
        if self.goes_on(text, place) {
            return without_prefix(inner, text);
        }
        Ok(inner.encode_fast(text, false)?.get_ids().to_vec())
    }

    /// Whether the file's tokenizer, which sees the text alone, puts a space before it that is not there in
    /// this place.
    fn goes_on(self, text: &str, place: TextPlace) -> bool {
        let Self::SentencePiece { prefix, .. } = self else { return false };
        let spaced = text.starts_with([' ', SPACE_LETTER]);
        match prefix {
            SpacePrefix::Never => false,
            SpacePrefix::First => place != TextPlace::Start && !spaced,
            SpacePrefix::Always => place == TextPlace::AfterText && !spaced,
            SpacePrefix::Prepend => place == TextPlace::AfterText,
        }
    }

    /// Whether ids become a text without its first space.
    pub(crate) fn strips(self) -> bool {
        matches!(self, Self::SentencePiece { strips: true, .. })
    }

    /// Whether texts need a token for this byte. SmolLM2 has none for some control characters and for the
    /// planes of Unicode without letters; such are left out of texts, as by transformers.
    pub(crate) fn needs(self, byte: u8) -> bool {
        let never = matches!(byte, 0xC0 | 0xC1 | 0xF1 | 0xF2 | 0xF4..) || byte.is_ascii_control();
        match self {
            Self::ByteLevel => !never || byte.is_ascii_whitespace() && byte != 0x0C,
            Self::SentencePiece { .. } => true,
        }
    }
}

/// The steps of the library, without the space that it puts before the first piece.
fn without_prefix(inner: &tokenizers::Tokenizer, text: &str) -> tokenizers::Result<Vec<u32>> {
    let mut pieces = inner.get_added_vocabulary().extract_and_normalize(inner.get_normalizer(), text);
    if let Some(words) = inner.get_pre_tokenizer() {
        words.pre_tokenize(&mut pieces)?;
    }
    // A text that begins with an added token has a first piece that is none of these.
    pieces.split(|number, piece: NormalizedString| {
        let prefixed = number == 0 && piece.get().starts_with(SPACE_LETTER);
        let rest = if prefixed { piece.slice(Range::Normalized(SPACE.len()..)) } else { Some(piece) };
        Ok(rest)
    })?;
    pieces.tokenize(|piece| inner.get_model().tokenize(piece.get()))?;
    let encoding = pieces.into_encoding(None, 0, tokenizers::OffsetType::None)?;
    Ok(encoding.get_ids().to_vec())
}

/// The byte of a token such as `<0x0A>`.
fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>').filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(digits, 16).ok()
}

/// Undoes GPT-2's map of bytes to printable characters.
fn printed_bytes(token: &str) -> Result<Vec<u8>> {
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
