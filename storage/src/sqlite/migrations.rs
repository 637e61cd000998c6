//! The tables, and how they came to be: each step takes a database one version further.
//!
//! Carrying them out is left to `schema.rs`.

/// From here on rows have digests.
pub(crate) const SUMS_SINCE: u32 = 2;
/// From here on a store has a witness.
pub(crate) const WITNESS_SINCE: u32 = 3;
/// From here on logs and senders are counted.
pub(crate) const COUNTS_SINCE: u32 = 4;
/// From here on there is an index of conversations.
pub(crate) const TALK_SINCE: u32 = 5;

/// Each takes the database one version further; those that were released never change.
pub(super) const MIGRATIONS: &[&str] = &[V1, V2, V3, V4, V5];

/// Text of addresses and domains is canonical, so bytes compare right. An item's `seq` is the
/// rowid: items lie in the order of their coming, whosever they are, and a log is an index
/// over them. Numbers without a sign are stored by their bits.
pub(super) const V1: &str = "
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    incarnation BLOB NOT NULL,
    seq INTEGER NOT NULL,
    version INTEGER NOT NULL,
    dedup_floor INTEGER NOT NULL
) STRICT;
CREATE TABLE log (
    domain TEXT NOT NULL,
    local TEXT NOT NULL,
    id INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    last INTEGER NOT NULL,
    custody INTEGER NOT NULL,
    unacked_items INTEGER NOT NULL,
    unacked_bytes INTEGER NOT NULL,
    PRIMARY KEY (domain, local)
) STRICT, WITHOUT ROWID;
CREATE TABLE item (
    seq INTEGER PRIMARY KEY,
    log INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    time INTEGER NOT NULL,
    counts INTEGER,
    body INTEGER,
    head BLOB NOT NULL
) STRICT;
CREATE INDEX item_by_log ON item (log);
CREATE TABLE body (
    id INTEGER PRIMARY KEY,
    refs INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE TABLE record (
    domain TEXT NOT NULL,
    kind INTEGER NOT NULL,
    key BLOB NOT NULL,
    version INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (domain, kind, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE dedup (
    id BLOB NOT NULL,
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    digest BLOB NOT NULL,
    seqs BLOB NOT NULL,
    PRIMARY KEY (id, sender, recipient)
) STRICT, WITHOUT ROWID;
CREATE TABLE purged (
    log INTEGER PRIMARY KEY
) STRICT;
";

/// A digest for every row (`digest.rs`). Rows that were there get theirs later, a slice at a time
/// (`summing.rs`); until `summed` says that all have one, one without is as good as any.
///
/// `ALTER TABLE` would read each of these tables whole, as they are strict. A column at the end
/// changes nothing that is stored, so the words of the tables are changed instead, in the way that
/// SQLite's documentation of `ALTER TABLE` gives for this.
const V2: &str = "
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, char(10) || ') STRICT',
    ',' || char(10) || '    sum INTEGER' || char(10) || ') STRICT')
WHERE type = 'table' AND name IN ('item', 'body', 'purged');
UPDATE sqlite_schema SET sql = replace(sql, '    PRIMARY KEY (',
    '    sum INTEGER,' || char(10) || '    PRIMARY KEY (')
WHERE type = 'table' AND name IN ('log', 'record', 'dedup');
UPDATE sqlite_schema SET sql = replace(sql, char(10) || ') STRICT',
    ',' || char(10) || '    summed INTEGER NOT NULL DEFAULT 0,' || char(10) || '    sum INTEGER'
    || char(10) || ') STRICT')
WHERE type = 'table' AND name = 'meta';
PRAGMA schema_version = 1000;
PRAGMA writable_schema = RESET;
";

/// By what a copy that was put back is told (`place.rs`); no row until the first start with it.
const V3: &str = "
CREATE TABLE place (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    starts INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    put_away INTEGER,
    sum INTEGER
) STRICT;
";

/// What the owner of a log may lose, and what has been lost; how many ids of a sender are known. A log
/// of before has no row until it is written to and counted; ids of before are not counted, and
/// are swept within days.
const V4: &str = "
CREATE TABLE kept (
    log INTEGER PRIMARY KEY,
    items INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    sum INTEGER
) STRICT;
CREATE TABLE sender (
    address TEXT PRIMARY KEY,
    known INTEGER NOT NULL,
    sum INTEGER
) STRICT, WITHOUT ROWID;
";

/// Which items of a log are about whom (`talk.rs`), and up to where all items are in it. Of a store of
/// before none are, and they come in later, a slice at a time.
const V5: &str = "
CREATE TABLE talk (
    log INTEGER NOT NULL,
    other INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    sum INTEGER,
    PRIMARY KEY (log, other, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE listed (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    upto INTEGER NOT NULL,
    sum INTEGER
) STRICT;
";
