//! What other domains may not be told: an address that does not exist is an account with the rules of a
//! new one whose owner never signs in. The same course is asked of both, and what came of it compared,
//! word for word and in its order: over a link, and by users of a domain hosted beside it.

use std::time::Duration;

use impp_protocol::command::{Fetch, Message, Notify, Publish, Subscribe};
use impp_protocol::state::{Decision, Fate, RequestEdit, SubscriptionEvent, SubscriptionState};
use impp_protocol::{Code, Command, MessageId, What, state};
use impp_tests::badpeer::Link;
use impp_tests::peer::{fetch, id_at, message, publish, subscribe};
use impp_tests::presence::open;
use impp_tests::server::Start;
use impp_tests::wire::bytes_of;
use impp_tests::{BadPeer, Domains, Peer, Server, eventually};

use crate::hosted::with_other;

/// Who of b.example is asked for: an account of whom nobody has heard, or nobody.
const DORA: &str = "dora@b.example";
/// So many may wait for an owner; a quarter of that, of one other domain.
const PENDING_MAX: i64 = 16;
const PENDING_OF_DOMAIN: usize = 4;
/// Messages that are held of one sender.
const HELD_OF_SENDER: usize = 8;

/// All that came, as far as it could tell something.
#[derive(Debug, Default)]
struct Transcript(Vec<String>);

impl Transcript {
    fn note(&mut self, of: &str, came: impl std::fmt::Debug) {
        let text = format!("{of}: {came:?}");
        // When it was, and under which number, is another for each.
        let times = text.split("time: Some(Timestamp(");
        let times = times.map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
        self.0.push(times.collect::<Vec<_>>().join("time: Some(Timestamp("));
    }

    /// What the last thing was.
    fn last(&self) -> &str {
        self.0.last().map_or("", |last| last)
    }
}

/// The server of a.example, as wrong as it likes, and its link to b.example.
struct Course {
    domains: Domains,
    peer: BadPeer,
    link: Link,
    came: Transcript,
}

impl Course {
    async fn begin(settings: impl Fn(&str, Start) -> Start) -> Course {
        let domains = Domains::with(&["b.example"], settings).await;
        let peer = BadPeer::among(&domains, "a.example").await;
        let link = peer.call(&domains["b.example"]).await;
        Course { domains, peer, link, came: Transcript::default() }
    }

    async fn ask(&mut self, of: &str, what: impl Into<Command>) {
        let answer = self.link.request(what).await;
        self.came.note(of, answer);
    }

    async fn fetch(&mut self, who: &str) {
        let watcher = Some(self.peer.account(who));
        self.ask("FETCH", Fetch { watcher, ..fetch(DORA, What::Presence) }).await;
    }

    async fn follow(&mut self, who: &str, seconds: u64) {
        let watcher = Some(self.peer.account(who));
        let lease = Some(Duration::from_secs(seconds));
        self.ask("SUBSCRIBE", Subscribe { watcher, lease, ..subscribe(DORA, What::Presence) })
            .await;
    }

    async fn write(&mut self, who: &str, id: MessageId) {
        let message = self.peer.message(who, DORA, "hello");
        self.ask("MESSAGE", Message { id, ..message }).await;
    }

    /// What the link says unasked, the next thing.
    async fn told(&mut self) -> Notify {
        let asked = impp_tests::wait::within("something unasked", self.link.try_asked()).await;
        let Command::Notify(notify) = asked.expect("a link that stays").command else { panic!() };
        self.came.note("NOTIFY", &notify);
        notify
    }

    /// Writes until no more of it is held.
    async fn fill(&mut self, who: &str) {
        while !self.came.last().contains("Full") {
            self.write(who, id_at(0)).await;
        }
    }

    /// The same as soon as there is room again.
    async fn fill_anew(&mut self, who: &str) {
        let fits = async {
            while self.link.request(self.peer.message(who, DORA, "hello")).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        impp_tests::wait::within("room for what is held", fits).await;
        self.write(who, id_at(0)).await;
        self.fill(who).await;
    }

    async fn call_again(&mut self) {
        self.link = self.peer.call(&self.domains["b.example"]).await;
    }
}

/// Looks, asks, asks again, lapses, leaves, comes back, fills up what there is of places.
async fn over_a_link(exists: bool) -> Vec<String> {
    let mut course = Course::begin(|_, start| start.set("limits.pending_max", PENDING_MAX)).await;
    if exists {
        course.domains["b.example"].add("dora");
    }
    course.fetch("amy").await;
    course.follow("amy", 600).await;
    course.follow("amy", 600).await;
    course.fetch("amy").await;
    // A lease that ends by itself is told; the request waits on.
    course.follow("ben", 1).await;
    let lapsed = course.told().await;
    assert_eq!(lapsed.event, Some(SubscriptionEvent::Timeout), "{lapsed:?}");
    course.follow("amy", 0).await;
    course.follow("amy", 600).await;
    for index in 2..=PENDING_OF_DOMAIN {
        course.follow(&format!("w{index}"), 600).await;
    }
    assert!(course.came.last().contains("Full"), "{}", course.came.last());
    let first = id_at(0);
    course.write("amy", first).await;
    course.write("amy", first).await;
    for _ in 1..=HELD_OF_SENDER {
        course.write("amy", id_at(0)).await;
    }
    assert!(course.came.last().contains("Full"), "{}", course.came.last());
    // Volatile ones go nowhere.
    let volatile = Message { volatile: true, ..course.peer.message("amy", DORA, "now") };
    course.ask("MESSAGE", volatile).await;
    // All that is so on the disk, too.
    course.domains["b.example"].kill9();
    course.domains["b.example"].restart();
    course.call_again().await;
    course.follow("zoe", 600).await;
    assert!(course.came.last().contains("Full"), "{}", course.came.last());
    course.write("amy", id_at(0)).await;
    assert!(course.came.last().contains("Full"), "{}", course.came.last());
    course.write("amy", first).await;
    course.fetch("amy").await;
    course.follow("amy", 600).await;
    // Another link takes the place of this one.
    course.call_again().await;
    course.follow("amy", 600).await;
    // Dora comes at last, and lets amy in.
    if !exists {
        course.domains["b.example"].add("dora");
    }
    let mut dora = Peer::sign_in(&course.domains["b.example"], "dora").await;
    let mut asking: Vec<_> = dora.requests().await.entries;
    asking.retain(|entry| entry.kind == state::RequestKind::Subscribe);
    let asking: Vec<_> = asking.into_iter().map(|entry| entry.from.to_string()).collect();
    course.came.note("requests", asking);
    let edit = RequestEdit::of(course.peer.account("amy"), Decision::Allow);
    dora.done(publish(DORA, What::Requests, Some(state::encode(&edit)))).await;
    let let_in = course.told().await;
    assert_eq!(let_in.state, SubscriptionState::Active, "{let_in:?}");
    course.came.0
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_f14_over_a_link_nobody_is_an_account_that_never_signs_in() {
    let (known, unknown) = tokio::join!(over_a_link(true), over_a_link(false));
    assert_eq!(known, unknown);
}

/// The same of one who follows, asks and writes on the same server, in another of its domains.
async fn beside(whom: &str) -> Vec<String> {
    let start = Server::with().set("limits.leases_max", 3).set("times.lease_min_seconds", 1);
    let mut server = with_other(start);
    let mut came = Transcript::default();
    let mut alice = Peer::sign_in(&server, "alice").await;
    came.note("FETCH", alice.request(fetch(whom, What::Presence)).await);
    came.note("SUBSCRIBE", alice.request(subscribe(whom, What::Presence)).await);
    for seconds in [600, 600] {
        came.note("SUBSCRIBE", alice.follow_for(whom, seconds).await);
    }
    // It counts among what an account may follow by leases.
    for other in ["x", "y", "z"] {
        came.note(other, alice.follow_for(&format!("{other}@other.example"), 600).await);
    }
    assert!(came.last().contains("Full"), "{}", came.last());
    // What ends by itself is told.
    let mut carol = Peer::sign_in(&server, "carol").await;
    came.note("SUBSCRIBE", carol.follow_for(whom, 1).await);
    let lapsed = impp_tests::wait::within("the end of a lease", carol.notify()).await;
    assert_eq!(lapsed.event, Some(SubscriptionEvent::Timeout), "{lapsed:?}");
    came.note("NOTIFY", lapsed);
    // A new session finds what it follows, one after a restart too.
    for crash in [false, true] {
        if crash {
            server.kill9();
            server.restart();
        } else {
            carol.leave().await;
            alice.leave().await;
        }
        alice = Peer::sign_in(&server, "alice").await;
        carol = Peer::sign_in(&server, "carol").await;
        for peer in [&mut alice, &mut carol] {
            let mut all = peer.subscriptions().await;
            all.iter_mut().for_each(|one| one.expires_in = one.expires_in.map(|_| Duration::ZERO));
            came.note("subscriptions", all);
        }
        assert!(came.last().contains(whom), "a request that has lapsed waits: {}", came.last());
        came.note("another", alice.follow_for("z@other.example", 600).await);
        assert!(came.last().contains("Full"), "{}", came.last());
    }
    let hello = message(whom, "hello");
    let id = hello.id;
    came.note("MESSAGE", alice.done(hello.clone()).await.outcome);
    came.note("MESSAGE", alice.done(hello).await.outcome);
    let fate = alice.fate(id).await;
    assert_eq!(fate.fate, Fate::Delivered);
    came.note("fate", (fate.code, fate.by, fate.text));
    came.note("cancelled", alice.follow_for(whom, 0).await);
    server.stop();
    came.0.into_iter().map(|line| line.replace(whom, "WHOM")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_f14_to_a_domain_hosted_beside_it_nobody_is_an_account_that_never_signs_in() {
    let (known, unknown) = tokio::join!(beside("bob@other.example"), beside("bon@other.example"));
    assert_eq!(known, unknown);
}

/// A removal is no more to who waited than that it was given up, which comes to those who wait for nobody
/// too; and nothing of it is told to who asks later.
#[tokio::test(flavor = "multi_thread")]
async fn d6_who_was_removed_is_nobody_to_who_asks_later() {
    let mut course = Course::begin(|_, start| start).await;
    course.domains["b.example"].add("dora");
    course.follow("amy", 600).await;
    course.domains["b.example"].user_ok(&["remove", DORA]);
    let gone = course.told().await;
    assert_eq!(gone.event, Some(SubscriptionEvent::Giveup), "{gone:?}");
    course.follow("ben", 600).await;
    let pending = course.came.last().to_owned();
    course.follow("amy", 600).await;
    assert_eq!(course.came.last(), pending);
    assert!(pending.contains("Pending"), "{pending}");
}

/// What was taken of amy's is there for dora to decide about, whatever others were told.
async fn all_is_there(course: &Course, count: u64) {
    let amy = course.peer.account("amy");
    let mut dora = Peer::sign_in(&course.domains["b.example"], "dora").await;
    let held = dora.requests().await.entries;
    let held = held.iter().find(|entry| entry.kind == state::RequestKind::Message).unwrap();
    assert_eq!((&held.from, held.count), (&amy, Some(count)));
    let edit = RequestEdit::of(amy, Decision::Allow);
    dora.done(publish(DORA, What::Requests, Some(state::encode(&edit)))).await;
    assert_eq!(dora.inbox().await.len() as u64, count);
}

/// At so many addresses a domain may wait for an owner: where it asks for very many more the oldest are
/// given up, which is told alike whether they exist; and what was held there has no place any more.
async fn crowded_out(exists: bool) -> Vec<String> {
    /// One more than `GHOSTS_PER_DOMAIN_MAX`, with dora's.
    const MANY: usize = 4096;
    /// A quarter of `limits.pending_max`.
    const HELD_OF_ONE: u64 = 50;
    let mut course = Course::begin(|_, start| start).await;
    if exists {
        course.domains["b.example"].add("dora");
    }
    course.follow("amy", 600).await;
    course.follow("ben", 600).await;
    // They are known again after a crash.
    course.domains["b.example"].kill9();
    course.domains["b.example"].restart();
    course.call_again().await;
    course.follow("amy", 600).await;
    course.follow("ben", 600).await;
    // A share of what is held is full.
    course.fill("amy").await;
    let (watcher, lease) = (Some(course.peer.account("amy")), Some(Duration::from_secs(600)));
    let mut wait = Vec::new();
    for index in 0..MANY {
        let whom = format!("g{index}@b.example");
        // To look takes a place as well as to follow does.
        let ask: Command = match index % 2 {
            0 => Subscribe { watcher: watcher.clone(), lease, ..subscribe(&whom, What::Presence) }
                .into(),
            _ => Fetch { watcher: watcher.clone(), ..fetch(&whom, What::Presence) }.into(),
        };
        wait.push(course.link.ask(ask).await);
        if wait.len() >= 32 {
            for number in wait.drain(..) {
                course.link.answer(number).await.unwrap();
            }
        }
    }
    let mut told = Vec::new();
    while told.len() < 2 {
        let given_up = course.told().await;
        assert_eq!(given_up.event, Some(SubscriptionEvent::Giveup), "{given_up:?}");
        assert_eq!(given_up.address.to_string(), DORA);
        // Together or one by one: that is a matter of the moment.
        let Notify { watchers, state, event, group, snapshot, patch, .. } = given_up;
        let rest = (state, event, group, snapshot, patch);
        told.extend(watchers.into_iter().map(|watcher| format!("{watcher}: {rest:?}")));
    }
    told.sort();
    // Nothing of it stays on the disk.
    let server = &course.domains["b.example"];
    eventually("what is stored of it to go", async || {
        let left = crate::removal::records_of(server, "dora");
        (exists || left.is_empty()).then_some(())
    })
    .await;
    assert!(!crate::removal::records_of(server, "g8").is_empty(), "others stay");
    // That share is free again, and full again, also after a crash.
    course.fill_anew("amy").await;
    course.domains["b.example"].kill9();
    course.domains["b.example"].restart();
    course.call_again().await;
    course.write("amy", id_at(0)).await;
    assert!(course.came.last().contains("Full"), "{}", course.came.last());
    course.follow("amy", 600).await;
    if exists {
        all_is_there(&course, 2 * HELD_OF_ONE).await;
    }
    let answers = course.came.0.into_iter().filter(|line| !line.starts_with("NOTIFY"));
    answers.chain(told).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_f14_who_is_crowded_out_is_given_up_whether_there_is_an_account() {
    let known = crowded_out(true).await;
    let unknown = crowded_out(false).await;
    assert_eq!(known, unknown);
}

/// A domain may ask for so many addresses that it has not asked for lately, and for those it has. What it
/// is told is the same of those who exist and of those who do not.
#[tokio::test(flavor = "multi_thread")]
async fn d6_f14_how_many_addresses_a_domain_may_ask_for_tells_of_none_whether_it_exists() {
    let few = |_: &str, start: Start| {
        let start = start.set("federation.new_addresses_burst", 3);
        start.set("federation.new_addresses_per_second", 1)
    };
    let mut told = Vec::new();
    for exists in [true, false] {
        let mut course = Course::begin(few).await;
        if exists {
            course.domains["b.example"].add("dora");
        }
        course.follow("amy", 600).await;
        // What comes back meanwhile is used up.
        for index in 0.. {
            let ask = fetch(&format!("n{index}@b.example"), What::Presence);
            let ask = Fetch { watcher: Some(course.peer.account("amy")), ..ask };
            match course.link.request(ask).await {
                Err(error) if error.code == Code::RateLimited => break,
                answer => drop(answer.unwrap()),
            }
        }
        // Dora is known.
        for _ in 0..3 {
            course.follow("amy", 600).await;
            assert!(course.came.last().contains("Pending"), "{}", course.came.last());
            course.write("amy", id_at(0)).await;
            course.fetch("amy").await;
        }
        told.push(course.came.0);
    }
    assert_eq!(told[0], told[1]);
    let mut refused = Vec::new();
    for exists in [true, false] {
        let mut course = Course::begin(few).await;
        if exists {
            course.domains["b.example"].add("dora");
        }
        // In one piece, so that nothing comes back in between.
        let mut all: Vec<Command> = Vec::new();
        let watcher = Some(course.peer.account("amy"));
        let lease = Some(Duration::from_secs(600));
        let fetch = |whom: &str| Fetch {
            watcher: watcher.clone(),
            ..impp_tests::peer::fetch(whom, What::Presence)
        };
        let follow =
            Subscribe { watcher: watcher.clone(), lease, ..subscribe(DORA, What::Presence) };
        let whom: [Command; 3] =
            [fetch(DORA).into(), follow.into(), course.peer.message("amy", DORA, "hello").into()];
        for (n, ask) in whom.into_iter().enumerate() {
            let others = (0..10).map(|m| fetch(&format!("n{n}-{m}@b.example")).into());
            all.extend(others.chain([ask]));
        }
        // To let go of what one never had is always possible.
        let none = Some(Duration::ZERO);
        let release =
            Subscribe { watcher: watcher.clone(), lease: none, ..subscribe(DORA, What::Presence) };
        all.push(release.into());
        course.link.write((1..).zip(all).map(|(number, ask)| bytes_of(number, ask))).await;
        for number in 1..=34 {
            let answer = course.link.answer(number).await;
            if number % 11 == 0 || number == 34 {
                course.came.note("ANSWER", answer);
            }
        }
        refused.push(course.came.0);
    }
    assert_eq!(refused[0], refused[1]);
    assert_eq!(refused[0].iter().filter(|line| line.contains("RateLimited")).count(), 3);
}

/// Who comes back to what is stored of it pays nothing, however much that is; who lets go of what it never
/// had pays and is not refused, and takes nobody's place. All that is the same of those who do not exist.
#[tokio::test(flavor = "multi_thread")]
async fn d6_f14_who_comes_back_pays_nothing_and_who_lets_go_of_nothing_pays() {
    const MANY: usize = 8;
    const BURST: i64 = 3;
    let few = |_: &str, start: Start| {
        let start = start.set("federation.new_addresses_burst", BURST);
        start.set("federation.new_addresses_per_second", 1)
    };
    let mut told = Vec::new();
    for exist in [true, false] {
        let mut course = Course::begin(few).await;
        let whom: Vec<_> = (0..MANY).map(|index| format!("n{index}@b.example")).collect();
        if exist {
            (0..MANY).for_each(|index| course.domains["b.example"].add(&format!("n{index}")));
        }
        let watcher = Some(course.peer.account("amy"));
        let ask = |whom: &str, seconds| Subscribe {
            watcher: watcher.clone(),
            lease: Some(Duration::from_secs(seconds)),
            ..subscribe(whom, What::Presence)
        };
        for whom in &whom {
            // What comes back with time is waited for.
            eventually("a new address", async || course.link.request(ask(whom, 600)).await.ok())
                .await;
        }
        course.domains["b.example"].kill9();
        course.domains["b.example"].restart();
        course.call_again().await;
        let back = whom.iter().map(|whom| ask(whom, 600));
        // None of these has ever been asked for.
        let none = (0..MANY).map(|index| ask(&format!("m{index}@b.example"), 0));
        let new = [ask("x@b.example", 600)];
        let all = back.chain(none).chain(new).map(Command::from);
        course.link.write((1..).zip(all).map(|(number, ask)| bytes_of(number, ask))).await;
        for number in 1..=2 * MANY as u64 + 1 {
            let answer = course.link.answer(number).await;
            course.came.note("ANSWER", answer);
        }
        told.push(course.came.0);
    }
    assert_eq!(told[0], told[1]);
    let with = |text: &str| told[0].iter().filter(|line| line.contains(text)).count();
    assert_eq!((with("Pending"), with("Terminated")), (MANY, MANY), "{:?}", told[0]);
    assert!(told[0].last().unwrap().contains("RateLimited"), "{:?}", told[0]);
}

/// Somebody politely blocked owns rules, too: their version does not count what others do.
#[tokio::test]
async fn d6_the_number_of_ones_rules_counts_ones_own_changes_alone() {
    let server = Server::quickstart();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    let text = bytes::Bytes::from_static(b"# none\n");
    let rules = async |bob: &mut Peer, base| {
        let own = publish("bob@localhost", What::Rules, Some(text.clone()));
        bob.request(Publish { base: Some(base), ..own }).await
    };
    let mut number = rules(&mut bob, 0).await.unwrap().number.unwrap();
    for hidden in 0..3 {
        for _ in 0..=hidden {
            alice.show_for(&open("nobody sees this"), 600).await.unwrap();
        }
        let next = rules(&mut bob, number).await.unwrap().number.unwrap();
        assert_eq!(next, number + 1, "after {hidden}");
        let conflict = rules(&mut bob, number).await.unwrap_err();
        assert_eq!((conflict.code, conflict.version), (Code::Conflict, Some(next)));
        number = next;
    }
}

/// Who is dropped is told that there is too much of it exactly when one who is let in would be.
#[tokio::test]
async fn d6_e8_who_is_dropped_is_told_what_who_is_let_in_is_told() {
    let mut told = Vec::new();
    for dropped in [false, true] {
        let server = Server::with().set("inbox.items_max", 3).start();
        let mut bob = Peer::sign_in(&server, "bob").await;
        let (except, drop) = match dropped {
            true => (
                "except = [\"carol@localhost\"]\n",
                "[[delivery]]\nid = \"d\"\nwho = [\"carol@localhost\"]\naction = \"drop\"\n",
            ),
            false => ("", ""),
        };
        let rules = format!(
            "[[delivery]]\nid = \"a\"\nwho = [\"authenticated\"]\n{except}\
             action = \"accept\"\nrate = \"4/d\"\n{drop}"
        );
        bob.set_rules(&rules).await;
        let mut alice = Peer::sign_in(&server, "alice").await;
        alice.send("bob@localhost", "one").await;
        let mut carol = Peer::sign_in(&server, "carol").await;
        let mut answers = Vec::new();
        for _ in 0..5 {
            let answer = carol.request(message("bob@localhost", "two")).await;
            answers.push(answer.map(|done| done.outcome).map_err(|error| (error.code, error.text)));
        }
        told.push(answers);
    }
    assert_eq!(told[0], told[1]);
    let codes: Vec<_> =
        told[0].iter().map(|one| one.as_ref().err().map(|(code, _)| *code)).collect();
    let (full, much) = (Some(Code::Full), Some(Code::RateLimited));
    assert_eq!(codes, [None, None, full, full, much]);
}
