//! The search for a domain's server, as servers and clients use it, against a DNS server.
//!
//! What the programs make of it is in `locate`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::RecordType::{self, A, AAAA, SRV};
use impp_locate::{
    AttemptError, Locator, NotReached, NotReachedKind, Order, Policy, Reached, Service, Settings,
    TARGETS_MAX, Via,
};
use impp_protocol::{Domain, PORT};
use impp_tests::Dns;
use impp_tests::dns::{Fault, owner};
use tokio::net::TcpListener;
use tokio::time::Instant;

const B: &str = "b.example";

fn settings(dns: &Dns, order: Order) -> Settings {
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    let policy = Policy { allow, own: Vec::new() };
    Settings { order, dns: vec![dns.address()], policy, ..Settings::default() }
}

fn locator(dns: &Dns, order: Order) -> Locator {
    Locator::new(settings(dns, order))
}

/// Reaches b.example's inbox; a connection is complete as soon as it is made.
async fn reach(locator: &Locator) -> Result<Reached<()>, NotReached> {
    reach_in(locator, Duration::from_secs(10)).await
}

async fn reach_in(locator: &Locator, time: Duration) -> Result<Reached<()>, NotReached> {
    let domain = Domain::parse(B).unwrap();
    let complete = |_, _| async { Ok(()) };
    locator.reach(&domain, Service::Messages, Instant::now() + time, complete).await
}

async fn kind_of(locator: &Locator) -> NotReachedKind {
    reach(locator).await.unwrap_err().kind
}

/// A loopback address that no other play uses.
fn loopback() -> Ipv4Addr {
    let [a, b, c] = getrandom::u32().unwrap().to_be_bytes()[..3].try_into().unwrap();
    Ipv4Addr::new(127, a, b.max(1), c.clamp(1, 254))
}

/// Somebody who listens on the default port of an address of their own.
async fn at_default_port() -> (TcpListener, Ipv4Addr) {
    loop {
        let ip = loopback();
        if let Ok(listener) = TcpListener::bind((ip, PORT)).await {
            return (listener, ip);
        }
    }
}

/// Somebody who listens anywhere.
async fn at_any_port() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A port on which nobody listens.
async fn dead_port() -> u16 {
    at_any_port().await.1.port()
}

/// b.example has an SRV record that leads to `im.b.example`, and that is on loopback.
fn srv_to(dns: &Dns, port: u16) {
    dns.srv(B, "im", 0, 0, port, "im.b.example");
    dns.a("im.b.example", Ipv4Addr::LOCALHOST);
}

fn asked(dns: &Dns, name: &str) -> [usize; 3] {
    [SRV, A, AAAA].map(|kind| dns.asked(name, kind))
}

#[tokio::test]
async fn d_5_4_5_1_1_by_a_alone() {
    let dns = Dns::start();
    let (_listener, ip) = at_default_port().await;
    dns.a(B, ip);
    let reached = reach(&locator(&dns, Order::A)).await.unwrap();
    assert_eq!(reached.address, SocketAddr::new(ip.into(), PORT));
    assert_eq!(reached.via, Via::Address);
    assert_eq!(asked(&dns, B), [0, 1, 1]);
    assert_eq!(dns.asked_since(), 2, "A and AAAA, in one round trip");
}

#[tokio::test]
async fn d_5_4_5_1_2_by_srv_alone() {
    let dns = Dns::start();
    let (_listener, address) = at_any_port().await;
    srv_to(&dns, address.port());
    let reached = reach(&locator(&dns, Order::Srv)).await.unwrap();
    assert_eq!((reached.address, reached.via), (address, Via::Srv));
    assert_eq!(dns.asked(&owner(B, "im"), SRV), 1);
    assert_eq!(dns.asked_since(), 3);
    dns.remove(&owner(B, "im"));
    let (_other, ip) = at_default_port().await;
    dns.a(B, ip);
    assert_eq!(kind_of(&locator(&dns, Order::Srv)).await, NotReachedKind::UnknownDomain);
    assert_eq!(dns.asked_since(), 1, "no address was asked for");
}

#[tokio::test]
async fn d_5_4_5_1_3_by_srv_then_a() {
    let dns = Dns::start();
    let (_listener, address) = at_any_port().await;
    let (_other, ip) = at_default_port().await;
    srv_to(&dns, address.port());
    dns.a(B, ip);
    assert_eq!(reach(&locator(&dns, Order::SrvThenA)).await.unwrap().address, address);
    assert_eq!(dns.asked_since(), 3, "SRV, and the addresses of its target");
    dns.remove(&owner(B, "im"));
    let reached = reach(&locator(&dns, Order::SrvThenA)).await.unwrap();
    assert_eq!((reached.address.ip(), reached.via), (IpAddr::V4(ip), Via::Address));
    assert_eq!(dns.asked_since(), 3, "SRV in vain, and the addresses of the domain");
}

#[tokio::test]
async fn d_5_4_5_1_4_by_a_then_srv() {
    let dns = Dns::start();
    let (_listener, address) = at_any_port().await;
    let (_other, ip) = at_default_port().await;
    srv_to(&dns, address.port());
    dns.a(B, ip);
    let reached = reach(&locator(&dns, Order::AThenSrv)).await.unwrap();
    assert_eq!(reached.address.ip(), IpAddr::V4(ip));
    assert_eq!(dns.asked_since(), 2, "the addresses of the domain");
    dns.remove(B);
    assert_eq!(reach(&locator(&dns, Order::AThenSrv)).await.unwrap().address, address);
    assert_eq!(dns.asked_since(), 5, "those in vain, SRV, and the addresses of its target");
}

#[tokio::test]
async fn d_5_4_5_1_5_a_second_miss_asks_nothing() {
    let dns = Dns::start();
    for order in Order::ALL {
        let locator = locator(&dns, order);
        assert_eq!(kind_of(&locator).await, NotReachedKind::UnknownDomain, "{order}");
        assert!(dns.asked_since() > 0, "{order}");
        assert_eq!(kind_of(&locator).await, NotReachedKind::UnknownDomain, "{order}");
        assert_eq!(dns.asked_since(), 0, "{order}");
    }
    // What is held is not held for ever.
    dns.ttl(1);
    let (locator, (_listener, ip)) = (locator(&dns, Order::A), at_default_port().await);
    assert_eq!(kind_of(&locator).await, NotReachedKind::UnknownDomain);
    dns.a(B, ip);
    impp_tests::eventually("the domain appears", async || reach(&locator).await.ok()).await;
}

/// A server that moved is looked for anew as soon as it is not found where it was; a domain that
/// does not exist is not.
#[tokio::test]
async fn d_5_4_7_1_records_that_led_nowhere_are_asked_for_anew() {
    let dns = Dns::start();
    srv_to(&dns, dead_port().await);
    let locator = locator(&dns, Order::Srv);
    assert_eq!(kind_of(&locator).await, NotReachedKind::Unreachable);
    let (_listener, address) = at_any_port().await;
    dns.remove(&owner(B, "im"));
    srv_to(&dns, address.port());
    assert_eq!(reach(&locator).await.unwrap().address, address);
    assert_eq!(dns.asked(&owner(B, "im"), SRV), 2);
    // What was good is held until its TTL is over.
    assert_eq!(reach(&locator).await.unwrap().address, address);
    assert_eq!(dns.asked(&owner(B, "im"), SRV), 2);
}

#[tokio::test]
async fn d_5_4_5_a_static_table_comes_before_dns() {
    let dns = Dns::start();
    dns.srv(B, "im", 0, 0, dead_port().await, "elsewhere.example");
    let (_listener, address) = at_any_port().await;
    let dead = SocketAddr::new(address.ip(), dead_port().await);
    // The policy does not hold for what the operator wrote.
    let mut settings = settings(&dns, Order::SrvThenA);
    settings.policy = Policy::default();
    let targets = vec![dead.to_string().parse().unwrap(), address.to_string().parse().unwrap()];
    settings.routes.insert(Domain::parse(B).unwrap(), targets);
    let reached = reach(&Locator::new(settings.clone())).await.unwrap();
    assert_eq!((reached.address, reached.via), (address, Via::Route));
    assert_eq!(dns.asked_since(), 0);
    // A name in it is looked up; nothing comes after the table.
    dns.a("server.example", Ipv4Addr::LOCALHOST);
    let named = vec![format!("server.example:{}", dead.port()).parse().unwrap()];
    settings.routes.insert(Domain::parse(B).unwrap(), named);
    assert_eq!(kind_of(&Locator::new(settings)).await, NotReachedKind::Unreachable);
    assert_eq!(dns.asked_since(), 2);
}

#[tokio::test]
async fn f3_domains_of_a_single_label_are_not_looked_up() {
    let dns = Dns::start();
    let domain = Domain::parse("localhost").unwrap();
    let locator = locator(&dns, Order::SrvThenA);
    let deadline = Instant::now() + Duration::from_secs(10);
    let complete = |_, _| async { Ok(()) };
    let error = locator.reach(&domain, Service::Messages, deadline, complete).await.unwrap_err();
    assert_eq!(error.kind, NotReachedKind::UnknownDomain);
    assert_eq!(dns.asked_since(), 0);
}

#[tokio::test]
async fn names_under_localhost_are_asked_of_the_server_that_is_configured() {
    let dns = Dns::start();
    let (_listener, ip) = at_default_port().await;
    dns.srv("a.localhost", "im", 0, 0, PORT, "im.a.localhost");
    dns.a("im.a.localhost", ip);
    let domain = Domain::parse("a.localhost").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let locator = locator(&dns, Order::SrvThenA);
    let task = async move {
        let complete = |_, _| async { Ok(()) };
        locator.reach(&domain, Service::Messages, deadline, complete).await
    };
    // Such a search can be a task of its own.
    let reached = tokio::spawn(task).await.unwrap().unwrap();
    assert_eq!(reached.address.ip(), IpAddr::V4(ip));
    assert_eq!(asked(&dns, "im.a.localhost"), [0, 1, 1]);
}

#[tokio::test]
async fn f5_a_thousand_records_lead_to_eight_tries() {
    let dns = Dns::start();
    let dead = dead_port().await;
    for n in 0..1000 {
        dns.srv(B, "im", n, 0, dead, &format!("h{n}.b.example"));
        let [high, low] = n.to_be_bytes();
        dns.a(&format!("h{n}.b.example"), Ipv4Addr::new(127, 0, 64 + high, low));
    }
    let error = reach(&locator(&dns, Order::Srv)).await.unwrap_err();
    assert_eq!(error.kind, NotReachedKind::Unreachable);
    let connects = error.text.matches("connect h").count();
    assert_eq!(connects, TARGETS_MAX, "{}", error.text);
    assert!(error.text.contains("992 further targets"), "{}", error.text);
    let lookups: usize = (0..1000).map(|n| dns.asked(&format!("h{n}.b.example"), A)).sum();
    assert_eq!(lookups, TARGETS_MAX);
}

/// Whatever DNS does to the SRV question, the search ends in time, says what happened, and goes on
/// to the domain's own address.
#[tokio::test]
async fn f5_f6_each_fault_of_dns_is_told_and_the_domains_address_is_tried() {
    let dns = Dns::start();
    let (_listener, ip) = at_default_port().await;
    dns.a(B, ip);
    for (fault, told) in [
        (Fault::ServFail, "SERVFAIL"),
        (Fault::Silence, "no answer within"),
        (Fault::NxDomain, "NXDOMAIN"),
        (Fault::Empty, "an empty answer"),
        (Fault::CnameLoop, "CNAMEs"),
        (Fault::Truncated, "cut off"),
        (Fault::WrongId, "no answer within"),
        (Fault::Counts, "failed"),
    ] {
        dns.mend();
        dns.fault(&owner(B, "im"), SRV, fault);
        let started = Instant::now();
        let reached = reach(&locator(&dns, Order::SrvThenA)).await.unwrap();
        assert_eq!(reached.address.ip(), IpAddr::V4(ip), "{fault:?}");
        assert_eq!(reached.via == Via::Address, fault == Fault::NxDomain, "{fault:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{fault:?}");
        let first = reached.steps[0].to_string();
        assert!(first.starts_with("SRV _im._impp.b.example.:"), "{first}");
        assert!(first.contains(told), "{fault:?}: {first}");
    }
}

/// The same, with nobody at the domain's own address: what is definite, and what may pass.
#[tokio::test]
async fn f5_f6_what_is_not_proven_is_not_definite() {
    let dns = Dns::start();
    for (fault, kind) in [
        (Fault::ServFail, NotReachedKind::Unreachable),
        (Fault::Silence, NotReachedKind::Unreachable),
        (Fault::Empty, NotReachedKind::Unreachable),
        (Fault::CnameLoop, NotReachedKind::Unreachable),
        (Fault::Truncated, NotReachedKind::Unreachable),
        (Fault::Counts, NotReachedKind::Unreachable),
        (Fault::NxDomain, NotReachedKind::UnknownDomain),
    ] {
        dns.mend();
        for (name, kind) in [(owner(B, "im"), SRV), (B.to_owned(), A), (B.to_owned(), AAAA)] {
            dns.fault(&name, kind, fault);
        }
        let started = Instant::now();
        let error = reach(&locator(&dns, Order::SrvThenA)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{fault:?}: {}", error.text);
        assert!(started.elapsed() < Duration::from_secs(10), "{fault:?}");
        for name in ["SRV _im._impp.b.example.", "A b.example.", "AAAA b.example."] {
            assert!(error.text.contains(&format!("\n  {name}")), "{fault:?}: {}", error.text);
        }
    }
}

#[tokio::test]
async fn f6_srv_records_whose_servers_are_dead_lead_to_the_domains_address() {
    let dns = Dns::start();
    srv_to(&dns, dead_port().await);
    let (_listener, ip) = at_default_port().await;
    dns.a(B, ip);
    let reached = reach(&locator(&dns, Order::SrvThenA)).await.unwrap();
    assert_eq!((reached.address.ip(), reached.via), (IpAddr::V4(ip), Via::Fallback));
    // A server that takes connections and completes none is no better.
    let (_mute, address) = at_any_port().await;
    dns.remove(&owner(B, "im"));
    srv_to(&dns, address.port());
    let domain = Domain::parse(B).unwrap();
    let complete = |_, to: SocketAddr| async move {
        let refused = || AttemptError::Failed("no TLS".to_owned());
        (to.port() == PORT).then_some(()).ok_or_else(refused)
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let locator = locator(&dns, Order::SrvThenA);
    let reached = locator.reach(&domain, Service::Messages, deadline, complete).await.unwrap();
    assert_eq!(reached.via, Via::Fallback);
    let told: Vec<String> = reached.steps.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|step| step.contains("no TLS")), "{told:?}");
}

#[tokio::test]
async fn f6_nothing_is_tried_after_a_root_target() {
    let dns = Dns::start();
    dns.not_offered(B, "im");
    let (_listener, ip) = at_default_port().await;
    dns.a(B, ip);
    assert_eq!(kind_of(&locator(&dns, Order::SrvThenA)).await, NotReachedKind::NotOffered);
    assert_eq!(dns.asked_since(), 1);
    assert!(NotReachedKind::NotOffered.is_definite());
}

#[tokio::test]
async fn f6_a_fallback_hosts_wrong_certificate_is_nothing_against_the_domain() {
    let dns = Dns::start();
    let (_listener, ip) = at_default_port().await;
    dns.a(B, ip);
    let domain = Domain::parse(B).unwrap();
    let complete = |_, _| async { Err::<(), _>(AttemptError::Untrusted("for www".to_owned())) };
    let try_it = async |locator: &Locator| {
        let deadline = Instant::now() + Duration::from_secs(10);
        let tried = locator.reach(&domain, Service::Messages, deadline, complete).await;
        tried.unwrap_err().kind
    };
    assert_eq!(try_it(&locator(&dns, Order::SrvThenA)).await, NotReachedKind::Untrusted);
    srv_to(&dns, dead_port().await);
    assert_eq!(try_it(&locator(&dns, Order::SrvThenA)).await, NotReachedKind::Unreachable);
}

#[tokio::test]
async fn f7_names_that_lead_into_forbidden_networks_are_refused() {
    let dns = Dns::start();
    for (n, ip) in [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fd00::1",
        "fe80::1",
        "2001::1",
    ]
    .into_iter()
    .enumerate()
    {
        let domain = Domain::parse(&format!("d{n}.example")).unwrap();
        dns.address_of(domain.as_str(), ip.parse().unwrap());
        let mut settings = settings(&dns, Order::A);
        settings.policy = Policy::default();
        let deadline = Instant::now() + Duration::from_secs(10);
        let complete = |_, _| async { Ok(()) };
        let search = Locator::new(settings);
        let error = search.reach(&domain, Service::Presence, deadline, complete).await.unwrap_err();
        assert_eq!(error.kind, NotReachedKind::Unreachable, "{ip}");
        assert!(error.text.contains("is refused"), "{ip}: {}", error.text);
        assert!(!error.text.contains("connect "), "{ip}: {}", error.text);
    }
}

#[tokio::test]
async fn f5_ttls_of_0_and_2_to_the_31_are_harmless() {
    let (_listener, ip) = at_default_port().await;
    for ttl in [0, 1 << 31, u32::MAX] {
        let dns = Dns::start();
        dns.ttl(ttl);
        dns.a(B, ip);
        let locator = locator(&dns, Order::SrvThenA);
        for _ in 0..2 {
            reach(&locator).await.unwrap();
        }
        if ttl == 0 {
            assert_eq!(asked(&dns, B), [0, 2, 2], "nothing is held");
        }
    }
}

#[tokio::test]
async fn cnames_are_followed_and_bounded() {
    let dns = Dns::start();
    let (_listener, ip) = at_default_port().await;
    dns.cname(B, "c.example");
    dns.cname("c.example", "d.example");
    dns.a("d.example", ip);
    assert_eq!(reach(&locator(&dns, Order::A)).await.unwrap().address.ip(), IpAddr::V4(ip));
    for n in 0..20 {
        dns.cname(&format!("n{n}.example"), &format!("n{}.example", n + 1));
    }
    dns.a("n20.example", ip);
    dns.remove(B);
    dns.cname(B, "n0.example");
    let error = reach(&locator(&dns, Order::A)).await.unwrap_err();
    assert!(error.text.contains("more than 8 CNAMEs"), "{}", error.text);
    assert_eq!(dns.asked("n0.example", RecordType::A), 0);
}

/// A plan asks and tells the same as a search, and connects to nothing.
#[tokio::test]
async fn a_plan_names_every_server_and_connects_to_none() {
    let dns = Dns::start();
    let (listener, address) = at_any_port().await;
    srv_to(&dns, address.port());
    dns.srv(B, "im", 5, 0, 0, "zero.b.example");
    dns.a(B, loopback());
    let domain = Domain::parse(B).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let plan = locator(&dns, Order::SrvThenA).lookup(&domain, Service::Messages, deadline).await;
    let targets: Vec<_> = plan.candidates.iter().map(|candidate| candidate.via).collect();
    assert_eq!(targets, [Via::Srv, Via::Fallback]);
    assert_eq!(plan.candidates[0].addresses, [address]);
    assert_eq!(plan.kind, None);
    assert!(plan.steps.iter().any(|step| step.to_string().contains("port 0")));
    let nobody = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(nobody.is_err(), "somebody connected");
}
