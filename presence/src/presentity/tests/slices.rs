//! Rules for very many watchers, new ones or those by which they are read from the store: about them is
//! decided in slices, and nobody is shown meanwhile what was granted before.

use impp_acl::RuleSet;
use impp_protocol::DeviceId;

use super::staged::ALLOW;
use super::{alice, at, recovering_alice, says};
use crate::bonds::Bond;
use crate::presentity::behind::SLICE;
use crate::presentity::*;
use crate::watching::Kept;

const MANY: usize = 3 * SLICE;

/// Of the watchers, those of `lose.example` see less by the second rules, and those of `gain.example`
/// wait by the first.
fn policy(lose: &str, gain: &str) -> Policy {
    let text = format!(
        "[[rule]]\nid = \"l\"\nwho = [\"domain:lose.example\"]\n{lose}\n\
         [[rule]]\nid = \"g\"\nwho = [\"domain:gain.example\"]\n{gain}\n"
    );
    Policy::new(RuleSet::parse(&text).unwrap(), text, 0)
}

fn watcher(index: usize) -> (Address, SessionId) {
    let domain = if index.is_multiple_of(2) { "gain" } else { "lose" };
    let who = Address::parse(&format!("w{index}@{domain}.example")).unwrap();
    let [low, high, ..] = index.to_le_bytes();
    (who, SessionId([low, high, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]))
}

/// What each was told.
struct Told {
    held: Vec<Held>,
    state: Vec<Option<SubscriptionState>>,
}

impl Told {
    fn pull(&mut self, alice: &mut Presentity, index: usize) -> Option<super::super::Told> {
        let (who, session) = watcher(index);
        match alice.pull(at(2), &who, session, self.held[index], self.state[index]) {
            Pulled::Told(told) => {
                self.state[index] = Some(told.state);
                if let Some(content) = &told.content {
                    self.held[index] = Held::Sent(content.version());
                }
                Some(told)
            }
            Pulled::Nothing => None,
            Pulled::Due => panic!("no time passes here"),
        }
    }
}

#[test]
fn h5_rules_for_very_many_are_carried_out_in_slices_and_losers_go_first() {
    let mut alice = alice(policy(ALLOW, "handling = \"confirm\""));
    alice.make(at(1), says(DeviceId([1; 16]), "here", 1000));
    let mut told = Told { held: vec![Held::Nothing; MANY], state: vec![None; MANY] };
    for index in 0..MANY {
        let (watcher, session) = watcher(index);
        let (bond, listener) = (Bond::Session(session), Some(session.into()));
        alice.make(at(1), Change::Follow { watcher, bond, listener, pending_max: MANY });
        assert!(told.pull(&mut alice, index).is_some());
    }
    let Policy { rules, text, .. } = policy("handling = \"polite-block\"", ALLOW);
    let (Staging::Staged(id), effects) =
        alice.stage(at(2), Change::PutRules { rules, text, base: 0 })
    else {
        panic!("rules are stored");
    };
    // What is stored of the watchers comes later: this is as long as the rules.
    assert_eq!(effects.writes.len(), 1);
    let mut effects = alice.committed(at(2), id, Some(1));
    let (mut steps, mut first_gain) = (0, usize::MAX);
    let mut left: BTreeSet<usize> = (0..MANY).collect();
    while !left.is_empty() {
        steps += 1;
        assert!(effects.wake.len() <= SLICE);
        for index in left.clone() {
            let (who, session) = watcher(index);
            let news = told.pull(&mut alice, index);
            let woken = effects.wake.contains(&session.into());
            assert_eq!(news.is_some(), woken, "{who} is told when it is its turn, and once");
            let Some(news) = news else { continue };
            left.remove(&index);
            if index.is_multiple_of(2) {
                first_gain = first_gain.min(steps);
                assert_eq!(news.state, SubscriptionState::Active);
            } else {
                assert!(steps <= first_gain, "who loses something goes first");
            }
            assert!(news.content.is_some(), "from the old view to the new one in one step");
        }
        assert_eq!(alice.next_deadline() == Some(Timestamp::from_millis(0)), !left.is_empty());
        effects = alice.expire(at(2));
    }
    assert!((MANY / SLICE..=MANY / SLICE + 2).contains(&steps), "{steps}");
    assert!(alice.missed.is_empty());
}

/// Other rules with every step, as long as many of them as there are slices: nobody is passed over for
/// ever.
#[test]
fn h5_rules_that_change_with_each_slice_come_to_every_watcher() {
    let ways = [(ALLOW, "handling = \"confirm\""), ("handling = \"polite-block\"", ALLOW)];
    let mut alice = alice(policy(ways[0].0, ways[0].1));
    for index in 0..MANY {
        let (watcher, session) = watcher(index);
        let (bond, listener) = (Bond::Session(session), Some(session.into()));
        alice.make(at(1), Change::Follow { watcher, bond, listener, pending_max: MANY });
    }
    let rounds = 2 * MANY / SLICE;
    let mut passed_over = vec![0; MANY];
    for step in 0..10 * rounds {
        let (lose, gain) = ways[(step + 1) % 2];
        let Policy { rules, text, .. } = policy(lose, gain);
        alice.make(at(2), Change::PutRules { rules, text, base: 0 });
        for (index, passed) in passed_over.iter_mut().enumerate() {
            *passed = if alice.behind.has(&watcher(index).0) { *passed + 1 } else { 0 };
            assert!(*passed < rounds, "{index} is behind for ever, at step {step}");
        }
    }
    // And when that ends, so does this.
    while alice.next_deadline() == Some(Timestamp::from_millis(0)) {
        alice.expire(at(2));
    }
    assert!((0..MANY).all(|index| !alice.behind.has(&watcher(index).0)));
}

/// Of very many who are read from the store nobody waits for all, and each stands as is decided now.
#[test]
fn h5_watchers_read_from_the_store_are_decided_about_in_slices() {
    let policy = policy("handling = \"block\"", ALLOW);
    let since = at(0);
    let kept = |index| {
        let (state, event) = (SubscriptionState::Active, SubscriptionEvent::Subscribe);
        let (leases, server, by_contact) = (Default::default(), None, true);
        let who = watcher(index).0;
        let kept = Kept { state, event, since, leases, server, by_contact };
        // As the server does: by what is decided now.
        let decision = policy.decide(&address("alice"), &who, at(1), Sphere::Lost, Some(state));
        (who, Watching::restored(&kept, decision, at(1)))
    };
    let watchers = (0..MANY).map(kept).collect();
    let (mut alice, mut effects) = recovering_alice(policy.clone(), watchers, None);
    let (mut stored, mut steps) = (BTreeSet::new(), 0);
    loop {
        steps += 1;
        let Effects { writes, later, .. } = effects;
        assert!(writes.len() + later.len() <= SLICE, "{} in one piece", later.len());
        stored.extend(writes.into_iter().chain(later).map(|write| write.key()));
        for index in 0..MANY {
            let who = watcher(index).0;
            // Of those whose subscriptions have ended not all are kept.
            let is_ended = |w: &Watching| w.state == SubscriptionState::Terminated;
            let ended = alice.watcher(&who).is_none_or(is_ended);
            let behind = alice.behind.has(&who);
            assert_eq!(ended, !index.is_multiple_of(2) && !behind, "{who}");
        }
        if alice.next_deadline().is_none() {
            break;
        }
        effects = alice.expire(at(1));
    }
    assert_eq!(stored.len(), MANY / 2);
    assert!((MANY / SLICE..=MANY / SLICE + 2).contains(&steps), "{steps}");
}

fn address(name: &str) -> Address {
    Address::parse(&format!("{name}@a.example")).unwrap()
}
