//! [`MicroBatch`], and where it stands in its step.

/// A micro-batch: what a step reports of it, and names when it fails.
pub trait MicroBatch {
    /// Positions of text and pictures.
    fn tokens(&self) -> usize;
    /// Pictures.
    fn images(&self) -> usize;
    /// The ids of its samples.
    fn samples(&self) -> impl Iterator<Item = &str>;
}

/// What an objective has to work with: all micro-batches of one step.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a, B> {
    /// Those with something to learn.
    pub batches: &'a [&'a B],
    /// The sum of their weights.
    pub weight: f64,
    /// Steps done before this one.
    pub number: u64,
    /// What precedes `batches` in the step.
    pub preceding: Preceding,
}

/// Micro-batches of a step, with something to learn, that come before those at hand: other ranks have them,
/// or this one has had them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preceding {
    /// How many.
    pub batches: u64,
    /// Pictures in them.
    pub images: usize,
}

/// A micro-batch and where it stands in its step.
#[derive(Clone, Copy, Debug)]
pub struct PlacedBatch<'a, B> {
    /// It has something to learn.
    pub batch: &'a B,
    /// The sum of the weights of the step.
    pub weight: f64,
    /// Steps done before this one.
    pub number: u64,
    /// What precedes it in the step.
    pub preceding: Preceding,
}

impl<'a, B: MicroBatch> Step<'a, B> {
    /// Each of the micro-batches by itself.
    pub fn placed(&self) -> Vec<PlacedBatch<'a, B>> {
        let Self { weight, number, mut preceding, .. } = *self;
        let place = |batch: &&'a B| {
            let placed = PlacedBatch { batch: *batch, weight, number, preceding };
            preceding.batches += 1;
            preceding.images += batch.images();
            placed
        };
        self.batches.iter().map(place).collect()
    }
}
