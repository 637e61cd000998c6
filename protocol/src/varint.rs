//! Variable-length integers: seven bits a byte, least first, minimal, at most 64 bits.

use bytes::BufMut;
use nom::bytes::complete::take;
use nom::{IResult, Parser};

use crate::field::Fault;

/// Most bytes of one varint.
pub const VARINT_BYTES_MAX: usize = 10;

/// Writes `value`.
pub fn put(value: u64, out: &mut impl BufMut) {
    let mut rest = value;
    while rest >= 0x80 {
        // The low seven bits, and a bit that says that more follows.
        out.put_u8((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// How many bytes [`put`] writes.
pub fn length(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Reads one varint; a longer spelling than necessary is an error, as is one over 64 bits.
pub fn get(input: &[u8]) -> IResult<&[u8], u64, Fault> {
    let (mut rest, mut value, mut shift) = (input, 0u64, 0u32);
    loop {
        let (next, byte) = take(1usize).map(|b: &[u8]| b[0]).parse(rest)?;
        rest = next;
        let bits = u64::from(byte & 0x7f);
        if shift > 63 || (shift == 63 && bits > 1) {
            return Err(nom::Err::Failure(Fault::Varint));
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            let minimal = byte != 0 || shift == 0;
            return if minimal { Ok((rest, value)) } else { Err(nom::Err::Failure(Fault::Varint)) };
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a14_edges() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX - 1, u64::MAX]
        {
            let mut bytes = Vec::new();
            put(value, &mut bytes);
            assert_eq!(bytes.len(), length(value));
            assert_eq!(get(&bytes), Ok((&[][..], value)));
        }
        assert!(bytes_of(u64::MAX).len() == VARINT_BYTES_MAX);
    }

    #[test]
    fn a14_only_the_shortest_spelling_and_64_bits() {
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        let too_long = [0xff; 11];
        for bad in [&[0x80, 0x00][..], &[0xff, 0x80, 0x00], &too_large, &too_long] {
            assert_eq!(get(bad), Err(nom::Err::Failure(Fault::Varint)), "{bad:?}");
        }
        assert_eq!(get(&[0x80]), Err(nom::Err::Error(Fault::Truncated)));
        assert_eq!(get(&[]), Err(nom::Err::Error(Fault::Truncated)));
    }

    fn bytes_of(value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(value, &mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Ok((rest, value)) = get(&bytes) {
                prop_assert_eq!(&bytes[..bytes.len() - rest.len()], &bytes_of(value)[..]);
            }
        }
    }
}
