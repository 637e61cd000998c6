//! The client's program against the server's: the command-line contract as scripts see it.

use impp_tests::Server;
use impp_tests::impp::Impp;

/// A message sent by one program is read by another, and stays until it is acknowledged.
#[test]
fn r5_4_2_send_and_inbox_deliver_once() {
    let server = Server::quickstart();
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    let id = impp_tests::peer::id_at(0).to_string();
    let send = ["send", "bob@localhost", "hello", "--id", &id];
    let first = alice.run(&send).one();
    assert_eq!(first["outcome"], "delivered");
    assert_eq!(first["id"], id);
    assert_eq!(alice.run(&send).one()["outcome"], "duplicate");
    // Nothing is acknowledged without --ack: the second run still has it.
    for args in [&["inbox"][..], &["inbox", "--ack"]] {
        let ran = bob.run(args);
        let items: Vec<_> =
            ran.objects.iter().filter_map(|object| object["item"].as_str()).collect();
        assert_eq!((ran.code, items), (0, vec!["message", "end"]), "{ran:?}");
        let message = &ran.objects[0];
        assert_eq!(message["id"], id);
        assert_eq!(message["from"], "alice@localhost");
        assert_eq!(message["body"], "hello");
    }
    let other = alice.run(&["send", "bob@localhost", "other words", "--id", &id]);
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.stderr.contains("\"conflict\""), "{other:?}");
}

/// A status that one program publishes is what another fetches.
#[test]
fn r3_2_1_a_published_status_is_fetched_when_its_owner_is_gone() {
    let server = Server::quickstart();
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    let offline = bob.run(&["fetch", "alice@localhost"]).one();
    let set = alice.run(&["status", "set", "open", "--note", "in the garden"]);
    assert_eq!(set.code, 0, "{set:?}");
    let shown = bob.run(&["fetch", "alice@localhost"]).one();
    assert_ne!(shown["version"], offline["version"]);
    assert_eq!(shown["presentity"], "alice@localhost");
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["document"]["tuples"][0]["status"], "open", "{shown}");
    assert!(shown["document"].to_string().contains("in the garden"), "{shown}");
    assert_eq!(alice.run(&["status", "clear"]).code, 0);
    assert_eq!(bob.run(&["fetch", "alice@localhost"]).one()["document"], offline["document"]);
}

/// Exit codes say who is at fault.
#[test]
fn exit_codes_are_those_of_the_contract() {
    let mut server = Server::quickstart();
    let alice = Impp::of(&server, "alice");
    assert_eq!(alice.run(&["fetch", "nobody@localhost"]).code, 1);
    assert_eq!(alice.run(&["fetch"]).code, 2);
    assert_eq!(alice.run(&["fetch", "no address"]).code, 2);
    server.user_ok(&["disable", "alice@localhost"]);
    assert_eq!(alice.run(&["fetch", "bob@localhost"]).code, 4);
    server.kill9();
    let unreached = alice.run(&["fetch", "bob@localhost"]);
    assert_eq!(unreached.code, 3, "{unreached:?}");
    let error: serde_json::Value = serde_json::from_str(unreached.stderr.trim()).unwrap();
    assert!(error["error"]["message"].is_string(), "{error}");
}
