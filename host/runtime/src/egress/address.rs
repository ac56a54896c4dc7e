//! Which addresses may be connected to: public ones, and what the operator opens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, such as `10.0.0.0/8` or `::1/128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// Text is not a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a range of addresses such as 10.0.0.0/8 or ::1/128, with no bits set after the prefix"
)]
pub struct InvalidCidr(pub String);

impl Cidr {
    const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Cidr {
        Cidr {
            network: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            prefix,
        }
    }

    const fn v6(first: [u16; 4], prefix: u8) -> Cidr {
        let [a, b, c, d] = first;
        Cidr {
            network: IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)),
            prefix,
        }
    }

    /// Whether an address lies in the range. IPv4 addresses never lie in IPv6 ranges, nor the reverse.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.network, ip) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix);
                let cut = |ip: Ipv4Addr| ip.to_bits().checked_shr(shift).unwrap_or(0);
                cut(network) == cut(ip)
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix);
                let cut = |ip: Ipv6Addr| ip.to_bits().checked_shr(shift).unwrap_or(0);
                cut(network) == cut(ip)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// An address without a prefix is a range of one.
impl FromStr for Cidr {
    type Err = InvalidCidr;
    fn from_str(text: &str) -> Result<Cidr, InvalidCidr> {
        let wrong = || InvalidCidr(text.chars().take(100).collect());
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (text, None),
        };
        let network: IpAddr = ip.parse().map_err(|_| wrong())?;
        let bits = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|p| *p <= bits)
                .ok_or_else(wrong)?,
        };
        let stray = match network {
            IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
            IpAddr::V6(ip) => ip.to_bits(),
        };
        if stray.checked_shl(u32::from(prefix)).unwrap_or(0) != 0 {
            return Err(wrong());
        }
        Ok(Cidr { network, prefix })
    }
}

/// Ranges that no plugin is connected to, with their names. Source: the IANA special-purpose address registries.
const REFUSED: [(Cidr, &str); 21] = [
    (Cidr::v4(169, 254, 169, 254, 32), "cloud metadata"),
    (Cidr::v4(0, 0, 0, 0, 8), "this network"),
    (Cidr::v4(10, 0, 0, 0, 8), "private"),
    (Cidr::v4(100, 64, 0, 0, 10), "carrier-grade NAT"),
    (Cidr::v4(127, 0, 0, 0, 8), "loopback"),
    (Cidr::v4(169, 254, 0, 0, 16), "link-local"),
    (Cidr::v4(172, 16, 0, 0, 12), "private"),
    (Cidr::v4(192, 0, 0, 0, 24), "protocol assignments"),
    (Cidr::v4(192, 0, 2, 0, 24), "documentation"),
    (Cidr::v4(192, 88, 99, 0, 24), "6to4 relay"),
    (Cidr::v4(192, 168, 0, 0, 16), "private"),
    (Cidr::v4(198, 18, 0, 0, 15), "benchmarking"),
    (Cidr::v4(198, 51, 100, 0, 24), "documentation"),
    (Cidr::v4(203, 0, 113, 0, 24), "documentation"),
    (Cidr::v4(224, 0, 0, 0, 4), "multicast"),
    (Cidr::v4(240, 0, 0, 0, 4), "reserved"),
    (Cidr::v6([0xfc00, 0, 0, 0], 7), "unique local"),
    (Cidr::v6([0xfe80, 0, 0, 0], 10), "link-local"),
    (Cidr::v6([0xff00, 0, 0, 0], 8), "multicast"),
    (Cidr::v6([0x2002, 0, 0, 0], 16), "6to4"),
    (Cidr::v6([0x0064, 0xff9b, 0, 0], 96), "NAT64"),
];

/// Within global unicast, what is not for hosts.
const REFUSED_GLOBAL: [(Cidr, &str); 3] = [
    (Cidr::v6([0x2001, 0, 0, 0], 23), "protocol assignments"),
    (Cidr::v6([0x2001, 0x0db8, 0, 0], 32), "documentation"),
    (Cidr::v6([0x3fff, 0, 0, 0], 20), "documentation"),
];

const GLOBAL: Cidr = Cidr::v6([0x2000, 0, 0, 0], 3);

/// Decides about addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddressPolicy {
    /// What the operator opened.
    pub(crate) open: Vec<Cidr>,
}

impl AddressPolicy {
    /// Whether the operator opened this address.
    pub(crate) fn opens(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.open.iter().any(|range| range.contains(ip))
    }

    /// Why an address is refused; `None` when it may be connected to.
    ///
    /// An IPv6 address that stands for an IPv4 address is judged as that one.
    pub(crate) fn refuses(&self, ip: IpAddr) -> Option<&'static str> {
        let ip = ip.to_canonical();
        if self.open.iter().any(|range| range.contains(ip)) {
            return None;
        }
        let named = |ranges: &[(Cidr, &'static str)]| {
            ranges
                .iter()
                .find(|(range, _)| range.contains(ip))
                .map(|(_, name)| *name)
        };
        match ip {
            IpAddr::V4(_) => named(&REFUSED),
            IpAddr::V6(v6) if v6.is_loopback() => Some("loopback"),
            IpAddr::V6(_) => named(&REFUSED)
                .or_else(|| named(&REFUSED_GLOBAL))
                .or((!GLOBAL.contains(ip)).then_some("not global")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_public_addresses_are_open() {
        let policy = AddressPolicy::default();
        for (text, name) in [
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("0.0.0.0", "this network"),
            ("10.1.2.3", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("100.64.0.1", "carrier-grade NAT"),
            ("100.127.255.255", "carrier-grade NAT"),
            ("169.254.1.1", "link-local"),
            ("169.254.169.254", "cloud metadata"),
            ("192.0.2.1", "documentation"),
            ("198.19.0.1", "benchmarking"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "reserved"),
            ("::1", "loopback"),
            ("::", "not global"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:10.0.0.1", "private"),
            ("::127.0.0.1", "not global"),
            ("64:ff9b::7f00:1", "NAT64"),
            ("64:ff9b:1::1", "not global"),
            ("2002:7f00:1::", "6to4"),
            ("2001::1", "protocol assignments"),
            ("2001:db8::1", "documentation"),
            ("fe80::1", "link-local"),
            ("fec0::1", "not global"),
            ("fd00:ec2::254", "unique local"),
            ("ff02::1", "multicast"),
            ("100::1", "not global"),
        ] {
            assert_eq!(policy.refuses(ip(text)), Some(name), "{text}");
        }
        for text in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
        ] {
            assert_eq!(policy.refuses(ip(text)), None, "{text}");
        }
    }

    #[test]
    fn the_operator_opens_ranges_and_nothing_else() {
        let policy = AddressPolicy {
            open: vec![
                "127.0.0.0/8".parse().expect("a range"),
                "fd00::/8".parse().expect("a range"),
            ],
        };
        assert_eq!(policy.refuses(ip("127.0.0.1")), None);
        assert_eq!(policy.refuses(ip("::ffff:127.0.0.1")), None);
        assert_eq!(policy.refuses(ip("fd12::1")), None);
        assert_eq!(policy.refuses(ip("::1")), Some("loopback"));
        assert_eq!(policy.refuses(ip("10.0.0.1")), Some("private"));
    }

    #[test]
    fn a_range_is_read_strictly() {
        for text in [
            "10.0.0.0/8",
            "0.0.0.0/0",
            "::/0",
            "::1/128",
            "192.168.1.0/24",
        ] {
            assert_eq!(text.parse::<Cidr>().expect(text).to_string(), text);
        }
        assert_eq!(
            "10.0.0.7".parse::<Cidr>().expect("one").to_string(),
            "10.0.0.7/32"
        );
        for text in [
            "10.0.0.1/8",
            "10.0.0.0/33",
            "::1/64",
            "10/8",
            "",
            "a/8",
            "10.0.0.0/",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        assert!(
            "0.0.0.0/0"
                .parse::<Cidr>()
                .expect("all")
                .contains(ip("8.8.8.8"))
        );
    }
}
