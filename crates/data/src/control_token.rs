//! [`ControlTokens`]: the tokens that no text becomes, found by name and by id.

use std::collections::{BTreeMap, HashMap};

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

/// All of a tokenizer. A text is searched for them at every letter, and a file may have thousands.
#[derive(Clone, Debug, Default)]
pub(crate) struct ControlTokens {
    tokens: Vec<ControlToken>,
    by_id: HashMap<u32, usize>,
    by_name: HashMap<String, usize>,
    /// Lengths of names in bytes, by the byte that they begin with, the longest first.
    // Rejected: an automaton of all names. Names are of few lengths, and most letters begin none.
    lengths: BTreeMap<u8, Vec<usize>>,
}

impl ControlTokens {
    pub(crate) fn new(tokens: Vec<ControlToken>) -> Self {
        let mut lengths: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for name in tokens.iter().map(|token| token.name.as_bytes()) {
            name.first().into_iter().for_each(|first| lengths.entry(*first).or_default().push(name.len()));
        }
        for lengths in lengths.values_mut() {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
        let numbered = || tokens.iter().enumerate();
        Self {
            by_id: numbered().map(|(at, token)| (token.id, at)).collect(),
            by_name: numbered().map(|(at, token)| (token.name.clone(), at)).collect(),
            lengths,
            tokens,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &ControlToken> {
        self.tokens.iter()
    }

    /// The token of this id.
    pub(crate) fn of_id(&self, id: u32) -> Option<&ControlToken> {
        self.by_id.get(&id).map(|&at| &self.tokens[at])
    }

    /// The token with the longest name by which `text` begins.
    pub(crate) fn first_of(&self, text: &str) -> Option<&ControlToken> {
        let lengths = self.lengths.get(text.as_bytes().first()?)?;
        let named = lengths.iter().find_map(|&length| self.by_name.get(text.get(..length)?))?;
        Some(&self.tokens[*named])
    }
}
