//! Who may ask: keys, origins and names of the host.

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

use super::Access;
use super::api_error::ApiError;
use super::app::Shared;
use super::client::KeyNumber;

/// Refuses a request without the key, where there is one.
pub(super) async fn key(
    State(app): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let keys = &app.server.access.api_keys;
    match number_of_key(request.headers(), keys) {
        None if !keys.is_empty() => return Err(ApiError::no_key()),
        Some(number) if keys.len() > 1 => drop(request.extensions_mut().insert(KeyNumber(number))),
        _ => {}
    }
    Ok(next.run(request).await)
}

/// Which of the keys was sent. How long it takes says nothing of them: digests are compared, whole.
fn number_of_key(headers: &HeaderMap, keys: &[String]) -> Option<usize> {
    let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    // The scheme's name is without case (RFC 9110).
    let sent = sent.and_then(|value| value.split_once(' '));
    let sent = sent.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).unwrap_or_default().1;
    let sent = Sha256::digest(sent.trim());
    let same = |key: &String| sent.iter().zip(&Sha256::digest(key)).fold(0, |all, (a, b)| all | (a ^ b)) == 0;
    keys.iter().enumerate().fold(None, |found, (i, key)| if same(key) { Some(i) } else { found })
}

/// Refuses pages of other origins, and names that a foreign page could give to this machine (DNS rebinding).
/// What is answered may be read by allowed origins alone.
pub(super) async fn origin(
    State(app): State<Shared>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let origin = allowed_origin(&app.server.access, request.headers())?;
    let mut response = match (&origin, request.method()) {
        (Some(_), &Method::OPTIONS) => preflight(request.headers()),
        _ => next.run(request).await,
    };
    secure(response.headers_mut());
    if let Some(origin) = origin {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        response.headers_mut().append(VARY, HeaderValue::from_static("origin"));
    }
    Ok(response)
}

/// The origin of the page that asks, if it is one.
fn allowed_origin(access: &Access, headers: &HeaderMap) -> Result<Option<HeaderValue>, ApiError> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let host = headers.get(HOST).map(text).unwrap_or_default();
    if access.local && access.api_keys.is_empty() && !is_this_machine(&host) {
        let message =
            "this server answers to localhost alone: ask it by that name, or start it with --api-key";
        return Err(ApiError::forbidden(message));
    }
    let origin = headers.get(ORIGIN);
    if origin.is_some_and(|origin| !is_allowed(access, &text(origin), &host)) {
        let message = "pages of other origins may not ask: start the server with --allow-origin";
        return Err(ApiError::forbidden(message));
    }
    Ok(origin.cloned())
}

/// An allowed origin may send what headers it likes: OpenAI's client has a dozen of its own.
fn preflight(asked: &HeaderMap) -> Response {
    let usual = || HeaderValue::from_static("authorization, content-type");
    let allowed = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned().unwrap_or_else(usual);
    let methods = HeaderValue::from_static("GET, POST");
    let headers = [(ACCESS_CONTROL_ALLOW_METHODS, methods), (ACCESS_CONTROL_ALLOW_HEADERS, allowed)];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// The page's own scripts, styles and pictures, and nothing from elsewhere.
fn secure(headers: &mut HeaderMap) {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                          img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let plain = HeaderName::from_static;
    let set = [
        (plain("content-security-policy"), POLICY),
        (plain("x-content-type-options"), "nosniff"),
        (plain("referrer-policy"), "no-referrer"),
        (plain("cross-origin-resource-policy"), "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in set {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// `localhost` and addresses of the loopback, with any port.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => return rest.split(']').next() == Some("::1"),
        None => host.split(':').next().unwrap_or_default(),
    };
    let loopback = |ip: std::net::Ipv4Addr| ip.is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(loopback)
}

/// The server's own origin, or one that was named.
fn is_allowed(access: &Access, origin: &str, host: &str) -> bool {
    let own = origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host));
    own || access.origins.iter().any(|allowed| allowed == origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_known() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "10.0.0.1:8080", "[::2]:1", "0.0.0.0"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn an_origin_is_the_servers_own_or_was_named() {
        let access = Access { origins: vec!["https://a.example".to_owned()], ..Access::default() };
        let allowed = |origin| is_allowed(&access, origin, "localhost:8080");
        assert!(allowed("http://localhost:8080") && allowed("https://a.example"));
        for origin in ["null", "http://localhost", "http://localhost:8081", "https://a.example.evil", ""] {
            assert!(!allowed(origin), "{origin}");
        }
    }

    #[test]
    fn a_key_is_compared_whole() {
        let with =
            |value: &str| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())]);
        let keys = ["secret", "another"].map(str::to_owned);
        let number = |value| number_of_key(&with(value), &keys);
        assert_eq!([number("Bearer secret"), number("bearer another")], [Some(0), Some(1)]);
        for value in ["Bearer secre", "Bearer secrets", "secret", "Basic secret", "Bearer "] {
            assert_eq!(number(value), None, "{value}");
        }
        assert_eq!(number_of_key(&HeaderMap::new(), &keys), None);
    }
}
