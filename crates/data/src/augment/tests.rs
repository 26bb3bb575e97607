//! The pieces of a view against torchvision and Pillow; the files come from scripts/reference/views.py.

use std::fs;
use std::path::PathBuf;

use rand::SeedableRng as _;
use serde::Deserialize;

use super::{ChaCha8Rng, Crop, ImageSpec, blur, colour, crop, opened};
use crate::document::{Image, Picture};
use crate::image::{MAX_SIDE, decode};

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
    crops: Vec<Cropped>,
    /// Sides of a picture, share, ratio, sides of the crop.
    fitting: Vec<[f64; 6]>,
    /// Sides of a picture, least and largest ratio, the crop.
    middles: Vec<[f64; 8]>,
}

#[derive(Deserialize)]
struct Case {
    file: String,
    operation: String,
    value: f64,
}

#[derive(Deserialize)]
struct Cropped {
    file: String,
    /// Left, top, width, height, side of the view.
    crop: [u32; 5],
}

fn file(name: &str) -> Vec<u8> {
    fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/views").join(name)).unwrap()
}

fn picture(name: &str) -> Picture {
    decode(&file(name), MAX_SIDE).unwrap()
}

fn cases() -> Cases {
    serde_json::from_slice(&file("cases.json")).unwrap()
}

/// The share of bytes that differ by more than 1, and of those that differ at all.
fn apart(ours: &[u8], theirs: &[u8]) -> [f64; 2] {
    assert_eq!(ours.len(), theirs.len());
    [1, 0].map(|most| {
        let far = ours.iter().zip(theirs).filter(|(a, b)| a.abs_diff(**b) > most).count();
        far as f64 / ours.len() as f64
    })
}

#[test]
fn colours_and_blur_are_torchvisions() {
    let source = picture("source.png");
    let width = source.width as usize;
    let cases = cases().cases;
    assert_eq!(cases.len(), 31);
    for Case { file, operation, value } in cases {
        let mut pixels = source.rgb.clone();
        match operation.as_str() {
            "brightness" => colour::brightness(&mut pixels, value),
            "contrast" => colour::contrast(&mut pixels, value),
            "saturation" => colour::saturation(&mut pixels, value),
            "hue" => colour::hue(&mut pixels, value),
            "grey" => colour::saturation(&mut pixels, 0.0),
            "solarise" => colour::solarise(&mut pixels),
            "flip" => colour::flip(&mut pixels, width),
            "blur" => blur::blur(&mut pixels, width, value),
            other => panic!("{other}"),
        }
        let [far, off] = apart(&pixels, &picture(&file).rgb);
        // Blur adds in another order, so that halves may be rounded to the other side.
        let most = if operation == "blur" { 0.001 } else { 0.0 };
        assert!(far == 0.0 && off <= most, "{operation} {value}: {far} and {off} of the bytes differ");
    }
}

#[test]
fn a_crop_is_resized_as_in_pillow() {
    let source = Image::from(std::sync::Arc::new(picture("source.png")));
    for Cropped { file, crop: [left, top, width, height, size] } in cases().crops {
        let spec = ImageSpec::new(size as usize);
        let opened = opened(&source, spec.config.background, &|_| [0; 2]).unwrap();
        let ours = opened.square(Some(Crop { left, top, width, height }), &spec).unwrap();
        let [far, _] = apart(&ours, &picture(&file).rgb);
        assert!(far <= 0.001, "{file}: {far} of the bytes differ by more than 1");
    }
}

#[test]
fn crops_have_torchvisions_sides() {
    let Cases { fitting, middles, .. } = cases();
    assert!(fitting.len() > 9 && middles.len() == 15);
    let sides = |of: &[f64]| [of[0] as u32, of[1] as u32];
    for of in fitting {
        assert_eq!(crop::shaped(sides(&of), of[2], of[3]), sides(&of[4..]), "{of:?}");
    }
    for of in middles {
        let ([left, top], [width, height]) = (sides(&of[4..]), sides(&of[6..]));
        assert_eq!(crop::middle(sides(&of), [of[2], of[3]]), Crop { left, top, width, height }, "{of:?}");
    }
}

#[test]
fn crops_are_anywhere_with_shares_uniform_and_ratios_log_uniform() {
    let (sides, scale, ratio) = ([1000_u32, 800], [0.1, 0.4], [0.5, 2.0]);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (mut shares, mut ratios, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..4000 {
        let Crop { left, top, width, height } = crop::draw(sides, scale, ratio, &mut rng);
        assert!(left + width <= sides[0] && top + height <= sides[1] && width > 0 && height > 0);
        shares.push(f64::from(width * height) / 800_000.0);
        ratios.push((f64::from(width) / f64::from(height)).ln());
        places.push(f64::from(left) / f64::from(sides[0] - width));
    }
    // Of a uniform distribution a quarter is below a quarter of the way.
    for (mut values, [least, most]) in [(shares, scale), (ratios, ratio.map(f64::ln)), (places, [0.0, 1.0])] {
        values.sort_by(f64::total_cmp);
        for (quarter, at) in [(0.25, 1000), (0.5, 2000), (0.75, 3000)] {
            let expected = least + (most - least) * quarter;
            let off = (values[at] - expected).abs() / (most - least);
            assert!(off < 0.03, "{quarter} of the values lie below {}, not {expected}", values[at]);
        }
        assert!(values[0] >= least - 0.01 && values[3999] <= most + 0.01);
    }
    // In a picture of one row none of ten tries fits.
    assert_eq!(crop::draw([900, 1], scale, ratio, &mut rng), crop::middle([900, 1], ratio));
}
