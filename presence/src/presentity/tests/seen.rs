//! Watchers as their owner sees them, and as that goes on.

use impp_protocol::state::{SubscriptionEvent, SubscriptionState};

use super::*;
use crate::ageing::WINDOW;
use crate::bonds::Keeper;
use crate::presentity::{Follows, News, Seen, Write};
use crate::watching::{GIVEUP_AFTER, Kept, SPARED_FOR};

const OWNER: SessionId = SessionId([9; 16]);

fn changed(news: News) -> (Vec<Seen>, Vec<Address>, u64) {
    match news {
        News::Changed { entries, gone, upto, more: false } => (entries, gone, upto),
        other => panic!("{other:?}"),
    }
}

fn leaves() -> Change {
    let (watcher, keepers) = (bob(), vec![Keeper::Session(SESSION)]);
    Change::Release { watcher, keepers, listener: Some(SESSION.into()) }
}

/// A request that nobody keeps any more waits for a long absence of its owner's, and not for ever: it
/// takes no place then, and the owner sees why it has ended, for a while.
#[test]
fn r3_2_2_a_request_about_which_nobody_decides_is_given_up() {
    let mut alice = alice(policy("handling = \"confirm\""));
    alice.make(at(2), follow(Bond::Session(SESSION), SESSION));
    alice.make(at(3), leaves());
    let ends = at(3).after(GIVEUP_AFTER);
    assert_eq!(alice.watcher(&bob()).unwrap().state, SubscriptionState::Waiting);
    assert_eq!(alice.next_deadline(), Some(ends));
    let (_, effects) = (alice.expire(ends.before(Duration::from_millis(1))), alice.expire(ends));
    assert_eq!(effects.writes, [Write::Watcher(bob(), None)]);
    let seen: Vec<Seen> = alice.seen(ends).collect();
    let stands = (seen[0].state, seen[0].event);
    assert_eq!(stands, (SubscriptionState::Terminated, SubscriptionEvent::Giveup));
    assert_eq!(alice.seen(ends.after(WINDOW)).count(), 0);
    // It may be asked anew.
    alice.make(ends, follow(Bond::Session(SESSION), SESSION));
    assert_eq!(alice.watcher(&bob()).unwrap().state, SubscriptionState::Pending);
}

/// Alice as she is read at second 1, with bob, who has asked long before and stood so.
fn read_with(state: SubscriptionState) -> (Presentity, Effects) {
    let policy = policy("handling = \"confirm\"");
    let since = at(0).before(2 * GIVEUP_AFTER);
    let (leases, server, by_contact) = Default::default();
    let event = SubscriptionEvent::Subscribe;
    let kept = Kept { state, event, since, leases, server, by_contact };
    let decision = alice(policy.clone()).newest.decision(at(1), &bob());
    let watchers = [(bob(), Watching::restored(&kept, decision, at(1)))].into_iter().collect();
    recovering_alice(policy, watchers, None)
}

/// While the server was off its owner could not decide: what has waited for longer than it may by then is
/// there for some days, and does not end in the instant of the start.
#[test]
fn r3_2_2_what_waited_while_the_server_was_off_is_there_for_its_owner() {
    let (mut alice, _) = read_with(SubscriptionState::Waiting);
    let ends = at(1).after(SPARED_FOR);
    alice.expire(ends.before(Duration::from_millis(1)));
    assert_eq!(alice.watcher(&bob()).unwrap().state, SubscriptionState::Waiting);
    assert_eq!(alice.next_deadline(), Some(ends));
    assert_eq!(alice.expire(ends).writes, [Write::Watcher(bob(), None)]);
}

/// What only a session kept waits since the server has lost that, and not since it asked; that is stored,
/// so that it does not begin anew with each start.
#[test]
fn r3_2_2_what_a_session_kept_waits_from_the_restart_on() {
    let (mut alice, effects) = read_with(SubscriptionState::Pending);
    let stored: Vec<_> = effects.writes.into_iter().chain(effects.later).collect();
    let [Write::Watcher(who, Some(kept))] = &stored[..] else { panic!("{stored:?}") };
    let stands = (kept.state, kept.event, kept.since);
    assert_eq!(*who, bob());
    assert_eq!(stands, (SubscriptionState::Waiting, SubscriptionEvent::Timeout, at(1)));
    let ends = at(1).after(GIVEUP_AFTER);
    alice.expire(ends.before(Duration::from_millis(1)));
    assert_eq!(alice.watcher(&bob()).unwrap().state, SubscriptionState::Waiting);
    assert_eq!(alice.expire(ends).writes, [Write::Watcher(bob(), None)]);
}

/// Who lets very many addresses of one domain come and go takes the places of that domain alone.
#[test]
fn r5_1_11_ended_subscriptions_of_one_domain_leave_those_of_others() {
    let mut alice = alice(Policy::new(
        RuleSet::parse("[[rule]]\nid = \"a\"\nwho = [\"anyone\"]\nhandling = \"allow\"\n").unwrap(),
        "",
        0,
    ));
    let mut comes_and_goes = |watcher: Address, second| {
        let bond = Bond::Session(SESSION);
        let (listener, pending_max) = (Some(SESSION.into()), 10);
        alice.make(
            at(second),
            Change::Follow { watcher: watcher.clone(), bond, listener, pending_max },
        );
        let (keepers, listener) = (vec![Keeper::Session(SESSION)], Some(SESSION.into()));
        alice.make(at(second), Change::Release { watcher, keepers, listener });
    };
    comes_and_goes(bob(), 2);
    for n in 0..600 {
        comes_and_goes(Address::parse(&format!("p{n}@evil.example")).unwrap(), 3 + n);
    }
    let seen: Vec<Address> = alice.seen(at(700)).map(|seen| seen.who).collect();
    assert!(seen.contains(&bob()) && seen.len() == 256, "{}", seen.len());
    assert_eq!(alice.unseen(), 601 - 256);
}

/// Who follows is told what has changed since, each once and as it is then, and woken by that alone.
#[test]
fn r5_1_11_the_owner_is_told_what_has_changed_since() {
    let mut alice = alice(policy("handling = \"polite-block\""));
    let wakes = |effects: &Effects| effects.wake.contains(&OWNER.into());
    let (_, effects) = alice.make(at(2), follow(Bond::Session(SESSION), SESSION));
    assert!(!wakes(&effects), "nobody follows");
    let News::Anew(after) = alice.news(at(2), OWNER, None, 10) else { panic!("it is new") };
    assert!(alice.seen(at(2)).next().unwrap().polite);
    // What they are shown is no change of who watches.
    let (_, effects) = alice.make(at(3), says(DeviceId([1; 16]), "here", 100));
    assert!(!wakes(&effects));
    let (_, effects) = alice.make(at(4), leaves());
    assert!(wakes(&effects));
    let (eve, owner) = (Address::parse("eve@b.example").unwrap(), alice.newest.owner.clone());
    let noted = alice.looked(at(5), &eve, true);
    assert!(noted.is_new && noted.wake.contains(&OWNER.into()));
    assert!(!alice.looked(at(5), &eve, true).is_new);
    let noted = alice.looked(at(5), &owner, false);
    assert!(!noted.is_new && noted.wake.is_empty());
    assert!(alice.looked(at(6), &bob(), false).is_new);
    let (entries, gone, upto) = changed(alice.news(at(6), OWNER, Some(after), 10));
    let [seen_eve, seen_bob] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((&seen_eve.who, seen_eve.event), (&eve, SubscriptionEvent::Rejected));
    assert_eq!((seen_bob.state, seen_bob.polite), (SubscriptionState::Terminated, false));
    assert_eq!(seen_bob.look.map(|look| look.count), Some(1));
    assert!(gone.is_empty());
    assert_eq!(changed(alice.news(at(7), OWNER, Some(upto), 10)), (vec![], vec![], upto));
    // When their time is over they are not listed any more.
    let late = at(6).after(WINDOW);
    let (entries, gone, upto) = changed(alice.news(late, OWNER, Some(upto), 10));
    assert_eq!((entries, gone), (vec![], vec![eve, bob()]));
    // Who has left, and who has slept through very much, looks at all anew.
    alice.unfollow_watchers(OWNER, Follows::Watchers);
    assert!(matches!(alice.news(late, OWNER, Some(upto), 10), News::Anew(_)));
    let News::Changed { upto, .. } = alice.news(late, OWNER, Some(upto), 10) else {
        panic!("it follows again")
    };
    for n in 0..3000 {
        let who = Address::parse(&format!("p{n}@evil.example")).unwrap();
        alice.looked(late, &who, true);
    }
    assert!(matches!(alice.news(late, OWNER, Some(upto), 10), News::Anew(_)));
    assert!(alice.unseen() > 2000);
}
