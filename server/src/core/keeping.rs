//! Storing: operations on their way to the disk, all records of an owner, and what the presence of an
//! owner has stored.
//!
//! What records hold is in `records`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use impp_acl::{Acting, By};
use impp_presence::{Change, Presentity, Saved, Saying, Write};
use impp_protocol::{Address, DeviceId, Domain, Timestamp};
use impp_storage::{
    Expect, Lane, Op, Outcome, Payer, Pending, Record, SCAN_ITEMS_MAX, Salvaged, Scan, Store,
    StoreError, Table, UNIT_OPS_MAX, Unit,
};

use crate::core::records::{
    self, ContactRecord, FOLLOWED, LayerRecord, TraceRecord, WatcherRecord,
    place::{self, Mark},
};

/// Who pays for what is stored.
#[derive(Clone, Debug, Default)]
pub struct Bill {
    /// With a part of the reserve, on a full disk.
    pub payer: Payer,
    /// With a share of the writer's queue, where it is not the one whose records these are: who asks
    /// pays, not who is asked.
    pub share: Option<Lane>,
}

/// What is on its way to the disk.
#[must_use]
pub struct Commits(Vec<Pending<Outcome>>);

/// How what was on its way came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// All of it is there; the versions of the records.
    All(Vec<u64>),
    /// Another change came first: nothing of it is there.
    Conflict,
    /// Not all of it is.
    Failed {
        /// Why.
        error: StoreError,
        /// Whether some of it is, or may be.
        partly: bool,
    },
}

impl Commits {
    /// Queues operations for the store, in order: as one unit, or in parts if they are more than a
    /// unit takes, as when very many watchers are concerned. A crash between two parts leaves records
    /// that are brought up to date when they are loaded.
    ///
    /// What an `owner` is named for is about nobody else, and takes its turn among others': all that is
    /// ever written to the same records is in that lane, or in none.
    pub fn submit(
        store: &dyn Store,
        now: Timestamp,
        mut ops: Vec<Op>,
        bill: &Bill,
        owner: Option<&Address>,
    ) -> Commits {
        let mut commits = Vec::new();
        let most = if bill.payer == Payer::Operator { OPERATORS_OPS_MAX } else { UNIT_OPS_MAX };
        while !ops.is_empty() {
            let rest = ops.split_off(ops.len().min(most));
            let lane = owner.cloned().map(Lane::Account);
            let Bill { payer, share } = bill.clone();
            let unit = Unit { lane, share, ..Unit::of(now, ops).paid_by(payer) };
            commits.push(store.submit(unit));
            ops = rest;
        }
        Commits(commits)
    }

    /// What is waited for together.
    pub fn all(all: impl IntoIterator<Item = Commits>) -> Commits {
        Commits(all.into_iter().flat_map(|commits| commits.0).collect())
    }

    /// Waits until all of it is there.
    ///
    /// # Errors
    /// The first [`StoreError`].
    pub async fn done(self) -> Result<(), StoreError> {
        match self.ended().await {
            Committed::All(_) | Committed::Conflict => Ok(()),
            Committed::Failed { error, .. } => Err(error),
        }
    }

    /// Waits for its end.
    pub async fn ended(self) -> Committed {
        let (mut all, mut conflict, mut failed) = (Vec::new(), false, None);
        let mut some = false;
        for commit in self.0 {
            match commit.await {
                Ok(Outcome::Committed { versions, .. }) => {
                    some = true;
                    all.extend(versions);
                }
                Ok(Outcome::Duplicate { .. }) => some = true,
                Ok(Outcome::Rejected(_)) => conflict = true,
                // Whether it was done is not known.
                Err(error @ (StoreError::Failed { .. } | StoreError::Stopped)) => {
                    some = true;
                    failed.get_or_insert(error);
                }
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        match (failed, conflict) {
            (Some(error), _) => Committed::Failed { error, partly: some },
            (None, true) => Committed::Conflict,
            (None, false) => Committed::All(all),
        }
    }
}

/// Who pays for what a permit allows, if the disk is full: whoever takes something back.
pub fn payer<S>(acting: &Acting<S>) -> Payer {
    match acting.by() {
        By::Oneself => Payer::Account(acting.owner().clone()),
        By::Delegate(mandate) => Payer::Account(mandate.delegate().clone()),
        // Who has no name, or comes from another domain, changes nothing by a permit.
        By::Anonymous | By::Elsewhere(_) | By::Administrator => Payer::Operator,
    }
}

/// Whose lane an address asks in: its own, or that of its domain if that is another.
pub fn lane_of(address: &Address, is_local: bool) -> Lane {
    match is_local {
        true => Lane::Account(address.clone()),
        false => Lane::Domain(address.domain()),
    }
}

/// Who asks for a change, if that is not the owner.
pub fn asker(change: &Change) -> Option<&Address> {
    match change {
        Change::Follow { watcher, .. } | Change::Release { watcher, .. } => Some(watcher),
        Change::ByDelegate(delegate, _) => Some(delegate),
        // The owner does it, or the watcher: rarely, and it takes something back.
        _ => None,
    }
}

/// Who pays for a change of a presentity.
pub fn payer_of(owner: &Address, presentity: &Presentity, change: &Change) -> Payer {
    match change {
        // An account that is disabled or removed: that is the operator's.
        Change::Withdraw | Change::Close(_) => Payer::Operator,
        Change::ByDelegate(_, Saying::Parts(None)) => Payer::Operator,
        Change::ByDelegate(delegate, Saying::TakesBack | Saying::Parts(Some(_))) => {
            Payer::Account(delegate.clone())
        }
        _ if change.takes_back(&presentity.policy().contacts) => Payer::Account(owner.clone()),
        _ => Payer::Nobody,
    }
}

/// The operations by which what presence has written is stored; `is_local` says which watchers have
/// their other end here.
pub fn operations(
    owner: &Address,
    writes: Vec<Write>,
    is_local: impl Fn(&Address) -> bool,
) -> Vec<Op> {
    let mut ops = Vec::new();
    for write in writes {
        match write {
            Write::Watcher(watcher, kept) => {
                let record = kept.as_ref().map(WatcherRecord::of);
                ops.push(place::watcher(owner, &watcher).set(record.as_ref()));
                if is_local(&watcher) {
                    let mark = record.map(|_| Mark {});
                    ops.push(place::followed(&watcher, owner).set(mark.as_ref()));
                }
            }
            Write::Layer(device, saved) => ops.push(layer(owner, device, saved)),
            Write::Contact(contact, entry) => {
                let record = entry.as_ref().map(ContactRecord::from);
                ops.push(place::contact(owner, &contact).set(record.as_ref()));
            }
            Write::Trace(contact, trace) => {
                let record = trace.as_ref().map(TraceRecord::from);
                ops.push(place::trace(owner, &contact).set(record.as_ref()));
            }
            Write::Floor(floor) => ops.push(place::floor(owner).set(Some(&floor))),
            Write::Rules(text, base) => {
                let expect = if base == 0 { Expect::Absent } else { Expect::Version(base) };
                let text = text.as_bytes().to_vec().into();
                // First, so that the version of the rules is the first one of the answer.
                ops.insert(0, place::rules(owner).put_bytes(expect, text));
            }
        }
    }
    ops
}

/// The operation that stores a leased layer, or deletes it.
pub fn layer(owner: &Address, device: DeviceId, saved: Option<Saved>) -> Op {
    let record = saved.map(|Saved { document, until, order, by, crash }| LayerRecord {
        order,
        by: by.map(|by| by.to_string()),
        crash: crash.map(Timestamp::as_millis),
        document: BASE64.encode(document),
        until: until.as_millis(),
    });
    place::layer(owner, device).set(record.as_ref())
}

/// Whom an owner follows by what outlives sessions.
///
/// # Errors
/// [`StoreError`].
pub async fn followed(store: &dyn Store, owner: &Address) -> Result<Vec<Address>, StoreError> {
    let records = scan(store, owner, FOLLOWED).await?;
    let presentity =
        |(key, _): &(Vec<u8>, _)| Address::parse_canonical(records::last_part(key)?).ok();
    Ok(records.iter().filter_map(presentity).collect())
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
    scan_of(store, owner, table, &[""]).await
}

/// The same of those whose keys go on like this.
///
/// # Errors
/// [`StoreError`].
pub async fn scan_of(
    store: &dyn Store,
    owner: &Address,
    table: Table,
    rest: &[&str],
) -> Result<Vec<(Vec<u8>, Record)>, StoreError> {
    let (mut all, max): (Vec<(Vec<u8>, Record)>, _) = (Vec::new(), SCAN_ITEMS_MAX);
    loop {
        let (domain, prefix) = (owner.domain(), records::prefix(owner, rest));
        let after = all.last().map(|(key, _)| key.clone());
        let part = store.scan(Scan { domain, table, prefix, after, max }).await?;
        let end = part.len() < max;
        all.extend(part);
        if end {
            return Ok(all);
        }
    }
}

/// All records of one kind of an owner where some may be damaged: those that can be read, and the keys of
/// those that cannot.
///
/// # Errors
/// [`StoreError`], but not that some are damaged.
pub async fn salvage(
    store: &dyn Store,
    owner: &Address,
    table: Table,
) -> Result<Salvaged, StoreError> {
    salvage_of(store, owner, table, &[""]).await
}

/// The same of those whose keys go on like this.
///
/// # Errors
/// [`StoreError`], but not that some are damaged.
pub async fn salvage_of(
    store: &dyn Store,
    owner: &Address,
    table: Table,
    rest: &[&str],
) -> Result<Salvaged, StoreError> {
    let records = match scan_of(store, owner, table, rest).await {
        Err(StoreError::Damaged { .. }) => {
            return store.salvage(owner.domain(), table, records::prefix(owner, rest)).await;
        }
        records => records?,
    };
    Ok(Salvaged { records, ..Salvaged::default() })
}

/// All records of one kind of a domain: those that can be read, and which cannot.
///
/// # Errors
/// [`StoreError`], but not that some are damaged.
pub async fn all(store: &dyn Store, domain: &Domain, table: Table) -> Result<Salvaged, StoreError> {
    let mut records: Vec<(Vec<u8>, Record)> = Vec::new();
    loop {
        let after = records.last().map(|(key, _)| key.clone());
        let (prefix, max) = (Vec::new(), PAGE);
        let range = Scan { domain: domain.clone(), table, prefix, after, max };
        let part = match store.scan(range).await {
            Err(StoreError::Damaged { .. }) => {
                return store.salvage(domain.clone(), table, Vec::new()).await;
            }
            part => part?,
        };
        let end = part.len() < PAGE;
        records.extend(part);
        if end {
            return Ok(Salvaged { records, ..Salvaged::default() });
        }
    }
}

/// Looks at all records of one kind of a domain that can be read, a page at a time; some maybe twice.
///
/// # Errors
/// [`StoreError`], but not that some are damaged.
pub async fn each(
    store: &dyn Store,
    domain: &Domain,
    table: Table,
    mut look: impl FnMut(&[u8], &[u8]),
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let (domain, prefix, max) = (domain.clone(), Vec::new(), PAGE);
        let range = Scan { domain: domain.clone(), table, prefix, after, max };
        let (part, end) = match store.scan(range).await {
            Err(StoreError::Damaged { .. }) => {
                (store.salvage(domain, table, Vec::new()).await?.records, true)
            }
            part => part.map(|part| {
                let end = part.len() < PAGE;
                (part, end)
            })?,
        };
        part.iter().for_each(|(key, record)| look(key, &record.value));
        if end {
            return Ok(());
        }
        after = part.into_iter().next_back().map(|(key, _)| key);
    }
}

/// Most operations of a unit that the operator pays for: each may be about another page, and on a full disk
/// all that one unit changes has to fit into the operator's part of the reserve.
pub const OPERATORS_OPS_MAX: usize = 64;
/// Records of a domain that are read at once; some are as large as a message.
const PAGE: usize = 256;
