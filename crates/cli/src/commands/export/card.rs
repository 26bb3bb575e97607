//! The model card of an export: how it is used, its scores, what it was made of, and under which terms that
//! is.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use mm1_data::image::Tiling;
use mm1_data::shard::{MANIFEST, Provenance, ShardManifest};
use mm1_data::source::SourceConfig;
use mm1_data::text_file;
use mm1_lab::record::ScoreRecord;
use mm1_model::export::ExportForm;

use super::proof::ExportProof;
use super::{ADAPTER, AdapterPlace, ExportArgs};
use crate::attribution::weights_terms;
use crate::recipe::{Recipe, Stage};
use crate::trained::RunModel;

/// The text of `README.md`.
///
/// # Errors
/// Scores or shards that can't be read.
pub(super) fn model_card(args: &ExportArgs, found: &RunModel, proof: &ExportProof) -> Result<String> {
    let recipe = &found.recipe;
    let mut card = String::from("---\nlibrary_name: transformers\npipeline_tag: image-text-to-text\n---\n\n");
    writeln!(card, "# {}\n", plain(&recipe.name))?;
    writeln!(
        card,
        "A multimodal language model by the recipe of [MM1](https://arxiv.org/abs/2403.09611), as stage `{}` \
         has left it. {}\n",
        found.stage.name(),
        shape(recipe)
    )?;
    writeln!(card, "```python\n{}```\n", usage(recipe.export, &found.stage))?;
    if args.adapters == AdapterPlace::Beside {
        writeln!(
            card,
            "The adapters of stage `{}` are kept apart; the weights are those without them:\n\n\
             ```python\nfrom peft import PeftModel\n\n\
             model = PeftModel.from_pretrained(model, \"./{ADAPTER}\")\n```\n",
            found.stage.name()
        )?;
    }
    writeln!(card, "Written by `mm1 export`; {proof}.\n")?;
    card += &scores(&args.run, &found.stage)?;
    card += &sources(recipe)?;
    let mut written = recipe.clone();
    written.store = mm1_data::store::StoreSpec::default();
    writeln!(card, "## Recipe\n\n```toml\n{}```", toml::to_string(&written)?)?;
    Ok(card)
}

fn shape(recipe: &Recipe) -> String {
    let model = &recipe.model;
    let (side, tokens) = (model.vision.image_size, model.image_tokens());
    match recipe.image.tiling {
        Tiling::Idefics3 { longest, .. } => format!(
            "It sees a picture as tiles of {side}x{side} pixels, {longest} along its longer side, and as a \
             whole of that size. Each is {tokens} image tokens."
        ),
        _ => format!("It sees a picture of {side}x{side} pixels as {tokens} image tokens."),
    }
}

/// How it is asked.
fn usage(form: ExportForm, stage: &Stage) -> String {
    let trust = match form {
        ExportForm::Own => ", trust_remote_code=True",
        ExportForm::Idefics3 | ExportForm::Llava => "",
    };
    let prompt = match stage {
        Stage::Sft(_) => {
            "content = [{\"type\": \"image\"}, {\"type\": \"text\", \"text\": \"What is in the picture?\"}]\n\
             text = processor.apply_chat_template([{\"role\": \"user\", \"content\": content}], \
             add_generation_prompt=True)\n"
        }
        _ => "text = \"<image> A photo of\"\n",
    };
    format!(
        "from PIL import Image\n\
         from transformers import AutoModelForImageTextToText, AutoProcessor\n\n\
         processor = AutoProcessor.from_pretrained(\".\"{trust})\n\
         model = AutoModelForImageTextToText.from_pretrained(\".\"{trust})\n\
         {prompt}\
         inputs = processor(text=text, images=[Image.open(\"picture.png\").convert(\"RGB\")], \
         return_tensors=\"pt\")\n\
         new = model.generate(**inputs, max_new_tokens=64)[0, inputs[\"input_ids\"].shape[1] :]\n\
         print(processor.decode(new, skip_special_tokens=True))\n"
    )
}

/// The scores of the stage, with their intervals.
fn scores(run: &Path, stage: &Stage) -> Result<String> {
    let path = run.join("eval.json");
    if !path.exists() {
        return Ok("## Scores\n\nIt was not evaluated.\n\n".to_owned());
    }
    let text = text_file::read(&path).with_context(|| path.display().to_string())?;
    let scores: Vec<ScoreRecord> = serde_json::from_str(&text)
        .with_context(|| format!("{}: not as this program writes it", path.display()))?;
    let mut out = format!(
        "## Scores\n\nOn held-out data, with 95% intervals. Rows of evaluations after other stages than `{}` \
         are of the model as it was then.\n\n| evaluation | task | shots | metric | score | n | blind | \
         constant |\n\
         |---|---|---|---|---|---|---|---|\n",
        stage.name()
    );
    for score in scores.iter().filter(|score| !score.task.contains('/')) {
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
        let interval = match score.ci95 {
            Some([low, high]) => format!(" [{}, {}]", number(low), number(high)),
            None => String::new(),
        };
        let baseline = |name: &str| number(score.baselines.get(name).and_then(serde_json::Value::as_f64));
        writeln!(
            out,
            "| {} | {} | {} | {} | {}{interval} | {} | {} | {} |",
            plain(&score.stage),
            plain(&score.task),
            score.shots,
            plain(&score.metric),
            number(score.value),
            score.n.map_or_else(|| "–".to_owned(), |n| n.to_string()),
            baseline("blind"),
            baseline("constant")
        )?;
    }
    Ok(out + "\n")
}

/// What it was made of, and under which terms.
fn sources(recipe: &Recipe) -> Result<String> {
    let mut out = String::from("## Sources\n\n| name | what | licence |\n|---|---|---|\n");
    let origins = [("image encoder", &recipe.model.vision.from), ("language model", &recipe.model.lm.from)];
    for (name, from) in origins {
        if let Some(from) = from {
            let file = from.file_name().unwrap_or(from.as_os_str()).to_string_lossy();
            let terms = weights_terms(from).unwrap_or_else(|| "not stated".to_owned());
            writeln!(out, "| {name} | {} | {} |", plain(&file), plain(&terms))?;
        }
    }
    for (name, source) in &recipe.data {
        let (what, licence) = terms(source)?;
        writeln!(out, "| {} | {} | {} |", plain(name), plain(&what), plain(&licence))?;
    }
    Ok(out + "\n")
}

/// What a source is, and its terms where they are known.
fn terms(source: &SourceConfig) -> Result<(String, String)> {
    if source.is_built_in() {
        return Ok(("pictures of Twemoji, drawn by mm1".to_owned(), "CC-BY 4.0".to_owned()));
    }
    let written = toml::Value::try_from(source)?;
    let field = |name: &str| written.get(name).and_then(toml::Value::as_str).unwrap_or_default();
    let paths: Vec<&str> = match written.get("path") {
        Some(toml::Value::Array(paths)) => paths.iter().filter_map(toml::Value::as_str).collect(),
        Some(path) => path.as_str().into_iter().collect(),
        None => Vec::new(),
    };
    let origins = shard_origins(&paths)?;
    let joined =
        |texts: BTreeSet<&str>| texts.into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join("; ");
    let licence = joined(origins.iter().map(|origin| origin.licence.as_str()).collect());
    if !licence.is_empty() {
        return Ok((joined(origins.iter().map(|origin| origin.source.as_str()).collect()), licence));
    }
    let names = paths.iter().filter_map(|path| Path::new(path).file_name()?.to_str());
    let shown = names.collect::<Vec<_>>().join(" ");
    Ok((format!("{} {shown}", field("kind")).trim().to_owned(), "not stated".to_owned()))
}

/// Where the shards of these paths come from, as the manifests beside them say.
fn shard_origins(paths: &[&str]) -> Result<Vec<Provenance>> {
    let mut origins = Vec::new();
    for path in paths.iter().map(Path::new) {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
        if folder.join(MANIFEST).exists() {
            origins.extend(ShardManifest::read(folder)?.shards.into_iter().map(|shard| shard.origin));
        }
    }
    Ok(origins)
}

/// Text of others inside of a table.
fn plain(text: &str) -> String {
    text.replace(['|', '<', '>', '\n', '\r'], " ")
}
