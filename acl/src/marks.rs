//! What senders may be told of what becomes of their messages with their recipient: marks.
//!
//! When something is to be told, and telling it, is left to the server.

/// Kinds of marks: those that a rule grants, or that somebody may be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Marks {
    /// Up to where a device of the recipient's has taken custody of their messages.
    pub received: bool,
    /// Up to where the recipient has read them.
    pub read: bool,
    /// That the recipient writes to them.
    pub typing: bool,
}

impl Marks {
    /// None of them.
    pub const NONE: Marks = Marks { received: false, read: false, typing: false };

    /// Each alone, by the word that rules use.
    pub const EVERY: [(&'static str, Marks); 3] = [
        ("received", Marks { received: true, ..Marks::NONE }),
        ("read", Marks { read: true, ..Marks::NONE }),
        ("typing", Marks { typing: true, ..Marks::NONE }),
    ];

    /// Those of either.
    #[must_use]
    pub fn or(self, other: Marks) -> Marks {
        Marks {
            received: self.received || other.received,
            read: self.read || other.read,
            typing: self.typing || other.typing,
        }
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Marks) -> Marks {
        Marks {
            received: self.received && other.received,
            read: self.read && other.read,
            typing: self.typing && other.typing,
        }
    }

    /// Whether there are any.
    pub fn any(self) -> bool {
        self != Marks::NONE
    }

    /// Their words.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let has = move |(word, one): (&'static str, Marks)| (self.and(one) == one).then_some(word);
        Marks::EVERY.into_iter().filter_map(has)
    }
}
