//! Sources: one file per format, each yields [`Document`](crate::document::Document)s.

pub mod album;
mod alternate;
mod archive_evidence;
mod beside;
mod caption_list;
mod caption_text;
mod captioned_file;
pub mod cells;
mod chunks;
mod column_evidence;
mod config;
pub mod conversation;
pub mod detect;
mod evidence;
pub mod few_shot;
mod file_kind;
pub mod files;
pub mod folder;
pub mod html;
mod html_picture;
pub mod instructions;
pub(crate) mod interface;
mod json;
mod messages;
pub mod mmc4;
pub mod obelics;
mod open;
mod page;
mod page_header;
mod pairing;
pub mod parquet;
pub mod shard;
pub mod stored;
mod table;
mod tar;
pub mod text;
mod tree;
mod value_evidence;
pub mod webdataset;

pub use self::beside::BesidePictures;
pub(crate) use self::beside::account as beside_account;
pub use self::config::SourceConfig;
pub use self::interface::{Source, Split};
#[cfg(not(feature = "emoji"))]
pub use self::open::NoWorld as World;
pub(crate) use self::tar::{BEHIND, NOT_CLOSED};
