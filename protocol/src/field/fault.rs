//! What can be wrong with a field.

use nom::error::{ErrorKind, ParseError};

use crate::address::AddressError;

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
    /// An integer over [`INTEGER_MAX`](super::INTEGER_MAX).
    #[error("larger than 2^53 - 1, the largest integer")]
    TooLarge,
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
