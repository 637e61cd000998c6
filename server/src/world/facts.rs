//! What has been asked and answered in a world, and what the specification makes of it. Nothing here
//! shares code with what decides, composes or filters presence in the server.

use std::collections::BTreeMap;

use impp_protocol::command::Outcome;
use impp_protocol::presence::{Document, PartId};
use impp_protocol::{Address, Code, Domain, MessageId};

use super::readings::Readings;
use super::ruling::{Grant, Ruling, note};

/// A message as its sender knows of it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// Its id.
    pub id: MessageId,
    /// Who has written it.
    pub from: Address,
    /// On which device.
    pub device: String,
    /// To whom.
    pub to: Address,
    /// The last answer.
    pub answer: Option<Result<Outcome, Code>>,
    /// It was asked for again after an error that says nothing for good: its place among the others
    /// is then its own affair.
    pub again: bool,
}

/// Where among the requests of a device something was asked: by its connection and its number.
pub(super) type Place = (String, u64);

/// What was published: when, by whom.
#[derive(Clone, Debug)]
struct Said {
    owner: Address,
    asked: u64,
    /// `None` once it was asked for again.
    place: Option<Place>,
    /// Somebody was shown it.
    shown: bool,
}

/// What a device keeps by a lease.
struct Leased {
    owner: Address,
    value: String,
    acked: Option<u64>,
}

/// What was shown by rules that others had been staged over: wrong if those come to hold.
struct Suspicion {
    owner: Address,
    over: usize,
    what: String,
}

/// See the module.
#[derive(Default)]
pub(super) struct Facts {
    /// Messages in the order in which they were written.
    pub messages: Vec<Sent>,
    /// Rules in the order in which they were asked for.
    pub rulings: BTreeMap<Address, Vec<Ruling>>,
    /// Messages that somebody has asked to delete from their log, and whether that was answered.
    pub deletions: BTreeMap<(Address, MessageId), bool>,
    said: BTreeMap<String, Said>,
    suspicions: Vec<Suspicion>,
    /// When rules of somebody's were last asked for, or refused.
    touched: BTreeMap<Address, u64>,
    /// By the device's name, what it keeps by a lease.
    leased: BTreeMap<String, Option<Leased>>,
    /// What was seen of settings.
    readings: Readings,
    /// What must not have happened.
    pub violations: Vec<String>,
}

impl Facts {
    /// It must not have happened.
    pub(super) fn wrong(&mut self, what: String) {
        self.violations.push(what);
    }

    /// A message is about to be deleted.
    pub(super) fn deletes(&mut self, owner: &Address, id: MessageId) {
        self.deletions.entry((owner.clone(), id)).or_default();
    }

    /// It is gone.
    pub(super) fn deleted(&mut self, owner: &Address, id: MessageId) {
        self.deletions.insert((owner.clone(), id), true);
    }

    /// A server has answered what was asked at the first of these times by these readings of its
    /// settings.
    pub(super) fn answered_by(&mut self, domain: &Domain, times: (u64, u64), readings: &[u64]) {
        if let Some(wrong) = self.readings.seen(domain, times, readings) {
            self.wrong(wrong);
        }
    }

    /// Somebody is about to publish this, a text that nobody else publishes; whether for the first
    /// time.
    pub(super) fn says(&mut self, owner: &Address, value: &str, now: u64, place: Place) -> bool {
        match self.said.get_mut(value) {
            Some(said) => {
                said.place = None;
                false
            }
            None => {
                let owner = owner.clone();
                let said = Said { owner, asked: now, place: Some(place), shown: false };
                self.said.insert(value.to_owned(), said);
                true
            }
        }
    }

    /// What was asked for once was not stored: nobody may have seen it.
    pub(super) fn not_stored(&mut self, value: &str) {
        if self.said.get(value).is_some_and(|said| said.shown) {
            self.wrong(format!("\"{value}\" was shown and was not stored"));
        }
    }

    /// A device is about to change its layer: to this, kept by a lease, or to what is not looked for.
    pub(super) fn layer(&mut self, owner: &Address, device: &str, value: Option<String>) {
        let leased = value.map(|value| Leased { owner: owner.clone(), value, acked: None });
        self.leased.insert(device.to_owned(), leased);
    }

    /// What a device asked for last was answered.
    pub(super) fn layer_stands(&mut self, device: &str, value: Option<&String>, now: u64) {
        if let Some(Some(leased)) = self.leased.get_mut(device)
            && Some(&leased.value) == value
        {
            leased.acked.get_or_insert(now);
        }
    }

    /// A watcher of the same domain has looked: what was answered before it asked is there, if rules
    /// that were answered before let it see all, and nothing is being changed. (Of other domains a
    /// server says what it was told, until it is sure that nobody tells it any more.)
    pub(super) fn stands(
        &mut self,
        watcher: &Address,
        of: &Address,
        document: &Document,
        since: u64,
    ) {
        // What rules take away that are refused in the end, they take away until then.
        let touched = self.touched.get(of).is_some_and(|at| *at >= since);
        if watcher.domain() != of.domain() || touched {
            return;
        }
        let rulings = self.rulings.get(of).map_or(&[][..], |rulings| rulings);
        let settled = |at: Option<u64>| at.is_some_and(|at| at < since);
        let last = rulings.iter().rfind(|ruling| ruling.asked.is_some());
        let all = |ruling: &Ruling| ruling.grants.get(watcher) == Some(&Grant::All);
        if !last.is_some_and(|ruling| settled(ruling.acked) && all(ruling)) {
            return;
        }
        let mut missing = Vec::new();
        for (device, leased) in &self.leased {
            let Some(leased) = leased else { continue };
            if leased.owner != *of || !settled(leased.acked) {
                continue;
            }
            let tuple = PartId::parse(device).and_then(|id| document.tuples.get(&id));
            if tuple.and_then(|tuple| tuple.get(&note())).is_none_or(|n| **n != *leased.value) {
                missing.push(leased.value.clone());
            }
        }
        for value in missing {
            self.wrong(format!(
                "{watcher} looked at {of} and did not see \"{value}\": {document:?}"
            ));
        }
    }

    /// Rules are about to be asked for; whether for the first time.
    pub(super) fn rules(
        &mut self,
        owner: &Address,
        index: usize,
        now: u64,
        place: Place,
        arrives_by: Option<u64>,
    ) -> bool {
        self.touched.insert(owner.clone(), now);
        let rulings = self.rulings.entry(owner.clone()).or_default();
        let ruling = &mut rulings[index];
        let first = ruling.asked.is_none();
        ruling.asked.get_or_insert(now);
        // If they come to hold, it is by what was asked for last: what was asked before it may have been
        // lost on its way, or failed unseen.
        (ruling.place, ruling.arrives_by) = (Some(place), arrives_by);
        if !first {
            self.suspicions.retain(|other| other.owner != *owner || other.over != index);
        }
        first
    }

    /// Rules hold.
    pub(super) fn rules_hold(&mut self, owner: &Address, index: usize, now: u64) {
        if let Some(rulings) = self.rulings.get_mut(owner) {
            rulings[index].acked.get_or_insert(now);
        }
        let of = |suspicion: &mut Suspicion| suspicion.owner == *owner && suspicion.over == index;
        let proven: Vec<Suspicion> = self.suspicions.extract_if(.., of).collect();
        for Suspicion { what, .. } in proven {
            self.wrong(what);
        }
    }

    /// Rules that were asked for once were not stored: they never held; or that is not known.
    pub(super) fn rules_fail(&mut self, owner: &Address, index: usize, now: u64, known: bool) {
        self.touched.insert(owner.clone(), now);
        self.suspicions.retain(|other| other.owner != *owner || other.over != index);
        let Some(rulings) = self.rulings.get_mut(owner) else { return };
        let ruling = &mut rulings[index];
        let relied_on = std::mem::take(&mut ruling.relied_on);
        (ruling.place, ruling.arrives_by) = (None, None);
        if known {
            ruling.asked = None;
        }
        if relied_on {
            self.wrong(format!("rules {index} of {owner} let somebody in and were not stored"));
        }
    }

    /// A watcher is shown a document: it must be of that presentity, and some rules that may have held
    /// since it was published must have let the watcher see it.
    pub(super) fn shown(&mut self, watcher: &Address, of: &Address, document: &Document) {
        if watcher == of {
            return;
        }
        let (note, tuples) = (note(), document.tuples.values());
        let notes = tuples.chain([&document.person]).filter_map(|fields| fields.get(&note));
        for value in notes.map(ToString::to_string).collect::<Vec<_>>() {
            let Some(said) = self.said.get_mut(&value) else {
                self.wrong(format!("{watcher} was shown \"{value}\", which nobody has said"));
                continue;
            };
            said.shown = true;
            let said = said.clone();
            if said.owner != *of {
                self.wrong(format!("{watcher} was shown \"{value}\" of {} as {of}'s", said.owner));
            } else {
                self.granted(watcher, &said, &value, document);
            }
        }
    }

    /// Rules that may have held at some time since something was said let the watcher see it; those of a
    /// sphere while the document that is shown with it says that sphere.
    fn granted(&mut self, watcher: &Address, said: &Said, value: &str, document: &Document) {
        let owner = &said.owner;
        let what = format!("{watcher} was shown \"{value}\" of {owner} against all rules");
        let rulings = self.rulings.get_mut(owner).map_or(&mut [][..], |rulings| rulings);
        // It was over for sure when later ones were answered.
        let over = |index: usize| rulings[index + 1..].iter().filter_map(|r| r.acked).min();
        let may_hold = |index: &usize| {
            let ruling = &rulings[*index];
            ruling.asked.is_some()
                && over(*index).is_none_or(|over| over >= said.asked)
                && ruling.grant(watcher, document) == Some(Grant::All)
        };
        let by: Vec<usize> = (0..rulings.len()).filter(may_hold).collect();
        if let [only] = by[..]
            && rulings[only].acked.is_none()
        {
            rulings[only].relied_on = true;
        }
        // Rules that were asked for before it, on the same connection, hold for it, or fail; so do those
        // that the server has had since before it was asked for on another one.
        let before = |place: &Place| {
            said.place.as_ref().is_some_and(|said| said.0 == place.0 && said.1 > place.1)
        };
        let staged = |ruling: &Ruling| {
            ruling.place.as_ref().is_some_and(before)
                || ruling.arrives_by.is_some_and(|by| by < said.asked)
        };
        let staged = rulings.iter().rposition(staged);
        let newest = by.last().copied();
        match (newest, staged) {
            (None, _) => self.wrong(what),
            (Some(newest), Some(staged)) if newest < staged => {
                let what = format!("{what}, the last of which had been asked for");
                match rulings[staged].acked {
                    Some(_) => self.wrong(what),
                    None => {
                        let owner = owner.clone();
                        self.suspicions.push(Suspicion { owner, over: staged, what });
                    }
                }
            }
            _ => {}
        }
    }
}
