//! The caller's devices, and the layer of presence of the one that asks.

use std::sync::Arc;

use impp_protocol::command::{ByeReason, Done, Publish};
use impp_protocol::state::{self, Device, DeviceEdit, Devices};
use impp_protocol::{Code, Error, Timestamp};
use impp_storage::{Expect, Op, StoreError};

use super::{Handled, Session, Stored};
use crate::accounts::Account;
use crate::config::seconds;
use crate::host::{Host, bye};
use crate::principal::{hex, layer_op, scan, unhex};
use crate::records::{self, DEVICE, DeviceRecord};
use crate::sessions::DeviceId;

/// A device's last sign-in is stored at most so often.
const LAST_SEEN_SECONDS: u64 = 3600;

impl Session {
    pub(super) async fn fetch_devices(&mut self, host: &Arc<Host>) -> Handled {
        let records = scan(&*host.store, self.address(), DEVICE).await.stored()?;
        let entries = records.into_iter().filter_map(|(key, record)| {
            let id = records::last_part(&key).and_then(unhex)?;
            let device: DeviceRecord = records::from_bytes(&record.value).ok()?;
            let last_seen = Timestamp::from_millis(device.last_seen);
            let current = id == self.mailbox.device;
            Some(Device { id, name: device.name, last_seen, current })
        });
        let content = state::encode(&Devices { entries: entries.collect() });
        Ok(Done { content: Some(content), ..Done::empty() })
    }

    pub(super) async fn publish_devices(&mut self, host: &Arc<Host>, publish: Publish) -> Handled {
        let edit: DeviceEdit = state::decode(publish.content.unwrap_or_default())
            .map_err(|error| Error::new(Code::Malformed, format!("content: {error}")))?;
        let (owner, device) = (self.address().clone(), edit.remove);
        let key = records::key(DEVICE, &owner, &[&hex(&device)]);
        if host.store.get(key.clone()).await.stored()?.is_none() {
            return Err(Error::new(Code::NotFound, "there is no such device"));
        }
        let unpublish = host.change(&owner, |principal, now| {
            let (presentity, policy) = (&mut principal.presentity, &principal.policy);
            let mut effects = presentity.unpublish(now, device, policy);
            effects.ops.push(Op::Put { key, expect: Expect::Any, value: None });
            effects.ops.push(layer_op(&owner, device, None));
            ((), effects)
        });
        unpublish.await.stored()?;
        for mailbox in host.sessions.of(&owner) {
            if mailbox.device == device {
                let bye = bye(ByeReason::Revoked, "the device was removed");
                host.end_session(&mailbox, bye).await;
            }
        }
        Ok(Done::empty())
    }

    pub(super) async fn fetch_layer(&mut self, host: &Arc<Host>) -> Handled {
        self.needs_presence()?;
        let device = self.mailbox.device;
        let layer = host
            .look(self.address(), |principal, now| {
                let (document, lease) = principal.presentity.layers().of(device)?;
                let lease = crate::principal::until_of(lease).map(|until| until.since(now));
                Some((document, lease))
            })
            .await
            .stored()?;
        match layer {
            Some((document, lease)) => Ok(Done { content: Some(document), lease, ..Done::empty() }),
            None => Err(Error::new(Code::NotFound, "this device publishes nothing")),
        }
    }
}

/// Enters a device that signs in.
///
/// # Errors
/// full if the account has as many as it may, or the store's.
pub async fn enter_device(
    host: &Host,
    account: &Account,
    device: DeviceId,
    name: Option<String>,
) -> Result<(), Error> {
    let (owner, now) = (&account.address, host.clock.now());
    let key = records::key(DEVICE, owner, &[&hex(&device)]);
    let known: Option<DeviceRecord> = match host.store.get(key.clone()).await.stored()? {
        Some(record) => records::from_bytes(&record.value).ok(),
        None => None,
    };
    if let Some(known) = &known {
        let stale = now.since(Timestamp::from_millis(known.last_seen));
        let renamed = name.is_some() && known.name != name;
        if stale < seconds(LAST_SEEN_SECONDS) && !renamed {
            return Ok(());
        }
    } else {
        make_room(host, account).await?;
    }
    let record = DeviceRecord {
        name: name.or(known.and_then(|known| known.name)),
        last_seen: now.as_millis(),
    };
    let value = Some(records::to_bytes(&record));
    match host.store(vec![Op::Put { key, expect: Expect::Any, value }]).await {
        // Signing in does not depend on the disk: what was stored can still be read.
        Ok(_) | Err(StoreError::NoSpace | StoreError::Failed { .. }) => Ok(()),
        Err(error) => Err(error).stored(),
    }
}

/// Forgets devices that have not signed in for longer than their lease, if there are too many.
async fn make_room(host: &Host, account: &Account) -> Result<(), Error> {
    let config = host.config.load();
    let max = config.limits.devices_max as usize;
    let mut devices = scan(&*host.store, &account.address, DEVICE).await.stored()?;
    if devices.len() < max {
        return Ok(());
    }
    let ended = host.clock.now().before(seconds(config.times.device_lease_days * 86_400));
    devices.retain(|(_, record)| {
        records::from_bytes::<DeviceRecord>(&record.value)
            .is_ok_and(|device| Timestamp::from_millis(device.last_seen) < ended)
    });
    if devices.is_empty() {
        let text = format!("the account has {max} devices; remove one with `impp devices remove`");
        return Err(Error::new(Code::Full, text));
    }
    let domain = account.address.domain();
    let forget = devices.into_iter().map(|(key, _)| Op::Put {
        key: impp_storage::RecordKey { domain: domain.clone(), table: DEVICE, key },
        expect: Expect::Any,
        value: None,
    });
    host.store(forget.collect()).await.stored()?;
    Ok(())
}
