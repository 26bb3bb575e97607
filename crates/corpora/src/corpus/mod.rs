//! The corpora: one file each says what it is made of and how its packages become documents.

mod definition;
mod easy_vqa;
mod fluent3d;
mod gallery;
mod gcompris;
mod iconify;
mod manual;
mod openclipart;
mod stdlib;
mod sweethome3d;
mod tuxpaint;
#[cfg(feature = "emoji")]
mod twemoji;
mod wordnet;

pub use self::definition::Corpus;

/// The corpora of `desk`.
pub const DESK: &[Corpus] = &[
    #[cfg(feature = "emoji")]
    twemoji::TWEMOJI,
    iconify::NOTO,
    iconify::FLUENT_FLAT,
    fluent3d::FLUENT_3D,
    openclipart::OPENCLIPART,
    tuxpaint::TUXPAINT,
    sweethome3d::SWEETHOME3D,
    manual::GIMP,
    manual::SKLEARN,
    manual::SKIMAGE,
    manual::SCIPY,
    manual::GRASS,
    stdlib::UNION,
    stdlib::MOBY_DICK,
    wordnet::WORDNET,
    easy_vqa::EASY_VQA,
    gcompris::GCOMPRIS,
];
