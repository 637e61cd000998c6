//! A presentity with any number of watchers, and what is asked of it: how the cost of a change goes
//! with how many watch is looked at here; what keeps nothing and costs always the same, in `parts` and
//! `compiled`.
//!
//! Counting is left to `.ci/bench`, which runs `main.rs` under callgrind; timing, by hand, to
//! `benches/`. Between two of the same operation all is put back, so that each finds as many watchers
//! as the first.
//!
//! What programs that put load on whole servers have in common stands in modules: connections
//! (`line`), frames of the bare relay (`relayed`), what processes have used (`usage`), whether what came of it is
//! worth anything (`judged`).

pub mod compiled;
pub mod judged;
pub mod line;
pub mod parts;
pub mod relayed;
pub mod usage;

use std::time::Duration;

use impp_acl::RuleSet;
use impp_presence::{
    Amendment, Bond, Change, Contact, Keeper, Layers, Lease, PaceLimit, Policy, Presentity,
};
use impp_protocol::hashing::HashMap;
use impp_protocol::presence::{Document, FieldName, PartId, Patch};
use impp_protocol::state::Grant;
use impp_protocol::{Address, DeviceId, SessionId, Timestamp};

/// So many of the watchers see what [`Operation::Publish`] changes, however many there are.
pub const FRIENDS: usize = 50;

/// The device by which all lease their subscriptions.
const DEVICE: DeviceId = DeviceId([1; 16]);
/// The owner's devices: one says the person's note, the other a tuple with a status.
const PHONE: DeviceId = DeviceId([2; 16]);
const LAPTOP: DeviceId = DeviceId([3; 16]);

/// What is asked of the presentity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Somebody new asks to follow, under a lease.
    Subscribe,
    /// A watcher renews the lease.
    Refresh,
    /// A watcher gives the lease back.
    Unsubscribe,
    /// Time has passed, and nothing is due.
    Expire,
    /// The owner changes one field that [`FRIENDS`] watchers see.
    Publish,
    /// The owner changes one field that all see.
    PublishToAll,
    /// The owner grants a watcher something by its contact list.
    PutContact,
    /// The owner has other rules, by which all see what they saw.
    PutRules,
    /// The owner has other rules, by which all see something else.
    PutOtherRules,
    /// The same, up to where others may have their turn: the rules, and the first slice of watchers.
    FirstSlice,
    /// The next slice after that.
    NextSlice,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 11] = [
        Operation::Subscribe,
        Operation::Refresh,
        Operation::Unsubscribe,
        Operation::Expire,
        Operation::Publish,
        Operation::PublishToAll,
        Operation::PutContact,
        Operation::PutRules,
        Operation::PutOtherRules,
        Operation::FirstSlice,
        Operation::NextSlice,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Subscribe => "subscribe",
            Operation::Refresh => "refresh",
            Operation::Unsubscribe => "unsubscribe",
            Operation::Expire => "expire",
            Operation::Publish => "publish",
            Operation::PublishToAll => "publish-to-all",
            Operation::PutContact => "put-contact",
            Operation::PutRules => "put-rules",
            Operation::PutOtherRules => "put-other-rules",
            Operation::FirstSlice => "first-slice",
            Operation::NextSlice => "next-slice",
        }
    }

    /// The operation of a name.
    pub fn parse(name: &str) -> Option<Operation> {
        Operation::ALL.into_iter().find(|operation| operation.name() == name)
    }
}

/// An operation, made ready to be counted.
#[derive(Clone, Debug)]
pub enum Step {
    /// Somebody changes something.
    Make(Change),
    /// The same, and others have their turn before all is done that follows from it.
    Begin(Change),
    /// Time passes.
    Wait,
    /// The next part is done of what was begun.
    GoOn,
}

/// Alice, of whom friends see all and everybody else the status.
#[derive(Debug)]
pub struct World {
    alice: Presentity,
    watchers: usize,
    now: Timestamp,
    /// How often something was asked; no two ask the same.
    turn: usize,
}

impl World {
    /// Alice with so many watchers, who have leases and sessions of their own; `None` if what stands
    /// here is no rule or no address.
    pub fn new(watchers: usize) -> Option<World> {
        let now = Timestamp::from_millis(1_000_000_000_000);
        let pace = PaceLimit { burst: u64::MAX, interval: Duration::from_secs(1) };
        let owner = Address::parse("alice@a.example").ok()?;
        let (text, rules) = rules("")?;
        let policy = Policy::new(rules, text, 0);
        let (layers, nobody) = (Layers::default(), HashMap::default());
        let alice = Presentity::restored(owner, policy, layers, nobody, now, pace, None).0;
        let mut world = World { alice, watchers, now, turn: 0 };
        for index in 0..watchers {
            let follow = world.follow(index)?;
            world.alice.make(now, follow);
        }
        for device in [PHONE, LAPTOP] {
            let publish = world.publish(device)?;
            world.alice.make(now, publish);
        }
        Some(world)
    }

    /// What one operation asks.
    pub fn prepare(&mut self, operation: Operation) -> Option<Step> {
        self.turn += 1;
        self.now = self.now.after(Duration::from_millis(1));
        let change = match operation {
            Operation::Subscribe => self.follow(self.watchers),
            Operation::Refresh => self.follow(self.any()),
            Operation::Unsubscribe => self.release(self.any()),
            Operation::Expire => return Some(Step::Wait),
            Operation::Publish => self.publish(PHONE),
            Operation::PublishToAll => self.publish(LAPTOP),
            Operation::PutContact => {
                let grant = if self.turn.is_multiple_of(2) { Grant::Status } else { Grant::All };
                let (name, groups) = (Some(format!("name {}", self.turn)), vec![]);
                let contact = Contact { name, groups, follow: false, grant };
                Some(Change::Amend(Amendment::put(watcher(FRIENDS)?, contact)))
            }
            Operation::PutRules => self.put_rules(&format!("\n# {}", self.turn)),
            Operation::FirstSlice => return self.put_other_rules().map(Step::Begin),
            Operation::NextSlice => {
                let put = self.put_other_rules()?;
                self.alice.make(self.now, put);
                return Some(Step::GoOn);
            }
            Operation::PutOtherRules => self.put_other_rules(),
        };
        change.map(Step::Make)
    }

    fn put_other_rules(&self) -> Option<Change> {
        let fields = if self.turn.is_multiple_of(2) { "mood" } else { "activities" };
        self.put_rules(&format!(
            "\n[[rule]]\nid = \"more\"\nwho = [\"anyone\"]\nhandling = \"allow\"\nfields = [\"{fields}\"]\n"
        ))
    }

    /// Makes it, stored and shown: this is what is counted. How many have to look then.
    #[inline(never)]
    pub fn counted(&mut self, step: Step) -> usize {
        let effects = match step {
            Step::Begin(change) => return self.alice.make(self.now, change).1.wake.len(),
            Step::GoOn => return self.alice.expire(self.now).wake.len(),
            Step::Make(change) => self.alice.make(self.now, change).1,
            Step::Wait => self.alice.expire(self.now),
        };
        effects.wake.len() + self.catch_up()
    }

    /// About very many watchers it is decided in slices: does what is left. How many have to look.
    fn catch_up(&mut self) -> usize {
        let mut woken = 0;
        while self.alice.next_deadline().is_some_and(|at| at <= self.now) {
            woken += self.alice.expire(self.now).wake.len();
        }
        woken
    }

    /// Puts back what would add up.
    pub fn settle(&mut self, operation: Operation) -> Option<()> {
        let back = match operation {
            Operation::Subscribe => self.release(self.watchers)?,
            Operation::Unsubscribe => self.follow(self.any())?,
            Operation::FirstSlice | Operation::NextSlice => {
                self.catch_up();
                return Some(());
            }
            _ => return Some(()),
        };
        self.alice.make(self.now, back);
        Some(())
    }

    /// One after the other, in an order that is not theirs.
    fn any(&self) -> usize {
        self.turn * 7919 % self.watchers
    }

    fn follow(&self, index: usize) -> Option<Change> {
        let until = self.now.after(Duration::from_secs(3600));
        let (bond, listener) = (Bond::Lease(DEVICE, until), Some(session(index).into()));
        Some(Change::Follow { watcher: watcher(index)?, bond, listener, pending_max: 100 })
    }

    fn release(&self, index: usize) -> Option<Change> {
        let (keepers, listener) = (vec![Keeper::Device(DEVICE)], Some(session(index).into()));
        Some(Change::Release { watcher: watcher(index)?, keepers, listener })
    }

    /// One field changes, of a document that has a few.
    fn publish(&self, device: DeviceId) -> Option<Change> {
        let mut document = Document::default();
        let note = format!("turn {}", self.turn);
        if device == PHONE {
            document.person.insert(FieldName::parse("note")?, note.as_str().into());
            for name in ["mood", "activities", "place-type"] {
                document.person.insert(FieldName::parse(name)?, "quiet".into());
            }
        } else {
            let status = if self.turn.is_multiple_of(2) { "open" } else { "closed" };
            let fields = [("status", status), ("contact", "alice@a.example")];
            let named = fields.map(|(name, value)| Some((FieldName::parse(name)?, value.into())));
            let fields = named.into_iter().collect::<Option<_>>()?;
            document.tuples.insert(PartId::parse("laptop")?, fields);
        }
        let patch = Patch::between(&Document::default(), &document);
        let lease = Lease::Until(self.now.after(Duration::from_secs(3600)));
        Some(Change::Publish { device, patch, replace: false, lease })
    }

    fn put_rules(&self, more: &str) -> Option<Change> {
        let (text, rules) = rules(more)?;
        let base = self.alice.policy().number;
        Some(Change::PutRules { rules: rules.into(), text: text.into(), base })
    }
}

/// Friends see all and everybody else the status.
fn rules(more: &str) -> Option<(String, RuleSet)> {
    let friends: Vec<String> = (0..FRIENDS).map(|index| format!("\"{}\"", name(index))).collect();
    let text = format!(
        "[groups]\nfriends = [{}]\n\
         [[rule]]\nid = \"friends\"\nwho = [\"group:friends\"]\nhandling = \"allow\"\n\
         fields = [\"all\"]\n\
         [[rule]]\nid = \"contacts\"\nwho = [\"contacts\"]\nhandling = \"allow\"\n\
         [[rule]]\nid = \"others\"\nwho = [\"domain:b.example\"]\nhandling = \"allow\"\n\
         fields = [\"status\"]\n{more}",
        friends.join(", ")
    );
    let rules = RuleSet::parse(&text).ok()?;
    Some((text, rules))
}

fn name(index: usize) -> String {
    format!("w{index}@b.example")
}

fn watcher(index: usize) -> Option<Address> {
    Address::parse(&name(index)).ok()
}

fn session(index: usize) -> SessionId {
    // As names made at random are: far apart.
    SessionId((index as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes())
}
