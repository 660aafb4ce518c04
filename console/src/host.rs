//! The check that a request was meant for this machine.

use std::net::{IpAddr, Ipv6Addr};

use hyper::Request;
use hyper::header::HOST;

/// Whether a request names a host of loopback, everywhere where it names one. A browser sends the name in its address bar, which a page
/// of a stranger cannot forge.
pub(crate) fn is_loopback<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let target = request.uri().authority();
    host.to_str().is_ok_and(is_loopback_name)
        && target.is_none_or(|name| is_loopback_name(name.as_str()))
}

/// Whether a host, with a port or without, is a name or an address of loopback.
fn is_loopback_name(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) => return is_port(port) && name == Ipv6Addr::LOCALHOST.to_string(),
            None => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_address = || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    // With a dot at its end a name is the same name, and complete.
    let is_localhost = name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case("localhost");
    is_port(port) && (is_localhost || is_address())
}

fn is_port(port: &str) -> bool {
    port.is_empty() || port.strip_prefix(':').is_some_and(|digits| digits.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_loopback_are_known() {
        let own = [
            "localhost",
            "LOCALHOST:80",
            "localhost.:80",
            "127.0.0.1",
            "127.9.9.9:9090",
            "[::1]",
            "[::1]:9090",
        ];
        for host in own {
            assert!(is_loopback_name(host), "{host}");
        }
        let others = [
            "",
            ":80",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "10.0.0.1:80",
        ];
        let malformed = [
            "localhost:",
            "localhost:x",
            "localhost:1:2",
            "localhost..",
            "127.1",
            "[::1",
            "[::1]x",
            "[::2]:80",
            "user@localhost",
            "::1",
        ];
        for host in others.into_iter().chain(malformed) {
            assert!(!is_loopback_name(host), "{host}");
        }
    }
}
