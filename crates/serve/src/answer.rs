//! [`PartialAnswer`]: one answer in the making. [`AnswerText`]: its text, cut at a stop string and shown as
//! it becomes certain.

use std::collections::BTreeMap;

use anyhow::Result;
use mm1_data::text_stream::TextStream;
use mm1_data::tokenizer::Tokenizer;

use crate::grammar::AnswerGrammar;
use crate::input::ModelInput;
use crate::options::AnswerOptions;
use crate::penalties::Penalties;
use crate::sampler::Sampler;

/// Why an answer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// By the token of the end, or a stop string.
    Stop,
    /// It has as many tokens as it may have.
    Length,
}

/// An answer that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedAnswer {
    /// Without the token of the end, and before a stop string.
    pub text: String,
    /// Why it has ended.
    pub finish: Finish,
}

/// A token of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenToken {
    pub(crate) id: u32,
    /// Whether the answer has ended with it.
    pub(crate) finish: Option<Finish>,
}

/// One answer in the making, and what the model has yet to read for its next token.
pub(crate) struct PartialAnswer {
    /// First the prompt, then the token before.
    pub(crate) unread: ModelInput,
    /// The answer so far.
    pub(crate) text: AnswerText,
    /// Whether the text has begun.
    begun: bool,
    sampler: Sampler,
    penalties: Penalties,
    /// How often the answer has each token, where that matters.
    counts: BTreeMap<u32, usize>,
    /// The form of the answer, where it has one.
    grammar: Option<AnswerGrammar>,
    /// At least 1 until the answer is done.
    tokens_left: usize,
}

impl PartialAnswer {
    /// The answer to what `unread` ends with; `stream` numbers its random draws.
    pub(crate) fn new(unread: ModelInput, options: &AnswerOptions, stream: u64) -> Result<Self> {
        Ok(Self {
            unread,
            text: AnswerText::new(&options.stop),
            begun: false,
            sampler: Sampler::new(options.sampling, stream)?,
            penalties: options.penalties,
            counts: BTreeMap::new(),
            grammar: None,
            tokens_left: options.max_tokens,
        })
    }

    /// The same, of this form.
    pub(crate) fn with_grammar(self, grammar: Option<AnswerGrammar>) -> Self {
        Self { grammar, ..self }
    }

    /// Takes the next token from its logits.
    pub(crate) fn take(&mut self, logits: &[f32], tokenizer: &Tokenizer) -> Result<TakenToken> {
        let id = self.choose(logits)?;
        self.tokens_left -= 1;
        let end = tokenizer.is_end(id);
        if let Some(grammar) = self.grammar.as_mut().filter(|_| !end) {
            grammar.take(id)?;
        }
        self.unread = if end { ModelInput::default() } else { ModelInput::token(id) };
        let stopped = !end && self.push(tokenizer.bytes(id), tokenizer.strips_first_space());
        let finish = match end || stopped {
            true => Some(Finish::Stop),
            false => (self.tokens_left == 0).then_some(Finish::Length),
        };
        if finish.is_some() {
            self.text.finish();
        }
        Ok(TakenToken { id, finish })
    }

    fn choose(&mut self, logits: &[f32]) -> Result<u32> {
        let mut changed = None;
        if !self.penalties.is_none() {
            changed = Some(self.penalties.apply(logits, &self.counts));
        }
        if let Some(grammar) = &mut self.grammar {
            changed = Some(grammar.apply(changed.as_deref().unwrap_or(logits))?);
        }
        let id = self.sampler.sample(changed.as_deref().unwrap_or(logits))?;
        if !self.penalties.is_none() {
            *self.counts.entry(id).or_default() += 1;
        }
        Ok(id)
    }

    /// Appends the bytes of a token, without a space before all others where those of a text by itself have
    /// none (`strips`).
    fn push(&mut self, bytes: &[u8], strips: bool) -> bool {
        let first = !self.begun && strips;
        self.begun |= !bytes.is_empty();
        self.text.push(bytes.strip_prefix(b" ").filter(|_| first).unwrap_or(bytes))
    }
}

/// Bytes of tokens to text. The text ends before the first stop string; a piece is only shown when neither a
/// further byte nor a stop string can change it.
pub(crate) struct AnswerText {
    /// Holds back the bytes of a character that is not whole yet.
    stream: TextStream,
    /// Holds no stop string.
    text: String,
    /// Bytes that were shown: a character's boundary, at most `text.len()`, never beyond what is certain.
    shown: usize,
    /// None of them empty.
    stop: Vec<String>,
    /// Whether a stop string was reached: nothing is appended after.
    stopped: bool,
    /// Whether there are no further tokens.
    finished: bool,
}

impl AnswerText {
    pub(crate) fn new(stop: &[String]) -> Self {
        Self {
            stream: TextStream::default(),
            text: String::new(),
            shown: 0,
            stop: stop.to_vec(),
            stopped: false,
            finished: false,
        }
    }

    /// Appends the bytes of a token, and says whether a stop string is reached.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        let more = self.stream.push(bytes);
        self.append(&more);
        self.stopped
    }

    /// There are no further tokens: what was held back is text.
    pub(crate) fn finish(&mut self) {
        if !self.stopped {
            let rest = std::mem::take(&mut self.stream).finish();
            self.append(&rest);
        }
        self.finished = true;
    }

    /// The part of the text that has become certain since the last call.
    pub(crate) fn show(&mut self) -> &str {
        let until = if self.finished { self.text.len() } else { self.certain() };
        let from = std::mem::replace(&mut self.shown, until);
        &self.text[from..until]
    }

    pub(crate) fn into_string(self) -> String {
        self.text
    }

    fn append(&mut self, more: &str) {
        // A stop string that ends in `more` begins at most its own length before.
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0);
        let from = self.text.floor_char_boundary(self.text.len().saturating_sub(longest));
        self.text.push_str(more);
        let first = self.stop.iter().filter_map(|s| self.text[from..].find(s.as_str())).min();
        if let Some(cut) = first {
            self.text.truncate(from + cut);
            self.stopped = true;
        }
    }

    /// Where the longest end of the text begins that a stop string begins with.
    fn certain(&self) -> usize {
        let open = |from: &usize| self.stop.iter().any(|s| s.starts_with(&self.text[*from..]));
        let mut starts = self.text[self.shown..].char_indices().map(|(i, _)| self.shown + i);
        starts.find(open).unwrap_or(self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use mm1_data::document::Segment;

    use super::*;

    /// Tokens to take, and after each whether the answer is done; then what is unread, and the text.
    fn answer(
        ids: &[u32],
        max_tokens: usize,
        stop: &str,
        tokenizer: &Tokenizer,
    ) -> (Vec<bool>, Vec<u32>, String) {
        let stop = vec![stop.to_string()];
        let options = AnswerOptions { stop, ..AnswerOptions::greedy(max_tokens) };
        let mut answer = PartialAnswer::new(ModelInput::token(9), &options, 0).unwrap();
        let take = |id: &u32| {
            let mut logits = vec![0.0; tokenizer.vocab()];
            logits[*id as usize] = 1.0;
            answer.take(&logits, tokenizer).unwrap().finish.is_some()
        };
        let done = ids.iter().map(take).collect();
        (done, answer.unread.ids, answer.text.into_string())
    }

    #[test]
    fn an_answer_ends_at_the_end_token_a_stop_string_or_its_length() {
        let tokenizer = Tokenizer::train(std::iter::empty(), 262).unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|t| tokenizer.encode(t)[0]);
        let end = tokenizer.turn_end();
        assert_eq!(answer(&[a, b, end], 9, ".", &tokenizer), (vec![false, false, true], vec![], "ab".into()));
        assert_eq!(answer(&[end], 9, ".", &tokenizer), (vec![true], vec![], String::new()));
        assert_eq!(answer(&[a, b, c], 9, "bc", &tokenizer), (vec![false, false, true], vec![c], "a".into()));
        assert_eq!(answer(&[a, b, c], 3, ".", &tokenizer), (vec![false, false, true], vec![c], "abc".into()));
    }

    #[test]
    fn the_first_space_of_sentence_piece_is_no_part_of_an_answer() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/import/sentence-piece/tokenizer.json");
        let tokenizer = Tokenizer::load(std::path::Path::new(path)).unwrap();
        let end = tokenizer.turn_end();
        for text in ["the cat", " the cat", "\u{1f600} a"] {
            let ids = [&tokenizer.encode(text)[..], &[end]].concat();
            assert_eq!(answer(&ids, 99, "END", &tokenizer).2, text);
        }
        let going_on = tokenizer.encode_after([&Segment::text("a")].into_iter(), "cat  cat");
        assert_eq!(answer(&going_on, 99, "END", &tokenizer).2, "cat  cat");
    }

    /// The pieces that are shown, token by token, and the whole text.
    fn run(tokens: &[&[u8]], stop: &[&str]) -> (Vec<String>, String) {
        let mut text = AnswerText::new(&stop.iter().map(|s| (*s).to_string()).collect::<Vec<_>>());
        let mut pieces = Vec::new();
        for token in tokens {
            let stopped = text.push(token);
            pieces.push(text.show().to_string());
            if stopped {
                break;
            }
        }
        text.finish();
        pieces.push(text.show().to_string());
        assert_eq!(pieces.concat(), text.text, "the pieces join to the text");
        (pieces, text.into_string())
    }

    #[test]
    fn a_stop_string_in_one_token_cuts_the_text_before_it() {
        assert_eq!(run(&[b"red\nblue"], &["\n"]).1, "red");
        assert_eq!(run(&[b"a", b"b,c.d", b"e"], &[".", ","]).1, "ab");
        assert_eq!(run(&[b"\n"], &["\n"]).1, "");
    }

    #[test]
    fn a_stop_string_over_several_tokens_is_never_shown() {
        let (pieces, text) = run(&[b"one", b" E", b"N", b"D two"], &["END"]);
        assert_eq!(pieces, ["one", " ", "", "", ""]);
        assert_eq!(text, "one ");
    }

    #[test]
    fn what_only_began_like_a_stop_string_is_shown_late() {
        let (pieces, _) = run(&[b"aa", b"b", b"a", b"a"], &["aabc"]);
        assert_eq!(pieces, ["", "", "aab", "", "aa"]);
        assert_eq!(run(&[b"aab", b"aabc"], &["aabc"]).1, "aab");
        assert_eq!(run(&[b"EN"], &["END"]).1, "EN");
    }

    #[test]
    fn a_character_over_several_tokens_is_shown_whole() {
        let smile = "😀".as_bytes();
        let (pieces, text) = run(&[b"a", &smile[..1], &smile[1..3], &smile[3..], b"b"], &[]);
        assert_eq!(pieces, ["a", "", "", "😀", "b", ""]);
        assert_eq!(text, "a😀b");
        // Stop strings of several bytes a character, and one cut by the end of generation.
        assert_eq!(run(&["é".as_bytes(), "üö".as_bytes()], &["ö"]).1, "éü");
        assert_eq!(run(&[b"a", &smile[..2]], &[]).1, "a\u{fffd}");
    }
}
