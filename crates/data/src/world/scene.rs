//! [`Scene`]: one to four emoji on a coloured background: how it is composed, drawn and described.

use rand::Rng as _;
use rand::seq::SliceRandom as _;

use super::World;
use super::author::Author;
use super::draw::{Canvas, Rect};
use super::lexicon::{COLOURS, Emoji, enumerate, with_article};
use crate::document::Picture;
use crate::source::interface::Split;

/// Where an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectPlace {
    /// The upper left quarter.
    TopLeft,
    /// The upper right quarter.
    TopRight,
    /// The lower left quarter.
    BottomLeft,
    /// The lower right quarter.
    BottomRight,
    /// The middle of the picture; only where the object is alone.
    Centre,
}

impl ObjectPlace {
    /// Every place, in the order of its number.
    pub const ALL: [Self; 5] =
        [Self::TopLeft, Self::TopRight, Self::BottomLeft, Self::BottomRight, Self::Centre];
    /// The quarters in reading order.
    pub(crate) const QUARTERS: [Self; 4] =
        [Self::TopLeft, Self::TopRight, Self::BottomLeft, Self::BottomRight];

    /// As in "in the top left".
    pub fn name(self) -> &'static str {
        match self {
            Self::TopLeft => "top left",
            Self::TopRight => "top right",
            Self::BottomLeft => "bottom left",
            Self::BottomRight => "bottom right",
            Self::Centre => "centre",
        }
    }
}

/// How large an object is for its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectSize {
    /// About a third of the picture's side in a quarter, half of it in the centre.
    Small,
    /// About half of the picture's side in a quarter, three quarters of it in the centre.
    Large,
}

impl ObjectSize {
    /// `small` or `large`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }

    /// Side of the object as a share of the picture's side.
    fn share(self, place: ObjectPlace) -> f64 {
        match (place, self) {
            (ObjectPlace::Centre, Self::Large) => 0.75,
            (ObjectPlace::Centre, Self::Small) => 0.5,
            (_, Self::Large) => 0.48,
            (_, Self::Small) => 0.34,
        }
    }
}

/// One emoji in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Which: a place in [`World::emoji`].
    pub emoji: usize,
    /// Where it stands.
    pub place: ObjectPlace,
    /// How large it is.
    pub size: ObjectSize,
    /// Pixels between the picture's left edge and it.
    pub left: u32,
    /// Pixels between the picture's top edge and it.
    pub top: u32,
    /// Its width and height in pixels.
    pub side: u32,
}

/// A composition: everything that its picture shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// The background colour: a place in [`COLOURS`].
    pub colour: usize,
    /// The colour's shade in this picture.
    pub shade: [u8; 3],
    /// One to four different emoji in reading order.
    pub objects: Vec<Object>,
}

/// The usual shares of scenes of one to four objects.
const NUMBERS: [(u32, usize); 4] = [(40, 1), (30, 2), (20, 3), (10, 4)];

impl Author<'_> {
    /// A scene of one to four objects.
    pub(super) fn scene(&mut self) -> Scene {
        let number = self.weighted(&NUMBERS);
        self.scene_of(number)
    }

    /// A scene of `number` objects.
    pub(super) fn scene_of(&mut self, number: usize) -> Scene {
        let emoji = self.rng.random_range(0..self.world.emoji.len());
        self.scene_with(emoji, number)
    }

    /// A scene of `number` objects, `emoji` among them.
    pub(super) fn scene_with(&mut self, emoji: usize, number: usize) -> Scene {
        let places = self.places(number);
        let colour = self.pick(self.world.pairs(places[0]).colours(self.split, emoji));
        self.compose(colour, vec![emoji], &places)
    }

    /// A scene of `number` objects on the colour of `other`, the first of them not in it.
    pub(super) fn scene_like(&mut self, other: &Scene, number: usize) -> Scene {
        let places = self.places(number);
        let first = self.another(other.colour, places[0], |e| other.find(e).is_some());
        self.compose(other.colour, vec![first], &places)
    }

    /// An emoji that this split allows on the scene's colour and that is not in it.
    pub(super) fn absent(&mut self, scene: &Scene) -> usize {
        let place = self.pick(&ObjectPlace::ALL);
        self.another(scene.colour, place, |e| scene.find(e).is_some())
    }

    /// A place for each of `number` objects.
    fn places(&mut self, number: usize) -> Vec<ObjectPlace> {
        if number == 1 && self.chance(0.6) {
            return vec![ObjectPlace::Centre];
        }
        let mut places = ObjectPlace::QUARTERS;
        places.shuffle(&mut self.rng);
        places[..number].to_vec()
    }

    /// The emoji of the first places are chosen.
    fn compose(&mut self, colour: usize, mut chosen: Vec<usize>, places: &[ObjectPlace]) -> Scene {
        for &place in &places[chosen.len()..] {
            chosen.push(self.another(colour, place, |e| chosen.contains(&e)));
        }
        let mut objects: Vec<Object> =
            chosen.into_iter().zip(places).map(|(emoji, &place)| self.object(emoji, place)).collect();
        objects.sort_by_key(|o| o.place);
        Scene { colour, shade: self.shade(colour), objects }
    }

    /// An emoji that this split allows there and that is not `taken`, which at most four are.
    pub(super) fn another(
        &mut self,
        colour: usize,
        place: ObjectPlace,
        taken: impl Fn(usize) -> bool,
    ) -> usize {
        let allowed = self.world.pairs(place).emoji(self.split, colour);
        let free: Vec<usize> = allowed.iter().copied().filter(|&e| !taken(e)).collect();
        self.pick(&free)
    }

    fn object(&mut self, emoji: usize, place: ObjectPlace) -> Object {
        let size = self.pick(&[ObjectSize::Small, ObjectSize::Large]);
        self.object_of(emoji, place, size)
    }

    /// An object somewhere in its place.
    pub(super) fn object_of(&mut self, emoji: usize, place: ObjectPlace, size: ObjectSize) -> Object {
        let picture = self.world.config.picture_size;
        let side = (f64::from(picture) * size.share(place)).round() as u32;
        let half = picture / 2;
        // The first pixel of the part in which the object may stand, and that part's side.
        let (left, top, room) = match place {
            ObjectPlace::TopLeft => (0, 0, half),
            ObjectPlace::TopRight => (picture - half, 0, half),
            ObjectPlace::BottomLeft => (0, picture - half, half),
            ObjectPlace::BottomRight => (picture - half, picture - half, half),
            ObjectPlace::Centre => {
                let room = side + picture / 8;
                ((picture - room) / 2, (picture - room) / 2, room)
            }
        };
        let left = left + self.rng.random_range(0..=room - side);
        let top = top + self.rng.random_range(0..=room - side);
        Object { emoji, place, size, left, top, side }
    }

    /// The colour a little lighter or darker, and each channel a little off.
    pub(super) fn shade(&mut self, colour: usize) -> [u8; 3] {
        let light = self.rng.random_range(-9i16..=9);
        COLOURS[colour].1.map(|c| {
            let off = light + self.rng.random_range(-5i16..=5);
            (i16::from(c) + off).clamp(0, 255) as u8
        })
    }
}

impl Scene {
    /// The name of the background colour.
    pub(crate) fn colour_name(&self) -> &'static str {
        COLOURS[self.colour].0
    }

    /// The object that shows `emoji`.
    pub fn find(&self, emoji: usize) -> Option<&Object> {
        self.objects.iter().find(|o| o.emoji == emoji)
    }

    /// Whether each of its emoji, on its colour and in its place, belongs to `split`.
    pub fn belongs(&self, world: &World, split: Split) -> bool {
        self.objects.iter().all(|o| world.allows(split, o.emoji, self.colour, o.place))
    }

    /// The description in the words of `wording`, without a capital or a full stop.
    pub(super) fn description(&self, world: &World, wording: Wording) -> String {
        let mut objects: Vec<String> = self.objects.iter().map(|o| o.phrase(world, wording)).collect();
        objects.rotate_left(wording.first % self.objects.len());
        if wording.backwards {
            objects.reverse();
        }
        let (objects, background) =
            (enumerate(&objects), with_article(&format!("{} background", self.colour_name())));
        if wording.background_first {
            format!("{background} with {objects}")
        } else {
            format!("{objects} on {background}")
        }
    }
}

/// How a scene is described. The default is the canonical wording: "a small dog face in the top left and a
/// large red apple in the bottom right on a blue background".
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wording {
    /// Leaves out the sizes.
    pub(super) sizeless: bool,
    /// Leaves out the places.
    pub(super) placeless: bool,
    /// Names the background before the objects.
    pub(super) background_first: bool,
    /// Begins with this object and goes round.
    pub(super) first: usize,
    /// Goes against the reading order.
    pub(super) backwards: bool,
}

impl Object {
    /// "a small dog face in the top left"
    pub(super) fn phrase(&self, world: &World, wording: Wording) -> String {
        let name = world.emoji[self.emoji].name;
        let mut phrase = if wording.sizeless {
            with_article(name)
        } else {
            with_article(&format!("{} {name}", self.size.name()))
        };
        if !wording.placeless {
            phrase.push_str(" in the ");
            phrase.push_str(self.place.name());
        }
        phrase
    }
}

/// Draws a scene of `side` by `side` pixels: the shade, then each emoji over it.
pub(super) fn render(scene: &Scene, emoji: &[Emoji], side: u32) -> Picture {
    let mut canvas = Canvas::new(side, scene.shade);
    for &Object { emoji: which, left, top, side, .. } in &scene.objects {
        canvas.paste(&emoji[which].sprite, Rect { left, top, width: side, height: side });
    }
    canvas.finish()
}
