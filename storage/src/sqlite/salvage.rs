//! All records of one kind that can be read, where some cannot be.
//!
//! Where only values are damaged they are read where they stand. A search goes astray at a key that was
//! changed where it stands, so then the table is walked from its one end, and where a page ends that, from
//! the other. Good rows on either side of a changed key tell whether it can be one of those that are wanted.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use impp_protocol::Domain;

use super::digest::{RECORD, Verdict};
use super::fault::Fault;
use super::rows::{Answer, Rows, named, record};
use crate::{Record, Salvaged, Scan, Table};

/// The records of a kind by their keys; nothing for one that is damaged.
type Found = BTreeMap<Vec<u8>, Option<Record>>;

pub(crate) fn salvage(
    rows: Rows<'_>,
    domain: &Domain,
    table: Table,
    prefix: Vec<u8>,
) -> Answer<Salvaged> {
    // All of a kind is looked for by a start, which believes nothing.
    let near = (!prefix.is_empty()).then(|| where_they_stand(rows, domain, table, &prefix));
    if let Some(salvaged) = near.transpose()?.flatten() {
        return Ok(salvaged);
    }
    let (mut found, mut unsure) = (Found::new(), false);
    for down in [false, true] {
        let walked = walk(rows, (domain, table), down, &mut found, &mut unsure);
        match walked.map_err(|fault| fault.of(|| "records".into())) {
            Ok(()) => break,
            Err(Fault::Damaged(what)) => {
                rows.told.tell(&what);
                unsure = true;
            }
            Err(error) => return Err(error),
        }
    }
    let (mut records, mut damaged) = (Vec::new(), Vec::new());
    for (key, record) in found.into_iter().filter(|(key, _)| key.starts_with(&prefix)) {
        match record {
            Some(record) => records.push((key, record)),
            None => damaged.push(key),
        }
    }
    Ok(Salvaged { records, damaged, unsure })
}

/// Those of a range in which no key is damaged; nothing if one is.
fn where_they_stand(
    rows: Rows<'_>,
    domain: &Domain,
    table: Table,
    prefix: &[u8],
) -> Answer<Option<Salvaged>> {
    let (prefix, after, max) = (prefix.to_vec(), None, usize::MAX);
    let (range, mut salvaged) =
        (Scan { domain: domain.clone(), table, prefix, after, max }, Salvaged::default());
    let walked = rows.along(&range, |key, verdict, row| {
        if rows.may_use(verdict) {
            salvaged.records.push((key.to_vec(), record(row)?));
        } else {
            damaged(rows, domain, table, key);
            salvaged.damaged.push(key.to_vec());
        }
        Ok(())
    });
    match walked.map_err(|fault| fault.of(|| "records".into())) {
        Ok(()) => Ok(Some(salvaged)),
        Err(Fault::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Notes one that is.
fn damaged(rows: Rows<'_>, domain: &Domain, table: Table, key: &[u8]) {
    let name = named(domain.as_str(), table.0, key);
    rows.told.tell(&format!("{name}: it does not fit its digest"));
}

fn walk(
    rows: Rows<'_>,
    (domain, table): (&Domain, Table),
    down: bool,
    found: &mut Found,
    unsure: &mut bool,
) -> Answer<()> {
    let wanted = (domain.as_str().as_bytes(), i64::from(table.0));
    let mut statement = rows.connection.prepare_cached(&RECORD.walk(false, down))?;
    let mut all = statement.query([])?;
    // Where the last good row stands to those that are wanted; whether a changed key came since.
    let (mut last, end) = match down {
        false => (Ordering::Less, Ordering::Greater),
        true => (Ordering::Greater, Ordering::Less),
    };
    let mut changed = false;
    let mut before = None;
    while let Some(row) = all.next()? {
        let verdict = RECORD.check(row, 0)?;
        let has_key = matches!(verdict, Verdict::Right | Verdict::Wrong) || rows.may_use(verdict);
        if !has_key {
            rows.told.tell("record: the key of one does not fit its digest");
            changed = true;
            continue;
        }
        let place = (row.get_ref(0)?.as_str()?.as_bytes(), row.get_ref(1)?.as_i64()?);
        let here = (place.0.to_vec(), place.1, row.get_ref(2)?.as_blob()?.to_vec());
        // A page in another's place is walked through twice, and what that held not at all.
        if before.as_ref().is_some_and(|before| here.cmp(before) != end) {
            rows.told.tell("record: one stands where it does not belong");
            *unsure = true;
        }
        before = Some(here);
        let side = place.cmp(&wanted);
        *unsure |= changed && may_be_between(last, side);
        (last, changed) = (side, false);
        if side == Ordering::Equal {
            let key = row.get_ref(2)?.as_blob()?;
            if rows.may_use(verdict) {
                found.insert(key.to_vec(), Some(record(row)?));
            } else {
                damaged(rows, domain, table, key);
                found.insert(key.to_vec(), None);
            }
        }
    }
    *unsure |= changed && may_be_between(last, end);
    Ok(())
}

/// Whether what stands between two rows can be of those that are wanted.
fn may_be_between(one: Ordering, other: Ordering) -> bool {
    one != other || one == Ordering::Equal
}
