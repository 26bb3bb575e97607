//! A `tokenizer.json` of another program, before the library reads it: what would cut, fill or change a text
//! is taken out where that is harmless, and refused where the file would then mean something else.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::sentence_piece;
use crate::special_token::{self, AddedEntry, PictureMarks, SpecialTokens};
use crate::token_form::{SpacePrefix, TokenForm};
use crate::tokenizer_part::{check_cut, kind, steps};

/// The largest file that is read.
const MAX_FILE: usize = 256 << 20;
/// The largest id: memory is taken for each up to it.
const MAX_ID: u64 = 1 << 22;
/// The longest name of an added token, in bytes. One of 64 KiB took ten seconds, where it is looked for.
const MAX_NAME: usize = 1024;

/// A file that the library may read.
pub(crate) struct CleanedFile {
    /// The file without what a training run does for itself: truncation, padding, and the dropout of merges.
    pub(crate) json: Vec<u8>,
    pub(crate) form: TokenForm,
    pub(crate) specials: SpecialTokens,
    /// The token that the model wants before each text, as Llama 3 does.
    pub(crate) begin: Option<u32>,
    /// Every added token and its id as the file has it.
    pub(crate) added: Vec<(String, u32)>,
}

/// The `tokenizer.json` `text`, as the library writes it, with the tokens that mark pictures.
///
/// # Errors
/// As [`cleaned`]; as [`special_token::add_picture_marks`].
pub(crate) fn with_picture_marks(text: &str, marks: PictureMarks) -> Result<String> {
    let mut file: Value = serde_json::from_str(text)?;
    let added = check_added(&file["added_tokens"])?;
    special_token::add_picture_marks(&mut file, &added, marks)?;
    Ok(file.to_string())
}

/// Cleans the file `text`, and gives ids to the special tokens of this program; to those of roles where
/// conversations are written in its own form (`with_roles`).
///
/// # Errors
/// One line that names the field: no JSON, neither a byte-level BPE nor one of SentencePiece, a normaliser
/// that changes texts, a step that drops or adds text, an id beyond the limit, a tokenizer of this program
/// that lacks a special token.
pub(crate) fn cleaned(text: &str, with_roles: bool) -> Result<CleanedFile> {
    ensure!(text.len() <= MAX_FILE, "a file of {} bytes; the limit is {MAX_FILE}", text.len());
    ensure!(
        !text.starts_with("version https://git-lfs"),
        "a pointer of Git LFS, not the file itself: fetch it by `git lfs pull`"
    );
    let mut file: Value = serde_json::from_str(text)
        .ok()
        .filter(Value::is_object)
        .context("not a JSON object: it is cut short, or no tokenizer.json")?;
    for field in ["truncation", "padding"] {
        file[field] = Value::Null;
    }
    let form = match sentence_piece::form(&file)? {
        Some(form) => form,
        None => clean_byte_level(&mut file)?,
    };
    let begin = begin_token(&file["post_processor"])?;
    if form != TokenForm::ByteLevel || kind(&file["post_processor"]) != "ByteLevel" {
        // What else it would add, this program adds by itself.
        file["post_processor"] = begin.as_ref().map_or(Value::Null, |(name, id)| begins_with(name, *id));
    }
    clean_model(&mut file["model"])?;
    let added = check_added(&file["added_tokens"])?;
    let specials = special_token::assign(&mut file, &added, with_roles)?;
    let added = check_added(&file["added_tokens"])?;
    if !with_roles {
        check_found(form, &file["added_tokens"])?;
    }
    Ok(CleanedFile {
        json: serde_json::to_vec(&file)?,
        form,
        specials,
        begin: begin.map(|(_, id)| id),
        added: added.into_iter().map(|token| (token.content, token.id)).collect(),
    })
}

/// Where `▁` is put before each text, a special token that is searched for in the text with it is found
/// behind a space alone: by transformers a template's tokens would be letters.
fn check_found(form: TokenForm, added: &Value) -> Result<()> {
    let TokenForm::SentencePiece { prefix: SpacePrefix::Prepend, .. } = form else { return Ok(()) };
    let lost = |token: &&Value| token["special"] == json!(true) && token["normalized"] == json!(true);
    if let Some(token) = added.as_array().into_iter().flatten().find(lost) {
        bail!(
            "added_tokens: {} is `normalized`, so that a chat template can't write it: set that to false, or \
             tokenizer.chat = \"own\"",
            token["content"]
        );
    }
    Ok(())
}

/// Checks the parts of a byte-level BPE that make words of texts.
fn clean_byte_level(file: &mut Value) -> Result<TokenForm> {
    clean_normalizer(&mut file["normalizer"])?;
    check_words(&file["pre_tokenizer"])?;
    // Ours makes text of tokens by their bytes.
    if kind(&file["decoder"]) != "ByteLevel" {
        file["decoder"] =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    }
    Ok(TokenForm::ByteLevel)
}

/// Qwen's normaliser is kept: NFC writes the same text by the same code points. Others change the text.
fn clean_normalizer(part: &mut Value) -> Result<()> {
    let steps = steps(part, "normalizers");
    if let Some(other) = steps.iter().find(|step| kind(step) != "NFC") {
        bail!(
            "normalizer: {} changes texts before they are tokenised: take a tokenizer without one, or with \
             NFC",
            kind(other)
        );
    }
    *part = if steps.is_empty() { Value::Null } else { json!({"type": "NFC"}) };
    Ok(())
}

/// The token that a post-processor puts before a text.
fn begin_token(part: &Value) -> Result<Option<(String, u32)>> {
    for step in steps(part, "processors").iter().filter(|step| kind(step) == "TemplateProcessing") {
        let Some(name) = step["single"][0]["SpecialToken"]["id"].as_str() else { continue };
        let id = &step["special_tokens"][name]["ids"][0];
        check_id(name, id).context("post_processor")?;
        return Ok(id.as_u64().and_then(|id| u32::try_from(id).ok()).map(|id| (name.to_owned(), id)));
    }
    Ok(None)
}

/// The post-processor that puts one token before a text.
fn begins_with(name: &str, id: u32) -> Value {
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let begin = json!({"SpecialToken": {"id": name, "type_id": 0}});
    json!({
        "type": "TemplateProcessing",
        "single": [begin.clone(), text("A")],
        "pair": [begin, text("A"), text("B")],
        "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]}},
    })
}

/// What the library says of a file that it can't read, by field.
pub(crate) fn in_words(message: &str) -> String {
    let untagged = message.split_once("untagged enum ").map(|(_, name)| name);
    let what = match untagged.map(|name| name.split_whitespace().next().unwrap_or_default()) {
        Some("MergeType") => {
            "model.merges: each is a list of two tokens, or a text of two with a space between them"
        }
        Some("ModelUntagged" | "ModelWrapper") => {
            "model: a BPE is a table of `vocab` (tokens with their ids) and `merges`"
        }
        Some("PreTokenizerWrapper") => "pre_tokenizer: a step that is not known",
        Some(_) => "a part of a form that is not known",
        None => message,
    };
    format!("not a tokenizer.json of Hugging Face's library: {what}")
}

/// Checks how texts are cut into words: no letter may be dropped or added.
fn check_words(part: &Value) -> Result<()> {
    let steps = steps(part, "pretokenizers");
    ensure!(
        steps.iter().any(|step| kind(step) == "ByteLevel"),
        "pre_tokenizer: {}, neither of a byte-level BPE (ByteLevel) nor of SentencePiece (Metaspace)",
        kind(part)
    );
    for step in steps {
        if kind(step) == "ByteLevel" {
            ensure!(
                step["add_prefix_space"] != json!(true),
                "pre_tokenizer: add_prefix_space = true puts a space before each text: take a tokenizer \
                 without it"
            );
        } else {
            check_cut(step, "Split, Digits and ByteLevel")?;
        }
    }
    Ok(())
}

fn clean_model(model: &mut Value) -> Result<()> {
    // Old files have no type; only BPE has merges.
    let merges = model["merges"].is_array() && model["vocab"].is_object();
    ensure!(
        merges && matches!(kind(model), "BPE" | "nothing"),
        "model: {}, not a BPE with vocab and merges",
        kind(model)
    );
    model["dropout"] = Value::Null;
    for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
        let written = model[field].as_str().unwrap_or_default();
        ensure!(
            written.is_empty(),
            "model.{field} = {written:?}: neither a byte-level BPE nor SentencePiece has one"
        );
        model[field] = Value::Null;
    }
    let vocab = model["vocab"].as_object().into_iter().flatten();
    for (token, id) in vocab {
        check_id(token, id)?;
    }
    Ok(())
}

fn check_id(token: &str, id: &Value) -> Result<()> {
    let number = id.as_u64().with_context(|| format!("the id of {token:?} is {id}, not a whole number"))?;
    ensure!(number <= MAX_ID, "the id of {token:?} is {number}; the limit is {MAX_ID}");
    Ok(())
}

/// The tokens beside the vocabulary, checked.
fn check_added(added: &Value) -> Result<Vec<AddedEntry>> {
    let added = added.as_array().context("added_tokens: there are none, so no special tokens")?;
    let entry = |token: &Value| {
        let content = token["content"].as_str().context("added_tokens: one without content")?.to_owned();
        ensure!(!content.is_empty(), "added_tokens: one with empty content");
        let bytes = content.len();
        ensure!(bytes <= MAX_NAME, "added_tokens: one of {bytes} bytes; the limit is {MAX_NAME}");
        check_id(&content, &token["id"])?;
        let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok()).unwrap_or_default();
        Ok(AddedEntry { content, id, special: token["special"] == json!(true) })
    };
    added.iter().map(entry).collect()
}
