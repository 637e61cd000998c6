//! Two domains in network namespaces of their own, and the cable between them pulled by the kernel:
//! nobody is told that a connection is gone.

use std::time::{Duration, Instant};

use impp_tests::fates::OPEN_INBOX;
use impp_tests::impp::{Impp, Ran};
use impp_tests::netns::{Namespace, Namespaces};
use impp_tests::server::Start;
use impp_tests::wait::DEADLINE;
use impp_tests::{Dns, Server};
use tempfile::NamedTempFile;

/// Settings by which what takes a minute takes seconds.
fn quick(start: Start) -> Start {
    start
        .set("federation.idle_seconds", 1)
        .set("federation.answer_seconds", 2)
        .set("federation.stale_seconds", 2)
        .set("federation.dial_seconds", 2)
        .set("federation.retry_min_milliseconds", 100)
        .set("federation.retry_max_seconds", 1)
        .set("federation.unproven_connects_per_minute", 1000)
        .set("times.pace_burst", 1000)
}

/// Two domains in namespaces of their own, with one DNS.
struct Apart {
    a: Server,
    b: Server,
    _roots: NamedTempFile,
    _dns: Dns,
    net: Namespaces,
}

impl Apart {
    fn start(net: Namespaces, settings: fn(Start) -> Start) -> Apart {
        let dns = net.a.run(|| Dns::start_on(net.a.ip));
        let list = |text: String| toml_edit::Value::from(toml_edit::Array::from_iter([text]));
        let server = |space: &Namespace, domain| {
            let start = Server::with()
                .domain(domain)
                .ip(space.ip)
                .set("federation.dns", list(dns.address().to_string()))
                .set("federation.allow_addresses", list("10.213.0.0/16".to_owned()));
            space.run(|| settings(start).start())
        };
        let (mut a, mut b) = (server(&net.a, "a.example"), server(&net.b, "b.example"));
        let roots = NamedTempFile::new().unwrap();
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
        Apart { a, b, _roots: roots, _dns: dns, net }
    }

    fn alice(&self, args: &[&str]) -> Ran {
        self.net.a.run(|| Impp::of(&self.a, "alice").run(args))
    }

    fn bob(&self, args: &[&str]) -> Ran {
        self.net.b.run(|| Impp::of(&self.b, "bob").run(args))
    }

    /// Bob lets everybody write and see.
    fn open_bob(&self) {
        let rules = NamedTempFile::new().unwrap();
        let all = "[[rule]]\nid = \"all\"\nwho = [\"authenticated\"]\nhandling = \"allow\"\n";
        std::fs::write(&rules, format!("{all}fields = [\"all\"]\n{OPEN_INBOX}")).unwrap();
        assert_eq!(self.bob(&["rules", "set", rules.path().to_str().unwrap()]).code, 0);
    }

    fn bobs_texts(&self) -> Vec<String> {
        let inbox = self.bob(&["inbox"]).objects.into_iter();
        inbox.filter_map(|item| Some(item["body"].as_str()?.to_owned())).collect()
    }

    fn fate(&self, id: &str) -> String {
        self.alice(&["fate", id]).one()["fate"].as_str().unwrap().to_owned()
    }

    fn send(&self, text: &str) -> String {
        let sent = self.alice(&["send", "bob@b.example", text]).one();
        assert_eq!(sent["outcome"], "queued");
        sent["id"].as_str().unwrap().to_owned()
    }
}

/// The cable is away for a while: messages wait and come once and in order when it is back; presence
/// is said to be stale and is right afterwards; who asks is told the truth all along.
async fn pulled(apart: &Apart, deadline: Duration) {
    let until = async |what: &str, look: &dyn Fn() -> bool| {
        let end = Instant::now() + deadline;
        while !look() {
            assert!(Instant::now() < end, "waited {deadline:?} in vain for {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    apart.open_bob();
    apart.bob(&["status", "set", "open", "--note", "0"]);
    apart.send("0");
    until("the first message", &|| apart.bobs_texts().len() == 1).await;
    // The contact keeps the subscription, whoever looks.
    assert_eq!(apart.alice(&["contacts", "add", "bob@b.example"]).code, 0);
    let note = || {
        let ran = apart.alice(&["watch", "bob@b.example", "--count", "1", "--for", "2"]);
        let last = ran.objects.iter().rfind(|object| !object["document"].is_null());
        let note = last.map(|object| object["document"]["person"]["note"].clone());
        note.and_then(|note| note.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let state = || {
        let subscriptions = apart.alice(&["subscriptions"]).objects;
        let found = subscriptions.iter().find(|one| one["presentity"] == "bob@b.example");
        found.map(|one| one["state"].as_str().unwrap().to_owned()).unwrap_or_default()
    };
    until("presence", &|| note() == "0").await;
    apart.net.pull();
    let ids: Vec<String> = (1..=20).map(|text| apart.send(&text.to_string())).collect();
    for text in ["1", "2", "3"] {
        assert_eq!(apart.bob(&["status", "set", "open", "--note", text]).code, 0);
    }
    until("a cause", &|| !apart.alice(&["fate", &ids[19]]).one()["cause"].is_null()).await;
    until("stale", &|| state() == "stale").await;
    assert!(ids.iter().all(|id| apart.fate(id) == "queued"));
    apart.net.plug();
    until("all messages", &|| apart.bobs_texts().len() >= 21).await;
    let expected: Vec<String> = (0..=20).map(|text| text.to_string()).collect();
    assert_eq!(apart.bobs_texts(), expected);
    until("all fates", &|| ids.iter().all(|id| apart.fate(id) == "delivered")).await;
    until("presence", &|| state() == "active" && note() == "3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_2_2_r5_4_2_in_namespaces_a_pulled_cable_loses_and_doubles_nothing() {
    let Some(net) = Namespaces::two() else { return };
    pulled(&Apart::start(net, quick), DEADLINE).await;
}

/// The same with the settings as they come: for more than a minute.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo test -p impp-tests --test plays -- --ignored"]
async fn r5_2_2_r5_4_2_in_namespaces_with_the_settings_as_they_come() {
    let Some(net) = Namespaces::two() else { return };
    pulled(&Apart::start(net, |start| start), Duration::from_secs(600)).await;
}
