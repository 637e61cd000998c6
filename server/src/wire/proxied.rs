//! Where a connection comes from that a proxy passes on: the proxy says so before anything else, by
//! the PROXY protocol, version 2.
//!
//! Which proxies are believed, and how long they may take, is left to `listen`.

use std::io;
use std::net::IpAddr;

use ppp::v2::{Addresses, Command, Header};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The part of a header that says how long it is.
const HEAD_BYTES: usize = 16;
/// Longest header: the addresses, and what proxies like to say besides.
const HEADER_BYTES_MAX: usize = 536;

/// Reads the header and not a byte more. What a proxy asks for itself, to see whether we live, comes
/// from it.
///
/// # Errors
/// The connection's; invalid data, if this is no such header.
pub async fn source(stream: &mut (impl AsyncRead + Unpin), proxy: IpAddr) -> io::Result<IpAddr> {
    let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut bytes = vec![0; HEAD_BYTES];
    stream.read_exact(&mut bytes).await?;
    let rest = match bytes[..] {
        [.., high, low] => usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    };
    // What is no header at all has no length either.
    if bytes.starts_with(ppp::v2::PROTOCOL_PREFIX) {
        if HEAD_BYTES + rest > HEADER_BYTES_MAX {
            return Err(invalid(format!("a PROXY header of {rest} bytes is too long")));
        }
        bytes.resize(HEAD_BYTES + rest, 0);
        stream.read_exact(&mut bytes[HEAD_BYTES..]).await?;
    }
    let header = Header::try_from(&*bytes).map_err(|error| invalid(error.to_string()))?;
    match (header.command, header.addresses) {
        (Command::Local, _) | (Command::Proxy, Addresses::Unspecified) => Ok(proxy),
        (Command::Proxy, Addresses::IPv4(of)) => Ok(of.source_address.into()),
        (Command::Proxy, Addresses::IPv6(of)) => Ok(of.source_address.into()),
        (Command::Proxy, Addresses::Unix(_)) => Err(invalid("a PROXY header of no host".into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

    fn header(head: [u8; 2], payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u16).to_be_bytes();
        [ppp::v2::PROTOCOL_PREFIX, &head, &length, payload].concat()
    }

    /// What a header says, and what is left behind it.
    fn read(mut bytes: &[u8]) -> (Option<String>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let source = runtime.block_on(source(&mut bytes, PROXY));
        (source.ok().map(|source| source.to_string()), bytes.len())
    }

    #[test]
    fn b9_a_header_names_the_source_and_nothing_behind_it_is_read() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 9, 1, 2, 10, 218];
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        for (head, payload, expected) in [
            ([0x21, 0x11], &v4[..], Some("192.0.2.7")),
            ([0x21, 0x11], &[&v4[..], &[4, 0, 1, 0]].concat(), Some("192.0.2.7")),
            ([0x21, 0x21], &v6, Some("2001:db8::")),
            ([0x20, 0x00], &[], Some("10.0.0.9")),
            ([0x20, 0x11], &v4, Some("10.0.0.9")),
            ([0x21, 0x00], &[], Some("10.0.0.9")),
            ([0x21, 0x31], &[0; 216], None),
            ([0x11, 0x11], &v4, None),
            ([0x21, 0x11], &v4[..11], None),
        ] {
            let bytes = [header(head, payload), b"hello".to_vec()].concat();
            assert_eq!(read(&bytes), (expected.map(str::to_owned), 5), "{head:?}");
        }
        let most = HEADER_BYTES_MAX - HEAD_BYTES;
        assert!(read(&header([0x21, 0x11], &vec![1; most])).0.is_some());
        assert_eq!(read(&header([0x21, 0x11], &vec![1; most + 1])).0, None);
        assert_eq!(read(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaa").0, None);
    }

    proptest! {
        #[test]
        fn b9_no_bytes_do_harm(rest in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&rest);
            let _ = read(&[ppp::v2::PROTOCOL_PREFIX, &rest[..]].concat());
        }
    }
}
