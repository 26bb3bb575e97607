//! Scores after the stages before: each task with each number of shots, beside its baselines.

use anyhow::Result;
use mm1_serve::generate::Generator;

use crate::checkpoints;
use crate::context::Context;
use crate::evaluation::{Evaluation, scores, style_after};
use crate::local::LocalModel;
use crate::ranks::SharedModel;
use crate::recipe::EvalStage;
use crate::stage::model;
use crate::tasks::TaskData;

/// Evaluates the model; a stage whose scores are in `eval.json` is not done again.
pub(crate) fn run(context: &Context, stage: &EvalStage) -> Result<()> {
    if scores(context.folder.root())?.iter().any(|score| score.stage == stage.name) {
        return Ok(());
    }
    let plan = &context.plan;
    let data = TaskData::of_run(&plan.recipe, &context.sources()?, stage.protocol.data.as_deref());
    let tasks = stage.protocol.tasks.iter().map(|task| data.task(task)).collect::<Result<Vec<_>>>()?;
    let root = context.folder.root();
    let model = model::before(&plan.recipe, root, &stage.name, plan.compute.device())?;
    let image = plan.recipe.as_of(&stage.name).image_spec();
    let generator = Generator::new(&plan.compute, model, plan.tokenizer.clone(), image);
    let last = plan.recipe.trained_before(&stage.name);
    let evaluation = Evaluation {
        stage,
        trained_style: style_after(last),
        seed: plan.recipe.data_seed(),
        model_id: &last
            .map_or(Ok("untrained".to_owned()), |last| checkpoints::identity(root, last.name()))?,
        folder: &context.folder,
        // What it says of them is in the scores, which one rank writes.
        training: if context.ranks.is_first() { &data.training } else { &[] },
    };
    let mut own = LocalModel { generator: &generator, batch: stage.protocol.batch, stop: &context.stop };
    evaluation.run(&tasks, &mut SharedModel { own: &mut own, ranks: &context.ranks })
}
