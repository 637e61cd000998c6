//! The client's outbox: what is written while no server can be reached goes later, once, in its order.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use impp_tests::Server;
use impp_tests::cable::Cable;
use impp_tests::impp::{Impp, Ran};
use serde_json::Value;

/// What `outbox list` shows of each message: its number, its outcome, its text.
fn waiting(impp: &Impp) -> Vec<(u64, String, String)> {
    let ran = impp.run(&["outbox", "list"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let shown = |object: &Value| {
        (object["number"].as_u64().unwrap(), text(&object["outcome"]), text(&object["body"]))
    };
    ran.objects.iter().map(shown).collect()
}

fn inbox(impp: &Impp) -> Vec<String> {
    let ran = impp.run(&["inbox"]);
    let messages = ran.objects.iter().filter(|object| object["item"] == "message");
    messages.map(|object| object["body"].as_str().unwrap().to_owned()).collect()
}

fn outcomes(ran: &Ran) -> Vec<&str> {
    ran.objects.iter().map(|object| object["outcome"].as_str().unwrap()).collect()
}

/// The server is away while messages are written; when it is back they go before what is new.
#[test]
fn what_is_written_while_the_server_is_away_goes_once_and_in_order() {
    let mut server = Server::quickstart();
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    server.stop();
    for text in ["one", "two", "three"] {
        let ran = alice.run(&["send", "bob@localhost", text, "--later", "--timeout", "1"]);
        assert_eq!((ran.code, outcomes(&ran)), (0, vec!["waiting"]), "{ran:?}");
        assert!(ran.objects[0]["id"].is_null(), "it was not tried: {ran:?}");
        assert!(ran.objects[0]["cause"].is_string(), "{ran:?}");
    }
    let one = |number, text: &str| (number, "waiting".to_owned(), text.to_owned());
    assert_eq!(waiting(&alice), [one(1, "one"), one(2, "two"), one(3, "three")]);
    let sent = alice.run(&["outbox", "send", "--timeout", "1"]);
    assert_eq!((sent.code, outcomes(&sent)), (3, vec!["waiting"; 3]), "{sent:?}");
    assert_eq!(alice.run(&["outbox", "remove", "2"]).code, 0);
    assert_eq!(alice.run(&["outbox", "remove", "2"]).code, 1);
    server.restart();
    let ran = alice.run(&["send", "bob@localhost", "four", "--later"]);
    assert_eq!((ran.code, outcomes(&ran)), (0, vec!["delivered"]), "{ran:?}");
    assert_eq!(waiting(&alice), []);
    assert_eq!(inbox(&bob), ["one", "three", "four"]);
    assert_eq!(alice.run(&["outbox", "send"]).code, 0);
}

/// Who is answered no hears it at once, or finds it in the list if nobody listened; it is not sent again
/// by itself, and holds up nothing.
#[test]
fn what_is_refused_is_told_and_kept_where_nobody_heard() {
    let mut server = Server::quickstart();
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    let now = alice.run(&["send", "nobody@localhost", "now", "--later"]);
    assert_eq!((now.code, now.objects.len()), (1, 0), "{now:?}");
    assert!(now.stderr.contains("\"not-found\""), "{now:?}");
    assert_eq!(waiting(&alice), []);
    server.stop();
    for to in ["nobody@localhost", "bob@localhost"] {
        let ran = alice.run(&["send", to, to, "--later", "--timeout", "1"]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    server.restart();
    let sent = alice.run(&["outbox", "send"]);
    assert_eq!((sent.code, outcomes(&sent)), (1, vec!["failed", "delivered"]), "{sent:?}");
    assert_eq!(inbox(&bob), ["bob@localhost"]);
    let failed = |outcome: &str| vec![(1, outcome.to_owned(), "nobody@localhost".to_owned())];
    assert_eq!(waiting(&alice), failed("failed"));
    // Not by itself; as a new one where its writer says so.
    assert_eq!(alice.run(&["outbox", "send"]).objects.len(), 0);
    assert_eq!(alice.run(&["outbox", "again", "1"]).code, 0);
    assert_eq!(waiting(&alice), failed("waiting"));
    server.add("nobody");
    let sent = alice.run(&["outbox", "send"]);
    assert_eq!((sent.code, outcomes(&sent)), (0, vec!["delivered"]), "{sent:?}");
}

/// E1: the connection is cut at any place of the way, with the answer lost as well: each message comes
/// once, and in its order.
#[tokio::test(flavor = "multi_thread")]
async fn e1_a_connection_that_is_cut_anywhere_loses_and_doubles_nothing() {
    let server = Server::quickstart();
    let bob = Impp::of(&server, "bob");
    let cable = Cable::to(server.address(), Ipv4Addr::LOCALHOST).await;
    let alice = Impp::with_profile(&through(&server, "alice", &cable));
    let send =
        |text: &str| alice.run(&["send", "bob@localhost", text, "--later", "--timeout", "1"]);
    let carried = || cable.bytes().0 + cable.bytes().1;
    // The first time makes the device and takes longer.
    let mut texts = vec!["first".to_owned(), "whole".to_owned()];
    assert_eq!(outcomes(&send("first")), ["delivered"]);
    let before = carried();
    assert_eq!(outcomes(&send("whole")), ["delivered"]);
    let whole = carried() - before;
    for part in 1..=CUTS {
        cable.cut_after(whole * part / CUTS);
        let text = format!("cut at {part}/{CUTS}");
        assert_eq!(send(&text).code, 0);
        texts.push(text);
        cable.plug();
    }
    let sent = alice.run(&["outbox", "send"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert_eq!(waiting(&alice), []);
    assert_eq!(inbox(&bob), texts);
}

/// Places at which the connection is cut.
const CUTS: u64 = 16;

/// A profile of an account whose way to the server is that cable.
pub(crate) fn through(server: &Server, name: &str, cable: &Cable) -> PathBuf {
    let own = server.profile_path(name);
    let text = std::fs::read_to_string(&own).unwrap();
    let direct = server.address().to_string();
    assert!(text.contains(&direct), "{text}");
    let path = own.with_file_name(format!("{name}-by-{}.toml", cable.address().port()));
    // The permissions of a profile go with its copy.
    std::fs::copy(&own, &path).unwrap();
    std::fs::write(&path, text.replace(&direct, &cable.address().to_string())).unwrap();
    path
}
