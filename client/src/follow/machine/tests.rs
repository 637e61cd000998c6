//! Tests of the machine that follows presence.

use bytes::BytesMut;
use impp_protocol::command::HeldVersion;
use impp_protocol::frame::{self, FRAME_BYTES_MAX};
use impp_protocol::presence::Version;
use impp_protocol::state::{self, Contact, Contacts, Item, ItemKind, Page, SubscriptionEvent};
use impp_protocol::{Request, Timestamp};

use super::super::held::samples::{document, notify, patch, snapshot};
use super::*;

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn machine(wanted: Wanted) -> Machine {
    let mut machine = Machine::new(address("alice@a.example"), wanted);
    machine.handle_connected();
    machine
}

fn bob() -> Wanted {
    Wanted { presence: vec![address("bob@a.example")], ..Wanted::default() }
}

/// The requests that wait, with those tokens.
fn requests(machine: &mut Machine) -> Vec<(Command, u64)> {
    std::iter::from_fn(|| machine.poll_request()).collect()
}

fn subscribe_of(requests: &[(Command, u64)]) -> (&Subscribe, u64) {
    match requests {
        [(Command::Subscribe(subscribe), token)] => (subscribe, *token),
        other => panic!("{other:?}"),
    }
}

fn events(machine: &mut Machine) -> Vec<String> {
    let short = |event| match event {
        Event::Subscribed { presentity, state } => {
            format!("subscribed {presentity} {}", state.map_or("-", |s| s.as_str()))
        }
        Event::Notify { state, change, content, reason, .. } => {
            let kind = change.map_or("-", |change| change.kind.as_str());
            let note =
                content.map(|(_, document)| document.person.get("note").unwrap().to_string());
            let reason = reason.map_or("-", |reason| reason.as_str());
            format!("{state} {kind} {} {reason}", note.unwrap_or_default())
        }
        Event::Ended { cause, .. } => format!("ended {}", cause.as_str()),
        Event::PutOff { presentity, error, wait } => {
            format!("put off {presentity} {} {}", error.code, wait.as_secs())
        }
        other => format!("{other:?}"),
    };
    std::iter::from_fn(|| machine.poll_event()).map(short).collect()
}

fn answer(machine: &mut Machine, token: u64, answer: Result<Done, Error>) {
    machine.handle(Instant::now(), Incoming::Answer { token, answer }).unwrap();
}

fn take(machine: &mut Machine, notify: Notify) {
    machine.handle(Instant::now(), Incoming::Notify(notify)).unwrap();
}

fn state(state: SubscriptionState) -> Result<Done, Error> {
    Ok(Done { state: Some(state), ..Done::empty() })
}

#[test]
fn subscribed_comes_first_then_snapshot_then_patch() {
    let mut machine = machine(bob());
    let asked = requests(&mut machine);
    let (subscribe, token) = subscribe_of(&asked);
    assert_eq!((subscribe.lease, subscribe.version), (None, None));
    answer(&mut machine, token, state(SubscriptionState::Active));
    take(&mut machine, snapshot(&document("here")));
    take(&mut machine, patch(&document("here"), &document("gone")));
    assert_eq!(
        events(&mut machine),
        ["subscribed bob@a.example active", "active snapshot here -", "active patch gone -"]
    );
}

#[test]
fn what_is_stale_is_still_held_and_what_is_unknown_is_not() {
    let mut machine = machine(bob());
    let (stale, unknown) = (SubscriptionState::Stale, SubscriptionState::Unknown);
    let told = |state| Notify::of(address("bob@a.example"), What::Presence, state);
    take(&mut machine, snapshot(&document("here")));
    take(&mut machine, told(stale));
    take(&mut machine, told(SubscriptionState::Active));
    take(&mut machine, patch(&document("here"), &document("gone")));
    take(&mut machine, told(stale));
    assert_eq!(
        events(&mut machine)[1..],
        [
            "active snapshot here -",
            "stale - here -",
            "active - here -",
            "active patch gone -",
            "stale - gone -"
        ]
    );
    // A new connection names what is held, and all is well again.
    requests(&mut machine);
    machine.handle_connected();
    let asked = requests(&mut machine);
    let (subscribe, token) = subscribe_of(&asked);
    assert_eq!(subscribe.version, Some(Version::of(&document("gone").encode())));
    answer(&mut machine, token, state(SubscriptionState::Active));
    take(&mut machine, told(unknown));
    assert_eq!(events(&mut machine), ["active - gone -", "unknown -  -"]);
    machine.handle_connected();
    let asked = requests(&mut machine);
    assert_eq!(subscribe_of(&asked).0.version, None);
}

#[test]
fn a_new_connection_asks_from_what_is_held_and_tells_nothing_twice() {
    let mut machine = machine(bob());
    take(&mut machine, snapshot(&document("here")));
    events(&mut machine);
    machine.handle_connected();
    let asked = requests(&mut machine);
    let (subscribe, token) = subscribe_of(&asked);
    assert_eq!(subscribe.version, Some(Version::of(&document("here").encode())));
    answer(&mut machine, token, state(SubscriptionState::Active));
    take(&mut machine, snapshot(&document("here")));
    assert!(events(&mut machine).is_empty());
}

#[test]
fn a_patch_that_does_not_fit_asks_for_a_snapshot_once() {
    let mut machine = machine(bob());
    take(&mut machine, snapshot(&document("here")));
    requests(&mut machine);
    events(&mut machine);
    take(&mut machine, patch(&document("x"), &document("y")));
    take(&mut machine, patch(&document("y"), &document("z")));
    let asked = requests(&mut machine);
    assert_eq!(subscribe_of(&asked).0.version, None);
    assert!(events(&mut machine).is_empty());
    take(&mut machine, snapshot(&document("z")));
    assert_eq!(events(&mut machine), ["active snapshot z -"]);
}

#[test]
fn pending_then_approved_then_rejected() {
    let mut machine = machine(bob());
    let token = subscribe_of(&requests(&mut machine)).1;
    answer(&mut machine, token, state(SubscriptionState::Pending));
    let event = Some(SubscriptionEvent::Approved);
    take(&mut machine, Notify { event, ..snapshot(&document("here")) });
    let event = Some(SubscriptionEvent::Rejected);
    take(&mut machine, Notify { event, ..notify(SubscriptionState::Terminated) });
    assert_eq!(
        events(&mut machine),
        ["subscribed bob@a.example pending", "active snapshot here approved", "ended rejected"]
    );
    assert!(!machine.is_following());
}

#[test]
fn a_passing_trouble_is_waited_out_a_refusal_ends() {
    let mut machine = machine(bob());
    let token = subscribe_of(&requests(&mut machine)).1;
    let after = Duration::from_secs(2);
    answer(&mut machine, token, Err(Error::new(Code::RateLimited, "slow").retry_after(after)));
    assert!(!machine.has_request());
    let due = machine.poll_timeout().unwrap();
    machine.handle_timeout(due);
    assert_eq!(machine.poll_timeout(), None);
    let token = subscribe_of(&requests(&mut machine)).1;
    answer(&mut machine, token, Err(Error::new(Code::Refused, "no")));
    assert_eq!(events(&mut machine), ["put off bob@a.example rate-limited 2", "ended refused"]);
}

#[test]
fn what_is_held_of_contacts_is_said_on_a_new_connection() {
    let mut machine = machine(Wanted { contacts: true, ..Wanted::default() });
    let asked = requests(&mut machine);
    assert_eq!(subscribe_of(&asked).0.versions, vec![]);
    take(&mut machine, snapshot(&document("here")));
    let version = machine.people[&address("bob@a.example")].held.version().unwrap();
    machine.handle_connected();
    assert!(machine.says_versions());
    let asked = requests(&mut machine);
    let held = HeldVersion { address: address("bob@a.example"), version };
    assert_eq!(subscribe_of(&asked).0.versions, vec![held]);
}

#[test]
fn contacts_are_expanded_and_compared_on_a_new_connection() {
    let contact = |name: &str, follow| Contact {
        address: address(name),
        name: None,
        groups: Vec::new(),
        follow,
        grant: state::Grant::Status.into(),
        subscription: follow.then_some(SubscriptionState::Active),
    };
    let contacts = |entries: Vec<Contact>| {
        let content = Some(state::encode(&Contacts { entries }));
        Ok(Done { content, ..Done::empty() })
    };
    let mut machine = machine(Wanted { contacts: true, ..Wanted::default() });
    let asked = requests(&mut machine);
    let (subscribe, token) = subscribe_of(&asked);
    assert!(subscribe.expand && subscribe.what == What::Contacts);
    let both = vec![contact("bob@a.example", true), contact("dan@a.example", false)];
    answer(&mut machine, token, contacts(both));
    take(&mut machine, snapshot(&document("here")));
    assert_eq!(events(&mut machine), ["subscribed bob@a.example active", "active snapshot here -"]);
    machine.handle_connected();
    let token = subscribe_of(&requests(&mut machine)).1;
    answer(&mut machine, token, contacts(vec![contact("eve@a.example", true)]));
    assert_eq!(events(&mut machine), ["ended terminated", "subscribed eve@a.example active"]);
}

#[test]
fn a_contact_who_is_unknown_on_a_new_connection_is_not_shown_as_before() {
    for now in [Some(SubscriptionState::Unknown), Some(SubscriptionState::Pending), None] {
        let contacts = |subscription| {
            let entry = Contact {
                address: address("bob@a.example"),
                name: None,
                groups: vec![],
                follow: true,
                grant: state::Grant::None.into(),
                subscription,
            };
            let content = Some(state::encode(&Contacts { entries: vec![entry] }));
            Ok(Done { content, ..Done::empty() })
        };
        let mut machine = machine(Wanted { contacts: true, ..Wanted::default() });
        let token = subscribe_of(&requests(&mut machine)).1;
        answer(&mut machine, token, contacts(Some(SubscriptionState::Active)));
        take(&mut machine, snapshot(&document("here")));
        events(&mut machine);
        machine.handle_connected();
        let token = subscribe_of(&requests(&mut machine)).1;
        answer(&mut machine, token, contacts(now));
        assert_ne!(events(&mut machine), [""; 0], "bob is shown as here, and is {now:?}");
    }
}

#[test]
fn the_log_goes_on_behind_the_last_page_and_acks_are_repeated() {
    let mut machine = machine(Wanted { log: true, ..Wanted::default() });
    let (log, oldest) = (Bytes::from_static(b"c1"), Bytes::new());
    let page = Page { items: Vec::new(), cursor: log.clone(), more: false, oldest };
    let snapshot = Some(state::encode(&page));
    take(&mut machine, Notify { what: What::Log, snapshot, ..notify(SubscriptionState::Active) });
    assert!(matches!(machine.poll_event(), Some(Event::Page(_))));
    machine.ack(log.clone());
    machine.handle_connected();
    let asked = requests(&mut machine);
    let [(Command::Subscribe(subscribe), _), (Command::Ack(ack), token)] = &asked[..] else {
        panic!("{asked:?}");
    };
    assert_eq!((subscribe.cursor.as_ref(), &ack.cursor), (Some(&log), &log));
    answer(&mut machine, *token, Ok(Done::empty()));
    assert!(!machine.is_acking());
    assert!(matches!(machine.poll_event(), Some(Event::Acked(_))));
}

/// A page of the log with this cursor.
fn page_with(cursor: &'static [u8]) -> Notify {
    let (cursor, oldest) = (Bytes::from_static(cursor), Bytes::new());
    let page = Page { items: Vec::new(), cursor, more: false, oldest };
    let snapshot = Some(state::encode(&page));
    Notify { what: What::Log, snapshot, ..notify(SubscriptionState::Active) }
}

/// G15: a log whose server has forgotten a cursor of its own is read from the oldest item on, and what
/// was acknowledged in it is no matter any more.
#[test]
fn g15_a_log_that_was_put_back_is_read_anew() {
    let mut machine = machine(Wanted { log: true, ..Wanted::default() });
    take(&mut machine, page_with(b"c1"));
    machine.ack(Bytes::from_static(b"c1"));
    machine.poll_event();
    machine.handle_connected();
    let asked = requests(&mut machine);
    let bad = || Err(impp_protocol::Error::new(Code::BadCursor, "none of this log"));
    answer(&mut machine, asked[0].1, bad());
    answer(&mut machine, asked[1].1, bad());
    assert!(matches!(machine.poll_event(), Some(Event::Anew)) && !machine.is_acking());
    let again = requests(&mut machine);
    let [(Command::Subscribe(subscribe), _)] = &again[..] else { panic!("{again:?}") };
    assert_eq!((subscribe.what, subscribe.cursor.as_ref()), (What::Log, None));
}

/// A cursor that the caller has named, and the server has never known, is the caller's mistake.
#[test]
fn a_cursor_that_was_never_good_is_an_error() {
    let cursor = Some(Bytes::from_static(b"made up"));
    let mut machine = machine(Wanted { log: true, cursor, ..Wanted::default() });
    machine.handle_connected();
    let token = requests(&mut machine)[0].1;
    let error = impp_protocol::Error::new(Code::BadCursor, "none of this log");
    let incoming = Incoming::Answer { token, answer: Err(error) };
    assert!(machine.handle(Instant::now(), incoming).is_err());
}

/// Who joins at the end misses nothing of what comes then, also if the connection goes before any of it
/// has; and as long as no server has said where the end is, it is the end when there is a connection.
#[test]
fn who_joins_at_the_end_goes_on_from_there() {
    let mut machine = machine(Wanted { log: true, at_end: true, ..Wanted::default() });
    for _ in 0..2 {
        machine.handle_connected();
        let asked = requests(&mut machine);
        let (subscribe, _) = subscribe_of(&asked);
        assert_eq!((subscribe.at_end, subscribe.cursor.clone()), (true, None));
    }
    machine.handle_connected();
    let asked = requests(&mut machine);
    let cursor = Some(Bytes::from_static(b"end"));
    let done = Done { cursor: cursor.clone(), ..Done::empty() };
    answer(&mut machine, subscribe_of(&asked).1, Ok(done));
    machine.handle_connected();
    let asked = requests(&mut machine);
    let (subscribe, _) = subscribe_of(&asked);
    assert_eq!((subscribe.at_end, subscribe.cursor.clone()), (false, cursor));
}

/// The log as a server tells it from a cursor on: each message is a page of its own.
fn log_from(cursor: usize) -> BytesMut {
    let mut bytes = BytesMut::new();
    for at in cursor..MESSAGES {
        let cursor = Bytes::from((at + 1).to_string());
        let message = Some(Bytes::from(format!("message {at}")));
        let item = Item::of(ItemKind::Received, cursor.clone(), Timestamp::default());
        let items = vec![Item { message, ..item }];
        let page = Page { items, cursor, more: at + 1 < MESSAGES, oldest: Bytes::new() };
        let snapshot = Some(state::encode(&page));
        let notify = Notify { what: What::Log, snapshot, ..notify(SubscriptionState::Active) };
        Request { number: 0, command: notify.into() }.put(&mut bytes).unwrap();
    }
    bytes
}

/// What the machine tells of these bytes; what is less than a frame at their end is lost.
fn hear(machine: &mut Machine, mut bytes: BytesMut, told: &mut Vec<Bytes>) {
    while let Some(frame) = frame::take(&mut bytes, FRAME_BYTES_MAX).unwrap() {
        let Command::Notify(notify) = Request::decode(frame).unwrap().command else {
            panic!("another frame");
        };
        take(machine, notify);
        while let Some(Event::Page(page)) = machine.poll_event() {
            told.extend(page.items.into_iter().filter_map(|item| item.message));
        }
    }
}

const MESSAGES: usize = 100;

/// E4: a stream of a hundred messages is cut at each of its octets, and goes on from the cursor held: no gap,
/// nothing twice, in order.
#[test]
fn e4_a_stream_that_is_cut_at_any_octet_goes_on_where_it_was() {
    let whole = log_from(0);
    let all: Vec<Bytes> = (0..MESSAGES).map(|at| format!("message {at}").into()).collect();
    // What follows hangs on where the machine goes on, which is at as many places as there are messages.
    let rest: Vec<BytesMut> = (0..=MESSAGES).map(log_from).collect();
    for cut in 0..=whole.len() {
        let mut machine = machine(Wanted { log: true, ..Wanted::default() });
        let mut told = Vec::new();
        assert_eq!(subscribe_of(&requests(&mut machine)).0.cursor, None);
        hear(&mut machine, BytesMut::from(&whole[..cut]), &mut told);
        machine.handle_connected();
        let asked = requests(&mut machine);
        let cursor = subscribe_of(&asked).0.cursor.as_deref();
        let cursor = cursor.map_or("0", |cursor| std::str::from_utf8(cursor).unwrap());
        hear(&mut machine, rest[cursor.parse::<usize>().unwrap()].clone(), &mut told);
        assert_eq!(told, all, "cut at octet {cut}");
    }
}
