//! Every setting that bounds something: a small value, one more than it, and the answer that the
//! documents state. A setting that is in no table here fails the first test.
//!
//! Those of other domains are in `settings_links`. Times are shown by what happens well before the
//! default would have let it, or not before the setting does.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use impp_protocol::command::{ByeReason, Message, Ping};
use impp_protocol::presence::Version;
use impp_protocol::state::{self, Contact, ContactEdit, Grant, Page};
use impp_protocol::{By, Code, Command, Request, What};
use impp_tests::peer::{fetch, message, subscribe};
use impp_tests::presence::{Watcher, open, person};
use impp_tests::server::{Start, imppd};
use impp_tests::wire::{Dial, bytes_of};
use impp_tests::{Peer, Server, Wire, eventually};

use crate::devices::{unused_for, visit};
use crate::{nameless, quotas, settings_links as links, shares, strangers};

/// Rules by which everybody sees all.
pub(crate) const OPEN_PRESENCE: &str =
    "[[rule]]\nid = \"all\"\nwho = [\"authenticated\"]\nhandling = \"allow\"\nfields = [\"all\"]\n";

/// A setting and the small value that is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Its name, `section.key`.
    pub name: &'static str,
    /// The value.
    pub value: i64,
}

impl Setting {
    /// Adds it to the settings of a server.
    pub(crate) fn on(self, start: Start) -> Start {
        start.set(self.name, self.value)
    }

    /// A server with this and no other setting.
    pub(crate) fn server(self) -> Server {
        self.on(Server::with()).start()
    }

    /// The value as seconds.
    pub(crate) fn seconds(self) -> Duration {
        Duration::from_secs(self.value.unsigned_abs())
    }
}

/// One test for each row, named after its setting; and the names of all rows.
macro_rules! bounds {
    ($($section:ident { $($key:ident = $value:literal => $check:path;)* })*) => {
        const BOUNDS: &[&str] =
            &[$($(concat!(stringify!($section), ".", stringify!($key)),)*)*];
        $(mod $section {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $key() {
                    let name = concat!(stringify!($section), ".", stringify!($key));
                    $check(Setting { name, value: $value }).await;
                }
            )*
        })*
    };
}

bounds! {
    limits {
        unsigned_max = 2 => one_unsigned_more;
        unsigned_per_address_max = 2 => one_unsigned_more;
        unsigned_per_network_max = 2 => strangers::one_more_of_a_network;
        handshakes_per_second = 2 => strangers::handshakes;
        failed_sign_in_wait_seconds = 2 => strangers::who_guesses;
        sign_in_seconds = 1 => who_does_not_sign_in;
        frame_seconds = 1 => half_a_frame;
        stall_seconds = 1 => who_reads_nothing;
        push_buffer_bytes = 4096 => what_is_prepared;
        requests_in_flight_max = 1 => what_waits_for_the_store;
        requests_per_second = 1 => requests_soon_after;
        requests_burst = 10 => requests_at_once;
        work_per_second = 1 => shares::work_soon_after;
        work_burst = 10 => shares::work_at_once;
        stored_bytes_per_second = 1 => shares::bytes_soon_after;
        stored_bytes_burst = 5000 => shares::bytes_at_once;
        devices_max = 2 => one_device_more;
        sessions_max = 2 => one_session_more;
        contacts_max = 1 => one_contact_more;
        subscriptions_max = 1 => one_followed_more;
        leases_max = 1 => shares::one_lease_more;
        known_ids_max = 3 => quotas::one_id_more;
        pending_max = 1 => one_waiting_more;
        anonymous_max = 2 => nameless::one_more;
        anonymous_per_address_max = 2 => nameless::one_more_of_an_address;
        anonymous_requests_per_second = 1 => nameless::requests_soon_after;
        anonymous_requests_burst = 10 => nameless::requests_at_once;
        anonymous_bytes_per_second = 1 => nameless::bytes_soon_after;
        anonymous_bytes_burst = 5000 => nameless::bytes_at_once;
    }
    times {
        idle_seconds = 1 => silence;
        resume_window_seconds = 1 => a_session_without_connection;
        grace_seconds = 1 => a_layer_without_connection;
        lease_min_seconds = 100 => the_least_lease;
        lease_max_seconds = 4000 => the_longest_lease;
        pace_burst = 8 => changes_at_once;
        pace_milliseconds = 4000 => changes_one_by_one;
        recovery_seconds = 1 => an_owner_who_does_not_return;
        device_lease_days = 8 => devices_of_long_ago;
        stop_retry_seconds = 100 => a_stop;
    }
    inbox {
        items_max = 2 => one_item_more;
        bytes_max = 1000 => one_byte_more;
        retention_days = 0 => what_was_acknowledged;
        kept_items_max = 16 => quotas::one_kept_more;
        kept_bytes_max = 65_536 => quotas::one_byte_kept_more;
    }
    federation {
        dial_seconds = 20 => links::who_does_not_answer_a_dial;
        retry_min_milliseconds = 86_400 => links::the_first_wait;
        retry_max_seconds = 1 => links::the_longest_wait;
        unproven_connects_per_minute = 2 => links::who_proves_nothing;
        queue_seconds = 1 => links::what_is_tried_too_long;
        queue_items_max = 1 => links::one_queued_more;
        queue_bytes_max = 1000 => links::one_queued_byte_more;
        requests_in_flight_max = 1 => links::what_waits_for_the_store;
        answer_seconds = 1 => links::no_answer;
        frames_per_second = 50 => links::frames;
        frames_burst = 10 => links::frames;
        messages_per_second = 1 => links::messages;
        messages_burst = 3 => links::messages;
        stored_bytes_per_second = 1 => links::bytes_stored;
        stored_bytes_burst = 5000 => links::bytes_stored;
        presence_bytes_per_second = 20_000 => links::bytes_shown;
        presence_bytes_burst = 20_000 => links::bytes_shown;
        new_addresses_per_second = 1 => links::new_addresses;
        new_addresses_burst = 4 => links::new_addresses;
        subscriptions_max = 1 => links::one_followed_more;
        presence_bytes_max = 300 => links::presence_too_large;
        domains_max = 1 => links::one_domain_more;
        lease_seconds = 100 => links::the_lease_asked_for;
        stale_seconds = 1 => links::a_lost_link;
        idle_seconds = 1 => links::silence;
        close_seconds = 1 => links::nothing_to_say;
    }
}

/// Settings that bound nothing, and why a play elsewhere, or none, is enough.
const NO_BOUNDS: &[(&str, &str)] = &[
    ("server.listen", "where, not how much"),
    ("server.proxies", "whom to believe: b9_a_proxy in strangers"),
    ("server.store", "where, not how much"),
    ("server.control", "where, not how much"),
    ("server.http", "where, not how much"),
    ("domain.name", "who, not how much"),
    ("domain.certificate", "a file"),
    ("domain.key", "a file"),
    ("domain.web", "who, not how much"),
    ("domain.web_certificate", "a file"),
    ("domain.web_key", "a file"),
    ("domain.redirect", "where, not how much"),
    ("domain.redirect_users", "who, not how many"),
    ("domain.policy", "a file: d8_ in domain_policy"),
    ("domain.anonymous", "whether: nameless"),
    ("domain.scram_iterations", "the work of clients: c1_c2_the_salt_of_a_name in sign_in"),
    ("tls.client_ca", "a file"),
    ("federation.enabled", "whether"),
    ("federation.services", "which"),
    ("federation.order", "in which order"),
    ("federation.dns", "where, not how much"),
    ("federation.allow_addresses", "where, not how much"),
    ("federation.ca", "a file"),
    ("federation.crl", "a file"),
    ("federation.tell_unknown", "whether"),
    ("route.domain", "who, not how much"),
    ("route.targets", "where, not how much"),
    ("log.level", "which"),
    ("log.json", "whether"),
];

/// The names of all settings in the default document, also of those that are commented out.
fn settings(document: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut names = BTreeSet::new();
    for line in document.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            names.insert(format!("{section}.{key}"));
        }
    }
    names
}

/// Each setting that there is stands in one of the two tables, and nothing else does.
#[test]
fn every_setting_is_tried_or_is_no_bound() {
    let output = imppd(&["config", "default"]);
    let document = String::from_utf8(output.stdout).unwrap();
    let no_bounds = NO_BOUNDS.iter().map(|(name, _)| *name);
    let told: Vec<&str> = BOUNDS.iter().copied().chain(no_bounds).collect();
    let known: BTreeSet<String> = told.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(known.len(), told.len(), "a setting stands twice");
    assert_eq!(settings(&document), known);
}

/// The defaults that operators read are those in force.
#[test]
fn the_defaults_are_those_of_the_file_that_is_delivered() {
    let output = imppd(&["config", "default"]);
    let delivered = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/imppd.toml");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        std::fs::read_to_string(delivered).unwrap()
    );
}

/// What has to happen long before the default would let it.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    // The least default of the settings that are shown so is 10 s.
    const SOON: Duration = Duration::from_secs(8);
    let happened = tokio::time::timeout(SOON, future).await;
    happened.unwrap_or_else(|_| panic!("{what} does not come within {SOON:?}"))
}

/// A message with so many bytes.
pub(crate) fn large(to: &str, bytes: usize) -> Message {
    message(to, &"x".repeat(bytes))
}

async fn one_unsigned_more(setting: Setting) {
    let server = setting.server();
    let mut wires = Vec::new();
    for _ in 0..setting.value {
        wires.push(Wire::greeted(&server).await);
    }
    assert!(Dial::to(&server).connect().await.is_err(), "one more");
    wires.pop();
    let again = async || Dial::to(&server).connect().await.ok();
    eventually("a place", again).await;
}

async fn who_does_not_sign_in(setting: Setting) {
    let server = setting.server();
    let (mut wire, _) = Wire::greeted(&server).await;
    let ending = soon("the end", wire.ending()).await;
    assert_eq!(ending.bye.unwrap().reason, ByeReason::Timeout);
}

async fn half_a_frame(setting: Setting) {
    let server = setting.server();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.wire().write(&bytes_of(9, message("bob@localhost", "half"))[..20]).await;
    let ending = soon("the end", alice.ending()).await;
    assert_eq!(ending.bye.unwrap().reason, ByeReason::Timeout);
}

async fn who_reads_nothing(setting: Setting) {
    let server = setting.server();
    let mut bob = Peer::sign_in(&server, "bob").await;
    for _ in 0..30 {
        bob.done(large("alice@localhost", 50_000)).await;
    }
    let wire = Dial::to(&server).receive_buffer(4096).connect().await.unwrap();
    let mut alice = Peer::over(wire, &server.profile("alice"), 1).await.unwrap();
    alice.ask(subscribe("alice@localhost", What::Log)).await;
    let cut = async || (server.metrics().get("impp_connections") == 1.0).then_some(());
    eventually("the connection that stalls to be cut", cut).await;
    bob.done(Ping::empty()).await;
}

async fn what_is_prepared(setting: Setting) {
    let small = ahead_of_news(setting.value).await;
    let usual = ahead_of_news(256 * 1024).await;
    let more = usual - small;
    assert!((128 * 1024..512 * 1024).contains(&more), "{more} bytes more than {small}");
}

/// The bytes that are prepared for one who does not read, before there is no more room.
async fn ahead_of_news(push_buffer_bytes: i64) -> usize {
    let server = Server::with()
        .set("limits.push_buffer_bytes", push_buffer_bytes)
        .no_rates()
        .set("limits.requests_burst", 1_000_000)
        .set("limits.stall_seconds", 3600)
        .start();
    let mut bob = Peer::sign_in(&server, "bob").await;
    for _ in 0..30 {
        bob.done(large("alice@localhost", 50_000)).await;
    }
    let wire = Dial::to(&server).receive_buffer(4096).connect().await.unwrap();
    let mut alice = Peer::over(wire, &server.profile("alice"), 1).await.unwrap();
    alice.ask(subscribe("alice@localhost", What::Log)).await;
    // Nothing more gets out for as long as a hundred looks.
    let (mut last, mut same) = (0, 0);
    eventually("the server to stop writing", async || {
        let unsent = unsent(&server);
        same = if unsent > 0 && unsent == last { same + 1 } else { 0 };
        last = unsent;
        (same == 100).then_some(())
    })
    .await;
    let news = Message { volatile: true, ..message("alice@localhost", "news") };
    bob.done(news).await;
    let mut ahead = 0;
    loop {
        let frame = alice.wire().frame().await.expect("a frame");
        ahead += frame.fields.len();
        let request = Request::decode(frame).unwrap();
        if matches!(request, Request { command: Command::Message(_), .. }) {
            return ahead;
        }
    }
}

/// The bytes that the system has of the server and nobody has taken.
fn unsent(server: &Server) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!("0100007F:{:04X}", server.address().port());
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let own = *fields.get(1)? == local;
        own.then(|| u64::from_str_radix(fields[4].split_once(':')?.0, 16).ok()).flatten()
    };
    table.lines().filter_map(of_line).sum()
}

async fn what_waits_for_the_store(setting: Setting) {
    const MESSAGES: usize = 40;
    let server = setting.server();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let before = server.metrics().get("impp_store_syncs_total");
    let flight = (0..MESSAGES).map(|_| message("bob@localhost", "one by one").into());
    for number in alice.flight(flight).await {
        alice.answer(number).await.unwrap();
    }
    let syncs = server.metrics().get("impp_store_syncs_total") - before;
    assert!(syncs >= MESSAGES as f64, "{syncs} syncs: more than one waited");
}

/// More requests than may be, for longer than a second: what comes back in it is counted too.
async fn too_many_requests(server: &Server) {
    let start = Instant::now();
    let mut alice = Peer::sign_in(server, "alice").await;
    let mut done = 0;
    while start.elapsed() < Duration::from_millis(1500) {
        for number in alice.flight((0..40).map(|_| Ping::empty().into())).await {
            match alice.answer(number).await {
                Ok(_) => done += 1,
                Err(error) => assert_eq!(error.code, Code::RateLimited),
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let at_most = 10 + start.elapsed().as_secs() + 1;
    assert!(done <= at_most, "{done} requests done, {at_most} may be");
}

async fn requests_soon_after(setting: Setting) {
    too_many_requests(&setting.on(Server::with()).set("limits.requests_burst", 10).start()).await;
}

async fn requests_at_once(setting: Setting) {
    let start = setting.on(Server::with());
    too_many_requests(&start.set("limits.requests_per_second", 1).start()).await;
}

async fn one_device_more(setting: Setting) {
    let server = setting.server();
    for device in 1..=2 {
        Peer::sign_in_on(&server, "alice", device).await.leave().await;
    }
    let third = Peer::over(Wire::dial(&server).await, &server.profile("alice"), 3).await;
    assert_eq!(third.unwrap_err().code, Code::Full);
    Peer::sign_in_on(&server, "alice", 2).await;
}

async fn one_session_more(setting: Setting) {
    let server = setting.server();
    let _sessions = [Peer::sign_in(&server, "alice").await, Peer::sign_in(&server, "alice").await];
    let third = Peer::over(Wire::dial(&server).await, &server.profile("alice"), 1).await;
    assert_eq!(third.unwrap_err().code, Code::Full);
}

async fn one_contact_more(setting: Setting) {
    let server = setting.on(Server::with().accounts(["alice", "bob"])).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut set = async |address: &str| {
        let address = address.parse().unwrap();
        let (name, groups, grant) = (None, vec!["a".to_owned()], Grant::Status.into());
        let contact = Contact { address, name, groups, follow: false, grant, subscription: None };
        let edit = ContactEdit::set(contact);
        let content = Some(state::encode(&edit));
        let publish = impp_tests::peer::publish("alice@localhost", What::Contacts, content);
        alice.request(publish).await.map_err(|error| error.code)
    };
    assert_eq!(set("dave@localhost").await.unwrap_err(), Code::Full);
    set("bob@localhost").await.unwrap();
}

async fn one_followed_more(setting: Setting) {
    let server = setting.server();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.follow("bob@localhost").await;
    assert_eq!(alice.refused(subscribe("carol@localhost", What::Presence)).await, Code::Full);
    alice.follow("bob@localhost").await;
}

async fn one_waiting_more(setting: Setting) {
    let server = setting.on(Server::with().accounts(["alice"])).start();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let confirm = "[[rule]]\nid = \"all\"\nwho = [\"authenticated\"]\nhandling = \"confirm\"\n\
                [[delivery]]\nid = \"all\"\nwho = [\"authenticated\"]\naction = \"hold\"\n";
    alice.set_rules(confirm).await;
    for name in ["dave", "erin"] {
        server.add(name);
    }
    let mut dave = Peer::sign_in(&server, "dave").await;
    let mut erin = Peer::sign_in(&server, "erin").await;
    dave.follow("alice@localhost").await;
    dave.send("alice@localhost", "may I?").await;
    let too_many: [Command; 2] = [
        subscribe("alice@localhost", What::Presence).into(),
        message("alice@localhost", "and I?").into(),
    ];
    for command in too_many {
        let error = erin.request(command).await.unwrap_err();
        assert_eq!((error.code, error.by), (Code::Full, By::Recipient));
    }
}

async fn silence(setting: Setting) {
    let server = setting.server();
    let alice = Peer::sign_in(&server, "alice").await;
    let ending = soon("the end", alice.ending()).await;
    assert_eq!(ending.bye.unwrap().reason, ByeReason::Timeout);
    assert!(matches!(ending.others[..], [Request { command: Command::Ping(_), .. }]));
}

async fn a_session_without_connection(setting: Setting) {
    let server = setting.server();
    let alice = Peer::sign_in(&server, "alice").await;
    let held = alice.held();
    alice.cut();
    let gone = async || (server.metrics().get("impp_sessions") == 0.0).then_some(());
    eventually("the end of the session", gone).await;
    let refused = Peer::resume(Wire::dial(&server).await, &held).await.unwrap_err();
    assert_eq!(refused.code, Code::Expired);
}

/// Alice, who shows everybody all, and bob, who sees it.
async fn shown(server: &Server) -> (Peer, Watcher) {
    let mut alice = Peer::sign_in(server, "alice").await;
    alice.set_rules(OPEN_PRESENCE).await;
    alice.show(&open("0")).await;
    let bob = Watcher::sign_in(server, "bob", "alice@localhost").await;
    assert_eq!(person(bob.held.document(), "note"), Some("0"));
    (alice, bob)
}

async fn a_layer_without_connection(setting: Setting) {
    let server = setting.server();
    let (alice, mut bob) = shown(&server).await;
    alice.cut();
    let closed = bob.until(|held| person(held.document(), "note").is_none());
    soon("the end of the layer", closed).await;
    assert_eq!(server.metrics().get("impp_sessions"), 2.0, "the session stays");
}

async fn the_least_lease(setting: Setting) {
    let server = setting.server();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let short = setting.value.unsigned_abs() - 1;
    let refused = [
        alice.show_for(&open("0"), short).await.unwrap_err(),
        alice.follow_for("bob@localhost", short).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!((error.code, error.minimum), (Code::TooShort, Some(setting.seconds())));
    }
    alice.show_for(&open("0"), short + 1).await.unwrap();
}

async fn the_longest_lease(setting: Setting) {
    let server = setting.server();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let (wish, longest) = (50_000, Some(setting.seconds()));
    assert_eq!(alice.show_for(&open("0"), wish).await.unwrap().lease, longest);
    assert_eq!(alice.follow_for("bob@localhost", wish).await.unwrap().lease, longest);
}

async fn changes_at_once(setting: Setting) {
    let server = setting.on(Server::with()).set("times.pace_milliseconds", 86_400_000).start();
    let (mut alice, mut bob) = shown(&server).await;
    for n in 1..setting.value {
        alice.show(&open(&n.to_string())).await;
    }
    let last = (setting.value - 1).to_string();
    bob.until_note(&last).await;
    alice.show(&open("one more")).await;
    bob.settle().await;
    assert_eq!(person(bob.held.document(), "note"), Some(&*last));
}

async fn changes_one_by_one(setting: Setting) {
    let server = setting.on(Server::with()).set("times.pace_burst", 1).start();
    let start = Instant::now();
    let (mut alice, mut bob) = shown(&server).await;
    alice.show(&open("1")).await;
    bob.until_note("1").await;
    let took = start.elapsed().as_millis() as i64;
    assert!(took > setting.value - 100, "{took} ms");
}

async fn an_owner_who_does_not_return(setting: Setting) {
    let mut server = setting.server();
    let (_alice, bob) = shown(&server).await;
    let held: Version = bob.held.version();
    server.kill9();
    server.restart();
    let mut bob = Peer::sign_in(&server, "bob").await;
    let again = subscribe("alice@localhost", What::Presence);
    bob.done(impp_protocol::command::Subscribe { version: Some(held), ..again }).await;
    let told = soon("that alice is closed", bob.notify()).await;
    assert_ne!(told.version, Some(held));
}

/// Devices whose lease has ended make room beyond the four that may in a day.
async fn devices_of_long_ago(setting: Setting) {
    let mut server = setting.on(Server::with()).set("limits.devices_max", 5).start();
    for device in 1..=5 {
        visit(&server, device).await.unwrap();
    }
    assert_eq!(visit(&server, 6).await.unwrap_err().code, Code::Full);
    server.stop();
    unused_for(&server, None, 9);
    server.restart();
    for device in 11..=15 {
        visit(&server, device).await.unwrap();
    }
    assert_eq!(visit(&server, 16).await.unwrap_err().code, Code::Full);
}

async fn a_stop(setting: Setting) {
    let mut server = setting.server();
    let alice = Peer::sign_in(&server, "alice").await;
    server.stop();
    let bye = alice.ending().await.bye.unwrap();
    let wait = bye.retry_after.unwrap();
    assert!((setting.seconds()..=setting.seconds() * 2).contains(&wait), "{bye:?}");
}

async fn one_item_more(setting: Setting) {
    let server = setting.server();
    let mut alice = Peer::sign_in(&server, "alice").await;
    for _ in 0..setting.value {
        alice.send("bob@localhost", "fits").await;
    }
    assert_eq!(alice.refused(message("bob@localhost", "one more")).await, Code::Full);
    alice.send("carol@localhost", "fits").await;
}

async fn one_byte_more(setting: Setting) {
    let server = setting.server();
    let mut alice = Peer::sign_in(&server, "alice").await;
    alice.done(large("bob@localhost", 500)).await;
    assert_eq!(alice.refused(large("bob@localhost", 500)).await, Code::Full);
    alice.done(large("bob@localhost", 100)).await;
    // What alone is larger is refused too, not let in because the inbox is empty.
    assert_eq!(alice.refused(large("carol@localhost", 1000)).await, Code::Full);
}

async fn what_was_acknowledged(setting: Setting) {
    let server = setting.server();
    let mut alice = Peer::sign_in(&server, "alice").await;
    let mut bob = Peer::sign_in(&server, "bob").await;
    alice.send("bob@localhost", "1").await;
    assert_eq!(bob.inbox().await.len(), 1);
    bob.ack_all().await;
    let page = bob.done(fetch("bob@localhost", What::Log)).await.content.unwrap();
    let page: Page = state::decode(page).unwrap();
    assert_eq!(page.items, []);
}
