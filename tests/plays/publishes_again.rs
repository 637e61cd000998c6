//! A program that holds its presence, and what becomes of it when that ends: by its connection, by the
//! server, or by its owner elsewhere.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use impp_protocol::presence::Document;
use impp_tests::cable::Cable;
use impp_tests::impp::Impp;
use impp_tests::peer::Peer;
use impp_tests::presence::{self, Watcher, person};
use impp_tests::running::Running;
use impp_tests::server::Server;
use impp_tests::trace::Trace;
use serde_json::Value;
use tempfile::TempDir;

use crate::presence_leases::{alice_and_dave, brief};

/// Alice's program behind a cable: her profile through it, and a copy that leads to the server.
struct Holding {
    cable: Cable,
    through: PathBuf,
    folder: TempDir,
}

impl Holding {
    async fn of(server: &Server) -> Holding {
        let cable = Cable::to(server.address(), Ipv4Addr::new(127, 0, 0, 77)).await;
        let folder = tempfile::tempdir().unwrap();
        let through = folder.path().join("alice.toml");
        let holding = Holding { cable, through, folder };
        let address = (server.address().to_string(), holding.cable.address().to_string());
        copy(&server.profile_path("alice"), &holding.through, (&address.0, &address.1));
        holding
    }

    /// Holds a note; it is published when this gives it.
    fn hold(&self, note: &str) -> Running {
        let words = ["status", "set", "open", "--hold", "--note", note];
        let mut held = Running::with_profile(&self.through, &words);
        let said = held.object();
        assert_eq!(
            (&said["presentity"], &said["lease"]),
            (&"alice@localhost".into(), &Value::Null)
        );
        held
    }

    /// The same device by another way.
    fn elsewhere(&self, server: &Server) -> Impp {
        let direct = self.folder.path().join("direct.toml");
        let address = (self.cable.address().to_string(), server.address().to_string());
        copy(&self.through, &direct, (&address.0, &address.1));
        Impp::with_profile(&direct)
    }
}

/// Copies a profile to another server.
fn copy(from: &Path, to: &Path, (old, new): (&str, &str)) {
    std::fs::copy(from, to).unwrap();
    let text = std::fs::read_to_string(to).unwrap();
    assert!(text.contains(old), "{text}");
    std::fs::write(to, text.replace(old, new)).unwrap();
}

fn nothing(held: &presence::Held) -> bool {
    held.document() == &Document::offline()
}

/// What is held is published again after its layer has ended while there was no connection, and after a
/// crash of the server; and taken away when the program is stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_a_client_publishes_again_what_ended() {
    let mut server = brief().start();
    let (_, dave) = alice_and_dave(&server).await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    let holding = Holding::of(&server).await;
    let alice = holding.hold("held");
    dave.until_note("held").await;
    holding.cable.pull();
    dave.until(nothing).await;
    holding.cable.plug();
    dave.until_note("held").await;
    server.kill9();
    server.restart();
    let dave = Peer::sign_in(&server, "dave").await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    dave.until_note("held").await;
    assert_eq!(alice.interrupt(), Some(0));
    dave.until(nothing).await;
}

/// What the owner has published meanwhile from another device goes on showing; the rest of what is held
/// shows beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_what_is_published_again_hides_nothing_newer() {
    let server = brief().start();
    let (_, dave) = alice_and_dave(&server).await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    let holding = Holding::of(&server).await;
    let _alice = holding.hold("held");
    dave.until_note("held").await;
    let reachable = dave.held.document().tuples.clone();
    holding.cable.pull();
    dave.until(nothing).await;
    let mut other = Peer::sign_in_on(&server, "alice", 7).await;
    let newer = presence::document(&[("note", "newer"), ("mood", "happy")], &[]);
    other.show_for(&newer, 3000).await.unwrap();
    dave.until_note("newer").await;
    holding.cable.plug();
    dave.until(|held| held.document().tuples == reachable).await;
    let shown = dave.held.document();
    assert_eq!((person(shown, "note"), person(shown, "mood")), (Some("newer"), Some("happy")));
}

/// Who takes back or replaces from elsewhere what a program holds ends it: it says so, and does not
/// publish it again; also if it was away meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_what_is_held_ends_when_it_is_taken_back() {
    let server = brief().start();
    let (_, dave) = alice_and_dave(&server).await;
    let mut dave = Watcher::of(dave, "alice@localhost").await;
    let holding = Holding::of(&server).await;
    let replaces = ["status", "set", "closed", "--note", "replaced"];
    for (words, away) in [(&["status", "clear"][..], false), (&replaces, false), (&replaces, true)]
    {
        let alice = holding.hold("held");
        dave.until_note("held").await;
        if away {
            holding.cable.pull();
            dave.until(nothing).await;
        }
        let ran = holding.elsewhere(&server).run(words);
        assert_eq!(ran.code, 0, "{ran:?}");
        holding.cable.plug();
        let (code, word) = alice.ended();
        let word = word.expect("a word");
        assert_eq!((code, &word["error"]["name"]), (Some(1), &"taken-back".into()), "{word}");
        match words {
            ["status", "clear"] => drop(dave.until(nothing).await),
            _ => dave.until_note("replaced").await,
        }
    }
}

/// On a disk that hangs a publication that has to be stored ends in time, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g10_a_publication_on_a_hung_disk_ends_in_time() {
    let server = brief().start();
    let Some(hung) = Trace::hung_disk(&server) else { return };
    let alice = Impp::of(&server, "alice");
    let ran = alice.run(&["--timeout", "2", "status", "set", "open", "--note", "stored"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains(r#""name":"timeout""#), "{ran:?}");
    drop(hung);
    let ran = alice.run(&["--timeout", "60", "status", "set", "open", "--note", "stored"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}
