//! Removing an account: its name stays taken, everything it had goes, its watchers are told.
//!
//! That takes many steps. The first one takes the account away and notes that the others are to follow;
//! the last one takes the note away. What is cut short between the two, by a crash or a store that says
//! no, is finished at the next start, before anybody is let in, or when it is asked for again.

use impp_presence::Change;
use impp_protocol::command::ByeReason;
use impp_protocol::state::SubscriptionEvent;
use impp_protocol::{Address, Error, Timestamp};
use impp_storage::{Expect, Op, Payer, RecordKey, Salvaged, StoreError, Unit};

use super::Administration;
use crate::core::accounts::AccountError;
use crate::core::keeping::{self, scan};
use crate::core::records::{self, AccountState};

/// Removes an account, or what is left of one.
pub(super) async fn remove(
    server: &Administration,
    address: &Address,
    now: Timestamp,
) -> Result<(), AccountError> {
    let note = note(address)?;
    let is_left = server.accounts.get(address).is_none()
        && server.accounts.is_local(address)
        && server.store.get(note.clone()).await?.is_some();
    if !is_left {
        let state = Some(AccountState::Removed);
        let value = Some(records::to_bytes(&now.as_millis()));
        let begun = vec![
            Op::Purge { owner: address.clone() },
            Op::Put { key: note, expect: Expect::Any, value },
        ];
        server.accounts.change(&*server.store, now, address, state, None, begun).await?;
    }
    finish(server, address).await
}

/// Finishes what was cut short. What cannot be finished is told in the log, and stays noted.
///
/// # Errors
/// The store's, if it cannot be read what there is.
pub async fn finish_all(server: &Administration) -> Result<(), StoreError> {
    let RecordKey { domain, table, key: prefix } = named("")?;
    let Salvaged { records, damaged, unsure } =
        keeping::all(&*server.store, &domain, table).await?;
    if unsure || !damaged.is_empty() {
        // Nobody is kept out by it; what was cut short is finished when it is asked for again.
        tracing::error!(
            "the store is damaged: maybe not all removals that were cut short are known"
        );
    }
    for (key, _) in records.into_iter().filter(|(key, _)| key.starts_with(&prefix)) {
        let address = records::last_part(&key).map(Address::parse_canonical);
        // Of a domain that is not hosted now it stays noted.
        let Some(Ok(address)) = address else { continue };
        if !server.accounts.is_local(&address) {
            continue;
        }
        match finish(server, &address).await {
            Ok(()) => tracing::info!(%address, "the removal of an account is finished"),
            Err(error) => {
                tracing::error!(%address, %error, "the removal of an account is not finished");
            }
        }
    }
    Ok(())
}

/// All steps but the first; each may have been done already.
async fn finish(server: &Administration, address: &Address) -> Result<(), AccountError> {
    server.live.end_all(address, ByeReason::Revoked, "the account was removed").await;
    // What it followed.
    for (key, _) in scan(&*server.store, address, records::FOLLOWED).await? {
        let presentity = records::last_part(&key).map(Address::parse_canonical);
        let Some(Ok(presentity)) = presentity else { continue };
        // Who is closed by damage shows nobody anything, and the name is never given again.
        if server.accounts.is_closed(&presentity) {
            continue;
        }
        let ended = server.reach.end(&presentity, address, SubscriptionEvent::Timeout);
        let failed = |error: Error| {
            let reason = error.to_string();
            AccountError::Followed { presentity: presentity.clone(), reason }
        };
        ended.await.map_err(failed)?;
    }
    // What it has waiting for other domains.
    server.outgoing.forget_sender(address);
    // Who followed it.
    server.principals.change(address, Change::Close).await?;
    let own = records::key(records::RULES, address, &[]);
    let mut ops = vec![delete(own)];
    for table in records::OF_ACCOUNT {
        for (key, _) in scan(&*server.store, address, *table).await? {
            ops.push(delete(RecordKey { domain: address.domain(), table: *table, key }));
        }
    }
    // Also what was on its way when it began.
    ops.push(Op::Purge { owner: address.clone() });
    ops.push(delete(note(address)?));
    for chunk in ops.chunks(impp_storage::UNIT_OPS_MAX) {
        let unit = Unit::of(server.clock.now(), chunk.to_vec()).paid_by(Payer::Operator);
        server.store.submit(unit).await?;
    }
    server.principals.forget(address);
    Ok(())
}

/// Where it is noted that an account is being removed.
fn note(address: &Address) -> Result<RecordKey, StoreError> {
    named(address.as_str())
}

fn named(rest: &str) -> Result<RecordKey, StoreError> {
    records::meta(&format!("removing\0{rest}"))
}

fn delete(key: RecordKey) -> Op {
    Op::Put { key, expect: Expect::Any, value: None }
}
