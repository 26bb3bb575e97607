//! [`Engine`]: answers whoever asks, whenever they come, side by side (continuous batching).
//!
//! One thread has the model. In each of its steps every answer gets its next token, and prompts are read on
//! in pieces, so that a long one stops nobody (chunked prefill). What prompts begin with is kept, pictures by
//! their pixels, for others that begin alike (prefix cache). A request is taken when there is memory for all
//! that it may come to.

mod counters;
mod pictures;
mod prefixes;
mod prompt;
mod queue;
mod request;
mod scheduler;
mod sequence;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, ensure};
use mm1_data::error_line::error_line;

pub use self::counters::Counters;
pub use self::prompt::ReadyPrompt;
use self::queue::{Closed, Job, Queue};
pub use self::request::{
    AnswerEvent, AnswerRequest, ClientId, Embedding, EmbeddingInput, Listener, PromptLogProbs,
};
use self::scheduler::{Scheduler, blocks};
pub use crate::answer::Finish;
use crate::generate::Generator;
use crate::prompts::PromptTokenizer;

/// What the engine may hold.
#[derive(Clone, Copy, Debug)]
pub struct EngineLimits {
    /// Memory of keys and values.
    /// Unit: bytes.
    pub cache_bytes: usize,
    /// Memory of the image tokens of pictures that were seen.
    /// Unit: bytes.
    pub picture_bytes: usize,
    /// Requests that wait.
    pub waiting: usize,
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It can't be done: one line.
    Impossible(String),
    /// As many wait as may.
    Full,
    /// The engine is to stop.
    Stopping,
}

/// A model that answers on a thread of its own. Dropping it ends what is under way first.
pub struct Engine {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    prompts: PromptTokenizer,
    counters: Counters,
    /// That there is memory for.
    blocks: usize,
    /// That a picture takes beside its positions.
    picture_blocks: usize,
    /// Requests that may wait.
    most_waiting: usize,
}

impl Engine {
    /// Starts the thread.
    ///
    /// # Errors
    /// Memory for less than one block of positions; a system that gives no thread.
    pub fn start(generator: Generator, limits: EngineLimits) -> Result<Self> {
        let (counters, prompts) = (Counters::default(), generator.prompts().clone());
        let block = generator.new_cache().block_bytes();
        let (blocks, picture_blocks) = (limits.cache_bytes / block, generator.picture_blocks());
        ensure!(
            blocks > 0,
            "{} bytes are not enough for the keys and values of {} positions, which take {block}",
            limits.cache_bytes,
            mm1_model::Cache::block_positions()
        );
        let queue = Arc::new(Queue::new(limits.waiting));
        let scheduler = Scheduler::new(generator, (blocks, limits.picture_bytes), counters.clone());
        let run = {
            let queue = Arc::clone(&queue);
            move || run(scheduler, &queue)
        };
        let thread = thread::Builder::new().name("engine".to_owned()).spawn(run);
        let thread = Some(thread.context("starting the thread that has the model")?);
        Ok(Self { queue, thread, prompts, counters, blocks, picture_blocks, most_waiting: limits.waiting })
    }

    /// What encodes prompts.
    pub fn prompts(&self) -> &PromptTokenizer {
        &self.prompts
    }

    /// How many requests may wait.
    pub(crate) fn most_waiting(&self) -> usize {
        self.most_waiting
    }

    /// What it has done.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes a request; its listener gets what comes of it.
    ///
    /// # Errors
    /// As [`Refusal`] says.
    pub fn submit(&self, request: AnswerRequest) -> Result<(), Refusal> {
        request.options.check().map_err(|e| Refusal::Impossible(error_line(&e)))?;
        let (read, new) = (request.prompt.positions(), request.options.max_tokens);
        let (context, held) = (self.prompts.context(), self.blocks * mm1_model::Cache::block_positions());
        if read == 0 {
            return Err(Refusal::Impossible("there is nothing to answer: the prompt is empty".to_owned()));
        }
        if read.saturating_add(new) > context {
            return Err(Refusal::Impossible(format!(
                "{read} tokens and an answer of up to {new} do not fit into the context of {context}: \
                 shorten the prompt, or ask for fewer tokens"
            )));
        }
        if blocks(read + new) + self.picture_blocks * request.prompt.views() > self.blocks {
            return Err(Refusal::Impossible(format!(
                "{read} tokens and an answer of up to {new} do not fit into the memory, which is for {held}: \
                 ask for fewer tokens, or start the server with a larger --cache"
            )));
        }
        self.push(request.client, Job::Answer(Box::new(request)))
    }

    /// Makes a vector; `reply` is given it.
    ///
    /// # Errors
    /// As [`Refusal`] says.
    pub fn embed(
        &self,
        client: ClientId,
        input: EmbeddingInput,
        reply: impl FnOnce(Result<Embedding>) + Send + 'static,
    ) -> Result<(), Refusal> {
        self.push(client, Job::Embed { input, reply: Box::new(reply) })
    }

    /// Takes no further requests. Those that were taken are answered.
    pub fn stop(&self) {
        self.queue.stop();
    }

    /// Whether everything that was taken is done, after [`Self::stop`].
    pub fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn push(&self, client: ClientId, job: Job) -> Result<(), Refusal> {
        self.queue.push(client, job).map_err(|closed| match closed {
            Closed::Full => {
                self.counters.refused.inc();
                Refusal::Full
            }
            Closed::Stopping => Refusal::Stopping,
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // Its panics are caught where they happen.
            let _ = thread.join();
        }
    }
}

fn run(mut scheduler: Scheduler, queue: &Queue) {
    loop {
        if scheduler.is_idle() && !queue.wait() {
            return;
        }
        // One request's trouble must not end the others' server.
        let step = catch_unwind(AssertUnwindSafe(|| {
            scheduler.admit(queue);
            if scheduler.is_idle() { Ok(()) } else { scheduler.step() }
        }));
        match step {
            Ok(Ok(())) => {}
            Ok(Err(e)) => scheduler.fail_all(&error_line(&e)),
            Err(_) => scheduler.fail_all("the model has stopped at a fault of its own: report it"),
        }
    }
}
