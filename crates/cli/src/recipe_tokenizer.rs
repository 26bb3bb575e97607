//! The tokenizer of a recipe: trained on its sources, or of a file; with what the form of its export asks
//! for.

use anyhow::{Context as _, Result, bail};
use mm1_data::source::Split;
use mm1_data::tokenizer::Tokenizer;

use crate::recipe::check::positive;
use crate::recipe::export_form::picture_marks;
use crate::recipe::{ChatForm, Recipe, TokenizerConfig};
use crate::run_folder::RunFolder;
use crate::sources::Sources;
use crate::tokenizer_file::TokenizerFile;

/// The tokenizer of the recipe; of `read`, if its file was read already. With a `folder` its tokenizer is
/// taken, or trained and kept there.
///
/// # Errors
/// One line with the field: a file that can't be read, a vocabulary that is too small.
pub(crate) fn open(
    recipe: &Recipe,
    sources: &Sources,
    folder: Option<&RunFolder>,
    read: Option<TokenizerFile>,
) -> Result<Tokenizer> {
    let (vocab, documents) = match &recipe.tokenizer {
        TokenizerConfig::File { path, .. } => {
            let tokenizer = stored(recipe, folder, read);
            return tokenizer.with_context(|| format!("tokenizer.path = {}", path.display()));
        }
        TokenizerConfig::Bpe { vocab, documents } => (*vocab, *documents),
    };
    // Before the first step nothing was made with it, and the recipe may be another one now.
    // Another rank has made it a moment ago.
    let begun = folder.filter(|folder| folder.has_results() || !folder.is_own());
    if let Some(path) = begun.map(RunFolder::tokenizer).filter(|p| p.exists()) {
        return marked(Tokenizer::load(&path)?, recipe);
    }
    positive(&[("tokenizer.documents", documents)])?;
    let mut texts = Vec::new();
    for source in sources.iter() {
        let there = source.len(Split::Train).unwrap_or(u64::MAX).min(documents);
        // A damaged sample teaches the tokenizer nothing; the loader counts and lists it.
        texts.extend((0..there).filter_map(|i| source.texts(Split::Train, i).ok()).flatten());
    }
    let tokenizer = match picture_marks(recipe) {
        None => Tokenizer::train(texts.into_iter(), vocab)?,
        // They are a part of the vocabulary that was asked for.
        Some(marks) => Tokenizer::train(texts.into_iter(), vocab.saturating_sub(marks.most_new()))
            .with_context(|| {
                format!("tokenizer.vocab = {vocab}, of which {} mark pictures", marks.most_new())
            })?,
    };
    let tokenizer = marked(tokenizer, recipe)?;
    if let Some(folder) = folder.filter(|folder| folder.is_own()) {
        tokenizer.save(&folder.tokenizer())?;
    }
    Ok(tokenizer)
}

/// The tokenizer with the marks around pictures that the form of the recipe's export asks for.
///
/// # Errors
/// A tokenizer that can't have more tokens.
pub(crate) fn marked(tokenizer: Tokenizer, recipe: &Recipe) -> Result<Tokenizer> {
    match picture_marks(recipe) {
        None => Ok(tokenizer),
        Some(marks) => tokenizer.with_picture_marks(marks),
    }
}

/// The tokenizer of another run or program: of `read`, or else of the recipe's file. The run folder keeps it,
/// with the special tokens that it lacked: whoever talks with the model finds it there.
///
/// # Errors
/// A file that can't be read; a recipe whose tokenizer is to be trained.
pub(crate) fn stored(
    recipe: &Recipe,
    folder: Option<&RunFolder>,
    read: Option<TokenizerFile>,
) -> Result<Tokenizer> {
    let TokenizerConfig::File { path, chat } = &recipe.tokenizer else {
        bail!("tokenizer.kind is not \"file\"")
    };
    let TokenizerFile { json, template } = read.map_or_else(|| TokenizerFile::read(path), Ok)?;
    let template = match chat {
        ChatForm::Own => None,
        ChatForm::Template => {
            Some(template.context("it has no chat template: set tokenizer.chat = \"own\"")?)
        }
    };
    let tokenizer = marked(Tokenizer::from_json(&json, template)?, recipe)?;
    // Once there are results, another file is refused by its hash, and must not be in the place of theirs.
    let first = |folder: &&RunFolder| !folder.has_results() || !folder.tokenizer().exists();
    if let Some(folder) = folder.filter(|folder| folder.is_own()).filter(first) {
        tokenizer.save(&folder.tokenizer())?;
        if let Some(template) = tokenizer.chat_template() {
            template.save(folder.root())?;
        }
    }
    Ok(tokenizer)
}
