//! Who may see what: access rules, in fetching and in following, with the owner there or away.
//!
//! What happens when they change is in `rules_change`, the polite block in `rules_polite`, what
//! commands print in `rules_words`, who may write in `delivery`.

use impp_protocol::command::Subscribe;
use impp_protocol::presence::{Document, FieldName, Fields, PartId, Version};
use impp_protocol::state::{self, Decision, RequestEdit, SubscriptionState};
use impp_protocol::{Address, Code, What};
use impp_tests::dice::Dice;
use impp_tests::impp::Impp;
use impp_tests::peer::{Peer, fetch, publish, subscribe};
use impp_tests::presence::{Watcher, at_once, document, open, person};
use impp_tests::running::Running;
use impp_tests::{Server, eventually};

/// A rule about one account of the domain.
pub(crate) fn rule(who: &str, handling: &str, rest: &str) -> String {
    format!(
        "[[rule]]\nid = \"{who}\"\nwho = [\"{who}@localhost\"]\nhandling = \"{handling}\"\n{rest}\n"
    )
}

/// What lets see all.
pub(crate) const ALL: &str = "fields = [\"all\"]";

/// A server with these accounts, none in another's contact list, and alice among them.
pub(crate) fn strangers(names: &[&str]) -> Server {
    let server = at_once().accounts(["alice"]).start();
    names.iter().for_each(|name| server.add(name));
    server
}

/// The owner's word on a request.
pub(crate) async fn decide(owner: &mut Peer, from: &Address, decision: Decision) {
    let edit = state::encode(&RequestEdit::of(from.clone(), decision));
    let own = owner.address.clone();
    owner.done(publish(own.as_str(), What::Requests, Some(edit))).await;
}

/// Who may neither follow nor look never gets a field, before and after a change; who may gets it.
#[tokio::test]
async fn r2_3_1_who_is_denied_sees_nothing() {
    let server = strangers(&["bob", "carol", "dave"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&(rule("bob", "allow", ALL) + &rule("carol", "block", ""))).await;
    alice.show(&open("not for all")).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    assert_eq!(bob.held.document(), &open("not for all"));
    // Carol is named, dave is not: nothing granted means blocked.
    for name in ["carol", "dave"] {
        let mut denied = Peer::sign_in(&server, name).await;
        for lease in [None, Some(3600)] {
            let follow = Subscribe {
                lease: lease.map(std::time::Duration::from_secs),
                ..subscribe("alice@localhost", What::Presence)
            };
            assert_eq!(denied.refused(follow).await, Code::Refused);
        }
        assert_eq!(denied.refused(fetch("alice@localhost", What::Presence)).await, Code::Refused);
        alice.show(&open(name)).await;
        bob.until_note(name).await;
        assert_eq!(denied.fence().await, vec![]);
        assert_eq!(denied.subscriptions().await, vec![]);
    }
    let watchers: Vec<_> = alice.watchers().await.into_iter().map(|w| w.watcher).collect();
    assert_eq!(watchers, [bob.peer.address.clone()]);
}

/// Looking and following are decided apart: one may be allowed and the other not, either way.
#[tokio::test]
async fn r2_3_2_fetch_and_subscription_are_decided_apart() {
    let server = strangers(&["bob", "carol", "dave"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let rules = rule("bob", "block", "fetch = \"allow\"\nfields = [\"all\"]")
        + &rule("carol", "allow", "fetch = \"block\"\nfields = [\"all\"]")
        + &rule("dave", "allow", "fetch = \"polite-block\"\nfields = [\"all\"]");
    alice.set_rules(&rules).await;
    alice.show(&open("decided apart")).await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    assert_eq!(bob.look("alice@localhost").await, open("decided apart"));
    assert_eq!(bob.refused(subscribe("alice@localhost", What::Presence)).await, Code::Refused);
    let mut carol = Watcher::sign_in(&server, "carol", "alice@localhost").await;
    assert_eq!(carol.held.document(), &open("decided apart"));
    let look = fetch("alice@localhost", What::Presence);
    assert_eq!(carol.peer.refused(look).await, Code::Refused);
    let mut dave = Watcher::sign_in(&server, "dave", "alice@localhost").await;
    assert_eq!(dave.held.document(), &open("decided apart"));
    assert_eq!(dave.peer.look("alice@localhost").await, Document::offline());
}

const HANDLINGS: [&str; 6] = ["allow", "allow", "allow", "polite-block", "confirm", "block"];
const FIELDS: [&str; 5] = ["status", "note", "mood", "org.example.seat", "user-input"];
const SELECTORS: [&str; 4] = ["id:t1", "class:work", "scheme:im", "scheme:tel"];

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

fn random_rules(dice: &mut Dice) -> String {
    let mut text = String::new();
    for id in 0..1 + dice.roll(5) {
        let mut who = dice.some(&["bob@localhost", "carol@localhost", "dave@localhost"]);
        if dice.roll(3) == 0 {
            who = vec![*dice.pick(&["authenticated", "anyone", "domain:localhost", "contacts"])];
        }
        let handling = dice.pick(&HANDLINGS);
        text += &format!("[[rule]]\nid = \"{id}\"\nwho = [{}]\n", quoted(&who));
        text += &format!("handling = \"{handling}\"\n");
        let fields = if dice.roll(4) == 0 { vec!["all"] } else { dice.some(&FIELDS) };
        if *handling == "allow" {
            text += &format!("fields = [{}]\n", quoted(&fields));
        }
        if *handling == "allow" && dice.roll(2) == 0 {
            text += &format!("tuples = [{}]\n", quoted(&dice.some(&SELECTORS)));
        }
        if dice.roll(4) == 0 {
            text += &format!("sphere = [\"{}\"]\n", dice.pick(&["work", "home"]));
        }
    }
    text
}

fn random_document(dice: &mut Dice) -> Document {
    let mut whole = Document::default();
    for name in dice.some(&["note", "mood", "org.example.seat", "user-input"]) {
        whole.person.extend(document(&[(name, &dice.roll(4).to_string())], &[]).person);
    }
    if dice.roll(2) == 0 {
        let sphere = *dice.pick(&["work", "home", "beach"]);
        whole.person.extend(document(&[("sphere", sphere)], &[]).person);
    }
    for id in dice.some(&["t1", "t2", "t3"]) {
        let status = *dice.pick(&["open", "closed"]);
        let contact = *dice.pick(&["im:a@localhost", "tel:+1", "mailto:a@localhost"]);
        let class = *dice.pick(&["work", "home"]);
        let pairs =
            [("status", status), ("contact", contact), ("class", class), ("note", "of a tuple")];
        whole.tuples.extend(document(&[], &[(id, &pairs)]).tuples);
    }
    whole
}

/// Over hundreds of random rules and documents, what a watcher was notified of is what they would
/// fetch, to the bytes: the same document, or the same refusal.
#[tokio::test]
async fn r2_3_3_what_is_fetched_is_what_was_notified() {
    const SEED: u64 = 27_790;
    let server = strangers(&["bob", "carol", "dave"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut watchers = Vec::new();
    for name in ["bob", "carol", "dave"] {
        let peer = Peer::sign_in(&server, name).await;
        let presentity = "alice@localhost".to_owned();
        watchers.push(Watcher { peer, presentity, held: <_>::default() });
    }
    let (mut dice, mut shown, mut refused, mut pending) = (Dice::new(SEED), 0, 0, 0);
    for round in 0..150 {
        let rules = random_rules(&mut dice);
        let whole = random_document(&mut dice);
        // Either may change first.
        if dice.roll(2) == 0 {
            alice.set_rules(&rules).await;
            alice.show(&whole).await;
        } else {
            alice.show(&whole).await;
            alice.set_rules(&rules).await;
        }
        for watcher in &mut watchers {
            let case = format!("{} in round {round}, seed {SEED}:\n{rules}", watcher.peer.address);
            watcher.settle().await;
            let live = [Some(SubscriptionState::Active), Some(SubscriptionState::Pending)];
            let mut followed = live.contains(&watcher.held.state);
            if !followed {
                // Refused, or ended by an earlier round's rules.
                let follow = subscribe("alice@localhost", What::Presence);
                let answer = watcher.peer.request(follow).await;
                followed = answer.is_ok();
                watcher.held.state = answer.ok().and_then(|done| done.state);
                watcher.held.content = None;
                watcher.settle().await;
            }
            let look = fetch("alice@localhost", What::Presence);
            match watcher.peer.request(look).await {
                Ok(done) if done.state == Some(SubscriptionState::Active) => {
                    assert_eq!(watcher.held.state, done.state, "{case}");
                    assert_eq!(done.version, Some(watcher.held.version()), "{case}");
                    let content = done.content.unwrap();
                    assert_eq!(content, watcher.held.document().encode(), "{case}");
                    assert_eq!(Version::of(&content), watcher.held.version(), "{case}");
                    shown += 1;
                }
                Ok(done) => {
                    assert_eq!(done.state, Some(SubscriptionState::Pending), "{case}");
                    assert_eq!(done.content, None, "{case}");
                    assert_eq!(watcher.held.state, done.state, "{case}");
                    assert_eq!(watcher.held.content, None, "{case}");
                    pending += 1;
                }
                Err(error) => {
                    assert_eq!(error.code, Code::Refused, "{case}");
                    assert!(!followed, "{case}");
                    refused += 1;
                }
            }
        }
    }
    // Chance had its way with all three.
    assert!(shown > 100 && refused > 20 && pending > 10, "{shown}, {refused}, {pending}");
}

/// With no program of the owner's running the server allows, filters, blocks, hides and queues as
/// the rules say.
#[tokio::test]
async fn r2_3_7_rules_work_while_the_owner_is_away() {
    let server = strangers(&["bob", "carol", "dave", "erin", "fred"]);
    let mut client = Running::start(&server, "alice", &["inbox", "--follow"]);
    let alice = Impp::of(&server, "alice");
    let file = server.data().join("rules.toml");
    let rules = rule("bob", "allow", ALL)
        + &rule("carol", "allow", "fields = [\"status\"]")
        + &rule("dave", "polite-block", "")
        + &rule("erin", "confirm", "")
        + &rule("fred", "block", "")
        + "[[delivery]]\nid = \"b\"\nwho = [\"bob@localhost\"]\naction = \"accept\"\n";
    std::fs::write(&file, rules).unwrap();
    alice.run(&["rules", "set", file.to_str().unwrap()]).one();
    alice.run(&["status", "set", "open", "--note", "away"]).one();
    Impp::of(&server, "bob").run(&["send", "alice@localhost", "are you there?"]).one();
    client.until(|item| item["body"] == "are you there?");
    client.kill9();
    eventually("alice to be away", async || {
        (server.metrics().get("impp_connections") == 0.0).then_some(())
    })
    .await;
    let bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    assert_eq!(person(bob.held.document(), "note"), Some("away"));
    let carol = Watcher::sign_in(&server, "carol", "alice@localhost").await;
    assert_eq!(person(carol.held.document(), "note"), None);
    assert_eq!(
        carol.held.document().tuples.values().next().map(|t| &**t.get("status").unwrap()),
        Some("open")
    );
    let dave = Watcher::sign_in(&server, "dave", "alice@localhost").await;
    assert_eq!(dave.held.document(), &Document::offline());
    let mut erin = Peer::sign_in(&server, "erin").await;
    let asked = erin.follow("alice@localhost").await;
    assert_eq!(asked.state, Some(SubscriptionState::Pending));
    let mut fred = Peer::sign_in(&server, "fred").await;
    assert_eq!(fred.refused(subscribe("alice@localhost", What::Presence)).await, Code::Refused);
    let requests = alice.run(&["requests", "list"]).one();
    assert_eq!(
        (&requests["kind"], &requests["from"]),
        (&"subscribe".into(), &"erin@localhost".into())
    );
}

/// By what rules grant of `user-input`, and of which devices: each watcher sees its part by looking
/// and by following, and what is granted no more is taken back while they follow.
#[tokio::test]
async fn r5_2_3_the_same_field_shows_each_watcher_as_much_as_it_is_granted() {
    let server = strangers(&["bob", "carol", "dave", "erin"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let whole = "idle idle-threshold=600 last-input=2026-12-01T08:00:00Z";
    let part = |input: &str, device: &str| {
        let name = |name| FieldName::parse(name).unwrap();
        let input = (!input.is_empty()).then(|| (name("user-input"), input.into()));
        let class = (!device.is_empty()).then(|| (name("class"), device.into()));
        input.into_iter().chain(class).collect::<Fields>()
    };
    let mut full = open("typing");
    full.devices.insert(PartId::parse("desk").unwrap(), part(whole, "work"));
    full.devices.insert(PartId::parse("sofa").unwrap(), part("active", "home"));
    let grants =
        |fields: &str| format!("fields = [\"note\", {fields}]\ndevices = [\"class:work\"]");
    let rules = |bob: &str| {
        rule("bob", "allow", &grants(bob))
            + &rule("carol", "allow", &grants("\"user-input:thresholds\""))
            + &rule("dave", "allow", &grants("\"user-input\""))
            + &rule("erin", "allow", "fields = [\"note\"]\ndevices = []")
    };
    alice.set_rules(&rules("\"user-input:bare\"")).await;
    alice.show(&full).await;
    let seen = |input: &str| {
        let mut seen = open("typing");
        seen.devices.insert(PartId::parse("desk").unwrap(), part(input, "work"));
        seen
    };
    let expected = [
        ("bob", seen("idle")),
        ("carol", seen("idle idle-threshold=600")),
        ("dave", seen(whole)),
        ("erin", open("typing")),
    ];
    let mut following = Vec::new();
    for (name, document) in &expected {
        let mut watcher = Watcher::sign_in(&server, name, "alice@localhost").await;
        assert_eq!(watcher.held.document(), document, "{name}");
        assert_eq!(watcher.peer.look("alice@localhost").await, *document, "{name}");
        following.push(watcher);
    }
    // More is granted, and taken back, while bob follows.
    for (granted, input) in [("\"user-input\"", whole), ("\"mood\"", "")] {
        alice.set_rules(&rules(granted)).await;
        following[0].until(|held| *held.document() == seen(input)).await;
    }
}
