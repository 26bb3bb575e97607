//! `mm1 serve`: a run's model for programs with the OpenAI interface, and a page to talk to.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result};
use clap::Args;
use mm1_serve::engine::{Engine, EngineLimits};
use mm1_serve::http::{Access, HttpLimits, ServedModel, Server, serve as answer};

use crate::arguments::ThreadsArgs;
use crate::error::{InputError, input};
use crate::interrupt;
use crate::model_args::ModelArgs;
use crate::output::tell;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Name by which clients ask for the model. Default: that of its folder.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Address to listen at. Any but this machine's own needs --api-key or --no-auth.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Port to listen at; 0 takes one that is free.
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// Key that clients have to send as a bearer token. May be repeated: each key is then a client by itself.
    /// Other users of this machine can read it from the list of processes, but not from the variable
    /// MM1_API_KEY, which says the same, a key a line.
    #[arg(long = "api-key", value_name = "KEY")]
    api_keys: Vec<String>,
    /// Let everybody ask who reaches the address.
    #[arg(long, conflicts_with = "api_keys")]
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
    /// Memory of the keys and values of all prompts and answers, in MiB. What the image encoder has made of
    /// pictures is kept in up to an eighth of that beside it.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    cache: u32,
    /// Requests that may wait; a further one gets 429. A client without any may always have one more.
    #[arg(long, value_name = "N", default_value_t = 256)]
    queue: u16,
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
    let model = args.model.load()?;
    let mut served = ServedModel { id: args.id(), sees: model.sees, tuned: model.tuned, towers: None };
    let mut generator = model.generator.with_context(args.context as usize);
    if let Some((towers, stage)) = args.model.towers()? {
        served.towers = Some(format!("{}/{stage}", served.id));
        generator = generator.with_towers(Box::new(towers));
    }
    let cache_bytes = (args.cache as usize) << 20;
    let (picture_bytes, waiting) = (cache_bytes / 8, usize::from(args.queue));
    let limits = EngineLimits { cache_bytes, picture_bytes, waiting };
    let engine = input(Engine::start(generator, limits).with_context(|| format!("--cache {}", args.cache)))?;
    let stop = interrupt::flag("stopping when all is answered; once more to stop at once")?;
    let address = listener.local_addr().context("the listener's address")?;
    tell(format_args!("{} is served at http://{address} (Ctrl-C stops)", served.id));
    let server = Server { engine, model: served, access, limits: HttpLimits::default() };
    answer(server, listener, &stop)
}

/// The keys in `MM1_API_KEY`, one a line.
fn variable() -> Result<Vec<String>> {
    let read = |key: OsString| key.into_string().map_err(|_| InputError::new("MM1_API_KEY is no UTF-8"));
    let keys = std::env::var_os("MM1_API_KEY").map(read).transpose()?;
    Ok(keys.iter().flat_map(|keys| keys.trim().split('\n')).map(str::to_owned).collect())
}

/// An origin as a browser sends it: in small letters, without the usual port of its scheme.
fn as_browsers_send(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let usual = if origin.starts_with("https://") { ":443" } else { ":80" };
    origin.strip_suffix(usual).unwrap_or(&origin).to_owned()
}

impl ServeArgs {
    fn access(&self) -> Result<Access> {
        let local = self.host.is_loopback();
        let keys = match (self.no_auth, self.api_keys.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => variable()?,
            (false, false) => self.api_keys.clone(),
        };
        // What stands around it comes from files, and no client sends it.
        let api_keys: Vec<String> = keys.iter().map(|key| key.trim().to_owned()).collect();
        if !local && api_keys.is_empty() && !self.no_auth {
            let message = format!(
                "--host {} can be reached by others: give --api-key KEY, or --no-auth if everybody may ask",
                self.host
            );
            return Err(InputError::new(message).into());
        }
        if api_keys.iter().any(|key| key.len() < 8) {
            return Err(InputError::new("--api-key: give at least 8 characters, in MM1_API_KEY too").into());
        }
        // A header has no others: nobody could send it.
        if api_keys.iter().flat_map(|key| key.bytes()).any(|byte| !matches!(byte, b' '..=b'~')) {
            let message = "--api-key: a key is of letters, digits and signs of ASCII, in MM1_API_KEY too";
            return Err(InputError::new(message).into());
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
        let origins = self.origins.iter().map(|origin| as_browsers_send(origin)).collect();
        let picture_hosts = self.picture_hosts.clone();
        Ok(Access { api_keys, origins, local, picture_hosts })
    }

    fn id(&self) -> String {
        self.name.clone().or_else(|| self.model.name()).unwrap_or_else(|| "mm1".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::as_browsers_send;

    #[test]
    fn an_origin_is_known_however_it_is_written() {
        for (written, sent) in [
            ("https://A.Example", "https://a.example"),
            ("https://a.example:443", "https://a.example"),
            ("http://a.example:80", "http://a.example"),
            ("http://a.example:443", "http://a.example:443"),
            ("http://localhost:3000", "http://localhost:3000"),
        ] {
            assert_eq!(as_browsers_send(written), sent);
        }
    }
}
