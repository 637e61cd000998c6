//! What a watcher is told, and when, is the same whether somebody else has its view.

use std::time::Duration;

use impp_acl::RuleSet;
use impp_protocol::presence::{FieldName, Patch};
use proptest::prelude::*;

use super::{SESSION, alice, bob};
use crate::bonds::{Bond, Keeper};
use crate::presentity::*;

const DAVE: SessionId = SessionId([8; 16]);
const PHONE: DeviceId = DeviceId([1; 16]);
/// Both see all but the mood, which bob sees while she is at work.
const RULES: &str = "[[rule]]\nid = \"a\"\nwho = [\"anyone\"]\nhandling = \"allow\"\n\
                     fields = [\"note\", \"place-is\", \"status\"]\n\
                     [[rule]]\nid = \"w\"\nwho = [\"bob@b.example\"]\nhandling = \"allow\"\n\
                     fields = [\"note\", \"place-is\", \"status\", \"mood\"]\nsphere = [\"work\"]\n";

#[derive(Clone, Debug)]
enum Act {
    Publishes { note: u8, mood: u8, work: bool },
    Bob(bool),
    Dave(bool),
    Passes(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let publishes = (0..4_u8, 0..2_u8, prop::bool::weighted(0.1));
    let act = prop_oneof![
        8 => publishes.prop_map(|(note, mood, work)| Act::Publishes { note, mood, work }),
        2 => any::<bool>().prop_map(Act::Bob),
        2 => any::<bool>().prop_map(Act::Dave),
        6 => (0..1500_u64).prop_map(Act::Passes),
        1 => (4000..9000_u64).prop_map(Act::Passes),
    ];
    prop::collection::vec(act, 1..80)
}

fn start() -> Timestamp {
    super::at(2)
}

/// Alice, and what bob is told of her.
struct World {
    alice: Presentity,
    now: Timestamp,
    held: Held,
    told: Vec<(Timestamp, Option<Version>, Vec<u8>)>,
}

impl World {
    fn new() -> World {
        let mut alice = alice(Policy::new(RuleSet::parse(RULES).unwrap(), RULES, 0));
        alice.newest.pace_limit = PaceLimit { burst: 3, interval: Duration::from_secs(1) };
        World { alice, now: start(), held: Held::Nothing, told: Vec::new() }
    }

    fn act(&mut self, act: &Act) {
        let change = match act {
            Act::Publishes { note, mood, work } => {
                let mut document = Document::default();
                let sphere = if *work { "work" } else { "home" };
                let far = "far away ".repeat(30);
                let (note, mood) = (note.to_string(), mood.to_string());
                let all =
                    [("note", &*note), ("mood", &*mood), ("sphere", sphere), ("place-is", &*far)];
                for (name, value) in all {
                    document.person.insert(FieldName::parse(name).unwrap(), value.into());
                }
                let patch = Patch::between(&Document::default(), &document);
                let lease = Lease::Until(super::at(90_000));
                Change::Publish { device: PHONE, patch, replace: true, lease }
            }
            Act::Bob(comes) => follows(bob(), SESSION, *comes),
            Act::Dave(comes) => follows("dave@b.example".parse().unwrap(), DAVE, *comes),
            Act::Passes(millis) => {
                return self.pass(self.now.after(Duration::from_millis(*millis)));
            }
        };
        let effects = self.alice.make(self.now, change).1;
        let comes = matches!(act, Act::Bob(true));
        if matches!(act, Act::Bob(_)) {
            self.held = Held::Nothing;
        }
        self.look(&effects, comes);
    }

    fn pass(&mut self, until: Timestamp) {
        while let Some(next) = self.alice.next_deadline().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            let effects = self.alice.expire(self.now);
            self.look(&effects, false);
        }
        self.now = until;
    }

    /// Whoever is woken looks, and who has come.
    fn look(&mut self, effects: &Effects, comes: bool) {
        if !comes && !effects.wake.contains(&SESSION.into()) {
            return;
        }
        let active = Some(SubscriptionState::Active);
        let pulled = self.alice.pull(self.now, &bob(), SESSION, self.held, active);
        let Pulled::Told(Told { content: Some(content), .. }) = pulled else { return };
        self.told.push((self.now, content.base(), content.bytes().to_vec()));
        self.held = self.alice.version_for(self.now, &bob()).map_or(Held::Nothing, Held::Sent);
    }
}

fn follows(watcher: Address, session: SessionId, comes: bool) -> Change {
    let listener = Some(session.into());
    match comes {
        true => {
            let bond = Bond::Session(session);
            Change::Follow { watcher, bond, listener, pending_max: 9 }
        }
        false => {
            let keepers = vec![Keeper::Session(session)];
            Change::Release { watcher, keepers, listener }
        }
    }
}

fn told(acts: &[Act], with_dave: bool) -> Vec<(Timestamp, Option<Version>, Vec<u8>)> {
    let mut world = World::new();
    let acts = acts.iter().filter(|act| with_dave || !matches!(act, Act::Dave(_)));
    acts.for_each(|act| world.act(act));
    world.pass(world.now.after(Duration::from_secs(60)));
    world.told
}

/// As it was found: alice changes fast, and who has come just then learns from the next change whether
/// somebody has used up the pace.
#[test]
fn d6_h4_who_comes_does_not_find_the_pace_spent_by_another() {
    let changes = |notes: std::ops::Range<u8>| {
        notes.map(|note| Act::Publishes { note, mood: 0, work: false })
    };
    let mut acts = vec![Act::Dave(true), Act::Passes(20_000)];
    acts.extend(changes(0..8));
    acts.extend([Act::Bob(true), Act::Passes(100)]);
    acts.extend(changes(8..9));
    let with = told(&acts, true);
    assert_eq!(with.len(), 2);
    assert_eq!(with[1].0.since(start()), Duration::from_millis(20_100), "at once");
    assert_eq!(with, told(&acts, false));
}

/// However many come one by one while she does not rest, their groups are gone when she has.
#[test]
fn h4_groups_last_no_longer_than_the_unrest() {
    let mut world = World::new();
    let all: Vec<Address> = (0..40).map(|n| format!("w{n}@b.example").parse().unwrap()).collect();
    let session = |n: usize| SessionId([100 + n as u8; 16]);
    for (n, who) in all.iter().enumerate() {
        world.act(&Act::Publishes { note: n as u8, mood: 0, work: false });
        world.alice.make(world.now, follows(who.clone(), session(n), true));
    }
    let groups = |world: &World| world.alice.contents.groups();
    assert!((2..=41).contains(&groups(&world)), "{}", groups(&world));
    for (n, who) in all.iter().enumerate().skip(20) {
        world.alice.make(world.now, follows(who.clone(), session(n), false));
    }
    assert!((2..=21).contains(&groups(&world)), "{}", groups(&world));
    world.pass(world.now.after(Duration::from_secs(10)));
    let change = Act::Publishes { note: 200, mood: 0, work: false };
    world.act(&change);
    assert_eq!(groups(&world), 1);
}

proptest! {
    #[test]
    fn d6_nobody_is_told_sooner_or_later_because_another_watches(acts in acts()) {
        prop_assert_eq!(told(&acts, true), told(&acts, false));
    }
}
