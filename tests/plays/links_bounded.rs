//! What one account, or whoever writes a domain's records, can have this server do to others: how
//! many domains' places it takes, and how many connections somebody else gets.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use impp_protocol::command::{ByeReason, Fetch, Message, Subscribe};
use impp_protocol::state::{Contact, ContactEdit, Fate, Grant, encode};
use impp_protocol::{Code, Command, What};
use impp_tests::impp::Impp;
use impp_tests::peer::{fetch, message, publish, subscribe};
use impp_tests::presence::open;
use impp_tests::server::Start;
use impp_tests::{BadPeer, Domains, Peer, eventually};
use tokio::net::TcpListener;

use crate::settings::OPEN_PRESENCE;

/// Somebody who has nothing to do with this: takes every connection, on whatever loopback address,
/// says nothing and closes it.
struct ThirdParty {
    port: u16,
    called: Arc<Mutex<Vec<SocketAddr>>>,
}

impl ThirdParty {
    async fn start() -> ThirdParty {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let called: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let calls = called.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                calls.lock().unwrap().push(stream.local_addr().unwrap());
            }
        });
        ThirdParty { port, called }
    }

    fn called(&self) -> Vec<SocketAddr> {
        self.called.lock().unwrap().clone()
    }

    /// Has DNS say that it is the server of a domain, at this address.
    fn is_server_of(&self, domains: &Domains, domain: &str, address: Ipv4Addr) {
        let host = format!("host.{domain}");
        for service in ["pres", "im"] {
            domains.dns.srv(domain, service, 0, 0, self.port, &host);
        }
        domains.dns.address_of(&host, IpAddr::V4(address));
    }
}

/// Who writes very many servers with very many addresses each into DNS has us call sixteen of them,
/// two of each server.
#[tokio::test(flavor = "multi_thread")]
async fn f5_one_search_connects_to_sixteen_addresses_at_most() {
    const SERVERS: u8 = 8;
    const ADDRESSES: u8 = 6;
    let domains = Domains::with(&["a.example"], |_, start| {
        // One search is looked at, not the next one.
        start
            .set("federation.order", "srv")
            .set("federation.retry_max_seconds", 3600)
            .set("federation.retry_min_milliseconds", 86_400)
    })
    .await;
    let third = ThirdParty::start().await;
    for server in 0..SERVERS {
        let host = format!("h{server}.wide.example");
        domains.dns.srv("wide.example", "pres", server.into(), 0, third.port, &host);
        for address in 1..=ADDRESSES {
            domains.dns.a(&host, Ipv4Addr::new(127, 0, 100 + server, address));
        }
    }
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let follows = alice.ask(subscribe("x@wide.example", What::Presence)).await;
    // It is answered when the search is over.
    assert_eq!(alice.refused(fetch("y@wide.example", What::Presence)).await, Code::Unreachable);
    let called = third.called();
    assert_eq!(called.len(), 16, "{called:?}");
    for server in 0..SERVERS {
        let of = |address: &&SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip.octets()[2] == 100 + server,
            IpAddr::V6(_) => false,
        };
        assert_eq!(called.iter().filter(of).count(), 2, "{called:?}");
    }
    alice.answer(follows).await.expect("that it is followed");
}

/// Thirty domains that all name one third party have it called ten times, and whoever asks for the
/// others is told why nobody was called. Other addresses are called as before.
#[tokio::test(flavor = "multi_thread")]
async fn f5_many_domains_that_name_one_address_have_it_called_ten_times_a_minute() {
    const DOMAINS: usize = 30;
    const MOST: usize = 10;
    let domains = Domains::with(&["a.example"], |_, start| {
        start.set("federation.unproven_connects_per_minute", MOST as i64)
    })
    .await;
    let third = ThirdParty::start().await;
    let (victim, other) = (Ipv4Addr::new(127, 0, 120, 1), Ipv4Addr::new(127, 0, 120, 2));
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    for n in 0..DOMAINS {
        third.is_server_of(&domains, &format!("d{n}.example"), victim);
    }
    let fetches = (0..DOMAINS).map(|n| fetch(&format!("x@d{n}.example"), What::Presence).into());
    for number in alice.flight(fetches).await {
        let error = alice.answer(number).await.unwrap_err();
        assert_eq!(error.code, Code::Unreachable);
        // In the same words, whether anybody was called or not.
        let text = error.text.unwrap_or_default();
        assert!(text.ends_with("for pres was reached") && text.starts_with("no server"), "{text}");
    }
    assert_eq!(third.called(), [SocketAddr::from((victim, third.port)); MOST]);
    let limited = "10 connections there within a minute have proven no";
    domains["a.example"].until_logged(limited, DOMAINS - MOST).await;
    assert_eq!(domains["a.example"].logged(limited), DOMAINS - MOST);
    third.is_server_of(&domains, "other.example", other);
    assert_eq!(alice.refused(fetch("x@other.example", What::Presence)).await, Code::Unreachable);
    assert_eq!(third.called().len(), MOST + 1);
}

/// Who names another domain's server as its own does not keep that domain from being reached.
#[tokio::test(flavor = "multi_thread")]
async fn f5_a_proven_server_is_called_whoever_names_it_too() {
    const MOST: usize = 2;
    let domains = Domains::with(&["a.example"], |_, start| {
        start.set("federation.unproven_connects_per_minute", MOST as i64)
    })
    .await;
    let good = BadPeer::among(&domains, "good.example").await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut mallory = Peer::sign_in(&domains["a.example"], "bob").await;
    let id = alice.queue("x@good.example", "one").await;
    let mut link = good.accept().await;
    let (number, _) = link.message().await;
    link.take(number).await;
    alice.until_delivered(id).await;
    for n in 0..4 {
        let (domain, host) = (format!("d{n}.example"), format!("host.d{n}.example"));
        for service in ["pres", "im"] {
            domains.dns.srv(&domain, service, 0, 0, good.address.port(), &host);
        }
        domains.dns.address_of(&host, good.address.ip());
        let asked = mallory.request(fetch(&format!("x@{domain}"), What::Presence));
        // The server takes the call, and cannot prove that domain.
        let (answer, _) = tokio::join!(asked, async {
            if n < MOST {
                let _ = good.accept_tls().await;
            }
        });
        assert!(answer.is_err());
        let server = &domains["a.example"];
        server.until_logged("no link", n + 1).await;
        let limited = server.logged("have proven no");
        assert_eq!(limited, (n + 1).saturating_sub(MOST), "{n}");
    }
    drop(link);
    let id = alice.queue("x@good.example", "two").await;
    let mut link = good.accept().await;
    let (number, _) = link.message().await;
    link.take(number).await;
    alice.until_delivered(id).await;
}

/// A server that proves its domain is called as often as there is need.
#[tokio::test(flavor = "multi_thread")]
async fn f5_connections_that_prove_a_server_are_not_counted() {
    let domains = Domains::with(&["a.example"], |_, start| {
        start.set("federation.unproven_connects_per_minute", 1)
    })
    .await;
    let evil = BadPeer::among(&domains, "evil.example").await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let id = alice.queue("x@evil.example", "hello").await;
    for _ in 0..4 {
        drop(evil.accept().await);
    }
    let mut link = evil.accept().await;
    let (number, _) = link.message().await;
    link.take(number).await;
    assert_eq!(alice.fate(id).await.fate, Fate::Delivered);
}

fn unsubscribe(address: &str) -> Subscribe {
    Subscribe { lease: Some(Duration::ZERO), ..subscribe(address, What::Presence) }
}

/// A domain that nobody serves, and one of its users.
fn dead(domains: &Domains, n: usize) -> String {
    let host = "dead.example";
    for service in ["pres", "im"] {
        domains.dns.srv(&format!("d{n}.example"), service, 0, 0, 1, host);
    }
    domains.dns.address_of(host, IpAddr::V4(Ipv4Addr::LOCALHOST));
    format!("x@d{n}.example")
}

/// However many domains are dead, the log names some of them, and says of how many it does not.
#[tokio::test(flavor = "multi_thread")]
async fn b10_f12_dead_domains_do_not_fill_the_log() {
    const DEAD: usize = 300;
    let domains = Domains::with(&["a.example"], |_, start| start).await;
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let began = Instant::now();
    for n in 0..DEAD {
        alice.queue(&dead(&domains, n), "anybody there?").await;
    }
    let refused = || server.metrics().get("impp_links_refused_total{reason=\"unreachable\"}");
    eventually("each to be tried again", async || (refused() > 2.0 * DEAD as f64).then_some(()))
        .await;
    server.until_logged("untold=", 1).await;
    let lines = server.stderr().lines().filter(|line| line.contains("no link")).count();
    // A burst of 128, then two a second.
    let most = 128 + 2 * (began.elapsed().as_secs() as usize + 1);
    assert!((128..=most).contains(&lines), "{lines} lines, {most} at most");
}

/// Of sixteen domains one account has two, whatever it needs them for; others find theirs, also
/// those that it has, and a place comes back when the last need of it is over.
#[tokio::test(flavor = "multi_thread")]
async fn f12_one_account_has_its_share_of_the_domains_whatever_it_needs_them_for() {
    let domains =
        Domains::with(&["a.example"], |_, start| start.set("federation.domains_max", 16)).await;
    let server = &domains["a.example"];
    let to: Vec<String> = (0..10).map(|n| dead(&domains, n)).collect();
    let mut alice = Peer::sign_in(server, "alice").await;
    let mut bob = Peer::sign_in(server, "bob").await;
    // An answer of a server that is dead is waited for; the place is taken before.
    let mut follows = vec![alice.ask(subscribe(&to[0], What::Presence)).await];
    alice.queue(&to[1], "waits").await;
    // Each way is refused in the same words.
    let contact = Contact {
        address: to[2].parse().unwrap(),
        name: None,
        groups: Vec::new(),
        follow: true,
        grant: Grant::Status.into(),
        subscription: None,
    };
    let contacts = encode(&ContactEdit::set(contact));
    let refused: [Command; 5] = [
        subscribe(&to[2], What::Presence).into(),
        fetch(&to[2], What::Presence).into(),
        message(&to[2], "waits").into(),
        Message { volatile: true, ..message(&to[2], "hi") }.into(),
        publish("alice@a.example", What::Contacts, Some(contacts)).into(),
    ];
    for command in refused {
        let told = format!("{command:?}");
        let error = alice.request(command).await.expect_err(&told);
        assert_eq!(error.code, Code::Full, "{told}");
        let text = error.text.unwrap_or_default();
        assert!(
            text.contains("in 2 other domains, and that is the most for one account"),
            "{text}"
        );
    }
    // What it has costs nothing more.
    follows.push(alice.ask(subscribe("y@d0.example", What::Presence)).await);
    alice.queue("y@d0.example", "waits").await;
    // A place that two need counts for both.
    bob.ask(subscribe(&to[0], What::Presence)).await;
    bob.ask(subscribe(&to[2], What::Presence)).await;
    assert_eq!(bob.refused(fetch(&to[3], What::Presence)).await, Code::Full);
    // Nothing is needed of the one any more but by somebody else, of the other by nobody.
    bob.done(unsubscribe(&to[0])).await;
    bob.done(unsubscribe(&to[2])).await;
    for there in &to[4..6] {
        eventually("a place that comes back", async || {
            bob.request(message(there, "waits")).await.ok()
        })
        .await;
    }
    assert_eq!(bob.refused(subscribe(&to[6], What::Presence)).await, Code::Full);
    for number in follows {
        alice.answer(number).await.expect("that it is followed");
    }
}

/// A restart changes nothing of who has which places.
#[tokio::test(flavor = "multi_thread")]
async fn f12_an_account_has_its_share_of_the_domains_after_a_restart() {
    let mut domains =
        Domains::with(&["a.example"], |_, start| start.set("federation.domains_max", 16)).await;
    let to: Vec<String> = (0..3).map(|n| dead(&domains, n)).collect();
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    alice.queue(&to[0], "waits").await;
    let lease = Some(Duration::from_secs(3600));
    alice.done(Subscribe { lease, ..subscribe(&to[1], What::Presence) }).await;
    domains["a.example"].kill9();
    domains["a.example"].restart();
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    assert_eq!(alice.refused(subscribe(&to[2], What::Presence)).await, Code::Full);
    alice.ask(subscribe(&to[1], What::Presence)).await;
    alice.done(unsubscribe(&to[1])).await;
    eventually("a place that comes back", async || {
        alice.request(message(&to[2], "waits")).await.ok()
    })
    .await;
}

/// Links that an account had opened are its own, also while they lie idle: they are closed when it
/// needs their places.
#[tokio::test(flavor = "multi_thread")]
async fn f12_links_that_lie_idle_are_paid_for_and_make_room() {
    let domains =
        Domains::with(&["a.example"], |_, start| start.set("federation.domains_max", 16)).await;
    let server = &domains["a.example"];
    let mut evil = Vec::new();
    for n in 0..5 {
        evil.push(BadPeer::among(&domains, &format!("evil{n}.example")).await);
    }
    let mut alice = Peer::sign_in(server, "alice").await;
    let mut links = Vec::new();
    for peer in &evil[..2] {
        let id = alice.queue(&peer.account("x").to_string(), "hello").await;
        let mut link = peer.accept().await;
        let (number, _) = link.message().await;
        link.take(number).await;
        assert_eq!(alice.fate(id).await.fate, Fate::Delivered);
        links.push(link);
    }
    assert_eq!(server.metrics().get("impp_links"), 2.0);
    let third = evil[2].account("x").to_string();
    // One of them makes room, and no more than one.
    alice.queue(&third, "hello").await;
    evil[2].accept().await;
    let (one, two) = links.split_at_mut(1);
    let bye = tokio::select! {
        bye = one[0].bye() => bye,
        bye = two[0].bye() => bye,
    };
    assert_eq!(bye.reason, ByeReason::Idle);
    eventually("the link that made room to be gone", async || {
        (server.metrics().get("impp_links") == 2.0).then_some(())
    })
    .await;
}

/// Whoever watches is told why nothing comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_who_waits_for_a_place_is_told() {
    let domains =
        Domains::with(&["a.example"], |_, start| start.set("federation.domains_max", 16)).await;
    let server = &domains["a.example"];
    let to: Vec<String> = (0..3).map(|n| dead(&domains, n)).collect();
    let mut alice = Peer::sign_in(server, "alice").await;
    for to in &to[..2] {
        alice.queue(to, "waits").await;
    }
    let watched = Impp::of(server, "alice").run(&["watch", &to[2], "--for", "2"]);
    assert_eq!(watched.code, 0, "{watched:?}");
    let told = format!("{}: full: ", to[2]);
    assert!(watched.stderr.contains(&told), "{watched:?}");
    assert!(watched.stderr.contains("asking again in"), "{watched:?}");
}

/// Who has a place made pays for it no longer than for what it needs itself, where others go on
/// needing it.
#[tokio::test(flavor = "multi_thread")]
async fn f12_a_place_that_others_go_on_needing_is_theirs() {
    let domains =
        Domains::with(&["a.example"], |_, start| start.set("federation.domains_max", 16)).await;
    let to: Vec<String> = (0..4).map(|n| dead(&domains, n)).collect();
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let mut bob = Peer::sign_in(&domains["a.example"], "bob").await;
    alice.ask(subscribe(&to[0], What::Presence)).await;
    // What is asked later comes later: the place was made for her.
    alice.queue(&to[1], "waits").await;
    bob.queue(&to[0], "waits").await;
    alice.done(unsubscribe(&to[0])).await;
    // Her next one finds room at once, and bob's message is still there.
    alice.queue(&to[2], "waits").await;
    assert_eq!(alice.refused(message(&to[3], "waits")).await, Code::Full);
    bob.queue(&to[3], "waits").await;
    assert_eq!(bob.refused(message(&to[1], "waits")).await, Code::Full);
}

/// On a link that is not read presence goes first: of what has changed meanwhile the newest is told, once.
/// Of the messages each comes, and once.
#[tokio::test(flavor = "multi_thread")]
async fn f13_where_a_link_is_crowded_presence_is_shed_and_no_message_is_lost() {
    const CHANGES: usize = 800;
    const MESSAGES: usize = 40;
    let generous = |_: &str, start: Start| start.no_rates().set("limits.stall_seconds", 3600);
    let domains = Domains::with(&["a.example"], generous).await;
    let evil = BadPeer::among(&domains, "evil.example").await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    alice.set_rules(OPEN_PRESENCE).await;
    let mut link = evil.call(&domains["a.example"]).await;
    let (watcher, lease) = (Some(evil.account("w")), Some(Duration::from_secs(3600)));
    let follow = Subscribe { watcher, lease, ..subscribe("alice@a.example", What::Presence) };
    link.request(follow).await.unwrap();
    // Nothing is read on the link from here on.
    let mut sent = BTreeSet::new();
    for n in 0..CHANGES {
        alice.show(&open(&format!("{n} {}", "x".repeat(4000)))).await;
        if n % (CHANGES / MESSAGES) == 0 {
            sent.insert(alice.queue("w@evil.example", &n.to_string()).await);
        }
    }
    let fetch =
        Fetch { watcher: Some(evil.account("w")), ..fetch("alice@a.example", What::Presence) };
    let asked = link.ask(fetch).await;
    let (mut told, mut newest, mut come) = (0, None, BTreeSet::new());
    let newest_is = link.answer(asked).await.unwrap().version;
    while come.len() < MESSAGES || newest != newest_is {
        let request = link.try_asked().await.expect("all of it before the end of the link");
        match request.command {
            Command::Notify(notify) => (told, newest) = (told + 1, notify.version),
            Command::Message(message) => {
                assert!(come.insert(message.id), "each comes once");
                link.take(request.number).await;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(come, sent);
    assert!(told < CHANGES / 2, "told of {told} changes: nothing was shed");
}
