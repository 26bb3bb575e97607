//! What can be imported: a language model, an image encoder, or a whole model. Each is written, read again as
//! a recipe reads it, and compared.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use mm1_data::image::ImageSpec;
use mm1_model::device::DeviceKind;
use mm1_model::export::{
    ExportedDecoder, ExportedModel, FloatType, ReadBack, SHARD_BYTES, read_back, write_decoder,
    write_encoder, write_model,
};
use mm1_model::import::{self, TensorAccount, exported, lm};
use mm1_model::init::Init;
use mm1_model::lm::Lm;
use mm1_model::weights;

use super::files::{self, Parts, SourceFiles};

/// What was imported.
#[derive(Debug)]
pub(super) struct Imported {
    /// As a person calls it.
    pub(super) what: &'static str,
    /// The table of a recipe that takes it by `from`.
    pub(super) section: &'static str,
    /// What became of the tensors of the source.
    pub(super) account: TensorAccount,
    /// Values of all parameters.
    pub(super) parameters: usize,
    /// Parameters as tensors.
    pub(super) tensors: usize,
    /// How its numbers lie in the file.
    pub(super) numbers: FloatType,
    /// What became of the files of the source.
    pub(super) files: SourceFiles,
    /// What the folder lacks, each a line.
    pub(super) lacks: Vec<&'static str>,
}

const NO_TOKENIZER: &str = "no tokenizer.json: give one by [tokenizer] kind = \"file\"";
const NO_PICTURES: &str =
    "nothing says how pictures are prepared: set image.mode, image.mean and image.std as it was trained";

/// The language model of `source`, into the folder `to`.
///
/// # Errors
/// What can't be imported, written, or is not the same when it is read again.
pub(super) fn decoder(source: &Path, to: &Path, numbers: Option<FloatType>) -> Result<Imported> {
    let found = lm::open(source)?;
    let (account, config, context) = (found.account().clone(), found.config.clone(), found.context);
    let device = DeviceKind::Cpu.open()?;
    let lm = found.fit(Lm::new(&Init::new(0, &device), &config), &config)?;
    let token_ids = files::token_ids(source)?;
    let exported = ExportedDecoder { lm: &lm, config: &config, context, token_ids: &token_ids };
    let numbers = write_decoder(to, &exported, numbers)?;
    let files = SourceFiles::take_over(source, to, Parts { text: true, pictures: false })?;
    let tokenizer = files::tokenizer(source, to)?;
    let again = lm::open(to).context(AGAIN)?;
    ensure!((&again.config, again.context) == (&config, context), "{AGAIN}: its settings differ");
    let shapes = weights::shapes(&lm);
    check(again.equal_parameters(&lm, |value| numbers.rounded(value))?, shapes.len())?;
    Ok(Imported {
        what: "language model",
        section: "model.lm",
        account,
        parameters: shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum(),
        tensors: shapes.len(),
        numbers,
        files,
        lacks: if tokenizer { Vec::new() } else { vec![NO_TOKENIZER] },
    })
}

/// The image encoder of `source`, into the folder `to`.
///
/// # Errors
/// As [`decoder`].
pub(super) fn encoder(source: &Path, to: &Path, numbers: Option<FloatType>) -> Result<Imported> {
    let found = import::open(source)?;
    let beside = if source.is_dir() { source } else { source.parent().unwrap_or(Path::new(".")) };
    let pictures = ImageSpec::of_encoder(beside)?;
    let numbers = write_encoder(to, (&found.config, &found.tensors), numbers)?;
    let files = SourceFiles::take_over(source, to, Parts { text: false, pictures: true })?;
    let again = import::open(to).context(AGAIN)?;
    ensure!(again.config == found.config, "{AGAIN}: its settings differ");
    ensure!(ImageSpec::of_encoder(to)? == pictures, "{AGAIN}: pictures are prepared in another way");
    let same =
        found.tensors.iter().zip(&again.tensors).filter(|((name, shape, ours), (other, sides, read))| {
            let rounded = ours.iter().map(|&value| numbers.rounded(value).to_bits());
            name == other && shape == sides && rounded.eq(read.iter().map(|value| value.to_bits()))
        });
    check(same.count(), found.tensors.len())?;
    Ok(Imported {
        what: "image encoder",
        section: "model.vision",
        account: found.account().clone(),
        parameters: found.tensors.iter().map(|(_, _, values)| values.len()).sum(),
        tensors: found.tensors.len(),
        numbers,
        files,
        lacks: if pictures.is_some() { Vec::new() } else { vec![NO_PICTURES] },
    })
}

/// The whole model in the folder `source`, into the folder `to`.
///
/// # Errors
/// As [`decoder`]; a connector that none of ours is.
pub(super) fn whole(source: &Path, to: &Path, numbers: Option<FloatType>) -> Result<Imported> {
    let missing = || format!("{}: it has no whole model", source.display());
    let found = exported::open(source)?.with_context(missing)?;
    let connector = found.connector()?.account;
    let model = import::model(&found, &DeviceKind::Cpu.open()?)?;
    // What one part takes the others leave: what all leave was left.
    let [vision, lm] = [found.vision()?.account().clone(), lm::open(source)?.account().clone()];
    let others = [&vision.left, &lm.left];
    let mut left = connector.left;
    left.retain(|name| others.iter().all(|others| others.contains(name)));
    let context = found.context().with_context(|| {
        format!("{}: config.json: text_config.max_position_embeddings is missing", source.display())
    })?;
    let pictures = ImageSpec::of_encoder(source)?;
    let (ids, form, shard_bytes) = (found.ids()?, found.form, SHARD_BYTES);
    let exported = ExportedModel { model: &model, form, numbers, shard_bytes, context, ids: &ids };
    let numbers = write_model(to, &exported)?;
    let files = SourceFiles::take_over(source, to, Parts { text: true, pictures: true })?;
    let tokenizer = files::tokenizer(source, to)?;
    let ReadBack { tensors, equal, .. } = read_back(to, &exported, numbers).context(AGAIN)?;
    check(equal, tensors)?;
    let again = exported::open(to)?.context(AGAIN)?;
    ensure!(again.model_config()? == *model.config(), "{AGAIN}: its settings differ");
    let lacks = [(tokenizer, NO_TOKENIZER), (pictures.is_some(), NO_PICTURES)];
    let shapes = weights::shapes(&model);
    Ok(Imported {
        what: "whole model",
        section: "model",
        account: TensorAccount { found: connector.found, left },
        parameters: shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum(),
        tensors,
        numbers,
        files,
        lacks: lacks.into_iter().filter(|(there, _)| !there).map(|(_, lack)| lack).collect(),
    })
}

const AGAIN: &str = "what was written can't be read again";

fn check(equal: usize, tensors: usize) -> Result<()> {
    ensure!(equal == tensors, "{} of {tensors} parameters have other bits in the files", tensors - equal);
    Ok(())
}
