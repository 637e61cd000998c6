//! The newest records of de-duplication, as the writer has written them: ids rise with time, so nearly
//! every new one is told from a repeat without a look at the disk.
//!
//! It holds all records above an id, or none. What is not above that, and what a restart or a group
//! that did not commit has made unknown, is left to `rows.rs`.

use std::collections::BTreeMap;

use impp_protocol::Address;

use super::rows::Answer;
use crate::plan::Seen;
use crate::unit::Dedup;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// Every record with a higher id is here; none until the highest on the disk was read.
    above: Option<[u8; 16]>,
    /// By id, sender, recipient: one who gives many messages one id makes nothing longer for others.
    records: BTreeMap<([u8; 16], Address, Address), Seen>,
}

/// What it makes of a key.
#[derive(Debug)]
pub(crate) enum Looked {
    /// The record, or that there is none.
    Known(Option<Seen>),
    /// That is for the disk to say.
    Unknown,
}

impl Recent {
    /// Looks for a record; `newest` is the highest id on the disk, if it can be told.
    pub(crate) fn look(
        &mut self,
        dedup: &Dedup,
        newest: impl FnOnce() -> Answer<Option<[u8; 16]>>,
    ) -> Answer<Looked> {
        if self.above.is_none() {
            self.above = newest()?;
        }
        if self.above.is_none_or(|above| dedup.id <= above) {
            return Ok(Looked::Unknown);
        }
        let found = self.records.get(&(dedup.id, dedup.from.clone(), dedup.to.clone()));
        Ok(Looked::Known(found.cloned()))
    }

    /// A record was written.
    pub(crate) fn written(&mut self, dedup: &Dedup, seqs: &[u64]) {
        if self.above.is_some_and(|above| dedup.id > above) {
            let Dedup { id, from, to, digest } = dedup.clone();
            let seen = Seen { digest, seqs: seqs.to_vec() };
            self.records.insert((id, from, to), seen);
        }
    }

    /// Forgets the records of the oldest ids beyond [`RECENT_MAX`], each id whole.
    pub(crate) fn bound(&mut self) {
        while self.records.len() > RECENT_MAX
            && let Some(((id, _, _), _)) = self.records.pop_first()
        {
            self.above = Some(id);
            while self.records.first_key_value().is_some_and(|((next, _, _), _)| *next == id) {
                self.records.pop_first();
            }
        }
    }
}

/// Records that are known without the disk: some seconds of a busy server, in about 4 MiB.
pub(crate) const RECENT_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn dedup(id: u8, from: &str) -> Dedup {
        let address = |text| Address::parse(text).unwrap();
        Dedup { id: [id; 16], from: address(from), to: address("to@a.example"), digest: [id; 32] }
    }

    fn look(recent: &mut Recent, id: u8, from: &str, newest: Option<u8>) -> Looked {
        recent.look(&dedup(id, from), || Ok(newest.map(|id| [id; 16]))).unwrap()
    }

    #[test]
    fn what_the_disk_may_have_is_for_the_disk_to_say() {
        let mut recent = Recent::default();
        recent.written(&dedup(9, "a@a.example"), &[1]);
        // A damaged row, of which nobody knows where it belongs.
        assert!(matches!(look(&mut recent, 9, "a@a.example", None), Looked::Unknown));
        assert!(matches!(look(&mut recent, 9, "a@a.example", Some(9)), Looked::Unknown));
        assert!(matches!(look(&mut recent, 10, "a@a.example", Some(200)), Looked::Known(None)));
    }

    #[test]
    fn a_repeat_is_told_by_all_of_its_key() {
        let mut recent = Recent::default();
        assert!(matches!(look(&mut recent, 5, "a@a.example", Some(4)), Looked::Known(None)));
        recent.written(&dedup(5, "a@a.example"), &[7, 8]);
        let Looked::Known(Some(seen)) = look(&mut recent, 5, "a@a.example", None) else {
            panic!("it is not known");
        };
        assert_eq!((seen.digest, seen.seqs), ([5; 32], vec![7, 8]));
        assert!(matches!(look(&mut recent, 5, "b@a.example", None), Looked::Known(None)));
        assert!(matches!(look(&mut recent, 6, "a@a.example", None), Looked::Known(None)));
    }

    #[test]
    fn the_oldest_are_forgotten_and_asked_of_the_disk() {
        let mut recent = Recent { above: Some([0; 16]), ..Recent::default() };
        for n in 0..=RECENT_MAX as u128 {
            let id = (n + 1).to_be_bytes();
            recent.written(&Dedup { id, ..dedup(1, "a@a.example") }, &[]);
        }
        recent.bound();
        assert_eq!(recent.records.len(), RECENT_MAX);
        let mut of = |n: u128| {
            let asked = Dedup { id: n.to_be_bytes(), ..dedup(1, "a@a.example") };
            recent.look(&asked, || Ok(None)).unwrap()
        };
        assert!(matches!(of(1), Looked::Unknown));
        assert!(matches!(of(2), Looked::Known(Some(_))));
    }

    /// Who gives one id to more messages than are remembered has them all forgotten, and nobody's time.
    #[test]
    fn many_records_of_one_id_are_bounded_too() {
        let mut recent = Recent { above: Some([0; 16]), ..Recent::default() };
        for n in 0..=RECENT_MAX {
            recent.written(&dedup(200, &format!("a{n}@a.example")), &[]);
        }
        recent.bound();
        assert_eq!(recent.records.len(), 0);
        assert!(matches!(look(&mut recent, 200, "a1@a.example", None), Looked::Unknown));
        assert!(matches!(look(&mut recent, 201, "a1@a.example", None), Looked::Known(None)));
    }
}
