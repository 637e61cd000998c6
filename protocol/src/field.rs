//! Fields: the one encoding of everything inside a frame.
//!
//! A field is a varint key (number · 2 + shape) and, for shape 0, a varint, for shape 1 a varint
//! length and that many bytes. Numbers rise strictly. What fields a command has is in `command`.

mod reader;
mod writer;

use std::time::Duration;

use bytes::Bytes;
use nom::IResult;
use nom::bytes::complete::take;
use nom::error::{ErrorKind, ParseError};

use crate::address::{Address, AddressError, Domain};
use crate::time::Timestamp;
use crate::varint;
pub use reader::Reader;
pub use writer::Writer;

/// Field numbers from here on must be understood; lower unknown ones are skipped.
pub const CRITICAL_FROM: u64 = 64;
/// Most items of a list, unless the field says less.
pub const LIST_ITEMS_MAX: usize = 4096;

/// What is wrong with bytes that should be a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes end inside a field.
    #[error("ends too early")]
    Truncated,
    /// A varint that is not minimal or exceeds 64 bits.
    #[error("not a minimal varint of at most 64 bits")]
    Varint,
    /// A number that does not rise: a repeated field, or fields out of order.
    #[error("repeated or out of order")]
    Order,
    /// A varint where bytes belong, or the other way round.
    #[error("wrong shape")]
    Shape,
    /// A required field is not there.
    #[error("missing")]
    Missing,
    /// An unknown field that must be understood.
    #[error("unknown, and its number says that it must be understood")]
    Critical,
    /// Longer than its limit.
    #[error("longer than its limit")]
    TooLong,
    /// Bytes that are not UTF-8, or text with characters that are refused.
    #[error("not acceptable UTF-8 text")]
    Text,
    /// A value outside the ones defined.
    #[error("not one of the values defined")]
    Value,
    /// A value of an enumeration that grows, defined after this was written.
    #[error("not one of the values known here")]
    Foreign,
    /// An encoding of the value that is not its only one.
    #[error("not in canonical form")]
    NotCanonical,
    /// A fault inside a map.
    #[error("its part {0:?} is malformed")]
    Inside(&'static str),
    /// A text that should be an address.
    #[error(transparent)]
    Address(AddressError),
}

impl<'a> ParseError<&'a [u8]> for Fault {
    fn from_error_kind(_: &'a [u8], _: ErrorKind) -> Fault {
        Fault::Truncated
    }

    fn append(_: &'a [u8], _: ErrorKind, other: Fault) -> Fault {
        other
    }
}

impl From<nom::Err<Fault>> for Fault {
    fn from(error: nom::Err<Fault>) -> Fault {
        match error {
            nom::Err::Error(fault) | nom::Err::Failure(fault) => fault,
            nom::Err::Incomplete(_) => Fault::Truncated,
        }
    }
}

/// A fault and the field that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field:?} ({number}): {fault}")]
pub struct FieldError {
    /// The field's name in the specification; `?` where its number is none of this command's.
    pub field: &'static str,
    /// The field's number; 0 for the request number.
    pub number: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

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
    /// The value as the wire carries it.
    fn to_raw(&self) -> Raw;

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

/// The fields up to number `LAST` that only servers write and that this version does not know, as
/// they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps<const LAST: u64>(Vec<(u64, Raw)>);

impl<const LAST: u64> Stamps<LAST> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<const LAST: u64> Field for Stamps<LAST> {
    fn write(&self, _number: u64, writer: &mut Writer) {
        for (number, raw) in &self.0 {
            match raw {
                Raw::Int(int) => writer.int(*number, *int),
                Raw::Bytes(bytes) => writer.bytes(*number, bytes),
            }
        }
    }

    fn read(_raw: Option<Raw>) -> Result<Self, Fault> {
        Ok(Stamps::default())
    }

    fn read_from(
        reader: &mut Reader,
        number: u64,
        _field: &'static str,
    ) -> Result<Self, FieldError> {
        reader.range(number, LAST).map(Stamps)
    }
}

impl<T: Value> Field for T {
    fn write(&self, number: u64, writer: &mut Writer) {
        match self.to_raw() {
            Raw::Int(int) => writer.int(number, int),
            Raw::Bytes(bytes) => writer.bytes(number, &bytes),
        }
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
        let mut items = Writer::default();
        for item in self {
            if let Raw::Bytes(bytes) = item.to_raw() {
                items.sized(&bytes);
            }
        }
        writer.bytes(number, &items.out);
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

impl Value for u64 {
    fn to_raw(&self) -> Raw {
        Raw::Int(*self)
    }

    fn from_raw(raw: Raw) -> Result<u64, Fault> {
        match raw {
            Raw::Int(int) => Ok(int),
            Raw::Bytes(_) => Err(Fault::Shape),
        }
    }
}

impl Value for Bytes {
    fn to_raw(&self) -> Raw {
        Raw::Bytes(self.clone())
    }

    fn from_raw(raw: Raw) -> Result<Bytes, Fault> {
        match raw {
            Raw::Bytes(bytes) => Ok(bytes),
            Raw::Int(_) => Err(Fault::Shape),
        }
    }
}

/// Sixteen octets: ids, versions.
impl Value for [u8; 16] {
    fn to_raw(&self) -> Raw {
        Raw::Bytes(Bytes::copy_from_slice(self))
    }

    fn from_raw(raw: Raw) -> Result<[u8; 16], Fault> {
        <[u8; 16]>::try_from(&Bytes::from_raw(raw)?[..]).map_err(|_| Fault::Value)
    }
}

/// UTF-8 without control characters other than line feed and tab.
impl Value for String {
    fn to_raw(&self) -> Raw {
        Raw::Bytes(Bytes::copy_from_slice(self.as_bytes()))
    }

    fn from_raw(raw: Raw) -> Result<String, Fault> {
        let bytes = Bytes::from_raw(raw)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Fault::Text)?;
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(Fault::Text);
        }
        Ok(text.to_owned())
    }
}

impl Value for Address {
    fn to_raw(&self) -> Raw {
        Raw::Bytes(Bytes::copy_from_slice(self.as_str().as_bytes()))
    }

    fn from_raw(raw: Raw) -> Result<Address, Fault> {
        Address::parse_canonical(&String::from_raw(raw)?).map_err(Fault::Address)
    }
}

impl Value for Domain {
    fn to_raw(&self) -> Raw {
        Raw::Bytes(Bytes::copy_from_slice(self.as_str().as_bytes()))
    }

    fn from_raw(raw: Raw) -> Result<Domain, Fault> {
        let text = String::from_raw(raw)?;
        let domain = Domain::parse(&text).map_err(Fault::Address)?;
        if domain.as_str() == text { Ok(domain) } else { Err(Fault::NotCanonical) }
    }
}

/// Milliseconds since the epoch.
impl Value for Timestamp {
    fn to_raw(&self) -> Raw {
        Raw::Int(self.as_millis())
    }

    fn from_raw(raw: Raw) -> Result<Timestamp, Fault> {
        let millis = u64::from_raw(raw)?;
        let time = Timestamp::from_millis(millis);
        if time.as_millis() == millis { Ok(time) } else { Err(Fault::Value) }
    }
}

/// Whole seconds, fewer than 2³².
impl Value for Duration {
    fn to_raw(&self) -> Raw {
        Raw::Int(self.as_secs())
    }

    fn from_raw(raw: Raw) -> Result<Duration, Fault> {
        let seconds = u32::try_from(u64::from_raw(raw)?).map_err(|_| Fault::Value)?;
        Ok(Duration::from_secs(u64::from(seconds)))
    }
}
