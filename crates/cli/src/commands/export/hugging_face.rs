//! The model of a run as a folder that transformers reads.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use mm1_data::chat;
use mm1_data::document::Special;
use mm1_data::tokenizer::Tokenizer;
use mm1_model::adapter::AdapterConfig;
use mm1_model::export::{
    ExportForm, ExportedIds, ExportedModel, FloatType, SHARD_BYTES, check_connector, llava, read_back,
    write_json, write_model,
};
use mm1_model::{Mm1, adapted, peft};
use serde_json::json;

use super::card;
use super::proof::{self, ExportProof};
use super::{ADAPTER, AdapterPlace, ExportArgs, StoredAs};
use crate::error::input;
use crate::new_folder::{self, write_text};
use crate::output::print_json;
use crate::recipe::Stage;
use crate::recipe::export_form::check_tiling;
use crate::stage::model;
use crate::trained::RunModel;

/// Writes the folder, reads it back, and compares what it says with what the run's model does. Only then it
/// gets its name.
///
/// # Errors
/// See [`super::export`].
pub(super) fn export(args: &ExportArgs, found: &RunModel, context: usize) -> Result<()> {
    input(check_connector(&found.recipe.model.connector))?;
    input(check_tiling(found.recipe.export, &found.recipe.image.tiling))?;
    let numbers = input(float_type(args.numbers.unwrap_or(StoredAs::F32)))?;
    let base = match args.adapters {
        AdapterPlace::Merged => None,
        AdapterPlace::Beside => Some(ModelBeside::read(args, found)?),
    };
    let model = base.as_ref().map_or(&found.model, |beside| &beside.base);
    let prepared = found.recipe.export.prepared(model)?;
    let proof = new_folder::write(&args.out, |folder| {
        let ids = ids(&found.tokenizer);
        let (form, shard_bytes) = (found.recipe.export, SHARD_BYTES);
        let exported =
            ExportedModel { model: &prepared, form, numbers: Some(numbers), shard_bytes, context, ids: &ids };
        write_model(folder, &exported)?;
        write_tokenizer(folder, found, context)?;
        if let Some(beside) = &base {
            beside.write_adapters(folder, form, &args.out)?;
        }
        let back = read_back(folder, &exported, numbers).context("what was written can't be read again")?;
        let proof = proof::compare(model, &back, &found.tokenizer, numbers)?;
        write_text(folder, "README.md", &card::model_card(args, found, &proof)?)?;
        Ok(proof)
    })?;
    tell(args, found, &proof)
}

/// The model without its adapters, and with them.
struct ModelBeside<'a> {
    base: Mm1,
    adapted: Mm1,
    config: &'a AdapterConfig,
}

impl<'a> ModelBeside<'a> {
    fn read(args: &ExportArgs, found: &'a RunModel) -> Result<Self> {
        let stage = found.stage.training().context("the stage trains nothing")?;
        let config = stage.adapter.as_ref().context("the stage has no adapters")?;
        let adapted = model::unmerged(&found.recipe, &args.run, stage, found.compute.device())?;
        Ok(Self { base: adapted::base(adapted.clone()), adapted, config })
    }

    /// Writes the adapters beside the model in `folder`, which will be called `out`.
    fn write_adapters(&self, folder: &Path, form: ExportForm, out: &Path) -> Result<()> {
        let base = out.to_string_lossy();
        peft::save_whole(&self.adapted, self.config, form, &base, &folder.join(ADAPTER))
    }
}

fn tell(args: &ExportArgs, found: &RunModel, proof: &ExportProof) -> Result<()> {
    let (form, stage) = (found.recipe.export, found.stage.name());
    if args.json {
        return print_json(&json!({"folder": args.out, "stage": stage, "form": form, "proof": proof}));
    }
    let code = match form {
        ExportForm::Own => "an MM1 with its modelling file, for trust_remote_code=True",
        ExportForm::Idefics3 => "an Idefics3, which needs no code beside it",
        ExportForm::Llava => "a LLaVA, which needs no code beside it",
    };
    println!("{}: the model of stage {stage} as {code}", args.out.display());
    if args.adapters == AdapterPlace::Beside {
        println!("{}: its adapters, for peft", args.out.join(ADAPTER).display());
    }
    println!("{proof}");
    Ok(())
}

fn float_type(numbers: StoredAs) -> Result<FloatType> {
    Ok(match numbers {
        StoredAs::F32 => FloatType::F32,
        StoredAs::F16 => FloatType::F16,
        StoredAs::Bf16 => FloatType::BF16,
        StoredAs::Q8_0 => {
            bail!("--type q8_0: safetensors of transformers have f32, f16 or bf16: take one of them")
        }
    })
}

fn ids(tokenizer: &Tokenizer) -> ExportedIds {
    let mut ends = vec![tokenizer.turn_end(), tokenizer.id(Special::End)];
    ends.dedup();
    ExportedIds {
        image: tokenizer.id(Special::Image),
        pad: tokenizer.id(Special::Pad),
        begin: tokenizer.begin(),
        ends,
    }
}

/// Tokenizer, chat template, and how pictures and prompts are prepared.
fn write_tokenizer(folder: &Path, found: &RunModel, context: usize) -> Result<()> {
    let RunModel { tokenizer, recipe, .. } = found;
    let spec = recipe.image_spec();
    let (processor, pictures) = match recipe.export {
        ExportForm::Own => ("Mm1Processor", spec.own_settings()),
        ExportForm::Idefics3 => ("Idefics3Processor", spec.idefics3_settings()),
        ExportForm::Llava => ("LlavaProcessor", spec.llava_settings()?),
    };
    let own_template = matches!(found.stage, Stage::Sft(_)).then_some(chat::TEMPLATE);
    let files = tokenizer.exported(processor, own_template, context)?;
    write_text(folder, "tokenizer.json", &files.json)?;
    write_json(folder, "tokenizer_config.json", &files.settings)?;
    if let Some(template) = &files.template {
        write_text(folder, "chat_template.jinja", template)?;
    }
    write_json(folder, "preprocessor_config.json", &pictures)?;
    let mut settings = match recipe.export {
        ExportForm::Own | ExportForm::Idefics3 => json!({"image_seq_len": recipe.model.image_tokens()}),
        ExportForm::Llava => llava::processor_settings(&recipe.model),
    };
    settings["processor_class"] = json!(processor);
    if recipe.export == ExportForm::Own {
        settings["auto_map"] = json!({"AutoProcessor": "modeling_mm1.Mm1Processor"});
    }
    write_json(folder, "processor_config.json", &settings)
}
