//! A home and a mirror with an ordered wire between them that breaks at any time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use impp_acl::{RuleSet, Watcher};
use impp_protocol::command::{Done, Notify, Subscribe};
use impp_protocol::hashing::{HashMap, HashSet};
use impp_protocol::presence::{Document, FieldName, PartId, Patch, Version};
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, Code, DeviceId, Error, SessionId, Timestamp, What};
use proptest::prelude::*;

use super::{Mirror, Terms};
use crate::bonds::{Bond, Keeper};
use crate::ids::{LinkId, ListenerId};
use crate::policy::Policy;
use crate::presentity::{
    Answer, Asked, Change, Fetched, GroupTold, Groups, Held, Joined, Layers, Lease, PaceLimit,
    Presentity, Pulled, PulledGroups,
};
use crate::watching::Watching;

mod asked;
mod late;
mod random;
mod said;
mod unsure;

const TERMS: Terms = Terms {
    lease: Duration::from_secs(3600),
    stale: Duration::from_secs(60),
    answer: Duration::from_secs(60),
    pace: PaceLimit { burst: 1_000_000, interval: Duration::from_secs(2) },
};
const ROOM: usize = 1 << 20;

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// A follower in the other domain.
fn watcher(index: usize) -> Address {
    address(&format!("w{index}@b.example"))
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000 + seconds * 1000)
}

fn field(name: &str) -> FieldName {
    FieldName::parse(name).unwrap()
}

/// What the rules give a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grant {
    Block,
    Confirm,
    Polite,
    Status,
    Note,
    All,
}

fn rules(grants: &[Grant]) -> RuleSet {
    let all = grants.iter().all(|grant| *grant == grants[0]).then_some("domain:b.example");
    let rule = |(index, grant): (usize, &Grant)| {
        let who = all.map_or_else(|| watcher(index).to_string(), str::to_owned);
        let what = match grant {
            Grant::Block => "handling = \"block\"",
            Grant::Confirm => "handling = \"confirm\"",
            Grant::Polite => "handling = \"polite-block\"",
            Grant::Status => "handling = \"allow\"\nfields = [\"status\"]",
            Grant::Note => "handling = \"allow\"\nfields = [\"note\"]",
            Grant::All => "handling = \"allow\"\nfields = [\"all\"]",
        };
        format!("[[rule]]\nid = \"r{index}\"\nwho = [\"{who}\"]\n{what}\n")
    };
    let text: Vec<String> = {
        let grants = if all.is_some() { &grants[..1] } else { grants };
        grants.iter().enumerate().map(rule).collect()
    };
    RuleSet::parse(&text.join("\n")).unwrap()
}

fn document(count: u64) -> Document {
    let mut document = Document::default();
    let status = if count.is_multiple_of(3) { "closed" } else { "open" };
    let mut tuple = impp_protocol::presence::Fields::default();
    tuple.insert(field("status"), status.into());
    tuple.insert(field("org.example.tuple"), format!("t{count}").as_str().into());
    document.tuples.insert(PartId::parse("t").unwrap(), tuple);
    document.person.insert(field("note"), format!("note {count}").as_str().into());
    document.person.insert(field("mood"), format!("mood-{count}").as_str().into());
    let long = "something long that does not change, so that patches are shorter ".repeat(4);
    document.person.insert(field("org.example.long"), long.as_str().into());
    document
}

/// What goes from the home to the mirror.
enum Frame {
    Answer(Address, Result<Done, Error>),
    Notify(Notify),
}

impl Frame {
    fn notify(&self) -> Option<&Notify> {
        match self {
            Frame::Notify(notify) => Some(notify),
            Frame::Answer(..) => None,
        }
    }
}

/// What a client of the watching side holds.
#[derive(Default)]
struct Client {
    follows: bool,
    held: Held,
    document: Document,
    state: Option<SubscriptionState>,
}

/// See the module.
struct World {
    now: Timestamp,
    owner: Address,
    home: Presentity,
    groups: Groups,
    link: LinkId,
    up: bool,
    mirror: Mirror,
    to_home: VecDeque<Subscribe>,
    joining: Vec<(Subscribe, Asked)>,
    to_mirror: VecDeque<Frame>,
    clients: BTreeMap<Address, Client>,
    /// What each watcher's own view has ever been.
    own: HashMap<Address, HashSet<Version>>,
    published: u64,
    repairs: u64,
    unsolicited: u64,
    /// Sessions that have to look.
    woken: HashSet<ListenerId>,
}

fn home(owner: &Address, now: Timestamp, policy: Policy, old: Option<&Presentity>) -> Presentity {
    let pace = PaceLimit { burst: 3, interval: Duration::from_secs(2) };
    let mut layers = Layers::default();
    let mut watchers = HashMap::default();
    if let Some(old) = old {
        layers = old.layers().clone();
        for (address, watching) in old.watchers() {
            let Some(kept) = watching.kept() else { continue };
            let watching = Watching::restored(&kept, watching.decision.clone(), now);
            watchers.insert(address.clone(), watching);
        }
    }
    Presentity::restored(owner.clone(), policy, layers, watchers, now, pace, None).0
}

/// A world in which all watchers follow what is published, are answered and told.
fn followed(grants: &[Grant]) -> World {
    let mut world = World::new(grants);
    world.publish();
    for index in 0..grants.len() {
        world.follow(index, Bond::Contact);
    }
    world.flow();
    world
}

impl World {
    fn new(grants: &[Grant]) -> World {
        let owner = address("alice@a.example");
        let mut world = World {
            now: at(0),
            home: home(&owner, at(0), Policy::new(rules(grants), "", 0), None),
            groups: Groups::default(),
            link: LinkId([1; 16]),
            up: false,
            mirror: Mirror::new(owner.clone(), None),
            owner,
            to_home: VecDeque::new(),
            joining: Vec::new(),
            to_mirror: VecDeque::new(),
            clients: (0..grants.len()).map(|i| (watcher(i), Client::default())).collect(),
            own: HashMap::default(),
            published: 0,
            repairs: 0,
            unsolicited: 0,
            woken: HashSet::default(),
        };
        world.link_up();
        world
    }

    fn session(&self, watcher: &Address) -> SessionId {
        let mut id = [7; 16];
        let name = watcher.local().as_bytes();
        id[..name.len()].copy_from_slice(name);
        SessionId(id)
    }

    /// Notes what everybody's own view is now.
    fn note_views(&mut self) {
        for watcher in self.clients.keys() {
            let who = Watcher::Principal(watcher.clone());
            if let Fetched::Shown(version, _) = self.home.fetch(self.now, &who, None) {
                self.own.entry(watcher.clone()).or_default().insert(version);
            }
        }
    }

    fn publish(&mut self) {
        self.published += 1;
        let patch = Patch::between(&Document::default(), &document(self.published));
        let lease = Lease::Until(at(1_000_000_000));
        self.say(patch, lease);
        self.note_views();
    }

    /// The owner's one device says something else.
    fn say(&mut self, patch: Patch, lease: Lease) {
        let publish = Change::Publish { device: DeviceId([1; 16]), patch, replace: true, lease };
        assert_eq!(self.home.make(self.now, publish).0, Answer::Done);
    }

    fn set_rules(&mut self, grants: &[Grant]) {
        let (rules, text, base) = (rules(grants).into(), "".into(), 0);
        self.home.make(self.now, Change::PutRules { rules, text, base });
        // Of very many it decides in slices, which are due at once.
        while self.home.next_deadline().is_some_and(|at| at < self.now) {
            self.home.expire(self.now);
        }
        self.note_views();
    }

    fn link_up(&mut self) {
        self.cut();
        self.link.0[0] = self.link.0[0].wrapping_add(1);
        self.up = true;
        let effects = self.mirror.link_up(self.now, TERMS);
        self.count(&effects);
    }

    fn cut(&mut self) {
        if std::mem::take(&mut self.up) {
            self.to_home.clear();
            self.joining.clear();
            self.to_mirror.clear();
            self.groups = Groups::default();
            self.home.link_lost(self.link);
            self.mirror.link_down(self.now, TERMS);
        }
    }

    fn restart_home(&mut self) {
        self.cut();
        self.home = home(&self.owner, self.now, self.home.policy().clone(), Some(&self.home));
        self.note_views();
    }

    fn restart_mirror(&mut self) {
        self.cut();
        let old = std::mem::replace(&mut self.mirror, Mirror::new(self.owner.clone(), None));
        for (watcher, follower) in old.followers() {
            if let Some(kept) = follower.kept() {
                self.mirror.restore(self.now, watcher.clone(), kept, TERMS);
            }
        }
        self.clients.values_mut().for_each(|client| *client = Client::default());
    }

    fn follow(&mut self, index: usize, bond: Bond) {
        let (watcher, session) = (watcher(index), self.session(&watcher(index)));
        let (state, effects) = self.mirror.follow(self.now, &watcher, bond, Some(session.into()));
        self.count(&effects);
        // Whoever asks looks when it is answered.
        self.woken.insert(session.into());
        let version = self.mirror.version_for(&watcher);
        let client = self.clients.get_mut(&watcher).unwrap();
        let held = match client.held {
            Held::Sent(held) | Held::Claimed(held) if version == Some(held) => Held::Sent(held),
            Held::Sent(held) | Held::Claimed(held) => Held::Claimed(held),
            // Nobody here takes snapshots alone.
            Held::Nothing | Held::Whole(_) => Held::Nothing,
        };
        // Whoever is told so drops what it holds.
        let seen = matches!(state, SubscriptionState::Active | SubscriptionState::Stale);
        let held = if seen { held } else { Held::Nothing };
        (client.follows, client.state, client.held) = (true, Some(state), held);
    }

    fn unfollow(&mut self, index: usize) {
        let (watcher, session) = (watcher(index), self.session(&watcher(index)));
        let bonds = [Keeper::Session(session), Keeper::Contact];
        let effects = self.mirror.unfollow(self.now, &watcher, &bonds, Some(session.into()));
        self.count(&effects);
        self.clients.get_mut(&watcher).unwrap().follows = false;
    }

    fn count(&mut self, effects: &super::Effects) {
        self.repairs += effects.repairs;
        self.unsolicited += effects.unsolicited;
        self.woken.extend(&effects.wake);
    }

    /// The mirror asks.
    fn ask(&mut self, max: usize) -> usize {
        let requests = self.mirror.requests(self.now, max, TERMS);
        let asked = requests.len();
        self.to_home.extend(requests.into_iter().map(|(_, subscribe)| subscribe));
        asked
    }

    /// The home takes a request; it is answered when it is stored.
    fn take(&mut self) -> bool {
        let Some(subscribe) = self.to_home.pop_front() else { return false };
        let watcher = subscribe.watcher.clone().unwrap();
        let lease = subscribe.lease.unwrap();
        let asked = if lease == Duration::ZERO {
            let (keepers, listener) = (vec![Keeper::Server], Some(self.link.into()));
            self.home.make(self.now, Change::Release { watcher, keepers, listener });
            Asked::Stands(SubscriptionState::Terminated)
        } else {
            self.home_follows(watcher, lease, self.link)
        };
        self.joining.push((subscribe, asked));
        true
    }

    fn home_follows(&mut self, watcher: Address, lease: Duration, link: LinkId) -> Asked {
        let bond = Bond::Server(self.now.after(lease));
        let (listener, pending_max) = (Some(link.into()), 100_000);
        let follow = Change::Follow { watcher, bond, listener, pending_max };
        match self.home.make(self.now, follow).0 {
            Answer::Asked(asked) => asked,
            other => panic!("{other:?}"),
        }
    }

    /// The home answers one of the requests that it has taken.
    fn answer(&mut self, index: usize) -> bool {
        if self.joining.is_empty() {
            return false;
        }
        let (subscribe, asked) = self.joining.remove(index % self.joining.len());
        let watcher = subscribe.watcher.clone().unwrap();
        let answer = match asked {
            Asked::Stands(SubscriptionState::Terminated) => {
                self.groups.leave(&watcher);
                let state = Some(SubscriptionState::Terminated);
                Ok(Done { state, lease: Some(Duration::ZERO), ..Done::empty() })
            }
            Asked::Stands(_) => self.joined(&watcher, &subscribe),
            Asked::Refused | Asked::Crowded => {
                self.groups.leave(&watcher);
                Err(Error::new(Code::Refused, "no"))
            }
        };
        self.to_mirror.push_back(Frame::Answer(watcher, answer));
        true
    }

    fn joined(&mut self, watcher: &Address, subscribe: &Subscribe) -> Result<Done, Error> {
        loop {
            let groups = &mut self.groups;
            let version = subscribe.version;
            match self.home.join_groups(self.now, self.link, groups, watcher, version) {
                Joined::Elsewhere => return Err(Error::new(Code::Busy, "ask again")),
                Joined::Due => drop(self.home.expire(self.now)),
                Joined::Stands { state, group, .. } => {
                    return Ok(Done {
                        state: Some(state),
                        lease: subscribe.lease,
                        group: group.map(|group| group.0),
                        version: group.map(|group| group.1),
                        ..Done::empty()
                    });
                }
            }
        }
    }

    /// The home says what there is to say.
    fn tell(&mut self, room: usize) -> bool {
        if !self.up {
            return false;
        }
        let told = loop {
            match self.home.pull_groups(self.now, self.link, &mut self.groups, room) {
                PulledGroups::Due => drop(self.home.expire(self.now)),
                PulledGroups::Told(told) | PulledGroups::More(told) => break told,
            }
        };
        let any = !told.is_empty();
        let frames = told.into_iter().map(|told| Frame::Notify(notify(&self.owner, told)));
        self.to_mirror.extend(frames);
        any
    }

    /// The mirror hears the next thing.
    fn hear(&mut self) -> bool {
        let effects = match self.to_mirror.pop_front() {
            None => return false,
            Some(Frame::Answer(watcher, answer)) => {
                self.mirror.answered(self.now, &watcher, answer, TERMS)
            }
            Some(Frame::Notify(notify)) => self.mirror.notified(self.now, &notify, TERMS, ROOM),
        };
        self.count(&effects);
        self.check();
        true
    }

    /// A session that has been woken looks.
    fn look_if_woken(&mut self, index: usize) {
        if self.woken.remove(&self.session(&watcher(index)).into()) {
            self.look(index);
        }
    }

    /// A request of a link that is no more is done only now.
    fn take_late(&mut self, index: usize) {
        self.home_follows(watcher(index), TERMS.lease, LinkId([99; 16]));
    }

    /// A client asks its server what is new.
    fn look(&mut self, index: usize) {
        let (watcher, session) = (watcher(index), self.session(&watcher(index)));
        let client = self.clients.get_mut(&watcher).unwrap();
        if !client.follows {
            return;
        }
        match self.mirror.pull(&watcher, session, client.held, client.state) {
            Pulled::Due => panic!("nothing is due here"),
            Pulled::Nothing => {}
            Pulled::Told(told) => {
                client.state = Some(told.state);
                match (told.content, told.state) {
                    (Some(content), _) => {
                        match content.base() {
                            None => client.document = Document::decode(content.bytes()).unwrap(),
                            Some(base) => {
                                assert_eq!(version_of(&client.document), base);
                                let patch = Patch::decode(content.bytes()).unwrap();
                                patch.apply(&mut client.document).unwrap();
                            }
                        }
                        assert_eq!(version_of(&client.document), content.version());
                        client.held = Held::Sent(content.version());
                    }
                    (None, SubscriptionState::Active | SubscriptionState::Stale) => {}
                    (None, _) => client.held = Held::Nothing,
                }
                client.follows = told.state != SubscriptionState::Terminated;
            }
        }
        self.check();
    }

    /// Nobody has what was in no view of its own.
    fn check(&self) {
        for (watcher, client) in &self.clients {
            let own = self.own.get(watcher);
            let is_own = |version: &Version| own.is_some_and(|own| own.contains(version));
            if let Some(version) = self.mirror.version_for(watcher) {
                assert!(is_own(&version), "{watcher} has a view that is not its own");
            }
            if let Held::Sent(version) = client.held {
                assert!(is_own(&version), "{watcher} was shown a view that is not its own");
            }
        }
    }

    /// All that is on its way arrives, and all that is due is done.
    fn flow(&mut self) {
        loop {
            let mut any = self.up && self.ask(8) > 0;
            any |= self.take();
            any |= self.answer(0);
            any |= self.tell(ROOM);
            while self.hear() {
                any = true;
            }
            if !any {
                return;
            }
        }
    }

    /// Time passes; whatever is due on the way is done.
    fn advance(&mut self, seconds: u64) {
        let until = self.now.after(Duration::from_secs(seconds));
        if seconds > 60 {
            // A link on which an answer takes longer is closed.
            self.flow();
        }
        loop {
            let mirror = self.mirror.next_deadline(self.now, TERMS);
            let next = mirror.into_iter().chain(self.home.next_deadline()).min();
            let Some(next) = next.filter(|next| *next < until) else { break };
            self.now = self.now.max(next);
            self.expire();
            self.flow();
        }
        self.now = until;
        self.expire();
    }

    fn expire(&mut self) {
        self.home.expire(self.now);
        let effects = self.mirror.expire(self.now, TERMS);
        self.count(&effects);
        self.check();
    }
}

#[expect(clippy::disallowed_methods, reason = "what a client holds is compared")]
fn version_of(document: &Document) -> Version {
    Version::of(&document.encode())
}

fn notify(owner: &Address, told: GroupTold) -> Notify {
    let mut notify = Notify::of(owner.clone(), What::Presence, told.state);
    (notify.group, notify.watchers) = (told.group, told.watchers);
    (notify.event, notify.set) = (told.event, told.set);
    notify.version = told.version;
    if let Some(content) = told.content {
        notify.base = content.base();
        match content.base() {
            Some(_) => notify.patch = Some(content.bytes()),
            None => notify.snapshot = Some(content.bytes()),
        }
    }
    notify
}
