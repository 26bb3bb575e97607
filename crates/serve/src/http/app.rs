//! [`Server`]: a model, and who may ask it how much. [`App`]: the same while it is served.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use super::api_error::ApiError;
use super::fetch::PictureFetcher;
use super::{Access, HttpLimits};
use crate::engine::Engine;
use crate::grammar::Grammars;
use crate::prompts::PromptTokenizer;

/// What is said of the model.
#[derive(Clone, Debug)]
pub struct ServedModel {
    /// By which it is asked for.
    pub id: String,
    /// Whether it takes pictures.
    pub sees: bool,
    /// Whether it was tuned on conversations.
    pub tuned: bool,
    /// By which its towers are asked for, if it has a text tower.
    pub towers: Option<String>,
}

/// What is served.
pub struct Server {
    /// Answers.
    pub engine: Engine,
    /// What is said of its model.
    pub model: ServedModel,
    /// Who may ask.
    pub access: Access,
    /// What clients may do.
    pub limits: HttpLimits,
}

/// What handlers share.
pub(super) struct App {
    pub(super) server: Server,
    pub(super) registry: Registry,
    pub(super) fetcher: PictureFetcher,
    /// A permit for each KiB of a body.
    pub(super) bodies: Arc<Semaphore>,
    /// Bytes of the longest token.
    pub(super) longest_token: usize,
    /// When the model was loaded.
    /// Unit: seconds since 1970.
    pub(super) created: u64,
    /// Made when the first answer is to have a form: it takes a part of a second.
    grammars: OnceLock<Grammars>,
    /// Numbers answers.
    next: AtomicU64,
}

pub(super) type Shared = Arc<App>;

impl App {
    pub(super) fn new(server: Server) -> Result<Self> {
        let mut registry = Registry::default();
        server.engine.counters().register(&mut registry);
        let bodies = Arc::new(Semaphore::new(server.limits.all_bodies_bytes >> 10));
        let fetcher = PictureFetcher::new(&server.access.picture_hosts, server.limits.body_bytes)?;
        let (grammars, next) = (OnceLock::new(), AtomicU64::new(0));
        let tokenizer = server.engine.prompts().tokenizer();
        let bytes = (0..tokenizer.vocab() as u32).map(|id| tokenizer.bytes(id).len());
        let longest_token = bytes.max().unwrap_or(1);
        Ok(Self { bodies, longest_token, registry, fetcher, grammars, created: now(), next, server })
    }

    pub(super) fn prompts(&self) -> &PromptTokenizer {
        self.server.engine.prompts()
    }

    /// What makes forms of answers.
    pub(super) fn grammars(&self) -> Result<&Grammars> {
        if let Some(grammars) = self.grammars.get() {
            return Ok(grammars);
        }
        let made = Grammars::new(self.prompts().tokenizer())?;
        Ok(self.grammars.get_or_init(|| made))
    }

    /// An answer's name, which no other of this server has.
    pub(super) fn answer_id(&self, kind: &str) -> String {
        format!("{kind}-{:x}-{}", self.created, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Refuses a model that is not served.
    pub(super) fn check_model(&self, asked: Option<&str>) -> Result<(), ApiError> {
        let served = &self.server.model.id;
        match asked {
            Some(asked) if asked != served => Err(ApiError::no_model(asked, served)),
            _ => Ok(()),
        }
    }
}

/// Unit: seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
