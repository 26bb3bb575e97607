//! The parts of a `tokenizer.json` that was made of a SentencePiece model: [`form`].
//!
//! Spaces are written as `▁` by a normaliser (Llama 1 and 2, Mistral 7B v0.1) or by the pre-tokenizer
//! `Metaspace` (Mistral 7B v0.3), and letters without a token become bytes.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use crate::token_form::{SPACE, SpacePrefix, TokenForm};
use crate::tokenizer_part::{check_cut, kind, steps};

/// How the file writes texts as tokens, if it is one of SentencePiece.
///
/// # Errors
/// One line that names the field: a model other than BPE or without bytes, a step that changes texts in
/// another way.
pub(crate) fn form(file: &Value) -> Result<Option<TokenForm>> {
    ensure!(
        kind(&file["model"]) != "Unigram",
        "model: Unigram, as of T5 and XLM-R: of SentencePiece only BPE is read, as of Llama 2 and Mistral 7B"
    );
    let normalizers = steps(&file["normalizer"], "normalizers");
    let words = steps(&file["pre_tokenizer"], "pretokenizers");
    let writes_spaces = |step: &Value| step["content"] == SPACE || step["prepend"] == SPACE;
    if !normalizers.iter().any(writes_spaces) && !words.iter().any(|step| kind(step) == "Metaspace") {
        return Ok(None);
    }
    let prefix = prefix(normalizers, words)?;
    ensure!(
        file["model"]["byte_fallback"] == json!(true),
        "model.byte_fallback is not true: letters without a token would be lost"
    );
    Ok(Some(TokenForm::SentencePiece { prefix, strips: strips(&file["decoder"], prefix)? }))
}

/// Before which texts a space is put.
fn prefix(normalizers: &[Value], words: &[Value]) -> Result<SpacePrefix> {
    for step in normalizers {
        let known = match kind(step) {
            "Prepend" => step["prepend"] == SPACE,
            "Replace" => step["pattern"]["String"] == " " && step["content"] == SPACE,
            _ => false,
        };
        ensure!(
            known,
            "normalizer: {} changes texts before they are tokenised: of SentencePiece `▁` for spaces is read",
            kind(step)
        );
    }
    let mut prefix = SpacePrefix::Never;
    for step in words {
        if kind(step) != "Metaspace" {
            check_cut(step, "Split, Digits and Metaspace")?;
            continue;
        }
        let replacement = &step["replacement"];
        ensure!(*replacement == SPACE, "pre_tokenizer: Metaspace writes spaces as {replacement}, not as `▁`");
        prefix = match step["prepend_scheme"].as_str() {
            Some("first") => SpacePrefix::First,
            Some("never") => SpacePrefix::Never,
            Some("always") | None => SpacePrefix::Always,
            Some(other) => bail!("pre_tokenizer: Metaspace with prepend_scheme = {other:?} is not known"),
        };
    }
    let prepends = normalizers.iter().any(|step| kind(step) == "Prepend");
    Ok(if prepends { SpacePrefix::Prepend } else { prefix })
}

/// Whether the decoder leaves out the first space of a text.
fn strips(decoder: &Value, prefix: SpacePrefix) -> Result<bool> {
    let steps = steps(decoder, "decoders");
    let mut strips = steps.is_empty() && prefix != SpacePrefix::Never;
    for step in steps {
        match kind(step) {
            "Replace" | "ByteFallback" | "Fuse" => {}
            "Metaspace" => strips |= step["prepend_scheme"] != "never",
            "Strip" => {
                let (start, stop) = (&step["start"], &step["stop"]);
                ensure!(
                    step["content"] == " " && *stop == 0 && (*start == 0 || *start == 1),
                    "decoder: Strip takes more than the first space of a text"
                );
                strips |= *start == 1;
            }
            other => bail!("decoder: {other} is not known of SentencePiece"),
        }
    }
    Ok(strips)
}
