//! Reading the fields of a map, in their order.
//!
//! What a field's value is, is its type's.

use bytes::Bytes;
use nom::{IResult, Parser};

use super::{CRITICAL_FROM, Fault, Field, FieldError, Raw, sized};
use crate::varint;

/// Reads the fields of one map in order.
#[derive(Debug)]
pub struct Reader {
    input: Bytes,
    last: u64,
    next: Option<(u64, Raw)>,
}

impl Reader {
    /// A reader over the fields in `input`.
    pub fn new(input: Bytes) -> Reader {
        Reader { input, last: 0, next: None }
    }

    /// The value of field `number` if it is there; fields before it that nobody asked for are
    /// skipped, or refused if they must be understood.
    pub(super) fn find(
        &mut self,
        number: u64,
        field: &'static str,
    ) -> Result<Option<Raw>, FieldError> {
        loop {
            match self.peek()? {
                Some(found) if found < number => self.skip_unknown()?,
                Some(found) if found == number => {
                    return Ok(self.next.take().map(|(_, raw)| raw));
                }
                _ => return Ok(None),
            }
            debug_assert!(self.last < number, "{field}: fields are declared in rising order");
        }
    }

    /// Reads one field by its type.
    ///
    /// # Errors
    /// [`FieldError`] naming this field, or an unknown one before it.
    pub fn field<F: Field>(&mut self, number: u64, field: &'static str) -> Result<F, FieldError> {
        F::read_from(self, number, field)
    }

    /// The fields from `first` to `last`, as they are.
    pub(super) fn range(&mut self, first: u64, last: u64) -> Result<Vec<(u64, Raw)>, FieldError> {
        let mut found = Vec::new();
        while let Some(number) = self.peek()?.filter(|number| *number <= last) {
            match self.next.take() {
                Some(field) if number >= first => found.push(field),
                field => {
                    self.next = field;
                    self.skip_unknown()?;
                }
            }
        }
        Ok(found)
    }

    /// Ends the map: what is left may only be unknown fields that need not be understood.
    ///
    /// # Errors
    /// [`FieldError`] naming the field that must be understood.
    pub fn end(mut self) -> Result<(), FieldError> {
        while self.peek()?.is_some() {
            self.skip_unknown()?;
        }
        Ok(())
    }

    /// What is wrong with the form of the fields that were not read yet, if anything is.
    pub(super) fn fault_behind(&mut self) -> Option<FieldError> {
        loop {
            match self.peek() {
                Ok(Some(_)) => self.next = None,
                Ok(None) => return None,
                Err(fault) => return Some(fault),
            }
        }
    }

    fn skip_unknown(&mut self) -> Result<(), FieldError> {
        match self.next.take() {
            Some((number, _)) if number >= CRITICAL_FROM => {
                Err(FieldError { field: "?", number, fault: Fault::Critical })
            }
            _ => Ok(()),
        }
    }

    fn peek(&mut self) -> Result<Option<u64>, FieldError> {
        if self.next.is_none() && !self.input.is_empty() {
            let last = self.last;
            let fail = |fault| FieldError { field: "?", number: last, fault };
            let (rest, (key, raw)) = raw_field(&self.input).map_err(|e| fail(e.into()))?;
            let number = key >> 1;
            if number <= last {
                return Err(FieldError { field: "?", number, fault: Fault::Order });
            }
            let raw = match raw {
                Ok(bytes) => Raw::Bytes(self.input.slice_ref(bytes)),
                Err(int) => Raw::Int(int),
            };
            self.input = self.input.slice_ref(rest);
            self.last = number;
            self.next = Some((number, raw));
        }
        Ok(self.next.as_ref().map(|(number, _)| *number))
    }
}

/// One field: its key, and its bytes or else its integer.
type RawField<'a> = (u64, Result<&'a [u8], u64>);

fn raw_field(input: &[u8]) -> IResult<&[u8], RawField<'_>, Fault> {
    let (rest, key) = varint::get(input)?;
    if key & 1 == 0 {
        varint::get.map(|int| (key, Err(int))).parse(rest)
    } else {
        sized.map(|bytes| (key, Ok(bytes))).parse(rest)
    }
}
