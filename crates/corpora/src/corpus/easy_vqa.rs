//! easy-VQA: questions about one shape on a plain ground. Its authors' split stays: their test pictures are
//! a stream of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use mm1_data::chat::{Turn, document};
use mm1_data::document::{Image, Segment};

use super::definition::Corpus;
use crate::archive::{UnpackLimits, unpack};
use crate::package::{Client, Package, Version};
use crate::settings::CorpusSettings;
use crate::sink::Sink;
use crate::stream::ShardFolder;

pub(super) const EASY_VQA: Corpus = Corpus {
    name: "easy-vqa",
    title: "easy-VQA: questions about shapes and colours",
    packages: &[Package {
        client: Client::Pip,
        name: "easy-vqa",
        known: &[Version {
            version: "1.0",
            sha256: "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
        }],
    }],
    licence: "MIT",
    attribution: "Victor Zhou",
    make,
};

/// Question, answer and number of the picture.
type AskedOfPicture = (String, String, u64);

fn make(packages: &[PathBuf], _: CorpusSettings, sink: &mut Sink) -> Result<()> {
    for (split, stream) in [("train", ShardFolder::Vqa), ("test", ShardFolder::VqaTest)] {
        let root = format!("easy_vqa/data/{split}/");
        let (mut questions, mut pictures) = (None, BTreeMap::new());
        unpack(
            &packages[0],
            UnpackLimits::default(),
            &|name| name.starts_with(&root),
            &mut |name, bytes| {
                if name.ends_with("questions.json") {
                    questions = Some(
                        serde_json::from_slice::<Vec<AskedOfPicture>>(&bytes)
                            .with_context(|| name.to_owned())?,
                    );
                } else if let Some(number) = name.rsplit('/').next().and_then(|n| n.strip_suffix(".png")) {
                    pictures.insert(number.to_owned(), bytes);
                }
                Ok(())
            },
        )?;
        let questions = questions.with_context(|| format!("no {root}questions.json in the package"))?;
        for (place, (question, answer, number)) in questions.into_iter().enumerate() {
            let name = format!("{split}/{number}.png");
            // Questions about one picture are held out together.
            let id = format!("{name}#{place}");
            let Some(bytes) = pictures.get(&number.to_string()) else {
                sink.skip(id, format!("no picture {name}"));
                continue;
            };
            let picture = Segment::Image(Image::named(&name, bytes.clone()));
            let turns = [Turn::user(vec![picture, Segment::text(question)]), Turn::assistant(answer)];
            sink.push(stream, &document(id, &turns))?;
        }
    }
    Ok(())
}
