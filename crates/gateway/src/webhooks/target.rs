//! Where a webhook goes: an address that may be called, and the machine behind it that may be reached.

use std::net::IpAddr;

use hyper::Uri;

/// The longest address.
const LENGTH_MAX: usize = 2_048;

/// What was allowed aloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Allowed {
    /// Plain HTTP beyond the loopback.
    pub(crate) insecure: bool,
    /// Addresses of networks that are not the Internet.
    pub(crate) private: bool,
}

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
    /// Whether it may lie in a private network.
    private: bool,
}

impl Target {
    /// Reads `https://host[:port]/path`; `http://` only for the loopback, or if that was allowed aloud.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn parse(url: &str, allowed: Allowed) -> Result<Self, &'static str> {
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
        if !tls && !allowed.insecure && !is_loopback(&host) {
            return Err("plain http:// is for the loopback only; use https://");
        }
        let named = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port = match named.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or("its port is none")?,
            None if tls => 443,
            None => 80,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let private = allowed.private;
        let target = Self { host, port, tls, authority: authority.to_string(), path, private };
        // What a name leads to is seen when it is called: it may lead elsewhere each time.
        let literal = target.host.parse::<IpAddr>().ok();
        match literal.and_then(|ip| target.forbids(ip)) {
            Some(why) => Err(why),
            None => Ok(target),
        }
    }

    /// Why `ip`, which the host's name led to, may not be called: no name may lead to this machine's loopback, to a
    /// neighbour's link or to many at once, nor to a private network unless that is allowed. Services listen there that
    /// nobody meant to open to whoever may name an address.
    pub(crate) fn forbids(&self, ip: IpAddr) -> Option<&'static str> {
        let ip = canonical(ip);
        if ip.is_loopback() {
            return (!is_loopback(&self.host)).then_some("it leads to the loopback, and does not say so");
        }
        if is_nobody(ip) {
            return Some("it leads to an address that is no machine's, many machines', or a link's");
        }
        (is_private(ip) && !self.private)
            .then_some("it leads to a private network: see webhooks.private_addresses")
    }
}

/// An IPv4 address within an IPv6 one is that IPv4 address: mapped, translated (RFC 6052) or tunnelled (RFC 3056).
fn canonical(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let embedded = |at: usize| {
        let octets = v6.octets();
        let four = octets.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
        four.map_or(ip, IpAddr::from)
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => embedded(12),
        [0x2002, ..] => embedded(2),
        _ => ip,
    }
}

/// Unspecified, multicast, broadcast, reserved, or good on one link only.
fn is_nobody(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, ..] = ip.octets();
            ip.is_link_local() || matches!(first, 0 | 224..)
        }
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local(),
    }
}

/// In no network that all can reach: RFC 1918, 6598 (shared), 6890 (protocols), 2544 (measuring) and 4193.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_private()
                || matches!(ip.octets(), [100, 64..=127, ..] | [192, 0, 0, _] | [198, 18 | 19, ..])
        }
        IpAddr::V6(ip) => {
            ip.is_unique_local() || matches!(ip.segments(), [0x64, 0xff9b, 1, ..] | [0xfec0..=0xfeff, ..])
        }
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

    const NOTHING: Allowed = Allowed { insecure: false, private: false };

    fn named(allowed: Allowed) -> Target {
        Target::parse("https://shop.example/", allowed).unwrap()
    }

    #[test]
    fn addresses_are_read_or_refused() {
        let target = Target::parse("https://shop.example/hooks?x=1", NOTHING).unwrap();
        assert_eq!((target.host.as_str(), target.port, target.tls), ("shop.example", 443, true));
        assert_eq!((target.authority.as_str(), target.path.as_str()), ("shop.example", "/hooks?x=1"));
        assert_eq!(Target::parse("http://127.0.0.1:8080", NOTHING).unwrap().path, "/");
        assert_eq!(Target::parse("http://[::1]:8080/a", NOTHING).unwrap().host, "::1");
        assert!(Target::parse("http://localhost/", NOTHING).is_ok());
        assert!(Target::parse("http://shop.example/", Allowed { insecure: true, private: false }).is_ok());
        assert!(Target::parse("https://10.0.0.1/", Allowed { insecure: false, private: true }).is_ok());
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
            "https://10.0.0.1/",
            "https://169.254.169.254/",
            "https://[fe80::1]/",
        ] {
            assert!(Target::parse(wrong, NOTHING).is_err(), "{wrong}");
        }
        assert!(Target::parse(&format!("https://shop.example/{}", "a".repeat(2_048)), NOTHING).is_err());
    }

    #[test]
    fn a_name_leads_nowhere_that_nobody_meant() {
        let all = Allowed { insecure: true, private: true };
        let local = Target::parse("http://127.0.0.1/", NOTHING).unwrap();
        let at = |ip: &str| ip.parse::<IpAddr>().unwrap();
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"] {
            assert!(named(all).forbids(at(ip)).is_some() && local.forbids(at(ip)).is_none(), "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(named(all).forbids(at(ip)).is_some(), "{ip}");
        }
        for ip in
            ["203.0.113.7", "100.128.0.1", "192.0.2.1", "198.20.0.1", "2001:db8::1", "64:ff9b::cb00:7107"]
        {
            assert_eq!(named(NOTHING).forbids(at(ip)), None, "{ip}");
        }
    }

    #[test]
    fn a_private_network_is_reached_only_if_that_is_allowed() {
        for ip in [
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.0.8",
            "198.19.0.1",
            "fd00::1",
            "fec0::1",
            "::ffff:10.1.2.3",
            "64:ff9b::a01:203",
            "64:ff9b:1::1",
            "2002:a01:203::",
        ] {
            let ip = ip.parse().unwrap();
            assert!(named(NOTHING).forbids(ip).is_some(), "{ip}");
            assert_eq!(named(Allowed { insecure: false, private: true }).forbids(ip), None, "{ip}");
        }
    }
}
