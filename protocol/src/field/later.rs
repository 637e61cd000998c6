//! What came after this version, kept as it is: fields, and numbers of enumerations.

use super::{Fault, Field, FieldError, INTEGER_MAX, Raw, Reader, Slot, Value, Writer};

/// The fields up to number `LAST` that this version does not know, as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Later<const LAST: u64>(Vec<(u64, Raw)>);

impl<const LAST: u64> Later<LAST> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<const LAST: u64> Field for Later<LAST> {
    fn write(&self, _number: u64, writer: &mut Writer) {
        for (number, raw) in &self.0 {
            match raw {
                Raw::Int(int) => writer.int(*number, *int),
                Raw::Bytes(bytes) => writer.bytes(*number, bytes),
            }
        }
    }

    fn read(_raw: Option<Raw>) -> Result<Self, Fault> {
        Ok(Later::default())
    }

    fn read_from(
        reader: &mut Reader,
        number: u64,
        _field: &'static str,
    ) -> Result<Self, FieldError> {
        let found = reader.range(number, LAST)?;
        let is_too_large = |raw: &Raw| matches!(raw, Raw::Int(int) if *int > INTEGER_MAX);
        match found.iter().find(|(_, raw)| is_too_large(raw)) {
            Some((number, _)) => {
                Err(FieldError { field: "?", number: *number, fault: Fault::TooLarge })
            }
            None => Ok(Later(found)),
        }
    }
}

/// A value of an enumeration, or the number of one that came later: for who shows it, and does not have to
/// know what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrLater<T> {
    /// This one.
    This(T),
    /// One with this number.
    Later(u64),
}

impl<T: Copy> OrLater<T> {
    /// The value, if it is known here.
    pub fn known(self) -> Option<T> {
        match self {
            OrLater::This(value) => Some(value),
            OrLater::Later(_) => None,
        }
    }
}

impl<T> From<T> for OrLater<T> {
    fn from(value: T) -> OrLater<T> {
        OrLater::This(value)
    }
}

/// A name, or a number where there is none yet.
impl<T: std::fmt::Display> std::fmt::Display for OrLater<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OrLater::This(value) => value.fmt(f),
            OrLater::Later(number) => write!(f, "{number}"),
        }
    }
}

impl<T: Value> Value for OrLater<T> {
    fn fill(&self, slot: Slot<'_>) {
        match self {
            OrLater::This(value) => value.fill(slot),
            OrLater::Later(number) => slot.int(*number),
        }
    }

    fn from_raw(raw: Raw) -> Result<OrLater<T>, Fault> {
        let number = match raw {
            Raw::Int(number) if number <= INTEGER_MAX => number,
            raw => return T::from_raw(raw).map(OrLater::This),
        };
        match T::from_raw(Raw::Int(number)) {
            Err(Fault::Value | Fault::Foreign) => Ok(OrLater::Later(number)),
            read => read.map(OrLater::This),
        }
    }
}
