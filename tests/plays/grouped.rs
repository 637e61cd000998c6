//! Decisions that make somebody a member of a group of the owner's rules.

use impp_protocol::state::{self, Decision, RequestEdit};
use impp_protocol::{Address, Code, What};
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, publish};
use impp_tests::presence::{document, open};

use crate::rules::strangers;

const ALICE: &str = "alice@localhost";

/// Friends see the note, and nobody is one yet; everybody has to ask, and to wait with what they write.
const RULES: &str = r#"
[groups]
friends = []   # the best
empty = []

[[rule]]
id = "friends"
who = ["group:friends"]
handling = "allow"
fields = ["note"]

[[rule]]
id = "others"
who = ["authenticated"]
handling = "confirm"

[[delivery]]
id = "others"
who = ["authenticated"]
action = "hold"
"#;

async fn into(alice: &mut Peer, who: &str, group: &str, decision: Decision) -> Code {
    let edit = RequestEdit::of(Address::parse(who).unwrap(), decision);
    let edit = RequestEdit { group: Some(group.to_owned()), ..edit };
    alice.refused(publish(ALICE, What::Requests, Some(state::encode(&edit)))).await
}

/// Who asks becomes a member, sees what members see, and does not ask any more; with the command, which
/// says in words what is wrong. The owner's text stays as it was written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_made_a_member_of_a_group_and_sees_what_members_see() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(RULES).await;
    let shown = document(&[("mood", "happy"), ("note", "here")], &[("im", &[("status", "open")])]);
    alice.show(&shown).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.follow(ALICE).await;
    // One who has only written comes into a group too, with what they have written.
    let mut carol = Peer::sign_in(&server, "carol").await;
    carol.send(ALICE, "hello").await;
    assert_eq!(into(&mut alice, "bob@localhost", "friend", Decision::Allow).await, Code::NotFound);
    assert_eq!(into(&mut alice, "bob@localhost", "empty", Decision::Allow).await, Code::Refused);
    assert_eq!(into(&mut alice, "bob@localhost", "friends", Decision::Deny).await, Code::Malformed);
    assert_eq!(into(&mut alice, "dan@localhost", "friends", Decision::Allow).await, Code::NotFound);
    assert_eq!(alice.requests().await.entries.len(), 2);

    let command = Impp::of(&server, "alice");
    let wrong = command.run(&["requests", "allow", "bob@localhost", "--group", "fiends"]);
    assert_eq!((wrong.code == 0, wrong.objects.len()), (false, 0));
    let words = "they have empty, friends";
    assert!(wrong.stderr.contains(words), "{}", wrong.stderr);
    for who in ["bob@localhost", "carol@localhost"] {
        let ran = command.run(&["requests", "allow", who, "--group", "friends"]);
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "{who}");
    }
    assert_eq!(bob.look(ALICE).await, open("here"));
    assert_eq!(carol.look(ALICE).await, open("here"));
    assert_eq!(alice.inbox().await.len(), 1);
    assert!(alice.requests().await.entries.is_empty());
    let text = Impp::of(&server, "alice").run(&["rules", "show"]).one().to_string();
    assert!(!text.contains("decided-allow"), "{text}");
}
