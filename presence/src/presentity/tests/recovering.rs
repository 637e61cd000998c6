//! After a crash nobody knows the sphere for a while: what hangs on it is neither granted nor ended.

use impp_acl::{Decision, RuleSet};
use impp_protocol::presence::{Document, FieldName, Patch};
use impp_protocol::state::{Grant, SubscriptionEvent, SubscriptionState};
use impp_protocol::{DeviceId, SessionId};
use proptest::prelude::*;

use super::staged::{ALLOW, amend, watcher};
use super::{LINK, SESSION, at, bob, follow, policy, recovering_alice};
use crate::bonds::Bond;
use crate::policy::{Contact, Sphere};
use crate::presentity::*;
use crate::watching::Kept;

const LAPTOP: DeviceId = DeviceId([2; 16]);
const UNTIL: u64 = 60;

/// What the store has of somebody whom the contact list of theirs keeps.
fn kept(state: SubscriptionState, policy: &Policy, who: &Address) -> Watching {
    let (event, since) = (SubscriptionEvent::Subscribe, at(0));
    let (leases, server, by_contact) = (Default::default(), None, true);
    let kept = Kept { state, event, since, leases, server, by_contact };
    let alice = Address::parse("alice@a.example").unwrap();
    Watching::restored(&kept, policy.decide(&alice, who, at(1), Sphere::Lost, Some(state)), at(1))
}

/// Alice, whom bob follows, after a crash.
fn crashed(more: &str, state: SubscriptionState) -> (Presentity, Effects) {
    let policy = policy(more);
    let watchers = [(bob(), kept(state, &policy, &bob()))].into_iter().collect();
    recovering_alice(policy, watchers, Some(at(UNTIL)))
}

fn says(sphere: Option<&str>, note: &str, lease: Lease) -> Change {
    let mut document = Document::default();
    let name = |text| FieldName::parse(text).unwrap();
    document.person.insert(name("note"), note.into());
    document.person.extend(sphere.map(|sphere| (name("sphere"), sphere.into())));
    let patch = Patch::between(&Document::default(), &document);
    Change::Publish { device: LAPTOP, patch, replace: true, lease }
}

fn looks(alice: &Presentity, now: u64, who: &Address) -> Result<Document, SubscriptionState> {
    match alice.fetch(at(now), &Watcher::Principal(who.clone()), None) {
        Fetched::Shown(_, Some(content)) => Ok(Document::decode(content.bytes()).unwrap()),
        Fetched::Pending => Err(SubscriptionState::Pending),
        Fetched::Shown(_, None) | Fetched::Refused => Err(SubscriptionState::Terminated),
    }
}

const HOME: &str = "sphere = [\"home\"]\nhandling = \"allow\"\nfields = [\"all\"]";

#[test]
fn d3_what_a_sphere_allowed_outlives_a_crash_and_shows_nothing_until_it_is_said_again() {
    let (mut alice, effects) = crashed(HOME, SubscriptionState::Active);
    assert_eq!(effects.writes, []);
    // As for anybody whose owner has not returned: nothing is told, and looking shows it.
    alice.make(at(2), follow(Bond::Session(SESSION), SESSION));
    let pull = |alice: &mut Presentity| alice.pull(at(3), &bob(), SESSION, Held::Nothing, None);
    let Pulled::Told(told) = pull(&mut alice) else { panic!("told nothing") };
    assert!(told.content.is_none() && told.state == SubscriptionState::Active, "{told:?}");
    assert_eq!(looks(&alice, 3, &bob()), Ok(Document::offline()));
    assert_eq!(alice.version_for(at(3), &bob()), None);
    // She is back, and at home.
    let (_, effects) = alice.make(at(4), says(Some("Home"), "here", Lease::Bound(SESSION)));
    assert!(effects.wake.contains(&SESSION.into()));
    assert_eq!(looks(&alice, 5, &bob()).unwrap().person.len(), 2);
    assert_eq!(alice.watcher(&bob()).unwrap().event, SubscriptionEvent::Subscribe);
}

#[test]
fn d3_what_a_sphere_allowed_ends_with_the_window_or_where_the_owner_is_elsewhere() {
    let ended = |alice: &Presentity| {
        let watching = alice.watcher(&bob()).unwrap();
        assert_eq!(watching.state, SubscriptionState::Terminated);
        assert_eq!(watching.event, SubscriptionEvent::Rejected);
    };
    let (mut alice, _) = crashed(HOME, SubscriptionState::Active);
    assert_eq!(alice.next_deadline(), Some(at(UNTIL)));
    let effects = alice.expire(at(UNTIL));
    assert_eq!(effects.later, [Write::Watcher(bob(), None)]);
    ended(&alice);
    for sphere in [None, Some("work")] {
        let (mut alice, _) = crashed(HOME, SubscriptionState::Active);
        alice.make(at(4), says(sphere, "out", Lease::Bound(SESSION)));
        ended(&alice);
    }
}

#[test]
fn d4_a_revocation_binds_at_once_after_a_crash_too() {
    // Stored before the crash, though the end of what it ends was not.
    let (alice, effects) = crashed("handling = \"block\"", SubscriptionState::Active);
    assert_eq!(effects.later, [Write::Watcher(bob(), None)]);
    assert_eq!(alice.watcher(&bob()).unwrap().state, SubscriptionState::Terminated);
    // Or made in the window.
    let (mut alice, _) = crashed(HOME, SubscriptionState::Active);
    let text = "[[rule]]\nid = \"b\"\nwho = [\"anyone\"]\nhandling = \"block\"\n";
    let rules = RuleSet::parse(text).unwrap().into();
    alice.make(at(2), Change::PutRules { rules, text: text.into(), base: 0 });
    assert_eq!(alice.watcher(&bob()).unwrap().state, SubscriptionState::Terminated);
    assert_eq!(looks(&alice, 3, &bob()), Err(SubscriptionState::Terminated));
}

#[test]
fn d3_what_remains_of_a_document_is_not_shown_to_whom_it_hangs_on_the_sphere() {
    let text = "[[rule]]\nid = \"h\"\nwho = [\"bob@b.example\"]\nsphere = [\"home\"]\n".to_owned()
        + ALLOW
        + "\n[[rule]]\nid = \"w\"\nwho = [\"w1@b.example\"]\n"
        + ALLOW;
    let policy = Policy::new(RuleSet::parse(&text).unwrap(), text, 0);
    let watchers = [bob(), watcher(1)].map(|who| {
        let kept = kept(SubscriptionState::Active, &policy, &who);
        (who, kept)
    });
    // A lease has kept what a newer layer may have gone beyond.
    let mut layers = Layers::default();
    let mut left = Document::default();
    left.person.insert(FieldName::parse("sphere").unwrap(), "home".into());
    layers.restore(LAPTOP, left.clone(), at(1000), 1);
    let (owner, pace) = (Address::parse("alice@a.example").unwrap(), alice_pace());
    let (watchers, until) = (watchers.into_iter().collect(), Some(at(UNTIL)));
    let (mut alice, _) = Presentity::restored(owner, policy, layers, watchers, at(1), pace, until);
    assert_eq!(looks(&alice, 2, &bob()), Ok(Document::offline()));
    assert_eq!(looks(&alice, 2, &watcher(1)), Ok(left.clone()));
    alice.make(at(2), follow(Bond::Server(at(100)), LINK));
    assert_eq!(alice.version_for(at(3), &bob()), None);
    alice.expire(at(UNTIL));
    assert_eq!(looks(&alice, UNTIL, &bob()), Ok(left));
}

/// A device that has published since the crash has said what it says, though the server has stopped in good
/// order since; what is of another crash, and what delegates say, has not.
#[test]
fn d3_who_has_published_since_the_crash_has_lost_nothing_by_a_stop() {
    let delegate = Address::parse("d@a.example").unwrap();
    let (crash, other) = (at(1), at(0));
    let cases = [
        (Some(crash), Some(crash), None, true),
        (Some(crash), Some(other), None, false),
        (Some(crash), None, None, false),
        (None, None, None, false),
        (Some(crash), Some(crash), Some(delegate), false),
    ];
    for (crash, of, by, is_known) in cases {
        let policy = policy(HOME);
        let who = kept(SubscriptionState::Active, &policy, &bob());
        let mut document = Document::default();
        document.person.insert(FieldName::parse("sphere").unwrap(), "home".into());
        let mut layers = Layers::after(crash);
        layers.restore_by(by.clone(), LAPTOP, document.clone(), at(1000), 1, of);
        let (owner, pace) = (Address::parse("alice@a.example").unwrap(), alice_pace());
        let (watchers, until) = ([(bob(), who)].into_iter().collect(), Some(at(UNTIL)));
        let restored = Presentity::restored(owner, policy, layers, watchers, at(2), pace, until);
        let shown = if is_known { document } else { Document::offline() };
        assert_eq!(looks(&restored.0, 3, &bob()), Ok(shown), "{crash:?} {of:?} {by:?}");
    }
    // What is published now is of this one.
    let (mut alice, _) = crashed(HOME, SubscriptionState::Active);
    alice.newest.layers = Layers::after(Some(crash));
    let (_, effects) = alice.make(at(4), says(Some("Home"), "here", Lease::Until(at(100))));
    let [Write::Layer(_, Some(saved))] = &effects.writes[..] else { panic!("{effects:?}") };
    assert_eq!(saved.crash, Some(crash));
}

#[test]
fn d3_who_is_allowed_without_a_sphere_is_shown_what_does_not_hang_on_one() {
    let always = "[[rule]]\nid = \"w\"\nwho = [\"bob@b.example\"]\nhandling = \"allow\"\n";
    let home = "[[rule]]\nid = \"h\"\nwho = [\"bob@b.example\"]\nsphere = [\"home\"]\n".to_owned()
        + ALLOW
        + "\n";
    let text = home.clone() + always;
    let policy = Policy::new(RuleSet::parse(&text).unwrap(), text, 0);
    let of_bob = kept(SubscriptionState::Active, &policy, &bob());
    let mut layers = Layers::default();
    let mut left = Document::default();
    left.person.insert(FieldName::parse("note").unwrap(), "private".into());
    let status = [(FieldName::parse("status").unwrap(), "open".into())].into_iter().collect();
    left.tuples.insert(impp_protocol::presence::PartId::parse("laptop").unwrap(), status);
    layers.restore(LAPTOP, left.clone(), at(1000), 1);
    let (owner, pace) = (Address::parse("alice@a.example").unwrap(), alice_pace());
    let (watchers, until) = ([(bob(), of_bob)].into_iter().collect(), Some(at(UNTIL)));
    let (mut alice, _) = Presentity::restored(owner, policy, layers, watchers, at(1), pace, until);
    let open = Document { person: Default::default(), ..left.clone() };
    assert_eq!(looks(&alice, 2, &bob()), Ok(open.clone()));
    alice.make(at(2), follow(Bond::Session(SESSION), SESSION));
    let pulled = alice.pull(at(3), &bob(), SESSION, Held::Nothing, None);
    let Pulled::Told(Told { content: Some(content), .. }) = pulled else { panic!("{pulled:?}") };
    assert_eq!(Document::decode(content.bytes()).unwrap(), open);
    // Who waits, and is approved now, waits no more.
    for approved in [always.to_owned(), always.replace("allow", "polite-block")] {
        let mut alice = asked(&home);
        assert_eq!(alice.watcher(&bob()).unwrap().state, SubscriptionState::Pending);
        alice.make(at(2), put(&(home.clone() + &approved)));
        assert_eq!(alice.watcher(&bob()).unwrap().state, SubscriptionState::Active, "{approved}");
        assert_eq!(looks(&alice, 3, &bob()), Ok(Document::offline()));
    }
}

/// Alice, whom bob had asked to follow, after a crash.
fn asked(text: &str) -> Presentity {
    let policy = Policy::new(RuleSet::parse(text).unwrap(), text, 0);
    let of_bob = kept(SubscriptionState::Pending, &policy, &bob());
    recovering_alice(policy, [(bob(), of_bob)].into_iter().collect(), Some(at(UNTIL))).0
}

fn alice_pace() -> PaceLimit {
    PaceLimit { burst: 1000, interval: std::time::Duration::from_secs(1) }
}

const SPHERES: [Option<&str>; 3] = [None, Some("home"), Some("work")];

fn any_rules() -> impl Strategy<Value = String> {
    let rule = (
        prop::sample::subsequence(vec!["w0@b.example", "w1@b.example", "w2@b.example"], 1..3),
        prop::sample::subsequence(vec!["home", "work"], 0..2),
        prop::sample::select(vec!["block", "confirm", "polite-block", "allow"]),
        prop::sample::select(vec!["note", "mood"]),
    );
    prop::collection::vec(rule, 1..5).prop_map(|rules| {
        let rule = |(index, (who, sphere, handling, field))| {
            format!(
                "[[rule]]\nid = \"r{index}\"\nwho = {who:?}\nhandling = \"{handling}\"\n\
                 fields = [\"{field}\"]\n{}",
                if Vec::is_empty(&sphere) {
                    String::new()
                } else {
                    format!("sphere = {sphere:?}\n")
                }
            )
        };
        rules.into_iter().enumerate().map(rule).collect()
    })
}

fn put(text: &str) -> Change {
    let rules = RuleSet::parse(text).unwrap().into();
    Change::PutRules { rules, text: text.into(), base: 0 }
}

fn any_change() -> impl Strategy<Value = Change> {
    let follow = (0..3_u8).prop_map(|who| Change::Follow {
        watcher: watcher(who),
        bond: Bond::Session(SESSION),
        listener: Some(SESSION.into()),
        pending_max: 10,
    });
    let contact = (0..3_u8, prop::option::of(Just(Grant::All))).prop_map(|(who, grant)| {
        let entry = grant.map(|grant| Contact { name: None, groups: vec![], follow: false, grant });
        amend(who, entry)
    });
    let gone = Just(Change::EndSession(SessionId([9; 16])));
    prop_oneof![2 => follow, 1 => contact, 1 => any_rules().prop_map(|text| put(&text)), 1 => gone]
}

/// What a lease has kept.
fn left() -> Document {
    let mut left = Document::default();
    for name in ["note", "mood"] {
        left.person.insert(FieldName::parse(name).unwrap(), "left".into());
    }
    left
}

/// What each sphere would have of a watcher.
fn in_each(alice: &Presentity, who: &Address) -> Vec<Decision> {
    let decide = |sphere| {
        let (policy, owner) = (alice.policy(), Address::parse("alice@a.example").unwrap());
        policy.decide(&owner, who, at(5), Sphere::Is(sphere), None)
    };
    SPHERES.map(decide).to_vec()
}

proptest! {
    /// Whatever the rules and whoever comes in the window: what is the same in every sphere holds, and
    /// what is granted in every one is shown; of the rest nobody is let in or sent away, nothing is
    /// shown, and following and looking say the same. After it all stand as if nothing had been lost.
    #[test]
    fn d3_d4_what_hangs_on_a_lost_sphere_waits_for_it(
        text in any_rules(),
        states in prop::collection::vec(any::<bool>(), 3),
        changes in prop::collection::vec(any_change(), 0..8),
        end in prop::option::of(prop::sample::select(SPHERES.to_vec())),
    ) {
        let policy = Policy::new(RuleSet::parse(&text).unwrap(), text, 0);
        let state = |active| match active {
            true => SubscriptionState::Active,
            false => SubscriptionState::Pending,
        };
        let all = states.into_iter().zip(0..).map(|(active, index)| {
            (watcher(index), kept(state(active), &policy, &watcher(index)))
        });
        let watchers = all.collect();
        let (owner, pace) = (Address::parse("alice@a.example").unwrap(), alice_pace());
        let (mut layers, left) = (Layers::default(), left());
        layers.restore(DeviceId([8; 16]), left.clone(), at(1000), 1);
        let (mut alice, _) =
            Presentity::restored(owner, policy, layers, watchers, at(1), pace, Some(at(UNTIL)));
        for change in changes.into_iter().map(Some).chain([None]) {
            for who in (0..3).map(watcher) {
                let decisions = in_each(&alice, &who);
                let seen = |d: &Decision| (d.handling(), d.view_key());
                let hangs = decisions.iter().any(|d| seen(d) != seen(&decisions[0]));
                let found = alice.watcher(&who);
                let watching = found.filter(|w| w.state != SubscriptionState::Terminated);
                if !hangs {
                    let is = watching.map(|w| seen(&w.decision));
                    prop_assert!(is.is_none() || is == Some(seen(&decisions[0])));
                    prop_assert!(watching.is_none_or(|w| w.decision.handling() != Handling::Block));
                    continue;
                }
                let shown = looks(&alice, 5, &who);
                // What is granted without a sphere is granted in every one: that is shown, and no more.
                let certain = &decisions[0];
                if let Some(key) = certain.view_key() {
                    prop_assert_eq!(shown, Ok(key.apply(&left).document().clone()));
                    prop_assert!(watching.is_none_or(|w| w.decision == *certain && w.is_active()));
                } else if let Some(watching) = watching {
                    let pending = Err(SubscriptionState::Pending);
                    let told = if watching.is_active() { Ok(Document::offline()) } else { pending };
                    prop_assert_eq!(shown, told, "{:?}", watching);
                } else {
                    prop_assert_ne!(shown, Err(SubscriptionState::Terminated));
                }
            }
            let Some(change) = change else { break };
            let before: Vec<_> = (0..3).map(|w| alice.watcher(&watcher(w)).cloned()).collect();
            alice.make(at(5), change.clone());
            for (who, before) in (0..3).map(watcher).zip(before) {
                let decisions = in_each(&alice, &who);
                let most = decisions.iter().map(Decision::handling).max().unwrap();
                let live = before.filter(|w| w.state != SubscriptionState::Terminated);
                let ended = |w: &Watching| w.state == SubscriptionState::Terminated;
                let ended = alice.watcher(&who).is_none_or(ended);
                // Nobody is sent away whom some sphere lets stay.
                prop_assert!(live.is_none() || !ended || most == Handling::Block, "{:?}", change);
            }
        }
        let sphere = match end {
            Some(sphere) => {
                alice.make(at(6), says(sphere, "here", Lease::Bound(SESSION)));
                sphere
            }
            None => {
                alice.expire(at(UNTIL));
                None
            }
        };
        for who in (0..3).map(watcher) {
            let decided = &in_each(&alice, &who)[SPHERES.iter().position(|s| *s == sphere).unwrap()];
            let Some(watching) = alice.watcher(&who) else { continue };
            let live = watching.state != SubscriptionState::Terminated;
            prop_assert!(!live || watching.decision == *decided, "{:?} {:?}", watching, decided);
            prop_assert!(!live || decided.handling() != Handling::Block);
            prop_assert!(!watching.is_active() || decided.view_key().is_some());
            prop_assert!(!watching.is_waiting() || decided.view_key().is_none());
        }
    }
}
