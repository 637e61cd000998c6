//! What a store on an image of a disk holds, held against what was asked and answered before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use impp_protocol::command::Message;
use impp_protocol::presence::Document;
use impp_protocol::state::ItemKind;
use impp_protocol::{Address, Domain, MessageId};
use impp_storage::{
    Dedup, Item, LogState, Options, ReadLog, Restored, Scan, SqliteStore, Store, StoreError, Table,
};
use serde_json::Value;

use super::life::{ACCOUNTS, Asked, Fact, Moment, note, rules};
use crate::presence::person;
use crate::server::DOMAIN;

/// Tables of records, as `server/src/core/records/mod.rs` numbers them.
const ACCOUNT: Table = Table(1);
const RULES: Table = Table(2);
const CONTACT: Table = Table(3);
const LAYER: Table = Table(5);

/// Why an image does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The store says that it is damaged, or does not open.
    Refused(String),
    /// It serves what is not so.
    Wrong(String),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Refused(error.to_string())
    }
}

type Id = MessageId;

/// What a store holds of what a life asks.
#[derive(Debug, Default)]
struct Found {
    accounts: BTreeSet<String>,
    /// Bob's inbox in its order: sender, id, text.
    inbox: Vec<(String, Id, String)>,
    /// What bob's log counts.
    bobs: Option<LogState>,
    /// Copies of sent messages, by the sender, in their order; and how many fates beside them.
    sent: BTreeMap<String, (Vec<Id>, usize)>,
    /// Messages of which a repeat would be told.
    accepted: BTreeSet<Id>,
    rules: Option<usize>,
    contact: Option<usize>,
    layer: Option<usize>,
}

/// Opens the store, which has to come up without help, and looks whether all is there that was
/// answered and nothing that was not asked.
///
/// # Errors
/// What is not as it has to be.
pub fn check(store: &Path, facts: &[Fact], moment: Moment) -> Result<(), Fault> {
    // Without a reserve: sixteen megabytes for each image would take longer than all the rest.
    let options = Options { readers: 1, reserve_bytes: 0, verify: true, about: None };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = SqliteStore::open(store, options)?;
    // The image lies elsewhere than the store did, and that alone may be told of it: no cut looks as
    // if a copy had been put back.
    if let Some(why) = store.restored().filter(|why| *why != Restored::Moved) {
        return Err(Fault::Wrong(format!("taken for a copy that was put back: {why}")));
    }
    let found = runtime.block_on(Found::read(&store, facts))?;
    runtime.block_on(store.close())?;
    found.compare(facts, moment).map_err(Fault::Wrong)
}

impl Found {
    async fn read(store: &SqliteStore, facts: &[Fact]) -> Result<Found, Fault> {
        let mut found = Found::default();
        let domain = Domain::parse(DOMAIN).unwrap();
        let records = async |table| {
            let (domain, prefix) = (domain.clone(), Vec::new());
            let scan = Scan { domain, table, prefix, after: None, max: 1000 };
            store.scan(scan).await
        };
        for (key, _) in records(ACCOUNT).await? {
            found.accounts.insert(String::from_utf8_lossy(&key).into_owned());
        }
        found.read_records(
            records(RULES).await?.into_iter().map(|(_, record)| record.value.to_vec()).collect(),
            records(CONTACT).await?.into_iter().map(|(key, record)| (key, record.value.to_vec())),
            records(LAYER).await?.into_iter().map(|(_, record)| record.value.to_vec()).collect(),
        );
        for name in ACCOUNTS {
            let owner = address(name);
            let query = ReadLog {
                owner: owner.clone(),
                after: 0,
                items_max: usize::MAX,
                bytes_max: usize::MAX,
            };
            let items = store.read(query).await?.items;
            found.read_log(name, &items).map_err(Fault::Wrong)?;
            if name == "bob" {
                found.bobs = Some(store.log_state(owner).await?);
            }
        }
        for (from, id) in facts.iter().filter_map(Fact::message) {
            let (from, to) = (address(from), address("bob"));
            if store.accepted(Dedup { id: id.0, from, to, digest: [0; 32] }).await?.is_some() {
                found.accepted.insert(id);
            }
        }
        Ok(found)
    }

    /// The numbers in alice's records; none of what is not as it was asked.
    fn read_records(
        &mut self,
        all_rules: Vec<Vec<u8>>,
        contacts: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
        layers: Vec<Vec<u8>>,
    ) {
        let number_of = |text: &str| {
            let n = text.lines().next()?.strip_prefix("# ")?.parse().ok()?;
            (rules(n) == text).then_some(n)
        };
        self.rules = all_rules.iter().find_map(|text| number_of(std::str::from_utf8(text).ok()?));
        let name_of = |(key, value): (Vec<u8>, Vec<u8>)| {
            let value: Value = serde_json::from_slice(&value).ok()?;
            let alices = key.starts_with(b"alice\0") && key.ends_with(b"bob@localhost");
            alices.then(|| value["name"].as_str()?.parse().ok())?
        };
        self.contact = { contacts }.find_map(name_of);
        let layer_of = |value: &Vec<u8>| {
            let value: Value = serde_json::from_slice(value).ok()?;
            let document = BASE64.decode(value["document"].as_str()?).ok()?;
            let document = Document::decode(document.into()).ok()?;
            let text = person(&document, "note")?.to_owned();
            let n = text.strip_prefix("layer ")?.parse().ok()?;
            (note(n) == text).then_some(n)
        };
        self.layer = layers.iter().find_map(layer_of);
    }

    fn read_log(&mut self, name: &str, items: &[Item]) -> Result<(), String> {
        let of = |kind: ItemKind| kind.number() as u8;
        for item in items {
            if item.kind == of(ItemKind::Fate) {
                self.sent.entry(name.to_owned()).or_default().1 += 1;
            }
            if item.kind != of(ItemKind::Sent) && item.kind != of(ItemKind::Received) {
                continue;
            }
            let body = item.body.clone().ok_or(format!("{name}: item {} is half", item.seq))?;
            let message = Message::decode(body)
                .map_err(|error| format!("{name}: item {} is no message: {error}", item.seq))?;
            let text = String::from_utf8_lossy(&message.body).into_owned();
            if item.kind == of(ItemKind::Sent) {
                self.sent.entry(name.to_owned()).or_default().0.push(message.id);
            } else {
                let from = message.from.ok_or("a message from nobody")?.local().to_owned();
                self.inbox.push((from, message.id, text));
            }
        }
        Ok(())
    }

    fn compare(&self, facts: &[Fact], moment: Moment) -> Result<(), String> {
        self.all_that_was_answered(facts, moment)?;
        self.each_once_and_whole(facts, moment)?;
        self.in_order(facts)
    }

    /// What was answered before the cut is there, and also what was answered before something was
    /// asked that is there.
    fn all_that_was_answered(&self, facts: &[Fact], moment: Moment) -> Result<(), String> {
        let asked = facts.iter().filter(|fact| self.shows(&fact.what)).map(|fact| fact.asked);
        let by = asked.max().unwrap_or(0).max(moment.next);
        match facts.iter().find(|fact| fact.answered < by && !self.shows(&fact.what)) {
            Some(fact) if fact.answered < moment.next => Err(format!("lost: {fact}")),
            Some(fact) => Err(format!("missing, where a later one is there: {fact}")),
            None => Ok(()),
        }
    }

    fn shows(&self, what: &Asked) -> bool {
        match what {
            Asked::Account(name) => self.accounts.contains(*name),
            Asked::Send { id, .. } => self.accepted.contains(id),
            Asked::Rules(n) => self.rules >= Some(*n),
            Asked::Contact(n) => self.contact >= Some(*n),
            Asked::Layer(n) => self.layer >= Some(*n),
            Asked::Trim(ids) => ids.last().is_some_and(|last| {
                self.accepted.contains(last) && !self.inbox.iter().any(|(_, id, _)| id == last)
            }),
        }
    }

    /// What was accepted is in the inbox once and as it was sent, unless it was taken away; and
    /// nothing else is.
    fn each_once_and_whole(&self, facts: &[Fact], moment: Moment) -> Result<(), String> {
        let trims = facts.iter().filter_map(|fact| match &fact.what {
            Asked::Trim(ids) => Some((fact, ids)),
            _ => None,
        });
        let (mut may_go, mut gone) = (BTreeSet::<Id>::new(), BTreeSet::<Id>::new());
        for (fact, ids) in trims {
            if fact.asked < moment.last {
                may_go.extend(ids);
            }
            if self.shows(&fact.what) {
                gone.extend(ids);
            }
        }
        let mut there: BTreeMap<Id, (&str, &str)> = BTreeMap::new();
        for (from, id, text) in &self.inbox {
            if there.insert(*id, (from, text)).is_some() {
                return Err(format!("{id} of {from} is there twice"));
            }
        }
        for fact in facts {
            let Asked::Send { from, id, text } = &fact.what else { continue };
            match (there.remove(id), self.accepted.contains(id)) {
                (Some(_), _) if gone.contains(id) => return Err(format!("{fact} came back")),
                (Some(found), true) if found == (*from, text) => {}
                (Some(_), true) => return Err(format!("{fact} is not as it was sent")),
                (Some(_), false) => return Err(format!("{fact} would be taken twice")),
                (None, true) if may_go.contains(id) => {}
                (None, true) => {
                    return Err(format!("{fact} would not be taken again, and is lost"));
                }
                (None, false) => {}
            }
        }
        let counted = self.bobs.map_or(0, |bobs| bobs.unacked_items);
        if counted > self.inbox.len() as u64 {
            return Err(format!("{counted} are counted, there are {}", self.inbox.len()));
        }
        there.into_keys().next().map_or(Ok(()), |id| Err(format!("nobody sent {id}")))
    }

    /// Of each sender, what is there is the first part of what was sent, in its order; the
    /// sender's own log says the same.
    fn in_order(&self, facts: &[Fact]) -> Result<(), String> {
        for name in ACCOUNTS {
            let messages = || facts.iter().filter_map(Fact::message).filter(|(by, _)| *by == name);
            let accepted = messages().map(|(_, id)| id).filter(|id| self.accepted.contains(id));
            let accepted: Vec<Id> = accepted.collect();
            let first: Vec<Id> = messages().map(|(_, id)| id).take(accepted.len()).collect();
            if accepted != first {
                return Err(format!("{name}: a later message is there, an earlier one is not"));
            }
            let inbox = self.inbox.iter().filter(|(from, ..)| from == name);
            let inbox: Vec<Id> = inbox.map(|(_, id, _)| *id).collect();
            if !accepted.ends_with(&inbox) {
                return Err(format!("{name}: not in the order of sending"));
            }
            let (sent, fates) = self.sent.get(name).cloned().unwrap_or_default();
            if sent != accepted || fates != sent.len() {
                return Err(format!("{name}: {} are sent, {fates} fates told", sent.len()));
            }
        }
        Ok(())
    }
}

fn address(name: &str) -> Address {
    Address::parse(&format!("{name}@{DOMAIN}")).unwrap()
}
