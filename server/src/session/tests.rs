//! Sessions without a byte on a wire: commands in, answers and events out.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use impp_acl::{Ask, thing};
use impp_presence::{Amendment, Change, Contact};
use impp_protocol::command::{Done, Fetch, Message, Notify, Publish, Subscribe};
use impp_protocol::presence::{Document, FieldName, Patch};
use impp_protocol::sasl::resume::Binding;
use impp_protocol::state::{
    self, Grant, ItemKind, SubscriptionEvent, SubscriptionState, WatcherEdit,
};
use impp_protocol::{Address, Code, Command, DeviceId, Error, MessageId, Timestamp, What};
use impp_storage::MemoryStore;

use super::entry::enter;
use super::sign_in::Device;
use super::{Event, Front, Session};
use crate::core::accounts::tests::verifier;
use crate::core::answers::Answer;
use crate::core::clock::Clock;
use crate::core::config::Config;
use crate::core::records::Services;
use crate::life::{Server, Surroundings};

/// Whoever is told, with room for so many events.
struct Ears {
    heard: Vec<Event>,
    room: usize,
}

impl Front for Ears {
    fn has_room(&self) -> bool {
        self.heard.len() < self.room
    }

    fn tell(&mut self, event: Event) {
        self.heard.push(event);
    }
}

pub(super) async fn events(session: &mut Session, room: usize) -> Vec<Event> {
    let mut ears = Ears { heard: Vec::new(), room };
    assert_eq!(session.tell(&mut ears).await, None);
    ears.heard
}

pub(super) fn address(name: &str) -> Address {
    Address::parse(&format!("{name}@a.example")).unwrap()
}

pub(super) async fn start() -> Server {
    let text = "[[domain]]\nname = \"a.example\"\ncertificate = \"c\"\nkey = \"k\"\n";
    let config = Config::parse(text, Path::new("imppd.toml")).unwrap();
    let server = Server::load(config, Arc::new(MemoryStore::new().unwrap())).await.unwrap();
    populate(&server).await;
    server
}

/// The same with these lines of limits, by a clock that stands at one time and goes as the runtime's does.
pub(super) async fn start_by_clock(limits: &str) -> Server {
    let text = format!(
        "[limits]\n{limits}\n[[domain]]\nname = \"a.example\"\ncertificate = \"c\"\nkey = \"k\"\n"
    );
    let config = Config::parse(&text, Path::new("imppd.toml")).unwrap();
    let clock = Clock::started_at(Timestamp::from_millis(1_800_000_000_000));
    let surroundings = Surroundings { clock, ..Surroundings::real() };
    let store = Arc::new(MemoryStore::new().unwrap());
    let server = Server::load_in(surroundings, config, store).await.unwrap();
    populate(&server).await;
    server
}

/// Alice and bob have all services, carol has no messages.
async fn populate(server: &Server) {
    for (name, im) in [("alice", true), ("bob", true), ("carol", false)] {
        let verifier = verifier();
        let (services, now) = (Services { pres: true, im }, server.ground.clock.now());
        let (address, store) = (address(name), &*server.ground.store);
        let added = server.ground.accounts.add(store, now, &address, services, verifier, vec![]);
        added.await.unwrap();
    }
}

pub(super) async fn sign_in(server: &Server, name: &str) -> Session {
    sign_in_on(server, name, name.len() as u8).await
}

pub(super) async fn sign_in_on(server: &Server, name: &str, device: u8) -> Session {
    let account = server.ground.accounts.get(&address(name)).unwrap();
    let device = Device { id: DeviceId([device; 16]), name: None, binding: Binding::Exporter };
    enter(&server.entrance.serving, &server.ground.accounts, account, device, true).await.unwrap()
}

pub(super) async fn ask(session: &mut Session, command: impl Into<Command>) -> Command {
    match session.handle(command.into()).await {
        Answer::Now(command) => command,
        Answer::Later(later) => later.await,
    }
}

fn refused(answer: Command) -> Error {
    match answer {
        Command::Error(error) => error,
        other => panic!("{other:?}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "what a client publishes")]
fn note(text: &str) -> Publish {
    let mut document = Document::default();
    document.person.insert(FieldName::parse("note").unwrap(), text.into());
    let patch = Patch::between(&Document::default(), &document).encode();
    Publish { replace: true, ..Publish::of(address("alice"), What::Presence, Some(patch)) }
}

/// What is published, sent and stored comes to who follows it as events, as far as there is room; the
/// rest comes when there is.
#[tokio::test]
async fn a_session_tells_events_as_far_as_there_is_room() {
    let server = start().await;
    let (mut alice, mut bob) = (sign_in(&server, "alice").await, sign_in(&server, "bob").await);
    let rules = "[[rule]]\nid = \"b\"\nwho = [\"bob@a.example\"]\nhandling = \"allow\"\n\
                 fields = [\"all\"]\n\n[[delivery]]\nid = \"d\"\nwho = [\"authenticated\"]\n\
                 action = \"accept\"\n";
    let put = Publish::of(address("alice"), What::Rules, Some(rules.into()));
    let put = ask(&mut alice, Publish { base: Some(0), ..put }).await;
    assert!(matches!(put, Command::Ok(_)), "{put:?}");
    ask(&mut alice, note("here")).await;
    let follow = Subscribe::of(address("alice"), What::Presence);
    let Command::Ok(done) = ask(&mut bob, follow).await else { panic!("refused") };
    assert_eq!(done.state, Some(SubscriptionState::Active));
    let own = Subscribe::of(address("bob"), What::Log);
    ask(&mut bob, own).await;
    let id = MessageId::new(server.ground.clock.now(), [7; 10]);
    let message = Message::new(id, address("bob"), "hi".into());
    let sent = ask(&mut alice, message).await;
    assert!(matches!(sent, Command::Ok(_)), "{sent:?}");
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let now = events(&mut bob, 1).await;
        assert_eq!(now.len(), 1, "{heard:?}");
        heard.extend(now);
    }
    let [Event::State(notify), Event::Page { owner, page, knows_oldest: false }] = &heard[..]
    else {
        panic!("{heard:?}")
    };
    assert!(notify.address == address("alice") && notify.snapshot.is_some());
    assert_eq!(*owner, address("bob"));
    assert_eq!(page.items.iter().map(|i| i.kind).collect::<Vec<_>>(), [ItemKind::Received]);
    assert!(events(&mut bob, 10).await.is_empty());
}

/// Who has a long list looked at, as it does with each change of it, lets everybody else have a turn in
/// between, though nothing of it has to be waited for.
#[tokio::test]
async fn a_long_list_is_looked_at_in_turns() {
    const CONTACTS: usize = 200;
    let server = start().await;
    let mut alice = sign_in(&server, "alice").await;
    for n in 0..CONTACTS {
        let (name, groups, follow, grant) = (None, Vec::new(), true, Grant::Status);
        let entry = Contact { name, groups, follow, grant };
        let put = Change::Amend(Amendment::put(address(&format!("nobody{n}")), entry));
        server.rooms.principals.change(&address("alice"), put).await.unwrap();
    }
    let turns = Arc::new(AtomicUsize::new(0));
    let others = turns.clone();
    let others = tokio::spawn(async move {
        loop {
            others.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let list = Subscribe::of(address("alice"), What::Contacts);
    let followed = ask(&mut alice, Subscribe { expand: true, ..list }).await;
    assert!(matches!(followed, Command::Ok(_)), "{followed:?}");
    others.abort();
    // Once to read it, and once to follow.
    let turns = turns.load(Ordering::Relaxed);
    assert!(turns >= 2 * CONTACTS / 40, "{turns}");
}

/// The end of a subscription that was told on a connection that is lost, and may not have arrived, is
/// told again on the next one; once the client has answered what came after it, it is not.
#[tokio::test]
async fn r5_1_9_an_end_that_may_not_have_arrived_is_told_again() {
    let server = start().await;
    let (mut alice, mut bob) = (sign_in(&server, "alice").await, sign_in(&server, "bob").await);
    for answers in [0, 1, 2] {
        ask(&mut bob, Subscribe::of(address("alice"), What::Presence)).await;
        events(&mut bob, 10).await;
        let remove = state::encode(&WatcherEdit { remove: address("bob") });
        let ended = Publish::of(address("alice"), What::Watchers, Some(remove));
        let ended = ask(&mut alice, ended).await;
        assert!(matches!(ended, Command::Ok(_)), "{ended:?}");
        assert_eq!(ends(&events(&mut bob, 10).await), [SubscriptionEvent::Deactivated]);
        (0..answers).for_each(|_| bob.is_there());
        bob.resume().await.unwrap();
        let again = ends(&events(&mut bob, 10).await);
        assert_eq!(again.len(), usize::from(answers < 2));
        assert!(again.iter().all(|event| *event == SubscriptionEvent::Deactivated));
    }
}

/// With the reason of then, whatever the owner has done since; and though the first return was lost before
/// anything was told on it.
#[tokio::test]
async fn r5_1_9_an_end_is_told_again_with_its_reason() {
    let server = start().await;
    let (mut alice, mut bob) = (sign_in(&server, "alice").await, sign_in(&server, "bob").await);
    let rules = |handling: &str| {
        let text =
            format!("[[rule]]\nid = \"b\"\nwho = [\"bob@a.example\"]\nhandling = \"{handling}\"\n");
        Publish::of(address("alice"), What::Rules, Some(text.into()))
    };
    let mut base = Some(0);
    for removed in [false, true] {
        let put = ask(&mut alice, Publish { base, ..rules("allow") }).await;
        let Command::Ok(Done { number, .. }) = put else { panic!("{put:?}") };
        ask(&mut bob, Subscribe::of(address("alice"), What::Presence)).await;
        events(&mut bob, 10).await;
        let put = ask(&mut alice, Publish { base: number, ..rules("block") }).await;
        let Command::Ok(Done { number, .. }) = put else { panic!("{put:?}") };
        base = number;
        assert_eq!(ends(&events(&mut bob, 10).await), [SubscriptionEvent::Rejected]);
        if removed {
            let remove = state::encode(&WatcherEdit { remove: address("bob") });
            ask(&mut alice, Publish::of(address("alice"), What::Watchers, Some(remove))).await;
        }
        for _ in 0..2 {
            bob.resume().await.unwrap();
        }
        assert_eq!(ends(&events(&mut bob, 10).await), [SubscriptionEvent::Rejected], "{removed}");
    }
}

/// Why what is followed has ended, of these events.
fn ends(events: &[Event]) -> Vec<SubscriptionEvent> {
    let end = |event: &Event| match event {
        Event::State(Notify { state: SubscriptionState::Terminated, event, .. }) => *event,
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

/// Another's things are refused, whatever is asked of them, and those of a service that an account has
/// not are not offered.
#[tokio::test]
async fn nobody_is_permitted_anothers_things() {
    let server = start().await;
    let (mut bob, mut carol) = (sign_in(&server, "bob").await, sign_in(&server, "carol").await);
    let all = What::ALL.iter().map(|(what, ..)| *what);
    for what in all.filter(|what| *what != What::Presence) {
        let fetch = Fetch::of(address("alice"), what);
        // Of who watches somebody each sees itself.
        if what != What::Watchers {
            assert_eq!(refused(ask(&mut bob, fetch).await).code, Code::Refused, "{what}");
        }
        let follow = Subscribe::of(address("alice"), what);
        if thing(what).takes(Ask::Follow) && what != What::Contacts {
            assert_eq!(refused(ask(&mut bob, follow).await).code, Code::Refused, "{what}");
        }
        let publish = Publish::of(address("alice"), what, Some("x".into()));
        assert_eq!(refused(ask(&mut bob, publish).await).code, Code::Refused, "{what}");
    }
    assert_eq!(refused(ask(&mut bob, note("forged")).await).code, Code::Refused);
    for what in [What::Log, What::Fate] {
        let fetch = Fetch::of(address("carol"), what);
        assert_eq!(refused(ask(&mut carol, fetch).await).code, Code::NotOffered, "{what}");
    }
}

/// What the table says may be asked of a thing is served, and nothing else.
#[tokio::test]
async fn what_may_be_asked_of_a_thing_is_what_the_table_says() {
    let server = start().await;
    let mut alice = sign_in(&server, "alice").await;
    for what in What::EVERY.iter().copied() {
        let fetch = Fetch::of(address("alice"), what);
        let publish = Publish::of(address("alice"), what, Some("x".into()));
        let follow = Subscribe { expand: true, ..Subscribe::of(address("alice"), what) };
        for (what_is_asked, command) in [
            (Ask::Fetch, Command::from(fetch)),
            (Ask::Publish, publish.into()),
            (Ask::Follow, follow.into()),
        ] {
            let answer = ask(&mut alice, command).await;
            let served = !matches!(&answer, Command::Error(e) if e.code == Code::Unsupported);
            let takes = thing(what).takes(what_is_asked);
            assert_eq!(served, takes, "{what_is_asked:?} {what}: {answer:?}");
        }
    }
}

/// Who is named by nobody has no owner read from the store, whoever it asks about: how long that takes
/// and how it fails would tell who there is.
#[tokio::test]
async fn r2_3_4_nobody_is_read_for_a_stranger() {
    let server = start().await;
    let (mut bob, looked) = (sign_in(&server, "bob").await, || server.rooms.principals.steps());
    for owner in ["alice", "nobody"] {
        let before = looked();
        let publish = Publish { address: address(owner), ..note("here") };
        assert_eq!(refused(ask(&mut bob, publish).await).code, Code::Refused);
        assert_eq!(looked(), before, "{owner}");
    }
}

fn size<F: Future>(_: impl FnOnce(&'static mut Session, Command) -> F) -> usize {
    size_of::<F>()
}

/// What a message needs while it waits is all that a request has room for at once: what others need is
/// theirs alone.
#[test]
fn a_request_takes_the_room_of_a_message() {
    assert!(size(Session::handle) <= REQUEST_BYTES_MAX, "{}", size(Session::handle));
}

const REQUEST_BYTES_MAX: usize = 4096;
