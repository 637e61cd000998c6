//! What waits for the writer's thread, and how much of it goes into one commit.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use rusqlite::Connection;

use super::home::Home;
use super::room::{PAGE_BYTES, PARTS, RESERVE_BYTES, Room, WAL_FRAMES_MAX};
use super::shared::Shared;
use super::turns::Turns;
use super::witness::Beholder;
use crate::pending::Promise;
use crate::reserve::ACCOUNTS_SHARE;
use crate::unit::{Lane, Outcome, UNIT_BYTES_MAX, Unit};

/// A unit in the queue.
pub(crate) struct Waiting {
    pub(crate) unit: Unit,
    /// What it was admitted for.
    pub(crate) bytes: usize,
    pub(crate) promise: Promise<Outcome>,
}

/// What the writer is asked.
pub(crate) enum Job {
    Unit(Waiting),
    Close(Promise<()>),
}

/// What of a store on disk the writer takes over.
pub(crate) struct Held {
    pub(crate) home: Home,
    pub(crate) connection: Connection,
    pub(crate) witness: Beholder,
    pub(crate) room: Room,
}

/// What the writer has taken over, and waits for its turn.
pub(crate) struct Queue {
    jobs: Receiver<Job>,
    turns: Turns<Waiting>,
    /// All that came before it is done first.
    close: Option<Promise<()>>,
    /// Whether the last group was of so many that more is on its way.
    busy: bool,
}

impl Queue {
    /// Of what comes in here.
    pub(crate) fn new(jobs: Receiver<Job>) -> Queue {
        Queue { jobs, turns: Turns::default(), close: None, busy: false }
    }

    /// Waits for something to do, for so long at most; without end if there is no `patience`.
    pub(crate) fn wait(&mut self, patience: Option<Duration>) -> Result<(), TryRecvError> {
        if !self.is_idle() {
            return Ok(());
        }
        let job = match patience {
            None => self.jobs.recv().map_err(|_| TryRecvError::Disconnected)?,
            Some(Duration::ZERO) => self.jobs.try_recv()?,
            Some(patience) => self.jobs.recv_timeout(patience).map_err(|error| match error {
                RecvTimeoutError::Timeout => TryRecvError::Empty,
                RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
            })?,
        };
        self.take(job);
        Ok(())
    }

    /// How long what waits now goes on waiting for more to come: under load a moment, so that one sync,
    /// and one write of each page, is for more of it.
    fn rest(&self) -> Duration {
        if self.busy && self.close.is_none() { GATHERED_MAX } else { Duration::ZERO }
    }

    /// Takes of what waits as much as goes into one group, the lanes in turns.
    pub(crate) fn gather(&mut self, shared: &Shared) -> Vec<Waiting> {
        // Asleep, and not at the queue: else each that comes would wake the thread.
        std::thread::sleep(self.rest());
        // All that is there: who came last may have nothing in front of it.
        while self.close.is_none()
            && let Ok(job) = self.jobs.try_recv()
        {
            self.take(job);
        }
        let (mut group, mut bytes) = (Vec::new(), 0);
        let mut lanes: HashMap<Lane, usize> = HashMap::new();
        while group.len() < GROUP_UNITS_MAX && bytes < GROUP_BYTES_MAX {
            // With something behind it that no lane passes, what a lane keeps for later holds up
            // everybody: then one long sync is shorter than many.
            let is_passed = self.turns.is_one_stretch();
            let may = |lane: &Lane| {
                !is_passed || lanes.get(lane).is_none_or(|used| *used < LANE_GROUP_BYTES_MAX)
            };
            let Some(waiting) = self.turns.pop(may) else { break };
            shared.leave(waiting.unit.takes_of(), waiting.bytes);
            bytes += waiting.bytes;
            if let Some(lane) = &waiting.unit.lane {
                *lanes.entry(lane.clone()).or_default() += waiting.bytes;
            }
            group.push(waiting);
        }
        // What found no place in it has waited enough.
        self.busy = group.len() >= BUSY_UNITS_MIN && self.turns.is_empty();
        group
    }

    /// Whether all is done that came before the end was asked for.
    pub(crate) fn closing(&mut self) -> Option<Promise<()>> {
        self.close.take_if(|_| self.turns.is_empty())
    }

    fn is_idle(&self) -> bool {
        self.turns.is_empty() && self.close.is_none()
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Unit(waiting) => {
                let lane = waiting.unit.lane.clone();
                self.turns.push(lane.as_ref(), waiting);
            }
            Job::Close(promise) => self.close = Some(promise),
        }
    }
}

/// So many that came together say that more is to come: two who write to each other by turns, and
/// acknowledge, are never so many, and each of their messages is committed when it comes.
const BUSY_UNITS_MIN: usize = 4;
/// So much later at most is an answer for the sake of others.
const GATHERED_MAX: Duration = Duration::from_millis(1);
/// Most units of one transaction.
const GROUP_UNITS_MAX: usize = 4096;
/// A group takes no further unit from here on.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Nor of one lane from here on: the others are answered after a sync that is not long because of it.
const LANE_GROUP_BYTES_MAX: usize = 256 * 1024;

const _: () = assert!(
    RESERVE_BYTES >= WAL_FRAMES_MAX * PAGE_BYTES + (GROUP_BYTES_MAX + UNIT_BYTES_MAX) as u64
);
// While the disk is full, no group brings more than what takes back.
const _: () = assert!(
    RESERVE_BYTES
        >= WAL_FRAMES_MAX * PAGE_BYTES + RESERVE_BYTES / ACCOUNTS_SHARE + RESERVE_BYTES / PARTS
);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use impp_protocol::{Address, Timestamp};

    use super::*;
    use crate::pending::Pending;

    /// The lanes of what goes into the first commit.
    fn first(waiting: &[(Option<u8>, usize)]) -> Vec<Option<Lane>> {
        let (jobs, queue) = channel();
        let (mut queue, shared) = (Queue::new(queue), Shared::new(true, None));
        ask(&jobs, &shared, waiting);
        queue.gather(&shared).into_iter().map(|waiting| waiting.unit.lane).collect()
    }

    fn ask(jobs: &Sender<Job>, shared: &Shared, waiting: &[(Option<u8>, usize)]) {
        for (of, bytes) in waiting {
            let lane = of.map(lane);
            assert!(shared.enter(lane.as_ref(), *bytes));
            let unit = Unit { lane, ..Unit::of(Timestamp::from_millis(0), Vec::new()) };
            let promise = Pending::promise().0;
            jobs.send(Job::Unit(Waiting { unit, bytes: *bytes, promise })).unwrap();
        }
    }

    fn lane(n: u8) -> Lane {
        Lane::Account(Address::parse(&format!("u{n}@a.example")).unwrap())
    }

    const LARGE: usize = 64 * 1024;

    #[test]
    fn who_writes_much_keeps_no_commit_for_itself() {
        let much = vec![(Some(1), LARGE); 40];
        let group = first(&[&much[..], &[(Some(2), 100)]].concat());
        assert_eq!(group.len(), LANE_GROUP_BYTES_MAX / LARGE + 1);
        assert!(group.contains(&Some(lane(2))));
    }

    /// As many of one lane as the queue takes of it, each of which takes that share; behind them one of
    /// another owner's, whatever it is: it is not held up for longer than one turn of each lane.
    #[test]
    fn a_lane_that_is_full_holds_up_nobody_in_another_for_more_than_a_turn() {
        let domain = |name: &str| Lane::Domain(impp_protocol::Domain::parse(name).unwrap());
        let (hostile, asks) = (lane(1), domain("evil.example"));
        let others: [(&str, Lane, Option<Lane>); 6] = [
            ("a message", lane(2), None),
            ("the barrier before what is held is looked at again", lane(2), Some(lane(3))),
            ("the same of another domain's", domain("b.example"), Some(lane(3))),
            ("what is released, or forgotten of a decision", lane(3), None),
            ("what is cleared of who is given up", lane(4), Some(domain("b.example"))),
            ("what a home says of a follower", lane(5), Some(domain("c.example"))),
        ];
        for fills in [(hostile.clone(), None), (asks.clone(), None), (hostile, Some(asks))] {
            let (jobs, queue) = channel();
            let (mut queue, shared) = (Queue::new(queue), Shared::new(true, None));
            let push = |(lane, share): (Lane, Option<Lane>), time| {
                let unit = Unit::of(Timestamp::from_millis(time), Vec::new());
                let unit = Unit { lane: Some(lane), share, ..unit };
                let fits = shared.enter(unit.takes_of(), 100);
                if fits {
                    let promise = Pending::promise().0;
                    jobs.send(Job::Unit(Waiting { unit, bytes: 100, promise })).unwrap();
                }
                fits
            };
            let full = (0..).take_while(|_| push(fills.clone(), 0)).count();
            assert!(full > 1000, "{full}");
            for (n, (what, lane, share)) in others.iter().enumerate() {
                let time = n as u64 + 1;
                assert!(push((lane.clone(), share.clone()), time), "{what} finds no room");
            }
            // Of these six two are behind another of their own lane.
            let turns = 2 * (1 + others.len());
            let first = queue.gather(&shared).into_iter().take(turns);
            let came: Vec<u64> = first.map(|one| one.unit.time.as_millis()).collect();
            for (n, (what, ..)) in others.iter().enumerate() {
                let time = n as u64 + 1;
                assert!(came.contains(&time), "{what} is held up by {fills:?}: {came:?}");
            }
        }
    }

    /// What has no lane passes nobody: then all that is in front of it goes at once.
    #[test]
    fn who_writes_much_holds_up_nobody_behind_what_has_no_lane() {
        let much = vec![(Some(1), LARGE); 40];
        let group = first(&[&much[..], &[(None, 100), (Some(2), 100)]].concat());
        assert_eq!(group.len(), 42);
    }

    /// Whoever is nearly alone is answered as soon as the disk has it; under load what comes gathers, but
    /// not where something has waited for its turn already.
    #[test]
    fn what_comes_gathers_under_load_only() {
        let (jobs, queue) = channel();
        let (mut queue, shared) = (Queue::new(queue), Shared::new(true, None));
        let mut rest_behind = |waiting: &[(Option<u8>, usize)]| {
            ask(&jobs, &shared, waiting);
            queue.gather(&shared);
            queue.rest()
        };
        assert_eq!(rest_behind(&[(Some(1), 100); 3]), Duration::ZERO);
        assert_eq!(rest_behind(&[(Some(1), 100); 4]), GATHERED_MAX);
        assert_eq!(rest_behind(&[(Some(1), 100)]), Duration::ZERO);
        assert_eq!(rest_behind(&[(Some(1), LARGE); 6]), Duration::ZERO);
    }
}
