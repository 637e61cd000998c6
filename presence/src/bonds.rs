//! What keeps a subscription, at the watched end and at the watching one.

use std::collections::BTreeMap;
use std::time::Duration;

use impp_protocol::{DeviceId, SessionId, Timestamp};
use smallvec::{SmallVec, smallvec};

/// What keeps a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    /// A session, as long as it lives.
    Session(SessionId),
    /// A lease of a device, until then.
    Lease(DeviceId, Timestamp),
    /// The watcher's contact list, as long as the entry follows.
    Contact,
    /// The server of the watcher's own domain, until then: it refreshes that, whatever keeps the
    /// subscription there.
    Server(Timestamp),
}

/// Who holds a [`Bond`]: each holds one at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// A session.
    Session(SessionId),
    /// A device.
    Device(DeviceId),
    /// The watcher's contact list.
    Contact,
    /// The server of the watcher's domain.
    Server,
}

impl Bond {
    /// Who holds it.
    pub fn keeper(self) -> Keeper {
        match self {
            Bond::Session(session) => Keeper::Session(session),
            Bond::Lease(device, _) => Keeper::Device(device),
            Bond::Contact => Keeper::Contact,
            Bond::Server(_) => Keeper::Server,
        }
    }

    /// When it ends by itself.
    pub fn until(self) -> Option<Timestamp> {
        match self {
            Bond::Lease(_, until) | Bond::Server(until) => Some(until),
            Bond::Session(_) | Bond::Contact => None,
        }
    }
}

/// All that keeps one subscription; none if it is over, or waits for its owner. Most have one, which has
/// its room here: there are very many of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bonds(SmallVec<[Bond; 1]>);

impl Bonds {
    /// What a device's leases and a contact list keep, as they were stored.
    pub fn restored(leases: &BTreeMap<DeviceId, Timestamp>, by_contact: bool) -> Bonds {
        let leases = leases.iter().map(|(device, until)| Bond::Lease(*device, *until));
        Bonds(leases.chain(by_contact.then_some(Bond::Contact)).collect())
    }

    /// One alone.
    pub(crate) fn one(bond: Bond) -> Bonds {
        Bonds(smallvec![bond])
    }

    /// The one that there is, if it is alone.
    pub(crate) fn only(&self) -> Option<Bond> {
        match self.0[..] {
            [bond] => Some(bond),
            _ => None,
        }
    }

    /// Whether nobody keeps it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds or renews one.
    pub fn keep(&mut self, bond: Bond) {
        self.0.retain(|other| other.keeper() != bond.keeper());
        self.0.push(bond);
    }

    /// Takes away what somebody holds; whether there was anything.
    pub fn release(&mut self, keeper: Keeper) -> bool {
        let before = self.0.len();
        self.0.retain(|other| other.keeper() != keeper);
        self.0.len() != before
    }

    /// Takes all away.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Ends what has run out; whether anything has.
    pub fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.0.len();
        self.0.retain(|bond| bond.until().is_none_or(|until| until > now));
        self.0.len() != before
    }

    /// What somebody holds.
    pub fn of(&self, keeper: Keeper) -> Option<Bond> {
        self.0.iter().copied().find(|bond| bond.keeper() == keeper)
    }

    /// Whether the server of the watcher's domain is one who keeps it.
    pub fn is_kept_by_server(&self) -> bool {
        self.of(Keeper::Server).is_some()
    }

    /// The leases of devices.
    pub fn leases(&self) -> BTreeMap<DeviceId, Timestamp> {
        let lease = |bond: &Bond| match bond {
            Bond::Lease(device, until) => Some((*device, *until)),
            Bond::Session(_) | Bond::Contact | Bond::Server(_) => None,
        };
        self.0.iter().filter_map(lease).collect()
    }

    /// When the next one ends by itself.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.0.iter().filter_map(|bond| bond.until()).min()
    }

    /// In how long all of it has ended by itself. What a session or the contact list keeps does not.
    pub fn ends_in(&self, now: Timestamp) -> Option<Duration> {
        let ends = self.0.iter().map(|bond| bond.until().map(|until| until.since(now)));
        ends.collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_keeps_has_room_for_one() {
        let mut bonds = Bonds::default();
        let session = |name| Bond::Session(SessionId([name; 16]));
        bonds.keep(session(1));
        assert!(!bonds.0.spilled());
        bonds.keep(Bond::Contact);
        bonds.keep(Bond::Contact);
        assert_eq!(bonds.0.len(), 2);
        assert!(size_of::<Bonds>() <= 40);
    }
}
