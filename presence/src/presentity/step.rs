//! A step of a presentity's state, and the way back: what it found of what it has changed, and what of
//! that is to be stored.

use std::collections::BTreeSet;
use std::sync::Arc;

use impp_protocol::presence::Document;
use impp_protocol::{Address, DeviceId};

use super::change::State;
use super::layers::{Layers, Saved};
use crate::contact_list::Trace;
use crate::policy::{Contact, Policy};
use crate::watchers::Former;
use crate::watching::{Kept, Watching};

/// Something to be stored; nothing stands for deleting it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// What survives of a watcher.
    Watcher(Address, Option<Kept>),
    /// A leased layer.
    Layer(DeviceId, Option<Saved>),
    /// An entry of the owner's contact list.
    Contact(Address, Option<Contact>),
    /// What has become of an entry, whether it is there or not.
    Trace(Address, Option<Trace>),
    /// What was removed from the contact list before that number is not known any more.
    Floor(u64),
    /// The owner's rules, if their version is still this.
    Rules(Arc<str>, u64),
}

/// What a [`Write`] is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Watcher(Address),
    Layer(DeviceId),
    Contact(Address),
    Trace(Address),
    Floor,
    Rules,
}

impl Write {
    pub(super) fn key(&self) -> Key {
        match self {
            Write::Watcher(who, _) => Key::Watcher(who.clone()),
            Write::Layer(device, _) => Key::Layer(*device),
            Write::Contact(who, _) => Key::Contact(who.clone()),
            Write::Trace(who, _) => Key::Trace(who.clone()),
            Write::Floor(_) => Key::Floor,
            Write::Rules(..) => Key::Rules,
        }
    }
}

/// How things were before a step; what is not in it has not changed.
#[derive(Debug, Default)]
pub(super) struct Before {
    pub policy: Option<Policy>,
    pub layers: Option<(Layers, Arc<Document>)>,
    pub lost: Option<bool>,
    pub watchers: Former,
}

impl Before {
    /// How things were before this step and a later one.
    pub(super) fn and(&mut self, later: &Before) {
        if self.policy.is_none() {
            self.policy.clone_from(&later.policy);
        }
        if self.layers.is_none() {
            self.layers.clone_from(&later.layers);
        }
        self.lost = self.lost.or(later.lost);
        for (who, watching) in &later.watchers {
            if !self.watchers.contains_key(who) {
                self.watchers.insert(who.clone(), watching.clone());
            }
        }
    }

    /// What may have to be stored otherwise since then.
    pub(super) fn keys(&self, since: &State) -> BTreeSet<Key> {
        let mut keys: BTreeSet<Key> = self.watchers.keys().cloned().map(Key::Watcher).collect();
        if let Some((layers, _)) = &self.layers {
            keys.extend(layers.unlike(&since.layers).into_iter().map(Key::Layer));
        }
        if let Some(Policy { contacts, .. }) = &self.policy
            && !Arc::ptr_eq(contacts, &since.policy.contacts)
        {
            let now = &since.policy.contacts;
            let changed = now.iter().filter(|(who, entry)| contacts.get(*who) != Some(*entry));
            keys.extend(changed.map(|(who, _)| Key::Contact(who.clone())));
            let gone = contacts.keys().filter(|who| !now.contains_key(*who));
            keys.extend(gone.cloned().map(Key::Contact));
        }
        if let Some(Policy { history, .. }) = &self.policy
            && !Arc::ptr_eq(history, &since.policy.history)
        {
            let now = &since.policy.history;
            let all = now.addresses().chain(history.addresses());
            let changed = all.filter(|who| history.trace(who) != now.trace(who));
            keys.extend(changed.cloned().map(Key::Trace));
            keys.extend((history.floor() != now.floor()).then_some(Key::Floor));
        }
        keys
    }

    /// What was stored of a thing then; `since` has what has not changed.
    pub(super) fn write(&self, key: &Key, since: &State) -> Write {
        match (key, &self.policy, &self.layers) {
            (Key::Watcher(who), ..) => match self.watchers.get(who) {
                Some(watching) => watcher_write(who, watching.as_ref()),
                None => since.write(key),
            },
            (Key::Layer(device), _, Some((layers, _))) => {
                Write::Layer(*device, layers.saved(*device))
            }
            (Key::Contact(who), Some(policy), _) => {
                Write::Contact(who.clone(), policy.contacts.get(who).cloned())
            }
            (Key::Trace(who), Some(policy), _) => {
                Write::Trace(who.clone(), policy.history.trace(who))
            }
            (Key::Floor, Some(policy), _) => Write::Floor(policy.history.floor()),
            _ => since.write(key),
        }
    }
}

impl State {
    /// Does something, and notes how it found what it has changed.
    pub(super) fn step<R>(&mut self, act: impl FnOnce(&mut State) -> R) -> (R, Before) {
        let (policy, layers) = (self.policy.clone(), (self.layers.clone(), self.document.clone()));
        let lost = self.lost;
        self.watchers.begin();
        let answer = act(self);
        let before = Before {
            policy: (!policy.is_same(&self.policy)).then_some(policy),
            layers: (layers.0 != self.layers).then_some(layers),
            lost: (lost != self.lost).then_some(lost),
            watchers: self.watchers.begin(),
        };
        (answer, before)
    }

    /// What is stored of a thing, if all goes well.
    pub(super) fn write(&self, key: &Key) -> Write {
        match key {
            Key::Watcher(who) => watcher_write(who, self.watchers.get(who)),
            Key::Layer(device) => Write::Layer(*device, self.layers.saved(*device)),
            Key::Contact(who) => {
                Write::Contact(who.clone(), self.policy.contacts.get(who).cloned())
            }
            Key::Trace(who) => Write::Trace(who.clone(), self.policy.history.trace(who)),
            Key::Floor => Write::Floor(self.policy.history.floor()),
            Key::Rules => Write::Rules(self.policy.text.clone(), self.policy.number),
        }
    }

    /// Takes a step back.
    pub(super) fn restore(&mut self, before: Before) {
        if let Some(policy) = before.policy {
            self.policy = policy;
        }
        if let Some((layers, document)) = before.layers {
            (self.layers, self.document) = (layers, document);
        }
        self.lost = before.lost.unwrap_or(self.lost);
        for (who, watching) in before.watchers {
            self.watchers.set(&who, watching);
        }
    }

    /// What is to be stored after a step that was not to be before.
    pub(super) fn writes_since(&self, before: &Before) -> Vec<Write> {
        let keys = before.keys(self).into_iter();
        let changed = keys.filter(|key| before.write(key, self) != self.write(key));
        changed.map(|key| self.write(&key)).collect()
    }
}

fn watcher_write(who: &Address, watching: Option<&Watching>) -> Write {
    Write::Watcher(who.clone(), watching.and_then(Watching::kept))
}
