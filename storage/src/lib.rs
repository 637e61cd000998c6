//! What survives a restart: logs of principals, records with versions, de-duplication.
//!
//! One trait, [`Store`], with two back ends: [`SqliteStore`] on disk, [`MemoryStore`] without.
//! What the records and items mean, who may read or change them, when to trim, and what the
//! network is told of an error are left to the callers. Nothing here reads a wall clock.
//!
//! | file | holds |
//! |---|---|
//! | `store.rs` | the trait, and what reads ask and answer |
//! | `unit.rs` | what is written: units, operations, outcomes, their limits |
//! | `plan.rs` | the one place that decides what a unit does; both back ends carry it out |
//! | `observed.rs` | what becomes of logs, for who has to know at once |
//! | `tails.rs` | the newest items of logs, in memory, for who follows them |
//! | `reserve.rs` | what may still be written on a full disk, and who pays for it |
//! | `memory.rs` | the back end without a disk |
//! | `sqlite/` | the back end on disk: directory, schema, writer, readers, room on the disk |

mod counts;
mod error;
mod memory;
mod observed;
mod page;
mod pending;
mod plan;
mod reserve;
mod sqlite;
mod store;
mod tails;
mod unit;

pub use error::{Lack, StoreError};
pub use memory::MemoryStore;
pub use observed::{LogChange, Observer};
pub use page::{About, DAMAGED_MAX, Damaged, Item, Page};
pub use pending::{Pending, Promise};
pub use reserve::Payer;
pub use sqlite::{
    Examined, Options, READERS_MAX, RESERVE_BYTES, Restored, SqliteStore, examine, glance,
};
pub use store::{
    Health, LogState, ReadBack, ReadLog, Record, RecordKey, SCAN_ITEMS_MAX, Salvaged, Scan, Stats,
    Store, Table,
};
pub use tails::Tails;
pub use unit::{
    Append, BODY_BYTES_MAX, Dedup, Expect, HEAD_BYTES_MAX, KEY_BYTES_MAX, Lane, Limit, Op, Outcome,
    Rejection, TRIM_ITEMS_MAX, UNIT_BYTES_MAX, UNIT_OPS_MAX, Unit, VALUE_BYTES_MAX,
};
