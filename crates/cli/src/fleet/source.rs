//! [`SourceSize`]: how much a source has, as a person says it.

use std::str::FromStr;

/// `NAME=DOCUMENTS:TOKENS:IMAGES`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SourceSize {
    /// The recipe's name of it.
    pub(super) name: String,
    /// All of them.
    pub(super) documents: f64,
    /// Text tokens of one, on average.
    pub(super) tokens: f64,
    /// Images of one, on average.
    pub(super) images: f64,
}

impl SourceSize {
    /// Positions of a document, on average.
    pub(super) fn positions(&self, image_tokens: usize) -> f64 {
        self.tokens + self.images * image_tokens as f64
    }
}

impl FromStr for SourceSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (name, sizes) = text.split_once('=')?;
            let numbers: Vec<f64> = sizes.split(':').map_while(|number| number.parse().ok()).collect();
            let [documents, tokens, images] = <[f64; 3]>::try_from(numbers).ok()?;
            let whole = [documents, tokens, images].iter().all(|n| n.is_finite() && *n >= 0.0);
            let some = documents > 0.0 && tokens + images > 0.0;
            (whole && some).then(|| Self { name: name.to_owned(), documents, tokens, images })
        };
        read()
            .ok_or_else(|| "write it as NAME=DOCUMENTS:TOKENS:IMAGES, such as captioned=2e9:20:1".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_name_and_three_numbers() {
        let size: SourceSize = "captioned=2e9:20:1".parse().unwrap();
        assert_eq!((size.name.as_str(), size.documents), ("captioned", 2e9));
        assert_eq!(size.positions(144), 164.0);
        for wrong in ["captioned", "a=1:2", "a=1:2:3:4", "a=0:1:1", "a=1:0:0", "a=1:-1:2", "a=x:1:1"] {
            assert!(wrong.parse::<SourceSize>().is_err(), "{wrong}");
        }
    }
}
