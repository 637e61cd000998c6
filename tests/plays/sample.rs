//! The minimal client of `docs/protocol.md`, as it stands there, against real servers.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use impp_tests::Server;
use impp_tests::domains::Domains;
use impp_tests::peer::Peer;
use serde_json::{Value, json};

use crate::python::{Running, is_there};

const BOB: &str = "bob@b.example";
/// Everybody sees everything, and may write.
const OPEN: &str = "[[rule]]\nid = \"open\"\nwho = [\"anyone\"]\nhandling = \"allow\"\n\
                    fields = [\"all\"]\n\
                    [[delivery]]\nid = \"all\"\nwho = [\"anyone\"]\naction = \"accept\"\n";

/// What is done with the client, by its words.
const DRIVER: &str = r#"
import json, sys
address, password, host, port, trust, what, *words = sys.argv[1:]
say = lambda *said: print(json.dumps(said), flush=True)
client = Client(address, password, host, int(port), trust)
if what == "publish":
    client.publish("open", words[0])
elif what == "send":
    say(client.message(*words)[11])
elif what == "log":
    for kind, message, cursor in client.log():
        say(kind, message.get(5, b"").decode())
elif what == "follow":
    for state, document in client.follow(words[0]):
        person = unpack(decode(document).get(1, b"")) if document else []
        say(state, {decode(pair)[1].decode(): decode(pair)[2].decode() for pair in person})
client.send(BYE, 0, {1: 1})
"#;

/// The client with its driver, in a file.
struct Sample {
    folder: tempfile::TempDir,
}

impl Sample {
    fn of_the_specification() -> Sample {
        let text = include_str!("../../docs/protocol.md");
        let (_, chapter) = text.split_once("\n## 21. A minimal client\n").unwrap();
        let (_, code) = chapter.split_once("```python\n").unwrap();
        let (code, _) = code.split_once("\n```").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sample.py"), format!("{code}\n{DRIVER}")).unwrap();
        Sample { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sample.py")
    }

    fn start(&self, server: &Server, name: &str, words: &[&str]) -> Running {
        let profile = server.profile(name);
        let address = server.address();
        let mut command = Command::new("python3");
        command
            .arg(self.path())
            .args([format!("{name}@{}", server.domain()), profile.password])
            .args([address.ip().to_string(), address.port().to_string()])
            .arg(server.trust())
            .args(words)
            .stdin(Stdio::null());
        Running::start(&mut command)
    }

    /// Runs it to its end, which has to be a good one: what it said.
    fn run(&self, server: &Server, name: &str, words: &[&str]) -> Vec<Value> {
        let mut running = self.start(server, name, words);
        let said = running.lines.iter().collect();
        assert!(running.child.wait().unwrap().success(), "{words:?}: {said:?}");
        said
    }
}

/// Passes over what is told before this.
fn until(running: &Running, state: u64, note: &str) {
    let wanted = json!([state, { "note": note }]);
    while running.next() != wanted {}
}

/// It signs in, publishes, sends and reads; it follows by patches, and through a time in which the other
/// domain cannot be reached it keeps what it holds, also where nothing has changed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn d_6_3_the_client_of_the_specification_does_what_it_says() {
    if !is_there() {
        return;
    }
    let domains = Domains::with(&["a.example", "b.example"], |_, start| {
        start
            .set("federation.stale_seconds", 1)
            .set("federation.idle_seconds", 1)
            .set("federation.answer_seconds", 3)
    })
    .await;
    let (a, b) = (&domains["a.example"], &domains["b.example"]);
    let sample = Sample::of_the_specification();
    let mut bob = Peer::sign_in(b, "bob").await;
    bob.set_rules(OPEN).await;
    sample.run(b, "bob", &["publish", "one"]);
    let follows = sample.start(a, "alice", &["follow", BOB]);
    until(&follows, 2, "one");
    sample.run(b, "bob", &["publish", "two"]);
    until(&follows, 2, "two");
    domains.cable("b.example").pull();
    assert_eq!(follows.next(), json!([5, { "note": "two" }]));
    domains.cable("b.example").plug();
    assert_eq!(follows.next(), json!([2, { "note": "two" }]));
    sample.run(b, "bob", &["publish", "three"]);
    until(&follows, 2, "three");
    // Sent: it is on its way, or there already.
    let outcome = sample.run(a, "alice", &["send", BOB, "Lunch?"]);
    assert!([json!([1]), json!([3])].contains(&outcome[0]), "{outcome:?}");
    let arrived = async || sample.run(b, "bob", &["log"]).into_iter().next();
    let arrived = impp_tests::wait::eventually("the message", arrived).await;
    assert_eq!(arrived, json!([1, "Lunch?"]));
    let kept = sample.run(a, "alice", &["log"]);
    assert_eq!(kept[0], json!([2, "Lunch?"]));
}
