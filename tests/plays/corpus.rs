//! Frames that a client may send, to be cut and bent.

use bytes::Bytes;
use impp_protocol::command::{Ack, Ping};
use impp_protocol::presence::{FieldName, FieldsPatch, PartId, PartPatch, Patch};
use impp_protocol::{Command, What};
use impp_tests::peer::{fetch, first_auth, message, publish, subscribe};
use impp_tests::server::Profile;
use impp_tests::wire::{bytes_of, hello};

/// Everything before sign-in, in one flight.
pub(crate) fn opening() -> Vec<u8> {
    let profile = Profile { address: "alice@localhost".into(), password: "none".into() };
    let first = b"n,,n=alice@localhost,r=abcdefghijkl".to_vec();
    let auth = first_auth(&profile, 1, "SCRAM-SHA-256", first);
    [&bytes_of(0, hello())[..], &bytes_of(1, auth)].concat()
}

/// Frames of a signed-in alice.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    let commands: [Command; 6] = [
        message("bob@localhost", "hi").into(),
        publish("alice@localhost", What::Presence, Some(note("hi").encode())).into(),
        subscribe("bob@localhost", What::Presence).into(),
        fetch("alice@localhost", What::Log).into(),
        Ack { address: "alice@localhost".parse().unwrap(), cursor: Bytes::from_static(b"x") }
            .into(),
        Ping::empty().into(),
    ];
    commands.map(|command| bytes_of(9, command).to_vec()).into()
}

/// A patch that opens a tuple and sets the person's note.
pub(crate) fn note(text: &str) -> Patch {
    let set = |name: &str, value: &str| FieldsPatch {
        set: [(FieldName::parse(name).unwrap(), value.into())].into_iter().collect(),
        ..FieldsPatch::default()
    };
    Patch {
        person: set("note", text),
        tuples: [(PartId::parse("im").unwrap(), PartPatch::Change(set("status", "open")))].into(),
        ..Patch::default()
    }
}
