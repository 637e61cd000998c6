//! Fields that came after this version, kept as they are.

use super::{Fault, Field, FieldError, INTEGER_MAX, Raw, Reader, Writer};

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
