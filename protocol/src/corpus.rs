//! What fuzzing checks, as functions of bytes; the corpus is replayed through them as ordinary
//! tests.

use bytes::{Bytes, BytesMut};

use crate::command::{Command, Message, Request};
use crate::frame::{self, FRAME_BYTES_MAX};
use crate::presence::{Document, Patch};
use crate::schema::Map;
use crate::state;
use crate::thing::What;
use crate::{Address, Domain};

/// Reads bytes as a peer's: frames, commands, and what commands carry. What is read and written
/// again is the same, or it had unknown fields and is shorter.
///
/// # Panics
/// If it is not.
pub fn read_frames(bytes: &[u8]) {
    let mut input = BytesMut::from(bytes);
    while let Ok(Some(frame)) = frame::take(&mut input, FRAME_BYTES_MAX) {
        let before = frame.fields.clone();
        let Ok(request) = Request::decode(frame) else { continue };
        let after = request.encode();
        same_or_shorter(&before, &after.fields);
        assert_eq!(Request::decode(after).as_ref(), Ok(&request));
        read_content(&request.command);
    }
}

/// Reads text as an address; what is one is canonical, and itself again.
///
/// # Panics
/// If it is not.
pub fn read_address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(address) = Address::parse(text) {
        assert_eq!(Address::parse_canonical(address.as_str()).as_ref(), Ok(&address));
        assert_eq!(Address::new(address.local(), &address.domain()).as_ref(), Ok(&address));
    }
    if let Ok(domain) = Domain::parse(text) {
        assert_eq!(Domain::parse(domain.as_str()).as_ref(), Ok(&domain));
    }
}

fn read_content(command: &Command) {
    match command {
        Command::Publish(publish) => {
            let Some(content) = publish.content.clone() else { return };
            match publish.what {
                What::Presence => read_patch(content),
                What::Contacts => read::<state::ContactEdit>(content),
                What::Requests => read::<state::RequestEdit>(content),
                _ => {}
            }
        }
        Command::Notify(notify) => {
            let (snapshot, patch) = (notify.snapshot.clone(), notify.patch.clone());
            match (notify.what, snapshot, patch) {
                (What::Log, Some(page), _) => read::<state::Page>(page),
                (What::Requests, Some(all), _) => read::<state::Requests>(all),
                (What::Watchers, Some(all), _) => read::<state::Watchers>(all),
                (What::Watchers, None, Some(change)) => read::<state::Watchers>(change),
                (_, Some(document), _) => read_document(document),
                (_, None, Some(patch)) => read_patch(patch),
                _ => {}
            }
        }
        Command::Ok(done) => {
            let Some(content) = done.content.clone() else { return };
            read_document(content.clone());
            read::<state::Contacts>(content.clone());
            read::<state::Watchers>(content.clone());
            read::<state::Explanation>(content);
        }
        Command::Message(message) => {
            let encoded = message.encode();
            assert_eq!(Message::decode(encoded).as_ref(), Ok(message));
        }
        _ => {}
    }
}

fn read<T: Map + PartialEq + std::fmt::Debug>(bytes: Bytes) {
    let Ok(content) = state::decode::<T>(bytes.clone()) else { return };
    let again = state::encode(&content);
    same_or_shorter(&bytes, &again);
    assert_eq!(state::decode::<T>(again).as_ref(), Ok(&content));
}

fn read_document(bytes: Bytes) {
    let Ok(document) = Document::decode(bytes.clone()) else { return };
    same_or_shorter(&bytes, &document.encode());
    assert_eq!(Document::decode(document.encode()).as_ref(), Ok(&document));
}

fn read_patch(bytes: Bytes) {
    let Ok(patch) = Patch::decode(bytes.clone()) else { return };
    same_or_shorter(&bytes, &patch.encode());
    let mut document = Document::offline();
    if patch.apply(&mut document).is_ok() {
        assert_eq!(Document::decode(document.encode()).as_ref(), Ok(&document));
    }
}

/// Unknown fields are skipped and so not written again; nothing else may differ.
fn same_or_shorter(before: &[u8], after: &[u8]) {
    assert!(after == before || after.len() < before.len());
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    fn replay(target: &str, run: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut count = 0;
        for entry in fs::read_dir(folder).unwrap() {
            run(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "the corpus of {target} is empty");
    }

    #[test]
    fn the_corpus_of_frames() {
        replay("frame", super::read_frames);
    }

    #[test]
    fn the_corpus_of_addresses() {
        replay("address", super::read_address);
    }
}
