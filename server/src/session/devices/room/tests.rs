//! Laws of making room, over accounts drawn at random.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

fn at(hours_ago: i64) -> Timestamp {
    Timestamp::from_millis(NOW.saturating_add_signed(-hours_ago * HOUR as i64))
}

/// An account: how many it may have, its devices, rooms made, the password.
#[derive(Clone, Debug)]
struct Drawn {
    max: usize,
    devices: Vec<Seen>,
    lease: Duration,
    made: Vec<Timestamp>,
    password: Option<Timestamp>,
}

impl Drawn {
    fn room(&self) -> Result<Room, NoRoom> {
        let Drawn { max, lease, made, password, .. } = self;
        let (now, max, lease, password) = (at(0), *max, *lease, *password);
        room(&self.devices, Around { now, max, lease, made, password })
    }

    fn device(&self, id: DeviceId) -> Seen {
        *self.devices.iter().find(|device| device.id == id).unwrap()
    }

    /// Whether nothing spares a device but others that have been unused longer.
    fn may_go(&self, device: &Seen) -> bool {
        let old = self.password.is_some_and(|changed| device.last < changed);
        !device.in_use && (old || apart(at(0), device.last) >= Duration::from_secs(7 * 86_400))
    }

    fn of_today(&self) -> usize {
        self.made.iter().filter(|time| apart(at(0), **time) < Duration::from_secs(86_400)).count()
    }
}

/// Times around the borders of 7 days, of a day and of now.
fn hours() -> impl Strategy<Value = i64> {
    prop_oneof![0..48i64, 160..176i64, -200..2000i64]
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let seen = (hours(), prop::bool::weighted(0.2));
    let (rooms, password) = (vec(hours(), 0..7), option::of(hours()));
    (1..6usize, vec(seen, 0..8), 1..60u64, rooms, password).prop_map(
        |(max, seen, days, made, password)| Drawn {
            max,
            devices: (1u8..)
                .zip(seen)
                .map(|(n, (hours, in_use))| Seen { id: DeviceId([n; 16]), last: at(hours), in_use })
                .collect(),
            lease: Duration::from_secs(days * 86_400),
            made: made.into_iter().map(at).collect(),
            password: password.map(at),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Nobody makes room where there is some, and whoever has all that may be gets none for free.
    #[test]
    fn there_is_room_exactly_below_the_most(drawn in drawn()) {
        prop_assert_eq!(drawn.room() == Ok(Room::Free), drawn.devices.len() < drawn.max);
    }

    /// No device goes that has a session, or was used within 7 days with the password of now.
    #[test]
    fn no_device_in_use_makes_room(drawn in drawn()) {
        if let Ok(Room::Of { device, .. }) = drawn.room() {
            prop_assert!(drawn.may_go(&drawn.device(device)));
        }
    }

    /// Of those that may go, it is the one unused longest.
    #[test]
    fn the_one_unused_longest_makes_room(drawn in drawn()) {
        if let Ok(Room::Of { device, .. }) = drawn.room() {
            let gone = drawn.device(device);
            let mut others = drawn.devices.iter().filter(|other| drawn.may_go(other));
            prop_assert!(others.all(|other| gone.last <= other.last));
        }
    }

    /// Four make room in a day, beside those whose lease has ended.
    #[test]
    fn four_make_room_in_a_day(drawn in drawn()) {
        match drawn.room() {
            Ok(Room::Of { device, counts }) => {
                let unused = apart(at(0), drawn.device(device).last);
                prop_assert_eq!(counts, unused < drawn.lease || unused < RECENT);
                prop_assert!(!counts || drawn.of_today() < 4);
            }
            Err(NoRoom::EnoughToday) => prop_assert!(drawn.of_today() >= 4),
            _ => {}
        }
    }

    /// Who is refused for use finds no device that may go.
    #[test]
    fn who_finds_all_used_has_none_that_may_go(drawn in drawn()) {
        if drawn.room() == Err(NoRoom::AllUsed) {
            prop_assert!(!drawn.devices.iter().any(|device| drawn.may_go(device)));
        }
    }
}

/// Twenty new devices in a row, an hour apart, take the places of four.
#[test]
fn a_row_of_new_devices_takes_four_places_a_day() {
    let mut devices: Vec<Seen> =
        (1..=16).map(|n| Seen { id: DeviceId([n; 16]), last: at(800), in_use: false }).collect();
    let (mut made, mut taken) = (Vec::new(), Vec::new());
    for n in 0..20u8 {
        let now = at(-i64::from(n));
        let around = Around { now, max: 16, lease: 9 * RECENT, made: &made, password: None };
        let Ok(Room::Of { device, counts: true }) = room(&devices, around) else { continue };
        devices.retain(|known| known.id != device);
        devices.push(Seen { id: DeviceId([100 + n; 16]), last: now, in_use: false });
        made = counted(now, &made).chain([now]).collect();
        taken.push(device.0[0]);
    }
    assert_eq!(taken, [1, 2, 3, 4]);
    assert_eq!(devices.len(), 16);
}

/// After the password was changed the devices of before make room though they were used just now,
/// and one that has signed in since does not.
#[test]
fn a_changed_password_frees_the_places_of_before() {
    let seen = |n, hours| Seen { id: DeviceId([n; 16]), last: at(hours), in_use: false };
    let (made, lease) = (&[][..], 9 * RECENT);
    let around = |password| Around { now: at(0), max: 2, lease, made, password };
    let devices = [seen(1, 0), seen(2, 5)];
    assert_eq!(room(&devices, around(None)), Err(NoRoom::AllUsed));
    let of = |n| Ok(Room::Of { device: DeviceId([n; 16]), counts: true });
    assert_eq!(room(&devices, around(Some(at(3)))), of(2));
    assert_eq!(room(&[seen(1, 0), seen(2, 1)], around(Some(at(3)))), Err(NoRoom::AllUsed));
}
