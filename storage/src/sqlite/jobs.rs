//! What waits for the writer's thread, and how much of it goes into one commit.

use std::sync::mpsc::Receiver;

use super::room::{PAGE_BYTES, PARTS, RESERVE_BYTES, WAL_FRAMES_MAX};
use super::shared::Shared;
use crate::pending::Promise;
use crate::reserve::ACCOUNTS_SHARE;
use crate::unit::{Outcome, UNIT_BYTES_MAX, Unit};

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

/// Takes what waits behind the first job, up to the limits of a group.
pub(crate) fn gather(
    jobs: &Receiver<Job>,
    shared: &Shared,
    first: Job,
) -> (Vec<Waiting>, Option<Promise<()>>) {
    let mut group = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(job) = next {
        match job {
            Job::Unit(waiting) => {
                bytes += waiting.bytes;
                shared.leave(waiting.bytes);
                group.push(waiting);
            }
            Job::Close(promise) => return (group, Some(promise)),
        }
        let room = group.len() < GROUP_UNITS_MAX && bytes < GROUP_BYTES_MAX;
        next = if room { jobs.try_recv().ok() } else { None };
    }
    (group, None)
}

/// Most units of one transaction.
const GROUP_UNITS_MAX: usize = 4096;
/// A group takes no further unit from here on.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

const _: () = assert!(
    RESERVE_BYTES >= WAL_FRAMES_MAX * PAGE_BYTES + (GROUP_BYTES_MAX + UNIT_BYTES_MAX) as u64
);
// While the disk is full, no group brings more than what takes back.
const _: () = assert!(
    RESERVE_BYTES
        >= WAL_FRAMES_MAX * PAGE_BYTES + RESERVE_BYTES / ACCOUNTS_SHARE + RESERVE_BYTES / PARTS
);
