//! Two servers and what a link between them carries, without the link: presence from publication to
//! a client of the other domain.

mod alike;
mod deserted;
mod nobody;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use impp_presence::{Change, Groups, LinkId};
use impp_protocol::command::{Done, Fetch, Notify, Publish, Subscribe};
use impp_protocol::frame::{FRAME_BYTES_MAX, take};
use impp_protocol::presence::{Document, FieldName, PartId, Patch, Version};
use impp_protocol::sasl::resume::{Binding, Ticket};
use impp_protocol::state::{
    self, Contact, ContactEdit, Contacts, Grant, SubscriptionEdit, SubscriptionEvent,
    SubscriptionState, Subscriptions,
};
use impp_protocol::{Address, Code, Command, DeviceId, Domain, Error, Request, SessionId, What};
use impp_storage::{MemoryStore, Store};

use crate::core::accounts::tests::verifier;
use crate::core::answers::{Answer, Later};
use crate::core::config::Config;
use crate::core::records::Services;
use crate::core::sessions::Mailbox;
use crate::core::tickets::Issued;
use crate::life::Server;
use crate::link::home::{AllGroups, Home};
use crate::link::mailbox::LinkMailbox;
use crate::session::{Client, Event, Front, Session};

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

async fn start(name: &str, more: &str, store: Arc<dyn Store>) -> Server {
    // Nobody answers there; what is asked is carried here.
    let route =
        |domain| format!("[[route]]\ndomain = \"{domain}.example\"\ntargets = [\"127.0.0.1:1\"]\n");
    let routes: String = ["a", "b", "d"].map(route).concat();
    let text = format!(
        "[times]\npace_burst = 1000\n{more}\n{routes}[[domain]]\nname = \"{name}\"\n\
         certificate = \"c\"\nkey = \"k\"\n"
    );
    let mut config = Config::parse(&text, Path::new("imppd.toml")).unwrap();
    if more.contains("redirect") {
        config.domain[0].redirect = Some(domain("c.example"));
        config.domain[0].redirect_users = Some(["erin".to_owned()].into());
    }
    Server::load(config, store).await.unwrap()
}

async fn add(server: &Server, text: &str) {
    let verifier = verifier();
    let services = Services { pres: true, im: true };
    let (store, now) = (&*server.ground.store, server.ground.clock.now());
    server
        .ground
        .accounts
        .add(store, now, &address(text), services, verifier, vec![])
        .await
        .unwrap();
}

fn session(server: &Server, text: &str, number: u8) -> Session {
    let account = server.ground.accounts.get(&address(text)).unwrap();
    let id = SessionId([number; 16]);
    let ticket = Issued { ticket: Ticket::new(id, [0; 32]), binding: Binding::Exporter };
    let mailbox = Arc::new(Mailbox::new(id, address(text), DeviceId([number; 16]), ticket));
    assert!(server.rooms.live.sessions.enter(&mailbox, 10));
    Session::new(Client { mailbox, account, every_item: true }, server.entrance.serving.clone())
}

/// What a server says of its presentities to others.
fn home_of(server: &Server) -> Home {
    Home::new(&server.ground, server.rooms.routes.clone(), server.rooms.principals.clone())
}

/// Two servers, a.example and b.example; b's principals watch a's.
struct Pair {
    a: Server,
    b: Server,
    link: Arc<LinkMailbox>,
    groups: AllGroups,
    asked: usize,
}

impl Pair {
    async fn new(a: &str) -> Pair {
        Pair::with(a, Arc::new(MemoryStore::new().unwrap())).await
    }

    /// The same, where b has this store.
    async fn with(a: &str, b: Arc<dyn Store>) -> Pair {
        let a = start("a.example", a, Arc::new(MemoryStore::new().unwrap())).await;
        let b = start("b.example", "", b).await;
        add(&a, "alice@a.example").await;
        add(&b, "bob@b.example").await;
        add(&b, "carol@b.example").await;
        let mut pair = Pair { link: link(100), a, b, groups: AllGroups::default(), asked: 0 };
        pair.up(101).await;
        pair
    }

    async fn up(&mut self, number: u8) {
        self.down().await;
        self.link = link(number);
        self.a.links.insert(self.link.id, self.link.clone());
        self.a.ground.listeners.enter(self.link.id.into(), self.link.clone());
        self.b.mirrors.link_up(&domain("b.example"), &domain("a.example"), self.link.id);
    }

    async fn down(&mut self) {
        self.a.links.remove(&self.link.id);
        self.a.ground.listeners.leave(self.link.id.into());
        home_of(&self.a).link_lost(&self.link, std::mem::take(&mut self.groups)).await;
        let (local, remote) = (domain("b.example"), domain("a.example"));
        self.b.mirrors.link_down(&local, &remote, self.link.id);
    }

    /// Carries everything there is; the notifications.
    async fn carry(&mut self) -> Vec<Notify> {
        let (local, remote) = (domain("b.example"), domain("a.example"));
        let mut carried = Vec::new();
        loop {
            let requests = self.b.mirrors.next_requests(&local, &remote, self.link.id, 2);
            let mut any = !requests.is_empty();
            self.asked += requests.len();
            for (key, watcher, subscribe) in requests {
                let taken = home_of(&self.a).subscribe(&self.link, subscribe).await;
                let answer = home_of(&self.a).answer(&self.link, &mut self.groups, taken).await;
                let result = match over(answer) {
                    Command::Ok(done) => Ok(done),
                    Command::Error(error) => Err(error),
                    other => panic!("{other:?}"),
                };
                self.b.mirrors.answered(self.link.id, &key, &watcher, result);
            }
            let mut out = BytesMut::new();
            home_of(&self.a).tell(&self.link, &mut self.groups, &mut out, 1 << 20).await;
            while let Some(frame) = take(&mut out, FRAME_BYTES_MAX).unwrap() {
                let Command::Notify(notify) = Request::decode(frame).unwrap().command else {
                    panic!("something else is told");
                };
                self.b.mirrors.notified(self.link.id, &local, &notify);
                carried.push(notify);
                any = true;
            }
            if !any {
                let told = self.groups.values().map(Groups::len).sum::<usize>();
                assert_eq!(told, self.link.watchers());
                return carried;
            }
        }
    }

    async fn allow(&self, fields: &str) {
        self.set_rule(&format!("handling = \"allow\"\nfields = [\"{fields}\"]")).await;
    }

    /// What alice's rules say of all.
    async fn set_rule(&self, rule: &str) {
        let text = format!("[[rule]]\nid = \"all\"\nwho = [\"authenticated\"]\n{rule}\n");
        let alice = address("alice@a.example");
        let base =
            self.a.rooms.principals.look(&alice, |alice, _| alice.presentity.policy().number);
        let (base, rules) = (base.await.unwrap(), impp_acl::RuleSet::parse(&text).unwrap().into());
        let put = Change::PutRules { rules, text: text.into(), base };
        self.a.rooms.principals.change(&alice, put).await.unwrap();
    }
}

fn link(number: u8) -> Arc<LinkMailbox> {
    let id = LinkId([number; 16]);
    Arc::new(LinkMailbox::new(id, domain("a.example"), domain("b.example")))
}

/// What arrives of a command.
fn over(command: Command) -> Command {
    let mut out = BytesMut::new();
    Request { number: 1, command }.put(&mut out).unwrap();
    Request::decode(take(&mut out, FRAME_BYTES_MAX).unwrap().unwrap()).unwrap().command
}

#[expect(clippy::disallowed_methods, reason = "what a client publishes")]
async fn publish(alice: &mut Session, note: &str) {
    let mut document = Document::default();
    let open = [(FieldName::parse("status").unwrap(), "open".into())];
    document.tuples.insert(PartId::parse("im").unwrap(), open.into_iter().collect());
    document.person.insert(FieldName::parse("note").unwrap(), note.into());
    let patch = Patch::between(&Document::default(), &document).encode();
    let publish = Publish {
        replace: true,
        ..Publish::of(address("alice@a.example"), What::Presence, Some(patch))
    };
    done(alice.handle(publish.into()).await);
}

fn done(answer: Answer) -> Done {
    match answer {
        Answer::Now(Command::Ok(done)) => done,
        Answer::Now(other) => panic!("{other:?}"),
        Answer::Later(_) => panic!("it comes later"),
    }
}

fn later(answer: Answer) -> Later {
    match answer {
        Answer::Later(later) => later,
        Answer::Now(other) => panic!("it comes at once: {other:?}"),
    }
}

async fn ok(later: Later) -> Done {
    match later.await {
        Command::Ok(done) => done,
        other => panic!("{other:?}"),
    }
}

/// Follows alice; the answer comes when the link has carried the question.
async fn follow(pair: &mut Pair, session: &mut Session) -> Done {
    let ask = Subscribe::of(address("alice@a.example"), What::Presence);
    let answer = later(session.handle(ask.into()).await);
    pair.carry().await;
    ok(answer).await
}

/// What the client is told.
async fn told(session: &mut Session) -> Vec<Notify> {
    let mut ears = Ears(Vec::new());
    session.tell(&mut ears).await;
    ears.0
}

/// What a session tells of presentities.
struct Ears(Vec<Notify>);

impl Front for Ears {
    fn has_room(&self) -> bool {
        true
    }

    fn tell(&mut self, event: Event) {
        if let Event::State(notify) = event {
            self.0.push(notify);
        }
    }
}

fn note(notify: &Notify) -> Option<String> {
    let document = Document::decode(notify.snapshot.clone()?).unwrap();
    document.person.get("note").map(|note| note.to_string())
}

#[tokio::test]
async fn r3_3_1_a_second_watcher_of_a_domain_is_served_from_what_the_first_one_got() {
    let mut pair = Pair::new("").await;
    let mut alice = session(&pair.a, "alice@a.example", 1);
    let mut bob = session(&pair.b, "bob@b.example", 2);
    let mut carol = session(&pair.b, "carol@b.example", 3);
    pair.allow("all").await;
    publish(&mut alice, "one").await;
    let answer = follow(&mut pair, &mut bob).await;
    assert_eq!(answer.state, Some(SubscriptionState::Active));
    let first = told(&mut bob).await;
    assert_eq!((first.len(), note(&first[0]).as_deref()), (1, Some("one")));
    // The second one is asked for by name, and nothing of the document comes again.
    let ask = Subscribe::of(address("alice@a.example"), What::Presence);
    let answer = later(carol.handle(ask.into()).await);
    assert!(told(&mut carol).await.is_empty(), "told before the answer");
    assert!(pair.carry().await.is_empty());
    assert_eq!(ok(answer).await.version, first[0].version);
    assert_eq!(note(&told(&mut carol).await[0]).as_deref(), Some("one"));
    // One change, one notification, nobody named.
    publish(&mut alice, "two").await;
    let carried = pair.carry().await;
    assert_eq!((carried.len(), carried[0].watchers.len()), (1, 0));
    for session in [&mut bob, &mut carol] {
        let news = told(session).await;
        assert_eq!((news.len(), news[0].version), (1, carried[0].version));
    }
    // A third session of theirs asks nobody.
    let asked = pair.asked;
    let mut other = session(&pair.b, "bob@b.example", 4);
    let ask = Subscribe {
        version: carried[0].version,
        ..Subscribe::of(address("alice@a.example"), What::Presence)
    };
    let answer = done(other.handle(ask.into()).await);
    assert_eq!(answer.version, carried[0].version);
    assert!(told(&mut other).await.is_empty());
    let fetch = Fetch::of(address("alice@a.example"), What::Presence);
    let fetched = done(other.handle(fetch.into()).await);
    assert_eq!(Version::of(&fetched.content.unwrap()), carried[0].version.unwrap());
    assert_eq!(pair.asked, asked);
    assert_eq!(
        (pair.b.ground.metrics.unsolicited.get(), pair.b.ground.metrics.repairs.get()),
        (0, 0)
    );
}

#[tokio::test]
async fn r3_3_3_a_rule_of_the_home_reaches_the_watching_side() {
    let mut pair = Pair::new("").await;
    let mut alice = session(&pair.a, "alice@a.example", 1);
    let mut bob = session(&pair.b, "bob@b.example", 2);
    publish(&mut alice, "secret").await;
    let answer = follow(&mut pair, &mut bob).await;
    assert_eq!((answer.state, answer.version), (Some(SubscriptionState::Pending), None));
    assert!(told(&mut bob).await.is_empty());
    pair.allow("status").await;
    pair.carry().await;
    let news = told(&mut bob).await;
    assert_eq!((news[0].state, note(&news[0])), (SubscriptionState::Active, None));
    assert_eq!(news[0].event, Some(SubscriptionEvent::Approved));
    let alice = address("alice@a.example");
    let end = Change::End(address("bob@b.example"), SubscriptionEvent::Deactivated);
    pair.a.rooms.principals.change(&alice, end).await.unwrap();
    pair.carry().await;
    let news = told(&mut bob).await;
    assert_eq!(news[0].state, SubscriptionState::Terminated);
    assert_eq!(news[0].event, Some(SubscriptionEvent::Deactivated));
}

#[tokio::test]
async fn r5_1_6_only_for_watchers_of_its_own_domain_a_server_may_ask() {
    let pair = Pair::new("").await;
    let mut groups = AllGroups::default();
    for (watcher, presentity) in [
        (Some("mallory@c.example"), "alice@a.example"),
        (Some("alice@a.example"), "alice@a.example"),
        (Some("bob@sub.b.example"), "alice@a.example"),
        (Some("bob@b.example"), "dora@d.example"),
        (None, "alice@a.example"),
    ] {
        let ask = Subscribe {
            watcher: watcher.map(address),
            lease: Some(Duration::from_secs(60)),
            ..Subscribe::of(address(presentity), What::Presence)
        };
        let fetch = Fetch {
            watcher: ask.watcher.clone(),
            ..Fetch::of(address(presentity), What::Presence)
        };
        let taken = home_of(&pair.a).subscribe(&pair.link, ask).await;
        let answer = home_of(&pair.a).answer(&pair.link, &mut groups, taken).await;
        let Command::Error(error) = answer else { panic!("{answer:?}") };
        assert_eq!(error.code, Code::Refused);
        let fetched = home_of(&pair.a).fetch(&pair.link, fetch).await;
        assert_eq!(fetched.unwrap_err().code, Code::Refused);
        assert!(groups.is_empty());
    }
}

#[tokio::test]
async fn f14_who_does_not_exist_cannot_be_told_from_who_never_comes() {
    let ask = |text: &str| Subscribe {
        watcher: Some(address("bob@b.example")),
        lease: Some(Duration::from_secs(60)),
        ..Subscribe::of(address(text), What::Presence)
    };
    let answer = async |pair: &Pair, text: &str| {
        let mut groups = AllGroups::default();
        let taken = home_of(&pair.a).subscribe(&pair.link, ask(text)).await;
        home_of(&pair.a).answer(&pair.link, &mut groups, taken).await
    };
    let pair = Pair::new("").await;
    let known = answer(&pair, "alice@a.example").await;
    assert_eq!(known, answer(&pair, "nobody@a.example").await);
    let fetch = |text: &str| Fetch {
        watcher: Some(address("bob@b.example")),
        ..Fetch::of(address(text), What::Presence)
    };
    assert_eq!(
        home_of(&pair.a).fetch(&pair.link, fetch("alice@a.example")).await,
        home_of(&pair.a).fetch(&pair.link, fetch("nobody@a.example")).await
    );
    let pair = Pair::new("[federation]\ntell_unknown = true").await;
    let Command::Error(error) = answer(&pair, "nobody@a.example").await else { panic!() };
    assert_eq!(error.code, Code::NotFound);
    let pair = Pair::new("# redirect").await;
    let Command::Error(error) = answer(&pair, "erin@a.example").await else { panic!() };
    assert_eq!((error.code, error.address), (Code::Moved, Some(address("erin@c.example"))));
    // Of who is not named nothing is told.
    let known = answer(&pair, "alice@a.example").await;
    assert_eq!(answer(&pair, "nobody@a.example").await, known);
}

#[tokio::test]
async fn contacts_of_other_domains_are_followed_and_remembered() {
    let mut pair = Pair::new("").await;
    let mut alice = session(&pair.a, "alice@a.example", 1);
    let mut bob = session(&pair.b, "bob@b.example", 2);
    pair.allow("all").await;
    publish(&mut alice, "one").await;
    let contact = Contact {
        address: address("alice@a.example"),
        name: None,
        groups: vec![],
        follow: true,
        grant: Grant::Status.into(),
        subscription: None,
    };
    let edit = state::encode(&ContactEdit::set(contact));
    let edit = Publish::of(address("bob@b.example"), What::Contacts, Some(edit));
    done(bob.handle(edit.into()).await);
    let expand =
        Subscribe { expand: true, ..Subscribe::of(address("bob@b.example"), What::Contacts) };
    let contacts = done(bob.handle(expand.into()).await).content.unwrap();
    let contacts: Contacts = state::decode(contacts).unwrap();
    assert_eq!(contacts.entries[0].subscription, Some(SubscriptionState::Unknown));
    pair.carry().await;
    let news = told(&mut bob).await;
    assert_eq!(note(&news[0]).as_deref(), Some("one"));
    // Another run of the server goes on where this one was.
    bob.end().await;
    pair.down().await;
    pair.b = start("b.example", "", pair.b.ground.store.clone()).await;
    let pairs = pair.b.mirrors.pairs();
    assert_eq!(pairs, [(domain("b.example"), domain("a.example"))]);
    assert!(pair.b.mirrors.wanted(&pairs[0].0, &pairs[0].1));
    pair.up(102).await;
    pair.carry().await;
    let mut bob = session(&pair.b, "bob@b.example", 5);
    let list = Fetch::of(address("bob@b.example"), What::Subscriptions);
    let listed = done(bob.handle(list.clone().into()).await).content.unwrap();
    let listed: Subscriptions = state::decode(listed).unwrap();
    assert_eq!(listed.entries[0].state, SubscriptionState::Active);
    // And it can be cancelled from anywhere; the home hears it.
    let cancel = state::encode(&SubscriptionEdit { cancel: address("alice@a.example") });
    let cancel = Publish::of(address("bob@b.example"), What::Subscriptions, Some(cancel));
    done(bob.handle(cancel.into()).await);
    pair.carry().await;
    let alice = address("alice@a.example");
    let watched = pair.a.rooms.principals.look(&alice, |principal, _| {
        let watching = principal.presentity.watcher(&address("bob@b.example"));
        watching.map(|watching| watching.state)
    });
    assert_eq!(watched.await.unwrap(), Some(SubscriptionState::Terminated));
    let listed = done(bob.handle(list.into()).await).content.unwrap();
    assert!(state::decode::<Subscriptions>(listed).unwrap().entries.is_empty());
    assert!(!pair.b.mirrors.wanted(&pairs[0].0, &pairs[0].1));
}

#[tokio::test]
async fn nobody_waits_for_a_domain_that_does_not_answer_but_who_asked() {
    let mut pair = Pair::new("").await;
    pair.down().await;
    let mut bob = session(&pair.b, "bob@b.example", 2);
    let ask = Subscribe::of(address("alice@a.example"), What::Presence);
    let answer = later(bob.handle(ask.clone().into()).await);
    // The connection ends before the home has answered.
    bob.hurry();
    assert_eq!(ok(answer).await.state, Some(SubscriptionState::Unknown));
    assert!(told(&mut bob).await.is_empty());
    // What comes later comes by NOTIFY.
    pair.allow("all").await;
    pair.up(102).await;
    pair.carry().await;
    assert_eq!(told(&mut bob).await[0].state, SubscriptionState::Active);
    // A refusal is the answer.
    let mut carol = session(&pair.b, "carol@b.example", 3);
    pair.set_rule("handling = \"block\"").await;
    let answer = later(carol.handle(ask.into()).await);
    pair.carry().await;
    let Command::Error(error) = answer.await else { panic!("refused") };
    assert_eq!(error.code, Code::Refused);
    assert!(told(&mut carol).await.is_empty());
    let news = told(&mut bob).await;
    assert_eq!(news[0].event, Some(SubscriptionEvent::Rejected));
    // And so is that there is no such domain.
    let nowhere = Subscribe::of(address("dora@d.example"), What::Presence);
    let answer = later(carol.handle(nowhere.into()).await);
    let error = Error::new(Code::UnknownDomain, "no such domain");
    pair.b.mirrors.unreachable(&domain("b.example"), &domain("d.example"), &error);
    let Command::Error(error) = answer.await else { panic!("unknown") };
    assert_eq!(error.code, Code::UnknownDomain);
}

fn ask_for(watcher: &str, lease: u64) -> Subscribe {
    Subscribe {
        watcher: Some(address(watcher)),
        lease: Some(Duration::from_secs(lease)),
        ..Subscribe::of(address("alice@a.example"), What::Presence)
    }
}

#[tokio::test]
async fn a_link_that_goes_before_it_has_answered_leaves_nothing() {
    let pair = Pair::new("").await;
    pair.allow("all").await;
    for index in 0..5 {
        let link = link(200 + index);
        let ask = ask_for(&format!("w{index}@b.example"), 1);
        // The link's task ends while the request waits for the store.
        drop(home_of(&pair.a).subscribe(&link, ask).await);
        home_of(&pair.a).link_lost(&link, AllGroups::default()).await;
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let alice = address("alice@a.example");
    pair.a.rooms.principals.expire(&alice).await.unwrap();
    let left = pair.a.rooms.principals.look(&alice, |principal, _| {
        let all = principal.presentity.watchers();
        all.filter(|(_, watching)| !watching.listeners().is_empty()).count()
    });
    assert_eq!(left.await.unwrap(), 0, "they are never trimmed");
}

#[tokio::test]
async fn the_watchers_of_a_domain_are_bounded_over_links() {
    let mut pair = Pair::new("[federation]\nsubscriptions_max = 2\n").await;
    pair.allow("all").await;
    let mut taken_in = 0;
    for round in 0..3 {
        for index in 0..2 {
            let ask = ask_for(&format!("w{round}-{index}@b.example"), 86_400);
            let taken = home_of(&pair.a).subscribe(&pair.link, ask).await;
            let answer = home_of(&pair.a).answer(&pair.link, &mut pair.groups, taken).await;
            taken_in += usize::from(matches!(answer, Command::Ok(_)));
        }
        pair.up(110 + round).await;
    }
    assert!(taken_in <= 2, "{taken_in} watchers");
}
