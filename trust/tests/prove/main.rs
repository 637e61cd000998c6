//! What proves a domain on a link and what does not: certificates of every kind through whole TLS
//! handshakes, presented by the server that is called and by the one that calls.

#![allow(clippy::unwrap_used, clippy::disallowed_types)]

mod certificates;
mod handshake;

use std::time::{Duration, Instant};

use certificates::{Authority, Presented, leaf, one_is_revoked};
use handshake::{Verdict, called, calling, shake};
use impp_protocol::Domain;
use impp_trust::{HandshakeError, Unproven, dial_config, look_config, proves};
use rcgen::{
    BasicConstraints, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    NameConstraints, SanType, date_time_ymd,
};

const NAME: &str = "b.example";

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// What both ends say to a certificate presented for b.example.
#[track_caller]
fn both(authority: &Authority, presented: &Presented) -> (Verdict, Verdict) {
    (called(authority, presented, NAME), calling(authority, presented, NAME))
}

/// Refused at both ends, with these words.
#[track_caller]
fn refused(authority: &Authority, presented: &Presented, words: &str) {
    let (called, calling) = both(authority, presented);
    for verdict in [called, calling] {
        let told = verdict.unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn f2_a_certificate_for_the_domain_from_a_trusted_ca_proves_it_at_both_ends() {
    let authority = Authority::new("root");
    assert_eq!(both(&authority, &authority.issue(leaf(NAME))), (Ok(()), Ok(())));
    let many = authority.issue(leaf("a.example").also(NAME).also("10.0.0.1"));
    assert_eq!(both(&authority, &many), (Ok(()), Ok(())));
    // DNS names have no case.
    assert_eq!(both(&authority, &authority.issue(leaf("B.Example"))), (Ok(()), Ok(())));
}

#[test]
fn f2_a_certificate_outside_its_time_is_refused_with_the_date() {
    let authority = Authority::new("root");
    let mut expired = leaf(NAME);
    expired.params.not_after = date_time_ymd(2020, 2, 3);
    refused(&authority, &authority.issue(expired), "expired on 2020-02-03");
    let mut early = leaf(NAME);
    early.params.not_before = date_time_ymd(3000, 4, 5);
    refused(&authority, &authority.issue(early), "does not hold before 3000-04-05");
    let mut never = leaf(NAME);
    never.params.not_before = date_time_ymd(2030, 1, 1);
    never.params.not_after = date_time_ymd(2020, 1, 1);
    refused(&authority, &authority.issue(never), "ends before it begins");
}

/// A certificate is judged by the time that it is now, not by that of a start or a build.
#[test]
fn f2_a_certificate_of_an_hour_holds_in_that_hour_alone() {
    const HOUR: Duration = Duration::from_secs(3600);
    let authority = Authority::new("root");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = date_time_ymd(1970, 1, 1) + now;
    let between = |from, until| {
        let mut leaf = leaf(NAME);
        (leaf.params.not_before, leaf.params.not_after) = (from, until);
        authority.issue(leaf)
    };
    assert_eq!(both(&authority, &between(now - HOUR, now + HOUR)), (Ok(()), Ok(())));
    refused(&authority, &between(now - HOUR * 2, now - HOUR), "expired on");
    refused(&authority, &between(now + HOUR, now + HOUR * 2), "does not hold before");
}

#[test]
fn f2_a_ca_that_is_not_trusted_vouches_for_nobody() {
    let authority = Authority::new("root");
    refused(&authority, &Presented::self_signed(leaf(NAME)), "issuer is not trusted");
    let stranger = Authority::new("another root");
    refused(&authority, &stranger.issue(leaf(NAME)), "issuer is not trusted");
    // The same name, another key.
    let namesake = Authority::new("root");
    refused(&authority, &namesake.issue(leaf(NAME)), "signature");
}

#[test]
fn f2_only_a_dns_name_in_the_san_that_is_the_domain_counts() {
    let authority = Authority::new("root");
    let other = authority.issue(leaf("x.example").also("y.example"));
    refused(&authority, &other, "for x.example, y.example; not for b.example");
    let mut by_name_alone = leaf(NAME);
    by_name_alone.params.subject_alt_names.clear();
    by_name_alone.params.distinguished_name.push(DnType::CommonName, NAME);
    refused(&authority, &authority.issue(by_name_alone), "no DNS name in its SAN");
    let mut by_name_too = leaf("x.example");
    by_name_too.params.distinguished_name.push(DnType::CommonName, NAME);
    refused(&authority, &authority.issue(by_name_too), "for x.example; not for b.example");
    for wildcard in ["*.example", "*.com", "*.b.example", "*"] {
        refused(&authority, &authority.issue(leaf(wildcard)), "not for b.example");
    }
    refused(&authority, &authority.issue(leaf("10.0.0.1")), "no DNS name in its SAN");
    let mut uri = leaf(NAME);
    uri.params.subject_alt_names = vec![
        SanType::URI("im:b.example".try_into().unwrap()),
        SanType::Rfc822Name("b.example".try_into().unwrap()),
    ];
    refused(&authority, &authority.issue(uri), "no DNS name in its SAN");
    for near in ["b.example.", "a.b.example", "example", "bb.example", "b.example.com"] {
        refused(&authority, &authority.issue(leaf(near)), "not for b.example");
    }
    refused(&authority, &authority.issue(leaf("b.example\0.evil.example")), "not for b.example");
}

#[test]
fn f2_name_constraints_of_a_ca_bind() {
    let within = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let constrained = |permitted: &[&str], excluded: &[&str]| {
        Authority::with("constrained", |params| {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: permitted.iter().map(|name| within(name)).collect(),
                excluded_subtrees: excluded.iter().map(|name| within(name)).collect(),
            });
        })
    };
    for (permitted, excluded) in [(vec!["a.example"], vec![]), (vec![], vec![NAME])] {
        // Of a root as well as of an intermediate.
        let root = constrained(&permitted, &excluded);
        refused(&root, &root.issue(leaf(NAME)), "may not vouch");
        let root = Authority::new("root");
        let below = root.subordinate_like(&constrained(&permitted, &excluded));
        refused(&root, &below.issue(leaf(NAME)), "may not vouch");
    }
    let fitting = constrained(&["example"], &["a.example"]);
    assert_eq!(both(&fitting, &fitting.issue(leaf(NAME))), (Ok(()), Ok(())));
    let addresses = Authority::with("addresses", |params| {
        let subnet = CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::IpAddress(subnet)],
            excluded_subtrees: vec![],
        });
    });
    assert_eq!(both(&addresses, &addresses.issue(leaf(NAME))), (Ok(()), Ok(())));
}

#[test]
fn f2_usage_server_or_none_proves_both_client_alone_only_who_calls() {
    use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
    let authority = Authority::new("root");
    let with = |usages: &[ExtendedKeyUsagePurpose]| {
        let mut leaf = leaf(NAME);
        leaf.params.extended_key_usages = usages.to_vec();
        authority.issue(leaf)
    };
    assert_eq!(both(&authority, &with(&[ServerAuth])), (Ok(()), Ok(())));
    assert_eq!(both(&authority, &with(&[ClientAuth, ServerAuth])), (Ok(()), Ok(())));
    assert_eq!(both(&authority, &with(&[])), (Ok(()), Ok(())));
    let (called, calling) = both(&authority, &with(&[ClientAuth]));
    assert_eq!(called, Err(Unproven::WrongUse.into()));
    assert_eq!(calling, Ok(()));
    refused(&authority, &with(&[CodeSigning]), "may not be used to prove a server");
}

#[test]
fn f2_a_path_must_allow_one_use_from_its_root_to_its_end() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let root = Authority::new("root");
    let for_clients = root.subordinate_like(&Authority::with("clients", |params| {
        params.extended_key_usages = vec![ClientAuth];
    }));
    let issue = |usages: &[ExtendedKeyUsagePurpose]| {
        let mut leaf = leaf(NAME);
        leaf.params.extended_key_usages = usages.to_vec();
        for_clients.issue(leaf)
    };
    refused(&root, &issue(&[ServerAuth]), "may not be used to prove a server");
    let (called, calling) = both(&root, &issue(&[ServerAuth, ClientAuth]));
    assert_eq!((called.is_ok(), calling), (false, Ok(())));
}

#[test]
fn f2_what_a_revocation_list_names_is_refused() {
    let mut root = Authority::new("root");
    let (bad, good) = (root.issue(leaf(NAME).serial(7)), root.issue(leaf(NAME).serial(8)));
    root.revoke(&one_is_revoked(7, 3000));
    refused(&root, &bad, "has been revoked");
    assert_eq!(both(&root, &good), (Ok(()), Ok(())));
    // An intermediate's certificate can be revoked as well; of itself no list is needed.
    let below = root.subordinate("intermediate", 7);
    refused(&root, &below.issue(leaf(NAME).serial(9)), "has been revoked");
    let below = root.subordinate("intermediate", 10);
    assert_eq!(both(&root, &below.issue(leaf(NAME).serial(7))), (Ok(()), Ok(())));
}

#[test]
fn f2_a_revocation_list_out_of_date_proves_nothing() {
    let mut root = Authority::new("root");
    root.revoke(&one_is_revoked(7, 2020));
    refused(&root, &root.issue(leaf(NAME).serial(8)), "out of date since 2020-01-01");
}

#[test]
fn f2_intermediates_must_be_there_and_be_cas() {
    let root = Authority::new("root");
    let below = root.subordinate("intermediate", 1);
    let presented = below.issue(leaf(NAME));
    assert_eq!(both(&root, &presented), (Ok(()), Ok(())));
    let mut missing = below.issue(leaf(NAME));
    missing.chain.truncate(1);
    refused(&root, &missing, "an intermediate certificate is missing");
    let no_ca = root.subordinate_like(&Authority::with("no ca", |params| {
        params.is_ca = IsCa::ExplicitNoCa;
    }));
    refused(&root, &no_ca.issue(leaf(NAME)), "not issued by a CA");
    // A domain's certificate is none either.
    let domain = root.subordinate_like(&Authority::with("a.example", |params| {
        params.is_ca = IsCa::NoCa;
        params.key_usages.clear();
        params.subject_alt_names = leaf("a.example").params.subject_alt_names;
    }));
    refused(&root, &domain.issue(leaf(NAME)), "not issued by a CA");
    let short = root.subordinate_like(&Authority::with("short", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    }));
    refused(&root, &short.subordinate("deeper", 2).issue(leaf(NAME)), "not issued by a CA");
    let mut ca = leaf(NAME);
    ca.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    refused(&root, &root.issue(ca), "is itself a CA's");
}

#[test]
fn f2_long_chains_are_refused_at_once() {
    let root = Authority::new("root");
    let mut deepest = root.subordinate("1", 1);
    for depth in 2..=6 {
        deepest = deepest.subordinate(&depth.to_string(), depth);
    }
    assert_eq!(both(&root, &deepest.issue(leaf(NAME))), (Ok(()), Ok(())));
    for depth in 7..=100 {
        deepest = deepest.subordinate(&depth.to_string(), depth);
    }
    let started = Instant::now();
    refused(&root, &deepest.issue(leaf(NAME)), "chain is too long");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// Many CAs of one name, each of which may have issued each other: as many ways as can be.
#[test]
fn f2_a_maze_of_intermediates_is_refused_in_bounded_time() {
    let mut presented = Authority::new("x").issue(leaf(NAME));
    presented.chain.extend((0..6).map(|_| Authority::new("x").certificate));
    let started = Instant::now();
    refused(&Authority::new("root"), &presented, "issuer is not trusted");
    // The same where each way seems to end at the root.
    refused(&Authority::new("x"), &presented, "");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn f2_who_presents_nothing_is_refused() {
    let authority = Authority::new("root");
    let server = authority.issue(leaf(NAME));
    let ended = shake(look_config(&authority.trust()).unwrap(), authority.accept(&server), NAME);
    let error = ended.accepted.unwrap_err();
    assert_eq!(HandshakeError::of(&error), Unproven::NoCertificate.into());
    assert_eq!(
        HandshakeError::of(&ended.dialled.unwrap_err()),
        HandshakeError::Refused("none was presented")
    );
    assert_eq!(proves(&[], &domain(NAME)), Err(Unproven::NoCertificate));
    assert_eq!(proves(&[b"x".to_vec().into()], &domain(NAME)), Err(Unproven::Unreadable));
}

/// The dialling side, whose certificate is refused, is told why as far as an alert can.
#[test]
fn f2_who_is_refused_is_told_so() {
    let mut authority = Authority::new("root");
    let server = authority.issue(leaf("a.example"));
    let mut expired = leaf(NAME);
    expired.params.not_after = date_time_ymd(2020, 2, 3);
    let expired = authority.issue(expired);
    let revoked = authority.issue(leaf(NAME).serial(7));
    authority.revoke(&one_is_revoked(7, 3000));
    let strange = Presented::self_signed(leaf(NAME));
    for (presented, told) in [
        (expired, "it does not hold now"),
        (revoked, "it has been revoked"),
        (strange, "its issuer is not trusted there"),
    ] {
        let ended = shake(authority.dial(&presented), authority.accept(&server), "a.example");
        let told = HandshakeError::Refused(told);
        assert_eq!(HandshakeError::of(&ended.dialled.unwrap_err()), told);
    }
}

#[test]
fn f3_names_beyond_ascii_are_proven_in_their_ascii_form() {
    let authority = Authority::new("root");
    let called = domain("bücher.example");
    let presented = authority.issue(leaf("xn--bcher-kva.example"));
    assert_eq!(proves(&presented.chain, &called), Ok(()));
    assert_eq!(handshake::called(&authority, &presented, called.as_str()), Ok(()));
    assert!(proves(&authority.issue(leaf("bucher.example")).chain, &called).is_err());
}

/// SRV of b.example leads to host.provider.example, whose certificate is its own.
#[test]
fn f4_the_name_of_the_host_that_dns_named_proves_nothing() {
    let authority = Authority::new("root");
    let host = authority.issue(leaf("host.provider.example"));
    refused(&authority, &host, "for host.provider.example; not for b.example");
}

#[test]
fn f15_tls_1_2_is_refused_at_both_ends() {
    let authority = Authority::new("root");
    let presented = authority.issue(leaf(NAME));
    let old = handshake::old_client(&authority, &presented);
    let ended = shake(old, authority.accept(&presented), NAME);
    assert!(ended.accepted.is_err());
    let told = HandshakeError::of(&ended.dialled.unwrap_err()).to_string();
    assert!(told.contains("does not speak TLS 1.3"), "{told}");
    let ended = shake(authority.dial(&presented), handshake::old_server(&presented), NAME);
    assert!(ended.dialled.is_err());
}

#[test]
fn f15_links_are_spoken_only_if_both_say_so() {
    let authority = Authority::new("root");
    let presented = authority.issue(leaf(NAME));
    let spoken = |dialler: &[&[u8]], acceptor: &[&[u8]]| {
        let (mut dial, mut accept) = (authority.dial(&presented), authority.accept(&presented));
        std::sync::Arc::make_mut(&mut dial).alpn_protocols =
            dialler.iter().map(|name| name.to_vec()).collect();
        std::sync::Arc::make_mut(&mut accept).alpn_protocols =
            acceptor.iter().map(|name| name.to_vec()).collect();
        let ended = shake(dial, accept, NAME);
        (ended.dialled_links(), ended.accepted_links())
    };
    let (links, clients) = (impp_protocol::ALPN_LINK, impp_protocol::ALPN_CLIENT);
    let none = Err(HandshakeError::NoLinks);
    assert_eq!(spoken(&[links], &[links]), (Ok(()), Ok(())));
    assert_eq!(spoken(&[clients], &[links]), (none.clone(), none.clone()));
    assert_eq!(spoken(&[b"h2"], &[links]), (none.clone(), none.clone()));
    // Without the extension TLS itself has nothing against it.
    assert_eq!(spoken(&[], &[links]), (none.clone(), none.clone()));
    assert_eq!(spoken(&[links], &[]), (none.clone(), none));
}

#[test]
fn c12_links_resume_nothing_each_is_proven_anew() {
    let authority = Authority::new("root");
    let presented = authority.issue(leaf(NAME));
    let (dial, accept) = (authority.dial(&presented), authority.accept(&presented));
    for _ in 0..3 {
        let ended = shake(dial.clone(), accept.clone(), NAME);
        let (dialled, accepted) = (ended.dialled.unwrap(), ended.accepted.unwrap());
        assert_eq!(dialled.tls13_tickets_received(), 0);
        assert_eq!(dialled.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(accepted.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    // Nor does one who asks for tickets, and keeps them, get any.
    let keeping = handshake::keeping_tickets(&authority, &presented);
    for _ in 0..2 {
        let ended = shake(keeping.clone(), accept.clone(), NAME);
        let dialled = ended.dialled.unwrap();
        assert_eq!(dialled.tls13_tickets_received(), 0);
        assert_eq!(dialled.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[test]
fn f15_no_early_data_is_offered() {
    let authority = Authority::new("root");
    let config = dial_config(&authority.trust(), authority.issue(leaf(NAME)).key()).unwrap();
    assert!(!config.enable_early_data);
    assert_eq!(authority.accept(&authority.issue(leaf(NAME))).max_early_data_size, 0);
}

#[test]
fn i1_files_that_cannot_be_used_are_named_with_the_reason() {
    use impp_trust::Trust;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let told = |ca: Option<&std::path::Path>, crl: Option<&std::path::Path>| {
        Trust::load(ca, crl).unwrap_err().to_string()
    };
    let good = file("good.pem", &Authority::new("root").pem());
    assert!(!Trust::load(Some(&good), None).unwrap().is_empty());
    let missing = folder.path().join("missing.pem");
    assert!(told(Some(&missing), None).contains("missing.pem: cannot be read"));
    let empty = file("empty.pem", "words\n");
    assert!(told(Some(&empty), None).ends_with("empty.pem: holds no certificate"));
    assert!(told(Some(&good), Some(&good)).ends_with("good.pem: holds no revocation list"));
    assert!(told(Some(&good), Some(&missing)).contains("missing.pem: cannot be read"));
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(told(Some(&file("junk.pem", junk)), None).contains("certificate 1 cannot be used"));
    let junk = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    let junk = file("junk.crl", junk);
    assert!(told(Some(&good), Some(&junk)).contains("revocation list 1 cannot be used"));
}

#[test]
fn i1_certificates_and_keys_that_do_not_fit_are_named_with_the_reason() {
    use impp_trust::files::certified;
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let made = || rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
    let (own, other) = (made(), made());
    let certificate = file("cert.pem", &own.cert.pem(), 0o644);
    let key = file("key.pem", &own.signing_key.serialize_pem(), 0o600);
    assert_eq!(certified(&certificate, &key).unwrap().cert[0], *own.cert.der());
    let open = file("open.pem", &own.signing_key.serialize_pem(), 0o640);
    let other = file("other.pem", &other.signing_key.serialize_pem(), 0o600);
    for (certificate, key, words, hint) in [
        (&key, &certificate, "key.pem: holds no certificate, but a key", Some("exchanged")),
        (&certificate, &open, "open.pem: can be read by others", Some("chmod 600")),
        (&certificate, &other, "other.pem: does not belong to", None),
        (&certificate, &folder.path().join("no.pem"), "no.pem: cannot be read: there is no", None),
    ] {
        let error = certified(certificate, key).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        let told = error.hint.unwrap_or_default();
        assert!(told.contains(hint.unwrap_or_default()) && told.is_empty() == hint.is_none());
    }
}
