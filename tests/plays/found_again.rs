//! What changes around a running server is found: other DNS servers, records that were not there,
//! addresses behind many dead ones. And whoever's records lead anywhere is told no more than that it
//! leads to nobody.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use impp_locate::{Locator, Network, NotReachedKind, Order, Policy, Service, Settings};
use impp_protocol::state::Fate;
use impp_protocol::{Code, Domain, MessageId, What};
use impp_tests::dns::{Fault, owner};
use impp_tests::peer::fetch;
use impp_tests::wait::skipped;
use impp_tests::{BadPeer, Dns, Domains, Peer, eventually};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// What nobody uses of resolv.conf, well-formed or not.
const UNUSED: &str = "# \u{1F40C}\nsearch . ..\ndomain \u{7f}\nsortlist 1/2/3\noptions no-such \
                      ndots:99999999999999999999\nnameserver\nnameserver fe80::1%lo\n";

/// The domain a.example with settings, and evil.example, of which DNS knows nothing yet.
async fn one() -> (Domains, BadPeer) {
    let domains = Domains::with(&["a.example"], |_, start| start).await;
    let evil = BadPeer::hidden(&domains, "evil.example").await;
    domains.trust_also(&evil.authority.pem);
    (domains, evil)
}

/// From now on DNS leads to a server.
fn publish(dns: &Dns, evil: &BadPeer) {
    for service in ["pres", "im"] {
        dns.srv(&evil.domain, service, 0, 0, evil.address.port(), "host.evil.example");
    }
    dns.address_of("host.evil.example", evil.address.ip());
}

async fn taken(evil: &BadPeer, alice: &mut Peer, id: MessageId) {
    let mut link = evil.accept().await;
    let (number, message) = link.message().await;
    assert_eq!(message.id, id);
    link.take(number).await;
    alice.until_delivered(id).await;
}

/// A name to be found in an own file of DNS servers, and the command that puts it in its place for a
/// program alone.
struct ResolvConf {
    folder: TempDir,
}

impl ResolvConf {
    fn of(server: Ipv4Addr) -> ResolvConf {
        let resolv = ResolvConf { folder: tempfile::tempdir().unwrap() };
        resolv.names(server);
        resolv
    }

    fn path(&self) -> String {
        self.folder.path().join("resolv.conf").display().to_string()
    }

    /// Written in place, as what stands in the program's own view of files is this very file.
    fn names(&self, server: Ipv4Addr) {
        std::fs::write(self.path(), format!("{UNUSED}nameserver {server}\n")).unwrap();
    }

    fn command(&self) -> Vec<OsString> {
        let script = format!("mount --bind {} /etc/resolv.conf && exec \"$@\"", self.path());
        ["unshare", "-m", "sh", "-c", &script, "sh"].map(OsString::from).to_vec()
    }
}

/// A server that was started in one network goes on in another: the system names other DNS servers,
/// and nobody restarts or reloads anything. What else stands in the file is of no account.
#[tokio::test(flavor = "multi_thread")]
async fn f5_the_systems_dns_servers_are_those_of_now() {
    let ip = Ipv4Addr::new(127, 0, 140, 1);
    let (nobody, Some(dns)) = (Ipv4Addr::new(127, 0, 140, 9), Dns::start_at_its_port(ip)) else {
        return skipped("DNS's own port cannot be had here");
    };
    let resolv = ResolvConf::of(nobody);
    let mounted = std::process::Command::new("unshare").args(["-m", "true"]).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return skipped("no view of files of one's own can be had here");
    }
    let domains = Domains::with(&["a.example"], |_, start| {
        let start = start.set("federation.dns", toml_edit::Array::new());
        start.under(resolv.command())
    })
    .await;
    let evil = BadPeer::among(&domains, "evil.example").await;
    publish(&dns, &evil);
    let server = &domains["a.example"];
    let mut alice = Peer::sign_in(server, "alice").await;
    let id = alice.queue("mallory@evil.example", "waits for a network").await;
    server.until_logged("SRV _im._impp.evil.example.: failed", 1).await;
    resolv.names(ip);
    taken(&evil, &mut alice, id).await;
}

/// Neither servers that are silent nor those that cannot tell cost the very first question.
#[tokio::test]
async fn f5_dead_dns_servers_cost_no_question() {
    let silent: Vec<UdpSocket> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let (broken, dns) = (Dns::start(), Dns::start());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    dns.srv("b.example", "im", 0, 0, port, "host.b.example");
    dns.a("host.b.example", Ipv4Addr::LOCALHOST);
    for kind in [hickory_proto::rr::RecordType::A, hickory_proto::rr::RecordType::AAAA] {
        broken.fault("host.b.example", kind, Fault::ServFail);
    }
    broken.fault(&owner("b.example", "im"), hickory_proto::rr::RecordType::SRV, Fault::ServFail);
    let mut servers: Vec<_> = silent.iter().map(|one| one.local_addr().unwrap()).collect();
    servers.extend([broken.address(), dns.address()]);
    let policy = Policy { allow: Network::everything(), own: Vec::new() };
    let settings = Settings { order: Order::Srv, dns: servers, policy, ..Settings::default() };
    let deadline = Instant::now() + Duration::from_secs(60);
    let (b, locator) = (Domain::parse("b.example").unwrap(), Locator::new(settings));
    let reached = locator.reach(&b, Service::Messages, deadline, |_, _| async { Ok(()) }).await;
    assert_eq!(reached.unwrap().address.port(), port);
}

/// A message ends by an answer that holds now: that a domain was not there, and may not have been for
/// an hour, is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn d_5_4_5_1_5_no_message_ends_by_an_answer_of_before() {
    let (domains, evil) = one().await;
    let mut alice = Peer::sign_in(&domains["a.example"], "alice").await;
    let id = alice.queue("mallory@evil.example", "too early").await;
    let fate = alice.fate(id).await;
    assert_eq!((fate.fate, fate.code), (Fate::Failed, Some(Code::UnknownDomain)));
    publish(&domains.dns, &evil);
    let id = alice.queue("mallory@evil.example", "and now").await;
    taken(&evil, &mut alice, id).await;
}

/// That a domain is not there is forgotten when it calls, and when the operator has all read again.
#[tokio::test(flavor = "multi_thread")]
async fn d_5_4_5_1_5_that_a_domain_is_not_there_is_forgotten_when_it_calls_or_by_a_reload() {
    for by_reload in [false, true] {
        let (domains, evil) = one().await;
        let server = &domains["a.example"];
        let mut alice = Peer::sign_in(server, "alice").await;
        let question = || fetch("mallory@evil.example", What::Presence);
        assert_eq!(alice.refused(question()).await, Code::UnknownDomain);
        publish(&domains.dns, &evil);
        match by_reload {
            true => domains.reload(),
            false => evil.call(server).await.cut(),
        }
        let gone = async || (server.metrics().get("impp_links") == 0.0).then_some(());
        eventually("the end of the link", gone).await;
        let found = async {
            // Within a moment of the last failure nobody is called.
            while alice.request(question()).await.is_err_and(|error| {
                assert_ne!(error.code, Code::UnknownDomain, "by reload: {by_reload}");
                true
            }) {}
        };
        tokio::select! {
            _ = evil.accept_tcp() => {}
            () = found => unreachable!("nobody answers"),
        }
    }
}

/// Of a host with many addresses the last one is tried as well, as far as the bound of a search goes.
#[tokio::test]
async fn f6_each_address_of_a_server_is_tried_within_the_bounds() {
    let dns = Dns::start();
    let live = Ipv4Addr::new(127, 0, 141, 200);
    let listener = TcpListener::bind((live, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    dns.srv("b.example", "im", 0, 0, port, "host.b.example");
    for n in 1..=15 {
        dns.a("host.b.example", Ipv4Addr::new(127, 0, 141, n));
    }
    dns.a("host.b.example", live);
    let policy = Policy { allow: vec!["127.0.0.0/8".parse().unwrap()], own: Vec::new() };
    let dns = vec![dns.address()];
    let settings = Settings { order: Order::Srv, dns, policy, ..Settings::default() };
    let deadline = Instant::now() + Duration::from_secs(60);
    let (b, locator) = (Domain::parse("b.example").unwrap(), Locator::new(settings));
    let reached = locator.reach(&b, Service::Messages, deadline, |_, _| async { Ok(()) }).await;
    assert_eq!(reached.unwrap().address.ip(), IpAddr::V4(live));
}

/// An address of NAT64's own prefix is that of the host behind it, when it is looked up and when it is
/// connected to; one of a local gateway is not followed, whatever stands in it.
#[tokio::test]
async fn f7_addresses_behind_nat64_are_judged_by_what_is_inside() {
    let dns = Dns::start();
    let of = |n: u16, last: [u16; 2]| {
        let bits = [0x64, 0xff9b, n, 0, 0, 0, last[0], last[1]];
        IpAddr::from(bits)
    };
    for (name, address) in [
        ("loopback.example", of(0, [0x7f00, 1])),
        ("private.example", of(0, [0x0a00, 1])),
        ("local.example", of(1, [0x0808, 0x0808])),
        ("public.example", of(0, [0x0808, 0x0808])),
    ] {
        dns.address_of(name, address);
    }
    let settings = Settings { order: Order::A, dns: vec![dns.address()], ..Settings::default() };
    let locator = Locator::new(settings);
    for (name, refused) in [
        ("loopback.example", Some("a loopback address is refused")),
        ("private.example", Some("a private address is refused")),
        ("local.example", Some("an address of a local NAT64 is refused")),
        ("public.example", None),
    ] {
        let domain = Domain::parse(name).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let plan = locator.lookup(&domain, Service::Messages, deadline).await;
        let told = plan.candidates[0].refused.first().map(|(_, why)| &**why);
        assert_eq!(told, refused, "{name}");
        assert_eq!(plan.kind, refused.map(|_| NotReachedKind::Unreachable), "{name}");
    }
}

/// Whoever writes a zone has others' servers connect to any address. What is told to them is the same
/// whether anybody listens there, or speaks TLS, or nobody at all; the operator's log tells all.
#[tokio::test(flavor = "multi_thread")]
async fn f7_a_fate_does_not_tell_which_ports_are_open() {
    let domains = Domains::with(&["a.example"], |_, start| start).await;
    let server = &domains["a.example"];
    let open = std::net::TcpListener::bind("127.0.142.1:0").unwrap();
    let port = open.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in open.incoming() {
            drop(stream);
        }
    });
    let mut alice = Peer::sign_in(server, "alice").await;
    let mut told = Vec::new();
    for (name, ip) in [("one.example", [127, 0, 142, 1]), ("two.example", [127, 0, 142, 2])] {
        let host = format!("host.{name}");
        domains.dns.srv(name, "im", 0, 0, port, &host);
        domains.dns.srv(name, "pres", 0, 0, port, &host);
        domains.dns.a(&host, ip.into());
        let id = alice.queue(&format!("x@{name}"), "who is there?").await;
        let fate = alice.held_up(id, "").await;
        let error = alice.request(fetch(&format!("x@{name}"), What::Presence)).await.unwrap_err();
        let words = [fate.text.unwrap(), error.text.unwrap_or_default()].join("; ");
        assert!(!words.contains("127.0.142"), "{words}");
        told.push((fate.code, error.code, words.replace(name, "NAME")));
        server.until_logged(&format!("{host}:{port} ({}:{port})", Ipv4Addr::from(ip)), 1).await;
    }
    assert_eq!(told[0], told[1]);
}
