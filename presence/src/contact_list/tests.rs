//! What amendments come to, said one by one; and many of them, by devices that have not heard of each other.

use proptest::prelude::*;

use super::*;

fn who(n: usize) -> Address {
    Address::parse(&format!("w{n}@b.example")).unwrap()
}

#[derive(Default)]
struct List {
    contacts: BTreeMap<Address, Contact>,
    history: History,
    now: u64,
}

impl List {
    fn amend(&mut self, base: u64, address: &Address, amends: Amends) -> Amended {
        let amendment = Amendment { address: address.clone(), base: Some(base), amends };
        let now = Timestamp::from_millis(self.now * 1000);
        // The order says nothing here: numbers rise by one.
        self.history.amend(&mut self.contacts, (now, 0), &amendment)
    }

    fn add(&mut self, base: u64, address: &Address) -> Amended {
        let fields = Fields { add: Some(10_000), ..Fields::default() };
        self.amend(base, address, Amends::Set(fields))
    }

    fn grant(&mut self, base: u64, address: &Address, grant: Grant) -> Amended {
        let fields = Fields { grant: Some(grant), ..Fields::default() };
        self.amend(base, address, Amends::Set(fields))
    }
}

fn named(name: &str) -> Amends {
    Amends::Set(Fields { name: Some(Some(name.to_owned())), ..Fields::default() })
}

/// Two devices that were away change the same entry: fields for themselves, groups for themselves.
#[test]
fn two_devices_change_what_they_change_and_nothing_else() {
    let (mut list, bob) = (List::default(), who(0));
    assert_eq!(list.add(0, &bob), Amended::Done(1));
    let labels = |more: &[&str], less: &[&str]| {
        let [more, less] = [more, less].map(|all| all.iter().map(|one| (*one).into()).collect());
        Amends::Set(Fields { groups: Labels::Some { more, less }, ..Fields::default() })
    };
    assert_eq!(list.amend(1, &bob, labels(&["work"], &[])), Amended::Done(2));
    assert_eq!(list.amend(1, &bob, named("Bob")), Amended::Done(3));
    assert_eq!(list.amend(1, &bob, labels(&["home"], &["work"])), Amended::Done(4));
    assert_eq!(list.amend(1, &bob, named("Robert")), Amended::Done(5));
    let entry = &list.contacts[&bob];
    assert_eq!((entry.name.as_deref(), &*entry.groups), (Some("Robert"), &["home".to_owned()][..]));
    // What changes nothing is no change.
    assert_eq!(list.amend(1, &bob, named("Robert")), Amended::Done(5));
}

/// What was removed stays so, whatever is said of it by who did not know; who knew may add it anew.
#[test]
fn what_was_removed_comes_back_only_by_who_knows_that_it_was() {
    let (mut list, bob) = (List::default(), who(0));
    list.add(0, &bob);
    assert_eq!(list.amend(1, &bob, Amends::Remove), Amended::Done(2));
    assert_eq!(list.amend(1, &bob, Amends::Remove), Amended::Missing);
    assert_eq!(list.amend(1, &bob, named("Bob")), Amended::Dropped);
    assert_eq!(list.add(1, &bob), Amended::Dropped);
    assert_eq!(list.amend(2, &bob, named("Bob")), Amended::Missing);
    assert_eq!(list.add(2, &bob), Amended::Done(3));
    // It is another entry.
    assert_eq!(list.amend(1, &bob, named("Bob")), Amended::Dropped);
    assert_eq!(list.contacts[&bob].name, None);
    // From nobody knows where.
    assert_eq!(list.add(4, &bob), Amended::Conflict);
}

/// An old amendment that comes late does not grant again what was taken back; what takes back is done.
#[test]
fn d4_what_was_taken_back_is_granted_by_who_knows_that_alone() {
    let (mut list, bob) = (List::default(), who(0));
    list.add(0, &bob);
    assert_eq!(list.grant(1, &bob, Grant::All), Amended::Done(2));
    assert_eq!(list.grant(1, &bob, Grant::Status), Amended::Done(3));
    assert_eq!(list.grant(2, &bob, Grant::All), Amended::Conflict);
    assert_eq!(list.contacts[&bob].grant, Grant::Status);
    assert_eq!(list.grant(0, &bob, Grant::None), Amended::Done(4));
    assert_eq!(list.grant(3, &bob, Grant::Status), Amended::Conflict);
    assert_eq!(list.amend(1, &bob, named("Bob")), Amended::Done(5));
    assert_eq!(list.grant(5, &bob, Grant::Status), Amended::Done(6));
}

/// That an entry was removed is known for 60 days, and of so many; who comes later than that is told so,
/// but for what takes back.
#[test]
fn d_4_removals_are_known_for_a_while_and_who_comes_later_is_told() {
    let (mut list, bob) = (List::default(), who(0));
    list.add(0, &bob);
    list.add(1, &who(1));
    assert_eq!(list.amend(2, &bob, Amends::Remove), Amended::Done(3));
    list.now = 60 * 86_400;
    list.add(3, &who(2));
    assert_eq!(list.amend(4, &who(1), Amends::Remove), Amended::Done(5));
    assert_eq!((list.history.floor(), list.history.trace(&bob)), (3, None));
    assert_eq!(list.amend(2, &who(2), named("Dan")), Amended::Conflict);
    assert_eq!(list.add(2, &bob), Amended::Conflict);
    assert_eq!(list.amend(3, &who(2), named("Dan")), Amended::Done(6));
    assert_eq!(list.grant(0, &who(2), Grant::None), Amended::Done(6));
    assert_eq!(list.amend(0, &who(2), Amends::Remove), Amended::Done(7));
    let restored = History::restored(list.history.traces.clone(), list.history.floor());
    assert_eq!(restored, list.history);
    for n in 0..=REMOVED_MAX {
        let base = list.history.number();
        list.add(base, &who(n + 10));
        list.amend(base, &who(n + 10), Amends::Remove);
    }
    assert_eq!(list.history.traces.len(), REMOVED_MAX);
    assert!(list.history.floor() > 7);
}

/// The list that a device knows, by its number, and what it has written and not sent yet, or has sent without
/// an answer.
#[derive(Default)]
struct Device {
    number: u64,
    waiting: Vec<(u64, Address, Amends)>,
}

#[derive(Clone, Debug)]
enum Step {
    /// A device reads the list.
    Reads(usize),
    /// It writes down a change, made on what it knows.
    Writes(usize, usize, Amends),
    /// It sends the first one, and its answer comes or is lost.
    Sends(usize, bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    let grant = prop_oneof![Just(Grant::None), Just(Grant::Status), Just(Grant::All)];
    let group = || prop::option::of(prop_oneof![Just("work"), Just("home")]);
    let fields = (
        any::<bool>(),
        prop::option::of("[ab]"),
        (group(), group()),
        prop::option::of(any::<bool>()),
        prop::option::of(grant),
    );
    let set = fields.prop_map(|(add, name, (more, less), follow, grant)| {
        let [more, less] = [more, less].map(|group| group.map(str::to_owned).into_iter().collect());
        let groups = Labels::Some { more, less };
        Amends::Set(Fields { add: add.then_some(9), name: name.map(Some), groups, follow, grant })
    });
    let amends = prop_oneof![4 => set, 1 => Just(Amends::Remove)];
    prop_oneof![
        2 => (0..3_usize).prop_map(Step::Reads),
        4 => (0..3_usize, 0..2_usize, amends).prop_map(|(d, w, amends)| Step::Writes(d, w, amends)),
        5 => (0..3_usize, any::<bool>()).prop_map(|(d, answered)| Step::Sends(d, answered)),
    ]
}

/// One field of one entry, as whoever wrote it last has said it.
type Said = BTreeMap<(Address, &'static str), String>;

/// Says what an amendment says, field by field: a model that knows entries by their fields alone.
fn say(said: &mut Said, address: &Address, amends: &Amends) {
    let mut put = |field, value: String| drop(said.insert((address.clone(), field), value));
    let Amends::Set(fields) = amends else {
        return said.retain(|(of, _), _| of != address);
    };
    put("there", String::new());
    if let Some(name) = &fields.name {
        put("name", name.clone().unwrap_or_default());
    }
    if let Some(follow) = fields.follow {
        put("follow", follow.to_string());
    }
    if let Some(grant) = fields.grant {
        put("grant", grant.as_str().to_owned());
    }
    if let Labels::Some { more, less } = &fields.groups {
        for (groups, is_in) in [(more, "in"), (less, "out")] {
            for group in groups {
                let field = if group == "work" { "work" } else { "home" };
                put(field, is_in.to_owned());
            }
        }
    }
}

/// The same of the list as it is; what nobody has said is as in a new entry.
fn is_as_said(contacts: &BTreeMap<Address, Contact>, said: &Said) -> bool {
    (0..2).map(who).all(|address| {
        let field = |name| said.get(&(address.clone(), name)).map(String::as_str);
        let Some(entry) = contacts.get(&address) else { return field("there").is_none() };
        let is_in = |group: &str, name| {
            entry.groups.iter().any(|one| one == group) == (field(name) == Some("in"))
        };
        field("there").is_some()
            && entry.name.as_deref() == field("name")
            && entry.follow == (field("follow") == Some("true"))
            && entry.grant.as_str() == field("grant").unwrap_or("none")
            && is_in("work", "work")
            && is_in("home", "home")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Three devices write while they are away, send late, and again what was not answered. Whatever was
    /// acknowledged stands until somebody has written the same field, or removed the entry, after it; nobody
    /// is granted more than they were by who did not know of that; nothing comes back by who did not know
    /// that it was removed.
    #[test]
    fn whatever_devices_write_while_they_are_away_nothing_acknowledged_is_lost(
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let (mut list, mut said) = (List::default(), Said::new());
        let mut devices: [Device; 3] = Default::default();
        let rest = (0..3).flat_map(|d| (0..60).map(move |_| Step::Sends(d, true)));
        for step in steps.into_iter().chain(rest) {
            match step {
                Step::Reads(device) => {
                    devices[device].number = list.history.number();
                }
                Step::Writes(device, address, amends) => {
                    let device = &mut devices[device];
                    device.waiting.push((device.number, who(address), amends));
                }
                Step::Sends(device, answered) => {
                    let Some((base, address, amends)) = devices[device].waiting.first().cloned()
                    else {
                        continue;
                    };
                    let before = list.contacts.get(&address).cloned();
                    let trace = list.history.trace(&address).unwrap_or_default();
                    match list.amend(base, &address, amends.clone()) {
                        Amended::Done(_) => {
                            say(&mut said, &address, &amends);
                            if before.is_none() {
                                prop_assert!(trace.removed <= base, "it has come back");
                            }
                            let after = list.contacts.get(&address);
                            let granted = |entry: Option<&Contact>| {
                                entry.map_or(Grant::None, |entry| entry.grant).number()
                            };
                            if granted(after) > granted(before.as_ref()) {
                                prop_assert!(trace.granted <= base && trace.removed <= base);
                            }
                        }
                        _ => prop_assert_eq!(list.contacts.get(&address), before.as_ref()),
                    }
                    if answered {
                        devices[device].waiting.remove(0);
                    }
                }
            }
            prop_assert!(is_as_said(&list.contacts, &said), "{:?} {:?}", list.contacts, said);
        }
        prop_assert!(devices.iter().all(|device| device.waiting.is_empty()));
    }
}
