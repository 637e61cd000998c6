//! Whole exchanges between the two machines, the vectors of RFC 7677, and what attackers try.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::sasl::{Mechanism, Password};
use crate::{Address, Domain};

const EXPORTER: Exporter = [9; 32];
const SERVER_NONCE: [u8; 18] = [2; 18];

static ALICE: LazyLock<Verifier> = LazyLock::new(|| verifier("pencil", [3; 16]));

fn verifier(password: &str, salt: [u8; 16]) -> Verifier {
    let password = Password::prepare(password).unwrap();
    Verifier::from_password(&password, salt, Iterations::RANDOM_PASSWORD)
}

fn domain() -> Domain {
    Domain::parse("a.example").unwrap()
}

fn client(password: &str, binding: Binding) -> (Client, Vec<u8>) {
    let password = Password::prepare(password).unwrap();
    Client::start("alice", password, Nonce::from_random([1; 18]), binding).unwrap()
}

/// The server up to its challenge.
fn challenge(
    mechanism: Mechanism,
    first: &[u8],
    exporter: Option<&Exporter>,
    verifier: &Verifier,
    nonce: [u8; 18],
) -> Result<(Challenged, Vec<u8>), AuthError> {
    let server = Server::start(mechanism, first, exporter)?;
    let account = server.account_in(&domain())?;
    server.challenge(&account, verifier, &Nonce::from_random(nonce))
}

/// A whole exchange over one connection: `Ok` if both are convinced of each other.
fn sign_in(
    password: &str,
    verifier: &Verifier,
    binding: Binding,
    exporter: Option<&Exporter>,
    cached: Option<&SaltedKeys>,
) -> Result<SaltedKeys, AuthError> {
    let (client, first) = client(password, binding);
    let (server, question) =
        challenge(binding.mechanism(), &first, exporter, verifier, SERVER_NONCE)?;
    let (client, answer) = client.handle_challenge(&question, cached)?;
    let proven = server.finish(&answer)?;
    assert_eq!(proven.account().as_str(), "alice@a.example");
    client.handle_success(proven.server_final())
}

/// Plays an exchange in which everything is known beforehand, and compares every byte of it.
fn play_vector(
    user: &str,
    binding: Binding,
    (client_nonce, server_nonce): (&str, &str),
    [expected_first, expected_question, expected_answer, expected_last]: [&str; 4],
) {
    let [client_nonce, server_nonce] =
        [client_nonce, server_nonce].map(|text| Nonce::from_text(text).unwrap());
    let password = Password::prepare("pencil").unwrap();
    let (client, first) = Client::start(user, password.clone(), client_nonce, binding).unwrap();
    assert_eq!(String::from_utf8_lossy(&first), expected_first);

    let (_, salt) = expected_question.split_once(",s=").unwrap();
    let (salt, iterations) = salt.split_once(",i=").unwrap();
    let salt = BASE64.decode(salt).unwrap().try_into().unwrap();
    let iterations = Iterations::new(iterations.parse().unwrap()).unwrap();
    let verifier = Verifier::from_password(&password, salt, iterations);
    let exporter = match &binding {
        Binding::TlsExporter(exporter) => Some(exporter),
        _ => None,
    };
    let server = Server::start(binding.mechanism(), &first, exporter).unwrap();
    assert_eq!((server.authcid(), server.authzid()), (user, None));
    let account = server.account_in(&domain()).unwrap();
    let (server, question) = server.challenge(&account, &verifier, &server_nonce).unwrap();
    assert_eq!(String::from_utf8_lossy(&question), expected_question);

    let (client, answer) = client.handle_challenge(&question, None).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), expected_answer);
    let proven = server.finish(&answer).unwrap();
    assert_eq!(String::from_utf8_lossy(proven.server_final()), expected_last);
    assert_eq!(proven.account(), &Address::new(user, &domain()).unwrap());
    assert!(client.handle_success(proven.server_final()).is_ok());
}

#[test]
fn the_vectors_of_rfc_7677_section_3() {
    play_vector(
        "user",
        Binding::None,
        ("rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"),
        [
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ],
    );
}

/// No RFC has a vector bound by `tls-exporter`; this one was computed with Python's `hashlib` and
/// `hmac` alone. The exporter's value is the bytes 0 to 31, the salt those from 0 to 15.
#[test]
fn a_bound_vector_of_another_implementation() {
    play_vector(
        "alice",
        Binding::TlsExporter(std::array::from_fn(|n| u8::try_from(n).unwrap())),
        ("fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j"),
        [
            "p=tls-exporter,,n=alice,r=fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,\
             s=AAECAwQFBgcICQoLDA0ODw==,i=4096",
            "c=cD10bHMtZXhwb3J0ZXIsLAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f,\
             r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,\
             p=YYgjbJeB1VX/Q6/Ue0xefCDQvOWLr6j6FfkA6jVu7rw=",
            "v=abjZAJu1IC4Y6GepNHImFGTGF7xYMZJpPf4wbBJKbv4=",
        ],
    );
}

#[test]
fn each_binding_signs_in_where_it_may() {
    let bound = Binding::TlsExporter(EXPORTER);
    for (binding, exporter) in [
        (bound, Some(&EXPORTER)),
        (Binding::None, Some(&EXPORTER)),
        (Binding::None, None),
        (Binding::NotOffered, None),
    ] {
        assert!(sign_in("pencil", &ALICE, binding, exporter, None).is_ok(), "{binding:?}");
        let wrong = sign_in("pencils", &ALICE, binding, exporter, None);
        assert_eq!(wrong.err(), Some(AuthError::Failed), "{binding:?}");
    }
}

#[test]
fn c5_who_takes_the_offer_of_plus_away_is_found_out() {
    let outcome = sign_in("pencil", &ALICE, Binding::NotOffered, Some(&EXPORTER), None);
    assert_eq!(outcome.err(), Some(AuthError::Downgrade));
}

#[test]
fn c5_a_flag_changed_on_the_way_fails_by_its_repetition() {
    let (client, first) = client("pencil", Binding::NotOffered);
    let changed = [b"n", &first[1..]].concat();
    let (server, question) =
        challenge(Mechanism::ScramSha256, &changed, Some(&EXPORTER), &ALICE, SERVER_NONCE).unwrap();
    let (_, answer) = client.handle_challenge(&question, None).unwrap();
    assert_eq!(server.finish(&answer).err(), Some(AuthError::Failed));
}

#[test]
fn c6_an_exchange_relayed_to_another_connection_fails() {
    let binding = Binding::TlsExporter(EXPORTER);
    let outcome = sign_in("pencil", &ALICE, binding, Some(&[8; 32]), None);
    assert_eq!(outcome.err(), Some(AuthError::Failed));
}

#[test]
fn c6_an_exchange_replayed_with_a_new_challenge_fails() {
    let plus = Mechanism::ScramSha256Plus;
    let (client, first) = client("pencil", Binding::TlsExporter(EXPORTER));
    let begin = |nonce| challenge(plus, &first, Some(&EXPORTER), &ALICE, nonce).unwrap();
    let (server, question) = begin(SERVER_NONCE);
    let (_, answer) = client.handle_challenge(&question, None).unwrap();
    assert!(server.finish(&answer).is_ok());
    let (again, _) = begin([4; 18]);
    assert_eq!(again.finish(&answer).err(), Some(AuthError::Failed));
}

#[test]
fn c6_a_true_proof_over_another_nonce_fails() {
    let (_, first) = bound_client();
    let (_, question) = bound_challenge(&first).unwrap();
    let bare = std::str::from_utf8(&first).unwrap().strip_prefix("p=tls-exporter,,").unwrap();
    let question = String::from_utf8(question).unwrap();
    let binding = BASE64.encode([b"p=tls-exporter,,".as_slice(), &EXPORTER].concat());
    let nonce = question[2..].split_once(',').unwrap().0;
    for (nonce, error) in [(nonce, None), (&nonce[1..], Some(AuthError::Failed))] {
        let without_proof = format!("c={binding},r={nonce}");
        let signed = [bare, ",", &question, ",", &without_proof].map(str::as_bytes);
        let proof = ALICE.stored_key.sign(&signed).xor(KEYS.client_key());
        let answer = format!("{without_proof},p={}", BASE64.encode(proof.as_bytes()));
        let (server, _) = bound_challenge(&first).unwrap();
        assert_eq!(server.finish(answer.as_bytes()).err(), error);
    }
}

#[test]
fn c9_a_nonce_keeps_to_its_characters_and_length() {
    assert!(Nonce::from_text("!~").is_ok());
    for text in ["", "a,b", "a b", "a\u{7f}", "\u{e9}", &"a".repeat(97)] {
        assert!(Nonce::from_text(text).is_err(), "{text:?}");
    }
}

#[test]
fn c1_a_decoy_fails_at_the_same_step_with_the_same_error() {
    let decoy = Verifier::decoy(&[5; 32], "alice@a.example", Iterations::RANDOM_PASSWORD);
    let play = |password: &str, verifier: &Verifier| {
        let (client, first) = client(password, Binding::None);
        let (server, question) =
            challenge(Mechanism::ScramSha256, &first, None, verifier, SERVER_NONCE).unwrap();
        let (_, answer) = client.handle_challenge(&question, None).unwrap();
        (question.len(), answer.len(), server.finish(&answer).err())
    };
    assert_eq!(play("pencil", &decoy), play("wrong", &ALICE));
    assert_eq!(play("pencil", &decoy).2, Some(AuthError::Failed));
}

#[test]
fn kept_keys_sign_in_without_the_password() {
    let keys = sign_in("pencil", &ALICE, Binding::None, None, None).unwrap();
    // Another password shows that the kept keys are what is used.
    assert!(sign_in("unused", &ALICE, Binding::None, None, Some(&keys)).is_ok());
    // After a change of password the salt is another, and the kept keys are left aside.
    let changed = verifier("eraser", [6; 16]);
    assert!(sign_in("eraser", &changed, Binding::None, None, Some(&keys)).is_ok());
}

#[test]
fn a_server_that_knows_no_verifier_is_unproven() {
    let (client, first) = client("pencil", Binding::None);
    let mut forged = ALICE.clone();
    forged.server_key = Key::from_bytes([0; 32]);
    let (server, question) =
        challenge(Mechanism::ScramSha256, &first, None, &forged, SERVER_NONCE).unwrap();
    let (client, answer) = client.handle_challenge(&question, None).unwrap();
    let proven = server.finish(&answer).unwrap();
    let outcome = client.handle_success(proven.server_final());
    assert_eq!(outcome.err(), Some(AuthError::ServerUnproven));
}

#[test]
fn machines_print_no_secrets() {
    let (client, first) = client("pencil", Binding::TlsExporter(EXPORTER));
    assert_eq!(format!("{client:?}"), "Client { binding: TlsExporter(..), .. }");
    let plus = Mechanism::ScramSha256Plus;
    let (server, question) =
        challenge(plus, &first, Some(&EXPORTER), &ALICE, SERVER_NONCE).unwrap();
    assert_eq!(format!("{server:?}"), "Challenged { account: alice@a.example, .. }");
    let (answered, _) = client.handle_challenge(&question, None).unwrap();
    assert_eq!(format!("{answered:?}"), "Answered { .. }");
}

fn password() -> impl Strategy<Value = String> {
    "\\PC{1,16}".prop_filter("is a password", |text| Password::prepare(text).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_right_password_always_succeeds_any_other_never(
        right in password(), wrong in password(), salt: [u8; 16], exporter: Exporter,
    ) {
        let verifier = verifier(&right, salt);
        let binding = Binding::TlsExporter(exporter);
        prop_assert!(sign_in(&right, &verifier, binding, Some(&exporter), None).is_ok());
        let [one, other] = [&right, &wrong].map(|text| Password::prepare(text).unwrap());
        if one.as_bytes() != other.as_bytes() {
            let outcome = sign_in(&wrong, &verifier, binding, Some(&exporter), None);
            prop_assert_eq!(outcome.err(), Some(AuthError::Failed));
        }
    }

    #[test]
    fn a_decoy_opens_to_no_password(password in password(), secret: [u8; 32]) {
        let decoy = Verifier::decoy(&secret, "alice@a.example", Iterations::RANDOM_PASSWORD);
        let outcome = sign_in(&password, &decoy, Binding::None, None, None);
        prop_assert_eq!(outcome.err(), Some(AuthError::Failed));
    }
}

/// The client's keys, so that the properties below do not iterate for each case.
static KEYS: LazyLock<SaltedKeys> =
    LazyLock::new(|| sign_in("pencil", &ALICE, Binding::None, None, None).unwrap());

fn bound_client() -> (Client, Vec<u8>) {
    client("pencil", Binding::TlsExporter(EXPORTER))
}

fn bound_challenge(first: &[u8]) -> Result<(Challenged, Vec<u8>), AuthError> {
    challenge(Mechanism::ScramSha256Plus, first, Some(&EXPORTER), &ALICE, SERVER_NONCE)
}

/// An exchange with somebody between the two, who changes message number `which`.
fn tampered(which: usize, change: impl Fn(&mut Vec<u8>)) -> Result<(), AuthError> {
    let pass = |number: usize, mut message: Vec<u8>| {
        if number == which {
            change(&mut message);
        }
        message
    };
    let (client, first) = bound_client();
    let (server, question) = bound_challenge(&pass(0, first))?;
    let (client, answer) = client.handle_challenge(&pass(1, question), Some(&KEYS))?;
    let proven = server.finish(&pass(2, answer))?;
    client.handle_success(&pass(3, proven.server_final().to_vec()))?;
    Ok(())
}

proptest! {
    #[test]
    fn a_changed_message_never_convinces_both(
        which in 0..4_usize, at: prop::sample::Index, kind in 0..3_u8, by in 1..=255_u8,
    ) {
        let outcome = tampered(which, |message| {
            let at = at.index(message.len());
            match kind {
                0 => message[at] ^= by,
                1 => message.insert(at, by),
                _ => message.truncate(at),
            }
        });
        prop_assert!(outcome.is_err());
        prop_assert_eq!(tampered(4, |_| ()), Ok(()));
    }

    #[test]
    fn any_bytes_in_any_place_end_in_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for which in 0..4 {
            prop_assert!(tampered(which, |message| message.clone_from(&bytes)).is_err());
        }
    }
}
