//! Two domains in network namespaces of their own, and the cable between them pulled by the kernel:
//! nobody is told that a connection is gone.

use impp_tests::impp::Impp;
use impp_tests::netns::Namespaces;
use impp_tests::server::Start;
use impp_tests::wait::eventually;
use impp_tests::{Dns, Server};

/// A domain whose server finds others by this DNS.
fn start(dns: &Dns, domain: &str, ip: std::net::Ipv4Addr) -> Server {
    let list = |text: String| toml_edit::Value::from(toml_edit::Array::from_iter([text]));
    let start: Start = Server::with().domain(domain).ip(ip);
    start
        .set("federation.dns", list(dns.address().to_string()))
        .set("federation.allow_addresses", list("10.213.0.0/16".to_owned()))
        .set("federation.idle_seconds", 1)
        .set("federation.answer_seconds", 2)
        .set("federation.stale_seconds", 2)
        .set("federation.dial_seconds", 2)
        .set("federation.retry_min_milliseconds", 100)
        .set("federation.retry_max_seconds", 1)
        .set("times.pace_burst", 1000)
        .start()
}

/// The cable is away: messages wait, and come once and in order when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn r5_4_2_in_namespaces_messages_outlive_a_pulled_cable() {
    let Some(net) = Namespaces::two() else { return };
    let dns = net.a.run(|| Dns::start_on(net.a.ip));
    let mut a = net.a.run(|| start(&dns, "a.example", net.a.ip));
    let mut b = net.b.run(|| start(&dns, "b.example", net.b.ip));
    let roots = tempfile::NamedTempFile::new().unwrap();
    let read = |server: &Server| std::fs::read_to_string(server.trust()).unwrap();
    std::fs::write(&roots, read(&a) + &read(&b)).unwrap();
    for (server, space) in [(&mut a, &net.a), (&mut b, &net.b)] {
        server.set("federation.ca", roots.path().display().to_string());
        server.stop();
        space.run(|| server.restart());
        let host = format!("host.{}", server.domain());
        for service in ["pres", "im"] {
            dns.srv(server.domain(), service, 0, 0, server.address().port(), &host);
        }
        dns.a(&host, space.ip);
    }
    let (alice, bob) = (Impp::of(&a, "alice"), Impp::of(&b, "bob"));
    let alice = |args: &[&str]| net.a.run(|| alice.run(args));
    let bob = |args: &[&str]| net.b.run(|| bob.run(args));
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&rules, impp_tests::fates::OPEN_INBOX).unwrap();
    assert_eq!(bob(&["rules", "set", rules.path().to_str().unwrap()]).code, 0);
    let texts = || -> Vec<String> {
        let inbox = bob(&["inbox"]).objects.into_iter();
        inbox.filter_map(|item| Some(item["body"].as_str()?.to_owned())).collect()
    };
    let all = async |count: usize| {
        eventually("messages", async || {
            let texts = texts();
            (texts.len() >= count).then_some(texts)
        })
        .await
    };
    assert_eq!(alice(&["send", "bob@b.example", "0"]).code, 0);
    all(1).await;
    net.pull();
    let mut ids = Vec::new();
    for text in ["1", "2", "3", "4", "5"] {
        let sent = alice(&["send", "bob@b.example", text]).one();
        assert_eq!(sent["outcome"], "queued");
        ids.push(sent["id"].as_str().unwrap().to_owned());
    }
    let told = eventually("a cause", async || {
        let told = alice(&["fate", &ids[4]]).one();
        (!told["cause"].is_null()).then_some(told)
    });
    assert_eq!(told.await["fate"], "queued");
    net.plug();
    assert_eq!(all(6).await, ["0", "1", "2", "3", "4", "5"]);
    eventually("the fate", async || {
        (alice(&["fate", &ids[4]]).one()["fate"] == "delivered").then_some(())
    })
    .await;
}
