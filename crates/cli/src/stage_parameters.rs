//! [`StageParameters`]: how many parameters a training stage holds, and how many of them it trains.

use mm1_model::adapter::AdapterPart;
use mm1_model::group::{ParameterCounts, ParameterGroup};
use mm1_model::memory::{TrainedParts, Training};
use mm1_train::MomentFormat;
use serde::Serialize;

use crate::recipe::TrainStage;

/// Numbers of parameters of a stage's adapters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct AdapterCounts {
    /// In the image encoder.
    pub(crate) vision: usize,
    /// In the decoder.
    pub(crate) lm: usize,
}

/// Numbers of parameters in a training stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageParameters {
    /// In memory.
    pub(crate) held: usize,
    /// Of them those that are trained.
    pub(crate) trained: usize,
    /// The law of the learning rate's N.
    pub(crate) of_law: usize,
}

impl StageParameters {
    /// Those of an encoder's stage in a network of `counts`.
    pub(crate) fn of_encoder(counts: &ParameterCounts) -> Self {
        Self { held: counts.vision, trained: counts.vision, of_law: counts.vision }
    }

    /// Those of a language stage in a network of `counts`.
    pub(crate) fn of_language(stage: &TrainStage, counts: &ParameterCounts, adapters: AdapterCounts) -> Self {
        let parts = trained_parts(stage);
        let trained = |part, whole, adapters| match part {
            Training::Whole => whole,
            Training::Adapters(_) => adapters,
            Training::Frozen => 0,
        };
        Self {
            held: counts.total() + adapters.vision + adapters.lm,
            trained: trained(parts.vision, counts.vision, adapters.vision)
                + trained(parts.connector, counts.connector, 0)
                + trained(parts.lm, counts.lm + counts.embedding, adapters.lm),
            // The paper's N is the decoder's; of one with adapters it is theirs.
            of_law: if adapters.lm > 0 { adapters.lm } else { counts.lm },
        }
    }

    /// Bytes of weights, gradients and moments.
    pub(crate) fn state_bytes(&self, moments: MomentFormat) -> u64 {
        let frozen = self.held - self.trained;
        moments.state_bytes(self.trained) + (size_of::<f32>() * frozen) as u64
    }
}

/// What a language stage trains of each part.
pub(crate) fn trained_parts(stage: &TrainStage) -> TrainedParts<'_> {
    let of = |group, part: Option<AdapterPart>| match &stage.adapter {
        _ if stage.optimizer.freeze.contains(&group) => Training::Frozen,
        Some(adapter) if part.is_some_and(|part| adapter.parts.contains(&part)) => {
            Training::Adapters(adapter)
        }
        _ => Training::Whole,
    };
    TrainedParts {
        vision: of(ParameterGroup::Vision, Some(AdapterPart::Vision)),
        connector: of(ParameterGroup::Connector, None),
        lm: of(ParameterGroup::Lm, Some(AdapterPart::Lm)),
    }
}
