//! Pictures: headers, decoding whole and at reduced size, and what the filter asks of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mm1_data::document::{Document, DocumentKind, Image, Segment};
use mm1_data::filter::{DocumentFilter, FilterSpec};
use mm1_data::image::{Fit, ImageConfig, PictureKey, decode, prepare};

fuzz_target!(|data: &[u8]| {
    let image = Image::named("", data.to_vec());
    // Sides below what is allowed, so that an input takes a moment. The decoder of JPEG has limits of its
    // own.
    let small = decode(data, 1_000).is_ok() || data.starts_with(&[0xFF, 0xD8]);
    if small {
        let spec = ImageConfig { mode: Fit::CentreCrop, ..ImageConfig::default() }.of_size(16);
        if let Ok(pixels) = prepare(&image, &spec) {
            assert_eq!(pixels.len(), spec.bytes());
        }
    }
    let keys = if small { vec![PictureKey::of(&image).ok()] } else { Vec::new() };
    let document =
        Document { id: String::new(), kind: DocumentKind::Captioned, segments: vec![Segment::Image(image)] };
    let mut filter =
        DocumentFilter::new(FilterSpec { require_text: false, ..FilterSpec::default() }).unwrap();
    filter.observe(&document, keys);
    let stays = filter.apply(document).is_some();
    assert!(!stays || filter.counts().documents == 1);
});
