//! Views of pictures: what is drawn, for whom, and that nothing else decides it. Their arithmetic is
//! tested beside it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use anyhow::Result;
use mm1_data::augment::{Augment, ColourJitter, LocalViews, PictureViews};
use mm1_data::batch::{Batch, BatchContent};
use mm1_data::document::{Document, Image, Picture, Segment};
use mm1_data::image::{DecodeBudget, Fit, ImageConfig, ImageSpec, prepare};
use mm1_data::loader::{Cursor, Loader, LoaderConfig, RankShare, RowFill};
use mm1_data::mixture::{Mixture, MixturePart};
use mm1_data::pack::Packing;
use mm1_data::source::{Source, Split};

use crate::{document, end, testdata, tokenizer};

/// A set of five documents of one or two pictures, over and over.
struct Five;

/// A picture whose every pixel tells its place.
fn gradient(number: u8) -> Image {
    let rgb = (0..48).flat_map(|y| (0..60).flat_map(move |x| [4 * x, 5 * y, 40 * number]));
    Arc::new(Picture { width: 60, height: 48, rgb: rgb.collect() }).into()
}

impl Source for Five {
    fn document(&self, split: Split, index: u64) -> Result<Document> {
        let number = (index % 5) as u8;
        let mut segments = vec![Segment::Image(gradient(number)), Segment::text(" A cat"), end()];
        if number == 4 {
            segments.insert(0, Segment::Image(gradient(5)));
        }
        Ok(document(&format!("five/{}/{number}", split.name()), segments))
    }

    fn len(&self, _: Split) -> Option<u64> {
        Some(5)
    }
}

fn everything() -> Augment {
    Augment {
        scale: [0.2, 0.8],
        flip: 0.5,
        jitter: ColourJitter { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
        grey: 0.2,
        blur: 0.5,
        solarise: 0.2,
        ..Augment::default()
    }
}

fn views() -> PictureViews {
    let local = LocalViews { views: 3, size: 8, augment: Augment { scale: [0.05, 0.2], ..everything() } };
    PictureViews { global: vec![everything(), Augment { solarise: 0.0, ..everything() }], local }
}

fn config(views: PictureViews, threads: usize) -> LoaderConfig {
    let part = |name: &str| MixturePart { name: name.to_owned(), source: Arc::new(Five), weight: 1.0 };
    let packing = Packing {
        tokenizer: tokenizer(),
        image: ImageSpec::new(16),
        views,
        image_tokens: 2,
        length: 12,
        decoding: DecodeBudget::default(),
    };
    LoaderConfig {
        mixture: Mixture::new(vec![part("one"), part("other")]).unwrap(),
        packing,
        rows: 4,
        fill: RowFill::Single,
        content: BatchContent::Language,
        share: RankShare::default(),
        seed: 5,
        threads,
        max_skipped_share: 0.0,
    }
}

fn take(config: LoaderConfig, cursor: Cursor, batches: usize) -> Vec<(Batch, Cursor)> {
    let mut loader = Loader::start(config, cursor).unwrap();
    (0..batches).map(|_| loader.next().unwrap()).collect()
}

#[test]
fn the_views_are_the_same_with_any_threads_and_after_a_resume() {
    let one = take(config(views(), 1), Cursor::default(), 12);
    assert_eq!(one, take(config(views(), 3), Cursor::default(), 12));
    assert_eq!(one, take(config(views(), 7), Cursor::default(), 12));
    for (i, (_, cursor)) in one.iter().enumerate().take(10) {
        assert_eq!(take(config(views(), 1 + i % 3), cursor.clone(), 2), one[i + 1..i + 3]);
    }
    let other = take(LoaderConfig { seed: 6, ..config(views(), 2) }, Cursor::default(), 12);
    assert_ne!(one[0].0.pixels, other[0].0.pixels);
}

#[test]
fn a_batch_of_single_examples_holds_the_views_of_each_picture_one_after_the_other() {
    let (size, local) = (16 * 16 * 3, 8 * 8 * 3);
    let (mut pictures, mut doubles) = (0, 0);
    for (batch, cursor) in take(config(views(), 2), Cursor::default(), 10) {
        assert_eq!((batch.rows, batch.examples.len()), (4, 4));
        assert!((0..4).all(|row| batch.examples[row].row == row && batch.examples[row].start == 0));
        pictures += batch.images();
        doubles += batch.samples().filter(|sample| sample.ends_with('4')).count();
        assert_eq!(batch.pixels.len(), batch.images() * 2 * size);
        assert_eq!((batch.crops.len(), batch.crop_size), (batch.images() * 3 * local, 8));
        // One document a row, so none is left over.
        assert_eq!(cursor.row, cursor.sources.values().map(|source| source.next).sum::<u64>());
    }
    assert!(doubles > 4);
    assert_eq!(pictures, 40 + doubles, "each fifth document has two");
    // Only the blue channel, which is flat, tells which picture a crop is of.
    let flat = Augment { scale: [0.2, 0.8], flip: 0.5, ..Augment::default() };
    let local = LocalViews { views: 3, size: 8, augment: flat.clone() };
    let (batch, _) =
        take(config(PictureViews { global: vec![flat.clone(), flat], local }, 2), Cursor::default(), 3)
            .remove(2);
    let numbers: Vec<f32> = batch
        .samples()
        .flat_map(|sample| match sample.split_at(sample.len() - 1).1 {
            "4" => vec![5.0, 4.0],
            number => vec![number.parse().unwrap()],
        })
        .collect();
    assert_eq!(numbers.len(), batch.images());
    for (pixels, view) in [(&batch.pixels, size * 2), (&batch.crops, 8 * 8 * 3 * 3)] {
        for (views, number) in pixels.chunks_exact(view).zip(&numbers) {
            assert!(
                views
                    .iter()
                    .skip(2)
                    .step_by(3)
                    .all(|blue| (blue - (number * 80.0 / 255.0 - 1.0)).abs() < 0.01)
            );
        }
    }
}

#[test]
fn every_epoch_every_source_every_picture_and_every_view_has_other_crops() {
    let crop = Augment { scale: [0.2, 0.8], ..Augment::default() };
    let views = PictureViews { global: vec![crop.clone(), crop], local: LocalViews::default() };
    let mut seen = BTreeSet::new();
    let mut drawn = 0;
    for (batch, _) in take(config(views, 2), Cursor::default(), 10) {
        for view in batch.pixels.chunks_exact(16 * 16 * 3) {
            // Red and green tell the place; blue the picture.
            seen.insert(
                view.chunks_exact(3).flat_map(|p| [p[0].to_bits(), p[1].to_bits()]).collect::<Vec<_>>(),
            );
            drawn += 1;
        }
    }
    assert!(drawn > 80);
    assert_eq!(seen.len(), drawn);
}

#[test]
fn without_augmentation_views_are_the_prepared_pictures() {
    let jpeg = Image::from(fs::read(testdata("image/photo.jpg")).unwrap());
    for mode in [Fit::Squash, Fit::CentreCrop, Fit::Pad] {
        let spec = ImageConfig { mode, ..ImageConfig::default() }.of_size(60);
        for image in [&gradient(1), &jpeg] {
            let whole = prepare(image, &spec).unwrap();
            let drawn = PictureViews::default().draw(image, &spec, 7, 0).unwrap();
            assert_eq!((drawn.global, drawn.local.len()), (whole.clone(), 0));
            let local = LocalViews { views: 1, size: 60, ..LocalViews::default() };
            let twice = PictureViews { global: vec![Augment::default(); 2], local };
            let drawn = twice.draw(image, &spec, 7, 0).unwrap();
            assert_eq!((drawn.global, drawn.local), (whole.repeat(2), whole));
        }
    }
    let packed = |views| {
        let config = LoaderConfig { fill: RowFill::Packed, ..config(views, 2) };
        take(config, Cursor::default(), 6)
    };
    let batches = packed(PictureViews::default());
    assert!(batches.iter().all(|(batch, _)| batch.crops.is_empty() && batch.crop_size == 0));
    assert!(batches.iter().any(|(batch, _)| batch.examples.len() > batch.rows), "rows are packed");
}

#[test]
fn a_crop_of_a_jpeg_at_reduced_size_is_near_that_of_the_whole() {
    let jpeg = Image::from(fs::read(testdata("image/photo.jpg")).unwrap());
    let whole = Image::Pixels(mm1_data::image::open(&jpeg).unwrap());
    let views = PictureViews {
        global: vec![Augment { scale: [0.6, 0.9], ..Augment::default() }],
        ..PictureViews::default()
    };
    for key in 0..8 {
        let [reduced, full] =
            [&jpeg, &whole].map(|image| views.draw(image, &ImageSpec::new(40), key, 0).unwrap().global);
        let sum: u64 = reduced.iter().zip(&full).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
        let off = sum as f64 / full.len() as f64;
        assert!(off > 0.0 && off < 2.5, "{key}: {off} levels from the whole decode");
    }
}

/// How many of 400 views of a picture the augmentation changes.
fn changed(augment: Augment) -> usize {
    let (image, spec) = (gradient(2), ImageSpec::new(16));
    let plain = prepare(&image, &spec).unwrap();
    let views = PictureViews { global: vec![augment], ..PictureViews::default() };
    (0..400).filter(|&key| views.draw(&image, &spec, key, 0).unwrap().global != plain).count()
}

#[test]
fn a_picture_of_one_pixel_is_shown_and_one_of_none_is_refused() {
    let picture = |width, height| -> Image {
        Arc::new(Picture { width, height, rgb: vec![9; (width * height * 3) as usize] }).into()
    };
    let drawn = views().draw(&picture(1, 1), &ImageSpec::new(16), 1, 0).unwrap();
    assert_eq!((drawn.global.len(), drawn.local.len()), (2 * 16 * 16 * 3, 3 * 8 * 8 * 3));
    for none in [picture(0, 0), picture(0, 5), picture(5, 0)] {
        assert!(views().draw(&none, &ImageSpec::new(16), 1, 0).unwrap_err().to_string().contains("pixels"));
    }
}

#[test]
fn each_change_comes_as_often_as_it_is_asked_for() {
    let jitter = |jitter| Augment { jitter, ..Augment::default() };
    let often = ColourJitter { probability: 0.3, ..ColourJitter::default() };
    for augment in [
        Augment { flip: 0.3, ..Augment::default() },
        Augment { grey: 0.3, ..Augment::default() },
        Augment { blur: 0.3, sigma: [1.0, 2.0], ..Augment::default() },
        Augment { solarise: 0.3, ..Augment::default() },
        jitter(ColourJitter { brightness: 0.4, ..often }),
        jitter(ColourJitter { contrast: 0.4, ..often }),
        jitter(ColourJitter { saturation: 0.9, ..often }),
        jitter(ColourJitter { hue: 0.4, ..often }),
    ] {
        let times = changed(augment.clone());
        assert!((90..150).contains(&times), "{times} of 400 for {augment:?}");
    }
    assert_eq!(changed(jitter(often)), 0);
    assert_eq!(changed(jitter(ColourJitter { brightness: 0.4, ..ColourJitter::default() })), 0);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let global =
        |augment| PictureViews { global: vec![Augment::default(), augment], ..PictureViews::default() };
    let plain = Augment::default;
    let jitter = |jitter| global(Augment { jitter, ..plain() });
    for (wrong, field) in [
        (PictureViews { global: vec![], ..PictureViews::default() }, "views.global is empty"),
        (global(Augment { scale: [0.0, 1.0], ..plain() }), "views.global[1].scale = [0.0, 1.0]"),
        (global(Augment { scale: [0.5, 1.1], ..plain() }), "views.global[1].scale"),
        (global(Augment { ratio: [2.0, 1.0], ..plain() }), "views.global[1].ratio"),
        (global(Augment { sigma: [0.0, 1.0], ..plain() }), "views.global[1].sigma"),
        (global(Augment { flip: 1.5, ..plain() }), "views.global[1].flip"),
        (global(Augment { grey: -0.1, ..plain() }), "views.global[1].grey"),
        (global(Augment { blur: f64::NAN, ..plain() }), "views.global[1].blur"),
        (global(Augment { solarise: 2.0, ..plain() }), "views.global[1].solarise"),
        (
            jitter(ColourJitter { probability: 2.0, ..ColourJitter::default() }),
            "views.global[1].jitter.probability",
        ),
        (
            jitter(ColourJitter { brightness: -1.0, ..ColourJitter::default() }),
            "views.global[1].jitter.brightness",
        ),
        (
            jitter(ColourJitter { contrast: f64::INFINITY, ..ColourJitter::default() }),
            "views.global[1].jitter.contrast",
        ),
        (
            jitter(ColourJitter { saturation: -0.1, ..ColourJitter::default() }),
            "views.global[1].jitter.saturation",
        ),
        (jitter(ColourJitter { hue: 0.6, ..ColourJitter::default() }), "views.global[1].jitter.hue"),
        (
            PictureViews {
                local: LocalViews { size: 0, ..LocalViews::default() },
                ..PictureViews::default()
            },
            "views.local.size = 0",
        ),
    ] {
        let error = Loader::start(config(wrong, 1), Cursor::default()).err().unwrap().to_string();
        assert!(error.starts_with(field) && !error.contains('\n'), "{error}");
    }
    let local = LocalViews { augment: Augment { flip: -1.0, ..plain() }, ..LocalViews::default() };
    let error = PictureViews { local, ..PictureViews::default() }.check().unwrap_err().to_string();
    assert!(error.starts_with("views.local.augment.flip = -1"), "{error}");
    assert_eq!(serde_json::from_str::<PictureViews>("{}").unwrap(), PictureViews::default());
    assert!(serde_json::from_str::<PictureViews>(r#"{"global": [{"flipp": 1}]}"#).is_err());
    assert!(PictureViews::default().check().is_ok() && views().check().is_ok());
}
