use bytes::Bytes;
use impp_protocol::MessageId;
use impp_protocol::command::{Header as Kept, Message};
use proptest::prelude::*;

use super::*;

const EXCHANGED: &[u8] = include_bytes!("../../corpus/cpim/message.cpim");

fn id() -> MessageId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
}

/// The document that people exchange, read and written: as a whole, and by way of a message.
#[test]
fn r4_1_1_a_message_of_others_comes_out_to_the_byte() {
    let cpim = Cpim::parse(EXCHANGED).unwrap();
    assert_eq!(cpim.write(), EXCHANGED);
    let message = to_message(&cpim, id()).unwrap();
    assert_eq!(message.from.as_ref().map(|a| a.as_str()), Some("erin@a.example"));
    assert_eq!(message.to.as_str(), "bob@b.example");
    assert_eq!(message.created.map(|at| at.to_string()).as_deref(), Some("2026-11-29T00:20:00Z"));
    assert_eq!((message.content_type.clone(), &*message.body), (None, &b"Mittagessen?\r\n"[..]));
    let subject = message.headers.iter().find(|kept| kept.name == "Subject;lang=de");
    assert_eq!(subject.map(|kept| &*kept.value), Some("Grüße"));
    let (again, lost) = from_message(&message);
    assert_eq!((again.write(), lost), (EXCHANGED.to_vec(), Vec::new()));
}

/// Headers that claim what the fields do not say are not believed: the fields are written.
#[test]
fn r5_4_3_headers_that_claim_another_sender_are_not_written() {
    let mut message = to_message(&Cpim::parse(EXCHANGED).unwrap(), id()).unwrap();
    message.from = Some("mallory@c.example".parse().unwrap());
    let text = String::from_utf8(from_message(&message).0.write()).unwrap();
    assert!(text.contains("From: <im:mallory@c.example>\r\n"), "{text}");
    assert!(!text.contains("erin") && text.contains("Subject:;lang=de Grüße\r\n"), "{text}");
    let ids = "impp.Message-ID: 01890a5d-ac96-774b-bcce-b302099a8058";
    let claimed = written(&[ids]).replace("NS: x <mid:x@a.example>", "NS: impp <urn:impp:message>");
    let claimed = to_message(&Cpim::parse(claimed.as_bytes()).unwrap(), id()).unwrap();
    let text = String::from_utf8(from_message(&Message { id: id(), ..claimed }).0.write()).unwrap();
    assert!(text.contains(&id().to_string()) && !text.contains("8058"), "{text}");
}

fn written(more: &[&str]) -> String {
    let more: String = more.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "Content-type: Message/CPIM\r\n\r\nFrom: <im:a@a.example>\r\nTo: <im:b@a.example>\r\n\
         NS: x <mid:x@a.example>\r\n{more}\r\nContent-Type: multipart/signed;\r\n\tmicalg=sha-256\
         \r\nContent-ID: <1@a>\r\n\r\nbody"
    )
}

#[test]
fn what_is_read_is_written_the_same() {
    for line in [
        "Subject: a\\\\b \\u00e9 \\\"c\\\"",
        "Subject:;lang=de;x=\"a b\" ;c",
        "cc: Someone <im:c@a.example>",
        "Require: x.Urgent,Subject",
        "x.Urgent: yes",
        "Subject: ",
    ] {
        let text = written(&[line]);
        let cpim = Cpim::parse(text.as_bytes()).unwrap();
        assert_eq!(cpim.write(), text.as_bytes(), "{line}");
        let message = to_message(&cpim, id()).unwrap();
        assert_eq!(message.content_type.as_deref(), Some("multipart/signed;\tmicalg=sha-256"));
        assert_eq!(from_message(&message).0.write(), text.as_bytes(), "{line}");
    }
    let cpim = Cpim::parse(written(&["Require: x.Urgent, Subject"]).as_bytes()).unwrap();
    assert_eq!(cpim.required().collect::<Vec<_>>(), ["x.Urgent", "Subject"]);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (line, told) in [
        ("Subject:none", "line 6: expected `Name: value`"),
        ("Sub ject: x", "line 6: expected `Name: value`"),
        ("Subject:  x", "line 6: blanks before"),
        ("Subject: x ", "line 6: blanks before"),
        ("Subject: \\q", "line 6: no escape"),
        ("Subject: \\u00g0", "line 6: no escape"),
        ("Subject: a\tb", "line 6: a control character"),
        ("Subject: a\nb", "line 6: expected CR LF"),
        ("y.Urgent: x", "line 6: no NS header before it declares the prefix \"y\""),
        ("NS: y", "line 6: expected `NS: prefix <URI>`"),
        ("Content-Type: a/b", "line 6: Content-Type is a header of the body"),
    ] {
        let error = Cpim::parse(written(&[line]).as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(told), "{line}: {error}");
    }
    let long = format!("Subject: {}", "x".repeat(LINE_BYTES_MAX));
    assert!(Cpim::parse(written(&[&long]).as_bytes()).is_err());
    assert!(Cpim::parse(written(&["Subject: x"; HEADERS_MAX]).as_bytes()).is_err());
    assert!(Cpim::parse(&vec![b'x'; CPIM_BYTES_MAX + 1]).is_err());
    for cut in 0..written(&[]).len() - "\r\nbody".len() {
        assert!(Cpim::parse(&written(&[]).as_bytes()[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn a_message_has_one_recipient_and_one_sender() {
    for (line, told) in [
        ("To: <im:c@a.example>", "2 To headers, expected one"),
        ("From: <im:c@a.example>", "2 From headers, expected one"),
        ("DateTime: today", "DateTime: \"today\" is no time such as 2026-12-01T09:00:00Z"),
    ] {
        let cpim = Cpim::parse(written(&[line]).as_bytes()).unwrap();
        assert_eq!(to_message(&cpim, id()).unwrap_err().to_string(), told);
    }
}

fn any_header() -> impl Strategy<Value = Kept> {
    let name = "Subject(;lang=[a-z]{2})?|cc|Require|X-[A-Za-z]{1,5}|Content-ID";
    (name, "([!-\\[\\]-~ü]( ?[!-\\[\\]-~ü])*)?").prop_map(|(name, value)| Kept { name, value })
}

fn any_message() -> impl Strategy<Value = Message> {
    let address = || {
        "[a-zü?#&'+.]{1,6}"
            .prop_filter_map("no address", |local| format!("{local}@a.example").parse().ok())
    };
    let times = prop::option::of(
        (0..4_000_000_000_000_u64).prop_map(impp_protocol::Timestamp::from_millis),
    );
    let fields = (prop::option::of(address()), address(), times.clone(), times);
    let kind = prop::option::of("image/png|text/html; charset=\"x\"");
    let body = proptest::collection::vec(any::<u8>(), 0..40);
    let more = (prop::option::of(address()), prop::option::of("\\PC{0,8}|[ \\\\\t\r\n\0a]{0,5}"));
    let headers = proptest::collection::vec(any_header(), 0..5);
    (any::<[u8; 16]>(), fields, kind, body, more, headers).prop_map(
        |(
            id,
            (from, to, created, expires),
            content_type,
            body,
            (reply_to, thread),
            mut headers,
        )| {
            headers.sort_by_key(|kept| is_of_content(&kept.name));
            let message = Message::new(MessageId(id), to, Bytes::from(body));
            Message { from, created, expires, content_type, reply_to, thread, headers, ..message }
        },
    )
}

proptest! {
    #[test]
    fn r4_1_1_what_we_write_is_read_as_what_it_was(message in any_message()) {
        let (cpim, lost) = from_message(&message);
        prop_assert_eq!(lost, Vec::<String>::new());
        let bytes = cpim.write();
        let read = Cpim::parse(&bytes).unwrap();
        prop_assert_eq!(&read, &cpim);
        prop_assert_eq!(to_message(&read, MessageId([0; 16])), Ok(message));
        prop_assert_eq!(read.write(), bytes);
    }

    #[test]
    fn any_headers_are_written_or_named(headers in proptest::collection::vec(("\\PC{0,9}|NS|x\\.Y|From|Content-[A-Z]*", "\\PC{0,9}|x <a:b>|a\r\n b"), 0..4)) {
        let headers: Vec<Kept> = headers.into_iter().map(|(name, value)| Kept { name, value }).collect();
        let count = headers.len();
        let message = Message::new(id(), "b@a.example".parse().unwrap(), Bytes::from_static(b"x"));
        let (cpim, lost) = from_message(&Message { headers, ..message });
        let read = Cpim::parse(&cpim.write());
        prop_assert_eq!(read.as_ref(), Ok(&cpim));
        prop_assert!(lost.len() <= count);
        prop_assert!(to_message(&cpim, id()).is_ok());
    }
}
