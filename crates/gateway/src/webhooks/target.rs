//! Where a webhook goes: an address that may be called, and the machine behind it that may be reached.

use std::net::{IpAddr, SocketAddr};

use hyper::Uri;

/// The longest address.
const LENGTH_MAX: usize = 2_048;

/// An address that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host as it stands in the address, without brackets.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// Whether to speak TLS.
    pub(crate) tls: bool,
    /// What the `Host` header says.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) path: String,
}

impl Target {
    /// Reads `https://host[:port]/path`; `http://` only for the loopback, or if that was allowed aloud.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn parse(url: &str, insecure: bool) -> Result<Self, &'static str> {
        if url.len() > LENGTH_MAX {
            return Err("it is longer than 2048 bytes");
        }
        if url.contains('#') {
            return Err("it has a fragment");
        }
        let uri: Uri = url.parse().map_err(|_| "it is not an address")?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it does not begin with https://"),
        };
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("it holds a user name or password");
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err("it names no host");
        }
        if !tls && !insecure && !is_loopback(&host) {
            return Err("plain http:// is for the loopback only; use https://");
        }
        let named = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port = match named.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or("its port is none")?,
            None if tls => 443,
            None => 80,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { host, port, tls, authority: authority.to_string(), path })
    }

    /// Whether `address`, which the host's name led to, may be called: no name may lead to this machine, to a neighbour's
    /// link or to many at once, where services listen that nobody meant to open.
    pub(crate) fn may_reach(&self, address: SocketAddr) -> bool {
        match canonical(address.ip()) {
            ip if ip.is_loopback() => is_loopback(&self.host),
            IpAddr::V4(ip) => {
                !(ip.is_unspecified() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast())
            }
            IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local()),
        }
    }
}

/// `::ffff:127.0.0.1` is `127.0.0.1`.
fn canonical(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// Whether the text itself is the loopback, so that whoever wrote it meant this machine.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| canonical(ip).is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        let target = Target::parse("https://shop.example/hooks?x=1", false).unwrap();
        assert_eq!((target.host.as_str(), target.port, target.tls), ("shop.example", 443, true));
        assert_eq!((target.authority.as_str(), target.path.as_str()), ("shop.example", "/hooks?x=1"));
        assert_eq!(Target::parse("http://127.0.0.1:8080", false).unwrap().path, "/");
        assert_eq!(Target::parse("http://[::1]:8080/a", false).unwrap().host, "::1");
        assert!(Target::parse("http://localhost/", false).is_ok());
        assert!(Target::parse("http://shop.example/", true).is_ok());
        for wrong in [
            "",
            "shop.example",
            "/hooks",
            "ftp://shop.example/",
            "http://shop.example/",
            "http://10.0.0.1/",
            "https://",
            "https://a:b@shop.example/",
            "https://shop.example/#a",
            "https://shop.example:0/",
            "https://shop.example:99999/",
            "https://shop.example:/",
            "https://shop example/",
        ] {
            assert!(Target::parse(wrong, false).is_err(), "{wrong}");
        }
        assert!(Target::parse(&format!("https://shop.example/{}", "a".repeat(2_048)), false).is_err());
    }

    #[test]
    fn a_name_leads_nowhere_that_nobody_meant() {
        let named = Target::parse("https://shop.example/", false).unwrap();
        let local = Target::parse("http://127.0.0.1/", false).unwrap();
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 443);
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(!named.may_reach(at(ip)) && local.may_reach(at(ip)), "{ip}");
        }
        for ip in ["0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "::", "fe80::1", "ff02::1"] {
            assert!(!named.may_reach(at(ip)), "{ip}");
        }
        for ip in ["203.0.113.7", "10.1.2.3", "2001:db8::1"] {
            assert!(named.may_reach(at(ip)), "{ip}");
        }
    }
}
