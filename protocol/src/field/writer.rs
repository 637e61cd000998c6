//! Writes fields into the bytes of their map.

use bytes::{BufMut, Bytes, BytesMut};

use super::Field;
use crate::varint;

/// Writes the fields of one map; the caller numbers them in rising order.
#[derive(Debug)]
pub struct Writer {
    pub(super) out: BytesMut,
}

impl Default for Writer {
    fn default() -> Writer {
        // Growing to there from nothing costs several times what it costs to write.
        Writer { out: BytesMut::with_capacity(Writer::BYTES_USUAL) }
    }
}

impl Writer {
    /// Most maps take no more.
    pub(crate) const BYTES_USUAL: usize = 256;

    /// Has fields written behind what is there already.
    pub(crate) fn behind(out: &mut BytesMut, fields: impl FnOnce(&mut Writer)) {
        let mut writer = Writer { out: std::mem::take(out) };
        fields(&mut writer);
        *out = writer.out;
    }

    /// Appends fields as they were written elsewhere.
    pub(crate) fn fields(&mut self, fields: &[u8]) {
        self.out.put_slice(fields);
    }

    /// What was written.
    pub fn into_bytes(self) -> Bytes {
        // What is small is kept at its own size: much of it is kept for long.
        let is_small = self.out.len() <= COPIED_BYTES_MAX && self.out.len() < self.out.capacity();
        if is_small { Bytes::copy_from_slice(&self.out) } else { self.out.freeze() }
    }

    /// Appends one field, or nothing for an absent one.
    pub fn field<F: Field>(&mut self, number: u64, value: &F) {
        value.write(number, self);
    }

    pub(crate) fn int(&mut self, number: u64, value: u64) {
        varint::put(number << 1, &mut self.out);
        varint::put(value, &mut self.out);
    }

    pub(crate) fn bytes(&mut self, number: u64, value: &[u8]) {
        varint::put(number << 1 | 1, &mut self.out);
        self.sized(value);
    }

    pub(crate) fn sized(&mut self, value: &[u8]) {
        varint::put(value.len() as u64, &mut self.out);
        self.out.put_slice(value);
    }
}

/// Up to here, copying what was written costs less than keeping what is behind it.
const COPIED_BYTES_MAX: usize = 1024;
