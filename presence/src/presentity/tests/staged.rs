//! What was not stored takes away exactly its own change; what is not stored yet is not seen; what is
//! taken away counts at once.

use std::collections::BTreeMap;

use impp_acl::RuleSet;
use impp_protocol::presence::{Document, FieldName, PartId, Patch};
use impp_protocol::state::Grant;
use impp_protocol::{DeviceId, SessionId};
use proptest::prelude::*;

use super::{SESSION, alice, at, bob, follow, policy, recovering_alice, says};
use crate::bonds::{Bond, Keeper};
use crate::contact_list::Amendment;
use crate::policy::Contact;
use crate::presentity::*;

const PHONE: DeviceId = DeviceId([1; 16]);
const LAPTOP: DeviceId = DeviceId([2; 16]);
pub(super) const ALLOW: &str = "handling = \"allow\"\nfields = [\"all\"]";
const SOME: &str = "handling = \"allow\"\nfields = [\"note\"]";
const BLOCK: &str = "handling = \"block\"";

/// What the owner of a tuple says there.
fn tuple(device: DeviceId, text: &str) -> Change {
    let mut document = Document::default();
    let fields = [(FieldName::parse("note").unwrap(), text.into())];
    let id = PartId::parse(&format!("t{}", device.0[0])).unwrap();
    document.tuples.insert(id, fields.into_iter().collect());
    let patch = Patch::between(&Document::default(), &document);
    Change::Publish { device, patch, replace: true, lease: Lease::Until(at(1000)) }
}

fn rules(more: &str, base: u64) -> Change {
    let Policy { rules, text, .. } = policy(more);
    Change::PutRules { rules, text, base }
}

/// Stages what has something to store.
fn staged(alice: &mut Presentity, now: u64, change: Change) -> u64 {
    match alice.stage(at(now), change) {
        (Staging::Staged(id), _) => id,
        (shown, _) => panic!("{shown:?}"),
    }
}

/// What bob sees who looks once.
fn seen(alice: &Presentity) -> Option<String> {
    match alice.fetch(at(5), &Watcher::Principal(bob()), None) {
        Fetched::Shown(_, Some(content)) => {
            let document = Document::decode(content.bytes()).unwrap();
            let note = FieldName::parse("note").unwrap();
            let notes = document.tuples.values().chain([&document.person]);
            let notes: Vec<String> =
                notes.filter_map(|t| t.get(&note)).map(|n| n.to_string()).collect();
            Some(notes.join(" "))
        }
        Fetched::Shown(_, None) | Fetched::Pending | Fetched::Refused => None,
    }
}

#[test]
fn g8_a_publication_that_is_not_stored_takes_no_other_with_it() {
    let mut alice = alice(policy(ALLOW));
    alice.make(at(2), tuple(PHONE, "old"));
    let failed = staged(&mut alice, 2, tuple(PHONE, "not-stored"));
    // Acknowledged, while the other waits for the store.
    let stored = staged(&mut alice, 2, tuple(LAPTOP, "stored"));
    assert_eq!(seen(&alice).unwrap(), "old");
    let effects = alice.failed(at(3), failed, false);
    assert_eq!(effects.writes, []);
    assert_eq!(alice.committed(at(3), stored, None).answers, [(stored, Answer::Done)]);
    assert_eq!(seen(&alice).unwrap(), "old stored");
}

#[test]
fn g8_a_refresh_that_is_not_stored_ends_no_subscription() {
    let (stood, renewed) = (Bond::Lease(PHONE, at(100)), Bond::Lease(PHONE, at(200)));
    let mut alice = alice(policy(ALLOW));
    alice.make(at(1), follow(stood, SESSION));
    let other = SessionId([9; 16]);
    for bond in [renewed, Bond::Lease(LAPTOP, at(300))] {
        let id = staged(&mut alice, 2, follow(bond, other));
        alice.failed(at(3), id, false);
        let watching = alice.watcher(&bob()).unwrap();
        assert_eq!(watching.state, SubscriptionState::Active);
        assert_eq!(watching.bonds().of(Keeper::Device(PHONE)), Some(stood));
        assert_eq!(watching.bonds().leases().len(), 1);
        assert_eq!(watching.listeners(), [SESSION.into()]);
    }
}

#[test]
fn g8_what_is_not_stored_yet_is_not_seen_and_shown_in_order() {
    let mut alice = alice(policy(ALLOW));
    alice.make(at(1), follow(Bond::Session(SESSION), SESSION));
    let first = staged(&mut alice, 2, says(PHONE, "first", 1000));
    let second = staged(&mut alice, 2, says(LAPTOP, "second", 1000));
    assert_eq!(seen(&alice).unwrap(), "");
    // The store has both, and says so in another order.
    let effects = alice.committed(at(3), second, None);
    assert!(effects.wake.is_empty() && effects.answers.is_empty(), "{effects:?}");
    assert_eq!(seen(&alice).unwrap(), "");
    let effects = alice.committed(at(3), first, None);
    assert_eq!(effects.answers, [(first, Answer::Done), (second, Answer::Done)]);
    assert_eq!((effects.wake.len(), seen(&alice).unwrap()), (1, "second".to_owned()));
}

#[test]
fn g8_rules_that_grant_count_when_they_are_stored_and_those_that_take_away_at_once() {
    let mut alice = alice(policy(ALLOW));
    alice.make(at(1), says(PHONE, "here", 1000));
    alice.make(at(1), follow(Bond::Session(SESSION), SESSION));
    let pull = |alice: &mut Presentity| alice.pull(at(5), &bob(), SESSION, Held::Nothing, None);
    let blocked = staged(&mut alice, 2, rules(BLOCK, 0));
    assert_eq!(seen(&alice), None);
    assert!(matches!(pull(&mut alice), Pulled::Nothing), "held back until it is known");
    let sender = Watcher::Principal(bob());
    assert_eq!(alice.delivery(at(5), &sender).0, DeliveryAction::Refuse);
    // Granted again before that is stored: it counts only when all is.
    let allowed = staged(&mut alice, 2, rules(ALLOW, 1));
    assert_eq!(seen(&alice), None);
    assert!(matches!(pull(&mut alice), Pulled::Nothing));
    // Another one came first. The later ones are not of these rules, and go on.
    let effects = alice.failed(at(3), blocked, false);
    assert_eq!(effects.writes, []);
    assert!(effects.wake.contains(&SESSION.into()), "who was held back looks again");
    assert_eq!(seen(&alice).unwrap(), "here");
    let effects = alice.committed(at(3), allowed, Some(7));
    assert_eq!(effects.answers, [(allowed, Answer::Numbered(7))]);
    assert_eq!(alice.policy().number, 7);
    // What is refused now is not granted before it is stored.
    alice.make(at(4), rules(BLOCK, 7));
    let granted = staged(&mut alice, 4, rules(ALLOW, 8));
    assert_eq!(seen(&alice), None);
    alice.committed(at(4), granted, Some(9));
    assert_eq!(seen(&alice).unwrap(), "here");
}

#[test]
fn what_has_nothing_to_store_is_shown_beneath_what_is_staged() {
    let mut alice = alice(policy(ALLOW));
    let leased = staged(&mut alice, 2, tuple(PHONE, "leased"));
    let Change::Publish { patch, .. } = tuple(LAPTOP, "bound") else { unreachable!() };
    let lease = Lease::Bound(SESSION);
    let bound = Change::Publish { device: LAPTOP, patch, replace: true, lease };
    assert!(matches!(alice.stage(at(3), bound), (Staging::Shown(Answer::Done), _)));
    assert_eq!(seen(&alice).unwrap(), "bound");
    alice.committed(at(3), leased, None);
    assert_eq!(seen(&alice).unwrap(), "leased bound");
}

#[test]
fn what_is_staged_by_many_is_decided_once() {
    let mut alice = alice(policy(ALLOW));
    for until in 100..200 {
        staged(&mut alice, 2, follow(Bond::Lease(PHONE, at(until)), SESSION));
        staged(&mut alice, 2, says(PHONE, "here", until));
    }
    assert_eq!(alice.grounds().count(), 1);
    staged(&mut alice, 2, rules(BLOCK, 0));
    assert_eq!(alice.grounds().count(), 2);
    assert_eq!(seen(&alice), None);
}

/// The store as the presentity has it written, in order; what is on its way may fail.
#[derive(Default)]
struct Disk {
    records: BTreeMap<String, Write>,
    queue: VecDeque<(Option<u64>, Vec<Write>)>,
}

fn name(write: &Write) -> String {
    match write {
        Write::Watcher(who, _) => format!("watcher {who}"),
        Write::Layer(device, _) => format!("layer {}", device.0[0]),
        Write::Contact(who, _) => format!("contact {who}"),
        Write::Trace(who, _) => format!("trace {who}"),
        Write::Floor(_) => "floor".to_owned(),
        Write::Rules(..) => "rules".to_owned(),
    }
}

impl Disk {
    fn submit(&mut self, id: Option<u64>, effects: &mut Effects) {
        let again = std::mem::take(&mut effects.again);
        self.queue.extend(again.into_iter().map(|(id, writes)| (Some(id), writes)));
        let (writes, later) =
            (std::mem::take(&mut effects.writes), std::mem::take(&mut effects.later));
        self.queue.extend((!writes.is_empty()).then_some((id, writes)));
        self.queue.extend((!later.is_empty()).then_some((None, later)));
    }

    fn write(&mut self, writes: Vec<Write>) {
        for write in writes {
            let is_gone = matches!(
                write,
                Write::Watcher(_, None)
                    | Write::Layer(_, None)
                    | Write::Contact(_, None)
                    | Write::Trace(_, None)
            );
            match is_gone {
                true => self.records.remove(&name(&write)),
                false => self.records.insert(name(&write), write),
            };
        }
    }
}

/// All that survives of a presentity, by what it is about.
fn kept(alice: &Presentity) -> BTreeMap<String, Write> {
    let watchers = alice.watchers();
    let watchers =
        watchers.filter_map(|(who, w)| Some(Write::Watcher(who.clone(), Some(w.kept()?))));
    let layers = [PHONE, LAPTOP].into_iter().filter_map(|device| {
        alice.layers().saved(device).map(|saved| Write::Layer(device, Some(saved)))
    });
    let contacts = alice.policy().contacts.iter();
    let contacts = contacts.map(|(who, c)| Write::Contact(who.clone(), Some(c.clone())));
    let history = &alice.policy().history;
    let traces = (0..3)
        .map(watcher)
        .filter_map(|who| history.trace(&who).map(|trace| Write::Trace(who, Some(trace))));
    watchers
        .chain(layers)
        .chain(contacts)
        .chain(traces)
        .map(|write| (name(&write), write))
        .collect()
}

/// What is seen of a presentity, but for the rules' number, and since when watchers stand as they do:
/// what rules say of them counts when they are shown.
fn shown(alice: &Presentity) -> String {
    let watchers = alice
        .watchers()
        .map(|(who, w)| (who, Watching { since: at(0), seldom: None, ..w.clone() }));
    let watchers: BTreeMap<_, _> = watchers.collect();
    let layers: Vec<_> = [PHONE, LAPTOP].iter().map(|d| alice.layers().of(*d)).collect();
    format!("{watchers:?} {layers:?} {:?} {}", alice.policy().contacts, alice.policy().text)
}

pub(super) fn watcher(index: u8) -> Address {
    Address::parse(&format!("w{index}@b.example")).unwrap()
}

/// Somebody's entry of the contact list is this, or there is none.
pub(super) fn amend(who: u8, entry: Option<Contact>) -> Change {
    Change::Amend(match entry {
        Some(entry) => Amendment::put(watcher(who), entry),
        None => Amendment::remove(watcher(who)),
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    let device = prop_oneof![Just(PHONE), Just(LAPTOP)];
    let lease = prop_oneof![
        2 => (20_u64..200).prop_map(|until| Lease::Until(at(until))),
        1 => Just(Lease::Bound(SESSION)),
    ];
    let document = ("[ab]", any::<bool>()).prop_map(|(text, home)| {
        let mut document = Document::default();
        document.person.insert(FieldName::parse("note").unwrap(), text.as_str().into());
        if home {
            document.person.insert(FieldName::parse("sphere").unwrap(), "home".into());
        }
        Patch::between(&Document::default(), &document)
    });
    let publish = (device.clone(), document, any::<bool>(), lease).prop_map(
        |(device, patch, replace, lease)| Change::Publish { device, patch, replace, lease },
    );
    let bond = prop_oneof![
        Just(Bond::Session(SESSION)),
        Just(Bond::Contact),
        (20_u64..200).prop_map(|until| Bond::Lease(PHONE, at(until))),
        (20_u64..200).prop_map(|until| Bond::Server(at(until))),
    ];
    let follow = (0..3_u8, bond, any::<bool>()).prop_map(|(who, bond, listens)| Change::Follow {
        watcher: watcher(who),
        bond,
        listener: listens.then_some(SESSION.into()),
        pending_max: 2,
    });
    let keepers =
        vec![Keeper::Session(SESSION), Keeper::Contact, Keeper::Device(PHONE), Keeper::Server];
    let keepers = proptest::sample::subsequence(keepers, 1..3);
    let release =
        (0..3_u8, keepers, any::<bool>()).prop_map(|(who, keepers, leaves)| Change::Release {
            watcher: watcher(who),
            keepers,
            listener: leaves.then_some(SESSION.into()),
        });
    let grant = prop_oneof![Just(None), Just(Some(Grant::None)), Just(Some(Grant::All))];
    let contact = (0..3_u8, grant).prop_map(|(who, grant)| {
        let entry = grant.map(|grant| Contact { name: None, groups: vec![], follow: false, grant });
        amend(who, entry)
    });
    let handling =
        prop_oneof![Just(ALLOW), Just(SOME), Just("handling = \"confirm\""), Just(BLOCK)];
    let rules = (handling, any::<bool>()).prop_map(|(handling, home)| {
        let sphere = if home { "sphere = [\"home\"]\n" } else { "" };
        let text = format!(
            "[[rule]]\nid = \"a\"\nwho = [\"domain:b.example\"]\n{sphere}{handling}\n\
             [[rule]]\nid = \"c\"\nwho = [\"contacts\"]\nhandling = \"allow\"\n"
        );
        let rules = RuleSet::parse(&text).unwrap().into();
        Change::PutRules { rules, text: text.into(), base: 0 }
    });
    prop_oneof![
        4 => publish,
        2 => device.prop_map(Change::Unpublish),
        1 => Just(Change::EndSession(SESSION)),
        1 => prop::option::of(20_u64..200)
            .prop_map(|grace| Change::Rebind(SESSION, grace.map(at))),
        1 => prop_oneof![Just(Change::Withdraw), Just(Change::Part(PHONE))],
        5 => follow,
        3 => release,
        1 => (0..3_u8).prop_map(|who| Change::End(watcher(who), SubscriptionEvent::Deactivated)),
        2 => contact,
        1 => rules,
    ]
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Stage(Change),
    Commit,
    Fail,
    Expire(u64),
}

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any_change().prop_map(Step::Stage),
        3 => Just(Step::Commit),
        1 => Just(Step::Fail),
        1 => (1_u64..40).prop_map(Step::Expire),
    ]
}

/// What was made of a presentity that has a memory for a disk, in the order in which it is shown.
#[derive(Clone, Debug)]
enum Made {
    Change(u64, Change),
    Expire(u64),
}

/// After a crash, if it recovers until then.
fn fresh(recovering: Option<u64>) -> Presentity {
    recovering_alice(policy("handling = \"confirm\""), HashMap::default(), recovering.map(at)).0
}

fn made(all: &[Made], recovering: Option<u64>) -> Presentity {
    let mut alice = fresh(recovering);
    for made in all {
        match made {
            Made::Change(now, change) => drop(alice.make(at(*now), change.clone())),
            Made::Expire(now) => drop(alice.expire(at(*now))),
        }
    }
    alice
}

proptest! {
    /// Whatever is stored and whatever fails: what is shown is what the changes that were stored make
    /// one after the other, and the store has in the end what is shown.
    #[test]
    fn g8_what_fails_takes_away_itself_alone(
        steps in prop::collection::vec(any_step(), 1..40),
        recovering in prop::option::of(2_u64..60),
    ) {
        let (mut alice, mut disk, mut now) = (fresh(recovering), Disk::default(), 1);
        let (mut all, mut staged): (Vec<Made>, VecDeque<(u64, u64, Change)>) = Default::default();
        let settle = (0..100).flat_map(|_| [Step::Commit, Step::Expire(0)]);
        for step in steps.into_iter().chain(settle) {
            let mut expired = false;
            let mut effects = match step {
                Step::Stage(change) => {
                    let (staging, mut effects) = alice.stage(at(now), change.clone());
                    match staging {
                        Staging::Shown(_) => {
                            staged.iter_mut().for_each(|(.., later)| later.overtaken_by(&change));
                            all.push(Made::Change(now, change));
                        }
                        Staging::Staged(id) => {
                            staged.push_back((id, now, change));
                            disk.submit(Some(id), &mut effects);
                        }
                    }
                    effects
                }
                Step::Expire(seconds) => {
                    now += seconds;
                    expired = true;
                    alice.expire(at(now))
                }
                Step::Commit | Step::Fail => match disk.queue.pop_front() {
                    None => continue,
                    Some((Some(id), _)) if matches!(step, Step::Fail) => {
                        staged.retain(|(other, ..)| *other != id);
                        alice.failed(at(now), id, false)
                    }
                    Some((id, writes)) => {
                        disk.write(writes);
                        id.map(|id| alice.committed(at(now), id, None)).unwrap_or_default()
                    }
                },
            };
            disk.submit(None, &mut effects);
            for (id, _) in &effects.answers {
                let (first, at, change) = staged.pop_front().unwrap();
                prop_assert_eq!(*id, first);
                all.push(Made::Change(at, change));
            }
            // What is committed is shown before time ends something.
            all.extend(expired.then_some(Made::Expire(now)));
            let (is, should) = (shown(&alice), shown(&made(&all, recovering)));
            prop_assert_eq!(is, should, "{:?}", all);
        }
        prop_assert!(staged.is_empty() && disk.queue.is_empty());
        disk.records.remove("rules");
        prop_assert_eq!(disk.records, kept(&alice));
    }
}
