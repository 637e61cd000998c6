//! What the person of this profile knows of the contact list: an edit that waits is made on that, and not
//! on what is newest when it goes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use impp_protocol::Address;
use serde::{Deserialize, Serialize};

use super::{FILE_BYTES_MAX, Outbox, OutboxError};

/// Of so many entries it is kept what was done to them since the list was shown; the one that was done first
/// goes. An edit of it is then held against the older number, and at worst dropped, and told.
const OWN_MAX: usize = 64;

/// What is known of the contact list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Whose list.
    writer: String,
    /// Its number when it was last shown whole.
    number: u64,
    /// The numbers of what was done here to entries since then: that is known too.
    own: BTreeMap<String, u64>,
}

impl Shown {
    fn whole(writer: &Address, number: u64) -> Shown {
        Shown { writer: writer.to_string(), number, own: BTreeMap::new() }
    }

    /// The number of the list that an edit of somebody's entry is made on.
    pub fn base(&self, address: &Address) -> u64 {
        let own = self.own.get(address.as_str()).copied().unwrap_or_default();
        self.number.max(own)
    }

    /// Something was done to an entry, by this profile, and gave the list that number.
    fn after(&mut self, address: &Address, number: u64) {
        self.own.insert(address.to_string(), number);
        if self.own.len() > OWN_MAX {
            let first = self.own.iter().min_by_key(|(_, number)| **number);
            let first = first.map(|(address, _)| address.clone());
            first.and_then(|address| self.own.remove(&address));
        }
    }
}

impl Outbox {
    /// What is known of an account's contact list; none if it was not shown here.
    ///
    /// # Errors
    /// [`OutboxError::Io`].
    pub fn shown(&self, writer: &Address) -> Result<Option<Shown>, OutboxError> {
        let (path, mut text) = (self.path_of_shown(), Vec::new());
        let read =
            File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io(&path, error)),
            Ok(_) => {}
        }
        // What cannot be read is shown again.
        let shown: Option<Shown> = serde_json::from_slice(&text).ok();
        Ok(shown.filter(|shown| shown.writer == writer.as_str()))
    }

    /// An account's contact list was shown whole, as it is under that number.
    ///
    /// # Errors
    /// [`OutboxError::Io`].
    pub fn was_shown(&self, writer: &Address, number: u64) -> Result<(), OutboxError> {
        self.make().map_err(|error| self.io(&self.folder, error))?;
        self.keep(&Shown::whole(writer, number))
    }

    /// An edit of this profile's was done, and gave the list that number. Where it was not shown yet, nothing
    /// is known of the rest.
    ///
    /// # Errors
    /// [`OutboxError::Io`].
    pub fn was_edited(
        &self,
        writer: &Address,
        address: &Address,
        number: u64,
    ) -> Result<(), OutboxError> {
        let Some(mut shown) = self.shown(writer)? else { return Ok(()) };
        shown.after(address, number);
        self.keep(&shown)
    }

    fn keep(&self, shown: &Shown) -> Result<(), OutboxError> {
        let path = self.path_of_shown();
        let text = serde_json::to_vec(shown).map_err(|error| self.io(&path, error.into()))?;
        self.put_in_place(&path, &text)
    }

    fn path_of_shown(&self) -> PathBuf {
        self.folder.join("shown")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    /// An edit is made on the list as it was shown whole, or on what was done here to that entry since, and
    /// another account's is none of it.
    #[test]
    fn an_edit_is_made_on_what_was_shown() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::beside(&folder.path().join("alice.toml"));
        let [alice, bob, carol] =
            ["alice@a.example", "bob@a.example", "carol@a.example"].map(address);
        let base = |of: &Address| outbox.shown(&alice).unwrap().map(|shown| shown.base(of));
        assert_eq!(outbox.shown(&alice).unwrap(), None);
        // What was done to one entry tells nothing of the list.
        outbox.was_edited(&alice, &bob, 5).unwrap();
        assert_eq!(base(&bob), None);
        outbox.was_shown(&alice, 7).unwrap();
        outbox.was_edited(&alice, &bob, 9).unwrap();
        assert_eq!((base(&bob), base(&carol)), (Some(9), Some(7)));
        assert_eq!(outbox.shown(&bob).unwrap(), None);
        outbox.was_shown(&alice, 11).unwrap();
        assert_eq!(base(&bob), Some(11));
        std::fs::write(outbox.path_of_shown(), b"{").unwrap();
        assert_eq!(base(&bob), None);
    }

    #[test]
    fn so_many_are_known_and_the_first_goes() {
        let mut shown = Shown::whole(&address("alice@a.example"), 1);
        let entry = |n: u64| address(&format!("b{n}@a.example"));
        for n in 1..=OWN_MAX as u64 + 1 {
            shown.after(&entry(n), 100 - n);
        }
        let last = OWN_MAX as u64 + 1;
        assert_eq!((shown.base(&entry(last)), shown.base(&entry(1))), (1, 99));
        assert_eq!(shown.own.len(), OWN_MAX);
    }
}
