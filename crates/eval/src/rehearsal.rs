//! [`rehearse`]: finds what can't be asked before anything is, or before a model is trained for it.

use anyhow::{Result, bail, ensure};

use crate::examiner::Prompter;
use crate::model::PromptReader;
use crate::refusal::Refusal;
use crate::run::{EvalPass, no_items};
use crate::task::Task;

/// Test items whose prompts are written.
const WRITTEN: usize = 8;
/// Test items that are read at most, to find so many that can be.
const READ: u64 = 32;

/// Writes the prompts of a few test items, spread over those that will be asked, and asks nobody. Random
/// demonstrations stand for similar ones, which only a model finds.
///
/// # Errors
/// [`Refusal`]: a task without items, items of which none can be read, too few demonstrations, a prompt that
/// does not fit into the context of `reader`.
pub fn rehearse<R: PromptReader>(task: &dyn Task, reader: &R, pass: &EvalPass<'_>) -> Result<()> {
    let total = task.tests().min(pass.protocol.questions as u64);
    ensure!(total > 0, no_items(task));
    let mut prompter = Prompter::new(task, pass);
    let read = total.min(READ);
    let (mut written, mut unread) = (0, None);
    for i in 0..read {
        let index = (u128::from(i) * u128::from(total) / u128::from(read)) as u64;
        match prompter.test(index) {
            Ok(question) => {
                let demonstrations = prompter.shots.rehearse(&question)?;
                for (prompt, continuations) in prompter.prompts(&demonstrations, &question)? {
                    prompter.encode(reader, &prompt, &continuations)?;
                }
                written += 1;
            }
            // One that is damaged is left out and listed when the others are asked.
            Err(e) => unread = unread.or(Some(e)),
        }
        if written == WRITTEN {
            break;
        }
    }
    match unread {
        Some(e) if written == 0 => bail!(Refusal::new(format!(
            "task {}: of {read} test items that were tried none can be read: {e:#}",
            task.name()
        ))),
        _ => Ok(()),
    }
}
