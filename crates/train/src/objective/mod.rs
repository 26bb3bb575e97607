//! What a step minimises.

mod aim;
mod dino;
pub mod encoder;
pub mod language;
pub mod probe;

use mm1_data::batch::Batch;

use crate::micro_batch::MicroBatch;

impl MicroBatch for Batch {
    fn tokens(&self) -> usize {
        self.tokens()
    }

    fn images(&self) -> usize {
        self.pictures()
    }

    fn samples(&self) -> impl Iterator<Item = &str> {
        self.samples()
    }
}
