//! Who asks, for the turns that clients take.

use std::net::IpAddr;

use axum::http::Extensions;

use crate::engine::ClientId;

/// Where a request comes from.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Which of several keys it has.
#[derive(Clone, Copy)]
pub(super) struct KeyNumber(pub(super) usize);

/// Of a request: its key where there are several, else its address.
pub(super) fn id(extensions: &Extensions) -> ClientId {
    match (extensions.get::<KeyNumber>(), extensions.get::<Peer>()) {
        (Some(KeyNumber(number)), _) => ClientId(*number as u128),
        (None, Some(Peer(address))) => ClientId(of_address(*address)),
        (None, None) => ClientId::default(),
    }
}

/// A host has 2^64 addresses of IPv6, which are one client. No number is that of a key.
fn of_address(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => (v6.to_bits() >> 64 << 64) | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_a_key_or_a_host() {
        let of = |address: &str| of_address(address.parse().unwrap());
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        let mut extensions = Extensions::new();
        let mut all =
            vec![of("192.0.2.1"), of("192.0.2.2"), of("2001:db8::1"), of("2001:db8:0:1::1"), of("::1")];
        for key in [0, 1] {
            extensions.insert(Peer("192.0.2.1".parse().unwrap()));
            assert_eq!(if key == 0 { id(&extensions).0 } else { all[0] }, all[0]);
            extensions.insert(KeyNumber(key));
            all.push(id(&extensions).0);
        }
        all.sort_unstable();
        assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
    }
}
