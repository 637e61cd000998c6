//! Lists that may be longer than a frame: they are answered in parts.

use bytes::Bytes;
use impp_protocol::command::Done;
use impp_protocol::schema::Map;
use impp_protocol::state;

/// Bytes of entries in one answer, at most.
const PART_BYTES_MAX: usize = 56 * 1024;

/// The entries behind the cursor `after` that fit one answer; `key` is what a cursor names, by
/// which the entries are sorted.
pub(in crate::session) fn part<T: Map>(
    entries: Vec<T>,
    after: Option<&Bytes>,
    key: impl Fn(&T) -> Bytes,
) -> (Vec<T>, Option<Bytes>) {
    let mut behind =
        entries.into_iter().filter(|entry| after.is_none_or(|after| key(entry) > *after));
    let (mut part, mut bytes) = (Vec::new(), 0);
    for entry in behind.by_ref() {
        bytes += state::encode(&entry).len() + 3;
        if bytes > PART_BYTES_MAX
            && let Some(last) = part.last()
        {
            let next = key(last);
            return (part, Some(next));
        }
        part.push(entry);
    }
    (part, None)
}

/// The same list in all its parts, in their order; one of them, if there is nothing in it.
pub(super) fn in_parts<T: Map>(entries: Vec<T>) -> Vec<Vec<T>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for entry in entries {
        let own = state::encode(&entry).len() + 3;
        if bytes + own > PART_BYTES_MAX && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += own;
        part.push(entry);
    }
    parts.push(part);
    parts
}

/// The answer that carries a list, or part of it.
pub(in crate::session) fn answer(content: Bytes, next: Option<Bytes>) -> Done {
    Done { content: Some(content), next, ..Done::empty() }
}

/// The key of an entry that is named by an address.
pub(in crate::session) fn by_address(address: &impp_protocol::Address) -> Bytes {
    Bytes::copy_from_slice(address.as_str().as_bytes())
}
