//! [`Server`]: range reads over the network that end, in time, with the bytes or with a reason.

use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig,
};
use reqwest::Url;
use tokio::runtime::Runtime;

use super::spec::StoreSpec;
use super::version::{CHANGED, FileVersion};

/// The wait before the first repetition; each further one waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// One server or bucket.
pub(crate) struct Server {
    /// Scheme and host, by which an open connection is found again.
    host: String,
    store: Arc<dyn ObjectStore>,
    runtime: &'static Runtime,
    timeout: Duration,
    /// Repetitions of a request that may be of use.
    retries: u32,
    /// The last request was given up: until one is answered, each is sent once only.
    failing: AtomicBool,
}

/// A file as its server describes it.
pub(crate) struct ServerFile {
    pub(super) address: String,
    /// Its path on the server.
    pub(super) path: Path,
    pub(super) size: u64,
    pub(super) version: FileVersion,
}

impl Server {
    /// The server of `address` and the path on it; `open` holds the one that was used before.
    pub(crate) fn open(
        address: &str,
        spec: &StoreSpec,
        open: &mut Option<Arc<Self>>,
    ) -> Result<(Arc<Self>, Path)> {
        let url: Url = address.parse().with_context(|| format!("{address} is not an address"))?;
        let plain = url.query().is_none() && url.fragment().is_none();
        ensure!(plain, "{address}: addresses with `?` or `#` are not supported");
        let host = url.as_str()[..url.as_str().len() - url.path().len()].to_owned();
        let path = Path::from_url_path(url.path()).with_context(|| address.to_owned())?;
        if let Some(open) = open
            && open.host == host
        {
            return Ok((Arc::clone(open), path));
        }
        let store = connect(&url, &host, spec).with_context(|| address.to_owned())?;
        let timeout = Duration::from_secs_f64(spec.timeout_seconds);
        let remote = Arc::new(Self {
            host,
            store,
            runtime: runtime()?,
            timeout,
            retries: spec.retries,
            failing: AtomicBool::new(false),
        });
        *open = Some(Arc::clone(&remote));
        Ok((remote, path))
    }

    /// The file at `path`, or those that the glob in its last part stands for.
    pub(crate) fn files(&self, address: &str, path: &Path) -> Result<Vec<ServerFile>> {
        if !address.contains('*') {
            let object = self.attempt(|| self.store.head(path))?;
            return Ok(vec![ServerFile::new(address.to_owned(), object)]);
        }
        ensure!(!address.starts_with("http"), "a web server lists no files; write a range as {{000..127}}");
        let (folder, glob) = path.as_ref().rsplit_once('/').unwrap_or(("", path.as_ref()));
        ensure!(!folder.contains('*'), "`*` may stand in the last part only");
        let pattern = glob::Pattern::new(&glob.replace("%2A", "*"))?;
        let prefix = Path::from(folder);
        let listed = self.attempt(|| self.store.list_with_delimiter(Some(&prefix)))?;
        let mut found: Vec<ObjectMeta> = listed.objects;
        found.retain(|object| object.location.filename().is_some_and(|name| pattern.matches(name)));
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found
            .into_iter()
            .map(|object| ServerFile::new(format!("{}/{}", self.host, object.location), object))
            .collect())
    }

    /// The bytes of a range of the file at `path`, as long as it has that version.
    ///
    /// # Errors
    /// A file that has changed since it was opened; a server that does not answer.
    pub(crate) fn range(&self, path: &Path, range: Range<u64>, version: &FileVersion) -> Result<Bytes> {
        let options = version.ask(GetOptions { range: Some(range.clone().into()), ..GetOptions::default() });
        let part = || async {
            let answer = self.store.get_opts(path, options.clone()).await?;
            let found = FileVersion::of(&answer.meta);
            Ok((found, answer.bytes().await?))
        };
        let (found, bytes) = self.attempt(part)?;
        // Also where the server was asked for one version only: many do not look at that.
        version.check(&found)?;
        let wanted = range.end - range.start;
        ensure!(bytes.len() as u64 == wanted, "{} bytes came, {wanted} were asked for", bytes.len());
        Ok(bytes)
    }

    /// Sends a request until it is answered: at most `1 + retries` times, each for at most the time-out.
    fn attempt<T, F>(&self, request: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut reason = String::new();
        // A dead server gets one request for each file and not five: a run then ends in minutes, not
        // hours.
        let attempts = if self.failing.load(Ordering::Relaxed) { 1 } else { 1 + self.retries };
        for attempt in 0..attempts {
            if attempt > 0 {
                std::thread::sleep(FIRST_WAIT * 2_u32.pow((attempt - 1).min(7)));
            }
            let answer = self.runtime.block_on(async { tokio::time::timeout(self.timeout, request()).await });
            match answer {
                Ok(Err(error)) if !lasting(&error) => reason = line(&error),
                Ok(answer) => {
                    self.failing.store(false, Ordering::Relaxed);
                    return answer.map_err(|error| anyhow!(line(&error)));
                }
                Err(_) => reason = format!("no answer within {} s", self.timeout.as_secs_f64()),
            }
        }
        self.failing.store(true, Ordering::Relaxed);
        bail!("given up after {attempts} attempts: {reason}")
    }
}

impl ServerFile {
    fn new(address: String, object: ObjectMeta) -> Self {
        let version = FileVersion::of(&object);
        Self { address, path: object.location, size: object.size, version }
    }
}

/// Whether asking again is of no use.
fn lasting(error: &Error) -> bool {
    use Error::{
        InvalidPath, NotFound, NotSupported, PermissionDenied, Precondition, Unauthenticated,
        UnknownConfigurationKey,
    };
    matches!(
        error,
        NotFound { .. }
            | InvalidPath { .. }
            | NotSupported { .. }
            | PermissionDenied { .. }
            | Precondition { .. }
            | Unauthenticated { .. }
            | UnknownConfigurationKey { .. }
    )
}

fn line(error: &Error) -> String {
    if matches!(error, Error::Precondition { .. }) {
        return CHANGED.to_owned();
    }
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn connect(url: &Url, host: &str, spec: &StoreSpec) -> Result<Arc<dyn ObjectStore>> {
    // Fails where the program has chosen a provider already: that one is then used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let timeout = Duration::from_secs_f64(spec.timeout_seconds);
    let insecure = url.scheme() == "http" || spec.endpoint.starts_with("http:");
    let client =
        ClientOptions::new().with_timeout_disabled().with_connect_timeout(timeout).with_allow_http(insecure);
    // Repetitions are ours: one rule and one count for all of a request.
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    Ok(match url.scheme() {
        "http" | "https" => {
            Arc::new(HttpBuilder::new().with_url(host).with_client_options(client).with_retry(retry).build()?)
        }
        "s3" => {
            let mut s3 =
                AmazonS3Builder::from_env().with_url(host).with_client_options(client).with_retry(retry);
            if !spec.endpoint.is_empty() {
                s3 = s3.with_endpoint(&spec.endpoint);
            }
            Arc::new(if spec.anonymous { s3.with_skip_signature(true) } else { s3 }.build()?)
        }
        "gs" => {
            let mut gs = GoogleCloudStorageBuilder::from_env().with_url(host);
            gs = gs.with_client_options(client).with_retry(retry);
            if !spec.endpoint.is_empty() {
                gs = gs.with_base_url(&spec.endpoint);
            }
            Arc::new(if spec.anonymous { gs.with_skip_signature(true) } else { gs }.build()?)
        }
        other => bail!("addresses begin with https://, s3:// or gs://, not {other}://"),
    })
}

/// The threads that all connections share; started with the first address.
fn runtime() -> Result<&'static Runtime> {
    // One for all: each would bring threads of its own, and a store is opened for every command.
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Ok(RUNTIME.get_or_init(|| built))
}
