//! What encoder training does to a picture: seeded views, crops and colours, as torchvision draws them from
//! PIL pictures.
//!
//! A view is a pure function of (seed, name of the source, index in the source's endless order, picture of
//! the document, number of the view): each epoch sees others, and a resume sees the same.

mod blur;
mod colour;
mod crop;
#[cfg(test)]
mod tests;

use anyhow::{Result, ensure};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::document::Image;
use crate::image::{Crop, ImageSpec, PictureHeader, needed, opened, read_header};

/// The views that training of an encoder takes of each image, `views`. The default is one view that shows
/// the whole image as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PictureViews {
    /// The augmentations of each global view, in this order; the views have `model.vision.image_size`.
    #[schemars(length(min = 1))]
    pub global: Vec<Augment>,
    /// Views of small parts of the image, in a smaller size.
    pub local: LocalViews,
}

impl Default for PictureViews {
    fn default() -> Self {
        Self { global: vec![Augment::default()], local: LocalViews::default() }
    }
}

/// Local views, `views.local` (multi-crop, Caron et al. 2020): objective `dino` alone has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LocalViews {
    /// Local views of each image.
    /// Unit: views.
    pub views: usize,
    /// Side of a local view, in whole patches.
    /// Unit: pixels.
    #[schemars(range(min = 1, max = 4096))]
    pub size: usize,
    /// The augmentations of each local view.
    pub augment: Augment,
}

impl Default for LocalViews {
    fn default() -> Self {
        Self { views: 0, size: 96, augment: Augment::default() }
    }
}

/// The augmentations of a view, applied in the order of the fields. By default none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// The smallest and the largest random resized crop (Szegedy et al. 2015), as a share of the image's
    /// area. `[1, 1]` crops nothing: the image is resized as `image.mode` says.
    /// Unit: fraction.
    #[schemars(inner(range(min = 0, max = 1)))]
    pub scale: [f64; 2],
    /// The smallest and the largest aspect ratio of a crop, width over height, before it is resized to a
    /// square.
    /// Unit: ratio.
    pub ratio: [f64; 2],
    /// Probability of a horizontal flip.
    /// Unit: probability.
    #[schemars(range(min = 0, max = 1))]
    pub flip: f64,
    /// Colour jitter.
    pub jitter: ColourJitter,
    /// Probability of conversion to greyscale.
    /// Unit: probability.
    #[schemars(range(min = 0, max = 1))]
    pub grey: f64,
    /// Probability of a Gaussian blur with a kernel of nine pixels, as DINOv2's.
    /// Unit: probability.
    #[schemars(range(min = 0, max = 1))]
    pub blur: f64,
    /// The smallest and the largest standard deviation of the blur.
    /// Unit: pixels of the view.
    pub sigma: [f64; 2],
    /// Probability of solarisation: levels from 128 on are inverted.
    /// Unit: probability.
    #[schemars(range(min = 0, max = 1))]
    pub solarise: f64,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            scale: [1.0; 2],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            flip: 0.0,
            jitter: ColourJitter::default(),
            grey: 0.0,
            blur: 0.0,
            sigma: [0.1, 2.0],
            solarise: 0.0,
        }
    }
}

/// Colour jitter, `jitter`, as torchvision's `ColorJitter`: four changes in a random order. A factor is drawn
/// from `1 - x` to `1 + x` and is never below 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ColourJitter {
    /// Probability that the image is changed at all.
    /// Unit: probability.
    #[schemars(range(min = 0, max = 1))]
    pub probability: f64,
    /// `x` of the factor on all levels.
    /// Unit: factor.
    #[schemars(range(min = 0))]
    pub brightness: f64,
    /// `x` of the factor on the distances from the image's mean grey.
    /// Unit: factor.
    #[schemars(range(min = 0))]
    pub contrast: f64,
    /// `x` of the factor on the distances from each pixel's grey.
    /// Unit: factor.
    #[schemars(range(min = 0))]
    pub saturation: f64,
    /// The largest shift of the hue to either side.
    /// Unit: turns of the colour circle.
    #[schemars(range(min = 0, max = 0.5))]
    pub hue: f64,
}

impl PictureViews {
    /// Checks the numbers.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.global.is_empty(), "views.global is empty: give one augmentation for each global view");
        for (i, augment) in self.global.iter().enumerate() {
            augment.check(&format!("views.global[{i}]"))?;
        }
        let size = self.local.size;
        ensure!((1..=4096).contains(&size), "views.local.size = {size}: give 1 to 4096 pixels");
        self.local.augment.check("views.local.augment")
    }

    /// Bytes of the views of one picture.
    pub fn bytes(&self, image: &ImageSpec) -> usize {
        self.global.len() * image.bytes() + self.local.views * self.local.size * self.local.size * 3
    }

    /// Whether any view shows less than `image` says.
    pub(crate) fn crop(&self) -> bool {
        self.global.iter().any(Augment::crops) || self.local.views > 0 && self.local.augment.crops()
    }

    /// The views of the picture with this number in its document, drawn with the document's [`key`]. The
    /// picture is decoded once, a JPEG no larger than the views need.
    ///
    /// # Errors
    /// A picture that can't be decoded, one without pixels.
    pub fn draw(&self, image: &Image, spec: &ImageSpec, key: u64, number: usize) -> Result<DrawnViews> {
        let local = ImageSpec { size: self.local.size, ..spec.clone() };
        let globals = self.global.iter().map(|augment| (augment, spec));
        let locals = std::iter::repeat_n((&self.local.augment, &local), self.local.views);
        // Views are numbered through the document: its second picture does not see the crops of its first.
        let first = number * (self.global.len() + self.local.views);
        let mut views: Vec<ViewDraw> =
            globals.chain(locals).zip(first as u64..).map(|of| ViewDraw::new(of, key)).collect();
        // Only a crop needs the sides before the picture is decoded.
        // Headers cost a seek in a file that is in memory; still, the default view needs none.
        if self.crop() {
            let PictureHeader { width, height, .. } = read_header(image)?;
            ensure!(width > 0 && height > 0, "a picture of {width}x{height} pixels");
            views.iter_mut().for_each(|view| view.choose([width, height]));
        }
        let enough = |sides| {
            let needed = views.iter().map(|view| needed(sides, view.crop, view.spec));
            needed.fold([0; 2], |a, b| [a[0].max(b[0]), a[1].max(b[1])])
        };
        let picture = opened(image, spec.config.background, &enough)?;
        let mut drawn = DrawnViews::default();
        for (i, mut view) in views.into_iter().enumerate() {
            let mut pixels = picture.square(view.crop, view.spec)?;
            view.augment.change(&mut pixels, view.spec.size, &mut view.rng);
            let to = if i < self.global.len() { &mut drawn.global } else { &mut drawn.local };
            to.append(&mut pixels);
        }
        Ok(drawn)
    }
}

/// What the views of a document's pictures are drawn from, for the document at `index` of a source's endless
/// order.
pub fn key(seed: u64, source: &str, index: u64) -> u64 {
    xxh3_64(format!("{seed}/views/{source}/{index}").as_bytes())
}

/// The views of one picture, of bytes, channels last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrawnViews {
    /// `[global, size, size, 3]`.
    pub global: Vec<u8>,
    /// `[local, local size, local size, 3]`.
    pub local: Vec<u8>,
}

/// A view being drawn.
struct ViewDraw<'a> {
    augment: &'a Augment,
    spec: &'a ImageSpec,
    rng: ChaCha8Rng,
    /// `None`: all of the picture.
    crop: Option<Crop>,
}

impl<'a> ViewDraw<'a> {
    fn new(((augment, spec), number): ((&'a Augment, &'a ImageSpec), u64), key: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(key);
        // A stream for each view, so that one more local view changes none of the others.
        rng.set_stream(number);
        Self { augment, spec, rng, crop: None }
    }

    fn choose(&mut self, sides: [u32; 2]) {
        if self.augment.crops() {
            self.crop = Some(crop::draw(sides, self.augment.scale, self.augment.ratio, &mut self.rng));
        }
    }
}

impl Augment {
    fn crops(&self) -> bool {
        self.scale != [1.0; 2]
    }

    /// Checks the numbers; `name` is what the recipe calls this augmentation.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn check(&self, name: &str) -> Result<()> {
        let Self { scale, ratio, flip, jitter, grey, blur, sigma, solarise } = *self;
        let ordered = |[least, most]: [f64; 2]| least > 0.0 && least <= most && most.is_finite();
        ensure!(
            ordered(scale) && scale[1] <= 1.0,
            "{name}.scale = {scale:?}: give the least and the largest share of the area, above 0 and \
             at most 1"
        );
        ensure!(
            ordered(ratio),
            "{name}.ratio = {ratio:?}: give the least and the largest width for a height of 1, above 0"
        );
        ensure!(
            ordered(sigma),
            "{name}.sigma = {sigma:?}: give the least and the largest deviation in pixels, above 0"
        );
        let ColourJitter { probability, brightness, contrast, saturation, hue } = jitter;
        for (field, value) in [
            ("flip", flip),
            ("jitter.probability", probability),
            ("grey", grey),
            ("blur", blur),
            ("solarise", solarise),
        ] {
            ensure!((0.0..=1.0).contains(&value), "{name}.{field} = {value}: give a probability from 0 to 1");
        }
        for (field, value) in [("brightness", brightness), ("contrast", contrast), ("saturation", saturation)]
        {
            let fine = value >= 0.0 && value.is_finite();
            ensure!(fine, "{name}.jitter.{field} = {value}: give a number from 0 up");
        }
        ensure!((0.0..=0.5).contains(&hue), "{name}.jitter.hue = {hue}: give 0 to 0.5 turns");
        Ok(())
    }

    /// What follows the crop, on `[size, size, 3]` bytes. Each step rounds to bytes, as on PIL pictures.
    fn change(&self, pixels: &mut [u8], size: usize, rng: &mut ChaCha8Rng) {
        if rng.random_bool(self.flip) {
            colour::flip(pixels, size);
        }
        if rng.random_bool(self.jitter.probability) {
            self.jitter.change(pixels, rng);
        }
        if rng.random_bool(self.grey) {
            colour::saturation(pixels, 0.0);
        }
        if rng.random_bool(self.blur) {
            blur::blur(pixels, size, rng.random_range(self.sigma[0]..=self.sigma[1]));
        }
        if rng.random_bool(self.solarise) {
            colour::solarise(pixels);
        }
    }
}

impl ColourJitter {
    fn change(&self, pixels: &mut [u8], rng: &mut ChaCha8Rng) {
        let factor = |x: f64, rng: &mut ChaCha8Rng| rng.random_range((1.0 - x).max(0.0)..=1.0 + x);
        let mut order = [0, 1, 2, 3];
        order.shuffle(rng);
        for step in order {
            match step {
                0 if self.brightness > 0.0 => colour::brightness(pixels, factor(self.brightness, rng)),
                1 if self.contrast > 0.0 => colour::contrast(pixels, factor(self.contrast, rng)),
                2 if self.saturation > 0.0 => colour::saturation(pixels, factor(self.saturation, rng)),
                3 if self.hue > 0.0 => colour::hue(pixels, rng.random_range(-self.hue..=self.hue)),
                _ => {}
            }
        }
    }
}
