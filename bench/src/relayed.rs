//! The frames of the relay, for itself and for who asks something of it; see `relay/main.rs`.

use bytes::{BufMut, Bytes, BytesMut};

/// The length of what follows it, and the number of whom it is for.
pub const HEAD_BYTES: usize = 8;

/// Writes a frame; one without a body asks for what comes for that number.
pub fn put(to: u32, body: &[u8], out: &mut BytesMut) {
    out.put_u32(4 + body.len() as u32);
    out.put_u32(to);
    out.put_slice(body);
}

/// The next frame with its head, if it is whole: whom it is for, and all of it.
pub fn take(input: &mut BytesMut) -> Option<(u32, Bytes)> {
    let (length, rest) = input.split_first_chunk()?;
    let length = 4 + u32::from_be_bytes(*length) as usize;
    let to = u32::from_be_bytes(*rest.first_chunk()?);
    (length >= HEAD_BYTES && input.len() >= length).then(|| (to, input.split_to(length).freeze()))
}
