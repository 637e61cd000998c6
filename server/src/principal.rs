//! A principal of a hosted domain: its policy and its presentity, under one lock.
//!
//! Loading it from the store and writing its changes back is here; whom to wake is the host's.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use impp_acl::{Purpose, RuleSet, default_rules};
use impp_protocol::presence::Document;
use impp_protocol::state::{SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Timestamp};
use impp_storage::{Expect, Op, Record, SCAN_ITEMS_MAX, Scan, Store, StoreError, Table};

use crate::ids::{DeviceId, hex, unhex};
use crate::policy::Policy;
use crate::presentity::{Bond, Effects, Layers, Lease, PaceLimit, Presentity, Watching};
use crate::rates::Rates;
use crate::records::{
    self, CONTACT, FOLLOWED, HELD, LAYER, LayerRecord, RULES, WATCHER, WatcherRecord,
};

/// See the module.
#[derive(Debug)]
pub struct Principal {
    /// Rules and contacts.
    pub policy: Policy,
    /// Layers and watchers.
    pub presentity: Presentity,
    /// What senders may still send.
    pub rates: Rates,
    /// Messages held for the owner's decision, or on the way to being held.
    pub held: u64,
}

/// What a principal needs to know of the server to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The time.
    pub now: Timestamp,
    /// How fast presence may be shown changing.
    pub pace: PaceLimit,
    /// The end of the recovery window, if the server before this one crashed.
    pub recovering_until: Option<Timestamp>,
}

impl Principal {
    /// Reads a principal from the store, as it is now; and what of it has ended since it was stored,
    /// which is to be stored in its turn.
    ///
    /// # Errors
    /// [`StoreError`], also where a record is damaged; it names the record.
    pub async fn load(
        store: &dyn Store,
        owner: &Address,
        around: Circumstances,
    ) -> Result<(Principal, Effects), StoreError> {
        let policy = load_policy(store, owner).await?;
        let mut layers = load_layers(store, owner).await?;
        // Nobody may have looked when a lease ended: nobody is shown what is of the past.
        let (_, layers_ended) = layers.expire(around.now);
        let mut ended = Effects { layers_ended, ..Effects::default() };
        let mut watchers = HashMap::new();
        for (key, record) in scan(store, owner, WATCHER).await? {
            let address = other_of(owner, WATCHER, &key)?;
            let record: WatcherRecord = parsed(owner, WATCHER, &key, &record)?;
            let decision = policy.decide(owner, &address, Purpose::Subscribe, around.now, None);
            let mut watching = restored(record, decision)
                .ok_or_else(|| damaged(owner, WATCHER, &key, "unknown state or device"))?;
            if watching.expire(around.now) {
                watching.settle(around.now);
                ended.watchers.insert(address.clone());
            }
            watchers.insert(address, watching);
        }
        let mut presentity = Presentity::new(
            owner.clone(),
            layers,
            watchers,
            around.now,
            around.pace,
            around.recovering_until,
        );
        // Nobody listens yet: the decisions are only brought up to date with the owner's sphere.
        presentity.decide_anew(around.now, &policy);
        let held = scan(store, owner, HELD).await?.len() as u64;
        Ok((Principal { policy, presentity, rates: Rates::default(), held }, ended))
    }

    /// What has to be stored after a change.
    pub fn records(
        &self,
        owner: &Address,
        effects: &mut Effects,
        is_local: impl Fn(&Address) -> bool,
    ) -> Vec<Op> {
        let mut ops = std::mem::take(&mut effects.ops);
        for watcher in &effects.watchers {
            let kept = self.presentity.watcher(watcher).and_then(Watching::kept);
            let record = kept.as_ref().map(WatcherRecord::of);
            ops.push(Op::Put {
                key: records::key(WATCHER, owner, &[watcher.as_str()]),
                expect: Expect::Any,
                value: record.as_ref().map(records::to_bytes),
            });
            if !is_local(watcher) {
                continue;
            }
            ops.push(Op::Put {
                key: records::key(FOLLOWED, watcher, &[owner.as_str()]),
                expect: Expect::Any,
                value: record.map(|_| records::to_bytes(&serde_json::Map::new())),
            });
        }
        for device in &effects.layers_ended {
            ops.push(layer_op(owner, *device, None));
        }
        ops
    }
}

/// The operation that stores a leased layer, or deletes it.
pub fn layer_op(owner: &Address, device: DeviceId, layer: Option<(Bytes, Timestamp)>) -> Op {
    let record = layer.map(|(document, until)| LayerRecord {
        document: BASE64.encode(document),
        until: until.as_millis(),
    });
    Op::Put {
        key: records::key(LAYER, owner, &[&hex(&device)]),
        expect: Expect::Any,
        value: record.map(|record| records::to_bytes(&record)),
    }
}

async fn load_policy(store: &dyn Store, owner: &Address) -> Result<Policy, StoreError> {
    let (text, number) = match store.get(records::key(RULES, owner, &[])).await? {
        Some(record) => (String::from_utf8_lossy(&record.value).into_owned(), record.version),
        None => (default_rules(&owner.domain()), 0),
    };
    let rules =
        RuleSet::parse(&text).map_err(|error| damaged(owner, RULES, b"", &error.to_string()))?;
    let mut contacts = BTreeMap::new();
    for (key, record) in scan(store, owner, CONTACT).await? {
        let address = other_of(owner, CONTACT, &key)?;
        contacts.insert(address, parsed(owner, CONTACT, &key, &record)?);
    }
    Ok(Policy { rules, text, number, contacts })
}

async fn load_layers(store: &dyn Store, owner: &Address) -> Result<Layers, StoreError> {
    let mut layers = Layers::default();
    for (key, record) in scan(store, owner, LAYER).await? {
        let layer: LayerRecord = parsed(owner, LAYER, &key, &record)?;
        let device = records::last_part(&key).and_then(unhex);
        let document =
            BASE64.decode(&layer.document).ok().and_then(|b| Document::decode(b.into()).ok());
        let (Some(device), Some(document)) = (device, document) else {
            return Err(damaged(owner, LAYER, &key, "device or document unreadable"));
        };
        layers.restore(device, document, Timestamp::from_millis(layer.until));
    }
    Ok(layers)
}

/// All records of one kind of an owner.
///
/// # Errors
/// [`StoreError`].
pub async fn scan(
    store: &dyn Store,
    owner: &Address,
    table: Table,
) -> Result<Vec<(Vec<u8>, Record)>, StoreError> {
    let (mut all, max): (Vec<(Vec<u8>, Record)>, _) = (Vec::new(), SCAN_ITEMS_MAX);
    loop {
        let (domain, prefix) = (owner.domain(), records::prefix(owner, &[""]));
        let after = all.last().map(|(key, _)| key.clone());
        let part = store.scan(Scan { domain, table, prefix, after, max }).await?;
        let end = part.len() < max;
        all.extend(part);
        if end {
            return Ok(all);
        }
    }
}

fn restored(record: WatcherRecord, decision: impp_acl::Decision) -> Option<Watching> {
    let mut bonds = Vec::new();
    for (device, until) in &record.leases {
        bonds.push(Bond::Lease(unhex(device)?, Timestamp::from_millis(*until)));
    }
    if record.by_contact {
        bonds.push(Bond::Contact);
    }
    let mut watching = Watching {
        state: SubscriptionState::from_name(&record.state)?,
        event: SubscriptionEvent::from_name(&record.event)?,
        since: Timestamp::from_millis(record.since),
        decision,
        bonds,
        listeners: Vec::new(),
    };
    // A request that only a session kept waits now.
    watching.settle(watching.since);
    Some(watching)
}

fn other_of(owner: &Address, table: Table, key: &[u8]) -> Result<Address, StoreError> {
    let text = records::last_part(key).unwrap_or_default();
    Address::parse_canonical(text).map_err(|error| damaged(owner, table, key, &error.to_string()))
}

fn parsed<T: serde::de::DeserializeOwned>(
    owner: &Address,
    table: Table,
    key: &[u8],
    record: &Record,
) -> Result<T, StoreError> {
    records::from_bytes(&record.value).map_err(|reason| damaged(owner, table, key, &reason))
}

fn damaged(owner: &Address, table: Table, key: &[u8], reason: &str) -> StoreError {
    let key = String::from_utf8_lossy(key).replace('\0', " ");
    StoreError::Damaged { what: format!("record {} of {owner} ({key}): {reason}", table.0) }
}

/// The pace of the configuration.
pub fn pace_limit(times: &crate::config::Times) -> PaceLimit {
    PaceLimit { burst: times.pace_burst, interval: Duration::from_millis(times.pace_milliseconds) }
}

/// Whether a lease is one that survives a restart.
pub fn until_of(lease: Lease) -> Option<Timestamp> {
    match lease {
        Lease::Until(until) => Some(until),
        Lease::Bound(_) | Lease::Grace(..) => None,
    }
}
