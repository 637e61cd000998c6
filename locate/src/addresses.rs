//! Which addresses other people's records may lead us to: pure.
//!
//! Whoever writes a domain's records chooses where we connect. So names may not lead into the
//! networks around this server, unless the operator allows it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

/// A network, such as `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// This is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad network {got:?}: expected address/bits, such as 10.0.0.0/8")]
pub struct BadNetwork {
    /// What was got.
    pub got: String,
}

/// Which addresses are connected to.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Networks that are connected to whatever they are.
    pub allow: Vec<Network>,
    /// Where this server listens itself.
    pub own: Vec<SocketAddr>,
}

/// Why an address is not connected to: it is of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is refused")]
pub struct Refused(pub &'static str);

impl Network {
    /// All addresses there are.
    pub fn everything() -> Vec<Network> {
        [IpAddr::from([0; 4]), IpAddr::from([0; 16])]
            .into_iter()
            .filter_map(|address| IpNet::new(address, 0).ok().map(Network))
            .collect()
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Network, BadNetwork> {
        let single = || text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse::<IpNet>().or_else(|_| single());
        network.map(Network).map_err(|_| BadNetwork { got: text.to_owned() })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Policy {
    /// Connects to everything: for clients, who go where their user says.
    pub fn anywhere() -> Policy {
        Policy { allow: Network::everything(), own: Vec::new() }
    }

    /// Whether an address that a name led to may be connected to.
    ///
    /// # Errors
    /// [`Refused`] with the kind of address that it is.
    pub fn judge(&self, address: SocketAddr) -> Result<(), Refused> {
        let plain = inside(address.ip());
        let among = |ip| self.allow.iter().any(|network| network.contains(ip));
        if among(plain) || among(address.ip()) {
            return Ok(());
        }
        if self.own.iter().any(|own| is_own(*own, plain, address.port())) {
            return Err(Refused("an address of this server"));
        }
        match plain {
            IpAddr::V4(plain) => kind_of_v4(plain),
            IpAddr::V6(plain) => kind_of_v6(plain),
        }
        .map_or(Ok(()), |kind| Err(Refused(kind)))
    }
}

/// The address that is meant: of one that only carries an IPv4 address, that. So it is with mapped
/// ones, and with those of NAT64's well-known prefix, whose gateways lead to that address and no
/// other (RFC 6052); a network with IPv6 alone has no other names for hosts with IPv4.
fn inside(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = ip else { return ip };
    match six.segments() {
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => {
            IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
        }
        _ => ip.to_canonical(),
    }
}

/// A listener on the unspecified address has all of the machine's; which these are is not asked,
/// as a link to oneself is found out at its HELLO.
fn is_own(own: SocketAddr, ip: IpAddr, port: u16) -> bool {
    own.port() == port && own.ip().to_canonical() == ip
}

fn kind_of_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = ip.octets();
    match (a, b, c) {
        (0, ..) => Some("an unspecified address"),
        (127, ..) => Some("a loopback address"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("a private address"),
        (169, 254, _) => Some("a link-local address"),
        (100, 64..=127, _) => Some("an address behind a carrier's NAT"),
        (192, 0, 0) => Some("an address of a protocol assignment"),
        (192, 88, 99) => Some("a 6to4 address"),
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Some("an address of documentation"),
        (198, 18..=19, _) => Some("an address of benchmarks"),
        (224..=239, ..) => Some("a multicast address"),
        (240..=255, ..) => Some("a reserved or broadcast address"),
        _ => None,
    }
}

fn kind_of_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let bits = ip.segments();
    match (bits[0], bits[1]) {
        _ if ip.is_unspecified() => Some("an unspecified address"),
        _ if ip.is_loopback() => Some("a loopback address"),
        _ if bits[..6] == [0; 6] => Some("an IPv4-compatible address"),
        (0xfc00..=0xfdff, _) => Some("a private address"),
        (0xfe80..=0xfebf, _) => Some("a link-local address"),
        (0xfec0..=0xfeff, _) => Some("a site-local address"),
        (0xff00..=0xffff, _) => Some("a multicast address"),
        // A gateway of the network's own choice stands behind these, and leads into the network
        // itself as well as not (RFC 8215).
        (0x0064, 0xff9b) if bits[2] <= 1 => Some("an address of a local NAT64"),
        (0x2002, _) => Some("a 6to4 address"),
        (0x2001, 0x0000) => Some("a Teredo address"),
        (0x2001, 0x0db8) | (0x3fff, 0x0000..=0x0fff) => Some("an address of documentation"),
        (0x2001, 0x0002) if bits[2] == 0 => Some("an address of benchmarks"),
        (0x0100, 0x0000) if bits[2] == 0 && bits[3] == 0 => Some("an address of a black hole"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judge(policy: &Policy, ip: &str) -> Result<(), Refused> {
        policy.judge(SocketAddr::new(ip.parse().unwrap(), 2778))
    }

    const FORBIDDEN: &[&str] = &[
        "127.0.0.1",
        "127.255.255.254",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.127.255.255",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "203.0.113.9",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b::0.0.0.0",
        "64:ff9b::1:0:8.8.8.8",
        "64:ff9b:1::8.8.8.8",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "3fff::1",
        "100::1",
    ];

    #[test]
    fn f7_forbidden_addresses_are_refused_and_the_allow_list_lets_them_through() {
        let policy = Policy::default();
        for ip in FORBIDDEN {
            assert!(judge(&policy, ip).is_err(), "{ip}");
            let allowed = Policy { allow: vec![ip.parse().unwrap()], own: vec![] };
            assert_eq!(judge(&allowed, ip), Ok(()), "{ip}");
            assert_eq!(judge(&Policy::anywhere(), ip), Ok(()), "{ip}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_connected_to() {
        for ip in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "169.253.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "::ffff:8.8.8.8",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "64:ff9b::8.8.8.8",
            "64:ff9c::1",
        ] {
            assert_eq!(judge(&Policy::default(), ip), Ok(()), "{ip}");
        }
    }

    #[test]
    fn f7_a_mapped_address_is_judged_by_the_address_inside() {
        let policy = Policy { allow: vec!["127.0.0.0/8".parse().unwrap()], own: vec![] };
        assert_eq!(judge(&policy, "::ffff:127.0.0.1"), Ok(()));
        assert!(judge(&policy, "::ffff:10.0.0.1").is_err());
        assert!(judge(&policy, "::1").is_err());
    }

    #[test]
    fn f7_an_address_of_nat64_is_judged_by_the_address_inside() {
        let policy = Policy { allow: vec!["127.0.0.0/8".parse().unwrap()], own: vec![] };
        assert_eq!(judge(&policy, "64:ff9b::127.0.0.1"), Ok(()));
        assert_eq!(judge(&policy, "64:ff9b::10.0.0.1"), Err(Refused("a private address")));
        let own = Policy { allow: vec![], own: vec!["8.8.4.4:2778".parse().unwrap()] };
        assert_eq!(judge(&own, "64:ff9b::8.8.4.4"), Err(Refused("an address of this server")));
    }

    #[test]
    fn f7_our_own_address_is_refused() {
        let policy = Policy { allow: vec![], own: vec!["8.8.4.4:2778".parse().unwrap()] };
        assert_eq!(judge(&policy, "8.8.4.4"), Err(Refused("an address of this server")));
        assert_eq!(judge(&policy, "::ffff:8.8.4.4"), Err(Refused("an address of this server")));
        assert_eq!(policy.judge("8.8.4.4:2779".parse().unwrap()), Ok(()));
    }

    #[test]
    fn networks_are_read_and_told() {
        for (text, told) in
            [("10.0.0.0/8", "10.0.0.0/8"), ("::1", "::1/128"), ("fd00::/8", "fd00::/8")]
        {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), told);
        }
        for text in ["", "10.0.0.0/33", "10.0.0/8", "localhost"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn f7_mapping_an_address_changes_nothing(octets: [u8; 4]) {
            let plain = Ipv4Addr::from(octets);
            let policy = Policy::default();
            let judge = |ip: IpAddr| policy.judge(SocketAddr::new(ip, 1));
            prop_assert_eq!(judge(plain.into()), judge(plain.to_ipv6_mapped().into()));
            let [a, b, c, d] = octets.map(u16::from);
            let by_gateway = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a << 8 | b, c << 8 | d);
            prop_assert_eq!(judge(plain.into()), judge(by_gateway.into()));
        }
    }
}
