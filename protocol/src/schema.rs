//! The macro that turns a table of fields into a type, its encoding and its specification.
//!
//! One source: the struct, its reader and writer, and the rows of `docs/protocol.md`.

use crate::field::{FieldError, Reader, Writer};

/// A struct that is a map of fields.
pub trait Map: Sized {
    /// Its fields as the specification lists them.
    const FIELDS: &'static [FieldSpec];

    /// Writes all its fields.
    fn put(&self, writer: &mut Writer);

    /// Reads all its fields and nothing behind them.
    ///
    /// # Errors
    /// [`FieldError`] naming the first wrong field.
    fn get(reader: Reader) -> Result<Self, FieldError>;
}

/// One row of the specification.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// The field's number.
    pub number: u64,
    /// Its name.
    pub name: &'static str,
    /// Its type, in Rust's words.
    pub kind: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// Declares a map of fields: `number name: Type` with doc comments. Types are `Value`s (required),
/// `Option`s, `Vec`s and `bool`s.
macro_rules! fields {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])+ $number:literal $field:ident: $kind:ty, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $kind, )*
        }

        impl $crate::schema::Map for $name {
            const FIELDS: &'static [$crate::schema::FieldSpec] = &[
                $( $crate::schema::FieldSpec {
                    number: $number,
                    name: stringify!($field),
                    kind: stringify!($kind),
                    meaning: concat!($($doc),+),
                }, )*
            ];

            #[allow(unused_variables)]
            fn put(&self, writer: &mut $crate::field::Writer) {
                $( writer.field($number, &self.$field); )*
            }

            #[allow(unused_mut)]
            fn get(
                mut reader: $crate::field::Reader,
            ) -> Result<$name, $crate::field::FieldError> {
                $( let $field = reader.field($number, stringify!($field))?; )*
                reader.end()?;
                Ok($name { $( $field ),* })
            }
        }

        impl $crate::field::Value for $name {
            fn fill(&self, slot: $crate::field::Slot<'_>) {
                slot.map(|writer| $crate::schema::Map::put(self, writer));
            }

            fn from_raw(raw: $crate::field::Raw) -> Result<$name, $crate::field::Fault> {
                let bytes = <bytes::Bytes as $crate::field::Value>::from_raw(raw)?;
                <$name as $crate::schema::Map>::get($crate::field::Reader::new(bytes)).map_err(
                    |error| match error.fault {
                        // A list looks for it: the whole is none of its items then.
                        $crate::field::Fault::Foreign => $crate::field::Fault::Foreign,
                        // Only a text is wrong, and all around it could be read.
                        text @ ($crate::field::Fault::Text | $crate::field::Fault::Address(_)) => {
                            text
                        }
                        _ => $crate::field::Fault::Inside(error.field),
                    },
                )
            }
        }

        impl $crate::field::Octets for $name {}
    };
}

/// Declares an enumeration that travels as a small integer: `Name = number, "text"`. One that is
/// `open` may grow: who meets a number that is not known here passes over the item of the list that
/// it stands in, and where it stands in none, over the command. The others are what somebody asks to
/// be done, which is nothing to pass over.
macro_rules! numbers {
    ( $(#[$meta:meta])* pub open enum $name:ident { $($rows:tt)* } ) => {
        $crate::schema::numbers! { @other Foreign $(#[$meta])* pub enum $name { $($rows)* } }
    };
    ( $(#[$meta:meta])* pub enum $name:ident { $($rows:tt)* } ) => {
        $crate::schema::numbers! { @other Value $(#[$meta])* pub enum $name { $($rows)* } }
    };
    (
        @other $other:ident
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[doc = $doc:literal])+ $variant:ident = $number:literal, $text:literal; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $( $(#[doc = $doc])+ $variant, )*
        }

        impl $name {
            /// Every value, its number, its name and its meaning.
            pub const ALL: &'static [($name, u64, &'static str, &'static str)] = &[
                $( ($name::$variant, $number, $text, concat!($($doc),+)), )*
            ];

            /// Every value.
            pub const EVERY: &'static [$name] = &[ $( $name::$variant, )* ];

            /// The number on the wire.
            pub fn number(self) -> u64 {
                match self { $( $name::$variant => $number, )* }
            }

            /// The value with that number.
            pub fn from_number(number: u64) -> Option<$name> {
                match number { $( $number => Some($name::$variant), )* _ => None }
            }

            /// The name that people and scripts read.
            pub fn as_str(self) -> &'static str {
                match self { $( $name::$variant => $text, )* }
            }

            /// The value with that name.
            pub fn from_name(name: &str) -> Option<$name> {
                match name { $( $text => Some($name::$variant), )* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::field::Value for $name {
            fn fill(&self, slot: $crate::field::Slot<'_>) {
                slot.int(self.number());
            }

            fn from_raw(raw: $crate::field::Raw) -> Result<$name, $crate::field::Fault> {
                let number = <u64 as $crate::field::Value>::from_raw(raw)?;
                $name::from_number(number).ok_or($crate::field::Fault::$other)
            }
        }
    };
}

pub(crate) use {fields, numbers};
