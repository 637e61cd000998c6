//! Formats of others through the real programs: PIDF with RPID, Message/CPIM, S/MIME.
//!
//! What each element and header becomes is tested in `convert/`.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use impp_tests::impp::Impp;
use impp_tests::presence::at_once;
use impp_tests::wait::eventually;
use impp_tests::{Domains, Peer};

/// Documents as people exchange them.
const CARRIED: &str = include_str!("../../convert/corpus/pidf/carried.xml");
const EXCHANGED: &str = include_str!("../../convert/corpus/pidf/pidf-rpid.xml");
const MESSAGE: &str = include_str!("../../convert/corpus/cpim/message.cpim");

/// A document that another program wrote is published, and seen by a watcher as fields and as PIDF, which
/// published again is the same document.
#[tokio::test]
async fn r3_1_1_r3_1_6_a_document_of_others_is_published_and_fetched() {
    let server = at_once().start();
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    let carried = CARRIED.replace("erin@a.example", "alice@localhost");
    let set = alice.run_with_input(&["status", "set", "--from", "-"], carried.as_bytes());
    assert_eq!((set.code, &*set.stderr), (0, ""), "{set:?}");
    let seen = bob.run(&["fetch", "alice@localhost"]).one();
    let person = &seen["document"]["person"];
    assert_eq!(person["activities"], "busy coding on-the-phone");
    assert_eq!(person["place-is"], "audio=noisy video=dark");
    let desk = &seen["document"]["tuples"][0];
    assert_eq!((&desk["id"], &desk["priority"]), (&"desk".into(), &"0.8".into()));
    let fetched = bob.run(&["fetch", "alice@localhost", "--format", "pidf"]).one();
    assert!(fetched.get("document").is_none(), "{fetched}");
    let xml = fetched["pidf"].as_str().unwrap();
    assert!(xml.contains("<rpid:sphere><rpid:work/></rpid:sphere>"), "{xml}");
    assert_eq!(alice.run(&["status", "clear"]).code, 0);
    assert_eq!(alice.run_with_input(&["status", "set", "--from", "-"], xml.as_bytes()).code, 0);
    let again = bob.run(&["fetch", "alice@localhost"]).one();
    assert_eq!(again["document"], seen["document"]);
}

/// What has no field is told and the rest published; another's presence, and what is no document, is not.
#[tokio::test]
async fn r3_1_1_r3_1_2_what_a_document_loses_is_told_and_anothers_is_refused() {
    let server = at_once().start();
    let alice = Impp::of(&server, "alice");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("presence.xml");
    let path = file.to_str().unwrap();
    let set = |text: &str| {
        std::fs::write(&file, text).unwrap();
        alice.run(&["status", "set", "--from", path])
    };
    let other = set(EXCHANGED);
    assert_eq!((other.code, other.objects.len()), (2, 0));
    assert!(other.stderr.contains("it is the presence of erin@a.example"), "{}", other.stderr);
    let entities = "<!DOCTYPE p [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>\n<p>&b;</p>";
    let dtd = set(entities);
    assert_eq!(dtd.code, 2);
    assert!(dtd.stderr.contains("line 1: a DTD"), "{}", dtd.stderr);
    let nothing = alice.run(&["status", "show"]);
    assert!(nothing.stderr.contains("not-found"), "{nothing:?}");
    let own = set(&EXCHANGED.replace("pres:erin@a.example", "pres:alice@localhost"));
    assert_eq!(own.code, 0, "{own:?}");
    assert!(own.stderr.contains("not published: line 3: <ring>: has no field"), "{}", own.stderr);
    let shown = alice.run(&["status", "show"]).one();
    assert_eq!(shown["person"]["activities"], "meeting on-the-phone");
}

fn from_alice() -> String {
    MESSAGE.replace("erin@a.example", "alice@localhost").replace("bob@b.example", "bob@localhost")
}

/// A message in Message/CPIM is sent, and comes out to the byte: the name beside the sender's address,
/// the time zone, the language of the subject, a header of another namespace.
#[tokio::test]
async fn r4_1_1_a_message_in_cpim_comes_out_to_the_byte() {
    let server = at_once().start();
    let (alice, bob) = (Impp::of(&server, "alice"), Impp::of(&server, "bob"));
    let written = from_alice();
    let send = ["send", "bob@localhost", "-", "--format", "cpim"];
    let sent = alice.run_with_input(&send, written.as_bytes());
    assert_eq!((sent.code, &*sent.stderr), (0, ""), "{sent:?}");
    let came = bob.run(&["inbox", "--max", "1", "--format", "cpim"]).objects.remove(0);
    assert_eq!(
        (&came["from"], &came["body"]),
        (&"alice@localhost".into(), &"Mittagessen?\r\n".into())
    );
    assert_eq!(came["created"], "2026-11-29T00:20:00Z");
    assert_eq!(STANDARD.decode(came["cpim_base64"].as_str().unwrap()).unwrap(), written.as_bytes());
    // One that was never in that form has its fields there.
    let plain = alice.run(&["send", "bob@localhost", "hello", "--thread", "t"]).one();
    let since = came["cursor"].as_str().unwrap();
    let next = ["inbox", "--max", "1", "--format", "cpim", "--since", since];
    let came = bob.run(&next).objects.remove(0);
    let text = STANDARD.decode(came["cpim_base64"].as_str().unwrap()).unwrap();
    let text = String::from_utf8(text).unwrap();
    let id = plain["id"].as_str().unwrap();
    let head = "Content-type: Message/CPIM\r\n\r\nFrom: <im:alice@localhost>\r\nTo: <im:bob@localhost>\r\n";
    assert!(text.starts_with(head), "{text}");
    let rest = format!(
        "NS: impp <urn:impp:message>\r\nimpp.Message-ID: {id}\r\nimpp.Thread: t\r\n\r\n\
         Content-type: text/plain; charset=utf-8\r\n\r\nhello"
    );
    assert!(text.ends_with(&rest), "{text}");
    // With the id in it, it is no second message.
    let again = alice.run_with_input(&send, text.as_bytes()).one();
    assert_eq!((&again["outcome"], &again["id"]), (&"duplicate".into(), &plain["id"]));
}

/// Who sends a message in another's name, to somebody else, or in another form, is told the place.
#[tokio::test]
async fn r4_1_1_r5_4_3_a_message_in_cpim_that_is_not_ones_own_is_not_sent() {
    let server = at_once().start();
    let alice = Impp::of(&server, "alice");
    let written = from_alice();
    for (text, words) in [
        (written.replace("alice@localhost", "carol@localhost"), "From is carol@localhost"),
        (written.replace("<im:bob@", "<im:carol@"), "To is carol@localhost"),
        (written.replace("DateTime: ", "DateTime:"), "line 5: expected `Name: value`"),
        (written.replace("x.Urgent", "y.Urgent"), "line 8: no NS header before it"),
        (written.replace("\r\n", "\n"), "line 1: expected CR LF"),
    ] {
        let ran = alice
            .run_with_input(&["send", "bob@localhost", "-", "--format", "cpim"], text.as_bytes());
        assert_eq!((ran.code, ran.objects.len()), (2, 0), "{words}: {ran:?}");
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    assert_eq!(Impp::of(&server, "bob").run(&["inbox"]).objects.len(), 1);
}

fn openssl(folder: &Path, line: &str) -> bool {
    let mut command = Command::new("openssl");
    let output = command.args(line.split(' ')).current_dir(folder).output().unwrap();
    output.status.success()
}

/// A multipart/signed body, made by a tool of others, passes two servers and two logs to the byte, and
/// the tool says at the other side who signed it; a byte more, and it does not.
#[tokio::test(flavor = "multi_thread")]
async fn r5_4_9_r5_4_7_a_signed_body_passes_two_servers_and_verifies() {
    let domains = Domains::two().await;
    let (a, b) = (&domains["a.example"], &domains["b.example"]);
    let _bob = Peer::open_inbox(b, "bob").await;
    let (alice, bob) = (Impp::of(a, "alice"), Impp::of(b, "bob"));
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let inner = MESSAGE.replace("erin@", "alice@");
    std::fs::write(at.join("message"), &inner).unwrap();
    let made = "req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 9 -subj /CN=alice \
                -addext subjectAltName=URI:im:alice@a.example";
    assert!(openssl(at, made), "no certificate");
    let sign = "cms -sign -binary -crlfeol -in message -signer cert -inkey key -out signed";
    assert!(openssl(at, sign), "not signed");
    let signed = std::fs::read(at.join("signed")).unwrap();
    let split = signed.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
    let (head, body) = (std::str::from_utf8(&signed[..split]).unwrap(), &signed[split + 4..]);
    let kind = head.lines().find_map(|line| line.strip_prefix("Content-Type: ")).unwrap();
    assert!(kind.starts_with("multipart/signed"), "{head}");
    let sent = alice.run_with_input(&["send", "bob@b.example", "-", "--type", kind], body);
    assert_eq!(sent.code, 0, "{sent:?}");
    let came = eventually("the message at the other side", async || {
        let items = bob.run(&["inbox"]).objects;
        items.into_iter().find(|item| item["item"] == "message")
    });
    let came = came.await;
    let copies = alice.run(&["inbox", "--all"]).objects;
    let copy = copies.iter().find(|item| item["item"] == "sent").unwrap();
    for item in [&came, copy] {
        assert_eq!(item["type"], kind);
        assert_eq!(STANDARD.decode(item["body_base64"].as_str().unwrap()).unwrap(), body);
    }
    let verifies = |body: &[u8]| {
        let head = format!("MIME-Version: 1.0\r\nContent-Type: {kind}\r\n\r\n");
        std::fs::write(at.join("came"), [head.as_bytes(), body].concat()).unwrap();
        openssl(at, "cms -verify -in came -CAfile cert -purpose any -out verified")
    };
    let body = STANDARD.decode(came["body_base64"].as_str().unwrap()).unwrap();
    assert!(verifies(&body), "it does not verify");
    assert_eq!(std::fs::read(at.join("verified")).unwrap(), inner.as_bytes());
    let text = String::from_utf8(body).unwrap();
    assert!(!verifies(text.replace("Mittagessen?", "Mittagessen!").as_bytes()), "it verifies");
}
