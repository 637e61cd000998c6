//! Edits of the contact list in the client's outbox: what is changed while the server is away is changed
//! later, on the list as its person knew it, and never twice.

use std::net::Ipv4Addr;

use impp_tests::Server;
use impp_tests::cable::Cable;
use impp_tests::impp::{Impp, Ran};
use impp_tests::wait::eventually;
use serde_json::{Value, json};

use crate::outbox::through;

const BOB: &str = "bob@localhost";
const CAROL: &str = "carol@localhost";

fn outcomes(ran: &Ran) -> Vec<&str> {
    ran.objects.iter().map(|object| object["outcome"].as_str().unwrap()).collect()
}

/// What waits, and how far that has come.
fn waiting(impp: &Impp) -> Vec<Value> {
    let ran = impp.run(&["outbox"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.objects
}

/// The contact list, which is shown by that.
fn contacts(impp: &Impp) -> Vec<Value> {
    let ran = impp.run(&["contacts"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.objects
}

/// Of an entry of the list what edits say.
fn entry(impp: &Impp, address: &str) -> Option<(Value, Value, Value, Value)> {
    let found = contacts(impp).into_iter().find(|entry| entry["address"] == address)?;
    let of = |name: &str| found[name].clone();
    Some((of("name"), of("groups"), of("follow"), of("grants")))
}

/// Writes an edit down that cannot go now.
fn waits(impp: &Impp, edit: &[&str]) -> Ran {
    let ran = impp.run(&[&["contacts"], edit, &["--later", "--timeout", "1"]].concat());
    assert_eq!((ran.code, outcomes(&ran)), (0, vec!["waiting"]), "{ran:?}");
    assert!(ran.stderr.contains("goes with the next --later or `impp outbox send`"), "{ran:?}");
    ran
}

/// The server is away while edits are written: they go in their order, a name and a group to what the entry
/// is, and who is removed and then added is in the list and granted nothing. Messages go as well.
#[test]
fn edits_that_are_written_while_the_server_is_away_are_done_in_their_order() {
    let mut server = Server::quickstart();
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    assert_eq!(contacts(&alice).len(), 2);
    server.stop();
    let ran = waits(&alice, &["add", BOB, "--name", "Bobby", "--group", "work"]);
    assert!(ran.stderr.contains("you ask to see their presence"), "{ran:?}");
    let edit = &ran.objects[0]["edit"];
    assert_eq!((&edit["address"], &edit["name"]), (&json!(BOB), &json!("Bobby")), "{ran:?}");
    assert!(edit["base"].is_u64() && edit["tried"].is_null(), "{ran:?}");
    let ran = waits(&alice, &["remove", CAROL]);
    assert!(ran.stderr.contains("until then carol@localhost stays"), "{ran:?}");
    waits(&alice, &["add", CAROL, "--no-follow"]);
    let message = alice.run(&["send", BOB, "hello", "--later", "--timeout", "1"]);
    assert_eq!(outcomes(&message), ["waiting"]);
    // Who was never shown the list knows nothing that an edit could be made on.
    let blind = bob.run(&["contacts", "add", CAROL, "--name", "C", "--later", "--timeout", "1"]);
    assert_eq!((blind.code, blind.objects.len()), (2, 0), "{blind:?}");
    assert!(blind.stderr.contains("impp contacts list"), "{blind:?}");
    server.restart();
    let sent = alice.run(&["outbox", "send"]);
    assert_eq!(
        (sent.code, outcomes(&sent)),
        (0, vec!["done", "done", "done", "delivered"]),
        "{sent:?}"
    );
    assert_eq!(waiting(&alice), [] as [Value; 0]);
    let of = |name: Value, groups: Value, follow, grants| {
        Some((name, groups, json!(follow), json!(grants)))
    };
    assert_eq!(entry(&alice, BOB), of(json!("Bobby"), json!(["work"]), true, "all"));
    assert_eq!(entry(&alice, CAROL), of(Value::Null, json!([]), false, "none"));
    // Where the server is there they go at once, and say as much as others.
    let now = alice.run(&["contacts", "add", BOB, "--name", "B", "--later"]).one();
    assert_eq!((&now["name"], &now["grants"]), (&json!("B"), &json!("all")));
    for _ in 0..2 {
        let ran = alice.run(&["contacts", "remove", BOB, "--later"]);
        assert_eq!((ran.code, ran.objects.len()), (0, 0), "{ran:?}");
    }
    // What was done here is known: that makes an entry anew.
    server.stop();
    waits(&alice, &["add", BOB]);
    server.restart();
    assert_eq!(outcomes(&alice.run(&["outbox", "send"])), ["done"]);
    assert_eq!(entry(&alice, BOB), of(Value::Null, json!([]), true, "none"));
}

/// What one device has removed, an edit of another's that waited does not bring back, whatever that device
/// has read since but was not shown; its person is shown how it is, and then decides. Messages go meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_waited_is_held_against_the_list_as_it_was_shown() {
    let server = Server::quickstart();
    let cable = Cable::to(server.address(), Ipv4Addr::LOCALHOST).await;
    let laptop = Impp::of(&server, "alice");
    let phone = Impp::with_profile(&through(&server, "alice", &cable));
    contacts(&phone);
    cable.pull();
    waits(&phone, &["add", BOB, "--name", "Bobby"]);
    waits(&phone, &["add", CAROL, "--name", "Caro"]);
    let message = phone.run(&["send", BOB, "hello", "--later", "--timeout", "1"]);
    assert_eq!(outcomes(&message), ["waiting"]);
    assert_eq!(laptop.run(&["contacts", "remove", BOB]).code, 0);
    cable.plug();
    assert_eq!(phone.run(&["contacts", "add", CAROL, "--group", "work"]).code, 0);
    let dropped = |ran: &Ran| {
        assert_eq!((ran.code, outcomes(ran)[0]), (1, "dropped"), "{ran:?}");
        assert!(ran.stderr.contains("as it is now: bob@localhost is not in it"), "{ran:?}");
        assert!(ran.stderr.contains("impp contacts list"), "{ran:?}");
    };
    let sent = phone.run(&["outbox", "send"]);
    dropped(&sent);
    assert_eq!(outcomes(&sent), ["dropped", "done", "delivered"], "{sent:?}");
    // It stays, is not sent by itself, and where nothing was looked at since is dropped again.
    assert_eq!(phone.run(&["outbox", "send"]).objects.len(), 0);
    assert_eq!(waiting(&phone)[0]["outcome"], "dropped");
    assert_eq!(phone.run(&["outbox", "again", "1"]).code, 0);
    dropped(&phone.run(&["outbox", "send"]));
    assert_eq!(entry(&phone, BOB), None);
    assert_eq!(phone.run(&["outbox", "again", "1"]).code, 0);
    let sent = phone.run(&["outbox", "send"]);
    assert_eq!((sent.code, outcomes(&sent)), (0, vec!["done"]), "{sent:?}");
    let (name, _, _, grants) = entry(&laptop, BOB).unwrap();
    assert_eq!((name, grants), (json!("Bobby"), json!("none")));
}

/// What no time mends ends, and is told: no room in the list, no such service. Nothing else is held up by it,
/// and it stays until its writer says what is to become of it.
#[test]
fn an_edit_that_cannot_be_done_has_an_end_and_holds_up_nothing() {
    let mut server = Server::with().set("limits.contacts_max", 2).start();
    server.add("dave");
    let alice = Impp::of(&server, "alice");
    contacts(&alice);
    server.stop();
    let dave = "dave@localhost";
    waits(&alice, &["add", dave]);
    waits(&alice, &["add", BOB, "--name", "Bobby"]);
    let message = alice.run(&["send", BOB, "hello", "--later", "--timeout", "1"]);
    assert_eq!(outcomes(&message), ["waiting"]);
    server.restart();
    let sent = alice.run(&["outbox", "send"]);
    assert_eq!((sent.code, outcomes(&sent)), (1, vec!["failed", "done", "delivered"]), "{sent:?}");
    assert!(sent.stderr.contains("\"full\""), "{sent:?}");
    let left = waiting(&alice);
    assert_eq!((left.len(), &left[0]["outcome"]), (1, &json!("failed")), "{left:?}");
    // Who hears it at once has it in hand, and it is not kept.
    let now = alice.run(&["contacts", "add", dave, "--later"]);
    assert_eq!((now.code, waiting(&alice).len()), (1, 1), "{now:?}");
    assert_eq!(alice.run(&["contacts", "remove", CAROL]).code, 0);
    assert_eq!(alice.run(&["outbox", "again", "1"]).code, 0);
    assert_eq!(outcomes(&alice.run(&["outbox", "send"])), ["done"]);
    assert!(entry(&alice, dave).is_some());
    server.add_with("erin", "im");
    let erin = Impp::of(&server, "erin");
    contacts(&erin);
    server.stop();
    waits(&erin, &["add", BOB]);
    assert_eq!(
        outcomes(&erin.run(&["send", BOB, "hello", "--later", "--timeout", "1"])),
        ["waiting"]
    );
    server.restart();
    let sent = erin.run(&["outbox", "send"]);
    assert_eq!((sent.code, outcomes(&sent)), (1, vec!["failed", "delivered"]), "{sent:?}");
    assert_eq!(erin.run(&["outbox", "remove", "1"]).code, 0);
}

/// Bytes at the end of what comes back in a run, in which the answer stands.
const LAST_BYTES: u64 = 300;

/// E1: the program is killed with its edit done and the answer on its way, or before that: each is done once
/// in the end, and what was removed before is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn e1_an_edit_whose_program_is_killed_before_the_answer_is_done() {
    let server = Server::with().no_rates().start();
    let cable = Cable::to(server.address(), Ipv4Addr::LOCALHOST).await;
    let direct = Impp::of(&server, "alice");
    let alice = Impp::with_profile(&through(&server, "alice", &cable));
    let remove = ["contacts", "remove", BOB, "--later", "--timeout", "600"];
    let add = || assert_eq!(direct.run(&["contacts", "add", BOB]).code, 0);
    // The first time makes the device and takes longer.
    assert_eq!(alice.run(&remove).code, 0);
    add();
    let before = cable.bytes().1;
    assert_eq!(alice.run(&remove).code, 0);
    let whole = cable.bytes().1 - before;
    let mut unanswered = 0;
    for heard in (whole - LAST_BYTES..whole).step_by(30) {
        add();
        cable.silent_after(heard);
        let mut program = alice.begin(&remove);
        let look =
            async || (cable.is_silent() || program.try_wait().unwrap().is_some()).then_some(());
        eventually("nothing comes back", look).await;
        program.kill().unwrap();
        program.wait().unwrap();
        cable.plug();
        let left = waiting(&alice);
        let is_tried = left.iter().any(|one| one["edit"]["tried"].is_string());
        unanswered += u32::from(is_tried && entry(&direct, BOB).is_none());
        let sent = alice.run(&["outbox", "send"]);
        assert_eq!((sent.code, outcomes(&sent)), (0, vec!["done"; left.len()]), "{sent:?}");
        assert_eq!(waiting(&alice), [] as [Value; 0]);
        assert_eq!(entry(&direct, BOB), None);
    }
    assert!(unanswered > 0, "no program was killed between the edit and its answer");
}
