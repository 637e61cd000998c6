//! Who may do other things for somebody else than say something of them: read the inbox, see watchers,
//! edit rules; and what both of them learn of it.

use std::time::Duration;

use bytes::Bytes;
use impp_protocol::command::{Ack, Fetch, Outcome, Publish};
use impp_protocol::presence::Document;
use impp_protocol::state::{
    self, Act, Acts, Delegation, Delegations, ItemKind, Page, SubscriptionState, Watchers,
};
use impp_protocol::{Address, Code, Timestamp, What};
use impp_tests::fates::OPEN_INBOX;
use impp_tests::impp::{Impp, Ran};
use impp_tests::peer::{Peer, fetch, publish};
use impp_tests::presence::{Watcher, document, layer};

use crate::rules::{ALL, rule, strangers};

const ALICE: &str = "alice@localhost";
const CAL: &str = "cal@localhost";

/// Rules by which bob sees all, anybody writes, and cal has these rights.
fn lets(rights: &str) -> String {
    let seen = rule("bob", "allow", ALL);
    format!(
        "{OPEN_INBOX}\n{seen}[[delegate]]\nid = \"c\"\nwho = [\"{CAL}\"]\nrights = [{rights}]\n"
    )
}

async fn page(peer: &mut Peer) -> Page {
    let content = peer.done(fetch(ALICE, What::Log)).await.content.expect("a page");
    state::decode(content).unwrap()
}

async fn acts(peer: &mut Peer) -> Vec<Act> {
    let own = peer.address.to_string();
    let content = peer.done(fetch(&own, What::Acts)).await.content.expect("acts");
    state::decode::<Acts>(content).unwrap().entries
}

async fn delegations(peer: &mut Peer) -> Vec<Delegation> {
    let own = peer.address.to_string();
    let content = peer.done(fetch(&own, What::Delegations)).await.content.expect("a list");
    state::decode::<Delegations>(content).unwrap().entries
}

/// Rules of alice's, as a change of this version of them.
fn rules(text: &str, base: u64) -> Publish {
    let content = Bytes::copy_from_slice(text.as_bytes());
    Publish { base: Some(base), ..publish(ALICE, What::Rules, Some(content)) }
}

/// Who may read the inbox reads what came, and nothing of what its owner sent; takes custody of nothing;
/// and reads no more from the moment on that the right is taken back, over the same connection.
#[tokio::test]
async fn r2_3_6_a_delegate_reads_the_inbox_and_takes_no_custody_until_that_is_taken_back() {
    let server = strangers(&["bob", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&lets("\"inbox-read\"")).await;
    let mut bob = Peer::open_inbox(&server, "bob").await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    assert_eq!(alice.send("bob@localhost", "mine").await, Outcome::Delivered);
    for text in ["one", "two"] {
        assert_eq!(bob.send(ALICE, text).await, Outcome::Delivered);
    }
    let read = page(&mut cal).await;
    assert!(read.items.iter().all(|item| item.kind == ItemKind::Received), "{read:?}");
    assert_eq!((read.items.len(), read.more), (2, false));
    // Nor is it waited for, nor followed, nor acknowledged.
    let wait = Fetch { wait: true, ..fetch(ALICE, What::Log) };
    assert_eq!(cal.refused(wait).await, Code::Refused);
    let ack = Ack { address: ALICE.parse().unwrap(), cursor: read.cursor.clone() };
    assert_eq!(cal.refused(ack).await, Code::Refused);
    let ack = Ack { address: CAL.parse().unwrap(), cursor: read.cursor.clone() };
    assert_eq!(cal.refused(ack).await, Code::BadCursor);
    let behind = Fetch { cursor: Some(read.cursor), ..fetch(ALICE, What::Log) };
    assert_eq!(
        cal.done(behind.clone())
            .await
            .content
            .map(|page| { state::decode::<Page>(page).unwrap().items.len() }),
        Some(0)
    );
    assert_eq!(alice.inbox().await.len(), 2);
    alice.set_rules(&lets("\"watchers\"")).await;
    assert_eq!(cal.refused(behind).await, Code::Refused);
    assert_eq!(cal.refused(fetch(ALICE, What::Log)).await, Code::Refused);
}

/// Pages of alice's log as a delegate asks for them in all ways, to the octet.
async fn pages(cal: &mut Peer, since: Timestamp) -> Vec<Bytes> {
    let log = || fetch(ALICE, What::Log);
    let back = || Fetch { backwards: true, ..log() };
    let with = Some("bob@localhost".parse().unwrap());
    let asks = [
        log(),
        Fetch { max: Some(1), ..log() },
        Fetch { at_end: true, ..log() },
        Fetch { metadata: true, ..log() },
        back(),
        Fetch { max: Some(1), ..back() },
        Fetch { since: Some(since), ..back() },
        Fetch { with, max: Some(1), ..back() },
    ];
    let mut pages = Vec::new();
    for ask in asks {
        pages.push(cal.done(ask).await.content.expect("a page"));
    }
    pages
}

/// No place of an inbox, no page and no end of one, tells a delegate how much its owner sends, or when: each is
/// the same before and after, and what came is told one by one with nothing between.
#[tokio::test]
async fn r2_3_6_an_inbox_tells_a_delegate_nothing_of_what_its_owner_sends() {
    let server = strangers(&["bob", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&lets("\"inbox-read\"")).await;
    let mut bob = Peer::open_inbox(&server, "bob").await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    let begin = alice.log().await.last().map_or(Timestamp::from_millis(0), |item| item.time);
    for text in ["one", "two"] {
        assert_eq!(alice.send("bob@localhost", "mine").await, Outcome::Delivered);
        assert_eq!(bob.send(ALICE, text).await, Outcome::Delivered);
        let since = alice.log().await.last().unwrap().time.after(Duration::from_millis(1));
        for since in [since, begin] {
            let before = pages(&mut cal, since).await;
            assert_eq!(alice.send("bob@localhost", "mine").await, Outcome::Delivered);
            assert!(pages(&mut cal, since).await == before, "{text}, {since}");
        }
    }
    for backwards in [false, true] {
        let ask = Fetch { max: Some(1), backwards, ..fetch(ALICE, What::Log) };
        let first: Page = state::decode(cal.done(ask.clone()).await.content.unwrap()).unwrap();
        let ask = Fetch { cursor: Some(first.cursor), ..ask };
        let other: Page = state::decode(cal.done(ask).await.content.unwrap()).unwrap();
        assert_eq!([first.items.len(), other.items.len()], [1, 1]);
        assert_eq!([first.more, other.more], [true, false]);
        assert!(first.items[0].message != other.items[0].message);
    }
    // Its owner reads all of it.
    assert_eq!(alice.log().await.len(), 14);
}

/// Who may see watchers sees them, and ends none.
#[tokio::test]
async fn d_4_a_delegate_sees_who_watches_and_changes_nothing_of_it() {
    let server = strangers(&["bob", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&lets("\"watchers\"")).await;
    let _bob = Watcher::sign_in(&server, "bob", ALICE).await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    let content = cal.done(fetch(ALICE, What::Watchers)).await.content.unwrap();
    let seen = state::decode::<Watchers>(content).unwrap().entries;
    assert_eq!(seen, alice.watchers().await);
    assert_eq!(seen[0].watcher.as_str(), "bob@localhost");
    let end = state::encode(&state::WatcherEdit { remove: "bob@localhost".parse().unwrap() });
    assert_eq!(cal.refused(publish(ALICE, What::Watchers, Some(end))).await, Code::Refused);
    for what in [What::Rules, What::Log, What::Requests, What::Acts, What::Delegations] {
        assert_eq!(cal.refused(fetch(ALICE, what)).await, Code::Refused, "{what}");
    }
}

/// Who may edit rules hands on what it is granted itself, takes away what it likes, and says neither who
/// acts nor who writes.
#[tokio::test]
async fn d_4_a_delegate_edits_rules_and_grants_no_more_than_it_is_granted() {
    let server = strangers(&["bob", "cal", "eve"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let own = rule("cal", "allow", "fields = [\"note\"]");
    let before = lets("\"rules\"") + &own;
    alice.set_rules(&before).await;
    alice
        .show(&document(&[("note", "here"), ("mood", "glad")], &[("im", &[("status", "open")])]))
        .await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    let read = cal.done(fetch(ALICE, What::Rules)).await;
    assert_eq!(read.content.as_deref(), Some(before.as_bytes()));
    let base = read.number.unwrap();
    for (more, named) in [
        (rule("eve", "allow", ALL), "the rule \"eve\""),
        (rule("eve", "allow", "fields = [\"mood\"]"), "the rule \"eve\""),
        (before.replace("\"rules\"", "\"rules\", \"send-as\""), "[[delegate]]"),
        (before.replace("accept", "hold"), "[[delivery]]"),
    ] {
        let text = if named.starts_with("the rule") { before.clone() + &more } else { more };
        let error = cal.request(rules(&text, base)).await.expect_err("a refusal");
        assert_eq!(error.code, Code::Refused);
        assert!(error.text.as_ref().unwrap().starts_with(named), "{error:?}");
    }
    let mut eve = Peer::sign_in(&server, "eve").await;
    assert_eq!(eve.refused(fetch(ALICE, What::Presence)).await, Code::Refused);
    // Bob is not let see any more, and eve sees what cal does.
    let less = before.replace("who = [\"bob@localhost\"]", "who = [\"cal@localhost\"]");
    let less =
        less.replace(ALL, "fields = [\"note\"]") + &rule("eve", "allow", "fields = [\"note\"]");
    let done = cal.done(rules(&less, base)).await;
    let seen = eve.look(ALICE).await;
    assert_eq!(seen.person.len(), 1, "{seen:?}");
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(bob.refused(fetch(ALICE, What::Presence)).await, Code::Refused);
    // An edit that starts from what is not there any more changes nothing.
    assert_eq!(cal.refused(rules(&before, base)).await, Code::Conflict);
    // It is the owner's word by which it ends.
    alice.done(rules(&before.replace("\"rules\"", ""), done.number.unwrap())).await;
    assert_eq!(cal.refused(fetch(ALICE, What::Rules)).await, Code::Refused);
}

/// Both ends see who may do what for whom, with what is said by it now; nobody else does.
#[tokio::test]
async fn d_4_both_ends_are_told_what_stands_between_them() {
    let server = strangers(&["bob", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&lets("\"publish:activities\", \"watchers\"")).await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    let busy = document(&[("activities", "meeting")], &[]);
    let lease = Some(Duration::from_secs(3600));
    let says = publish(ALICE, What::Presence, Some(layer(&busy)));
    cal.done(Publish { replace: true, lease, ..says }).await;
    let held = delegations(&mut cal).await;
    assert_eq!(held, delegations(&mut alice).await);
    let rights: Vec<&str> = held[0].rights.iter().map(|right| &*right.right).collect();
    assert_eq!(rights, ["publish:activities", "watchers"]);
    assert_eq!((held[0].owner.as_str(), held[0].delegate.as_str()), (ALICE, CAL));
    let said: Vec<Document> =
        held[0].says.iter().map(|said| Document::decode(said.clone()).unwrap()).collect();
    assert_eq!(said, [busy]);
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(delegations(&mut bob).await, []);
    alice.set_rules(&rule("bob", "allow", ALL)).await;
    assert_eq!((delegations(&mut cal).await, delegations(&mut alice).await), (vec![], vec![]));
}

/// What delegates do is counted for the owner, by who it was and by which right, before it is done: it is
/// there after a crash.
#[tokio::test]
async fn d_4_what_delegates_did_is_told_to_the_owner_after_a_crash_too() {
    let mut server = strangers(&["bob", "cal"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&lets("\"inbox-read\", \"watchers\"")).await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    for _ in 0..3 {
        page(&mut cal).await;
    }
    cal.done(fetch(ALICE, What::Watchers)).await;
    // What is not permitted is no act.
    cal.refused(fetch(ALICE, What::Rules)).await;
    server.kill9();
    server.restart();
    let mut cal = Peer::sign_in(&server, "cal").await;
    page(&mut cal).await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    // Another hour may have begun meanwhile.
    let (mut log, mut watchers) = (0, 0);
    for act in acts(&mut alice).await {
        assert_eq!((act.delegate, act.first <= act.last), (Address::parse(CAL).unwrap(), true));
        match &*act.right {
            "inbox-read" => log += act.count,
            "watchers" => watchers += act.count,
            other => panic!("{other}"),
        }
    }
    assert_eq!((log, watchers), (4, 1));
    assert_eq!(acts(&mut cal).await, []);
}

/// The command does it for somebody else, lists on both sides what stands between them, and shows the
/// owner what was done.
#[test]
fn d_4_the_command_does_it_for_somebody_else_and_tells_of_it() {
    let server = strangers(&["bob", "cal"]);
    let file = server.data().join("rules.toml");
    let text = lets("\"inbox-read\", \"rules\", \"watchers\"");
    std::fs::write(&file, &text).unwrap();
    let [alice, bob, cal] = ["alice", "bob", "cal"].map(|name| Impp::of(&server, name));
    alice.run(&["rules", "set", file.to_str().unwrap()]).one();
    bob.run(&["send", ALICE, "hello"]).one();
    let inbox = cal.run(&["--for", ALICE, "inbox"]);
    assert_eq!(inbox.objects[0]["body"], "hello", "{inbox:?}");
    assert_eq!(cal.run(&["--for", ALICE, "rules", "show"]).one()["delegate"][0]["id"], "c");
    let less = text.replace(&rule("bob", "allow", ALL), "");
    std::fs::write(&file, less).unwrap();
    cal.run(&["--for", ALICE, "rules", "set", file.to_str().unwrap()]).one();
    assert_eq!(bob.run(&["fetch", ALICE]).code, 1);
    for who in [&alice, &cal] {
        let listed = who.run(&["delegations"]).one();
        assert_eq!((&listed["owner"], &listed["delegate"]), (&ALICE.into(), &CAL.into()));
        assert_eq!(listed["rights"][0]["right"], "rules");
    }
    let acts = alice.run(&["delegations", "acts"]);
    let by_inbox = acts.objects.iter().find(|act| act["right"] == "inbox-read");
    assert_eq!(by_inbox.expect("an act")["delegate"], CAL);
    for wrong in ["inbox --follow", "inbox --ack", "watchers remove bob@localhost"] {
        let words: Vec<&str> = ["--for", ALICE].into_iter().chain(wrong.split(' ')).collect();
        assert_eq!(cal.run(&words).code, 2, "{wrong}");
    }
}

/// Who may edit rules is told what they make of somebody: which fields by name, and what these say as far as
/// it sees that itself; by no rules that it may not set, and not whom they know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d_4_what_rules_say_is_told_to_a_delegate_as_far_as_it_sees_it_itself() {
    let server = strangers(&["bob", "cal", "dan", "eve"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let text = |more: &str, rights: &str| {
        let own = rule("cal", "allow", "fields = [\"note\"]\ntuples = []");
        format!(
            "{}{own}{more}[[rule]]\nid = \"friends\"\nwho = [\"contacts\"]\nhandling = \"allow\"\n\
             [[delegate]]\nid = \"c\"\nwho = [\"{CAL}\"]\nrights = [{rights}]\n",
            rule("bob", "allow", ALL)
        )
    };
    alice.set_rules(&text("", "\"rules\"")).await;
    alice.show(&document(&[("mood", "sad"), ("note", "here")], &[])).await;
    let _bob = Watcher::sign_in(&server, "bob", ALICE).await;
    let [cal, eve] = ["cal", "eve"].map(|name| Impp::of(&server, name));
    let run = |who: &Impp, words: &[&str]| who.run(&[&["--for", ALICE], words].concat());
    let seen = run(&cal, &["rules", "view-as", "bob@localhost"]).one();
    assert_eq!(seen["document"]["person"], serde_json::json!({ "note": "here" }), "{seen}");
    assert_eq!(seen["names"], serde_json::json!(["mood"]), "{seen}");
    let told = run(&cal, &["rules", "explain", "bob@localhost"]).one();
    assert_eq!((&told["decision"], &told["fields"][0]), (&"allow".into(), &"all".into()));
    assert!(!told.to_string().contains("friends"), "{told}");
    // Neither the values nor the reasons are for who has no right to the rules.
    for words in [["rules", "view-as", "bob@localhost"], ["rules", "explain", "bob@localhost"]] {
        assert_eq!(run(&eve, &words).code, 1);
    }
    let file = server.data().join("rules.toml");
    let path = file.to_str().unwrap();
    let tries = |text: String| {
        std::fs::write(&file, text).unwrap();
        run(&cal, &["rules", "set", path, "--dry-run"])
    };
    let note = rule("eve", "allow", "fields = [\"note\"]\ntuples = []");
    // Who may see nobody who watches is told of those whom the rules name, and tells nobody else apart.
    let lists = Impp::of(&server, "alice").run(&["contacts", "add", "dan@localhost"]);
    assert_eq!(lists.code, 0, "{lists:?}");
    let _dan = Watcher::sign_in(&server, "dan", ALICE).await;
    let friends = "[[rule]]\nid = \"friends\"\nwho = [\"contacts\"]\nhandling = \"allow\"\n";
    let named = tries(text(&note, "\"rules\"").replace(friends, ""));
    assert_eq!(named.code, 0, "{named:?}");
    let told = |item: &serde_json::Value| item["watcher"].as_str().unwrap().to_owned();
    let whom: std::collections::BTreeSet<String> = named.objects.iter().map(told).collect();
    assert_eq!(whom.into_iter().collect::<Vec<_>>(), ["eve@localhost"], "{named:?}");
    assert_eq!(named.objects[0]["gains"], serde_json::json!(["note"]), "{named:?}");
    // What it expects of them it may try.
    let expects = server.data().join("expect.toml");
    let expected = |word: &str| {
        let who = format!("[[expect]]\nwho = \"bob@localhost\"\n{word} = [\"mood\"]\n");
        std::fs::write(&expects, who).unwrap();
        run(&cal, &["rules", "test", expects.to_str().unwrap(), "--rules", path])
    };
    assert_eq!(expected("fields").one()["ok"], true);
    assert_eq!(expected("not_fields").code, 1);
    alice.set_rules(&text("", "\"rules\", \"watchers\"")).await;
    let of =
        |ran: &Ran, who: &str| ran.objects.iter().filter(|item| item["watcher"] == who).count();
    let gains = tries(text(&note, "\"rules\", \"watchers\""));
    assert_eq!((gains.code, of(&gains, "bob@localhost")), (0, 0), "{gains:?}");
    assert!(of(&gains, "eve@localhost") > 0, "{gains:?}");
    let less = text(&note, "\"rules\", \"watchers\"").replace(&rule("bob", "allow", ALL), "");
    let changed = tries(less);
    assert_eq!(changed.code, 0, "{changed:?}");
    let bobs = changed.objects.iter().find(|item| item["watcher"] == "bob@localhost");
    assert_eq!(bobs.expect("what bob loses")["after"], "block", "{changed:?}");
    // Whom a rule blocks politely is not listed to it as one who watches, and named by the rule: that this
    // would end is told.
    let polite = rule("eve", "polite-block", "");
    alice.set_rules(&text(&polite, "\"rules\", \"watchers\"")).await;
    let _eve = Watcher::sign_in(&server, "eve", ALICE).await;
    let ended = tries(text("", "\"rules\", \"watchers\""));
    assert!(ended.code == 0 && of(&ended, "eve@localhost") > 0, "{ended:?}");
    // What it may not set it may not try.
    let more = rule("eve", "allow", ALL);
    let refused = tries(text(&more, "\"rules\", \"watchers\""));
    assert!(refused.code == 1 && refused.stderr.contains("more than you may"), "{refused:?}");
}

/// By rules of its own a delegate would find out who is a contact, and in which sphere the owner is; by what
/// the owner sees, all that is published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d_4_a_delegate_tries_nothing_that_tells_of_contacts_or_spheres_or_of_the_whole() {
    let server = strangers(&["bob", "cal", "eve"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let before = lets("\"rules\"") + &rule("cal", "allow", "fields = [\"note\"]\ntuples = []");
    alice.set_rules(&before).await;
    alice.show(&document(&[("mood", "sad"), ("note", "here")], &[])).await;
    let cal = Impp::of(&server, "cal");
    let run = |words: &[&str]| cal.run(&[&["--for", ALICE], words].concat());
    let file = server.data().join("rules.toml");
    let path = file.to_str().unwrap();
    for (more, what) in
        [("except = [\"contacts\"]", "contacts"), ("sphere = [\"work\"]", "the sphere")]
    {
        std::fs::write(&file, format!("{before}{}", rule("eve", "block", more))).unwrap();
        let view = ["rules", "view-as", "eve@localhost", "--rules", path];
        let set = ["rules", "set", path];
        for words in [&view[..], &[&set[..], &["--dry-run"]].concat(), &set] {
            let refused = run(words);
            let said = refused.stderr.contains(&format!("looks at {what}"));
            assert!(refused.code == 1 && said, "{words:?}: {refused:?}");
        }
    }
    let all = run(&["rules", "view-as", ALICE]);
    assert!(all.code == 1 && all.stderr.contains("for nobody else"), "{all:?}");
    let own = run(&["rules", "view-as", CAL]).one();
    assert_eq!(own["document"]["person"], serde_json::json!({ "note": "here" }), "{own}");
}

/// A group that a delegate has given the name of one that decisions make would let in whom its owner denies.
#[tokio::test]
async fn d_4_whom_the_owner_denies_no_group_of_a_delegates_lets_in() {
    let server = strangers(&["bob", "cal", "eve"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let rules_of = |group: &str| {
        let asks = "[[rule]]\nid = \"ask\"\nwho = [\"authenticated\"]\nhandling = \"confirm\"\n";
        let named = format!("\"group:{group}\"");
        let lets = lets("\"rules\"").replace("\"bob@localhost\"", &named);
        let lets = lets.replace("\"accept\"", "\"hold\"");
        format!("[groups]\n{group} = [\"bob@localhost\"]\n\n{lets}{asks}")
    };
    alice.set_rules(&rules_of("friends")).await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    let base = cal.done(fetch(ALICE, What::Rules)).await.number.unwrap();
    for name in ["decided-deny", "decided-refuse", "decided-polite"] {
        let error = cal.request(rules(&rules_of(name), base)).await.expect_err("a refusal");
        assert_eq!(error.code, Code::Refused);
        let words = "the group \"friends\" is the owner's to change";
        assert_eq!(error.text.as_deref(), Some(words));
    }
    // An owner may call it so, and it lets in nobody who is denied.
    alice.set_rules(&rules_of("decided-refuse")).await;
    let mut eve = Peer::sign_in(&server, "eve").await;
    assert_eq!(eve.follow(ALICE).await.state, Some(SubscriptionState::Pending));
    let sent = Impp::of(&server, "eve").run(&["send", ALICE, "let me in"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let denied = Impp::of(&server, "alice").run(&["requests", "deny", "eve@localhost"]);
    assert_eq!(denied.code, 0, "{denied:?}");
    assert_eq!(eve.refused(fetch(ALICE, What::Presence)).await, Code::Refused);
    let mut bob = Peer::sign_in(&server, "bob").await;
    bob.look(ALICE).await;
}

/// A delegate leaves room in the rules for what their owner decides; where there was less, it makes it no less.
#[tokio::test]
async fn d_4_a_delegate_leaves_room_for_the_owners_decisions() {
    let server = strangers(&["bob", "cal", "eve"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let text = lets("\"rules\"");
    let filled = |bytes: usize| format!("{text}# {}\n", "x".repeat(bytes - text.len() - 3));
    alice.set_rules(&text).await;
    let mut cal = Peer::sign_in(&server, "cal").await;
    let base = cal.done(fetch(ALICE, What::Rules)).await.number.unwrap();
    let error = cal.request(rules(&filled(45 * 1024 + 1), base)).await.expect_err("a refusal");
    assert_eq!(error.code, Code::Refused, "{error:?}");
    assert!(error.text.unwrap().contains("need room"));
    cal.done(rules(&filled(45 * 1024), base)).await;
    alice.set_rules(&filled(50 * 1024)).await;
    let base = cal.done(fetch(ALICE, What::Rules)).await.number.unwrap();
    cal.done(rules(&filled(50 * 1024 - 1), base)).await;
}
