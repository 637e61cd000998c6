//! Rules for very many watchers: about them is decided in slices, and nobody is shown meanwhile what
//! the rules before granted.

use impp_acl::RuleSet;
use impp_protocol::DeviceId;

use super::staged::ALLOW;
use super::{alice, at, says};
use crate::bonds::Bond;
use crate::presentity::behind::SLICE;
use crate::presentity::*;

const MANY: usize = 3 * SLICE;

/// Of the watchers, those of `lose.example` see less by the second rules, and those of `gain.example`
/// wait by the first.
fn policy(lose: &str, gain: &str) -> Policy {
    let text = format!(
        "[[rule]]\nid = \"l\"\nwho = [\"domain:lose.example\"]\n{lose}\n\
         [[rule]]\nid = \"g\"\nwho = [\"domain:gain.example\"]\n{gain}\n"
    );
    Policy::new(RuleSet::parse(&text).unwrap(), &text, 0)
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
