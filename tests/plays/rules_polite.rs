//! The polite block: whatever the blocked one asks and whenever, the owner looks really offline, to
//! the byte. And guesses of what is hidden, which no answer may confirm.

use bytes::Bytes;
use impp_protocol::command::{Fetch, Ping, Publish, Subscribe};
use impp_protocol::frame::Frame;
use impp_protocol::presence::{Document, Version};
use impp_protocol::state::{self, Decision, SubscriptionEdit};
use impp_protocol::{Address, Command, Kind, What};
use impp_tests::Domains;
use impp_tests::peer::{Peer, fetch, publish, subscribe};
use impp_tests::presence::{Watcher, document, layer, open, person};

use crate::explained::explain;
use crate::rules::{ALL, decide, rule, strangers};

/// Frames as they came, but that every address of the owner's is the same.
async fn frames(peer: &mut Peer, owner: &str, out: &mut Vec<Frame>, count: usize) {
    let masked = |bytes: &Bytes| -> Bytes {
        let (mut masked, owner) = (bytes.to_vec(), owner.as_bytes());
        for at in 0..masked.len().saturating_sub(owner.len() - 1) {
            if masked[at..].starts_with(owner) {
                masked[at..at + owner.len()].fill(b'_');
            }
        }
        masked.into()
    };
    for _ in 0..count {
        let frame = peer.wire().frame().await.expect("a frame");
        out.push(Frame { fields: masked(&frame.fields), ..frame });
    }
}

/// Asks, and takes all frames up to the answer and up to those to PINGs behind it.
async fn asked(peer: &mut Peer, owner: &str, command: Command, out: &mut Vec<Frame>) {
    let number = peer.ask(command).await;
    loop {
        frames(peer, owner, out, 1).await;
        if out.last().unwrap().request == number {
            break;
        }
    }
    rest(peer, owner, out).await;
}

/// Takes all frames up to the answers to two PINGs.
async fn rest(peer: &mut Peer, owner: &str, out: &mut Vec<Frame>) {
    for _ in 0..2 {
        let ping = peer.ask(Ping::empty()).await;
        loop {
            frames(peer, owner, out, 1).await;
            let last = out.last().unwrap();
            if last.kind == Kind::Ok.number() && last.request == ping {
                // Where it comes among the others is chance.
                out.pop();
                break;
            }
        }
    }
}

/// What is for the owner alone to ask and to say, and for delegates: why one sees what one sees, and
/// all that could be done in the owner's name.
fn of_the_owners(owner: &str, own: &Address) -> Vec<Command> {
    let of_me = |more: Fetch| Command::from(Fetch { about: Some(own.clone()), ..more });
    let why = || fetch(owner, What::Explain);
    let supposed = Some(Bytes::from_static(b"# none\n"));
    let says = Some(layer(&document(&[("activities", "meeting")], &[])));
    let says = publish(owner, What::Presence, says);
    let lease_of = Some(std::time::Duration::from_secs(3600));
    vec![
        of_me(why()),
        of_me(Fetch { view: true, ..why() }),
        of_me(Fetch { view: true, once: true, ..why() }),
        of_me(Fetch { delivery: true, ..why() }),
        of_me(Fetch { rules: supposed, ..why() }),
        says.clone().into(),
        Publish { lease: lease_of, ..says.clone() }.into(),
        Publish { lease: lease_of, replace: true, ..says }.into(),
        publish(owner, What::Presence, None).into(),
        fetch(owner, What::Layer).into(),
        publish(owner, What::Rules, Some(Bytes::from_static(b"# none\n"))).into(),
        fetch(owner, What::Requests).into(),
        fetch(owner, What::Contacts).into(),
        fetch(owner, What::Devices).into(),
        fetch(owner, What::Log).into(),
    ]
}

/// Asks all that the watcher can ask about an owner, in one order.
async fn pry(watcher: &mut Peer, owner: &str, out: &mut Vec<Frame>) {
    for command in all_of(owner, &watcher.address.clone()) {
        asked(watcher, owner, command, out).await;
    }
}

/// Everything that a watcher of this address can ask about an owner.
fn all_of(owner: &str, own: &Address) -> Vec<Command> {
    let lease = |seconds| {
        let lease = Some(std::time::Duration::from_secs(seconds));
        Subscribe { lease, ..subscribe(owner, What::Presence) }
    };
    let version = Some(Version::of(&Document::offline().encode()));
    let known = Fetch { version, ..fetch(owner, What::Presence) };
    let stranger = Fetch { version: Some(Version([9; 16])), ..known.clone() };
    let cancel = SubscriptionEdit { cancel: owner.parse().unwrap() };
    let commands: Vec<Command> = vec![
        fetch(owner, What::Presence).into(),
        subscribe(owner, What::Presence).into(),
        known.into(),
        stranger.into(),
        fetch(own.as_str(), What::Subscriptions).into(),
        lease(3600).into(),
        lease(1).into(),
        Subscribe { version, ..subscribe(owner, What::Presence) }.into(),
        lease(0).into(),
        fetch(own.as_str(), What::Subscriptions).into(),
        subscribe(owner, What::Presence).into(),
        publish(own.as_str(), What::Subscriptions, Some(state::encode(&cancel))).into(),
        fetch(own.as_str(), What::Subscriptions).into(),
        subscribe(owner, What::Presence).into(),
        fetch(owner, What::Watchers).into(),
        fetch(owner, What::Rules).into(),
    ];
    commands.into_iter().chain(of_the_owners(owner, own)).collect()
}

/// To who is politely blocked the owner looks really offline: answers, states, contents, versions
/// and what comes later are equal to the byte, whatever the owner does meanwhile, or a delegate of the
/// owner's, or the operator asks.
#[tokio::test]
async fn d9_r5_1_15_a_polite_block_cannot_be_told_from_offline() {
    let server = strangers(&["olive", "peter", "dave", "bob", "calendar"]);
    let mut olive = Peer::sign_in(&server, "olive").await;
    let mut peter = Peer::sign_in(&server, "peter").await;
    let mut calendar = Peer::sign_in(&server, "calendar").await;
    let lets = "[[delegate]]\nid = \"c\"\nwho = [\"calendar@localhost\"]\n\
                rights = [\"publish:activities\"]\n";
    let bobs = rule("bob", "allow", ALL) + lets;
    olive.set_rules(&(rule("dave", "allow", ALL) + &rule("bob", "allow", ALL))).await;
    peter.set_rules(&(rule("dave", "polite-block", "") + &bobs)).await;
    peter.show(&open("not for dave")).await;
    let mut bob = Watcher::sign_in(&server, "bob", "peter@localhost").await;
    let mut seen = Vec::new();
    for owner in ["olive@localhost", "peter@localhost"] {
        let (mut dave, mut frames) = (Peer::sign_in(&server, "dave").await, Vec::new());
        pry(&mut dave, owner, &mut frames).await;
        // Peter lives on, and changes what has nothing to do with dave.
        for n in 0..10 {
            peter.show(&open(&format!("change {n}"))).await;
            peter
                .set_rules(&(rule("dave", "polite-block", "") + &bobs + &"# edited\n".repeat(n)))
                .await;
        }
        peter.hide().await;
        bob.until(|held| held.document() == &Document::offline()).await;
        peter.show_for(&open("back"), 3600).await.unwrap();
        bob.until_note("back").await;
        let meets = document(&[("activities", "meeting")], &[]);
        let says = publish("peter@localhost", What::Presence, Some(layer(&meets)));
        let lease = Some(std::time::Duration::from_secs(3600));
        calendar.done(Publish { lease, replace: true, ..says.clone() }).await;
        bob.until(|held| person(held.document(), "activities") == Some("meeting")).await;
        for owner in ["olive@localhost", "peter@localhost"] {
            let (code, told, said) = explain(&server, owner, "dave@localhost");
            assert!(code == 0 && told.len() == 3, "{said}");
        }
        // To end the right ends what was said by it.
        peter.set_rules(&(rule("dave", "polite-block", "") + &rule("bob", "allow", ALL))).await;
        bob.until(|held| person(held.document(), "activities").is_none()).await;
        rest(&mut dave, owner, &mut frames).await;
        seen.push(frames);
        dave.leave().await;
    }
    let (offline, polite) = (&seen[0], &seen[1]);
    for (index, pair) in offline.iter().zip(polite).enumerate() {
        assert_eq!(pair.0, pair.1, "frame {index}: offline left, politely blocked right");
    }
    assert_eq!(offline.len(), polite.len());
}

/// Tells dave's server, behind all of before, that it is so late; and reads until it has said so. What it
/// says of the clock is left out.
async fn tick(clock: &mut Peer, late: &str, dave: &mut Peer, owner: &str, out: &mut Vec<Frame>) {
    clock.show(&open(late)).await;
    loop {
        frames(dave, owner, out, 1).await;
        let has = |words: &[u8]| {
            let last = &out.last().unwrap().fields;
            last.windows(words.len()).any(|window| window == words)
        };
        let (of_clock, is_late) = (has(b"clock@a.example"), has(late.as_bytes()));
        if of_clock {
            out.pop();
        }
        if is_late {
            return;
        }
    }
}

/// The same for one whose home is another domain: what is answered, and what is told, in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d9_r5_1_15_over_a_link_a_polite_block_cannot_be_told_from_offline() {
    let domains = Domains::two().await;
    let (home, away) = (&domains["a.example"], &domains["b.example"]);
    ["olive", "peter", "clock"].iter().for_each(|name| home.add(name));
    away.add("dave");
    let says = |handling: &str| {
        format!(
            "[[rule]]\nid = \"d\"\nwho = [\"dave@b.example\"]\nhandling = \"{handling}\"\n{ALL}\n"
        )
    };
    let mut olive = Peer::sign_in(home, "olive").await;
    let mut peter = Peer::sign_in(home, "peter").await;
    let mut clock = Peer::sign_in(home, "clock").await;
    olive.set_rules(&says("allow")).await;
    clock.set_rules(&says("allow")).await;
    peter.set_rules(&says("polite-block")).await;
    peter.show(&open("not for dave")).await;
    let mut seen = Vec::new();
    for owner in ["olive@a.example", "peter@a.example"] {
        let (mut dave, mut out) = (Peer::sign_in(away, "dave").await, Vec::new());
        dave.follow("clock@a.example").await;
        tick(&mut clock, &format!("first, {owner}"), &mut dave, "nobody", &mut out).await;
        out.clear();
        let commands = all_of(owner, &dave.address.clone());
        for (n, command) in commands.into_iter().enumerate() {
            asked(&mut dave, owner, command, &mut out).await;
            // He lives on meanwhile, and edits what has nothing to do with dave.
            match n % 4 {
                0 => drop(peter.show(&open(&format!("change {n}"))).await),
                1 => peter.set_rules(&(says("polite-block") + &"# edited\n".repeat(n))).await,
                2 => peter.hide().await,
                _ => drop(peter.show_for(&open("back"), 3600).await.unwrap()),
            }
            let late = format!("{n} by {}", &owner[..5]);
            tick(&mut clock, &late, &mut dave, owner, &mut out).await;
        }
        dave.leave().await;
        let (told, answers): (Vec<Frame>, Vec<Frame>) =
            out.into_iter().partition(|frame| frame.request == 0);
        seen.push((answers, told));
    }
    let (offline, polite) = (&seen[0], &seen[1]);
    for (one, other) in [(&offline.0, &polite.0), (&offline.1, &polite.1)] {
        for (index, pair) in one.iter().zip(other).enumerate() {
            assert_eq!(pair.0, pair.1, "frame {index}: offline left, politely blocked right");
        }
        assert_eq!(one.len(), other.len());
    }
    assert!(!offline.1.is_empty() && offline.0.len() > 20);
}

/// A version that a watcher made from a guess of what is hidden is answered like any other that is
/// not held: no answer tells whether the guess was right.
#[tokio::test]
async fn r5_1_15_a_guessed_version_tells_nothing() {
    let server = strangers(&["olive", "peter", "dave"]);
    let hidden = document(&[("note", "secret")], &[("im", &[("status", "closed")])]);
    let version = Some(Version::of(&hidden.encode()));
    let mut olive = Peer::sign_in(&server, "olive").await;
    olive.set_rules(&rule("dave", "allow", ALL)).await;
    let mut peter = Peer::sign_in(&server, "peter").await;
    peter.set_rules(&rule("dave", "polite-block", "")).await;
    peter.show(&hidden).await;
    // Somebody sees it, so that it has been encoded.
    let own = Watcher::of(Peer::sign_in_on(&server, "peter", 2).await, "peter@localhost").await;
    assert_eq!(own.held.document(), &hidden);
    let mut seen = Vec::new();
    for owner in ["olive@localhost", "peter@localhost"] {
        let (mut dave, mut frames) = (Peer::sign_in(&server, "dave").await, Vec::new());
        let guess = Subscribe { version, ..subscribe(owner, What::Presence) };
        asked(&mut dave, owner, guess.into(), &mut frames).await;
        let guess = Fetch { version, ..fetch(owner, What::Presence) };
        asked(&mut dave, owner, guess.into(), &mut frames).await;
        seen.push(frames);
        dave.leave().await;
    }
    assert_eq!(seen[0], seen[1], "offline left, politely blocked right");
}

/// The same of what another watcher may see: a guess of a hidden field is not confirmed.
#[tokio::test]
async fn r2_3_3_a_guessed_version_tells_nothing() {
    let server = strangers(&["bob", "carol"]);
    let mut alice = Peer::sign_in(&server, "alice").await;
    let status = "fields = [\"status\"]";
    alice.set_rules(&(rule("bob", "allow", ALL) + &rule("carol", "allow", status))).await;
    let long: &[(&str, &[(&str, &str)])] =
        &[("im", &[("status", "open"), ("contact", "im:a@localhost")])];
    let hidden = document(&[("mood", "sad")], long);
    alice.show(&hidden).await;
    let bob = Watcher::sign_in(&server, "bob", "alice@localhost").await;
    assert_eq!(bob.held.document(), &hidden);
    let mut answers = Vec::new();
    for mood in ["happy", "sad"] {
        let version = Some(Version::of(&document(&[("mood", mood)], long).encode()));
        let mut carol = Peer::sign_in(&server, "carol").await;
        let guess = Subscribe { version, ..subscribe("alice@localhost", What::Presence) };
        carol.done(guess).await;
        answers.push(carol.notify().await);
        carol.leave().await;
    }
    assert_eq!(answers[0], answers[1], "wrong guess left, right one right");
}

/// To be politely blocked looks like the owner going offline, to be allowed again like coming
/// back, to the byte.
#[tokio::test]
async fn r5_1_15_becoming_politely_blocked_looks_like_going_offline() {
    let server = strangers(&["olive", "peter", "dave"]);
    let mut seen = Vec::new();
    for name in ["olive", "peter"] {
        let mut owner = Peer::sign_in(&server, name).await;
        let (address, mut out) = (owner.address.to_string(), Vec::new());
        owner.set_rules(&rule("dave", "allow", ALL)).await;
        owner.show(&open("before")).await;
        let mut dave = Peer::sign_in(&server, "dave").await;
        pry(&mut dave, &address, &mut out).await;
        match name {
            "olive" => owner.hide().await,
            _ => owner.set_rules(&rule("dave", "polite-block", "")).await,
        }
        pry(&mut dave, &address, &mut out).await;
        match name {
            "olive" => drop(owner.show(&open("before")).await),
            _ => owner.set_rules(&rule("dave", "allow", ALL)).await,
        }
        pry(&mut dave, &address, &mut out).await;
        seen.push(out);
        dave.leave().await;
    }
    for (index, pair) in seen[0].iter().zip(&seen[1]).enumerate() {
        assert_eq!(pair.0, pair.1, "frame {index}: offline left, politely blocked right");
    }
    assert_eq!(seen[0].len(), seen[1].len());
}

/// A request that is politely blocked looks to the asker like one that an offline owner allowed.
#[tokio::test]
async fn r5_1_15_a_polite_answer_to_a_request_looks_like_an_approval() {
    let server = strangers(&["olive", "peter", "dave"]);
    let mut seen = Vec::new();
    for name in ["olive", "peter"] {
        let mut owner = Peer::sign_in(&server, name).await;
        let (address, mut out) = (owner.address.to_string(), Vec::new());
        let mut dave = Peer::sign_in(&server, "dave").await;
        asked(&mut dave, &address, subscribe(&address, What::Presence).into(), &mut out).await;
        if name == "peter" {
            owner.show(&open("not for dave")).await;
        }
        let decision = if name == "olive" { Decision::Allow } else { Decision::Polite };
        decide(&mut owner, &"dave@localhost".parse().unwrap(), decision).await;
        rest(&mut dave, &address, &mut out).await;
        pry(&mut dave, &address, &mut out).await;
        seen.push(out);
        dave.leave().await;
    }
    for (index, pair) in seen[0].iter().zip(&seen[1]).enumerate() {
        assert_eq!(pair.0, pair.1, "frame {index}: offline left, politely blocked right");
    }
    assert_eq!(seen[0].len(), seen[1].len());
}
