//! What one account, or whoever writes a domain's records, can have this server do to others: how
//! many domains' places it takes, and how many connections somebody else gets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use impp_protocol::state::Fate;
use impp_protocol::{Code, What};
use impp_tests::peer::{fetch, subscribe};
use impp_tests::{BadPeer, Domains, Peer};
use tokio::net::TcpListener;

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
    let mut limited = 0;
    for number in alice.flight(fetches).await {
        let error = alice.answer(number).await.unwrap_err();
        assert_eq!(error.code, Code::Unreachable);
        let told = error.text.unwrap_or_default();
        limited +=
            usize::from(told.contains("10 connections there within a minute have proven no"));
    }
    assert_eq!(third.called(), [SocketAddr::from((victim, third.port)); MOST]);
    assert_eq!(limited, DOMAINS - MOST);
    third.is_server_of(&domains, "other.example", other);
    assert_eq!(alice.refused(fetch("x@other.example", What::Presence)).await, Code::Unreachable);
    assert_eq!(third.called().len(), MOST + 1);
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
