//! A principal read from the store, as it is now: once, however many ask for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use dashmap::mapref::entry::Entry;
use impp_acl::{DomainPolicy, Pace, thing};
use impp_presence::places::Asker;
use impp_presence::{Effects, History, Layers, PaceLimit, Policy, Presentity, Sphere, Watching};
use impp_protocol::hashing::HashMap;
use impp_protocol::presence::Document;
use impp_protocol::{Address, Domain, Timestamp, What};
use impp_storage::{Record, Salvaged, Store, StoreError, Table};
use parking_lot::Mutex;

use super::first_rules::RulesRead;
use super::{Dropped, HeldMessages, InboxShares, Principal, Principals};
use crate::core::config::Times;
use crate::core::ground::Ground;
use crate::core::keeping::{salvage, scan};
use crate::core::records::{
    self, ASIDE, CONTACT, ContactRecord, DECIDED, DROPPED, HELD, LAYER, LayerRecord, RULES, TRACE,
    TraceRecord, WATCHER, WatcherRecord, place::FLOOR,
};

impl Principals {
    /// Has a principal read from the store, if it is not there; what is wrong with it is told to
    /// whoever asks for it.
    pub async fn ready(self: &Arc<Self>, owner: &Address) {
        let _ = self.load(owner).await;
    }

    /// A principal, read from the store if it is not there.
    pub(super) async fn load(
        self: &Arc<Self>,
        owner: &Address,
    ) -> Result<Arc<Mutex<Principal>>, StoreError> {
        #[cfg(test)]
        self.steps[0].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Some(entry) = self.entries.get(owner) {
            return Ok(entry.value().clone());
        }
        // In a task of its own. Who asks may be one of several that the same task looks after, as for a
        // link: it is not looked at while another of them waits for what it would be reading.
        let (principals, owner) = (self.clone(), owner.clone());
        let loading = tokio::spawn(async move { principals.load_once(&owner).await });
        loading.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Reads it once, however many ask for it at the same time.
    async fn load_once(
        self: &Arc<Self>,
        owner: &Address,
    ) -> Result<Arc<Mutex<Principal>>, StoreError> {
        let one = self.turn_to_load(owner);
        let turn = one.lock().await;
        let known = self.entries.get(owner).map(|entry| entry.value().clone());
        let loaded = match known {
            Some(entry) => Ok(entry),
            None => self.load_now(owner).await,
        };
        drop(turn);
        self.end_turn_to_load(owner, one);
        loaded
    }

    /// Who has this reads a principal, or takes away what is stored of it, and nobody else does.
    pub(super) fn turn_to_load(&self, owner: &Address) -> Turn {
        self.loading.entry(owner.clone()).or_default().clone()
    }

    /// One has had it: who waits for it still has it next.
    pub(super) fn end_turn_to_load(&self, owner: &Address, turn: Turn) {
        drop(turn);
        self.loading.remove_if(owner, |_, turn| Arc::strong_count(turn) == 1);
    }

    async fn load_now(
        self: &Arc<Self>,
        owner: &Address,
    ) -> Result<Arc<Mutex<Principal>>, StoreError> {
        let Ground { settings, clock, store, .. } = &self.ground;
        // Noted first: what changes from here on it does not know.
        let surroundings = self.surroundings.now();
        let (config, now) = (settings.load_full(), clock.now());
        let around = Circumstances {
            now,
            ahead: clock.ahead(),
            pace: pace_limit(&config.times),
            recovering_until: self.recovering_until(now),
            crash: self.crash(now),
            domain: config.domain_policy(owner.domain_str()),
            first_rules: self.first_rules.of(&owner.domain()),
        };
        let (mut principal, ended) = load(&**store, owner, around).await?;
        principal.surroundings = surroundings;
        if !self.stays(owner) {
            return Ok(Arc::new(Mutex::new(principal)));
        }
        // Whoever was first has the newer state.
        match self.entries.entry(owner.clone()) {
            Entry::Occupied(entry) => Ok(entry.get().clone()),
            Entry::Vacant(vacant) => {
                let entry = Arc::new(Mutex::new(principal));
                let mut principal = entry.lock();
                let all = principal.presentity.watchers().map(|(watcher, _)| watcher.clone());
                self.note(owner, &principal, &all.collect::<Vec<_>>());
                vacant.insert(entry.clone());
                self.follow_up(owner, &entry, &mut principal, ended, now);
                drop(principal);
                // What has changed while it was read has not found it.
                drop(self.enter(owner, &entry));
                Ok(entry)
            }
        }
    }
}

/// Whose turn it is at a principal that is not in memory.
pub(super) type Turn = Arc<tokio::sync::Mutex<()>>;

/// Watchers that are read in one piece: nobody else waits for very many.
const READ_AT_ONCE: usize = 256;

/// How fast presence is shown changing.
pub fn pace_limit(times: &Times) -> PaceLimit {
    let (burst, millis) = match thing(What::Presence).pace {
        Some(Pace::Newest) => (times.pace_burst, times.pace_milliseconds),
        Some(Pace::Each | Pace::Seldom) | None => (u64::MAX / 2, 0),
    };
    PaceLimit { burst, interval: Duration::from_millis(millis) }
}

/// What a principal needs to know of the server to be loaded.
#[derive(Clone, Debug)]
struct Circumstances {
    /// The time.
    now: Timestamp,
    /// How far ahead of it the clock on the wall is, in milliseconds.
    ahead: i64,
    /// How fast presence may be shown changing.
    pace: PaceLimit,
    /// The end of the recovery window, if the server before this one crashed.
    recovering_until: Option<Timestamp>,
    /// What is recovered from then, by when that was begun.
    crash: Option<Timestamp>,
    /// What its domain lays down.
    domain: Arc<DomainPolicy>,
    /// What its rules are as long as it has put none.
    first_rules: RulesRead,
}

/// Reads a principal from the store; and what of it has ended since it was stored, which is to be
/// stored in its turn.
///
/// # Errors
/// [`StoreError`], also where a record is damaged; it names the record.
async fn load(
    store: &dyn Store,
    owner: &Address,
    around: Circumstances,
) -> Result<(Principal, Effects), StoreError> {
    let (ahead, domain) = (around.ahead, around.domain);
    let policy = load_policy(store, owner, around.first_rules).await?;
    let policy = Policy { ahead, domain, ..policy };
    let layers = load_layers(store, owner, around.crash).await?;
    let mut watchers = HashMap::default();
    for (count, (key, record)) in scan(store, owner, WATCHER).await?.into_iter().enumerate() {
        if count > 0 && count.is_multiple_of(READ_AT_ONCE) {
            tokio::task::yield_now().await;
        }
        let address = other_of(owner, WATCHER, &key)?;
        let record: WatcherRecord = parsed(owner, WATCHER, &key, &record)?;
        let kept = record
            .kept()
            .ok_or_else(|| damaged(owner, WATCHER, &key, "unknown state or device"))?;
        // It is made anew when the layers are there.
        let decision = policy.decide(owner, &address, around.now, Sphere::Lost, Some(kept.state));
        watchers.insert(address, Watching::restored(&kept, decision, around.now));
    }
    let Circumstances { now, pace, recovering_until, .. } = around;
    let (presentity, ended) =
        Presentity::restored(owner.clone(), policy, layers, watchers, now, pace, recovering_until);
    let (held, inbox) = (load_held(store, owner).await?, load_inbox(store, owner).await?);
    Ok((Principal::new(presentity, held, inbox), ended))
}

async fn load_held(store: &dyn Store, owner: &Address) -> Result<HeldMessages, StoreError> {
    let mut held = HeldMessages::default();
    // One that cannot be read sets nothing aside.
    for (key, record) in salvage(store, owner, ASIDE).await?.records {
        let domain = records::last_part(&key).and_then(|text| Domain::parse(text).ok());
        if let (Some(domain), Ok(upto)) = (domain, records::from_bytes(&record.value)) {
            held.aside_before(&domain, upto);
        }
    }
    // One that cannot be read is never moved, so nothing waits behind it.
    for (key, record) in salvage(store, owner, HELD).await?.records {
        let from = records::parts(&key).nth(1).unwrap_or_default();
        let from = Address::parse_canonical(from)
            .map_err(|error| damaged(owner, HELD, &key, &error.to_string()))?;
        held.add(Asker::of(owner, &from, false), record.version);
    }
    // Who they are is in the keys.
    let Salvaged { records, damaged, .. } = salvage(store, owner, DECIDED).await?;
    for key in records.into_iter().map(|(key, _)| key).chain(damaged) {
        let from = records::last_part(&key).map(Address::parse_canonical);
        from.and_then(Result::ok).iter().for_each(|from| held.decided(from));
    }
    Ok(held)
}

async fn load_inbox(store: &dyn Store, owner: &Address) -> Result<InboxShares, StoreError> {
    let mut inbox = match store.log_state(owner.clone()).await {
        // What others see of the owner does not hang on the log.
        Err(StoreError::Damaged { .. }) => InboxShares::default(),
        log => log.map(|log| InboxShares::of(log.last, log.custody))?,
    };
    // One that cannot be read does not count.
    for (key, record) in salvage(store, owner, DROPPED).await?.records {
        let mut parts = records::parts(&key).skip(1);
        let at = parts.next().and_then(|at| u64::from_str_radix(at, 16).ok());
        let from = parts.next().and_then(|from| Address::parse_canonical(from).ok());
        let id = parts.next().and_then(|id| id.parse().ok());
        if let (Some(at), Some(from), Some(id)) = (at, from, id)
            && let Ok(size) = records::from_bytes(&record.value)
        {
            inbox.restored(&from, Dropped { id, at, size });
        }
    }
    Ok(inbox)
}

async fn load_policy(
    store: &dyn Store,
    owner: &Address,
    first_rules: RulesRead,
) -> Result<Policy, StoreError> {
    let (read, number) = match store.get(records::place::rules(owner).key()).await? {
        Some(record) => {
            let text = String::from_utf8_lossy(&record.value);
            let read = RulesRead::parse(&text);
            (read.map_err(|error| damaged(owner, RULES, b"", &error.to_string()))?, record.version)
        }
        None => (first_rules, 0),
    };
    let mut contacts = BTreeMap::new();
    for (key, record) in scan(store, owner, CONTACT).await? {
        let address = other_of(owner, CONTACT, &key)?;
        let record: ContactRecord = parsed(owner, CONTACT, &key, &record)?;
        contacts.insert(address, record.into());
    }
    let (contacts, history) = (Arc::new(contacts), Arc::new(load_history(store, owner).await?));
    Ok(Policy { contacts, history, ..Policy::new(read.rules, read.text, number) })
}

async fn load_history(store: &dyn Store, owner: &Address) -> Result<History, StoreError> {
    let (mut traces, mut floor) = (BTreeMap::new(), 0);
    for (key, record) in scan(store, owner, TRACE).await? {
        if records::last_part(&key) == Some(FLOOR) {
            floor = parsed(owner, TRACE, &key, &record)?;
            continue;
        }
        let trace: TraceRecord = parsed(owner, TRACE, &key, &record)?;
        traces.insert(other_of(owner, TRACE, &key)?, trace.into());
    }
    Ok(History::restored(traces, floor))
}

async fn load_layers(
    store: &dyn Store,
    owner: &Address,
    crash: Option<Timestamp>,
) -> Result<Layers, StoreError> {
    let mut layers = Layers::after(crash);
    for (key, record) in scan(store, owner, LAYER).await? {
        let layer: LayerRecord = parsed(owner, LAYER, &key, &record)?;
        let device = records::last_part(&key).and_then(|id| id.parse().ok());
        let document =
            BASE64.decode(&layer.document).ok().and_then(|b| Document::decode(b.into()).ok());
        let by = layer.by.as_deref().map(Address::parse_canonical).transpose();
        let (Some(device), Some(document), Ok(by)) = (device, document, by) else {
            return Err(damaged(owner, LAYER, &key, "device, delegate or document unreadable"));
        };
        let (until, crash) = (layer.until, layer.crash.map(Timestamp::from_millis));
        let until = Timestamp::from_millis(until);
        layers.restore_by(by, device, document, until, layer.order, crash);
    }
    Ok(layers)
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
