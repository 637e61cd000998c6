//! `imppd resolve` and what `imppd check` says of DNS: the programs of whoever must find out why a
//! domain is not reached.
//!
//! The search itself is shown in `locate_search`, clients in `locate_client`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType::{A, AAAA, SRV};
use impp_protocol::{ALPN_LINK, PORT};
use impp_tests::dns::{Fault, owner};
use impp_tests::server::imppd;
use impp_tests::{Dns, Server};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio_rustls::TlsAcceptor;

const DOMAIN: &str = "a.example";
const LOOPBACK: [&str; 2] = ["--allow", "127.0.0.0/8"];

/// What a run of `imppd resolve` gave.
#[derive(Debug)]
struct Resolved {
    code: Option<i32>,
    steps: Vec<Value>,
    outcome: Value,
    stderr: String,
}

impl Resolved {
    fn count(&self, step: &str) -> usize {
        self.steps.iter().filter(|told| told["step"] == step).count()
    }

    /// Whether this stands in one of the steps.
    fn tells(&self, text: &str) -> bool {
        self.steps.iter().any(|step| step.to_string().contains(text))
    }

    /// How it ended; the outcome of each service is the same.
    fn ended(&self, code: i32, outcome: &str) -> &Value {
        assert_eq!(
            (self.code, &self.outcome["outcome"]),
            (Some(code), &outcome.into()),
            "{self:?}"
        );
        let services = self.outcome["services"].as_array().unwrap();
        assert!(services.iter().all(|ended| ended["outcome"] == outcome), "{self:?}");
        &services[0]
    }
}

fn run(dns: &Dns, args: &[&str]) -> std::process::Output {
    let dns = dns.address().to_string();
    imppd(&[&["resolve", DOMAIN, "--dns", &dns], args].concat())
}

fn resolve(dns: &Dns, args: &[&str]) -> Resolved {
    let output = run(dns, &[&["--json"], args].concat());
    let stdout = String::from_utf8(output.stdout).unwrap();
    let mut steps: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let outcome = steps.pop().unwrap_or_else(|| panic!("no outcome: {stderr}"));
    Resolved { code: output.status.code(), steps, outcome, stderr }
}

/// Says in DNS that both services of a.example are at an address.
fn publish(dns: &Dns, address: SocketAddr) {
    for service in ["pres", "im"] {
        dns.srv(DOMAIN, service, 0, 0, address.port(), "host.a.example");
    }
    dns.address_of("host.a.example", address.ip());
}

fn ca(server: &Server) -> String {
    server.trust().display().to_string()
}

/// A port on which nobody listens.
fn dead() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// An address that no other play uses, whose default port is free.
fn free_at_default_port() -> Ipv4Addr {
    loop {
        let [a, b, c, _] = getrandom::u32().unwrap().to_be_bytes();
        let ip = Ipv4Addr::new(127, a, b.max(1), c.clamp(1, 254));
        if TcpListener::bind((ip, PORT)).is_ok() {
            return ip;
        }
    }
}

#[test]
fn f6_resolve_shows_every_step_to_a_server_that_proves_its_domain() {
    let (dns, server) = (Dns::start(), Server::with().domain(DOMAIN).start());
    publish(&dns, server.address());
    let ca = ca(&server);
    let args = [&["--ca", &ca][..], &LOOPBACK].concat();
    let resolved = resolve(&dns, &args);
    let ended = resolved.ended(0, "reached");
    assert_eq!(resolved.outcome["services"].as_array().unwrap().len(), 2);
    assert_eq!(ended["address"], server.address().to_string());
    assert_eq!((&ended["via"], &ended["service"]), (&"srv".into(), &"pres".into()));
    assert!(ended["valid_until"].as_str().unwrap().ends_with('Z'), "{ended}");
    for service in ["pres", "im"] {
        let told: Vec<&str> = resolved
            .steps
            .iter()
            .filter(|step| step["service"] == service)
            .map(|step| step["step"].as_str().unwrap())
            .collect();
        assert_eq!(told, ["asked", "asked", "asked", "connected", "completed"]);
    }
    assert_eq!(resolved.steps[0]["ttl"], 600);
    assert!(resolved.stderr.contains("no certificate of a domain is shown"), "{resolved:?}");
    // The same in words, of one service.
    let output = run(&dns, &[&args[..], &["--service", "im"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let port = server.address().port();
    assert!(text.starts_with("im: SRV _im._impp.a.example.: 0 0 "), "{text}");
    assert!(text.contains(&format!("{port} host.a.example. (TTL 600 s)")), "{text}");
    assert!(text.contains("the certificate is valid for a.example until "), "{text}");
    assert!(!text.contains("pres"), "{text}");
}

/// With a configuration it calls as that server does, and tells if it would not be let in.
#[test]
fn f6_resolve_as_a_configured_server_tells_whether_it_is_let_in() {
    let (dns, server) = (Dns::start(), Server::with().domain(DOMAIN).start());
    publish(&dns, server.address());
    let (config, ca) = (server.config().display().to_string(), ca(&server));
    let args = [&["--config", &config, "--ca", &ca, "--service", "pres"][..], &LOOPBACK].concat();
    // The server believes the CAs of its system, and so not the certificate that calls.
    let resolved = resolve(&dns, &args);
    let refused = resolved.ended(0, "reached")["refused"].as_str().unwrap_or_default().to_owned();
    assert!(refused.contains("does not accept our certificate"), "{resolved:?}");
    assert!(resolved.stderr.contains(&refused), "{resolved:?}");
    server.set("federation.ca", &*ca);
    let reloaded = imppd(&["reload", "--config", &config]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    let resolved = resolve(&dns, &args);
    assert_eq!(resolved.ended(0, "reached")["refused"], Value::Null, "{resolved:?}");
    assert!(resolved.stderr.contains("as a.example"), "{resolved:?}");
}

/// Somebody with a certificate for other names, and the file of the CA behind it.
async fn impostor(folder: &std::path::Path) -> (SocketAddr, PathBuf) {
    let (authority_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(authority, &authority_key);
    let leaf = CertificateParams::new(vec!["host.a.example".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![ALPN_LINK.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever called has the answer it came for.
            let _ = acceptor.accept(stream).await;
        }
    });
    (address, ca)
}

/// A certificate for the host that SRV names is none for the domain.
#[tokio::test(flavor = "multi_thread")]
async fn f4_resolve_names_what_a_wrong_certificate_is_for() {
    let (dns, folder) = (Dns::start(), tempfile::tempdir().unwrap());
    let (address, ca) = impostor(folder.path()).await;
    publish(&dns, address);
    let args = [&["--ca", ca.to_str().unwrap()][..], &LOOPBACK].concat();
    let resolved = resolve(&dns, &args);
    resolved.ended(3, "untrusted");
    assert!(resolved.tells("the certificate is for host.a.example; not for a.example"));
    // Nor is one that nobody vouches for: the remedy is named.
    let resolved = resolve(&dns, &LOOPBACK);
    resolved.ended(3, "untrusted");
    assert!(resolved.stderr.contains("--ca"), "{resolved:?}");
}

#[test]
fn f6_resolve_says_what_is_definite_and_what_may_pass() {
    let dns = Dns::start();
    let resolved = resolve(&dns, &[]);
    resolved.ended(1, "unknown-domain");
    let line = "_pres._impp.a.example. 3600 IN SRV 0 0 2778";
    assert!(resolved.stderr.contains(line), "{resolved:?}");
    for (name, kind) in [(owner(DOMAIN, "pres"), SRV), (DOMAIN.to_owned(), A)] {
        dns.fault(&name, kind, Fault::ServFail);
    }
    let resolved = resolve(&dns, &["--service", "pres"]);
    resolved.ended(3, "unreachable");
    assert!(resolved.tells("SERVFAIL"), "{resolved:?}");
    dns.mend();
    dns.not_offered(DOMAIN, "pres");
    resolve(&dns, &["--service", "pres"]).ended(1, "not-offered");
    // Of the two services the worse one counts.
    publish_dead(&dns, "im");
    let resolved = resolve(&dns, &LOOPBACK);
    assert_eq!((resolved.code, &resolved.outcome["outcome"]), (Some(3), &"unreachable".into()));
}

fn publish_dead(dns: &Dns, service: &str) {
    dns.srv(DOMAIN, service, 0, 0, dead().port(), "dead.a.example");
    dns.a("dead.a.example", Ipv4Addr::LOCALHOST);
}

#[test]
fn f6_resolve_goes_on_to_the_domains_address_when_srv_is_dead() {
    let (dns, ip) = (Dns::start(), free_at_default_port());
    let mut server = Server::with().domain(DOMAIN).start();
    server.stop();
    server.move_to(Some((ip, PORT).into()));
    server.restart();
    dns.a(DOMAIN, ip);
    let ca = ca(&server);
    let args = [&["--ca", &ca, "--service", "im"][..], &LOOPBACK].concat();
    assert_eq!(resolve(&dns, &args).ended(0, "reached")["via"], "address");
    publish_dead(&dns, "im");
    let resolved = resolve(&dns, &args);
    assert_eq!(resolved.ended(0, "reached")["via"], "fallback");
    assert!(resolved.tells("connection refused"), "{resolved:?}");
    // In another order nobody asks for SRV.
    let resolved = resolve(&dns, &[&args[..], &["--order", "a"]].concat());
    resolved.ended(0, "reached");
    assert!(!resolved.tells("SRV"), "{resolved:?}");
}

#[test]
fn f7_resolve_refuses_forbidden_addresses_and_names_the_remedy() {
    let (dns, server) = (Dns::start(), Server::with().domain(DOMAIN).start());
    publish(&dns, server.address());
    let resolved = resolve(&dns, &["--ca", &ca(&server)]);
    resolved.ended(3, "unreachable");
    assert!(resolved.tells("a loopback address is refused"), "{resolved:?}");
    assert!(resolved.stderr.contains("--allow"), "{resolved:?}");
    assert_eq!(resolved.count("connected"), 0);
    resolve(&dns, &["--ca", &ca(&server), "--allow", "127.0.0.1"]).ended(0, "reached");
}

#[test]
fn f5_resolve_is_bounded_whatever_dns_says() {
    let dns = Dns::start();
    let dead = dead();
    for n in 0..1000 {
        let host = format!("h{n}.a.example");
        dns.srv(DOMAIN, "pres", n, 0, dead.port(), &host);
        let [high, low] = n.to_be_bytes();
        dns.a(&host, Ipv4Addr::new(127, 0, 64 + high, low));
    }
    let started = Instant::now();
    let resolved = resolve(&dns, &[&["--service", "pres"][..], &LOOPBACK].concat());
    resolved.ended(3, "unreachable");
    assert_eq!(resolved.count("connected"), 8);
    assert!(resolved.tells("992 further targets"), "{resolved:?}");
    for (name, kind) in [(owner(DOMAIN, "im"), SRV), (DOMAIN.to_owned(), A), (DOMAIN.into(), AAAA)]
    {
        dns.fault(&name, kind, Fault::CnameLoop);
    }
    let resolved = resolve(&dns, &["--service", "im"]);
    resolved.ended(3, "unreachable");
    assert!(resolved.tells("CNAMEs"), "{resolved:?}");
    // Each has ten seconds at most, and needs far less.
    assert!(started.elapsed() < Duration::from_secs(20));
}

/// What is wrong with the command line or the files has exit code 2.
#[test]
fn resolve_refuses_what_it_cannot_use() {
    let dns = Dns::start();
    for args in [["--service", "xmpp"], ["--order", "SRV"], ["--allow", "x"], ["--ca", "/none.pem"]]
    {
        let output = run(&dns, &args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    }
}

/// The findings of `check` about DNS.
fn check(server: &Server) -> (Option<i32>, Vec<Value>) {
    let output = imppd(&["check", "--config", server.config().to_str().unwrap()]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let findings = stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    (output.status.code(), findings.filter(|found: &Value| found["area"] == "dns").collect())
}

#[test]
fn f6_check_names_the_lines_that_the_zone_lacks() {
    let dns = Dns::start();
    let of_dns = toml_edit::Array::from_iter([dns.address().to_string()]);
    let server = Server::with().domain(DOMAIN).set("federation.dns", of_dns).start();
    let port = server.address().port();
    let levels = |findings: &[Value]| {
        findings.iter().map(|found| found["level"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (code, findings) = check(&server);
    assert_eq!((code, levels(&findings)), (Some(0), vec!["warn".to_owned(); 2]), "{findings:?}");
    for (found, service) in findings.iter().zip(["pres", "im"]) {
        let line = format!("_{service}._impp.a.example. 3600 IN SRV 0 0 {port} ");
        assert!(found["hint"].as_str().unwrap().starts_with(&line), "{found}");
    }
    // What others would refuse is told, unless they are let.
    publish(&dns, server.address());
    let (_, findings) = check(&server);
    assert_eq!(levels(&findings), ["warn"; 2], "{findings:?}");
    for found in &findings {
        assert!(found["message"].as_str().unwrap().contains("a loopback address"), "{found}");
        assert!(!found["hint"].as_str().unwrap().contains("SRV"), "{found}");
    }
    server.set("federation.allow_addresses", toml_edit::Array::from_iter(["127.0.0.0/8"]));
    let (code, findings) = check(&server);
    assert_eq!((code, levels(&findings)), (Some(0), vec!["ok".to_owned(); 2]), "{findings:?}");
    assert!(findings[0].to_string().contains("host.a.example"), "{findings:?}");
    // A port on which nobody listens here.
    for service in ["pres", "im"] {
        dns.remove(&owner(DOMAIN, service));
        dns.srv(DOMAIN, service, 0, 0, 1, "host.a.example");
    }
    let (code, findings) = check(&server);
    assert_eq!(
        (code, levels(&findings)),
        (Some(0), ["ok", "warn"].repeat(2).into_iter().map(str::to_owned).collect()),
        "{findings:?}"
    );
    for (found, service) in findings.iter().skip(1).step_by(2).zip(["pres", "im"]) {
        let words = format!("{service} of a.example is found on host.a.example:1, and this");
        assert!(found["message"].as_str().unwrap().starts_with(&words), "{found}");
    }
    // Without SRV records the domain's own address is tried; that is told with the lines.
    for service in ["pres", "im"] {
        dns.remove(&owner(DOMAIN, service));
    }
    dns.a(DOMAIN, Ipv4Addr::LOCALHOST);
    let (_, findings) = check(&server);
    assert_eq!(levels(&findings), ["warn"; 2], "{findings:?}");
    assert!(findings[0].to_string().contains("a.example:2778 is tried instead"), "{findings:?}");
    // A service that DNS denies and the server has.
    dns.not_offered(DOMAIN, "pres");
    assert!(check(&server).1[0].to_string().contains("does not offer pres, which it does"));
    // No DNS at all is no error, and is not waited for long.
    for service in ["pres", "im"] {
        dns.fault(&owner(DOMAIN, service), SRV, Fault::Silence);
    }
    let started = Instant::now();
    let (code, findings) = check(&server);
    assert_eq!((code, levels(&findings)), (Some(0), vec!["warn".to_owned(); 2]), "{findings:?}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn check_finds_authorities_that_cannot_be_read() {
    for domain in ["localhost", DOMAIN] {
        let server = Server::with().domain(domain).start();
        server.set("federation.ca", "none.pem");
        let output = imppd(&["check", "--config", server.config().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{domain}");
        let stdout = String::from_utf8(output.stdout).unwrap();
        let error = stdout.lines().find(|line| line.contains("none.pem")).unwrap();
        assert!(error.contains("\"level\":\"error\""), "{error}");
    }
}
