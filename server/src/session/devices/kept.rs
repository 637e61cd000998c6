//! What is kept of an account beside its devices, by which it is decided who makes room: when some did,
//! and when the operator changed the password; and what is taken for true where it cannot be read.
//!
//! The worst is: never that nothing was there. It closes what hangs on it, and no more.

use impp_protocol::{Address, Error, Timestamp};
use impp_storage::{Expect, Payer, Record, StoreError};

use super::Devices;
use super::room::ROOMS_PER_DAY_MAX;
use crate::core::answers::Stored;
use crate::core::records::{self, RoomRecord, place};

/// When devices of an account made room.
pub(super) struct Made {
    /// Those that were kept.
    pub made: Vec<Timestamp>,
    /// That nobody has changed it since.
    pub expect: Expect,
}

impl Devices {
    /// When devices made room. `None` if that could not be read: it is written anew, as if as many had
    /// done so just now as may in a day, and can be read then.
    pub(super) async fn rooms_made(&self, owner: &Address) -> Result<Option<Made>, Error> {
        let found = match self.store.get(place::room_made(owner).key()).await {
            Err(StoreError::Damaged { .. }) => None,
            found => match found.stored()? {
                None => return Ok(Some(Made { made: Vec::new(), expect: Expect::Absent })),
                Some(Record { value, version }) => {
                    let expect = Expect::Version(version);
                    records::from_bytes(&value).ok().map(|RoomRecord { made }| {
                        let made = made.into_iter().map(Timestamp::from_millis).collect();
                        Made { made, expect }
                    })
                }
            },
        };
        if found.is_none() {
            tracing::error!(
                account = %owner,
                "when its devices made room could not be read: for a day none does, but one whose \
                 lease has ended or that is taken away"
            );
            let made = vec![self.clock.now().as_millis(); ROOMS_PER_DAY_MAX];
            // Whatever another has written meanwhile: this says no less.
            let ops = vec![place::room_made(owner).set(Some(&RoomRecord { made }))];
            self.store.submit(self.unit(owner, ops).paid_by(Payer::Operator)).await.stored()?;
        }
        Ok(found)
    }

    /// When the operator changed the password, if that was done.
    pub(super) async fn password_changed(
        &self,
        owner: &Address,
    ) -> Result<Option<Timestamp>, StoreError> {
        let record = self.store.get(place::room_password(owner).key()).await?;
        let read = |record: Record| {
            let read = records::from_bytes(&record.value).map(Timestamp::from_millis);
            read.map_err(|reason| StoreError::Damaged {
                what: format!("when the password of {owner} was changed: {reason}"),
            })
        };
        record.map(read).transpose()
    }

    /// Whether a device that was used then has shown to know the password of now: not if that may have
    /// been changed since.
    pub(super) async fn is_of_now(&self, owner: &Address, last: Timestamp) -> Result<bool, Error> {
        match self.password_changed(owner).await {
            Err(StoreError::Damaged { .. }) => Ok(false),
            changed => Ok(changed.stored()?.is_none_or(|changed| last >= changed)),
        }
    }
}
