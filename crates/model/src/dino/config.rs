//! The settings of self-distillation.

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The settings of objective `dino`: self-distillation of a student and a teacher (Caron et al. 2021).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DinoConfig {
    /// Output classes of the head: the paper's K.
    /// Unit: prototypes.
    #[schemars(range(min = 1))]
    pub prototypes: usize,
    /// Width of the head's hidden layers.
    /// Unit: channels.
    #[schemars(range(min = 1))]
    pub hidden: usize,
    /// Width of the normalised vector before the prototypes.
    /// Unit: channels.
    #[schemars(range(min = 1))]
    pub bottleneck: usize,
    /// Temperature of the student's softmax.
    /// Unit: none.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub student_temperature: f64,
    /// Temperature of the teacher's softmax, at the start and after the warm-up.
    /// Unit: none.
    #[schemars(inner(range(min = 0)))]
    pub teacher_temperature: [f64; 2],
    /// Warm-up of the teacher's temperature, linear.
    /// Unit: steps.
    pub teacher_warmup_steps: u64,
    /// Momentum of the teacher's moving average at the start; a cosine takes it to 1.
    /// Unit: share of 1.
    #[schemars(range(min = 0, max = 1))]
    pub momentum: f64,
    /// What keeps the teacher from collapsing to one class.
    pub centring: Centring,
    /// Weight of iBOT's loss on masked patches (Zhou et al. 2022); DINOv2 has 1.
    /// Unit: factor.
    #[schemars(range(min = 0))]
    pub ibot: f64,
    /// The smallest and the largest share of patches that iBOT masks, in every other global view.
    /// Unit: share of 1.
    #[schemars(inner(range(min = 0, max = 1)))]
    pub masked: [f64; 2],
    /// Weight of KoLeo, which spreads the features of a batch (Sablayrolles et al. 2019); DINOv2 has 0.1. It
    /// needs `accumulate = 1`.
    /// Unit: factor.
    #[schemars(range(min = 0))]
    pub koleo: f64,
}

impl Default for DinoConfig {
    /// The paper's, but for K: 65,536 prototypes are for a million pictures.
    fn default() -> Self {
        Self {
            prototypes: 1024,
            hidden: 512,
            bottleneck: 128,
            student_temperature: 0.1,
            teacher_temperature: [0.04, 0.04],
            teacher_warmup_steps: 0,
            momentum: 0.996,
            centring: Centring::default(),
            ibot: 0.0,
            masked: [0.1, 0.5],
            koleo: 0.0,
        }
    }
}

impl DinoConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn check(&self) -> Result<()> {
        for (field, value) in
            [("prototypes", self.prototypes), ("hidden", self.hidden), ("bottleneck", self.bottleneck)]
        {
            ensure!(value > 0, "dino.{field} must be at least 1");
        }
        let [cold, warm] = self.teacher_temperature;
        let above_0 = |x: f64| x.is_finite() && x > 0.0;
        ensure!(
            above_0(self.student_temperature) && above_0(cold) && above_0(warm),
            "dino.student_temperature and teacher_temperature must be above 0"
        );
        ensure!((0.0..=1.0).contains(&self.momentum), "dino.momentum = {} must be 0 to 1", self.momentum);
        for (field, value) in [("ibot", self.ibot), ("koleo", self.koleo)] {
            ensure!(value.is_finite() && value >= 0.0, "dino.{field} = {value} must be at least 0");
        }
        let [least, most] = self.masked;
        ensure!(
            0.0 < least && least <= most && most <= 1.0,
            "dino.masked = [{least}, {most}] must be two rising shares above 0 and up to 1"
        );
        Ok(())
    }
}

/// How the teacher's classes are balanced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Centring {
    /// A running mean of the logits is subtracted (DINO, section 3.1).
    #[default]
    Centre,
    /// Three rounds of Sinkhorn and Knopp over the step's views (SwAV, Caron et al. 2020; DINOv2).
    Sinkhorn,
}
