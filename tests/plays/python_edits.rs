//! What the second client changes, where a connection is cut between a change and its answer.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;

use impp_tests::Server;
use impp_tests::cable::Cable;

use crate::outbox::through;
use crate::python::{Python, is_there};

const BOB: &str = "bob@localhost";
/// Before the end of a connection: there is the answer to a change, and behind it only the goodbye.
const BEFORE_END: Range<u64> = 40..120;

/// A change of rules that names what it was made on, and a grant that is raised, are done once and said to be
/// done, wherever a connection is cut between them and their answers: on the session that goes on, without
/// one, and by another run of the program.
#[tokio::test(flavor = "multi_thread")]
async fn e2_e4_what_the_second_client_changes_is_done_once_and_said_to_be_done() {
    if !is_there() {
        return;
    }
    for window in [300, 0] {
        let server = Server::with().no_rates().set("times.resume_window_seconds", window).start();
        let cable = Cable::to(server.address(), Ipv4Addr::LOCALHOST).await;
        let alice = Python { profile: through(&server, "alice", &cable) };
        let file = server.data().join("own.toml");
        let (mut rules, mut grants) = (Edits::rules(&file), Edits::grants());
        for edits in [&mut rules, &mut grants] {
            edits.look(&alice);
            let before = cable.bytes();
            edits.next(&alice, &["--timeout", "30"], &[]);
            let whole = cable.bytes().0 + cable.bytes().1 - before.0 - before.1;
            for cut in (whole - BEFORE_END.end..whole - BEFORE_END.start).step_by(10) {
                cable.cut_after(cut);
                edits.next(&alice, &["--timeout", "30"], &[]);
                cable.plug();
                if window > 0 {
                    cable.cut_after(cut);
                    // It gives up before it tries a second time.
                    edits.next(&alice, &["--timeout", "0.2"], &["--later"]);
                    cable.plug();
                }
            }
        }
    }
}

/// Changes, each of which names what it was made on.
struct Edits<'a> {
    file: Option<&'a Path>,
    count: usize,
    base: String,
}

impl<'a> Edits<'a> {
    fn rules(file: &'a Path) -> Edits<'a> {
        Edits { file: Some(file), count: 100, base: String::new() }
    }

    fn grants() -> Edits<'a> {
        Edits { file: None, count: 100, base: String::new() }
    }

    /// Sees what the first one is made on.
    fn look(&mut self, alice: &Python) {
        let shown: &[&str] = if self.file.is_some() { &["rules"] } else { &["list", "contacts"] };
        self.base = alice.run(shown).1.pop().unwrap()["number"].to_string();
    }

    /// One more, which has to be said to be done, at once or by the outbox.
    fn next(&mut self, alice: &Python, before: &[&str], behind: &[&str]) {
        self.count += 1;
        let grant = if self.count.is_multiple_of(2) { "all" } else { "none" };
        let path = self.file.map(|path| path.to_str().unwrap());
        let words = match path {
            Some(path) => {
                let rule = format!("[[rule]]\nid = \"r{}\"\nwho = [\"x@localhost\"]\n", self.count);
                std::fs::write(path, rule + "handling = \"confirm\"\n").unwrap();
                vec!["rules", path]
            }
            None => vec!["contact", BOB, "--grant", grant],
        };
        let base = ["--base", self.base.as_str()];
        let (mut code, mut said) = alice.run(&[before, &words[..], &base, behind].concat());
        if said[0]["outcome"] == "waiting" {
            (code, said) = alice.run(&["outbox", "send"]);
        }
        assert_eq!((code, &said[0]["outcome"]), (0, &"done".into()), "{words:?}: {said:?}");
        self.base = said[0]["number"].to_string();
    }
}
