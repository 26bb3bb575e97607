//! Scores after the stages before: each task with each number of shots, beside its baselines.

use anyhow::Result;
use mm1_eval::shots::Style;
use mm1_serve::generate::Generator;

use crate::checkpoints;
use crate::context::Context;
use crate::evaluation::{Evaluation, records};
use crate::local::Local;
use crate::recipe::{EvalStage, Stage};
use crate::stage::model;
use crate::tasks::TaskData;

/// Evaluates the model; a stage whose scores are in `eval.json` is not done again.
pub(crate) fn run(context: &Context, stage: &EvalStage) -> Result<()> {
    if records(&context.folder)?.iter().any(|r| r.stage == stage.name) {
        return Ok(());
    }
    let plan = &context.plan;
    let data = TaskData::of_run(&plan.recipe, &plan.sources, stage.data.as_deref());
    let tasks = stage.tasks.iter().map(|task| data.task(task)).collect::<Result<Vec<_>>>()?;
    let root = context.folder.root();
    let model = model::before(&plan.recipe, root, &stage.name, &plan.device)?;
    let generator =
        Generator::new(model, plan.recipe.precision.into(), plan.tokenizer.clone(), plan.image.clone());
    let last = plan.recipe.trained_before(&stage.name);
    let evaluation = Evaluation {
        stage,
        // A tuned model is asked in turns of a conversation, one that was only pre-trained in running text.
        style: if matches!(last, Some(Stage::Sft(_))) { Style::Chat } else { Style::Pretrained },
        seed: plan.recipe.seed,
        model_id: &last
            .map_or(Ok("untrained".to_owned()), |last| checkpoints::identity(root, last.name()))?,
        folder: &context.folder,
        training: &data.training,
    };
    evaluation.run(&tasks, &mut Local { generator: &generator, batch: stage.batch, stop: &context.stop })
}
