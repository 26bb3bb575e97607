//! [`PictureFetcher`]: pictures at addresses of other hosts, of those alone that were named.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mm1_data::document::Image;
use mm1_data::error_line::error_line;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::time::{Instant, timeout_at};

/// What a picture may take to come.
const TIME: Duration = Duration::from_secs(20);

/// Reads pictures from other hosts. Without a host that was named it reads none.
pub(super) struct PictureFetcher {
    client: Client,
    /// `host` or `host:port`.
    hosts: Vec<String>,
    most_bytes: usize,
    may_reach: fn(IpAddr) -> bool,
}

impl PictureFetcher {
    /// Of these hosts, files of up to `most_bytes`. Addresses of private networks are never asked, whatever
    /// the names of hosts lead to.
    ///
    /// # Errors
    /// A system without what TLS needs.
    pub(super) fn new(hosts: &[String], most_bytes: usize) -> Result<Self> {
        Self::reaching(hosts, most_bytes, is_public)
    }

    fn reaching(hosts: &[String], most_bytes: usize, may_reach: fn(IpAddr) -> bool) -> Result<Self> {
        // Another part of the program may have chosen it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().redirect(Policy::none()).no_proxy().timeout(TIME);
        let client = client.dns_resolver(Arc::new(PublicNames(may_reach))).build();
        let client = client.context("preparing to read pictures from other hosts")?;
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Ok(Self { client, hosts, most_bytes, may_reach })
    }

    /// The pictures at those of `addresses` that are no `data:` ones, by address. Together they have as many
    /// bytes, and as much time, as one may have.
    ///
    /// # Errors
    /// One line with the address.
    pub(super) async fn read(&self, addresses: Vec<String>) -> Result<BTreeMap<String, Image>, String> {
        let (mut read, mut left, end) = (BTreeMap::new(), self.most_bytes, Instant::now() + TIME);
        for address in addresses {
            if is_elsewhere(&address) && !read.contains_key(&address) {
                let late = |_| Err(format!("it did not come within {} s", TIME.as_secs()));
                let image = timeout_at(end, self.read_one(&address, left)).await.unwrap_or_else(late);
                let shown: String = address.chars().take(80).collect();
                let image = image.map_err(|why| format!("{shown}: {why}"))?;
                left -= image.stored_bytes();
                read.insert(address, image);
            }
        }
        Ok(read)
    }

    async fn read_one(&self, address: &str, most: usize) -> Result<Image, String> {
        let url = self.allowed(address)?;
        let failed = |e: reqwest::Error| error_line(&e.without_url().into());
        let mut response = self.client.get(url).send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("its host has answered {status}; a redirection is not followed"));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > most {
                let most = self.most_bytes;
                return Err(format!(
                    "with those before it has more than {most} bytes: send smaller pictures"
                ));
            }
        }
        Ok(Image::from(bytes))
    }

    fn allowed(&self, address: &str) -> Result<Url, String> {
        let url = Url::parse(address).map_err(|e| e.to_string())?;
        let host = url.host_str().unwrap_or_default();
        let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
        let named = |known: &String| *known == with_port || (url.port().is_none() && known == host);
        if !self.hosts.iter().any(named) {
            return Err(format!(
                "pictures are not read from {host}: send the picture itself as data:image/png;base64,…, or \
                 start the server with --fetch-images-from {host}"
            ));
        }
        // A name is judged by what it leads to, when that is known.
        let literal = host.trim_matches(['[', ']']).parse();
        if literal.is_ok_and(|ip| !(self.may_reach)(ip))
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err(NOT_REACHED.to_owned());
        }
        Ok(url)
    }
}

const NOT_REACHED: &str = "addresses of private networks, and with a user, are not asked";

/// Whether it is the address of another host.
pub(super) fn is_elsewhere(address: &str) -> bool {
    let scheme = address.get(..8).unwrap_or(address).to_ascii_lowercase();
    scheme.starts_with("http://") || scheme.starts_with("https://")
}

/// Names, without the addresses that may not be reached.
struct PublicNames(fn(IpAddr) -> bool);

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        let may_reach = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.filter(|address| may_reach(address.ip())).collect();
            if found.is_empty() {
                return Err(NOT_REACHED.into());
            }
            let found: Addrs = Box::new(found.into_iter());
            Ok(found)
        })
    }
}

/// Whether an address is one of the public network (the special-purpose registries of IANA, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (18..20).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99);
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    let inner = |high: u16, low: u16| is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        // An IPv4 address in another form: mapped, by NAT64, by 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => inner(high, low),
        // Global unicast, without documentation, benchmarks and tunnels.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_of_private_networks_are_known() {
        for special in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fc00::1",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
        for public in ["1.1.1.1", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn hosts_have_to_be_named() {
        let hosts = [
            "A.example".to_owned(),
            "c.example:443".to_owned(),
            "b.example:8443".to_owned(),
            "127.0.0.1".to_owned(),
        ];
        let fetcher = PictureFetcher::new(&hosts, 100).unwrap();
        assert!(fetcher.allowed("https://a.example/x.png").is_ok());
        assert!(fetcher.allowed("https://c.example/x.png").is_ok());
        assert!(fetcher.allowed("https://b.example:8443/x.png").is_ok());
        for other in ["https://a.example:81/x", "https://b.example/x", "https://a.example.evil/x"] {
            assert!(fetcher.allowed(other).unwrap_err().contains("--fetch-images-from"), "{other}");
        }
        for reached in ["http://127.0.0.1/x", "https://me:pass@a.example/x"] {
            assert_eq!(fetcher.allowed(reached).unwrap_err(), NOT_REACHED);
        }
        assert!(is_elsewhere("HTTPS://a.example") && !is_elsewhere("data:image/png;base64,"));
    }

    /// One answer of a server at a free port, and what comes of asking for it.
    fn fetch(answer: &'static str, may_reach: fn(IpAddr) -> bool) -> Result<usize, String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 400];
            let _ = stream.read(&mut request);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let fetcher = PictureFetcher::reaching(&[format!("localhost:{port}")], 10, may_reach).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = format!("http://localhost:{port}/x.png");
        let read = runtime.block_on(fetcher.read(vec![address.clone()]))?;
        Ok(read[&address].stored_bytes())
    }

    #[test]
    fn a_file_is_bounded_and_leads_nowhere_else() {
        let all = |_| true;
        assert_eq!(fetch("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", all), Ok(4));
        let long = fetch("HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nabcdefghijklmn", all);
        assert!(long.unwrap_err().contains("more than 10 bytes"));
        let moved = fetch("HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n", all);
        assert!(moved.unwrap_err().contains("302"));
        let private = fetch("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", is_public);
        assert!(private.unwrap_err().contains("private networks"));
    }
}
