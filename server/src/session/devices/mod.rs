//! Devices of accounts: entering one that signs in, noting its use, and parting with one, whoever
//! asks for that: its owner, the operator, or a new device that needs its place.
//!
//! Which one makes room is decided in `room`; what a client may ask is left to `session`, what the
//! operator may to `control`.

mod kept;
mod known;
mod leases;
mod room;
mod why;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use impp_acl::{Acting, scope};
use impp_presence::Change;
use impp_protocol::command::{Bye, ByeReason};
use impp_protocol::state::{DeviceEvent, DeviceReport};
use impp_protocol::{Address, Code, DeviceId, Error, Timestamp, What};
use impp_storage::{Expect, Lane, Op, Outcome, Salvaged, Store, StoreError, Unit};

use crate::core::accounts::{Account, Accounts};
use crate::core::answers::{Stored, Unstored};
use crate::core::clock::Clock;
use crate::core::config::seconds;
use crate::core::ground::Ground;
use crate::core::keeping::{payer, salvage, scan};
use crate::core::principals::Principals;
use crate::core::records::logs::{device_gone, trimmed};
use crate::core::records::{self, DEVICE, DeviceRecord, RoomRecord, place};
use crate::core::sessions::Mailbox;
use crate::core::settings::Settings;
use crate::reach::Reach;
use crate::session::{Live, Rooms};
use kept::Made;
pub use known::Known;
use room::{Around, NoRoom, ROOMS_PER_DAY_MAX, Room, Seen, apart, counted, room};
use why::Why;

/// The last use of a device is stored at most so often.
const LAST_SEEN: Duration = Duration::from_secs(3600);
/// So often is tried again what others changed meanwhile. Each time one of those who try got it, so
/// it is as many as can sign in at once on one account.
const TRIES_MAX: usize = 64;

/// See the module.
pub struct Devices {
    store: Arc<dyn Store>,
    clock: Clock,
    settings: Arc<Settings>,
    accounts: Arc<Accounts>,
    principals: Arc<Principals>,
    live: Arc<Live>,
    reach: Arc<Reach>,
}

impl Devices {
    /// Of the accounts, principals and sessions of these rooms.
    pub fn new(ground: &Ground, rooms: &Rooms) -> Devices {
        let Ground { store, clock, settings, accounts, .. } = ground.clone();
        let Rooms { principals, live, reach, .. } = rooms.clone();
        Devices { store, clock, settings, accounts, principals, live, reach }
    }

    /// The devices of an account, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn all(&self, owner: &Address) -> Result<Vec<Known>, StoreError> {
        let records = scan(&*self.store, owner, DEVICE).await?;
        let known = records.iter().filter_map(|(key, record)| {
            let id = records::last_part(key)?.parse().ok()?;
            Some(Known::read(id, record))
        });
        Ok(known.collect())
    }

    /// The same, with those of which no more can be read than that they are there. It may read much.
    ///
    /// # Errors
    /// [`StoreError`], but not that some are damaged.
    pub async fn all_there(&self, owner: &Address) -> Result<Vec<Known>, StoreError> {
        let Salvaged { records, damaged, .. } = salvage(&*self.store, owner, DEVICE).await?;
        let id = |key: &[u8]| records::last_part(key)?.parse().ok();
        let known = records.iter().filter_map(|(key, record)| Some(Known::read(id(key)?, record)));
        let damaged = damaged.iter().filter_map(|key| Some(Known::damaged(id(key)?)));
        Ok(known.chain(damaged).collect())
    }

    /// Whether a device has signed in to an account before, and was not removed since.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_known(&self, owner: &Address, device: DeviceId) -> Result<bool, StoreError> {
        let key = place::device(owner, device).key();
        Ok(self.store.get(key).await?.is_some())
    }

    /// Enters a device that signs in, and answers when its use was last stored.
    ///
    /// # Errors
    /// full if the account has as many as it may and none makes room; busy; or the store's.
    pub async fn enter(
        &self,
        account: &Account,
        device: DeviceId,
        name: Option<String>,
    ) -> Result<Timestamp, Error> {
        let key = place::device(&account.address, device).key();
        for _ in 0..TRIES_MAX {
            let entered = match self.store.get(key.clone()).await.stored()? {
                Some(record) => {
                    let known = Known::read(device, &record);
                    self.returned(account, known, name.as_ref()).await?
                }
                None => self.newcomer(account, device, name.clone()).await?,
            };
            if let Some(seen) = entered {
                return Ok(seen);
            }
        }
        let text = "the devices of the account are being changed; try again";
        Err(Error::new(Code::Busy, text).retry_after(Duration::from_secs(1)))
    }

    /// A device that is known has signed in. `None` if it was changed meanwhile.
    async fn returned(
        &self,
        account: &Account,
        known: Known,
        name: Option<&String>,
    ) -> Result<Option<Timestamp>, Error> {
        let (now, last) = (self.clock.now(), known.last_seen());
        let renamed = name.is_some() && known.record.name.as_ref() != name;
        // Whoever signs in with a password that was changed within the hour has shown to know it.
        if apart(now, last) < LAST_SEEN
            && !renamed
            && self.is_of_now(&account.address, last).await?
        {
            return Ok(Some(last));
        }
        let expect = known.unchanged();
        let name = name.cloned().or(known.record.name);
        let place = place::device(&account.address, known.id);
        // On condition: what made room just now is not brought back.
        let put = place.put_if(expect, &DeviceRecord::new(name, now));
        entered(self.commit(&account.address, vec![put]).await, now)
    }

    /// A new device has signed in: it has its place, or that of another. `None` if the devices were
    /// changed meanwhile.
    async fn newcomer(
        &self,
        account: &Account,
        device: DeviceId,
        name: Option<String>,
    ) -> Result<Option<Timestamp>, Error> {
        let (owner, now) = (&account.address, self.clock.now());
        // Before the devices: who was entered since has changed it, and then this is tried again.
        let Some(Made { made, expect }) = self.rooms_made(owner).await? else { return Ok(None) };
        let known = self.all(owner).await.stored()?;
        let found = self.room_for(owner, &known, (now, &made)).await?;
        let counts = matches!(found, Room::Of { counts: true, .. });
        let made = counted(now, &made).chain(counts.then_some(now));
        let made = RoomRecord { made: made.map(Timestamp::as_millis).collect() };
        let entry = DeviceRecord::new(name.clone(), now);
        let ops = vec![
            place::device(owner, device).put_if(Expect::Absent, &entry),
            // Written by each new device, so that of two at once one sees the other.
            place::room_made(owner).put_if(expect, &made),
        ];
        let Some(gone) = (match found {
            Room::Free => None,
            Room::Of { device, .. } => known.into_iter().find(|known| known.id == device),
        }) else {
            return entered(self.commit(owner, ops).await, now);
        };
        let why = Why::MadeRoom { newcomer: device, name };
        Ok(self.part_with(owner, gone, why, ops).await.stored()?.then_some(now))
    }

    /// The room that there is for a new device beside these, when others have made room at such times.
    async fn room_for(
        &self,
        owner: &Address,
        known: &[Known],
        (now, made): (Timestamp, &[Timestamp]),
    ) -> Result<Room, Error> {
        let (config, in_use) = (self.settings.load(), self.in_use(owner));
        let max = config.limits.devices_max as usize;
        // Nobody needs it where there is room.
        let password = match known.len() < max {
            true => None,
            false => self.password_changed(owner).await.stored()?,
        };
        let known = known.iter().map(|known| (known.id, known.last_seen()));
        let seen = |(id, last)| Seen { id, last, in_use: in_use.contains(&id) };
        let devices: Vec<Seen> = known.map(seen).collect();
        let lease = seconds(config.times.device_lease_days * 86_400);
        let around = Around { now, max, lease, made, password };
        room(&devices, around).map_err(|why| full(owner, max, why))
    }

    /// Notes that a device is in use, where that is known no better than to the hour.
    pub async fn note_use(&self, mailbox: &Mailbox) {
        let now = self.clock.now();
        // What ends since the password or the device was taken away is no use of it.
        if mailbox.is_revoked() || !mailbox.take_use(now, LAST_SEEN) {
            return;
        }
        let place = place::device(&mailbox.account, mailbox.device);
        let noted = async {
            let Some(record) = self.store.get(place.key()).await? else { return Ok(()) };
            let known = Known::read(mailbox.device, &record);
            let expect = known.unchanged();
            let record = DeviceRecord::new(known.record.name, now);
            // Who changed it meanwhile has noted the use, or taken the device away.
            let put = place.put_if(expect, &record);
            self.commit(&mailbox.account, vec![put]).await.map(drop)
        };
        if let Err::<(), StoreError>(error) = noted.await {
            tracing::debug!(%error, "the use of a device could not be noted");
        }
    }

    /// Notes it beside what is asked, which does not wait for it.
    pub fn note_use_soon(self: &Arc<Self>, mailbox: &Arc<Mailbox>) {
        if mailbox.is_use_due(self.clock.now(), LAST_SEEN) {
            let (devices, mailbox) = (self.clone(), mailbox.clone());
            tokio::spawn(async move { devices.note_use(&mailbox).await });
        }
    }

    /// Takes a device away; whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove(
        &self,
        acting: &Acting<scope::Account>,
        device: DeviceId,
    ) -> Result<bool, StoreError> {
        let owner = acting.owner();
        let key = place::device(owner, device).key();
        for _ in 0..TRIES_MAX {
            let Some(record) = self.store.get(key.clone()).await? else { return Ok(false) };
            let known = Known::read(device, &record);
            if self.part_with(owner, known, Why::Removed(payer(acting)), Vec::new()).await? {
                return Ok(true);
            }
        }
        Err(StoreError::Busy)
    }

    /// The same of one that cannot be read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_damaged(
        &self,
        acting: &Acting<scope::Account>,
        known: Known,
    ) -> Result<(), StoreError> {
        let why = Why::Removed(payer(acting));
        match self.part_with(acting.owner(), known, why, Vec::new()).await? {
            true => Ok(()),
            false => Err(StoreError::Busy),
        }
    }

    /// Parts with a device: its record and its leased layer go, the log says so, and `more` is done in
    /// the same step; then what it shows ends, and its sessions. `false`, and nothing is changed, if the
    /// device or what `more` expects has changed meanwhile.
    async fn part_with(
        &self,
        owner: &Address,
        known: Known,
        why: Why,
        more: Vec<Op>,
    ) -> Result<bool, StoreError> {
        let (payer, makes_room) = (why.payer(), matches!(why, Why::MadeRoom { .. }));
        let device = known.id;
        let mut ops = vec![
            place::device(owner, device).delete_if(known.unchanged()),
            place::layer(owner, device).delete(),
        ];
        ops.extend(more);
        // Who has no inbox has no log to be told in.
        if self.accounts.get(owner).is_some_and(|account| account.services.im) {
            ops.push(device_gone(owner, &self.report(known, why)));
            ops.push(trimmed(owner, &self.settings.load().inbox, None));
        }
        // Its items are told to people, and trimmed, by the clock on the wall.
        let unit = self.unit(owner, ops).paid_by(payer);
        match self.store.submit(unit).await? {
            Outcome::Committed { .. } | Outcome::Duplicate { .. } => {}
            Outcome::Rejected(_) => return Ok(false),
        }
        for mailbox in self.live.sessions.of(owner) {
            if mailbox.device == device {
                let bye = Bye::new(ByeReason::Revoked, "the device was removed");
                self.live.end(&mailbox, bye).await;
            }
        }
        // After its sessions were told, so that none of them publishes behind this.
        let withdrawn = self.principals.change(owner, Change::Part(device));
        // The device is gone all the same, and its layer is not shown.
        if let Err(error) = withdrawn.await {
            error.unstored("the end of a layer");
        }
        self.live.sessions.thing_changed(owner, What::Log);
        let release = self.release(owner.clone(), device);
        match makes_room {
            // A sign-in has not the time to wait for it.
            true => drop(tokio::spawn(release)),
            false => release.await,
        }
        Ok(true)
    }

    /// The devices of an account that have sessions, parked ones too; but for those that are being ended.
    fn in_use(&self, owner: &Address) -> BTreeSet<DeviceId> {
        let mailboxes = self.live.sessions.of(owner).into_iter();
        mailboxes.filter(|mailbox| !mailbox.is_revoked()).map(|mailbox| mailbox.device).collect()
    }

    fn report(&self, known: Known, why: Why) -> DeviceReport {
        let (event, newcomer, newcomer_name) = match why {
            Why::Removed(_) => (DeviceEvent::Removed, None, None),
            Why::MadeRoom { newcomer, name } => (DeviceEvent::MadeRoom, Some(newcomer), name),
        };
        let (id, last_seen) = (known.id, self.last_seen(&known));
        DeviceReport { id, name: known.record.name, event, last_seen, newcomer, newcomer_name }
    }

    /// When a device was last used, as it is told.
    pub fn last_seen(&self, known: &Known) -> Timestamp {
        self.clock.told(known.last_seen())
    }

    async fn commit(&self, owner: &Address, ops: Vec<Op>) -> Result<Outcome, StoreError> {
        self.store.submit(self.unit(owner, ops)).await
    }

    /// In the owner's lane, as all that is ever written to these records, or in none.
    fn unit(&self, owner: &Address, ops: Vec<Op>) -> Unit {
        Unit::of(self.clock.wall(), ops).in_lane(Lane::Account(owner.clone()))
    }
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").finish_non_exhaustive()
    }
}

/// What it means to the sign-in how storing the device ended. Signing in does not depend on the
/// disk: what was stored can still be read.
fn entered(
    stored: Result<Outcome, StoreError>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    match stored {
        Ok(Outcome::Committed { .. } | Outcome::Duplicate { .. }) => Ok(Some(now)),
        Ok(Outcome::Rejected(_)) => Ok(None),
        Err(StoreError::NoSpace(_) | StoreError::Failed { .. }) => Ok(Some(now)),
        Err(error) => Err(error).stored(),
    }
}

/// The refusal, with the one way out that does not lead through the same door.
fn full(owner: &Address, max: usize, why: NoRoom) -> Error {
    let why = match why {
        NoRoom::AllUsed => "each was used within the last 7 days".to_owned(),
        NoRoom::EnoughToday => {
            format!("{ROOMS_PER_DAY_MAX} have made room for others in the last 24 hours")
        }
    };
    let text = format!(
        "the account has {max} devices, and {why}; remove one from a device that is signed in \
         (impp devices remove ID), or have the operator of the server do it: \
         imppd user devices {owner} --remove ID"
    );
    Error::new(Code::Full, text)
}

/// The operation that notes that the operator changed a password.
pub fn password_changed_op(owner: &Address, now: Timestamp) -> Op {
    place::room_password(owner).set(Some(&now.as_millis()))
}

#[cfg(test)]
mod tests;
