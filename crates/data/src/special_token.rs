//! The special tokens of this program in a `tokenizer.json`, of this program or another: [`assign`].

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::document::Special;
use crate::image::Tiling;

/// The special tokens as `tokenizer.json` spells them; a trained tokenizer gives them the first ids, in this
/// order.
pub(crate) const SPECIALS: [(Special, &str); 6] = [
    (Special::Pad, "<|pad|>"),
    (Special::End, "<|end|>"),
    (Special::Image, "<|image|>"),
    (Special::User, "<|user|>"),
    (Special::Assistant, "<|assistant|>"),
    (Special::System, "<|system|>"),
];

/// The special tokens of a tokenizer, by their names in its file, in the order of [`Special`]; none for a
/// role where a chat template writes conversations.
pub(crate) type SpecialTokens = [Option<String>; SPECIALS.len()];

/// The tokens by which Idefics3's processor marks a picture: around each view, and before that of the whole.
/// It adds the third by itself where it is missing, so it must have a row too.
pub(crate) const PICTURE_MARKS: [&str; 3] =
    ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>"];

/// How a byte-level BPE spells an empty line.
pub const EMPTY_LINE: &str = "\u{10a}\u{10a}";
/// The same of the end of a line.
const LINE_END: &str = "\u{10a}";

/// The tokens by which Idefics3's processor marks pictures whose tiles lie in so many rows and columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureMarks {
    /// The most tiles along a side of a picture; 0, where none is cut.
    pub most_tiles: u32,
}

impl PictureMarks {
    /// Those of the pictures that `tiling` cuts into tiles of `size` pixels a side.
    pub fn of(tiling: &Tiling, size: usize) -> Self {
        let sides = tiling.grids(size).into_iter().map(|grid| grid.rows.max(grid.columns));
        Self { most_tiles: sides.max().unwrap_or(0) }
    }

    /// How many tokens a vocabulary may have to be given for them.
    pub fn most_new(self) -> usize {
        self.names().len() + usize::from(self.most_tiles > 0)
    }

    /// By their names, but for the empty line before the view of the whole.
    fn names(self) -> Vec<String> {
        let sides = 1..=self.most_tiles;
        let tiles = sides.clone().flat_map(|row| sides.clone().map(move |column| tile_mark(row, column)));
        PICTURE_MARKS.map(ToOwned::to_owned).into_iter().chain(tiles).collect()
    }
}

/// The mark before the tile in this row and column, from 1.
pub(crate) fn tile_mark(row: u32, column: u32) -> String {
    format!("<row_{row}_col_{column}>")
}

/// How the processors of transformers spell the image token.
pub(crate) const IMAGE_ELSEWHERE: &str = "<image>";

/// A token of a file beside the vocabulary of merges.
pub(crate) struct AddedEntry {
    pub(crate) content: String,
    pub(crate) id: u32,
    pub(crate) special: bool,
}

/// How tokenizers of other programs spell a special token that they have.
fn foreign_names(special: Special) -> &'static [&'static str] {
    match special {
        Special::Pad => &["<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|PAD_TOKEN|>"],
        // The end of a text, not of a turn, where there are two.
        Special::End => &["<|end_of_text|>", "<|endoftext|>", "</s>", "<eos>"],
        Special::Image => &["<|image_pad|>", "<image>"],
        Special::User | Special::Assistant | Special::System => &[],
    }
}

/// Whether a special token was left for later uses, by its name: `<|reserved_special_token_7|>`, `<unused7>`,
/// `<|extra_7|>`, `[control_7]`.
fn is_reserved(name: &str) -> bool {
    let plain = name.trim_matches(['<', '>', '|', '[', ']']);
    let word = plain.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
    word != plain && ["control", "reserved", "reserved_special_token", "unused", "extra"].contains(&word)
}

/// Gives each of `marks` an id in `file`: its own, that of a token that the file reserves, or a new one
/// behind all others.
///
/// # Errors
/// An id beyond all limits; as [`add_empty_line`].
pub(crate) fn add_picture_marks(file: &mut Value, added: &[AddedEntry], marks: PictureMarks) -> Result<()> {
    if marks.most_tiles > 0 {
        add_empty_line(file, added)?;
    }
    let mut new = largest(file, added)? + 1..;
    let mut reserved = added.iter().filter(|token| token.special && is_reserved(&token.content));
    for name in marks.names() {
        if added.iter().any(|token| token.content == name) {
            mark(file, &name);
            continue;
        }
        match reserved.next() {
            Some(token) => rename(file, &token.content, &name),
            None => append(file, &name, new.next().context("its ids are too large")?),
        }
    }
    Ok(())
}

/// Behind the tiles of a picture is an empty line, which llama.cpp looks for as one token. A byte-level BPE
/// without one learns it from two ends of lines, which text becomes too. SentencePiece has none.
///
/// # Errors
/// A vocabulary that can't be longer, since added tokens have the ids behind it.
fn add_empty_line(file: &mut Value, added: &[AddedEntry]) -> Result<()> {
    let largest = largest(file, added)?;
    let model = &mut file["model"];
    let there = |token: &str| !model["vocab"][token].is_null();
    if there(EMPTY_LINE) || !there(LINE_END) {
        return Ok(());
    }
    let ids = model["vocab"].as_object().into_iter().flatten().filter_map(|(_, id)| id.as_u64());
    ensure!(
        ids.max() == Some(largest),
        "it has no token of an empty line, which stands behind the tiles of a picture, and can't get one: \
         take another tokenizer, or leave tiling out"
    );
    model["vocab"][EMPTY_LINE] = json!(largest + 1);
    let merges = model["merges"].as_array_mut().context("model.merges is missing")?;
    merges.push(json!([LINE_END, LINE_END]));
    Ok(())
}

/// Gives each special token an id in `file`: that of its own name, of a token for the same use, of one
/// that the file reserves (which then has our name), else a new one behind all others. Padding is seen by
/// nobody, so it may be the end too.
///
/// # Errors
/// A tokenizer of this program that lacks a special token: it is damaged, not foreign.
pub(crate) fn assign(file: &mut Value, added: &[AddedEntry], with_roles: bool) -> Result<SpecialTokens> {
    let own = SPECIALS[..2]
        .iter()
        .zip(0..)
        .all(|((_, name), id)| added.iter().any(|token| token.content == *name && token.id == id));
    let mut new = largest(file, added)? + 1..;
    let mut reserved = added.iter().filter(|token| token.special && is_reserved(&token.content));
    let mut names = SpecialTokens::default();
    for (special, name) in SPECIALS {
        if special.role().is_some() && !with_roles {
            continue;
        }
        let there = |names: &[&str], special: bool| {
            let known = |name: &&&str| added.iter().any(|t| t.content == **name && (t.special || !special));
            names.iter().find(known).map(|name| (*name).to_owned())
        };
        let (ours, others) = (there(&[name], false), there(foreign_names(special), true));
        // Phi-3 ends a turn by `<|end|>`, and a text by `<|endoftext|>`.
        let found = if special == Special::End && !own { others.or(ours) } else { ours.or(others) };
        if let Some(found) = found {
            mark(file, &found);
            names[special as usize] = Some(found);
            continue;
        }
        ensure!(!own, "it lacks the special token {name} among its added_tokens");
        if special == Special::Pad {
            continue;
        }
        match reserved.next() {
            Some(token) => rename(file, &token.content, name),
            None => append(file, name, new.next().context("its ids are too large")?),
        }
        names[special as usize] = Some(name.to_owned());
    }
    if names[Special::Pad as usize].is_none() {
        names[Special::Pad as usize] = names[Special::End as usize].clone();
    }
    Ok(names)
}

/// The largest id.
fn largest(file: &Value, added: &[AddedEntry]) -> Result<u64> {
    let vocab = file["model"]["vocab"].as_object();
    let ids = vocab.into_iter().flatten().filter_map(|(_, id)| id.as_u64());
    ids.chain(added.iter().map(|token| u64::from(token.id))).max().context("it has no tokens")
}

fn entries(file: &mut Value) -> &mut Vec<Value> {
    if !file["added_tokens"].is_array() {
        file["added_tokens"] = json!([]);
    }
    file["added_tokens"].as_array_mut().expect("it was made a list")
}

/// Marks a token as special: text never becomes it then.
fn mark(file: &mut Value, name: &str) {
    for token in entries(file).iter_mut().filter(|token| token["content"] == name) {
        token["special"] = json!(true);
    }
}

/// Gives a reserved token another name, in the vocabulary too if it is there.
pub(crate) fn rename(file: &mut Value, old: &str, new: &str) {
    for token in entries(file).iter_mut().filter(|token| token["content"] == old) {
        token["content"] = json!(new);
    }
    if let Some(vocab) = file["model"]["vocab"].as_object_mut()
        && let Some(id) = vocab.remove(old)
    {
        vocab.insert(new.to_owned(), id);
    }
}

fn append(file: &mut Value, name: &str, id: u64) {
    entries(file).push(json!({
        "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true,
    }));
}
