//! What a change costs and what its version tells: one encoding for each view, small patches,
//! versions of nothing but what is seen.

use std::time::Duration;

use impp_protocol::command::{Fetch, Subscribe};
use impp_protocol::presence::{Document, Version};
use impp_protocol::{Command, Request, What};
use impp_tests::peer::{Peer, fetch, subscribe};
use impp_tests::presence::{Held, Watcher, at_once, document, open};
use impp_tests::wire::Dial;
use impp_tests::{Server, eventually};
use tokio::task::JoinSet;

/// Three rules, of which each lets a third of the watchers see something else.
fn three_views(names: &[String]) -> String {
    let fields = [r#"["status"]"#, r#"["status", "note"]"#, r#"["all"]"#];
    let (mut groups, mut rules) = ("[groups]\n".to_owned(), String::new());
    for (view, fields) in fields.iter().enumerate() {
        let members = names.iter().skip(view).step_by(3);
        let members: Vec<_> = members.map(|name| format!("\"{name}@localhost\"")).collect();
        groups.push_str(&format!("view{view} = [{}]\n", members.join(", ")));
        rules.push_str(&format!(
            "[[rule]]\nid = \"view{view}\"\nwho = [\"group:view{view}\"]\n\
             handling = \"allow\"\nfields = {fields}\n"
        ));
    }
    groups + &rules
}

/// Signs in as many accounts, some at a time, and follows alice with each.
async fn all_follow(server: &Server, names: Vec<String>) -> Vec<Peer> {
    let profiles = server.add_many(names);
    let (dial, mut tasks, mut peers) = (Dial::to(server), JoinSet::new(), Vec::new());
    for profile in profiles {
        if tasks.len() == 8 {
            peers.push(tasks.join_next().await.unwrap().unwrap());
        }
        let dial = dial.clone();
        tasks.spawn(async move {
            let wire = dial.connect().await.unwrap();
            let mut peer = Peer::over(wire, &profile, 1).await.unwrap();
            peer.follow("alice@localhost").await;
            peer.notify().await;
            peer
        });
    }
    peers.extend(tasks.join_all().await);
    peers
}

/// One publication for a thousand watchers, who are a thousand principals in three views, is
/// filtered and encoded three times; all of a view get the same bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_encoded_once_for_each_view() {
    const WATCHERS: usize = 1000;
    // Nobody answers PINGs while the others sign in.
    let server = at_once().set("times.idle_seconds", 3600).start();
    let names: Vec<String> = (0..WATCHERS).map(|n| format!("w{n}")).collect();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.set_rules(&three_views(&names)).await;
    alice.show(&open("before")).await;
    let mut peers = all_follow(&server, names).await;
    let watching = alice.watchers().await;
    assert_eq!(watching.iter().filter(|w| w.watcher.local().starts_with('w')).count(), WATCHERS);
    let before = server.metrics();
    let shown = document(
        &[("note", "after"), ("mood", "happy")],
        &[("im", &[("status", "closed")]), ("more", &[("status", "open")])],
    );
    alice.show(&shown).await;
    let mut views: Vec<(Version, Vec<u8>, usize)> = Vec::new();
    for peer in &mut peers {
        let notify = peer.notify().await;
        let bytes = notify.patch.or(notify.snapshot).unwrap().to_vec();
        let version = notify.version.unwrap();
        match views.iter_mut().find(|view| view.0 == version) {
            Some(view) => {
                assert_eq!(view.1, bytes, "two encodings of one view");
                view.2 += 1;
            }
            None => views.push((version, bytes, 1)),
        }
    }
    let mut sizes: Vec<usize> = views.iter().map(|view| view.2).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [333, 333, 334]);
    let after = server.metrics();
    let rose = |name: &str| after.get(name) - before.get(name);
    assert_eq!(rose("impp_view_encodes_total"), 3.0);
    assert_eq!(rose("impp_notifications_total"), WATCHERS as f64);
}

/// One of twenty fields changes: what goes out is a patch, in a frame of less than 100 bytes.
#[tokio::test]
async fn one_field_of_twenty_is_a_small_patch() {
    let server = at_once().start();
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let mut alice = Peer::sign_in(&server, "alice").await;
    let names: Vec<String> = (0..20).map(|n| format!("org.example.field{n}")).collect();
    let value = "a value that is not very short, as values are".to_owned();
    let mut pairs: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &*value)).collect();
    alice.show(&document(&pairs, &[("im", &[("status", "open")])])).await;
    bob.next().await;
    pairs[7].1 = "another";
    let changed = document(&pairs, &[("im", &[("status", "open")])]);
    alice.show(&changed).await;
    let frame = bob.peer.wire().frame().await.unwrap();
    let mut bytes = bytes::BytesMut::new();
    frame.clone().put(&mut bytes).unwrap();
    assert!(bytes.len() < 100, "{} bytes", bytes.len());
    let Command::Notify(notify) = Request::decode(frame).unwrap().command else { panic!() };
    assert!(notify.patch.is_some());
    bob.held.take(&notify);
    assert_eq!(bob.held.document(), &changed);
}

/// Equal content has equal versions, whoever sees it, however they came to it; other content has
/// others.
#[tokio::test]
async fn r5_1_4_equal_views_have_equal_versions() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice
        .set_rules(
            "[[rule]]\nid = \"b\"\nwho = [\"bob@localhost\"]\nhandling = \"allow\"\n\
             fields = [\"note\"]\n\
             [[rule]]\nid = \"c\"\nwho = [\"carol@localhost\"]\nhandling = \"allow\"\n\
             fields = [\"note\", \"mood\"]\n",
        )
        .await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    alice.show(&open("first")).await;
    let mut carol = Watcher::sign_in(&server, "carol", "alice@localhost").await;
    alice.show(&open("second")).await;
    bob.until_note("second").await;
    carol.until_note("second").await;
    assert_eq!(bob.held.version(), carol.held.version());
    alice
        .show(&document(&[("note", "second"), ("mood", "sad")], &[("im", &[("status", "open")])]))
        .await;
    carol.next().await;
    assert_ne!(bob.held.version(), carol.held.version());
    // Back to what was: the version is that of before.
    alice.show(&open("second")).await;
    carol.next().await;
    assert_eq!(bob.held.version(), carol.held.version());
    assert_eq!(bob.settle().await, 0, "bob sees nothing of the mood");
}

/// A change that a watcher may not see sends nothing, nor does one that changes nothing; the
/// version held stays the newest, by FETCH as well.
#[tokio::test]
async fn a_hidden_change_sends_nothing() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice
        .set_rules(
            "[[rule]]\nid = \"b\"\nwho = [\"bob@localhost\"]\nhandling = \"allow\"\n\
             fields = [\"status\"]\ntuples = [\"id:im\"]\n\
             [[rule]]\nid = \"c\"\nwho = [\"carol@localhost\"]\nhandling = \"allow\"\n\
             fields = [\"all\"]\n",
        )
        .await;
    alice.show(&open("before")).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let mut carol = Watcher::sign_in(&server, "carol", "alice@localhost").await;
    let told = server.metrics().get("impp_notifications_total");
    for n in 0..10 {
        let note = format!("hidden {n}");
        let im = [("status", "open"), ("mood", "hidden")];
        alice.show(&document(&[("note", &note)], &[("im", &im), ("work", &im)])).await;
        // Once more, which is no change for anybody.
        alice.show(&document(&[("note", &note)], &[("im", &im), ("work", &im)])).await;
        carol.until_note(&note).await;
    }
    assert_eq!(carol.settle().await, 0);
    assert_eq!(bob.settle().await, 0);
    assert_eq!(server.metrics().get("impp_notifications_total") - told, 10.0);
    let version = Some(bob.held.version());
    let unchanged = Fetch { version, ..fetch("alice@localhost", What::Presence) };
    let done = bob.peer.done(unchanged).await;
    assert_eq!((done.version, done.content), (version, None));
}

/// Who returns with the version held gets just what is missing: nothing, or a patch from it; with
/// a version that nobody knows, the whole.
#[tokio::test]
async fn who_returns_gets_what_is_missing() {
    let server = at_once().start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let much = "much to say ".repeat(100);
    let of =
        |mood: &str| document(&[("note", &much), ("mood", mood)], &[("im", &[("status", "open")])]);
    alice.show(&of("calm")).await;
    let bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let Watcher { peer, held, .. } = bob;
    peer.leave().await;
    let again = |version| Subscribe { version, ..subscribe("alice@localhost", What::Presence) };
    let mut peer = Peer::sign_in(&server, "bob").await;
    let done = peer.done(again(Some(held.version()))).await;
    assert_eq!(done.version, Some(held.version()));
    assert_eq!(peer.fenced().await, vec![]);
    peer.leave().await;
    alice.show(&of("happy")).await;
    let mut peer = Peer::sign_in(&server, "bob").await;
    peer.done(again(Some(held.version()))).await;
    let notify = peer.notify().await;
    assert_eq!(notify.base, Some(held.version()));
    let mut returned: Held = held.clone();
    returned.take(&notify);
    assert_eq!(returned.document(), &of("happy"));
    peer.leave().await;
    let mut peer = Peer::sign_in(&server, "bob").await;
    peer.done(again(Some(Version([7; 16])))).await;
    let notify = peer.notify().await;
    assert_eq!((notify.base, notify.version), (None, Some(returned.version())));
    assert_eq!(Document::decode(notify.snapshot.unwrap()).unwrap(), of("happy"));
}

/// So many changes are shown at once, then one in a second.
fn paced(burst: usize) -> Server {
    Server::with()
        .set("times.pace_burst", burst as i64)
        .set("times.pace_milliseconds", 1000)
        .set("limits.requests_burst", 10_000)
        .start()
}

/// A burst is shown at once and then one change in an interval; the last is never dropped, and
/// messages are not delayed.
#[tokio::test]
async fn h4_a_presence_storm_is_paced_and_the_last_never_dropped() {
    const CHANGES: usize = 200;
    const BURST: usize = 5;
    let server = paced(BURST);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let mut carol = Peer::sign_in(&server, "carol").await;
    let start = std::time::Instant::now();
    for n in 0..CHANGES {
        let note = format!("change {n}");
        alice.show(&open(&note)).await;
        // Else what comes while bob is just being told is one NOTIFY with it.
        if n < BURST {
            bob.until_note(&note).await;
        }
    }
    carol.send("bob@localhost", "in the storm").await;
    assert_eq!(bob.peer.inbox().await.len(), 1);
    bob.until_note(&format!("change {}", CHANGES - 1)).await;
    // As many as the time that has passed allows, and one for rounding; the first NOTIFY told of
    // no change.
    let allowed = BURST + start.elapsed().as_secs() as usize + 1;
    let told = bob.held.count - 1;
    assert!(told <= allowed, "{told} changes shown, {allowed} allowed");
    assert!(told > BURST, "{told} changes shown of a burst of {BURST} and more");
    // After a rest a change is shown at once again; and what the pace held back is not repeated.
    eventually("a rest", async || (start.elapsed() > Duration::from_secs(2)).then_some(())).await;
    alice.show(&open("after the storm")).await;
    bob.until_note("after the storm").await;
    assert_eq!(bob.held.count - 1, told + 1);
}

/// What a sphere grants that comes and goes is shown at the pace, and goes at once; the last is never
/// dropped.
#[tokio::test]
async fn d6_h4_a_sphere_that_toggles_does_not_pass_the_pace_by() {
    const TOGGLES: usize = 60;
    const BURST: usize = 5;
    let server = paced(BURST);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let rule = |id: &str, more: &str| {
        format!(
            "[[rule]]\nid = \"{id}\"\nwho = [\"bob@localhost\"]\nhandling = \"allow\"\n{more}\n"
        )
    };
    let always = rule("always", "fields = [\"status\"]");
    let at_work = rule("work", "fields = [\"all\"]\nsphere = [\"work\"]");
    alice.set_rules(&(always + &at_work)).await;
    let im: &[(&str, &[(&str, &str)])] = &[("im", &[("status", "open")])];
    let says = |sphere: &str, note: &str| document(&[("sphere", sphere), ("note", note)], im);
    alice.show(&says("home", "sofa")).await;
    let mut bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    let (start, before) = (std::time::Instant::now(), bob.held.count);
    for n in 0..TOGGLES {
        alice.show(&says(["work", "home"][n % 2], &format!("change {n}"))).await;
        // Else what comes and goes while bob is just being told is nothing at all.
        bob.settle().await;
        if n % 2 == 1 {
            assert_eq!(bob.held.document(), &document(&[], im), "what is taken away goes at once");
        }
    }
    alice.show(&says("work", "the last")).await;
    bob.until_note("the last").await;
    let granted = BURST + start.elapsed().as_secs() as usize + 1;
    let told = bob.held.count - before;
    assert!(told <= 2 * granted, "{told} changes shown, {granted} grants allowed");
    assert!(told >= BURST, "{told} changes shown");
}
