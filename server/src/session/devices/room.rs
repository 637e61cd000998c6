//! Which device makes room for a new one: pure, decided over what is known of all of an account.

use std::time::Duration;

use impp_protocol::{DeviceId, Timestamp};

/// A device that was used within so long is not taken away for another.
pub(super) const RECENT: Duration = Duration::from_secs(7 * DAY.as_secs());
/// So many devices make room in any [`DAY`], however many sign in: who has stolen a password, or a
/// program that draws a new device each time, does not clear out all that an owner has.
pub(super) const ROOMS_PER_DAY_MAX: usize = 4;
/// See [`ROOMS_PER_DAY_MAX`].
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// What is known of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The device.
    pub id: DeviceId,
    /// When it was last used.
    pub last: Timestamp,
    /// It has a session, with or without a connection.
    pub in_use: bool,
}

/// What else it depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    /// The time.
    pub now: Timestamp,
    /// Devices that the account may have.
    pub max: usize,
    /// A device that was not used for so long goes without being counted.
    pub lease: Duration,
    /// When devices made room that were counted.
    pub made: &'a [Timestamp],
    /// When the operator changed the password, if that was done. A device that was last used before
    /// has not shown that it knows the one of now, so that it is not spared for having been used.
    pub password: Option<Timestamp>,
}

/// Where a new device goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is room.
    Free,
    /// This one makes room.
    Of {
        /// The one unused longest.
        device: DeviceId,
        /// Whether that counts against [`ROOMS_PER_DAY_MAX`].
        counts: bool,
    },
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// All were used of late.
    AllUsed,
    /// As many as may have made room today.
    EnoughToday,
}

/// Where a new device goes. With more devices than may be, as when the setting was lowered, one
/// takes the place of one: nobody is locked out, and they do not become more.
///
/// # Errors
/// [`NoRoom`].
pub(super) fn room(devices: &[Seen], around: Around<'_>) -> Result<Room, NoRoom> {
    if devices.len() < around.max {
        return Ok(Room::Free);
    }
    let may_go = |device: &&Seen| {
        let superseded = around.password.is_some_and(|changed| device.last < changed);
        !device.in_use && (superseded || apart(around.now, device.last) >= RECENT)
    };
    let oldest = devices.iter().filter(may_go).min_by_key(|device| (device.last, device.id));
    let oldest = oldest.ok_or(NoRoom::AllUsed)?;
    let counts = apart(around.now, oldest.last) < around.lease.max(RECENT);
    if counts && counted(around.now, around.made).count() >= ROOMS_PER_DAY_MAX {
        return Err(NoRoom::EnoughToday);
    }
    Ok(Room::Of { device: oldest.id, counts })
}

/// Those times that still count.
pub(super) fn counted(now: Timestamp, made: &[Timestamp]) -> impl Iterator<Item = Timestamp> {
    made.iter().copied().filter(move |time| apart(now, *time) < DAY)
}

/// How far two times are apart, whichever is first: after a clock that ran ahead was set right, what
/// it wrote is no more of today than what is as long past.
pub(super) fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.since(b).max(b.since(a))
}

#[cfg(test)]
mod tests;
