//! [`Towers`]: pictures and texts as vectors of one space.

use anyhow::Result;
use mm1_data::document::Image;

/// An image encoder and a text tower that were trained beside each other, as CLIP's and SigLIP's are. A
/// picture and a text that belong together have similar vectors.
pub trait Towers: Send + Sync {
    /// The unit vector `[e]` of a text, and how many tokens it has.
    ///
    /// # Errors
    /// A text that the tower does not read.
    fn text(&self, text: &str) -> Result<(Vec<f32>, usize)>;

    /// The unit vector `[e]` of a picture.
    ///
    /// # Errors
    /// A picture that can't be prepared.
    fn picture(&self, picture: &Image) -> Result<Vec<f32>>;
}
