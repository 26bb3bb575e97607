//! The language model of a run as GGUF, and encoder and connector beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mm1_data::chat;
use mm1_data::document::Special;
use mm1_data::gguf_tokenizer::GgufTokenizer;
use mm1_data::image::Tiling;
use mm1_data::text_file;
use mm1_data::tokenizer::{EMPTY_LINE, Tokenizer};
use mm1_model::compute::on_pool;
use mm1_model::export::{ExportForm, check_connector};
use mm1_model::gguf::{
    GgufLanguageModel, GgufProjector, ProjectorForm, StoredTokenizer, TensorType, write_language_model,
    write_projector,
};
use serde_json::json;

use super::{ExportArgs, StoredAs};
use crate::error::input;
use crate::output::print_json;
use crate::recipe::Stage;
use crate::stored_tokenizer;
use crate::trained::RunModel;

/// What GGUF calls a token that is neither special nor unused.
const NORMAL: i64 = 1;

/// Writes the file, and the one beside it.
///
/// # Errors
/// See [`super::export`].
pub(super) fn export(args: &ExportArgs, found: &RunModel, context: usize) -> Result<()> {
    // The layers between its blocks change what it makes of text, too.
    input(check_connector(&found.recipe.model.connector))?;
    let beside = input(ProjectorFile::of(args, found))?;
    let tokenizer = input(stored(args, found))?;
    let matrices = tensor_type(args.numbers.unwrap_or(StoredAs::F16));
    let (lm, config, name) = (&found.model.lm, &found.recipe.model.lm, &found.recipe.name);
    let model = GgufLanguageModel { lm, config, tokenizer: &tokenizer, name, context, matrices };
    input(on_pool(|| write_language_model(&args.out, &model)))?;
    if let ProjectorFile::Written(form, path) = &beside {
        let pixels = [found.recipe.image.mean, found.recipe.image.std];
        let projector = GgufProjector { model: &found.model, form: *form, name, pixels, matrices };
        input(on_pool(|| write_projector(path, &projector)))?;
    }
    tell(args, found, (&beside, context))
}

fn tell(args: &ExportArgs, found: &RunModel, (beside, context): (&ProjectorFile, usize)) -> Result<()> {
    let bytes = std::fs::metadata(&args.out)?.len();
    let (path, why): (_, Option<&str>) = match beside {
        ProjectorFile::Written(_, path) => (Some(path), None),
        ProjectorFile::LeftOut(why) => (None, Some(why)),
    };
    if args.json {
        let left_out: &[&str] = if path.is_some() { &[] } else { &["vision", "connector"] };
        return print_json(&json!({
            "file": args.out, "projector": path, "bytes": bytes, "stage": found.stage.name(),
            "context": context, "left_out": left_out, "why_left_out": why,
        }));
    }
    println!("{}: the language model of stage {}, {bytes} bytes", args.out.display(), found.stage.name());
    match beside {
        ProjectorFile::Written(_, path) => {
            println!("{}: its image encoder and connector, for llama.cpp's --mmproj", path.display());
        }
        ProjectorFile::LeftOut(why) => println!("its image encoder and connector are left out: {why}"),
    }
    Ok(())
}

/// What becomes of image encoder and connector.
enum ProjectorFile {
    /// They are written in this form, to this file.
    Written(ProjectorForm, PathBuf),
    /// They are not, for this reason.
    LeftOut(&'static str),
}

impl ProjectorFile {
    fn of(args: &ExportArgs, found: &RunModel) -> Result<Self> {
        let form = match found.recipe.export {
            ExportForm::Own => {
                return Ok(Self::LeftOut(
                    "llama.cpp has none of the form of a run without export = \"idefics3\" or \"llava\"",
                ));
            }
            ExportForm::Idefics3 => ProjectorForm::Idefics3 { longest_side: longest_side(found) },
            ExportForm::Llava => ProjectorForm::Llava,
        };
        Ok(match form.obstacle(&found.recipe.model)? {
            Some(why) => Self::LeftOut(why),
            None => Self::Written(form, projector_file(&args.out)?),
        })
    }
}

/// The side of a picture before tiles are cut, in pixels. llama.cpp always cuts some: of a model that was
/// trained without, one that shows all.
fn longest_side(found: &RunModel) -> usize {
    let image = found.recipe.image_spec();
    match image.config.tiling {
        Tiling::Idefics3 { longest, .. } => longest as usize * image.size,
        _ => image.size,
    }
}

fn tensor_type(numbers: StoredAs) -> TensorType {
    match numbers {
        StoredAs::F32 => TensorType::F32,
        StoredAs::F16 => TensorType::F16,
        StoredAs::Bf16 => TensorType::BF16,
        StoredAs::Q8_0 => TensorType::Q8_0,
    }
}

/// Where encoder and connector go beside the file `out`.
fn projector_file(out: &Path) -> Result<PathBuf> {
    let name = out.file_name().with_context(|| format!("--out {}: it names no file", out.display()))?;
    let path = out.with_file_name(format!("mmproj-{}", name.to_string_lossy()));
    ensure!(!path.exists(), "{}: it is there already", path.display());
    Ok(path)
}

/// The tokenizer as the file has it, with what ends an answer, and how conversations are written.
fn stored(args: &ExportArgs, found: &RunModel) -> Result<StoredTokenizer> {
    let tokenizer: &Tokenizer = &found.tokenizer;
    let json = text_file::read(&args.run.join("tokenizer.json"))?;
    let mut ids = BTreeMap::from([
        ("eos".to_owned(), tokenizer.turn_end()),
        ("eot".to_owned(), tokenizer.turn_end()),
        ("padding".to_owned(), tokenizer.id(Special::Pad)),
    ]);
    ids.extend(tokenizer.begin().map(|id| ("bos".to_owned(), id)));
    let mut stored = GgufTokenizer::of_json(&json, ids).context("tokenizer.json")?;
    stored.switches.insert("add_bos_token".to_owned(), tokenizer.begin().is_some());
    stored.chat_template = match tokenizer.chat_template() {
        Some(template) => Some(template.source().to_owned()),
        None => matches!(found.stage, Stage::Sft(_)).then(|| chat::TEMPLATE.to_owned()),
    };
    if found.recipe.export == ExportForm::Idefics3 {
        name_empty_line(&mut stored, tokenizer);
    }
    Ok(stored_tokenizer::for_file(stored))
}

/// Between a tile and the whole llama.cpp puts the token of an empty line, and refuses the prompt where there
/// is none. A vocabulary without one has a token that nothing else uses; text never becomes it, since no
/// merge makes it.
fn name_empty_line(stored: &mut GgufTokenizer, tokenizer: &Tokenizer) {
    let unused = tokenizer.special_ids().get("<end_of_utterance>").map(|&id| id as usize);
    let Some(unused) = unused.filter(|_| !stored.tokens.iter().any(|token| token == EMPTY_LINE)) else {
        return;
    };
    EMPTY_LINE.clone_into(&mut stored.tokens[unused]);
    if let Some(kind) = stored.token_types.get_mut(unused) {
        *kind = NORMAL;
    }
}
