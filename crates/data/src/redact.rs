//! [`without_secrets`]: text in which web addresses show nobody's password or key.

use std::borrow::Cow;

/// What takes a secret's place.
const HIDDEN: &str = "***";
/// Parts of names of an address's parameters whose values are secret, such as `api-key`, `access_token` and
/// `X-Amz-Signature`.
const SECRET: [&str; 7] = ["key", "token", "sig", "secret", "pass", "credential", "auth"];

/// The text with every `user:password@` of its web addresses, and every parameter that is named like a
/// secret, replaced by `***`. Whatever is shown or kept of an address goes through here.
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`');
        // An address within an address is one of its own.
        let end = after.find("://").into_iter().chain(after.find(ends)).min().unwrap_or(after.len());
        let (address, behind) = after.split_at(end);
        shown.push_str(before);
        push_address(address, &mut shown);
        rest = behind;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Appends what follows `://`.
fn push_address(address: &str, shown: &mut String) {
    let host_end = address.find(['/', '?', '#']).unwrap_or(address.len());
    let (authority, path) = address.split_at(host_end);
    match authority.rsplit_once('@') {
        Some((_, host)) => shown.extend([HIDDEN, "@", host]),
        None => shown.push_str(authority),
    }
    let Some((path, parameters)) = path.split_once('?') else { return shown.push_str(path) };
    shown.extend([path, "?"]);
    for (i, parameter) in parameters.split('&').enumerate() {
        if i > 0 {
            shown.push('&');
        }
        match parameter.split_once('=') {
            Some((name, _)) if is_secret(name) => shown.extend([name, "=", HIDDEN]),
            _ => shown.push_str(parameter),
        }
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_keys_of_addresses_are_hidden_and_nothing_else() {
        for (text, shown) in [
            ("no address: me@example.org, 1 > 0", "no address: me@example.org, 1 > 0"),
            ("http://localhost:8000/v1", "http://localhost:8000/v1"),
            ("at https://me:p4ss@host:1/v1: refused", "at https://***@host:1/v1: refused"),
            ("https://me@host/a@b?x=1", "https://***@host/a@b?x=1"),
            ("s3://a:b@c and (http://d:e@f)", "s3://***@c and (http://***@f)"),
            ("http://p@ss:w@rd@host/", "http://***@host/"),
            ("http://h/v1?api-version=2&api_key=abc&n=1 x", "http://h/v1?api-version=2&api_key=***&n=1 x"),
            ("\"http://h?X-Amz-Signature=1f\" y", "\"http://h?X-Amz-Signature=***\" y"),
            ("http://", "http://"),
            ("http://h/get?from=https://a:b@c/d", "http://h/get?from=https://***@c/d"),
            ("é://ü:ö@ä", "é://***@ä"),
        ] {
            assert_eq!(without_secrets(text), shown);
        }
    }
}
