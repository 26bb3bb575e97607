//! Pictures against Pillow; the files come from scripts/make_image_golden.py.

use std::fs;
use std::sync::Arc;

use image::ImageFormat;
use mm1_data::document::{Image, Picture};
use mm1_data::image::{Fit, ImageConfig, ImageSpec, MAX_SIDE, decode, normalise_into, prepare};

use crate::{plain, testdata};

fn picture(name: &str) -> Arc<Picture> {
    Arc::new(decode(&fs::read(testdata("image").join(name)).unwrap(), MAX_SIDE).unwrap())
}

/// The largest difference of a byte, and the share of bytes that differ by more than 1.
fn difference(ours: &[u8], theirs: &[u8]) -> (u8, f64) {
    assert_eq!(ours.len(), theirs.len());
    let differences: Vec<u8> = ours.iter().zip(theirs).map(|(&a, &b)| a.abs_diff(b)).collect();
    let above_one = differences.iter().filter(|&&d| d > 1).count();
    (*differences.iter().max().unwrap(), above_one as f64 / ours.len() as f64)
}

#[test]
fn resizing_agrees_with_pillow() {
    let source = Image::Pixels(picture("source.png"));
    for (mode, size, golden) in [
        (Fit::Squash, 32, "squash-32.png"),
        (Fit::Squash, 140, "squash-140.png"),
        (Fit::CentreCrop, 32, "centre-crop-32.png"),
        (Fit::Pad, 32, "pad-32.png"),
    ] {
        let spec = ImageConfig { mode, ..ImageConfig::default() }.of_size(size);
        let (_, off) = difference(&prepare(&source, &spec).unwrap(), &picture(golden).rgb);
        assert!(off <= 0.01, "{golden}: {off} of the bytes differ by more than 1");
    }
}

#[test]
fn every_kind_decodes_as_in_pillow() {
    // JPEG decoders differ in the last bits of the inverse transform, and CMYK and lossy WebP in their
    // arithmetic.
    for (name, most) in [
        ("rgba.png", 1),
        ("grey-alpha.png", 1),
        ("grey16.png", 1),
        ("palette.png", 1),
        ("lossless.webp", 1),
        ("animated.gif", 0),
        ("animated.webp", 0),
        ("lossy.webp", 6),
        ("grey.jpg", 3),
        ("rgb.jpg", 4),
        ("progressive.jpg", 4),
        ("rotated.jpg", 4),
        ("cmyk.jpg", 4),
    ] {
        let (ours, theirs) = (picture(name), picture(&format!("{name}.rgb.png")));
        assert_eq!((ours.width, ours.height), (theirs.width, theirs.height), "{name}");
        let (largest, _) = difference(&ours.rgb, &theirs.rgb);
        assert!(largest <= most, "{name}: a byte differs by {largest}");
    }
}

#[test]
fn a_jpeg_decoded_at_reduced_size_is_near_the_whole_and_near_pillow() {
    let file: Image = fs::read(testdata("image/photo.jpg")).unwrap().into();
    let whole = Image::Pixels(mm1_data::image::open(&file).unwrap());
    let mean = |a: &[u8], b: &[u8]| {
        let sum: u64 = a.iter().zip(b).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
        sum as f64 / a.len() as f64
    };
    for mode in [Fit::Squash, Fit::CentreCrop, Fit::Pad] {
        // An eighth, a quarter, three eighths, half and the whole of the sides.
        for (size, most) in [(24, 2.5), (60, 1.2), (88, 1.2), (120, 1.2), (200, 0.0)] {
            let spec = ImageConfig { mode, ..ImageConfig::default() }.of_size(size);
            let (ours, full) = (prepare(&file, &spec).unwrap(), prepare(&whole, &spec).unwrap());
            let off = mean(&ours, &full);
            assert!(off <= most, "{mode:?} {size}: {off} levels from the whole decode");
            assert_eq!(ours, prepare(&file, &spec).unwrap());
        }
    }
    let ours = prepare(&file, &ImageSpec::new(60)).unwrap();
    let off = mean(&ours, &picture("photo-60.png").rgb);
    assert!(off <= 0.5, "{off} levels from Pillow's draft and resize");
}

#[test]
fn a_rotated_jpeg_is_upright_at_reduced_size_too() {
    let file: Image = fs::read(testdata("image/rotated.jpg")).unwrap().into();
    let whole = Image::Pixels(mm1_data::image::open(&file).unwrap());
    for mode in [Fit::Squash, Fit::Pad] {
        let spec = ImageConfig { mode, ..ImageConfig::default() }.of_size(6);
        let (ours, full) = (prepare(&file, &spec).unwrap(), prepare(&whole, &spec).unwrap());
        let (largest, _) = difference(&ours, &full);
        assert!(largest <= 40, "{mode:?}: a byte differs by {largest}");
    }
}

#[test]
fn transparency_lies_over_the_background_that_is_set() {
    let file: Image = fs::read(testdata("image/rgba.png")).unwrap().into();
    let left = |background| {
        let pixels =
            prepare(&file, &ImageConfig { background, ..ImageConfig::default() }.of_size(16)).unwrap();
        pixels[..3].to_vec()
    };
    // The left column is nearly transparent.
    for background in [[0, 0, 0], [255, 255, 255], [200, 10, 90]] {
        assert!(difference(&left(background), &background).0 <= 12, "{background:?}: {:?}", left(background));
    }
}

#[test]
fn a_picture_of_the_right_size_stays_as_it_is() {
    let source = picture("squash-32.png");
    assert_eq!(prepare(&source.clone().into(), &ImageSpec::new(32)).unwrap(), source.rgb);
}

#[test]
fn a_picture_of_one_pixel_or_one_row_works_in_every_mode() {
    for mode in [Fit::Squash, Fit::CentreCrop, Fit::Pad] {
        let spec = ImageConfig { mode, ..ImageConfig::default() }.of_size(8);
        assert_eq!(prepare(&plain(1, 1, [9, 8, 7]).into(), &spec).unwrap(), [9, 8, 7].repeat(64));
        assert_eq!(prepare(&plain(5000, 1, [9, 8, 7]).into(), &spec).unwrap().len(), spec.bytes());
    }
}

#[test]
fn a_picture_with_the_wrong_number_of_bytes_is_an_error() {
    let wrong = Picture { width: 4, height: 4, rgb: vec![0; 47] };
    assert!(prepare(&Arc::new(wrong).into(), &ImageSpec::new(8)).unwrap_err().to_string().contains("4x4"));
    let none = Picture { width: 0, height: 4, rgb: vec![] };
    assert!(prepare(&Arc::new(none).into(), &ImageSpec::new(8)).is_err());
}

/// A PNG that claims the size and holds next to nothing.
pub(crate) fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    for (kind, data) in [(b"IHDR", [&header[..], &[8, 2, 0, 0, 0]].concat()), (b"IDAT", vec![0x78, 0x9c])] {
        let body = [&kind[..], &data].concat();
        png.extend((data.len() as u32).to_be_bytes());
        png.extend(&body);
        png.extend(crc32(&body).to_be_bytes());
    }
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 })
    })
}

#[test]
fn bombs_are_refused_in_one_line() {
    for (width, height) in [(30_000, 30_000), (10_001, 1), (u32::MAX >> 1, u32::MAX >> 1)] {
        let error = format!("{:#}", decode(&bomb(width, height), MAX_SIDE).unwrap_err());
        assert!(!error.contains('\n') && error.contains("10000"), "{error}");
    }
    let mut webp = fs::read(testdata("image/lossy.webp")).unwrap();
    let frame = webp.windows(3).position(|w| w == [0x9d, 0x01, 0x2a]).unwrap();
    webp[frame + 3..frame + 7].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    assert!(decode(&webp, MAX_SIDE).is_err());
    let mut jpeg = fs::read(testdata("image/rgb.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    assert!(format!("{:#}", decode(&jpeg, MAX_SIDE).unwrap_err()).contains("10000"));
    // Sides within the limit, but far more pixels than the bytes can say.
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x27, 0x10, 0x27, 0x10]);
    assert!(format!("{:#}", decode(&jpeg, MAX_SIDE).unwrap_err()).contains("can't hold"));
}

#[test]
fn every_truncation_is_an_error_and_no_panic() {
    for name in
        ["rgb.jpg", "progressive.jpg", "cmyk.jpg", "rgba.png", "grey16.png", "lossless.webp", "lossy.webp"]
    {
        let whole = fs::read(testdata("image").join(name)).unwrap();
        for cut in (0..whole.len() - 20).step_by(7) {
            assert!(decode(&whole[..cut], MAX_SIDE).is_err(), "{name} cut at {cut} of {}", whole.len());
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    for name in [
        "rgb.jpg",
        "photo.jpg",
        "progressive.jpg",
        "cmyk.jpg",
        "rgba.png",
        "palette.png",
        "animated.gif",
        "lossless.webp",
    ] {
        let whole = fs::read(testdata("image").join(name)).unwrap();
        for at in 0..whole.len().min(600) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xFF;
            let (Ok(_) | Err(_)) = decode(&damaged, MAX_SIDE);
        }
    }
    assert!(decode(b"GIF no", MAX_SIDE).unwrap_err().to_string().contains("not a JPEG"));
    let avif = b"\0\0\0\x1cftypavif\0\0\0\0";
    assert!(decode(avif, MAX_SIDE).unwrap_err().to_string().contains("in AVIF, which is not read"));
}

#[test]
fn a_preview_inside_a_truncated_jpeg_does_not_hide_the_damage() {
    let jpeg = fs::read(testdata("image/rgb.jpg")).unwrap();
    let mut cut = jpeg[..2].to_vec();
    cut.extend([0xFF, 0xE5]);
    cut.extend((jpeg.len() as u16 + 2).to_be_bytes());
    cut.extend(&jpeg);
    cut.extend(&jpeg[2..]);
    assert!(decode(&cut, MAX_SIDE).is_ok());
    assert!(decode(&cut[..cut.len() - 40], MAX_SIDE).is_err());
}

#[test]
fn normalising_is_the_formula() {
    let spec =
        ImageConfig { mean: [0.1, 0.2, 0.3], std: [0.5, 0.25, 2.0], ..ImageConfig::default() }.of_size(1);
    let mut out = vec![7.0];
    normalise_into(&[0, 51, 255, 255, 0, 102], &spec, &mut out);
    let expected = [7.0, -0.2, 0.0, 0.35, 1.8, -0.8, 0.05];
    assert_eq!(out.len(), expected.len());
    assert!(out.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{out:?}");
}

#[test]
fn the_spec_is_checked() {
    for spec in [
        ImageSpec::new(0),
        ImageConfig { std: [0.5, 0.0, 0.5], ..ImageConfig::default() }.of_size(8),
        ImageConfig { mean: [0.5, f32::NAN, 0.5], ..ImageConfig::default() }.of_size(8),
    ] {
        assert!(spec.check().unwrap_err().to_string().starts_with("image."));
    }
    let config: ImageConfig = serde_json::from_str(r#"{"mode": "centre-crop"}"#).unwrap();
    assert_eq!(config, ImageConfig { mode: Fit::CentreCrop, ..ImageConfig::default() });
    assert!(serde_json::from_str::<ImageConfig>(r#"{"crop": true}"#).is_err());
    // The test's own decoder is the one under test: it must at least tell the formats apart.
    assert_eq!(image::guess_format(&bomb(1, 1)).unwrap(), ImageFormat::Png);
}
