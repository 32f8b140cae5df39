//! The host that a client asked: it goes into the URLs that the client is given, so it is looked at closely.

use std::net::Ipv6Addr;

use actlog_http::Head;
use actlog_office::Cloud;
use hyper::header::HOST;

/// Where Entra signs applications in, in any cloud. What is asked of these hosts can only be a token.
const LOGIN: [&str; 6] = [
    "login.microsoftonline.com",
    "login.windows.net",
    "login.microsoft.com",
    "sts.windows.net",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
];
/// Longest name of a host, with its port.
const LONGEST: usize = 260;

/// Which of the two services a host name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Entra's.
    Login,
    /// The Management Activity API's.
    Feed,
    /// A name of our own: both.
    Both,
}

/// The header `Host`, when it is there once, and is a host with or without a port.
pub(super) fn of(head: &Head) -> Option<&str> {
    let mut values = head.headers().get_all(HOST).iter();
    let host = values.next()?.to_str().ok()?;
    (values.next().is_none() && is_host(host)).then_some(host)
}

/// The host without the port that the scheme has anyway, as collectors compare it.
pub(super) fn without_default_port<'a>(host: &'a str, scheme: &str) -> &'a str {
    host.strip_suffix(if scheme == "https" { ":443" } else { ":80" }).unwrap_or(host)
}

impl Side {
    pub(super) fn of(host: &str) -> Self {
        let name = host.split(':').next().unwrap_or(host).trim_end_matches('.');
        let is = |known: &str| known.trim_start_matches("https://").eq_ignore_ascii_case(name);
        if LOGIN.iter().any(|login| is(login)) {
            Self::Login
        } else if Cloud::ALL.iter().any(|cloud| is(cloud.base_url())) {
            Self::Feed
        } else {
            Self::Both
        }
    }
}

fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<Ipv6Addr>().is_ok() => {
            ("6", rest.strip_prefix(':').or(rest.is_empty().then_some("1")))
        }
        Some(_) => return false,
        None => text.split_once(':').map_or((text, Some("1")), |(name, port)| (name, Some(port))),
    };
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    text.len() <= LONGEST && !name.is_empty() && is_name && port.is_some_and(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_with_or_without_a_port_may_go_into_urls() {
        for host in
            ["manage.office.com", "manage.office.com:443", "localhost.", "10.0.0.1:8443", "[::1]", "[fe80::1]:8443"]
        {
            assert!(is_host(host), "{host}");
        }
        let long = "a".repeat(300);
        for wrong in [
            "", ":443", "a:", "a:0", "a:99999", "a:+1", "a:1:2", "a/b", "a b", "u@h", "h?x", "h#x", "h%41", "[::1",
            "[x]:1", "[::1]x", "::1", "[::1]:", "h\\i", "é", &long,
        ] {
            assert!(!is_host(wrong), "{wrong}");
        }
    }

    #[test]
    fn microsofts_hosts_are_told_apart_and_any_other_is_both() {
        for (host, side) in [
            ("LOGIN.microsoftonline.com:443", Side::Login),
            ("login.windows.net", Side::Login),
            ("sts.windows.net", Side::Login),
            ("login.microsoftonline.us", Side::Login),
            ("manage.office.com", Side::Feed),
            ("Manage.Office.com.", Side::Feed),
            ("manage.office365.us:443", Side::Feed),
            ("manage.contoso.com", Side::Both),
            ("[::1]:8443", Side::Both),
        ] {
            assert_eq!(Side::of(host), side, "{host}");
        }
        assert_eq!(without_default_port("manage.office.com:443", "https"), "manage.office.com");
        assert_eq!(without_default_port("localhost:8443", "https"), "localhost:8443");
    }
}
