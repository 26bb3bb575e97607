//! [`PictureKey`]: whether two files show the same picture, whatever their codec, size and quality.

use std::collections::HashMap;

use anyhow::Result;

use super::{Fit, ImageConfig, ResizeFilter, prepare};
use crate::document::Image;

/// The side of the square to which a picture is reduced.
const SIDE: usize = 64;
/// Cells across and down whose lightness is compared with their neighbour's.
const CELLS: usize = 16;
/// Levels by which a cell has to be lighter than the next one to count as an edge.
// Without it the noise of a codec decides in flat parts: of 566 emoji as JPEG of quality 75, 49% were
// taken for others. From 4 to 8 it was none.
const EDGE: i32 = 4;
/// Bits of 256 in which the edges of one picture may differ.
const NEAR_EDGES: u32 = 8;
/// Levels by which the lightness of a 64th, and the colour of a 16th, of one picture may differ.
// JPEG of quality 75 changes icons of 72 pixels by up to 6 and 5.1. Without colours every heart is one
// picture.
const NEAR_LEVELS: u8 = 6;
/// Parts of the edges, one of which is equal in two keys that differ in [`NEAR_EDGES`] bits.
const BANDS: usize = NEAR_EDGES as usize + 1;
/// Bytes of a key: edges, lightness and colours.
pub(crate) const KEY_BYTES: usize = 32 + 64 + 32;
/// Levels of mean lightness in a bin.
const BIN: u8 = 8;

/// What a picture looks like, in 128 bytes.
///
/// The edges are dHash (Krawetz 2013) of 16 x 16 cells, rows closed to rings. It sees no colour, and
/// nothing in a picture without edges; so means of lightness and colour are compared too. Of the 7.85
/// million pairs of different Twemoji pictures 21 match, all of one person or flag; none does of those
/// that the built-in world draws.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureKey {
    /// For each of 16 x 16 cells whether it is lighter than the next in its row.
    edges: [u64; 4],
    /// The mean lightness of 8 x 8 parts.
    light: [u8; 64],
    /// The mean blue and red difference (as in JPEG) of 4 x 4 parts.
    colours: [[u8; 2]; 16],
}

impl PictureKey {
    /// The key of a picture, upright and over white; a JPEG is decoded at a reduced size.
    ///
    /// # Errors
    /// A picture that can't be decoded.
    pub fn of(image: &Image) -> Result<Self> {
        let config =
            ImageConfig { mode: Fit::Squash, filter: ResizeFilter::Bilinear, ..ImageConfig::default() };
        let rgb = prepare(image, &config.of_size(SIDE))?;
        let level = |weights: [i32; 3], p: &[u8]| -> i32 {
            (0..3).map(|c| weights[c] * i32::from(p[c])).sum::<i32>()
        };
        let cells = means::<CELLS>(&rgb, |p| level([299, 587, 114], p));
        let mut edges = [0_u64; 4];
        for at in 0..CELLS * CELLS {
            let next = at / CELLS * CELLS + (at + 1) % CELLS;
            edges[at / 64] |= u64::from(cells[at] > cells[next] + EDGE * 1000) << (at % 64);
        }
        let rounded = |thousandths: i32| ((thousandths + 500) / 1000).clamp(0, 255) as u8;
        let light = means::<8>(&rgb, |p| level([299, 587, 114], p));
        let blue = means::<4>(&rgb, |p| 128_000 + level([-169, -331, 500], p));
        let red = means::<4>(&rgb, |p| 128_000 + level([500, -419, -81], p));
        Ok(Self {
            edges,
            light: std::array::from_fn(|i| rounded(light[i])),
            colours: std::array::from_fn(|i| [rounded(blue[i]), rounded(red[i])]),
        })
    }

    /// Whether both show the same picture: at most 8 of 256 edges differ, and no part's lightness or
    /// colour by more than 6 levels of 256.
    pub fn matches(&self, other: &Self) -> bool {
        let near = |a: &[u8], b: &[u8]| a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= NEAR_LEVELS);
        let differ: u32 = self.edges.iter().zip(&other.edges).map(|(a, b)| (a ^ b).count_ones()).sum();
        differ <= NEAR_EDGES
            && near(&self.light, &other.light)
            && near(self.colours.as_flattened(), other.colours.as_flattened())
    }

    /// Whether nothing is to be seen: no edge. Such pictures match where they are of one colour.
    pub fn is_blank(&self) -> bool {
        self.edges == [0; 4]
    }

    /// The key as files of tasks have it.
    pub(crate) fn to_bytes(&self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        let edges = self.edges.iter().flat_map(|part| part.to_le_bytes());
        let all = edges.chain(self.light).chain(self.colours.as_flattened().iter().copied());
        bytes.iter_mut().zip(all).for_each(|(byte, value)| *byte = value);
        bytes
    }

    /// The key of these bytes.
    pub(crate) fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        let word = |part: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[8 * part + i]));
        Self {
            edges: std::array::from_fn(word),
            light: std::array::from_fn(|i| bytes[32 + i]),
            colours: std::array::from_fn(|i| [bytes[96 + 2 * i], bytes[97 + 2 * i]]),
        }
    }

    /// The parts of the edges, each with its number. The bits of a part are spread over the picture, so
    /// that an empty border does not make it equal for all pictures.
    fn bands(&self) -> [u32; BANDS] {
        let mut bands = [0; BANDS];
        for at in 0..256 {
            bands[at % BANDS] |= ((self.edges[at / 64] >> (at % 64) & 1) as u32) << (at / BANDS);
        }
        bands
    }

    fn bin(&self) -> u64 {
        let sum: u64 = self.light.iter().map(|&level| u64::from(level)).sum();
        sum / self.light.len() as u64 / u64::from(BIN)
    }
}

/// The means of `level` over `N` x `N` parts of the reduced picture.
fn means<const N: usize>(rgb: &[u8], level: impl Fn(&[u8]) -> i32) -> Vec<i32> {
    let part = SIDE / N;
    let mut sums = vec![0; N * N];
    for (at, pixel) in rgb.chunks_exact(3).enumerate() {
        sums[at / SIDE / part * N + at % SIDE / part] += level(pixel);
    }
    sums.into_iter().map(|sum| sum / (part * part) as i32).collect()
}

/// Different pictures, numbered from 0 as they come. It holds about 350 bytes of each, and looks at few
/// of them to find one again.
// Two keys that differ in 8 bits agree in one of 9 parts (Manku et al. 2007); those that agree in a part
// are compared. Means of lightness that match lie in one bin or in neighbours. Rejected: comparing all,
// which takes the square of their number.
#[derive(Default)]
pub struct PictureSet {
    keys: Vec<PictureKey>,
    /// The last picture of each part's value and bin of lightness.
    last: HashMap<u64, u32>,
    /// For each picture and part the picture before it of the same value and bin.
    before: Vec<[Option<u32>; BANDS]>,
}

impl PictureSet {
    /// The number of the first picture that matches.
    pub fn find(&self, key: &PictureKey) -> Option<u32> {
        let mut first: Option<u32> = None;
        self.candidates(key, |number, other| {
            if first.is_none_or(|first| number < first) && other.matches(key) {
                first = Some(number);
            }
        });
        first
    }

    /// Calls `look` with pictures among which are all that match, some of them more than once.
    pub(crate) fn candidates(&self, key: &PictureKey, mut look: impl FnMut(u32, &PictureKey)) {
        let bin = key.bin();
        for (band, value) in key.bands().into_iter().enumerate() {
            for bin in bin.saturating_sub(1)..=bin + 1 {
                let mut next = self.last.get(&place(band, value, bin)).copied();
                while let Some(number) = next {
                    look(number, &self.keys[number as usize]);
                    next = self.before[number as usize][band];
                }
            }
        }
    }

    /// The number of the first picture that matches, or that of this one, which is then new.
    pub fn number(&mut self, key: PictureKey) -> u32 {
        self.find(&key).unwrap_or_else(|| self.insert(key))
    }

    /// The number of this picture as a new one.
    pub(crate) fn insert(&mut self, key: PictureKey) -> u32 {
        let number = self.keys.len() as u32;
        let (bin, mut before) = (key.bin(), [None; BANDS]);
        for (band, value) in key.bands().into_iter().enumerate() {
            before[band] = self.last.insert(place(band, value, bin), number);
        }
        self.before.push(before);
        self.keys.push(key);
        number
    }

    /// The pictures, in order.
    pub(crate) fn into_keys(self) -> Vec<PictureKey> {
        self.keys
    }

    /// How many different pictures there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// Where pictures of this value are listed.
fn place(band: usize, value: u32, bin: u64) -> u64 {
    u64::from(value) << 16 | (band as u64) << 8 | bin
}
