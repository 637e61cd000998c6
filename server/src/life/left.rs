//! Domains that have accounts in the store and no place in the configuration any more: a line that was
//! lost, or misspelt, would let them vanish without a word.

use impp_protocol::Domain;
use impp_storage::{Payer, Record, Store, StoreError, Unit};

use crate::core::clock::Clock;
use crate::core::keeping::all;
use crate::core::records::{self, ACCOUNT, AccountRecord, AccountState, place};

/// Names in the log each domain that was hosted once, still has accounts, and is not among `hosted`;
/// and notes which are, for the starts to come.
///
/// # Errors
/// The store's.
pub(super) async fn tell(
    store: &dyn Store,
    clock: &Clock,
    hosted: &[Domain],
) -> Result<(), StoreError> {
    let place = place::meta::domains()?;
    let noted = match store.get(place.key()).await {
        // Then it is as if this were the first start.
        Err(StoreError::Damaged { .. }) => None,
        noted => noted?,
    };
    let noted: Vec<String> =
        noted.and_then(|record| records::from_bytes(&record.value).ok()).unwrap_or_default();
    let mut now: Vec<String> = hosted.iter().map(ToString::to_string).collect();
    for name in noted.iter().filter(|name| !hosted.iter().any(|domain| domain.as_str() == **name)) {
        let Ok(domain) = Domain::parse(name) else { continue };
        let accounts = all(store, &domain, ACCOUNT).await?;
        // Of those that were removed only the name is left.
        let is_there = |record: &Record| {
            let account = records::from_bytes::<AccountRecord>(&record.value);
            account.map_or(true, |account| account.state != AccountState::Removed)
        };
        let there = accounts.records.iter().filter(|(_, record)| is_there(record)).count();
        let count = there + accounts.damaged.len();
        if count > 0 {
            tracing::warn!(
                %domain,
                accounts = count,
                "the store has accounts of a domain that the configuration does not name: nobody \
                 can sign in to them, nor reach them"
            );
            now.push(name.clone());
        }
    }
    now.sort();
    if now == noted {
        return Ok(());
    }
    let unit = Unit::of(clock.now(), vec![place.set(Some(&now))]).paid_by(Payer::Operator);
    store.submit(unit).await.map(drop)
}
