//! Fields: the one encoding of everything inside a frame.
//!
//! A field is a varint key (number · 2 + shape) and, for shape 0, a varint, for shape 1 a varint
//! length and that many bytes. Numbers rise strictly. What fields a command has is in `command`.

mod fault;
mod later;
mod reader;
mod values;
mod writer;

use bytes::Bytes;
use nom::IResult;
use nom::bytes::complete::take;

use crate::address::{Address, Domain};
use crate::varint;
pub use fault::{Fault, FieldError};
pub use later::{Later, OrLater};
pub use reader::Reader;
pub use writer::{Slot, Writer};

/// Field numbers from here on must be understood; lower unknown ones are skipped.
pub const CRITICAL_FROM: u64 = 64;
/// The largest integer, 2⁵³ − 1: every one is exact in a double, which is all that many languages have.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;
/// Most items of a list, unless the field says less.
pub const LIST_ITEMS_MAX: usize = 4096;

/// A field's value before it is given a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// Shape 0.
    Int(u64),
    /// Shape 1; shares the frame's bytes.
    Bytes(Bytes),
}

/// A varint length and that many bytes.
pub(crate) fn sized(input: &[u8]) -> IResult<&[u8], &[u8], Fault> {
    let (rest, length) = varint::get(input)?;
    let length = usize::try_from(length).map_err(|_| nom::Err::Failure(Fault::Truncated))?;
    take(length)(rest)
}

/// A type that one field's value can have. It has exactly one encoding.
pub trait Value: Sized {
    /// Writes the value as the wire carries it.
    fn fill(&self, slot: Slot<'_>);

    /// Reads it back.
    ///
    /// # Errors
    /// [`Fault`] if it is not the one encoding of a value.
    fn from_raw(raw: Raw) -> Result<Self, Fault>;
}

/// A [`Value`] of shape 1, which is what a list can hold.
pub trait Octets: Value {}

impl Octets for Bytes {}
impl Octets for [u8; 16] {}
impl Octets for String {}
impl Octets for Address {}
impl Octets for Domain {}

/// A [`Value`] that must be there, may be there (`Option`), or a list of them (`Vec`, absent when
/// empty).
pub trait Field: Sized {
    /// Writes the field unless it is absent.
    fn write(&self, number: u64, writer: &mut Writer);

    /// Reads the field from what was found under its number.
    ///
    /// # Errors
    /// [`Fault`] of its value, or [`Fault::Missing`].
    fn read(raw: Option<Raw>) -> Result<Self, Fault>;

    /// Reads the field where it stands in its map.
    ///
    /// # Errors
    /// [`FieldError`] naming this field, or an unknown one before it.
    fn read_from(
        reader: &mut Reader,
        number: u64,
        field: &'static str,
    ) -> Result<Self, FieldError> {
        let raw = reader.find(number, field)?;
        Self::read(raw).map_err(|fault| {
            // What is not found may stand behind damage, or in the wrong place.
            let other = (fault == Fault::Missing).then(|| reader.fault_behind()).flatten();
            other.unwrap_or(FieldError { field, number, fault })
        })
    }
}

impl<T: Value> Field for T {
    fn write(&self, number: u64, writer: &mut Writer) {
        self.fill(Slot::field(number, writer));
    }

    fn read(raw: Option<Raw>) -> Result<T, Fault> {
        T::from_raw(raw.ok_or(Fault::Missing)?)
    }
}

impl<T: Value> Field for Option<T> {
    fn write(&self, number: u64, writer: &mut Writer) {
        if let Some(value) = self {
            value.write(number, writer);
        }
    }

    fn read(raw: Option<Raw>) -> Result<Option<T>, Fault> {
        raw.map(T::from_raw).transpose()
    }
}

impl<T: Octets> Field for Vec<T> {
    fn write(&self, number: u64, writer: &mut Writer) {
        if self.is_empty() {
            return;
        }
        let items =
            |writer: &mut Writer| self.iter().for_each(|item| item.fill(Slot::item(writer)));
        Slot::field(number, writer).map(items);
    }

    fn read(raw: Option<Raw>) -> Result<Vec<T>, Fault> {
        let Some(raw) = raw else { return Ok(Vec::new()) };
        let bytes = Bytes::from_raw(raw)?;
        if bytes.is_empty() {
            return Err(Fault::NotCanonical);
        }
        let (mut rest, mut items) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            if items.len() == LIST_ITEMS_MAX {
                return Err(Fault::TooLong);
            }
            let (next, item) = sized(rest).map_err(Fault::from)?;
            match T::from_raw(Raw::Bytes(bytes.slice_ref(item))) {
                // Of a kind that came later: the others are none the worse.
                Err(Fault::Foreign) => {}
                read => items.push(read?),
            }
            rest = next;
        }
        Ok(items)
    }
}

/// A flag: absent is false, 1 is true, nothing else is anything.
impl Field for bool {
    fn write(&self, number: u64, writer: &mut Writer) {
        if *self {
            writer.int(number, 1);
        }
    }

    fn read(raw: Option<Raw>) -> Result<bool, Fault> {
        match raw {
            None => Ok(false),
            Some(Raw::Int(1)) => Ok(true),
            Some(Raw::Int(_)) => Err(Fault::NotCanonical),
            Some(Raw::Bytes(_)) => Err(Fault::Shape),
        }
    }
}
