//! `mm1 serve`: a run's model for programs with the OpenAI interface, and a page to talk to.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use mm1_serve::engine::{Engine, EngineLimits};
use mm1_serve::http::{Access, HttpLimits, ServedModel, Server, serve as answer};

use crate::arguments::{DeviceArgs, ThreadsArgs, Weights};
use crate::error::{InputError, input};
use crate::interrupt;
use crate::output::tell;
use crate::trained::Trained;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Run folder of the model.
    #[arg(long, value_name = "DIR", required_unless_present = "model")]
    run: Option<PathBuf>,
    /// Instead of a run a model of others with a chat template: a language model in a Hugging Face folder or
    /// a GGUF file, which sees no pictures, or a folder of `mm1 export --format hf`.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["run", "stage", "image_size"])]
    model: Option<PathBuf>,
    /// The model as this stage of the run has left it. Default: the last that has a checkpoint.
    #[arg(long)]
    stage: Option<String>,
    /// Side of the images in pixels, whole patches. Default: that of the training.
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Name by which clients ask for the model. Default: that of its folder.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Address to listen at. Any but this machine's own needs --api-key or --no-auth.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Port to listen at; 0 takes one that is free.
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// Key that clients have to send as a bearer token. Other users of this machine can read it from the list
    /// of processes, but not from the variable MM1_API_KEY, which says the same.
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Let everybody ask who reaches the address.
    #[arg(long, conflicts_with = "api_key")]
    no_auth: bool,
    /// Origin of a page elsewhere that may ask, as https://host. May be repeated.
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// Host from which pictures are read that clients give by their http address, as host or host:port. May
    /// be repeated. Default: none.
    #[arg(long = "fetch-images-from", value_name = "HOST")]
    picture_hosts: Vec<String>,
    /// Longest prompt and answer together, in tokens.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    #[arg(value_parser = clap::value_parser!(u32).range(16..))]
    context: u32,
    /// Memory of the keys and values of all prompts and answers, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    cache: u32,
    /// Requests that may wait; a further one is told to try again.
    #[arg(long, value_name = "N", default_value_t = 256)]
    queue: u16,
    /// How the language model's weights are kept: in the precision of the run, or in 8 bits, which is faster
    /// and less exact.
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    weights: Weights,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadsArgs,
}

/// Answers until it is interrupted.
///
/// # Errors
/// A folder without a trained model, an address that can't be had, one that is open to others without a key.
pub(crate) fn serve(args: &ServeArgs) -> Result<()> {
    let access = input(args.access())?;
    args.threads.start_pool()?;
    let address = SocketAddr::new(args.host, args.port);
    // Before the model is read: who has the port is told at once.
    let listener = TcpListener::bind(address);
    let listener = input(listener.with_context(|| format!("--host {} --port {}", args.host, args.port)))?;
    let model = args.load()?;
    if !model.tuned {
        tell(format_args!("mm1: warning: not tuned yet; this is the model of stage {}", model.stage));
    }
    let served = ServedModel { id: args.id(), sees: model.sees, tuned: model.tuned };
    let generator = model.generator.with_context(args.context as usize);
    let limits = EngineLimits { cache_bytes: (args.cache as usize) << 20, waiting: usize::from(args.queue) };
    let engine = input(Engine::start(generator, limits).with_context(|| format!("--cache {}", args.cache)))?;
    let stop = interrupt::flag("stopping when all is answered; once more to stop at once")?;
    let address = listener.local_addr().context("the listener's address")?;
    tell(format_args!("{} is served at http://{address} (Ctrl-C stops)", served.id));
    let server = Server { engine, model: served, access, limits: HttpLimits::default() };
    answer(server, listener, &stop)
}

/// The key in `MM1_API_KEY`.
fn variable() -> Result<Option<String>> {
    let read = |key: OsString| key.into_string().map_err(|_| InputError::new("MM1_API_KEY is no UTF-8"));
    Ok(std::env::var_os("MM1_API_KEY").map(read).transpose()?)
}

impl ServeArgs {
    fn access(&self) -> Result<Access> {
        let local = self.host.is_loopback();
        let key = match self.no_auth {
            true => None,
            false => self.api_key.clone().or(variable()?),
        };
        // What stands around it comes from files, and no client sends it.
        let key = key.map(|key| key.trim().to_owned());
        if !local && key.is_none() && !self.no_auth {
            let message = format!(
                "--host {} can be reached by others: give --api-key KEY, or --no-auth if everybody may ask",
                self.host
            );
            return Err(InputError::new(message).into());
        }
        if key.as_deref().is_some_and(|key| key.len() < 8) {
            return Err(InputError::new("--api-key: give at least 8 characters, in MM1_API_KEY too").into());
        }
        if let Some(host) =
            self.picture_hosts.iter().find(|host| host.is_empty() || host.contains(['/', '@']))
        {
            let message =
                format!("--fetch-images-from {host}: give the host alone, as a.example or a.example:81");
            return Err(InputError::new(message).into());
        }
        for origin in &self.origins {
            let plain =
                origin.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'));
            if !plain {
                let message = format!("--allow-origin {origin}: give scheme and host alone, as https://host");
                return Err(InputError::new(message).into());
            }
        }
        let (origins, picture_hosts) = (self.origins.clone(), self.picture_hosts.clone());
        Ok(Access { api_key: key, origins, local, picture_hosts })
    }

    fn load(&self) -> Result<Trained> {
        match (&self.model, &self.run) {
            (Some(origin), _) => Trained::of_origin(origin, self.device, self.weights),
            (None, run) => {
                let run = run.as_deref().context("--run or --model is needed")?;
                Trained::of_stage(run, self.stage.as_deref(), self.device, self.image_size, self.weights)
            }
        }
    }

    fn id(&self) -> String {
        let folder = self.model.as_ref().or(self.run.as_ref());
        let name = folder.and_then(|path| Some(path.canonicalize().ok()?.file_name()?.display().to_string()));
        self.name.clone().or(name).unwrap_or_else(|| "mm1".to_owned())
    }
}
