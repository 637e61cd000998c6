//! Removing an account: its name stays taken, everything it had goes, its watchers are told.
//!
//! That takes many steps. The first one takes the account away and notes that the others are to follow;
//! the last one takes the note away. What is cut short between the two, by a crash or a store that says
//! no, is finished at the next start, before anybody is let in, or when it is asked for again.

use impp_presence::Change;
use impp_protocol::command::ByeReason;
use impp_protocol::state::SubscriptionEvent;
use impp_protocol::{Address, Timestamp};
use impp_storage::{Op, Payer, Record, Salvaged, StoreError, Unit};

use super::Administration;
use crate::core::accounts::{AccountError, Accounts};
use crate::core::keeping;
use crate::core::principals::ChangeError;
use crate::core::records::place::{self, Raw};
use crate::core::records::{self, CONTACT, FOLLOWED, HELD, LAYER, WATCHER, WatcherRecord, logs};
use crate::reach::End;

/// Removes an account, or what is left of one; what could not be done, in words.
pub(super) async fn remove(
    server: &Administration,
    address: &Address,
    now: Timestamp,
) -> Result<Vec<String>, AccountError> {
    let note = place::meta::removing(Some(address))?;
    let is_left = server.accounts.get(address).is_none()
        && server.accounts.is_local(address)
        && server.store.get(note.key()).await?.is_some();
    if !is_left {
        let noted = note.set(Some(&now.as_millis()));
        let begun = vec![logs::purge(address), noted.clone()];
        match server.accounts.remove(&*server.store, now, address, begun).await {
            // Of what its log is said at the end.
            Err(AccountError::Store(StoreError::Damaged { .. })) => {
                server.accounts.remove(&*server.store, now, address, vec![noted]).await?;
            }
            begun => begun?,
        }
        server.metrics.accounts_closed.set(server.accounts.count_closed() as i64);
    }
    finish(server, address).await
}

/// Finishes what was cut short. What cannot be finished is told in the log, and stays noted.
///
/// # Errors
/// The store's, if it cannot be read what there is.
pub async fn finish_all(server: &Administration) -> Result<(), StoreError> {
    let begun = place::meta::removing(None)?.key();
    let Salvaged { records, damaged, unsure } =
        keeping::all(&*server.store, &begun.domain, begun.table).await?;
    if unsure || !damaged.is_empty() {
        // Nobody is kept out by it; what was cut short is finished when it is asked for again.
        tracing::error!(
            "the store is damaged: maybe not all removals that were cut short are known"
        );
    }
    for (key, _) in records.into_iter().filter(|(key, _)| key.starts_with(&begun.key)) {
        let address = records::last_part(&key).map(Address::parse_canonical);
        // Of a domain that is not hosted now it stays noted.
        let Some(Ok(address)) = address else { continue };
        if !server.accounts.is_local(&address) {
            continue;
        }
        match finish(server, &address).await {
            Ok(warnings) => {
                tracing::info!(%address, ?warnings, "the removal of an account is finished");
            }
            Err(error) => {
                tracing::error!(%address, %error, "the removal of an account is not finished");
            }
        }
    }
    Ok(())
}

/// All steps but the first; each may have been done already. What is damaged goes with the rest.
async fn finish(server: &Administration, address: &Address) -> Result<Vec<String>, AccountError> {
    server.live.end_all(address, ByeReason::Revoked, "the account was removed").await;
    let mut ops = unfollow(server, address).await?;
    // What it has waiting for other domains.
    server.outgoing.forget_sender(address);
    // What it says of others.
    server.principals.part_delegate(address, None).await?;
    let mut warnings = close(server, address).await?;
    ops.push(place::rules(address).delete());
    for table in records::OF_ACCOUNT {
        let found = keeping::salvage(&*server.store, address, *table).await?;
        if found.unsure {
            let table = table.0;
            warnings.push(format!(
                "the key of a record {table} of {} is damaged: if it was one of {address}, it stays",
                address.domain()
            ));
        }
        for key in keys(found) {
            if *table == WATCHER {
                ops.extend(other_end(&server.accounts, address, &key));
            }
            ops.push(place::found::<Raw>(&address.domain(), *table, key).delete());
        }
    }
    submit(server, ops).await?;
    let ended = place::meta::removing(Some(address))?.delete();
    // Also what was on its way when it began.
    let purge = logs::purge(address);
    match submit(server, vec![purge, ended.clone()]).await {
        // Which items are its own nobody knows.
        Err(StoreError::Damaged { what }) => {
            warnings.push(format!("what was in the inbox stays on the disk: {what}"));
            submit(server, vec![ended]).await?;
        }
        ended => ended?,
    }
    server.principals.forget(address);
    Ok(warnings)
}

/// Ends what it followed. Where the other end stands with somebody who cannot be read, nobody is told
/// anything: there it is only taken out of the store, by what is answered.
async fn unfollow(server: &Administration, address: &Address) -> Result<Vec<Op>, AccountError> {
    let mut ops = Vec::new();
    for key in keys(keeping::salvage(&*server.store, address, FOLLOWED).await?) {
        let presentity = records::last_part(&key).map(Address::parse_canonical);
        let Some(Ok(presentity)) = presentity else { continue };
        if is_unreadable(server, &presentity).await? {
            ops.push(place::watcher(&presentity, address).delete());
            continue;
        }
        let (watcher, event) = (address.clone(), SubscriptionEvent::Timeout);
        let end = End { watcher, event, with_account: true };
        if let Err(error) = server.reach.end(&presentity, end).await {
            return Err(AccountError::Followed { presentity, reason: error.to_string() });
        }
    }
    Ok(ops)
}

/// Whether somebody of this server is closed by damage.
async fn is_unreadable(
    server: &Administration,
    presentity: &Address,
) -> Result<bool, AccountError> {
    if server.accounts.is_closed(presentity) {
        return Ok(true);
    }
    if server.accounts.get(presentity).is_none() {
        return Ok(false);
    }
    match server.principals.look(presentity, |_, _| ()).await {
        Err(StoreError::Damaged { .. }) => Ok(true),
        looked => Ok(looked.map(|()| false)?),
    }
}

/// Tells those who followed it, and takes its end away from them.
async fn close(server: &Administration, address: &Address) -> Result<Vec<String>, AccountError> {
    let gone = Change::Close(SubscriptionEvent::Noresource);
    for all in [false, true] {
        match server.principals.change(address, gone.clone()).await {
            Err(ChangeError::Store(StoreError::Damaged { .. })) => {}
            // More watchers than the queue takes at once: what is stored of them goes with the rest, step by
            // step.
            Err(ChangeError::Store(StoreError::Busy)) => return Ok(Vec::new()),
            closed => return Ok(closed.map(|_| Vec::new())?),
        }
        submit(server, in_the_way(server, address, all).await?).await?;
    }
    Ok(vec!["who followed it is not told, and hears that it is gone by asking".to_owned()])
}

/// The end of what keeps it from being looked at. It goes anyhow, and nothing is shown by it any more.
/// Of the watchers those that cannot be read go first, and `all` if that was not enough: then a record
/// whose very key is damaged stands beside them.
async fn in_the_way(
    server: &Administration,
    address: &Address,
    all: bool,
) -> Result<Vec<Op>, StoreError> {
    let (store, domain) = (&*server.store, address.domain());
    let mut ops = vec![place::rules(address).delete()];
    for table in [CONTACT, LAYER, HELD] {
        for key in keys(keeping::salvage(store, address, table).await?) {
            ops.push(place::found::<Raw>(&domain, table, key).delete());
        }
    }
    let found = keeping::salvage(store, address, WATCHER).await?;
    let is_well = |record: &Record| {
        let read = records::from_bytes::<WatcherRecord>(&record.value);
        read.is_ok_and(|record| record.kept().is_some())
    };
    let go = found.records.into_iter().filter(|(_, record)| all || !is_well(record));
    for key in go.map(|(key, _)| key).chain(found.damaged) {
        ops.extend(other_end(&server.accounts, address, &key));
        ops.push(place::found::<Raw>(&domain, WATCHER, key).delete());
    }
    Ok(ops)
}

/// The end of the record of whom a watcher of this server follows, by the key of that of the watcher. It may
/// have been told of its end already, and that not have been stored.
fn other_end(accounts: &Accounts, address: &Address, key: &[u8]) -> Option<Op> {
    let watcher = Address::parse_canonical(records::last_part(key)?).ok()?;
    accounts.is_local(&watcher).then(|| place::followed(&watcher, address).delete())
}

/// Whatever they are, the operator pays; in steps that are small enough for what is kept for that.
async fn submit(server: &Administration, ops: Vec<Op>) -> Result<(), StoreError> {
    for chunk in ops.chunks(keeping::OPERATORS_OPS_MAX) {
        let unit = Unit::of(server.clock.now(), chunk.to_vec()).paid_by(Payer::Operator);
        server.store.submit(unit).await?;
    }
    Ok(())
}

/// The keys of what there is, damaged or not.
fn keys(found: Salvaged) -> impl Iterator<Item = Vec<u8>> {
    found.records.into_iter().map(|(key, _)| key).chain(found.damaged)
}
