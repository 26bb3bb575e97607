//! Grids and pixels of tiles against transformers and an independent reading of MM1.5; the files come from
//! scripts/reference/tiling.py.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use mm1_data::document::{Image, Picture};
use mm1_data::image::{
    Fit, ImageConfig, ImageSpec, MAX_SIDE, ResizeFilter, TileGrid, TileView, Tiling, decode, open, prepare,
    prepare_views, upright_sides,
};
use serde::Deserialize;

use crate::preprocessor::source;
use crate::{plain, testdata};

#[derive(Deserialize)]
struct GridCase {
    tiling: Tiling,
    size: usize,
    /// Of a thousand rows each.
    hashes: Vec<String>,
    /// Every three hundredth.
    rows: Vec<String>,
}

/// The sizes of the script.
fn sizes(size: usize) -> impl Iterator<Item = [u32; 2]> {
    let mut state = size as u64;
    (0..12_000u64).map(move |i| {
        let most = if i % 3 == 2 { 4999 } else { 4 * size as u64 };
        [(); 2].map(|()| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            1 + ((state >> 33) % most) as u32
        })
    })
}

fn hashed(text: &str) -> String {
    let step = |value: u64, byte: u8| (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    format!("{:016x}", text.bytes().fold(0xCBF2_9CE4_8422_2325, step))
}

fn row(tiling: &Tiling, [width, height]: [u32; 2], size: usize) -> String {
    let Some(grid) = tiling.grid([width, height], size) else { return format!("{width}x{height} whole") };
    let canvas = tiling.canvas([width, height], grid, size);
    let steps: Vec<String> = canvas.resized.iter().map(|[w, h]| format!("{w}x{h}")).collect();
    let [left, top] = canvas.offset;
    format!("{width}x{height} {}x{} {} +{left}+{top}", grid.rows, grid.columns, steps.join(" "))
}

#[test]
fn grids_are_those_of_the_reference_for_120_000_sizes() {
    let cases: Vec<GridCase> =
        serde_json::from_slice(&fs::read(testdata("tiling/grids.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 10);
    for GridCase { tiling, size, hashes, rows } in cases {
        tiling.check(size).unwrap();
        let ours: Vec<String> = sizes(size).map(|sides| row(&tiling, sides, size)).collect();
        let shown: Vec<&String> = ours.iter().step_by(300).collect();
        assert_eq!(shown, rows.iter().collect::<Vec<_>>(), "{tiling:?}");
        let of_ours: Vec<String> = ours.chunks(1000).map(|rows| hashed(&rows.join("\n"))).collect();
        assert_eq!(of_ours, hashes, "{tiling:?}");
        // What a plan reckons with is what there can be.
        let all: BTreeSet<String> =
            tiling.grids(size).iter().map(|TileGrid { rows, columns }| format!("{rows}x{columns}")).collect();
        let found = ours.iter().filter_map(|row| row.split(' ').nth(1)).filter(|grid| *grid != "whole");
        found.for_each(|grid| assert!(all.contains(grid), "{tiling:?}: {grid} is not among its grids"));
    }
}

#[derive(Deserialize)]
struct PixelCase {
    name: String,
    tiling: Tiling,
    size: usize,
    sides: [u32; 2],
    filter: ResizeFilter,
    views: usize,
}

/// The views of a picture, and how many there are.
fn views(image: &Image, spec: &ImageSpec) -> (Vec<u8>, usize) {
    let tiling = &spec.config.tiling;
    let grid = tiling.grid(upright_sides(image).unwrap(), spec.size);
    (prepare_views(image, spec, grid).unwrap(), tiling.views(grid).len())
}

#[test]
fn pixels_are_those_of_the_reference() {
    let cases: Vec<PixelCase> =
        serde_json::from_slice(&fs::read(testdata("tiling/pixels.json")).unwrap()).unwrap();
    let (mut off, mut bytes) = (0, 0);
    for PixelCase { name, tiling, size, sides: [width, height], filter, views: count } in &cases {
        let mode = Fit::Sides;
        let spec = ImageConfig { mode, filter: *filter, tiling: tiling.clone(), ..ImageConfig::default() };
        let (ours, number) = views(&source(*width, *height), &spec.of_size(*size));
        let theirs = decode(&fs::read(testdata(&format!("tiling/{name}.png"))).unwrap(), MAX_SIDE).unwrap();
        assert_eq!((number, ours.len()), (*count, theirs.rgb.len()), "{name}");
        let far = ours.iter().zip(&theirs.rgb).filter(|(a, b)| a.abs_diff(**b) > 1).count();
        assert!(far as f64 <= 0.001 * ours.len() as f64, "{name}: {far} bytes differ by more than 1");
        off += ours.iter().zip(&theirs.rgb).filter(|(a, b)| a != b).count();
        bytes += ours.len();
    }
    println!("{off} of {bytes} bytes differ");
    assert_eq!(cases.len(), 15);
    assert!(off * 50 < bytes, "{off} of {bytes} bytes differ");
}

const DYNAMIC: &str = r#"{"kind": "dynamic", "min_tiles": 2, "max_tiles": 6}"#;

fn tiling(text: &str) -> Tiling {
    serde_json::from_str(text).unwrap()
}

fn spec(text: &str, size: usize) -> ImageSpec {
    ImageConfig { tiling: tiling(text), ..ImageConfig::default() }.of_size(size)
}

#[test]
fn the_overview_is_the_picture_without_tiling_and_tiles_are_its_parts() {
    // Of twice the size: the tiles are the quadrants, not resized.
    let image = source(32, 32);
    let (views, count) = views(&image, &spec(r#"{"kind": "mm1"}"#, 16));
    let whole = open(&image).unwrap();
    let pixel = |x: usize, y: usize| &whole.rgb[3 * (32 * y + x)..][..3];
    assert_eq!((count, &views[..16 * 16 * 3]), (5, &prepare(&image, &ImageSpec::new(16)).unwrap()[..]));
    for (tile, [x, y]) in [[0, 0], [16, 0], [0, 16], [16, 16]].into_iter().enumerate() {
        let tile = &views[(tile + 1) * 16 * 16 * 3..][..16 * 16 * 3];
        assert_eq!(&tile[3 * (16 * 5 + 7)..][..3], pixel(x + 7, y + 5));
    }
}

#[test]
fn a_rotated_picture_is_tiled_upright() {
    let file: Image = fs::read(testdata("image/rotated.jpg")).unwrap().into();
    let upright = Image::Pixels(open(&file).unwrap());
    assert_eq!(upright_sides(&file).unwrap(), upright_sides(&upright).unwrap());
    let spec = spec(DYNAMIC, 8);
    let ((ours, count), (theirs, of_upright)) = (views(&file, &spec), views(&upright, &spec));
    assert_eq!(count, of_upright);
    let sum: u64 = ours.iter().zip(&theirs).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
    assert!(sum < 2 * ours.len() as u64, "{sum} levels in {} bytes", ours.len());
}

#[test]
fn order_and_single_views_follow_the_setting() {
    let (last, first) = (r#"{"kind": "dynamic"}"#, r#"{"kind": "dynamic", "overview": "first"}"#);
    let grid = Some(TileGrid { rows: 2, columns: 3 });
    let (before, after) = (tiling(first).views(grid), tiling(last).views(grid));
    assert_eq!((before[0], after[6], before.len()), (TileView::Overview, TileView::Overview, 7));
    assert_eq!(after[4], TileView::Tile { row: 1, column: 1 });
    assert_eq!(before[1..], after[..6]);
    // One that fits a tile is one view; the same as without tiling.
    let small: Image = plain(16, 9, [9, 80, 200]).into();
    let (pixels, count) = views(&small, &spec(last, 16));
    assert_eq!((pixels, count), (prepare(&small, &ImageSpec::new(16)).unwrap(), 1));
    assert_eq!(tiling(r#"{"kind": "mm1"}"#).grid([3, 3], 16), Some(TileGrid { rows: 2, columns: 2 }));
}

#[test]
fn extreme_pictures_and_damaged_ones() {
    for kind in ["mm1", "dynamic", "anyres", "idefics3"] {
        let spec = spec(&format!(r#"{{"kind": "{kind}"}}"#), 8);
        for (width, height) in [(1, 1), (5000, 1), (1, 5000), (9, 8)] {
            let (pixels, count) = views(&plain(width, height, [9, 8, 7]).into(), &spec);
            assert_eq!(pixels.len(), count * spec.bytes(), "{kind} {width}x{height}");
        }
        let wrong = Arc::new(Picture { width: 40, height: 40, rgb: vec![0; 47] });
        let grid = spec.config.tiling.grid([40, 40], 8);
        assert!(prepare_views(&wrong.into(), &spec, grid).unwrap_err().to_string().contains("40x40"));
    }
}

#[test]
fn damaged_bytes_never_panic_and_sides_are_those_of_the_pixels() {
    let spec = spec(DYNAMIC, 8);
    for name in ["rgb.jpg", "rotated.jpg", "cmyk.jpg", "palette.png", "animated.gif", "lossless.webp"] {
        let whole = fs::read(testdata("image").join(name)).unwrap();
        let file: Image = whole.clone().into();
        let pixels = open(&file).unwrap();
        assert_eq!(upright_sides(&file).unwrap(), [pixels.width, pixels.height], "{name}");
        for at in 0..whole.len().min(400) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xFF;
            let image = Image::from(damaged);
            let Ok(sides) = upright_sides(&image) else { continue };
            let grid = spec.config.tiling.grid(sides, spec.size);
            let (Ok(_) | Err(_)) = prepare_views(&image, &spec, grid);
        }
    }
}

#[test]
fn settings_are_checked() {
    for (text, words) in [
        (r#"{"kind": "dynamic", "min_tiles": 5, "max_tiles": 4}"#, "min_tiles = 5"),
        (r#"{"kind": "dynamic", "min_tiles": 0}"#, "min_tiles = 0"),
        (r#"{"kind": "dynamic", "max_tiles": 65}"#, "1 to 64"),
        (r#"{"kind": "anyres", "grids": []}"#, "grids is empty"),
        (r#"{"kind": "anyres", "grids": [[0, 2]]}"#, "[0, 2] has 0 tiles"),
        (r#"{"kind": "idefics3", "longest": 1}"#, "longest = 1"),
        (r#"{"kind": "idefics3", "longest": 11}"#, "4224 pixels"),
    ] {
        let error = tiling(text).check(384).unwrap_err().to_string();
        assert!(error.starts_with("tiling") && error.contains(words), "{error}");
    }
    assert!(tiling(r#"{"kind": "mm1"}"#).check(4096).is_ok());
    let error = tiling(r#"{"kind": "dynamic"}"#).check(4096).unwrap_err().to_string();
    assert!(error.contains("9 tiles of 4096 pixels"), "{error}");
    for wrong in [r#"{"kind": "whole", "fit": "pad"}"#, r#"{"kind": "mm1", "tiles": 4}"#, r#"{"kind": "x"}"#]
    {
        assert!(serde_json::from_str::<Tiling>(wrong).is_err(), "{wrong}");
    }
}
