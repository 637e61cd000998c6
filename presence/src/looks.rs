//! Who has looked at a presentity once, or was refused, a while ago at most: kept for its owner
//! (RFC 3857 4.7.1), in memory alone. Nobody who looks can tell from it that it is kept.

use impp_protocol::hashing::HashMap;
use impp_protocol::{Address, Timestamp};

use crate::ageing::Ageing;

/// Those who have looked, at most. Where there are more the oldest goes of the domain that has most.
pub const LOOKS_MAX: usize = 256;

/// What is known of one who has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// When first, since it is kept.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
    /// How often.
    pub count: u64,
    /// Whether it was refused, the last time.
    pub refused: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    all: HashMap<Address, Look>,
    by_time: Ageing,
    dropped: u64,
}

impl Looks {
    /// Somebody looks; who had to make room for that.
    pub(crate) fn note(&mut self, now: Timestamp, who: &Address, refused: bool) -> Option<Address> {
        let new = Look { first: now, last: now, count: 0, refused };
        let look = self.all.entry(who.clone()).or_insert(new);
        self.by_time.remove(look.last, who);
        *look = Look { last: now, count: look.count + 1, refused, ..*look };
        self.by_time.add(now, who);
        if self.all.len() <= LOOKS_MAX {
            return None;
        }
        let gone = self.by_time.crowding()?.clone();
        self.dropped += 1;
        self.forget(&gone);
        Some(gone)
    }

    /// Whose time is over is forgotten.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Vec<Address> {
        let over: Vec<Address> = self.by_time.over(now).cloned().collect();
        over.iter().for_each(|who| self.forget(who));
        over
    }

    /// What is known of one.
    pub(crate) fn get(&self, who: &Address) -> Option<&Look> {
        self.all.get(who)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Address, &Look)> {
        self.all.iter()
    }

    /// How many have made room before their time.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn forget(&mut self, who: &Address) {
        if let Some(look) = self.all.remove(who) {
            self.by_time.remove(look.last, who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ageing::WINDOW;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000_000 + seconds * 1000)
    }

    fn who(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn r5_1_11_who_has_looked_is_kept_for_the_window_since_the_last_time() {
        let (mut looks, bob) = (Looks::default(), who("bob@b.example"));
        assert_eq!(looks.note(at(0), &bob, true), None);
        assert_eq!(looks.note(at(60), &bob, false), None);
        let look = Look { first: at(0), last: at(60), count: 2, refused: false };
        assert_eq!(looks.get(&bob), Some(&look));
        let window = WINDOW.as_secs();
        assert!(looks.expire(at(window + 59)).is_empty());
        assert_eq!(looks.expire(at(window + 60)), [bob]);
        assert!(looks.all.is_empty() && looks.by_time.len() == 0 && looks.dropped() == 0);
    }

    #[test]
    fn who_invents_addresses_takes_the_places_of_their_domain_alone() {
        let mut looks = Looks::default();
        let bob = who("bob@b.example");
        looks.note(at(0), &bob, false);
        for n in 0..2 * LOOKS_MAX as u64 {
            looks.note(at(1 + n), &who(&format!("p{n}@evil.example")), true);
        }
        assert!(looks.get(&bob).is_some() && looks.all.len() == LOOKS_MAX);
        assert_eq!(looks.by_time.len(), LOOKS_MAX);
        assert_eq!(looks.dropped(), LOOKS_MAX as u64 + 1);
    }
}
