//! The letters of detailed pictures: Hack's outlines, and how tall letters are.

/// From one letter to the next, in heights of a capital: every letter takes the same.
pub(super) const ADVANCE: f64 = 1233.0 / CAPITAL;
/// The tallest letter, in heights of a capital ("b", "f").
pub(super) const ASCENT: f64 = 1560.0 / CAPITAL;
/// How far letters such as "p" reach below the line, in heights of a capital.
pub(super) const DESCENT: f64 = 440.0 / CAPITAL;
/// Height of a capital in the font's units, of which an em has 2,048.
pub(super) const CAPITAL: f64 = 1493.0;

/// Heights of capitals to choose from, as shares of the picture's longer side. A table, since powers are not
/// the same on every machine.
pub(super) const HEIGHTS: [f64; 9] = [0.008, 0.01, 0.0125, 0.016, 0.02, 0.025, 0.032, 0.04, 0.05];

/// The smallest height of a capital as a share of `detail_size`: ten pixels of 1,344.
pub(super) const LEAST: f64 = 0.0075;

/// How tall the letters of an answer are: of capitals and digits; an "x" is three quarters of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LetterHeight {
    /// Of the picture's longer side.
    pub share: f64,
    /// Pixels in a picture of the source's size.
    pub pixels: f64,
}

impl LetterHeight {
    /// The names of the four classes, from the smallest.
    pub const CLASSES: [&str; 4] = ["tiny-letters", "small-letters", "medium-letters", "large-letters"];

    /// The class by which accuracy is reported: up to 1, 2 or 3.2% of the longer side, or more.
    pub fn class(&self) -> &'static str {
        Self::CLASSES[[0.0101, 0.0201, 0.0321].iter().filter(|&&most| self.share > most).count()]
    }
}
