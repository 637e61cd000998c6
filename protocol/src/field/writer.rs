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
        Slot::field(number, self).int(value);
    }

    pub(crate) fn bytes(&mut self, number: u64, value: &[u8]) {
        Slot::field(number, self).octets(value);
    }

    /// Has something written behind its length.
    fn sized(&mut self, inside: impl FnOnce(&mut Writer)) {
        // Nearly all that is inside something takes a byte or two to count: what was written moves where
        // it is one more, and is copied from nowhere else.
        let start = self.out.len();
        self.out.put_u8(0);
        inside(self);
        let length = self.out.len() - start - 1;
        let more = varint::length(length as u64) - 1;
        if more > 0 {
            self.out.put_bytes(0, more);
            self.out.copy_within(start + 1..start + 1 + length, start + 1 + more);
        }
        varint::put(length as u64, &mut &mut self.out[start..]);
    }
}

/// Where one value is written: under the number of its field, or behind the others of its list. What a
/// list holds has shape 1.
#[derive(Debug)]
pub struct Slot<'w> {
    number: Option<u64>,
    writer: &'w mut Writer,
}

impl<'w> Slot<'w> {
    pub(super) fn field(number: u64, writer: &'w mut Writer) -> Slot<'w> {
        Slot { number: Some(number), writer }
    }

    pub(super) fn item(writer: &'w mut Writer) -> Slot<'w> {
        Slot { number: None, writer }
    }

    /// A value of shape 0.
    pub fn int(self, value: u64) {
        if let Some(number) = self.number {
            varint::put(number << 1, &mut self.writer.out);
        }
        varint::put(value, &mut self.writer.out);
    }

    /// A value of shape 1.
    pub fn octets(self, value: &[u8]) {
        let out = self.shaped();
        varint::put(value.len() as u64, &mut out.out);
        out.out.put_slice(value);
    }

    /// A value of shape 1 that is fields of its own.
    pub fn map(self, fields: impl FnOnce(&mut Writer)) {
        self.shaped().sized(fields);
    }

    fn shaped(self) -> &'w mut Writer {
        if let Some(number) = self.number {
            varint::put(number << 1 | 1, &mut self.writer.out);
        }
        self.writer
    }
}

/// Up to here, copying what was written costs less than keeping what is behind it.
const COPIED_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is inside has its length in front of it in as few bytes as that takes, whatever stands before.
    #[test]
    fn what_is_inside_stands_behind_its_length() {
        for length in [0, 1, 127, 128, 300, 16_383, 16_384, 70_000] {
            let octets = vec![7; length];
            let mut writer = Writer::default();
            writer.int(1, 5);
            Slot::field(2, &mut writer).map(|writer| writer.fields(&octets));
            writer.int(3, 6);
            let mut plain = Writer::default();
            plain.int(1, 5);
            plain.bytes(2, &octets);
            plain.int(3, 6);
            assert!(writer.into_bytes() == plain.into_bytes(), "{length}");
        }
    }
}
