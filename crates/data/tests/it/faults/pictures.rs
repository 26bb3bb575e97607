//! Pictures as phones, editors and other codecs write them.

use std::fs;
use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use mm1_data::document::Image;
use mm1_data::image::{MAX_SIDE, PictureKey, PictureSet, check_decodable, decode};
use mm1_data::verify::verify;

use super::{PIXELS, detected, fault, store};
use crate::{plain, testdata};

const JPEGS: [&str; 6] = ["rgb.jpg", "photo.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg", "rotated.jpg"];

fn jpeg(name: &str) -> Vec<u8> {
    fs::read(testdata("image").join(name)).unwrap()
}

#[test]
fn fault_01_a_jpeg_with_a_film_behind_it_is_read() {
    let cache = tempfile::tempdir().unwrap();
    let store = store(&cache);
    let found = detected(&fault("01-motion-photo/pictures"), &store);
    let verified = verify(&found, &store, PIXELS, &mut |_| {}).unwrap();
    assert_eq!(verified.problems, []);
    assert_eq!((verified.documents, verified.images), (3, 3));
}

#[test]
fn what_stands_behind_a_jpeg_changes_no_pixel() {
    for name in JPEGS {
        let whole = jpeg(name);
        let pixels = decode(&whole, MAX_SIDE).unwrap();
        let scan: &[u8] = &[0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 1, 2, 3];
        let film = [b"\0\0\0\x18ftypmp42".as_slice(), scan, &[0xFF; 50]].concat();
        for behind in
            [film, jpeg("rgb.jpg"), jpeg("rgb.jpg")[..300].to_vec(), b"<x:xmpmeta>".to_vec(), vec![0]]
        {
            let file = [whole.clone(), behind].concat();
            assert!(decode(&file, MAX_SIDE).unwrap() == pixels, "{name}");
            check_decodable(&Image::from(file)).unwrap();
        }
    }
}

#[test]
fn every_cut_of_a_jpeg_before_its_end_is_truncated() {
    for name in JPEGS {
        let whole = jpeg(name);
        let end = whole.len() - if whole.ends_with(&[0xFF, 0xD9]) { 0 } else { panic!("{name}: no end") };
        for cut in 3..end {
            let error = decode(&whole[..cut], MAX_SIDE).unwrap_err().to_string();
            assert!(error.starts_with("truncated JPEG"), "{name} cut at {cut} of {end}: {error}");
            let error = check_decodable(&Image::from(whole[..cut].to_vec())).unwrap_err().to_string();
            assert!(error.starts_with("truncated JPEG"), "{name} cut at {cut} of {end}: {error}");
        }
    }
}

#[test]
fn markers_filled_with_ff_and_previews_are_passed_over() {
    let whole = jpeg("progressive.jpg");
    let pixels = decode(&whole, MAX_SIDE).unwrap();
    // A segment that holds a whole picture, as EXIF holds a preview, and fill bytes before the next marker.
    let preview = jpeg("grey.jpg");
    let length = (preview.len() as u16 + 2).to_be_bytes();
    let file = [&whole[..2], &[0xFF, 0xE5], &length, &preview, &[0xFF, 0xFF], &whole[2..]].concat();
    assert!(decode(&file, MAX_SIDE).unwrap() == pixels);
    assert!(decode(&file[..file.len() - 2], MAX_SIDE).is_err());
}

/// A picture in another codec.
fn encoded(picture: &RgbImage, format: ImageFormat, quality: u8) -> Image {
    let mut out = Cursor::new(Vec::new());
    match format {
        ImageFormat::Jpeg => {
            let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, quality);
            picture.write_with_encoder(encoder).unwrap();
        }
        _ => picture.write_to(&mut out, format).unwrap(),
    }
    Image::from(out.into_inner())
}

fn key(image: &Image) -> PictureKey {
    PictureKey::of(image).unwrap()
}

#[test]
fn one_picture_in_every_codec_is_the_same_picture() {
    for name in ["source.png", "photo-60.png", "rgb.jpg.rgb.png", "photo.jpg"] {
        let picture = image::open(testdata("image").join(name)).unwrap().to_rgb8();
        let file = Image::from(fs::read(testdata("image").join(name)).unwrap());
        let others = [
            (ImageFormat::Png, 0),
            (ImageFormat::WebP, 0),
            (ImageFormat::Bmp, 0),
            (ImageFormat::Tiff, 0),
            (ImageFormat::Jpeg, 95),
            (ImageFormat::Jpeg, 75),
        ];
        let mut set = PictureSet::default();
        for (format, quality) in others {
            // Blocks of 8 x 8 pixels are a third of such a picture.
            if quality == 75 && picture.width() < 32 {
                continue;
            }
            let other = encoded(&picture, format, quality);
            assert!(key(&other).matches(&key(&file)), "{name} as {format:?} {quality}");
            assert_eq!(set.number(key(&other)), 0, "{name} as {format:?} {quality}");
        }
        let large = image::imageops::resize(&picture, 400, 300, image::imageops::FilterType::Triangle);
        assert_eq!(set.find(&key(&encoded(&large, ImageFormat::Png, 0))), Some(0), "{name} in another size");
        assert_eq!(set.len(), 1);
    }
}

#[test]
fn pictures_of_one_colour_are_told_apart_by_it() {
    let colours = [[255, 255, 255], [0, 0, 0], [200, 30, 30], [30, 200, 30], [30, 30, 200], [128, 128, 128]];
    let mut set = PictureSet::default();
    for (number, colour) in colours.into_iter().enumerate() {
        let blank = key(&plain(40, 30, colour).into());
        assert!(blank.is_blank());
        assert_eq!(set.number(blank) as usize, number, "{colour:?}");
    }
    assert!(!key(&Image::from(fs::read(testdata("image/photo.jpg")).unwrap())).is_blank());
}

#[cfg(feature = "emoji")]
mod emoji {
    use std::collections::BTreeMap;

    use mm1_data::source::Split;
    use mm1_data::world::{World, WorldConfig, WorldStream, available};

    use super::*;

    /// Pairs of different pictures that match, and how a set and comparing all agree.
    fn false_matches(keys: &[PictureKey]) -> usize {
        let mut set = PictureSet::default();
        let mut pairs = 0;
        for (i, key) in keys.iter().enumerate() {
            let all: Vec<usize> = (0..i).filter(|&j| keys[j].matches(key)).collect();
            pairs += all.len();
            if set.len() == i {
                assert_eq!(set.number(key.clone()) as usize, all.first().copied().unwrap_or(i));
            }
        }
        pairs
    }

    #[test]
    fn no_two_emoji_of_the_built_in_world_are_taken_for_one() {
        let picture = |symbol: &str| {
            let png = twemoji_assets::png::PngTwemojiAsset::from_emoji(symbol)?;
            let bytes: &[u8] = png;
            Some(bytes.to_vec())
        };
        let mut different: BTreeMap<Vec<u8>, PictureKey> = BTreeMap::new();
        for file in emojis::iter().filter_map(|emoji| picture(emoji.as_str())) {
            let pixels = decode(&file, MAX_SIDE).unwrap().rgb;
            different.insert(pixels, key(&Image::from(file)));
        }
        let keys: Vec<PictureKey> = different.into_values().collect();
        let pairs = false_matches(&keys);
        // Of 1.8 million pairs: flags that differ in a shade, and a person that is a few pixels.
        assert!(keys.len() > 1_500 && pairs <= 4, "{pairs} pairs of {} pictures", keys.len());
    }

    #[test]
    fn no_two_scenes_of_the_built_in_world_are_taken_for_one() {
        let world = World::new(&WorldConfig { emoji: available(), ..WorldConfig::default() }, 7).unwrap();
        let source = world.source(WorldStream::Captioned);
        let mut different: BTreeMap<Vec<u8>, PictureKey> = BTreeMap::new();
        for index in 0..600 {
            for image in source.document(Split::Train, index).unwrap().pictures() {
                let pixels = mm1_data::image::open(image).unwrap().rgb.clone();
                different.insert(pixels, key(image));
            }
        }
        let keys: Vec<PictureKey> = different.into_values().collect();
        assert_eq!((keys.len() > 500, false_matches(&keys)), (true, 0));
    }
}
