//! Frames: a 4-byte head (24-bit length of the body, 8-bit kind) and a body that starts with the
//! request number.
//!
//! What the fields behind it mean is left to `command`; how many bytes a peer may send in its
//! state is the caller's argument.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::field::{Fault, FieldError, INTEGER_MAX, Writer};
use crate::varint;

/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 4;
/// Longest body, head not counted, of a signed-in peer.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Longest body before sign-in.
pub const FRAME_BYTES_MAX_UNSIGNED: usize = 4 * 1024;

const _: () = assert!(FRAME_BYTES_MAX < 1 << 24 && FRAME_BYTES_MAX_UNSIGNED < FRAME_BYTES_MAX);

/// A frame whose fields are not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The kind's number, known or not.
    pub kind: u8,
    /// The request that this is, or answers; 0 where nobody asked.
    pub request: u64,
    /// The fields; share the bytes they were read from.
    pub fields: Bytes,
}

/// Why the bytes of a connection are no frame. Nothing behind it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The head names a longer body than the limit; nothing was kept for it.
    #[error("frame of {length} bytes, at most {max} are taken here")]
    TooLarge {
        /// The length in the head.
        length: usize,
        /// The limit in force.
        max: usize,
    },
    /// The body does not start with a request number.
    #[error(transparent)]
    Malformed(#[from] FieldError),
}

/// What the head says, without waiting for the body: its length and kind.
pub fn head(input: &[u8]) -> Option<(usize, u8)> {
    let head = input.get(..HEAD_BYTES)?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    Some((length, head[3]))
}

/// Takes the first whole frame out of `input`, or none if more bytes are needed.
///
/// The length is checked as soon as the head is there, before any of the body is.
///
/// # Errors
/// [`FrameError`], after which the input cannot be read further.
pub fn take(input: &mut BytesMut, max: usize) -> Result<Option<Frame>, FrameError> {
    let Some((length, kind)) = head(input) else { return Ok(None) };
    if length > max {
        return Err(FrameError::TooLarge { length, max });
    }
    if input.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    input.advance(HEAD_BYTES);
    let body = input.split_to(length).freeze();
    let wrong = |fault| FieldError { field: "request", number: 0, fault };
    let (rest, request) = varint::get(&body).map_err(|error| wrong(error.into()))?;
    if request > INTEGER_MAX {
        return Err(wrong(Fault::TooLarge).into());
    }
    let fields = body.slice_ref(rest);
    Ok(Some(Frame { kind, request, fields }))
}

/// Appends a frame to `out`, whose fields are written by `fields`.
///
/// # Errors
/// [`FrameError::TooLarge`] if the body exceeds [`FRAME_BYTES_MAX`]; nothing is written then.
pub(crate) fn put(
    kind: u8,
    request: u64,
    out: &mut BytesMut,
    fields: impl FnOnce(&mut Writer),
) -> Result<(), FrameError> {
    let begin = out.len();
    // The length is known behind the fields.
    out.put_bytes(0, HEAD_BYTES - 1);
    out.put_u8(kind);
    varint::put(request, out);
    Writer::behind(out, fields);
    let length = out.len() - begin - HEAD_BYTES;
    if length > FRAME_BYTES_MAX {
        out.truncate(begin);
        return Err(FrameError::TooLarge { length, max: FRAME_BYTES_MAX });
    }
    let mut head = &mut out[begin..];
    head.put_uint(length as u64, HEAD_BYTES - 1);
    Ok(())
}

impl Frame {
    /// Appends the frame's bytes to `out`.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] if the body exceeds [`FRAME_BYTES_MAX`]; nothing is written then.
    pub fn put(&self, out: &mut BytesMut) -> Result<(), FrameError> {
        out.reserve(HEAD_BYTES + varint::length(self.request) + self.fields.len());
        put(self.kind, self.request, out, |writer| writer.fields(&self.fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(frame: &Frame) -> BytesMut {
        let mut out = BytesMut::new();
        frame.put(&mut out).unwrap();
        out
    }

    #[test]
    fn a1_byte_by_byte_is_the_same_as_at_once() {
        let frame = Frame { kind: 9, request: 300, fields: Bytes::from_static(b"fields") };
        let (whole, mut input) = (bytes_of(&frame), BytesMut::new());
        for (index, byte) in whole.iter().enumerate() {
            input.put_u8(*byte);
            let taken = take(&mut input, 100).unwrap();
            assert_eq!(taken.is_some(), index + 1 == whole.len());
            if let Some(taken) = taken {
                assert_eq!(taken, frame);
            }
        }
        assert!(input.is_empty());
    }

    #[test]
    fn a2_too_large_is_refused_on_the_head() {
        for length in [101u64, (1 << 24) - 1] {
            let mut input = BytesMut::new();
            input.put_uint(length, 3);
            input.put_u8(1);
            let error = take(&mut input, 100).unwrap_err();
            assert_eq!(error, FrameError::TooLarge { length: length as usize, max: 100 });
        }
    }

    #[test]
    fn a4_an_empty_body_is_malformed() {
        let mut input = BytesMut::from(&[0, 0, 0, 12][..]);
        assert!(matches!(take(&mut input, 100), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn too_large_is_not_written_either() {
        let fields = Bytes::from(vec![0; FRAME_BYTES_MAX]);
        let mut out = BytesMut::new();
        assert!(Frame { kind: 1, request: 0, fields }.put(&mut out).is_err());
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn decode_encode_is_identity(kind: u8, request in 0..=INTEGER_MAX, fields in proptest::collection::vec(any::<u8>(), 0..64)) {
            let frame = Frame { kind, request, fields: fields.into() };
            let mut input = bytes_of(&frame);
            prop_assert_eq!(take(&mut input, FRAME_BYTES_MAX).unwrap(), Some(frame));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn encode_decode_is_identity_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut input = BytesMut::from(&bytes[..]);
            if let Ok(Some(frame)) = take(&mut input, 64) {
                prop_assert_eq!(&bytes_of(&frame)[..], &bytes[..bytes.len() - input.len()]);
            }
        }
    }
}
