//! [`SourceConfig`]: a source as a recipe writes it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::album::MissingPicture;
use super::table::DEFAULT_MEMORY_MIB;
use super::text::TextUnit;
use crate::store::Paths;

/// A source of documents, `[data.NAME]`; a stage's `mixture` and `tasks` call it by its NAME.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SourceConfig {
    /// Built in: one emoji on a coloured background with a short, noisy text, as images and alt texts of
    /// the web.
    EmojiCaptioned {},
    /// Built in: scenes of a few emoji with a full description, as synthetic captions.
    EmojiScenes {},
    /// Built in: pages of text with several images between the paragraphs.
    EmojiInterleaved {},
    /// Built in: prose without images.
    EmojiText {},
    /// Built in: conversations about scenes, for supervised fine-tuning.
    EmojiChat {},
    /// Built in: questions about two images.
    EmojiPairs {},
    /// Built in: new words, bound to images and used at once.
    EmojiBinding {},
    /// Built in: signs and what they say.
    EmojiSigns {},
    /// Built in: one emoji in any pose and light before any background; the text is its name, its class.
    EmojiRenderings {},
    /// Built in: as `emoji-renderings`, on white.
    EmojiStickers {},
    /// Built in: streets, receipts, tables, maps, charts and crowds of any sides, with small letters and
    /// things, and a description or a question; as large as `world.detail_size`.
    EmojiDetail {},
    /// Built in: conversations about the images of `emoji-detail`, for supervised fine-tuning.
    EmojiDetailChat {},
    /// Built in: a scene and questions with short answers as a page, for pre-training: those of `emoji-vqa`.
    EmojiQuiz {},
    /// Built in: requests to describe a scene, for supervised fine-tuning: captions as instructions, in the
    /// words of the task `scene-captions`.
    EmojiDescriptions {},
    /// Built in: questions about a scene, for supervised fine-tuning. Neither a question nor what was said
    /// before it tells the answer, and a prompt may ask for a word or a sentence.
    EmojiVqa {},
    /// Built in: conversations about several images, for supervised fine-tuning: two that are compared, new
    /// words, and answers in two steps; half of them with a chain of thought.
    EmojiReasoning {},
    /// Images in a folder for each class, whose name is their text: `CLASS/*.jpg`, or `train/CLASS/*.jpg`
    /// with `test/CLASS/*.jpg` or `val/CLASS/*.jpg`.
    Classes {
        /// The folder that holds a folder for each class.
        path: PathBuf,
        /// Share of the images that is held out for tests, where there is no `test/` or `val/`.
        /// Unit: fraction.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Images with captions in a folder: a `.txt` beside each, or a list of paths and captions (JSON lines,
    /// CSV, Parquet), as in the ImageFolder layout of Hugging Face.
    Folder {
        /// The folder, or its list of captions.
        path: PathBuf,
        /// Share of the images that is held out for tests.
        /// Unit: fraction.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Shards of our own: documents of every kind.
    Shards {
        /// The archives: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// Share of the documents that is held out for tests.
        /// Unit: fraction.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// WebDataset archives of images with captions.
    Webdataset {
        /// The archives: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The member with the caption: its extension, or `json.FIELD`.
        #[serde(default = "default_caption")]
        caption: String,
        /// Share of the samples that is held out for tests.
        /// Unit: fraction.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Parquet of images with captions, as Hugging Face's `datasets` writes it.
    ParquetCaptioned {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The column of images: bytes, a struct of `bytes` and `path`, or a list of these.
        #[serde(default = "default_image")]
        image: String,
        /// The column of captions: a text, or a list of texts of which each visit shows one.
        #[serde(default = "default_text")]
        text: String,
        /// Memory that open row groups may take; the least recently used are closed first.
        /// Unit: MiB.
        #[serde(default = "default_memory")]
        #[schemars(range(min = 1, max = 1_048_576))]
        memory_mib: u64,
        /// Share of the documents that is held out for tests.
        /// Unit: fraction.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// OBELICS: Parquet of parallel lists of images and texts.
    Obelics {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The column of lists of images.
        #[serde(default = "default_images")]
        images: String,
        /// The column of lists of texts.
        #[serde(default = "default_texts")]
        texts: String,
        /// The folder of images that are named by a path; by default such paths are relative to the working
        /// folder.
        #[serde(default)]
        pictures: PathBuf,
        /// What becomes of a document whose image is missing.
        #[serde(default)]
        missing: MissingPicture,
        /// Memory that open row groups may take; the least recently used are closed first.
        /// Unit: MiB.
        #[serde(default = "default_memory")]
        #[schemars(range(min = 1, max = 1_048_576))]
        memory_mib: u64,
        /// Share of the documents that is held out for tests.
        /// Unit: fraction.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// MMC4: JSON lines of sentences and the images that belong to them.
    Mmc4 {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The folder of the images.
        pictures: PathBuf,
        /// What becomes of a document whose image is missing.
        #[serde(default)]
        missing: MissingPicture,
        /// Share of the documents that is held out for tests.
        /// Unit: fraction.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// HTML pages and the images beside them.
    Html {
        /// The pages: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// What becomes of a document whose image is missing.
        #[serde(default)]
        missing: MissingPicture,
        /// Share of the documents that is held out for tests.
        /// Unit: fraction.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Plain text without images.
    Text {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// What a document is.
        #[serde(default)]
        documents: TextUnit,
        /// Share of the documents that is held out for tests.
        /// Unit: fraction.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Text without images in JSON lines.
    JsonText {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The field of the text.
        #[serde(default = "default_text")]
        text: String,
        /// Share of the documents that is held out for tests.
        /// Unit: fraction.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Text without images in a column of Parquet.
    ParquetText {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The column of the text.
        #[serde(default = "default_text")]
        text: String,
        /// Memory that open row groups may take; the least recently used are closed first.
        /// Unit: MiB.
        #[serde(default = "default_memory")]
        #[schemars(range(min = 1, max = 1_048_576))]
        memory_mib: u64,
        /// Share of the documents that is held out for tests.
        /// Unit: fraction.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Conversations in Parquet: a column of turns, and maybe one of images.
    ParquetConversations {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The column of the turns: a list of structs, or JSON in a text.
        #[serde(default = "default_turns")]
        turns: String,
        /// The column of images, one or a list; empty: there is none.
        #[serde(default)]
        images: String,
        /// The folder of images that are named by a path; by default such paths are relative to the working
        /// folder.
        #[serde(default)]
        pictures: PathBuf,
        /// Memory that open row groups may take; the least recently used are closed first.
        /// Unit: MiB.
        #[serde(default = "default_memory")]
        #[schemars(range(min = 1, max = 1_048_576))]
        memory_mib: u64,
        /// Share of the documents that is held out for tests.
        /// Unit: fraction.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Conversations in JSON, as LLaVA, ShareGPT and OpenAI have them.
    Conversations {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The folder of the images; by default their paths are relative to the working folder.
        #[serde(default)]
        pictures: PathBuf,
        /// Share of the documents that is held out for tests.
        /// Unit: fraction.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Captions as instruction data, to tune on: each picture of another source with a request to describe
    /// it, and its caption as the answer. What the other source holds out is held out here too.
    Instructions {
        /// The source of images with captions, by its name in the recipe.
        of: String,
        /// The requests, of which one is drawn for each image. By default there are four, among them the one
        /// that evaluations ask a tuned model with.
        #[serde(default = "default_requests")]
        #[schemars(length(min = 1))]
        requests: Vec<String>,
    },
    /// Conversations with demonstrations in them, to tune on: documents of another source of conversations,
    /// `shots + 1` after one another as one conversation, so that a tuned model still learns from examples
    /// in its prompt. Every answer is learned: the first has no demonstration before it, the last `shots`.
    FewShot {
        /// The source of conversations, by its name in the recipe.
        of: String,
        /// Documents before the last one of a conversation. A conversation that is longer than a row loses
        /// its end.
        /// Unit: demonstrations.
        #[serde(default = "default_shots")]
        #[schemars(range(min = 1, max = MOST_SHOTS))]
        shots: usize,
    },
}

/// More demonstrations than any row holds.
pub(super) const MOST_SHOTS: usize = 1000;

fn default_shots() -> usize {
    8
}

fn default_requests() -> Vec<String> {
    ["Describe the picture.", "What is in the picture?", "What do you see?", "Give a caption."]
        .map(str::to_owned)
        .to_vec()
}

fn default_test_share() -> f64 {
    0.1
}

fn default_caption() -> String {
    "txt".to_owned()
}

fn default_image() -> String {
    "image".to_owned()
}

fn default_images() -> String {
    "images".to_owned()
}

fn default_turns() -> String {
    "conversations".to_owned()
}

fn default_text() -> String {
    "text".to_owned()
}

fn default_texts() -> String {
    "texts".to_owned()
}

fn default_memory() -> u64 {
    DEFAULT_MEMORY_MIB
}

impl SourceConfig {
    /// The name of the source that it is made of, where it is made of another one.
    pub fn made_of(&self) -> Option<&str> {
        match self {
            Self::Instructions { of, .. } | Self::FewShot { of, .. } => Some(of),
            _ => None,
        }
    }

    /// Whether it shows the built-in world.
    pub fn is_built_in(&self) -> bool {
        matches!(
            self,
            Self::EmojiCaptioned {}
                | Self::EmojiScenes {}
                | Self::EmojiInterleaved {}
                | Self::EmojiText {}
                | Self::EmojiChat {}
                | Self::EmojiPairs {}
                | Self::EmojiBinding {}
                | Self::EmojiSigns {}
                | Self::EmojiRenderings {}
                | Self::EmojiStickers {}
                | Self::EmojiDetail {}
                | Self::EmojiDetailChat {}
                | Self::EmojiQuiz {}
                | Self::EmojiDescriptions {}
                | Self::EmojiVqa {}
                | Self::EmojiReasoning {}
        )
    }
}
