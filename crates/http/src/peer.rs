//! Who is at the other end: the client's address behind trusted proxies, and lists of networks.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The header in which trusted proxies report the client's address.
///
/// Only one is read: a proxy that writes one of the two usually hands the other on as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`, a list of addresses (nginx, Caddy, Azure Front Door, Application Gateway).
    #[default]
    XForwardedFor,
    /// `Forwarded` of RFC 7239, the `for=` parameter.
    Forwarded,
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address that a connection's peer and the proxy header stand for.
///
/// When the peer is a trusted proxy, the header is read from its right end: each trusted proxy appended the address it
/// saw, so the first address from the right that is not a trusted proxy is the client's, and what stands left of it is
/// the client's own claim. None when a trusted proxy did not say an address (`unknown`, an obfuscated name, garbage).
pub(crate) fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &[IpNet],
    header: ProxyHeader,
) -> Option<IpAddr> {
    let mut client = peer.to_canonical();
    if !contains(trusted, client) {
        return Some(client);
    }
    let name = match header {
        ProxyHeader::XForwardedFor => X_FORWARDED_FOR,
        ProxyHeader::Forwarded => FORWARDED,
    };
    // Several header lines are one list, in their order.
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    for line in lines.iter().rev() {
        let line = line.to_str().ok()?;
        for hop in line.rsplit(',') {
            let hop = match header {
                ProxyHeader::XForwardedFor => hop.trim(),
                ProxyHeader::Forwarded => forwarded_for(hop)?,
            };
            client = parse_address(hop)?;
            if !contains(trusted, client) {
                return Some(client);
            }
        }
    }
    Some(client)
}

/// The value of `for=` in one element of a `Forwarded` header. Commas can't occur in addresses, so an element that a
/// quoted comma tore apart is merely one without an address.
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
    })
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = IpAddr::from_str(bare).ok().or_else(|| Some(SocketAddr::from_str(text).ok()?.ip()))?;
    Some(address.to_canonical())
}

/// Whether one of the networks holds the address. IPv4 in IPv6 (`::ffff:…`) counts as IPv4.
pub(crate) fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, header: ProxyHeader, lines: &[&str]) -> Option<String> {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for line in lines {
            let name = if header == ProxyHeader::Forwarded { FORWARDED } else { X_FORWARDED_FOR };
            headers.append(name, line.parse().unwrap());
        }
        client_address(peer.parse().unwrap(), &headers, &trusted, header).map(|address| address.to_string())
    }

    #[test]
    fn the_client_is_the_first_untrusted_hop_from_the_right() {
        use ProxyHeader::XForwardedFor as Xff;
        let cases: &[(&str, &[&str], Option<&str>)] = &[
            // Nobody but a trusted proxy is believed.
            ("203.0.113.9", &["198.51.100.1"], Some("203.0.113.9")),
            ("10.0.0.1", &[], Some("10.0.0.1")),
            ("10.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            // What the client claims stands to the left.
            ("10.0.0.1", &["127.0.0.1, 10.9.9.9, 198.51.100.1"], Some("198.51.100.1")),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.1, 10.0.0.2"], Some("198.51.100.1")),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], Some("10.0.0.3")),
            ("::ffff:10.0.0.1", &["198.51.100.1:4711"], Some("198.51.100.1")),
            ("fd00::1", &["[2001:db8::7]:4711"], Some("2001:db8::7")),
            ("fd00::1", &["2001:db8::7"], Some("2001:db8::7")),
            ("10.0.0.1", &["::ffff:198.51.100.1"], Some("198.51.100.1")),
            // A hop that nobody can read is no address, whatever stands left of it.
            ("10.0.0.1", &["198.51.100.1, unknown"], None),
            ("10.0.0.1", &["198.51.100.1, "], None),
            ("10.0.0.1", &["999.1.1.1"], None),
        ];
        for (peer, lines, expected) in cases {
            assert_eq!(address(peer, Xff, lines).as_deref(), *expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_forwarded_header_is_read_by_its_for_parameter() {
        use ProxyHeader::Forwarded;
        let cases: &[(&[&str], Option<&str>)] = &[
            (&["for=198.51.100.1;proto=https"], Some("198.51.100.1")),
            (&["For=\"[2001:db8::7]:4711\"; by=10.0.0.1"], Some("2001:db8::7")),
            (&["for=1.1.1.1, for=198.51.100.1", "for=10.0.0.2"], Some("198.51.100.1")),
            (&["for=_hidden"], None),
            (&["proto=https"], None),
        ];
        for (lines, expected) in cases {
            assert_eq!(address("10.0.0.1", Forwarded, lines).as_deref(), *expected, "{lines:?}");
        }
    }
}
